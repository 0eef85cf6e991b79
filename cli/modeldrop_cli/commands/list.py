"""`modeldrop list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli import columns as listing
from modeldrop_cli.command import (
    Command,
    complete_experiments,
    exits,
    open_repository,
    output_options,
)

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop_cli.objects.finding import ExperimentsObject, VersionsObject
    from modeldrop_cli.output import Output


@click.command(
    "list",
    cls=Command,
    examples=(
        ("modeldrop list", "every experiment with its newest version"),
        ("modeldrop list churn", "every version of churn, the newest first"),
        (
            "modeldrop list churn --sort -metrics.auc --columns version,metrics.auc,params.depth",
            "the largest auc first, with the depth beside it",
        ),
        ("modeldrop list churn -q", "churn/3, churn/2, churn/1, one a line"),
    ),
    exits=exits(
        10,
        12,
        20,
        30,
        e10="there is no home, or no such experiment",
        e20="a record is damaged; the others are listed",
    ),
)
@click.argument("experiment", required=False, shell_complete=complete_experiments)
@listing.listing_options
@output_options
def command(
    experiment: str | None, sort: str | None, columns: str | None, most: int | None, output: Output
) -> None:
    """List experiments, or the versions of one.

    Which versions there are, and where aliases are, is asked of the backend. What was said of a
    version's run after it was registered, by another host, is known once that host's journal was
    fetched. docs/finding.md names the columns.
    """
    from modeldrop_cli.stored import tell_damaged  # noqa: PLC0415 - not for `--help`

    by = listing.sort_of(sort)
    names = listing.version_columns(columns)
    with open_repository() as repository:
        damaged: list[IntegrityError] = []
        listing.tell_reading(repository, output)
        if experiment is None:
            found = repository.finding.experiments(sort=by, most=most, damaged=damaged.append)
        else:
            found = repository.finding.versions(
                experiment, sort=by, most=most, damaged=damaged.append
            )
    if output.json:
        listed = [listing.version_object(each) for each in found]
        told: ExperimentsObject | VersionsObject = (
            {"experiments": listed} if experiment is None else {"versions": listed}
        )
        output.document(told)
    elif output.quiet:
        for each in found:
            output.id(each.experiment if experiment is None else each.reference)
    else:
        listing.show_versions(found, names, output)
        if not (found or damaged):
            output.say("There is no version yet. `modeldrop register RUN -e EXPERIMENT` makes one.")
    tell_damaged(damaged)
