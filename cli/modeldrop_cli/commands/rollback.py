"""`modeldrop rollback`."""

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
from modeldrop_cli.delivering import confirmed, deploying_options, tell_deployed

if TYPE_CHECKING:
    from modeldrop_cli.output import Output


@click.command(
    "rollback",
    cls=Command,
    examples=(
        ("modeldrop rollback churn production", "what was live before is live again"),
        (
            'modeldrop rollback churn production --to 2 --reason "wrong units"',
            "version 2 is, which was live there before",
        ),
    ),
    exits=exits(
        10,
        11,
        12,
        20,
        30,
        e10="not found: the home, the target, or anything that was live there before",
        e11="the version is retired, or the target asks for a confirmation; nothing was changed",
    ),
)
@click.argument("experiment", shell_complete=complete_experiments)
@click.argument("target", metavar="TARGET")
@click.option(
    "--to",
    metavar="N",
    type=click.IntRange(min=1),
    help="To version N, which was live there before; the one before the last, by default.",
)
@deploying_options
@output_options
def command(
    experiment: str,
    target: str,
    to: int | None,
    reason: str,
    by: str | None,
    yes: bool,  # noqa: FBT001 - click's signature
    output: Output,
) -> None:
    """Have the version live again that was live before.

    Its copy, if it was kept, is verified and used again; otherwise it is copied anew. Called once
    more, it goes back one more. Prints the deployment: churn@production~5.
    """
    with open_repository() as repository:
        what = f"Roll {experiment} back" if to is None else f"Roll back to {experiment}/{to}"
        sure = confirmed(repository, target, what, yes=yes)
        with output.progress(f"{experiment} to {target}", None) as moved:
            deployed = repository.rollback(
                experiment, target, to, reason=reason, by=by, confirmed=sure, moved=moved
            )
        tell_deployed(repository, deployed, output)
