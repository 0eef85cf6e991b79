"""What another place says of a run, as this store's metadata: as much of it as can be kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from modeldrop.imports.elsewhere import Described
from modeldrop.metadata import Metadata
from modeldrop.statements import MOST_ENTRIES, MOST_PACKAGES, Unclear, understood

Value = TypeVar("Value")
Lost = Callable[[str], None]


def metadata_of(described: Described, lost: Lost) -> Metadata:
    """Return what can be kept of what is said of a run; `lost` is told of the rest, by its name."""
    if described.metadata is not None:
        return described.metadata
    kept: dict[str, object] = {
        "params": _kept("params", described.params, lost),
        "metrics": _kept("metrics", described.metrics, lost),
        "tags": _kept("tags", described.tags, lost),
    }
    packages = dict(list(described.packages.items())[:MOST_PACKAGES])
    more: dict[str, object] = {
        "parent": described.parent,
        "code": {"commit": described.commit.lower()} if described.commit else None,
        "environment": {"packages": packages} if packages else None,
    }
    kept |= {key: value for key, value in more.items() if value and _is_clear({key: value}, lost)}
    return understood(kept)


def _kept(what: str, said: Mapping[str, Value], lost: Lost) -> dict[str, Value]:
    kept = {name: value for name, value in said.items() if _is_clear({what: {name: value}}, lost)}
    if len(kept) > MOST_ENTRIES:
        lost(f"{len(kept) - MOST_ENTRIES} {what}: a run has {MOST_ENTRIES} at most")
        kept = dict(list(kept.items())[:MOST_ENTRIES])
    return kept


def _is_clear(found: Mapping[str, object], lost: Lost) -> bool:
    try:
        understood(found)
    except Unclear as error:
        lost(str(error))
        return False
    return True
