"""`modeldrop deployments`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_experiments,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.deployment_records import Deployment
    from modeldrop.errors import IntegrityError
    from modeldrop_cli.objects.using import DeploymentsObject
    from modeldrop_cli.output import Output


@click.command(
    "deployments",
    cls=Command,
    examples=(
        ("modeldrop deployments", "what is live where, since when, and who put it there"),
        ("modeldrop deployments churn", "where churn is live, and which version of it"),
        ("modeldrop deployments churn@production", "everything that was live there, newest first"),
    ),
    exits=exits(
        10,
        20,
        30,
        e10="there is no home, or nothing of the experiment was ever deployed to the target",
        e20="a record is damaged; the others are listed",
    ),
)
@click.argument(
    "name", metavar="EXPERIMENT[@TARGET]", required=False, shell_complete=complete_experiments
)
@output_options
def command(name: str | None, output: Output) -> None:
    """Show what is live at each target, or what was.

    It is read at the backend, so it is the same for everybody. What a deployment from this home
    left that was interrupted is finished or undone first, and said. With -q the deployments are
    printed as references: churn@production~4.
    """
    from modeldrop_cli.delivering import (  # noqa: PLC0415 - not for `--help`
        deployment_object,
        tell_settled,
    )
    from modeldrop_cli.stored import tell_damaged  # noqa: PLC0415 - the same

    experiment, _, target = (name or "").partition("@")
    damaged: list[IntegrityError] = []
    with open_repository() as repository:
        settled = repository.settle_deployments()
        found = repository.deployments(experiment or None, target or None, damaged.append)
        tell_settled(settled)
        if settled:
            from modeldrop_cli.sharing import share  # noqa: PLC0415 - hardly ever needed

            share(repository)
    if experiment and target:
        found = found[::-1]
    if output.json:
        told: DeploymentsObject = {"deployments": [deployment_object(each) for each in found]}
        output.document(told)
    elif output.quiet:
        for each in found:
            output.id(each.reference)
    else:
        output.table(
            ("deployment", "version", "before", "deployed", "by", "reason"),
            [_row(each) for each in found],
        )
        if not (found or damaged):
            output.say("Nothing is live anywhere. `modeldrop deploy REF TARGET` deploys.")
    tell_damaged(damaged)


def _row(each: Deployment) -> tuple[str, str, str, str, str, str]:
    before = f"{each.experiment}/{each.before}" if each.before else ""
    how = "rolled back" if each.rolled_back else ""
    return (
        each.reference,
        f"{each.experiment}/{each.version}",
        before,
        when(each.deployed_at),
        f"{each.deployed_by}@{each.host}",
        ": ".join(part for part in (how, each.reason) if part),
    )
