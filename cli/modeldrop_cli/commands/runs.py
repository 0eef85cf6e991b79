"""`modeldrop runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli import columns as listing
from modeldrop_cli.command import Command, exits, open_repository, output_options

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop_cli.output import Output


@click.command(
    "runs",
    cls=Command,
    examples=(
        ("modeldrop runs -n 20", "the twenty runs that were stored last"),
        (
            "modeldrop runs --sort metrics.loss --columns run,metrics.loss,tags.team",
            "the smallest loss first",
        ),
        ("modeldrop runs --json | jq -r 'select(.experiment == \"churn\").run'", "those of churn"),
    ),
    exits=exits(
        10, 12, 20, 30, e10="there is no home", e20="a record is damaged; the others are listed"
    ),
)
@listing.listing_options
@output_options
def command(sort: str | None, columns: str | None, most: int | None, output: Output) -> None:
    """List the runs.

    All runs at the backend, the newest first. That another host stored a further revision of one is
    known once its journal was fetched. JSON is one object for each run, one a line.
    """
    from modeldrop_cli.stored import tell_damaged  # noqa: PLC0415 - not for `--help`

    names = listing.run_columns(columns)
    with open_repository() as repository:
        damaged: list[IntegrityError] = []
        listing.tell_reading(repository, output)
        found = repository.finding.runs(
            sort=listing.sort_of(sort), most=most, damaged=damaged.append
        )
    if output.json:
        for each in found:
            output.stream(listing.run_object(each))
    elif output.quiet:
        for each in found:
            output.id(each.run)
    else:
        listing.show_runs(found, names, output)
        if not (found or damaged):
            output.say("There is no run yet. `modeldrop drop FILE` drops one.")
    tell_damaged(damaged)
