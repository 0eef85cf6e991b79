"""`modeldrop deploy`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_references,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.delivering import confirmed, deploying_options, tell_deployed

if TYPE_CHECKING:
    from modeldrop_cli.output import Output


@click.command(
    "deploy",
    cls=Command,
    examples=(
        ("modeldrop deploy churn/3 production", "version 3 is live at production from now on"),
        (
            'modeldrop deploy churn@champion production --reason "better recall" --yes',
            "the version that an alias is on; confirmed, where the target asks for it",
        ),
        ("modeldrop show churn@production", "what is live there"),
    ),
    exits=exits(
        10,
        11,
        12,
        20,
        30,
        e10="not found: the home, the target, the version or the alias",
        e11="a gate of the target doesn't let it through; nothing was changed",
        e20="the stored bytes aren't what was recorded; nothing was changed",
    ),
)
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@click.argument("target", metavar="TARGET")
@deploying_options
@output_options
def command(
    reference: str,
    target: str,
    reason: str,
    by: str | None,
    yes: bool,  # noqa: FBT001 - click's signature
    output: Output,
) -> None:
    """Have a version live at a target.

    Its bytes are copied to the target and verified there; then what is current there is switched,
    in one step. Prints the deployment: churn@production~4. A version that is live there already
    stays as it is. What an earlier deployment left that was interrupted is finished or undone
    first, and said.
    """
    with open_repository() as repository:
        version = repository.resolve(reference).version
        # What is confirmed is what is deployed, whatever is registered meanwhile.
        exact = f"{version.experiment}/{version.version}" if version else reference
        sure = confirmed(repository, target, f"Deploy {exact}", yes=yes)
        size = 2 * version.size if version else None
        with output.progress(f"{exact} to {target}", size) as moved:
            deployed = repository.deploy(
                exact, target, reason=reason, by=by, confirmed=sure, moved=moved
            )
        tell_deployed(repository, deployed, output)
