"""`modeldrop path`."""

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

if TYPE_CHECKING:
    from modeldrop_cli.output import Output


@click.command(
    "path",
    cls=Command,
    examples=(
        ("modeldrop path churn", "the newest version; pulled now, if it isn't cached"),
        ('python serve.py --model "$(modeldrop path churn/3)"', "serves version 3"),
    ),
    exits=exits(10, 20, 30),
)
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@output_options
def command(reference: str, output: Output) -> None:
    """Print the path of a cached copy.

    The copy is in the home, verified and read-only; it is pulled first if it isn't there.
    """
    from modeldrop_cli.copies import tell_copy  # noqa: PLC0415 - not for `--help`

    with open_repository(lasting=True) as repository:
        tell_copy(
            repository,
            reference,
            lambda found, artifact, moved: repository.path_found(found, artifact, moved=moved),
            output,
        )
