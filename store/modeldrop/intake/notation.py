"""TOML, YAML and JSON that somebody dropped, read without trust: bounded, and nothing made of it.

What comes out is made of dicts with texts as names, lists, texts, numbers, booleans and None, and
of dates where TOML has some. A name that is there twice is refused in all three, since which of the
two was meant nobody knows. YAML is read by its events: there are no anchors, no tags and so no
objects, and a bare word is what YAML 1.2 takes it for, so `no` is a text.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from modeldrop.statements import MOST_DEPTH, scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES: Final = 1 << 18
# Python's reader of TOML takes time by the square of the dots in a key, times those of its table.
_MOST_DOTS: Final = 2_000_000
# Values of one YAML file: each costs a moment and some hundred bytes.
_MOST_VALUES: Final = 50_000
_TOO_DEEP: Final = f"it is nested over {MOST_DEPTH} deep"


class NotUnderstood(ValueError):
    """What was dropped can't be read; the text says why: `it is no valid TOML`."""


def read(name: str, data: bytes) -> dict[str, Any]:
    """Return what a file says, by the ending of its name.

    Raises:
        NotUnderstood: it is damaged, or is more than is to be read.
    """
    if len(data) > MOST_BYTES:
        message = f"it is larger than {MOST_BYTES >> 10} KiB"
        raise NotUnderstood(message)
    kind, parse = _KINDS[name.rpartition(".")[2]]
    try:
        found = parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        message = "it is not UTF-8"
        raise NotUnderstood(message) from None
    except NotUnderstood:
        raise
    except (ValueError, RecursionError):
        message = f"it is no valid {kind}"
        raise NotUnderstood(message) from None
    if not isinstance(found, dict):
        message = f"it is no {kind} object"
        raise NotUnderstood(message)
    _check_depth(found)
    return found


def _toml(text: str) -> object:
    header = dots = 0
    for line in text.split("\n"):
        here = line.count(".")
        if line.lstrip().startswith("["):
            header = max(header, here)
        dots += (header + here) * here + header
    if dots > _MOST_DOTS:
        message = "it has lines with more dots than can be read in good time"
        raise NotUnderstood(message)
    return tomllib.loads(text)


def _json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        message = "it has a name twice in one place"
        raise NotUnderstood(message)
    return found


def _yaml(text: str) -> object:
    import yaml  # noqa: PLC0415 - only for who writes YAML

    # The one in C, unless this Python's PyYAML was built without it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _composed(yaml.parse(text, Loader=loader), yaml)
    except yaml.YAMLError:
        message = "it is no valid YAML"
        raise NotUnderstood(message) from None


def _composed(events: Iterator[Any], yaml: Any) -> object:  # noqa: ANN401 - PyYAML has no types
    """Return the one document that the events tell of; one without anything is an empty table."""
    # Each is what is being filled, and for a table the name whose value comes next.
    open_: list[tuple[dict[str, Any] | list[Any], list[str]]] = []
    documents: list[object] = []
    values = 0
    for event in events:
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done, _ = open_.pop()
            _put(done, open_, documents)
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        _refuse_more_than_values(event)
        values += 1
        if values > _MOST_VALUES:
            message = f"it has more than {_MOST_VALUES} values"
            raise NotUnderstood(message)
        if len(open_) >= MOST_DEPTH:
            raise NotUnderstood(_TOO_DEEP)
        if isinstance(event, yaml.MappingStartEvent):
            open_.append(({}, []))
        elif isinstance(event, yaml.SequenceStartEvent):
            open_.append(([], []))
        elif open_ and isinstance(open_[-1][0], dict) and not open_[-1][1]:
            open_[-1][1].append(event.value)
        else:
            bare = event.implicit[0] and not event.style
            _put(scalar(event.value) if bare else event.value, open_, documents)
    if len(documents) > 1:
        message = "it has more than one document"
        raise NotUnderstood(message)
    return documents[0] if documents and documents[0] is not None else {}


def _refuse_more_than_values(event: Any) -> None:  # noqa: ANN401 - PyYAML has no types
    # An alias is a node that has nothing but an anchor.
    if event.anchor:
        message = "it has an anchor or an alias, which are not read here"
        raise NotUnderstood(message)
    if event.tag not in (None, "!"):
        message = "it has a tag, which is not read here"
        raise NotUnderstood(message)


def _put(
    value: object,
    open_: list[tuple[dict[str, Any] | list[Any], list[str]]],
    documents: list[object],
) -> None:
    if not open_:
        documents.append(value)
        return
    into, names = open_[-1]
    if isinstance(into, list):
        into.append(value)
        return
    if not names:
        message = "a name in it is no text"
        raise NotUnderstood(message)
    name = names.pop()
    if name in into:
        message = "it has a name twice in one place"
        raise NotUnderstood(message)
    into[name] = value


def _check_depth(found: dict[str, Any]) -> None:
    waiting: list[tuple[int, Any]] = [(1, found)]
    while waiting:
        depth, value = waiting.pop()
        if depth > MOST_DEPTH:
            raise NotUnderstood(_TOO_DEEP)
        inner = value.values() if isinstance(value, dict) else value
        waiting += [(depth + 1, each) for each in inner if isinstance(each, dict | list)]


_KINDS: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "toml": ("TOML", _toml),
    "json": ("JSON", _json),
    "yaml": ("YAML", _yaml),
    "yml": ("YAML", _yaml),
}
