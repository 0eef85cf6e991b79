"""Strategies that begin with what is valid, and change it: bytes, JSON, records, lines."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from modeldrop.errors import UsageError
from modeldrop.form import seal
from support.journals import sealed

# What readers have stumbled over, anywhere.
NASTY: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**70, 10**400),
    *("", " ", ".", "..", "../..", "/etc/passwd", "a/../../b", ".git/hooks", "CON", "-rf"),
    *("\0", "\n", "\x1b]0;title\a", "\u202e", "\u2028", "é", "a" * 300, "9" * 5000),
    *("0" * 64, "A" * 64, "nan", "inf", "1e999", "9999-99-99T99:99:99Z", "~1", "churn/1"),
    *([], {}, [[]], {"": None}, [None] * 50, {"a": {"b": {"c": []}}}),
)
_DEEP: Final = 3000


@st.composite
def edited(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Return a seed with some bytes flipped, cut out, put in, doubled, or taken from another."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 40))
        how = draw(st.integers(0, 5))
        if how == 0 and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            del data[at : at + size]
        elif how == 2:
            data[at:at] = draw(st.binary(max_size=8))
        elif how == 3:
            data[at:at] = data[at : at + size] * draw(st.integers(1, 4))
        elif how == 4:
            other = draw(st.sampled_from(seeds))
            begin = draw(st.integers(0, len(other)))
            data[at:] = other[begin:]
        else:
            number = draw(st.sampled_from((b"\xff", b"\x00", b"\x7f", b"\x80")))
            data[at : at + 8] = number * min(8, len(data) - at)
    return bytes(data)


@st.composite
def changed(draw: st.DrawFn, seeds: Sequence[Any]) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of a seed with some values replaced, removed, or put in."""
    found = json.loads(json.dumps(draw(st.sampled_from(seeds))))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(found))
        if not places:
            break
        inside, key = draw(st.sampled_from(places))
        how = draw(st.integers(0, 4))
        if how == 0:
            del inside[key]
        elif how == 1 and isinstance(inside, dict):
            inside[draw(st.sampled_from(("format", "kind", "needs", "x", "origin")))] = inside[key]
        elif how == 2 and isinstance(inside, list):
            inside.append(inside[key])
        else:
            value = draw(st.sampled_from(NASTY) | st.text(max_size=12) | st.integers())
            # A copy: what is put in may be changed in turn.
            inside[key] = copy.deepcopy(value)
    return found


def resealed(seeds: Sequence[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """Return records that say something else, with the right digest for that."""
    return changed(seeds).map(_sealed)


def relined(seeds: Sequence[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """Return lines of a journal that say something else, with the right digest for that."""
    return changed(seeds).map(lambda found: _or_text(lambda: sealed(found)))


def nested(kind: str) -> bytes:
    """Return a text that is nested deeper than a parser goes."""
    opened, closed = {"json": ("[", "]"), "object": ('{"a":', "}")}[kind]
    return (opened * _DEEP + "1" + closed * _DEEP).encode()


def _sealed(found: Any) -> bytes:  # noqa: ANN401 - JSON
    if not isinstance(found, dict):
        return json.dumps(found).encode()
    kind = found.get("kind")
    fields = {key: each for key, each in found.items() if key not in {"kind", "record_sha256"}}
    return _or_text(lambda: seal(kind if isinstance(kind, str) else "x", fields))


def _or_text(make: Callable[[], bytes]) -> bytes:
    try:
        return make()
    except (UsageError, ValueError):
        # What can't be written can't be read, either; what is left is a text.
        return b"{}"


def _places(found: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - JSON
    """Return where the values are: what each is in, and its key or index there."""
    places: list[tuple[Any, Any]] = []
    waiting = [found]
    while waiting:
        inside = waiting.pop()
        keys = list(inside) if isinstance(inside, dict) else range(len(inside))
        for key in keys:
            places.append((inside, key))
            if isinstance(inside[key], dict | list):
                waiting.append(inside[key])
    return places
