"""`modeldrop plot`."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
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
    from collections.abc import Sequence

    from modeldrop.errors import IntegrityError
    from modeldrop.finding import Point
    from modeldrop_cli.charts import Chart
    from modeldrop_cli.objects.finding import PlotObject
    from modeldrop_cli.output import Output

# As wide as a picture of characters is good to look at.
_WIDEST = 120


@click.command(
    "plot",
    cls=Command,
    examples=(
        ("modeldrop plot churn auc", "auc of each version of churn, in the terminal"),
        ("modeldrop plot churn auc -o auc.svg", "the same as a picture"),
        ("modeldrop plot churn auc --json | jq '.points[-1].value'", "the newest version's auc"),
    ),
    exits=exits(
        2,
        10,
        12,
        20,
        30,
        e2="a wrong call, a picture of another kind, or Matplotlib is missing",
        e10="there is no home, no such experiment, or no version of it has this metric",
        e20="a record is damaged; the others are drawn",
    ),
)
@click.argument("experiment", shell_complete=complete_experiments)
@click.argument("metric")
@click.option(
    "-o",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture: FILE.svg, or FILE.png, which needs `modeldrop[plot]`.",
)
@output_options
def command(experiment: str, metric: str, file: Path | None, output: Output) -> None:
    """Draw a metric over the versions of an experiment.

    The best version that isn't retired is marked, where its runs declare which way is better. With
    -q the versions that have the metric are printed.
    """
    from modeldrop_cli.stored import tell_damaged  # noqa: PLC0415 - not for `--help`

    metric = metric.removeprefix("metrics.")
    if file is not None:
        _check_kind(file)
    with open_repository() as repository:
        damaged: list[IntegrityError] = []
        listing.tell_reading(repository, output)
        points, direction = repository.finding.series(experiment, metric, damaged=damaged.append)
    if file is not None:
        _write(file, _chart(experiment, metric, points, direction))
    if output.json:
        told: PlotObject = {
            "experiment": experiment,
            "metric": metric,
            "direction": direction,
            "points": [
                {
                    "version": each.version.version,
                    "value": each.text,
                    "run": each.version.run,
                    "registered_at": each.version.registered_at,
                    "retired": each.version.retired,
                }
                for each in points
            ],
            "file": None if file is None else str(file),
        }
        output.document(told)
    elif output.quiet:
        for each in points:
            output.id(each.version.reference)
    elif file is not None:
        output.path(file)
    else:
        _draw(_chart(experiment, metric, points, direction), output)
        listing.tell_retired([each.version for each in points], output)
    tell_damaged(damaged)


def _check_kind(file: Path) -> None:
    from modeldrop.errors import UsageError  # noqa: PLC0415 - not for `--help`

    if file.suffix.lower() not in {".svg", ".png"}:
        message = f"{file} would be a picture of a kind that isn't drawn"
        raise UsageError(message, hint="write to FILE.svg or FILE.png")


def _chart(experiment: str, metric: str, points: Sequence[Point], direction: str | None) -> Chart:
    from modeldrop.errors import MetricNotFound  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.charts import Chart  # noqa: PLC0415 - the same

    # What is infinite has no place on paper; `--json` has it.
    drawn = [each for each in points if math.isfinite(each.number)]
    if not drawn:
        message = f"{metric} is infinite in each version of {experiment}"
        raise MetricNotFound(message, hint="`--json` prints the values")
    best = None
    standing = [each for each in drawn if not each.version.retired]
    if direction is not None and standing:
        sign = 1 if direction == "min" else -1
        best = min(standing, key=lambda each: (sign * each.number, each.version.version))
    return Chart(
        f"{metric} of {experiment}",
        [each.version.version for each in drawn],
        [each.number for each in drawn],
        None if best is None else best.version.version,
    )


def _write(file: Path, chart: Chart) -> None:
    from modeldrop_cli import pictures  # noqa: PLC0415 - not for `--help`

    if file.suffix.lower() == ".svg":
        file.write_text(pictures.svg(chart), encoding="utf-8")
    else:
        file.write_bytes(pictures.png(chart))


def _draw(chart: Chart, output: Output) -> None:
    from modeldrop_cli.charts import lines  # noqa: PLC0415 - not for `--help`

    width = min(shutil.get_terminal_size().columns, _WIDEST)
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    for line in lines(chart, width, ascii_only=ascii_only):
        output.id(line)
    if chart.best is not None:
        sign = "#" if ascii_only else "★"
        output.say(f"{sign} is the best, version {chart.best}.")
