"""Texts out of a file that nobody vouches for: decoded, shortened, parsed; none makes a failure."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from typing import Final, TypeGuard

from modeldrop.names import printable

_MOST_TEXT: Final = 300


def shown(text: str) -> str:
    """Return a text of a file as a record may hold it: short, and fit for a terminal."""
    # Cut before it is looked at: it may be megabytes.
    text = printable(text[: _MOST_TEXT + 1])
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def decoded(data: bytes) -> str:
    """Return a text of a file, whatever its bytes are."""
    return data.decode("utf-8", "backslashreplace")


def spelled(shape: Sequence[int | str]) -> str:
    """Return a shape for people: `[3, N]`."""
    return f"[{', '.join(str(each) for each in shape)}]"


def as_object(data: bytes) -> dict[str, object] | None:
    """Return the JSON object that bytes are, or None if they are none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_numbers(value: object) -> TypeGuard[list[int]]:
    """Return whether something out of JSON is a list of whole numbers."""
    return isinstance(value, list) and all(type(each) is int for each in value)


def is_inside(path: str) -> bool:
    """Return whether a path that a file names stays in the file's folder."""
    plain = posixpath.normpath(path.replace("\\", "/"))
    return bool(path) and not plain.startswith(("/", "../")) and plain not in {".", ".."}
