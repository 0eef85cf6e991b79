"""LightGBM: its model as text, whose header says how many bytes each tree takes, or as JSON."""

from __future__ import annotations

import re
from typing import Final

from modeldrop.formats.description import DamagedError, Description, NotThisKindError
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import as_object, decoded

_MAGIC: Final = b"tree\n"
_MOST_HEADER: Final = 8 * 2**20
_MOST_JSON: Final = 8 * 2**20
_NAMED: Final = {
    "version": "format_version",
    "num_class": "classes",
    "objective": "objective",
    "boosting": "boosting",
}
_END: Final = b"end of trees"
_ENDS: Final = 2**20


def read(source: Bounded, into: Description) -> None:
    """Describe a model in text, and look whether its trees end where its header says.

    Raises:
        NotThisKindError: it begins like one, and says nothing more.
    """
    if not source.upto(0, 6).replace(b"\r", b"").startswith(_MAGIC):
        raise NotThisKindError
    into.note("layout", "text")
    found: dict[str, str] = {}
    at = 0
    while at < _MOST_HEADER:
        source.tick()
        block = source.upto(at, 256 * 2**10)
        end = block.find(b"\nTree=0")
        if end >= 0 or len(block) < 256 * 2**10:
            break
        at += len(block) - 16
    head = source.upto(0, at + len(block) if end < 0 else at + end + 1)
    for line in decoded(head).splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found[key] = value
    if not {"version", "max_feature_idx", "num_class"} & found.keys():
        raise NotThisKindError
    _tell(found, into)
    sizes = [each for each in found.get("tree_sizes", "").split() if each.isdecimal()]
    into.note("trees", len(sizes))
    if sizes and all(len(each) < 16 for each in sizes):
        _check_end(source, len(head), sum(map(int, sizes)))
    elif _END not in source.upto(max(0, source.size - _ENDS), _ENDS):
        message = "it is cut off: its trees don't end"
        raise DamagedError(message)


def _check_end(source: Bounded, start: int, size: int) -> None:
    # An empty line or two may be before the first tree and after the last one.
    where = source.upto(max(0, start + size - 8), 64) if start + size <= source.size else b""
    if _END not in where:
        message = f"it is cut off, or changed: its trees don't end at byte {start + size}"
        raise DamagedError(message)


def _tell(found: dict[str, str], into: Description) -> None:
    for key, name in _NAMED.items():
        value = found.get(key, "")
        into.note(name, int(value) if value.isdecimal() and len(value) < 16 else value)
    index = found.get("max_feature_idx", "")
    if index.isdecimal() and len(index) < 16:
        into.note("features", int(index) + 1)


def read_json(source: Bounded, into: Description) -> None:
    """Describe a model in JSON, as `dump_model` makes it; of a large one only the beginning."""
    into.note("layout", "json")
    head = source.upto(0, 64 * 2**10)
    for key, name in (("version", "format_version"), ("objective", "objective")):
        text = re.search(rb'"%s"\s*:\s*"([^"]{1,100})"' % key.encode(), head)
        into.note(name, decoded(text[1]) if text else None)
    for key, name, more in (("num_class", "classes", 0), ("max_feature_idx", "features", 1)):
        number = re.search(rb'"%s"\s*:\s*(\d{1,15})' % key.encode(), head)
        into.note(name, int(number[1]) + more if number else None)
    if source.size <= _MOST_JSON and as_object(source.read(0, source.size)) is None:
        into.break_off("it is cut off: it is no whole JSON object")
