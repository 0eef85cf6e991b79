"""`modeldrop diff`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

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
    from modeldrop.finding.comparing import Difference, Form
    from modeldrop.records import StoredFile
    from modeldrop_cli.objects.finding import BytesObject, DiffObject, TensorFormObject
    from modeldrop_cli.output import Output

Shown = TypeVar("Shown")


@click.command(
    "diff",
    cls=Command,
    examples=(
        ("modeldrop diff churn/2 churn/3", "what changed from version 2 to version 3"),
        ("modeldrop diff churn@champion churn", "how the newest differs from the champion"),
        ("modeldrop diff run:3f2b~1 run:3f2b", "what changed in a run since its revision 1"),
        ("modeldrop diff churn/2 churn/3 --json | jq '.changes'", "what is said of them"),
    ),
    exits=exits(10, 20, 30),
)
@click.argument("first", metavar="A", shell_complete=complete_references)
@click.argument("second", metavar="B", shell_complete=complete_references)
@output_options
def command(first: str, second: str, output: Output) -> None:
    """Show how two versions, or two runs, differ.

    That is what is said of them (metrics, parameters, tags, code …), their files by digest, and the
    tensors of files that differ, by name, type and shape; values aren't compared. A run of several
    artifacts is compared as a whole. With -q the names of what differs are printed.
    """
    with open_repository() as repository:
        found = repository.finding.compare(first, second)
    if output.json:
        output.document(_object(found))
    elif output.quiet:
        for change in found.changes:
            output.id(change.name)
        for file in found.files:
            output.id(file.path)
    else:
        _tell(found, output)


def _tell(found: Difference, output: Output) -> None:
    if not (found.changes or found.files):
        output.say(f"{found.a} and {found.b} are the same.")
        return
    parts: list[tuple[Sequence[str], Sequence[Sequence[str]]]] = [
        (
            ("what", found.a, found.b),
            [(each.name, _or_none(each.a), _or_none(each.b)) for each in found.changes],
        ),
        (
            ("file", "change", "size", "sha256"),
            [
                (
                    each.path,
                    each.change,
                    _pair(each.a, each.b, _size),
                    _pair(each.a, each.b, _digest),
                )
                for each in found.files
            ],
        ),
        (
            ("tensor", "change", "type", "shape"),
            [
                (
                    f"{each.path}: {each.tensor}",
                    each.change,
                    _pair(each.a, each.b, lambda form: form[0]),
                    _pair(each.a, each.b, lambda form: str(list(form[1]))),
                )
                for each in found.tensors
            ],
        ),
        (("tensors not read", "reason"), found.unread),
    ]
    shown = False
    for columns, rows in parts:
        if rows:
            if shown:
                output.blank()
            output.table(columns, rows)
            shown = True
    if not found.files:
        output.say("Their files are the same.")


def _or_none(text: str | None) -> str:
    return "" if text is None else text


def _pair(a: Shown | None, b: Shown | None, show: Callable[[Shown], str]) -> str:
    shown = [show(each) for each in (a, b) if each is not None]
    return shown[0] if len(set(shown)) == 1 else " → ".join(shown)


def _size(file: StoredFile) -> str:
    return size(file.size)


def _digest(file: StoredFile) -> str:
    return file.sha256[:12]


def _object(found: Difference) -> DiffObject:
    return {
        "a": found.a,
        "b": found.b,
        "same_bytes": not found.files,
        "changes": [{"name": each.name, "a": each.a, "b": each.b} for each in found.changes],
        "files": [
            {"path": each.path, "change": each.change, "a": _bytes(each.a), "b": _bytes(each.b)}
            for each in found.files
        ],
        "tensors": [
            {
                "path": each.path,
                "tensor": each.tensor,
                "change": each.change,
                "a": _tensor(each.a),
                "b": _tensor(each.b),
            }
            for each in found.tensors
        ],
        "unread": [{"path": path, "reason": reason} for path, reason in found.unread],
    }


def _bytes(file: StoredFile | None) -> BytesObject | None:
    return None if file is None else {"sha256": file.sha256, "size": file.size}


def _tensor(form: Form | None) -> TensorFormObject | None:
    return None if form is None else {"dtype": form[0], "shape": list(form[1])}
