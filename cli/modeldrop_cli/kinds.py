"""What files are, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from modeldrop_cli.output import Output

if TYPE_CHECKING:
    from modeldrop.records import FileFormat

# What a person asks first; the rest follows by name.
_FIRST: Final = (
    "layout",
    "architecture",
    "architectures",
    "format_version",
    "tensors",
    "parameters",
)


def tell_formats(formats: Sequence[FileFormat], output: Output) -> None:
    """Show what files are, if anything is known, and what a person should know of them."""
    if not formats:
        return
    output.blank()
    output.table(
        ("file", "format", "what it says"),
        [(each.path, _kind(each), _summary(each)) for each in formats],
    )
    warnings = [(each.path, text) for each in formats for text in each.warnings]
    if warnings:
        output.blank()
        output.table(("file", "warning"), warnings)


def _kind(found: FileFormat) -> str:
    return f"{found.kind}, runs code" if found.runs_code else found.kind


def _summary(found: FileFormat) -> str:
    names = [name for name in _FIRST if name in found.summary]
    names += sorted(found.summary.keys() - {*names})
    return "; ".join(f"{name}: {found.summary[name]}" for name in names)
