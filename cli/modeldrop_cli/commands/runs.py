"""`modeldrop runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import size, when

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop_cli.output import Output


@click.command(
    "runs",
    cls=Command,
    examples=(
        ("modeldrop runs", "every run at the backend, the newest first"),
        ("modeldrop runs --json | jq -r 'select(.experiment == \"churn\").run'", "those of churn"),
    ),
    exits=exits(
        10, 20, 30, e10="there is no home", e20="a record is damaged; the others are listed"
    ),
)
@output_options
def command(output: Output) -> None:
    """List the runs.

    All runs at the backend, the newest first. JSON is one object for each run, one a line.
    """
    from modeldrop_cli.stored import run_object, tell_damaged  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        damaged: list[IntegrityError] = []
        found = repository.runs(damaged.append)
        if output.json or output.quiet:
            for each in found:
                if output.json:
                    output.stream(run_object(each))
                else:
                    output.id(each.run)
            tell_damaged(damaged)
            return
        rows = [
            (
                each.run,
                str(each.revision),
                each.experiment or "",
                ", ".join(artifact.artifact for artifact in each.artifacts),
                size(sum(artifact.size for artifact in each.artifacts)),
                when(each.committed_at),
                f"{each.committed_by}@{each.host}",
            )
            for each in found
        ]
    columns = ("run", "revision", "experiment", "artifacts", "size", "stored", "by")
    output.table(columns, rows, right="revision size")
    tell_damaged(damaged)
    if not rows:
        output.say("There is no run yet. `modeldrop drop FILE` drops one.")
