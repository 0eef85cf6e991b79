"""`modeldrop ignore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, complete_runs, exits, open_repository, output_options

if TYPE_CHECKING:
    from modeldrop_cli.output import Output


@click.command(
    "ignore",
    cls=Command,
    examples=(
        ("modeldrop ignore 3f2b8c1e", "leaves a run where it is, and stores nothing of it"),
        ("modeldrop retry 3f2b8c1e", "takes that back"),
    ),
    exits=exits(10, e10="there is no home, or no such run in staging"),
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…", shell_complete=complete_runs)
@output_options
def command(runs: tuple[str, ...], output: Output) -> None:
    """Have runs left alone.

    A RUN in staging is named by its GUID, the first digits of it, 4 or more, or the path of its
    staging folder. It stays there, whatever changes in it, until `modeldrop retry`; what is stored
    of it stays stored. Prints the GUIDs.
    """
    from modeldrop import intake  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli import asking  # noqa: PLC0415 - the same

    with open_repository(lasting=True) as repository:
        chosen = asking.staged_runs(repository.home, runs)
        asking.ask(repository.home, intake.IGNORE, chosen, output)
