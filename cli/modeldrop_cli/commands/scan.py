"""`modeldrop scan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modeldrop.intake import RunStatus
    from modeldrop.repository import Repository
    from modeldrop_cli.objects.dropping import ScanObject
    from modeldrop_cli.output import Output


@click.command(
    "scan",
    cls=Command,
    examples=(
        ("modeldrop scan --once", "stores what is complete, and says what became of each run"),
        ("modeldrop scan --once -q", "prints the GUIDs of the runs that are stored"),
    ),
    exits=exits(
        3,
        10,
        12,
        30,
        e3="something isn't stored, and needs a person or another try",
        e10="there is no home",
        e12="the service is running, and does this itself",
    ),
)
@click.option("--once", is_flag=True, help="Look at the staging folder once.")
@output_options
def command(once: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Store what was dropped, once.

    Runs whose files still change get the quiet time to come to rest. `modeldropd` does the same
    all the time.
    """
    from modeldrop import locks  # noqa: PLC0415 - not for `--help`
    from modeldrop.errors import Locked, UsageError  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - the same

    if not once:
        raise UsageError(
            "`modeldrop scan` works once and needs to be told so",
            hint="`modeldrop scan --once`, or start `modeldropd`, the service that goes on",
        )
    with open_repository(lasting=True) as repository:
        lock = repository.home.paths.service_lock()
        try:
            with locks.hold(lock, what="the staging folder", timeout=0):
                found = _scan(repository)
        except Locked as error:
            if error.detail.get("lock") != str(lock):
                raise
            who = f"process {error.detail['process']}" if error.detail["process"] else "a process"
            raise Locked(
                f"{who} does this already: the service, or a scan",
                hint="`modeldrop status` shows how far it is",
                detail=error.detail,
            ) from error
        try:
            _tell(found, repository.home.staging, output)
        finally:
            share(repository)


def _scan(repository: Repository) -> list[RunStatus]:
    engine = repository.engine()
    try:
        return engine.scan_once()
    finally:
        engine.close()


def _tell(found: Sequence[RunStatus], staging: Path, output: Output) -> None:
    from modeldrop.errors import PartialFailure  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli import statuses  # noqa: PLC0415 - not for `--help`

    runs = [each for each in found if not statuses.is_junk(each)]
    junk = [each for each in found if statuses.is_junk(each)]
    if output.json:
        told: ScanObject = {
            "runs": [statuses.run_object(each, staging) for each in runs],
            "junk": [statuses.junk_object(each.folder, each.reason) for each in junk],
        }
        output.document(told)
    elif output.quiet:
        for each in runs:
            if each.state in statuses.STORED:
                output.id(each.run)
    else:
        columns, rows = statuses.run_rows(found)
        output.table(columns, rows)
        if not found:
            output.say("There is nothing in the staging folder.")
    if any(each.state in ("open", "settling") for each in runs):
        output.say("Runs that still change are left for the next scan.")
    troubled = [each for each in found if each.needs_attention or statuses.is_junk(each)]
    if troubled:
        raise PartialFailure(
            f"{len(troubled)} of {len(found)} in the staging folder not stored, or not whole",
            hint="`modeldrop status` shows each with its reason",
            detail={"runs": [each.run or each.folder for each in troubled]},
        )
