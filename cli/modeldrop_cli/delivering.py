"""What `deploy`, `rollback` and `deployments` have in common: how one is asked for, and told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from modeldrop_cli.output import say, when

if TYPE_CHECKING:
    from modeldrop.deploying import Deployed
    from modeldrop.deployment_records import Deployment, Target
    from modeldrop.interrupted import Settled
    from modeldrop.repository import Repository
    from modeldrop_cli.objects.using import DeployedObject, DeploymentObject, TargetObject
    from modeldrop_cli.output import Output

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def deploying_options(function: Decorated) -> Decorated:
    """Give a command the options with which something is deployed."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS: Final = (
    click.option("--reason", metavar="TEXT", default="", help="Why; it stays in the history."),
    click.option("--by", metavar="WHO", help="Who deploys; you, by default."),
    click.option(
        "--yes", is_flag=True, help="Confirm it, for a target that was added with --confirm."
    ),
)


def confirmed(repository: Repository, name: str, what: str, *, yes: bool) -> bool:
    """Return whether a deployment is confirmed: by `--yes`, or by a person who is asked."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    if not repository.targets_at_backend.current(name).confirm:
        return False
    return click.confirm(f"{what} to {name}?", err=True)


def tell_settled(settled: Iterable[Settled]) -> None:
    """Say what became of deployments that were interrupted."""
    for each in settled:
        say(f"Settled: {each.what} (begun at {when(each.begun_at)}).")


def tell_deployed(repository: Repository, deployed: Deployed, output: Output) -> None:
    """Print what is live now, say what was, and share it."""
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    tell_settled(deployed.settled)
    made = deployed.deployment
    if output.json:
        told: DeployedObject = {
            **deployment_object(made),
            "deployed": deployed.created,
            "copied": deployed.copied,
        }
        output.document(told)
    else:
        output.id(made.reference)
        live = f"{made.experiment}/{made.version} is live at {made.target}"
        if not deployed.created:
            since = f"{when(made.deployed_at)}, by {made.deployed_by}@{made.host}"
            output.say(f"{live} since {since}; its copy is whole, and nothing was changed.")
        else:
            before = f"{made.experiment}/{made.before}" if made.before else "nothing"
            how = "" if deployed.copied else " The copy that was kept there is used again."
            output.say(f"{live} now; before it was {before}.{how}")
    share(repository)


def deployment_object(deployment: Deployment) -> DeploymentObject:
    """Return a deployment by its own record."""
    return {
        "experiment": deployment.experiment,
        "target": deployment.target,
        "deployment": deployment.deployment,
        "version": deployment.version,
        "sha256": deployment.sha256,
        "before": deployment.before,
        "rolled_back": deployment.rolled_back,
        "url": deployment.url,
        "copy": deployment.copy,
        "reason": deployment.reason,
        "host": deployment.host,
        "deployed_by": deployment.deployed_by,
        "deployed_at": deployment.deployed_at,
    }


def target_object(target: Target) -> TargetObject:
    """Return a target by its own record."""
    return {
        "target": target.target,
        "url": target.url,
        "production": target.production,
        "require_alias": target.require_alias,
        "require_verified": target.require_verified,
        "confirm": target.confirm,
        "keep": target.keep,
        "reason": target.reason,
        "host": target.host,
        "changed_by": target.changed_by,
        "changed_at": target.changed_at,
    }
