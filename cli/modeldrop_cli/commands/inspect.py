"""`modeldrop inspect`."""

from __future__ import annotations

import os
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
    from modeldrop.inspecting import Inspected
    from modeldrop_cli.objects.stored import InspectedObject
    from modeldrop_cli.output import Output


@click.command(
    "inspect",
    cls=Command,
    examples=(
        ("modeldrop inspect model.onnx", "a file here; needs no home"),
        ("modeldrop inspect churn@champion --tensors", "the tensors of a version, with shapes"),
        ("modeldrop inspect download/ -q", "the kind of each file in a folder"),
    ),
    exits=exits(10, 20, 30),
)
@click.argument("what", metavar="PATH|REF", shell_complete=complete_references)
@click.option("--tensors", is_flag=True, help="List the tensors, with type and shape.")
@output_options
def command(what: str, tensors: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Say what a file is, by its header.

    Nothing is loaded, whatever it is. What is there at that path is meant; anything else is a
    reference, of which the headers alone are fetched. With -q the kinds are printed.
    """
    if os.path.lexists(os.path.expanduser(what)):
        from modeldrop.inspecting import inspect_path  # noqa: PLC0415 - not for `--help`

        found, name = inspect_path(os.path.expanduser(what), tensors=tensors), what
    else:
        with open_repository() as repository:
            found = repository.inspect(what, tensors=tensors)
            name = repository.resolve(what).exact if output.json else what
    if output.json:
        output.document({"what": name, "files": [_object(each) for each in found]})
    elif output.quiet:
        for each in found:
            output.id(each.format.kind)
    else:
        _tell(found, output)


def _tell(found: list[Inspected], output: Output) -> None:
    if not found:
        output.say("Nothing in it is of a known format.")
        return
    for each in found:
        title = f"{each.format.path}: {each.format.kind}"
        output.id(f"{title}, runs code when it is loaded" if each.format.runs_code else title)
        output.fields({name: str(value) for name, value in sorted(each.format.summary.items())})
        for text in each.format.warnings:
            output.id(f"warning: {text}")
        if each.tensors:
            output.blank()
            output.table(
                ("tensor", "type", "shape"),
                [
                    (tensor.name, tensor.dtype, f"[{', '.join(map(str, tensor.shape))}]")
                    for tensor in each.tensors
                ],
            )
        output.blank()


def _object(found: Inspected) -> InspectedObject:
    from modeldrop_cli.stored import format_object  # noqa: PLC0415 - not for `--help`

    return {
        **format_object(found.format),
        "tensors": [
            {"name": each.name, "dtype": each.dtype, "shape": list(each.shape)}
            for each in found.tensors
        ],
    }
