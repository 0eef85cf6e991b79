"""`modeldrop best`."""

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
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop.finding import Point
    from modeldrop_cli.objects.finding import BestObject, BestVersionObject
    from modeldrop_cli.output import Output


@click.command(
    "best",
    cls=Command,
    examples=(
        ("modeldrop best churn auc", "the best version, by the direction that its runs declare"),
        ("modeldrop best churn loss --min -n 5", "the five with the smallest loss"),
        ("modeldrop promote $(modeldrop best churn auc -q) champion", "put an alias on it"),
    ),
    exits=exits(
        2,
        10,
        12,
        20,
        30,
        e2="a wrong call, or nobody declared whether more or less is better",
        e10="there is no home, no such experiment, or no version of it has this metric",
        e20="a record is damaged; the others were compared",
    ),
)
@click.argument("experiment", shell_complete=complete_experiments)
@click.argument("metric")
@click.option("--max", "way", flag_value="max", help="The largest is the best.")
@click.option("--min", "way", flag_value="min", help="The smallest is the best.")
@click.option(
    "-n",
    "most",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Show the N best ones, not only one.",
)
@output_options
def command(experiment: str, metric: str, way: str | None, most: int, output: Output) -> None:
    """Show the best version of an experiment by a metric.

    Which way is better a run declares, under `directions` of its run.toml; of several the newest
    version's counts. Of equal versions the older one is better. Retired ones are passed over.
    """
    from modeldrop_cli.stored import tell_damaged  # noqa: PLC0415 - not for `--help`

    metric = metric.removeprefix("metrics.")
    with open_repository() as repository:
        damaged: list[IntegrityError] = []
        listing.tell_reading(repository, output)
        best = repository.finding.best(
            experiment, metric, direction=way, most=most, damaged=damaged.append
        )
    if output.json:
        told: BestObject = {
            "experiment": experiment,
            "metric": metric,
            "direction": best.direction,
            "declared": best.declared,
            "versions": _versions(best.points),
            "passed_over": _versions(best.passed_over),
        }
        output.document(told)
    elif output.quiet:
        for each in best.points:
            output.id(each.version.reference)
    else:
        output.table(
            ("version", "value", "artifact", "registered", "by", "aliases", "description"),
            [
                (
                    each.version.reference,
                    each.text,
                    each.version.artifact,
                    when(each.version.registered_at),
                    f"{each.version.registered_by}@{each.version.host}",
                    ", ".join(each.version.aliases),
                    each.version.description,
                )
                for each in best.points
            ],
            right=("value",),
        )
        if best.declared:
            size = "large" if best.direction == "max" else "small"
            output.say(f"Its runs declare that a {size} {metric} is good.")
        for each in best.passed_over:
            output.say(f"{each.version.reference} with {each.text} is retired, and passed over.")
    tell_damaged(damaged)


def _versions(points: list[Point]) -> list[BestVersionObject]:
    return [{**listing.version_object(each.version), "value": each.text} for each in points]
