"""`modeldrop gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import size, when

if TYPE_CHECKING:
    from modeldrop.gc import Collected
    from modeldrop_cli.objects.tending import CollectedObject, GcObject
    from modeldrop_cli.output import Output


@click.command(
    "gc",
    cls=Command,
    examples=(
        ("modeldrop gc --dry-run", "shows what would be collected, and changes nothing"),
        ("modeldrop gc", "collects it now; the service does so once a day"),
    ),
    exits=exits(3, 10, 30, e3="some of it could not be removed; it is named"),
)
@click.option("--dry-run", is_flag=True, help="Only show what would be collected.")
@output_options
def command(dry_run: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Collect what crashes left, and what may go.

    What crashes left is never seen: uploads to which nothing was sent for two weeks (at Azure:
    that began a month ago), bytes that no manifest names for as long, and temporary files, of this
    home and of a backend in a folder, that nobody wrote to for a day.

    Of what is stored may go, unless a version or an alias pins it: the revisions of a run but the
    newest three, versions that were retired two weeks ago, and, only if the settings say so, runs
    of which nothing is registered. It is marked first, and collected a day later at the earliest.
    What is collected stays in the lists, and says so. With -q the places are printed.
    """
    from modeldrop.gc import MARK, STORE  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - the same

    with open_repository() as repository:
        found = repository.gc(dry_run=dry_run)
        if any(each.kind not in {"upload", "file"} for each in found) and not dry_run:
            share(repository)
    troubles = [each for each in found if each.trouble]
    gone = [each for each in found if not each.trouble]
    marked = sum(each.kind == MARK for each in gone)
    if output.json:
        told: GcObject = {"dry_run": dry_run, "collected": list(map(_object, found))}
        output.document(told)
    elif output.quiet:
        for each in gone:
            output.id(each.where)
    else:
        output.table(
            ("kind", "touched", "size", "where"),
            [_row(each) for each in gone],
            right="size",
        )
        what = "would be collected" if dry_run else "collected"
        if len(gone) > marked:
            output.say(f"{len(gone) - marked} {what}.")
        if marked:
            what = "would be marked" if dry_run else "marked"
            output.say(f"{marked} {what}: a `modeldrop gc` tomorrow or later collects it.")
        if not gone and not troubles:
            output.say("There is nothing to collect.")
    if troubles:
        from modeldrop.errors import PartialFailure  # noqa: PLC0415 - only then

        raise PartialFailure(
            "not removed: " + "; ".join(each.trouble for each in troubles),
            hint="`modeldrop verify` names everything that is off"
            if any(each.kind == STORE for each in troubles)
            else "let this user write there, or remove it by hand: nothing refers to it",
        )


def _object(each: Collected) -> CollectedObject:
    return {
        "kind": each.kind,
        "where": each.where,
        "touched_at": each.touched_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "size": each.size,
        "trouble": each.trouble,
    }


def _row(each: Collected) -> tuple[str, str, str, str]:
    shown = "" if each.size is None else size(each.size)
    return each.kind, when(_object(each)["touched_at"]), shown, each.where
