"""`modeldrop export`."""

from __future__ import annotations

from collections.abc import Sequence
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
from modeldrop_cli.output import size

if TYPE_CHECKING:
    from modeldrop_cli.objects.sharing import ExportObject
    from modeldrop_cli.output import Output


@click.command(
    "export",
    cls=Command,
    examples=(
        ("modeldrop export churn --history -o churn.bundle", "churn up to its newest version"),
        ("modeldrop export run:3f2b churn/7 -o two.bundle", "a run, and one version with its run"),
    ),
    exits=exits(10, 11, 20, 30, e11="there is a file of that name; --force replaces it"),
)
@click.argument(
    "references", metavar="REF…", nargs=-1, required=True, shell_complete=complete_references
)
@click.option(
    "-o",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="The bundle to write.",
)
@click.option("--history", is_flag=True, help="Take every lower version of each experiment along.")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@output_options
def command(
    references: Sequence[str],
    path: Path,
    history: bool,  # noqa: FBT001 - click's signature
    force: bool,  # noqa: FBT001 - the same
    output: Output,
) -> None:
    """Write versions and runs into a bundle.

    One file with records and bytes, for a place that no network leads to: `modeldrop import bundle`
    reads it there. Where none of an experiment's versions is, it needs all lower numbers, too:
    --history. With -q the path is printed.
    """
    from modeldrop.imports.packing import pack  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository, output.progress(f"Writing {path}", None) as moved:
        named = [repository.resolve(each) for each in references]
        packed = pack(repository, named, path, history=history, replace=force, moved=moved)
    if output.json:
        told: ExportObject = {
            "path": str(packed.path),
            "size": packed.size,
            "versions": list(packed.versions),
            "runs": list(packed.runs),
        }
        output.document(told)
    else:
        output.path(packed.path)
        output.say(
            f"{len(packed.versions)} versions and {len(packed.runs)} runs, {size(packed.size)}."
        )
