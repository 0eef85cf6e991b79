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
    from modeldrop.records import Artifact
    from modeldrop.references import Resolved
    from modeldrop.repository import Progress
    from modeldrop_cli.output import Output


@click.command(
    "pull",
    cls=Command,
    examples=(
        ("modeldrop pull churn -o models", "the newest version, into models/"),
        ("modeldrop pull churn/3", "version 3, here"),
        ("modeldrop pull churn/3 --signature", "and its signatures beside it"),
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
@click.option(
    "--signature", "signed", is_flag=True, help="Put its signatures beside it, as NAME.sig."
)
@output_options
def command(reference: str, folder: Path, signed: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Get a verified copy of a model.

    Prints its path. Every byte is checked on the way; if one is not what was stored, nothing is
    left behind. Interrupted, it goes on with what has arrived when it is run again; that waits in
    a hidden folder `.modeldrop-pull-…` in DIR. Signatures are brought, and not checked: `modeldrop
    verify REF --signature` does that.
    """
    from modeldrop_cli.copies import tell_copy  # noqa: PLC0415 - not for `--help`

    signatures: list[Path] = []

    def make(found: Resolved, artifact: Artifact, moved: Progress) -> Path:
        # Asked for first: what has none leaves nothing.
        files = repository.signature_files(found, artifact) if signed else {}
        path = repository.pull_found(found, artifact, folder, moved=moved)
        if files:
            signatures.extend(repository.put_signatures(files, folder))
        return path

    with open_repository() as repository:
        tell_copy(repository, reference, make, output, signatures)
