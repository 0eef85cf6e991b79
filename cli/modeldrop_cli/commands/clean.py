"""`modeldrop clean`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from modeldrop_cli.amounts import Age
from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import size, when

if TYPE_CHECKING:
    from modeldrop.intake import Cleaned
    from modeldrop_cli.objects.tending import CleanedObject, CleanObject
    from modeldrop_cli.output import Output


@click.command(
    "clean",
    cls=Command,
    examples=(
        ("modeldrop clean --older-than 7d --dry-run", "shows what would be deleted"),
        ("modeldrop clean --older-than 7d", "deletes the copies of what was stored a week ago"),
    ),
    exits=exits(3, 10, 30, e3="some of it stays; it is named, with the reason"),
)
@click.option(
    "--older-than",
    metavar="AGE",
    type=Age(),
    required=True,
    help="Only what was stored longer ago: 7d, 12h, 2w.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@output_options
def command(older_than: timedelta, dry_run: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Delete staged copies of what is stored.

    Each is deleted only if it is still what was stored, nobody writes to it, and the stored bytes
    were read and compared again. What was moved to `done/` stays. With -q the GUIDs are printed.
    """
    with open_repository() as repository:
        found = list(repository.clean(older_than, dry_run=dry_run))
    troubles = [each for each in found if each.trouble]
    gone = [each for each in found if not each.trouble]
    if output.json:
        told: CleanObject = {"dry_run": dry_run, "cleaned": list(map(_object, found))}
        output.document(told)
    elif output.quiet:
        for each in gone:
            output.id(each.run)
    else:
        output.table(
            ("run", "stored", "size"),
            [(each.run, when(each.stored_at), size(each.size)) for each in gone],
            right="size",
        )
        what = "would be deleted" if dry_run else "deleted"
        output.say(f"{len(gone)} {what}." if gone else "There is nothing to delete.")
    if troubles:
        from modeldrop.errors import PartialFailure  # noqa: PLC0415 - only then

        raise PartialFailure(
            "not deleted: " + "; ".join(each.trouble for each in troubles),
            hint="nothing is lost: what stays can be deleted the next time",
        )


def _object(each: Cleaned) -> CleanedObject:
    return {
        "run": each.run,
        "folder": str(each.folder),
        "stored_at": each.stored_at,
        "size": each.size,
        "trouble": each.trouble,
    }
