"""`modeldrop pull`."""

from __future__ import annotations

from pathlib import Path
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
    "pull",
    cls=Command,
    examples=(
        ("modeldrop pull churn -o models", "the newest version, into models/"),
        ("modeldrop pull churn/3", "version 3, here"),
        ("modeldrop pull run:3f2b8c1e/tokenizer", "one artifact of a run, never registered"),
    ),
    exits=exits(10, 11, 20, 30, e11="something else is there, of that name"),
)
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@click.option(
    "-o",
    "--output-dir",
    "folder",
    metavar="DIR",
    default=Path(),
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to put it into; the working folder by default.",
)
@output_options
def command(reference: str, folder: Path, output: Output) -> None:
    """Get a verified copy of a model.

    Prints its path. Every byte is checked on the way; if one is not what was stored, nothing is
    left behind. Interrupted, it goes on with what has arrived when it is run again; that waits in
    a hidden folder `.modeldrop-pull-…` in DIR.
    """
    from modeldrop_cli.copies import tell_copy  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        tell_copy(
            repository,
            reference,
            lambda found, artifact, moved: repository.pull_found(
                found, artifact, folder, moved=moved
            ),
            output,
        )
