"""`modeldrop run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    exits,
    experiment_option,
    open_repository,
    output_options,
)
from modeldrop_cli.saying import said_options

if TYPE_CHECKING:
    from modeldrop_cli.objects.dropping import NewRunObject
    from modeldrop_cli.output import Output
    from modeldrop_cli.saying import Said


@click.group("run", subcommand_metavar="COMMAND …")
def command() -> None:
    """Begin a training run."""


@command.command(
    "new",
    cls=Command,
    examples=(
        ("modeldrop run new -e churn", "prints the GUID of a run that belongs to churn"),
        (
            "python train.py --output $(modeldrop run new --json | jq -r .folder)",
            "trains into the folder of a new run",
        ),
    ),
    exits=exits(10, e10="there is no home, or no such data set"),
)
@experiment_option("The experiment that the run belongs to.")
@said_options
@output_options
def new(experiment: str | None, said: Said, output: Output) -> None:
    """Make a run's staging folder.

    Prints the run's GUID; the folder is named on stderr. What is put into the folder is stored
    once nothing in it changes any more, or once a file _SUCCESS is there. What is said of the run
    is in its run.json; the training script may add a run.toml, run.yaml or run.json of its own.
    """
    from modeldrop import intake  # noqa: PLC0415 - not for `--help`

    with open_repository(lasting=True) as repository:
        staging = repository.home.staging
        guid = intake.new_run(staging, experiment, metadata=said.metadata(), register=said.register)
    if output.json:
        told: NewRunObject = {"run": guid, "folder": str(staging / guid)}
        output.document(told)
        return
    output.id(guid)
    output.say(f"Put the run's files into {staging / guid}")
