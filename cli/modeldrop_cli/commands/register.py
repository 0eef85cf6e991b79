"""`modeldrop register`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_runs,
    exits,
    experiment_option,
    open_repository,
    output_options,
    wait_option,
)

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop_cli.objects.stored import RegisteredObject
    from modeldrop_cli.output import Output


@click.command(
    "register",
    cls=Command,
    examples=(
        ("modeldrop register 3f2b -e churn", "prints churn/1: a GUID may be shortened"),
        (
            "modeldrop register run:@last -e churn --artifact model.onnx",
            "one of several artifacts of the run that was stored last",
        ),
        (
            'modeldrop register "$RUN" -e churn --wait=600 --description "more data"',
            "waits until the run is stored, ten minutes at most",
        ),
    ),
    exits=exits(
        10,
        12,
        20,
        30,
        e3="with --wait: the run can't be stored before somebody changes it",
        e10="not found: the home, the run or the artifact",
    ),
)
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@experiment_option("The experiment; by default the one that the run names.")
@click.option(
    "--artifact",
    metavar="NAME",
    help="The artifact, where the run has several; `.` is the whole run.",
)
@click.option("--by", metavar="WHO", help="Who registers it; you, by default.")
@click.option("--description", metavar="TEXT", default="", help="What to say of it.")
@click.option("--again", is_flag=True, help="Give another version to what has one already.")
@wait_option
@output_options
def command(
    run: str,
    experiment: str | None,
    artifact: str | None,
    by: str | None,
    description: str,
    again: bool,  # noqa: FBT001 - click's signature
    wait: float | None,
    output: Output,
) -> None:
    """Give a run's model the next version.

    Prints the version: churn/4. RUN is a GUID, the beginning of one, run:@last, or the run's
    staging folder. Registering the same artifact again gives the version that it has.
    """
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        if wait is not None:
            from modeldrop_cli.waiting import staged_run, wait_for  # noqa: PLC0415 - only then

            staged = staged_run(repository.home, run)
            if staged is not None:
                wait_for(repository, staged, wait, output)
        registered = repository.register(run, experiment, artifact, by, description, again=again)
        version = registered.version
        if output.json:
            from modeldrop_cli.stored import version_object  # noqa: PLC0415 - only then

            damaged: list[IntegrityError] = []
            told: RegisteredObject = {
                **version_object(repository, version, damaged),
                "created": registered.created,
            }
            output.document(told)
            # What was asked for is done, and this is no part of it.
            for error in damaged:
                output.say(f"Left out of its aliases: {error}")
        else:
            output.id(f"{version.experiment}/{version.version}")
            if not registered.created:
                output.say(
                    f"It had been registered before, by {version.registered_by}; "
                    "--again gives it another version."
                )
        share(repository)
