"""`modeldrop status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.home import Home
    from modeldrop.intake import ServiceStatus
    from modeldrop_cli.objects import StatusObject
    from modeldrop_cli.output import Output


@click.command(
    "status",
    cls=Command,
    examples=(
        ("modeldrop status", "the service, and every run that isn't stored, with the reason"),
        ("modeldrop status --json | jq .service.running", "true or false"),
    ),
    exits=exits(10, e10="there is no home"),
)
@output_options
def command(output: Output) -> None:
    """Show the service and what isn't stored yet.

    Asks only this machine. With -q the GUIDs of the runs that aren't stored are printed.
    """
    from modeldrop import intake  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        home = repository.home
        status = intake.read_status(home)
    if output.json:
        output.document(_object(home, status))
    elif output.quiet:
        for each in status.runs:
            output.id(each.run)
    else:
        _tell(home, status, output)


def _object(home: Home, status: ServiceStatus) -> StatusObject:
    from modeldrop_cli.statuses import junk_object, run_object  # noqa: PLC0415 - not for `--help`

    return {
        "home": str(home.paths.root),
        "backend": home.backend_url,
        "staging": str(home.staging),
        "service": {
            "running": status.pid is not None,
            "pid": status.pid,
            "started_at": status.started_at,
            "at": status.at,
            "watcher": status.watcher.state,
        },
        "committed": status.committed,
        "runs": [run_object(each, home.staging) for each in status.runs],
        "junk": [junk_object(each.path, each.reason) for each in status.junk],
    }


def _tell(home: Home, status: ServiceStatus, output: Output) -> None:
    from modeldrop_cli.statuses import STORED, run_rows  # noqa: PLC0415 - not for `--help`

    running = status.pid is not None
    # What is stored but for a part that was refused is counted, and shown all the same.
    waiting = sum(each.state not in STORED for each in status.runs)
    service = f"running, process {status.pid}, since {when(status.started_at)}"
    output.fields(
        {
            "service": service if running else "not running",
            "watcher": status.watcher.state if running else "",
            "home": str(home.paths.root),
            "backend": home.backend_url,
            "staging": str(home.staging),
            "stored": f"{status.committed} of {status.committed + waiting} runs",
        }
    )
    columns, rows = run_rows(status.runs, status.junk)
    if rows:
        output.blank()
    output.table(columns, rows)
    if not running:
        output.say("Start `modeldropd` to store what is dropped, or run `modeldrop scan --once`.")
