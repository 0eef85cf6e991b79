"""`modeldrop drop`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    FOREVER,
    Command,
    complete_runs,
    exits,
    experiment_option,
    open_repository,
    output_options,
    wait_option,
)
from modeldrop_cli.saying import said_options

if TYPE_CHECKING:
    from modeldrop_cli.objects.dropping import DropObject
    from modeldrop_cli.output import Output
    from modeldrop_cli.saying import Said


@click.command(
    "drop",
    cls=Command,
    examples=(
        ("modeldrop drop model.onnx -e churn", "a new run of churn, with one artifact"),
        (
            "modeldrop register $(modeldrop drop --wait model.onnx) -e churn",
            "drops a model, waits until it is stored, and registers it",
        ),
        ("modeldrop drop --run 3f2b8c1e-… metrics.json tokenizer/", "more for a run"),
        (
            "modeldrop drop model.onnx -e churn --metric auc=0.912 --direction auc=max --register",
            "says how good it is, and has it registered once it is stored",
        ),
    ),
    exits=exits(
        3,
        10,
        12,
        20,
        30,
        e3="with --wait: the run can't be stored before somebody changes it",
        e10="there is no home, nor MODELDROP_BACKEND, or no such data set",
        e12="with --wait=SECONDS: the time ran out",
        e20="a file changed while it was copied: nothing is dropped",
    ),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--run",
    "named",
    metavar="GUID",
    shell_complete=complete_runs,
    help="The run to drop into; a new one by default.",
)
@experiment_option("The experiment that the run belongs to.")
@said_options
@wait_option
@output_options
def command(
    paths: tuple[Path, ...],
    named: str | None,
    experiment: str | None,
    said: Said,
    wait: float | None,
    output: Output,
) -> None:
    """Drop files into a run, whole.

    Each PATH, a file or a folder, becomes an artifact of the run. It is copied aside and then
    moved into staging in one step, so the service stores it at once. Prints the run's GUID.
    What is said of the run goes into its run.json; docs/metadata.md tells more.
    """
    from modeldrop import intake, locks  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.failing import terminable  # noqa: PLC0415 - the same
    from modeldrop_cli.passing import PassingRepository  # noqa: PLC0415 - the same

    with open_repository() as repository:
        if wait is None and isinstance(repository, PassingRepository):
            # Its staging folder goes with it.
            wait = FOREVER
        staging = repository.home.staging
        # Elsewhere than in the main thread nobody can prepare, and no writer is asked for.
        with contextlib.suppress(ValueError):
            intake.prepare_leases()
        with terminable():
            home = repository.home.paths.root
            run = intake.drop(
                staging,
                paths,
                run=named,
                experiment=experiment,
                home=home,
                metadata=said.metadata(),
                register=said.register,
            )
        told: DropObject = {"run": run, "folder": str(staging / run), "revision": None}
        # Whatever becomes of the wait, the GUID is told: it is needed most when that fails.
        if not output.json:
            output.id(run)
            sys.stdout.flush()
        try:
            if wait is not None:
                from modeldrop_cli.waiting import wait_for  # noqa: PLC0415 - only with `--wait`

                told["revision"] = wait_for(repository, run, wait, output)
        finally:
            if output.json:
                output.document(told)
            # Unless a service stored it, which shares by itself.
            if wait is not None and locks.holder(repository.home.paths.service_lock()) is None:
                from modeldrop_cli.sharing import share  # noqa: PLC0415 - only with `--wait`

                share(repository)
    if not output.json:
        stored = told["revision"]
        output.say(
            f"Stored as run:{run}~{stored}"
            if stored
            else "Dropped. `modeldrop status` shows when it is stored."
        )
