"""`modeldrop status`."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options

if TYPE_CHECKING:
    from modeldrop.home import Home
    from modeldrop.intake import ServiceStatus
    from modeldrop_cli.output import Output


@click.command(
    "status",
    cls=Command,
    examples=(
        ("modeldrop status", "the service, and every run that isn't stored, with the reason"),
        ("modeldrop status --json | jq .service.running", "true or false"),
        ("modeldrop status --watch", "the same as it changes, until Ctrl-C"),
    ),
    exits=exits(10, 130, e10="there is no home", e130="interrupted, as --watch always ends"),
)
@click.option(
    "--watch", is_flag=True, help="Show it live; with --json, an object a line at each change."
)
@click.option(
    "--interval",
    metavar="SECONDS",
    type=float,
    help="With --watch: look this often.  [default: 1]",
)
@output_options
def command(watch: bool, interval: float | None, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Show the service and what isn't stored yet.

    Asks only this machine. With -q the GUIDs of the runs that aren't stored are printed.
    """
    from modeldrop import intake  # noqa: PLC0415 - not for `--help`

    _check(watch, interval, output)
    with open_repository(lasting=True) as repository:
        home = repository.home
        if watch:
            from modeldrop_cli import watching  # noqa: PLC0415 - only with `--watch`

            watching.watch(home, output, interval or 1.0)
        status = intake.read_status(home)
    if output.json:
        from modeldrop_cli.statuses import status_object  # noqa: PLC0415 - not for `--help`

        output.document(status_object(home, status))
    elif output.quiet:
        for each in status.runs:
            output.id(each.run)
    else:
        _tell(home, status, output)


def _check(watch: bool, interval: float | None, output: Output) -> None:  # noqa: FBT001 - what the options say
    from modeldrop.errors import UsageError  # noqa: PLC0415 - not for `--help`

    if interval is not None and not watch:
        raise UsageError("--interval is for --watch", hint="`modeldrop status --watch`")
    if interval is not None and not (math.isfinite(interval) and interval > 0):
        raise UsageError(
            f"an interval of {interval:g} seconds can't be kept", hint="a number above 0"
        )
    if watch and not output.json and (output.quiet or not sys.stdout.isatty()):
        raise UsageError(
            "--watch goes without -q" if output.quiet else "--watch needs a terminal, or --json",
            hint="`modeldrop status --watch --json` prints an object at each change",
        )


def _tell(home: Home, status: ServiceStatus, output: Output) -> None:
    from modeldrop_cli import statuses  # noqa: PLC0415 - not for `--help`

    output.fields(statuses.status_fields(home, status))
    columns, rows = statuses.run_rows(status.runs, status.junk)
    if rows:
        output.blank()
    output.table(columns, rows)
    if hidden := statuses.hidden(status):
        output.say(f"{hidden} more runs aren't stored; the most urgent are listed.")
    if status.pid is None:
        output.say(statuses.NOT_RUNNING)
