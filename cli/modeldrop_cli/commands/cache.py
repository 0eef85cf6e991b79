"""`modeldrop cache`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from modeldrop_cli.amounts import Size
from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import size, when

if TYPE_CHECKING:
    from modeldrop.cache import Pruned
    from modeldrop_cli.objects.tending import PruneObject
    from modeldrop_cli.output import Output


@click.group("cache", subcommand_metavar="COMMAND …")
def command() -> None:
    """Look after the cached copies of what was pulled."""


@command.command(
    "prune",
    cls=Command,
    examples=(
        ("modeldrop cache prune --max-size 10G", "keeps what was used last, 10 GiB of it"),
        ("modeldrop cache prune --max-size 0 --dry-run", "shows all that is cached"),
    ),
    exits=exits(10, e10="there is no home"),
)
@click.option(
    "--max-size",
    metavar="SIZE",
    type=Size(),
    required=True,
    help="How many bytes may stay: 10G, 500M, 0.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@output_options
def prune(max_size: int, dry_run: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Remove cached copies that weren't used for longest.

    What `path` gave is cached, by digest, and is pulled again when it is asked for. What is being
    pulled just now stays. With -q the digests are printed.
    """
    from modeldrop import cache  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        objects = repository.home.paths.objects
        removed, left = cache.prune(objects, max_size, dry_run=dry_run)
    if output.json:
        told: PruneObject = {
            "dry_run": dry_run,
            "removed": [
                {"sha256": each.sha256, "size": each.size, "used_at": _used(each)}
                for each in removed
            ],
            "left": left,
        }
        output.document(told)
    elif output.quiet:
        for each in removed:
            output.id(each.sha256)
    else:
        output.table(
            ("used", "size", "sha256"),
            [(when(_used(each)), size(each.size), each.sha256) for each in removed],
            right="size",
        )
        what = "would be removed" if dry_run else "removed"
        output.say(f"{len(removed)} {what}; {size(left)} {'would be' if dry_run else 'are'} left.")


def _used(pruned: Pruned) -> str:
    return f"{datetime.fromtimestamp(pruned.used_at, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
