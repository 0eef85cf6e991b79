"""What people and files say of a run, made into metadata: checked, bounded, spelled in one way.

Nothing in here is trusted. What can't be kept is refused by its name, never by its value, which may
be anything; nor is a part of what is wrong kept. docs/format.md says what the bounds are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from typing import Final

from modeldrop.errors import UsageError
from modeldrop.form import canonical
from modeldrop.metadata import Code, Dataset, Environment, Metadata, Value, sorted_by_name
from modeldrop.names import is_sha256, parse_guid, printable

MOST_ENTRIES: Final = 1000
MOST_PACKAGES: Final = 5000
MOST_NAME: Final = 250
MOST_TEXT: Final = 8000
MOST_DEPTH: Final = 20
MOST_BYTES: Final = 1 << 20

# What every reader of JSON keeps as it is; those that have nothing but doubles lose the rest.
_MOST_INTEGER: Final = 2**53 - 1
_MOST_DIGITS: Final = 100
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FRACTION: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# As YAML spells them, and as everybody else does: a bare `Nan` may be a name.
_NO_FRACTION: Final = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NO_NUMBER: Final = re.compile(r"(?i:[-+]?\.?inf|[-+]?infinity|\.?nan)")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Unclear(ValueError):
    """Something that is said can't be kept; the text says which, and why: `metric 'auc' is …`."""


def checked(found: Mapping[str, object]) -> Metadata:
    """Return the metadata that a program or a person gives.

    The keys are those of `run.toml`; others are passed over.

    Raises:
        UsageError: something in it can't be kept.
    """
    try:
        return understood(found)
    except Unclear as error:
        message = f"the {error}"
        raise UsageError(
            message, hint="docs/metadata.md says what a run may say of itself"
        ) from None


def understood(found: Mapping[str, object]) -> Metadata:
    """Return the metadata among what is said; keys that it doesn't know are passed over.

    Raises:
        Unclear: something in it can't be kept.
    """
    said = Metadata(
        params=dict(_params(found)),
        metrics={name: _metric(name, value) for name, value in _flat("metric", found, "metrics")},
        directions=dict(_directions(found)),
        tags=dict(_tags(found)),
        datasets=_datasets(found.get("datasets")),
        parent=_parent(found.get("parent")),
        code=_code(found.get("code")),
        environment=_environment(found.get("environment")),
    )
    # It is part of a manifest, which is read whenever something of the run is.
    if len(canonical(said.as_json())) > MOST_BYTES:
        message = f"metadata take more than {MOST_BYTES >> 20} MiB"
        raise Unclear(message)
    return said


def scalar(text: str) -> Value | float | None:
    """Return what a bare word stands for, as in YAML 1.2: null, true, 6, 0.05, or the text itself.

    What would lose digits is a text: `007`, and what is longer than any number.
    """
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text in {"true", "True", "TRUE"}:
        return True
    if text in {"false", "False", "FALSE"}:
        return False
    if len(text) <= _MOST_DIGITS:
        if _INTEGER.fullmatch(text):
            return int(text)
        is_fraction = _FRACTION.fullmatch(text) and not text.lstrip("+-").isdigit()
        if is_fraction or _NO_FRACTION.fullmatch(text):
            return _double(text)
    return text


def decimal(value: float) -> str:
    """Return the shortest decimal text that reads as this number."""
    return repr(value)


def _double(text: str) -> float:
    return float(text if _FRACTION.fullmatch(text) else text.replace(".", ""))


def _params(found: Mapping[str, object]) -> Iterator[tuple[str, Value]]:
    # Both words are used; the short one is the record's.
    said = [*_flat("parameter", found, "parameters"), *_flat("parameter", found, "params")]
    _bound("parameters", len(said))
    for name, value in said:
        if isinstance(value, bool):
            yield name, value
        elif isinstance(value, int):
            yield name, value if abs(value) <= _MOST_INTEGER else _digits("parameter", name, value)
        else:
            yield name, _text("parameter", name, value)


def _metric(name: str, value: object) -> str:
    if isinstance(value, str) and len(value) <= _MOST_DIGITS:
        if _INTEGER.fullmatch(value):
            value = int(value)
        elif _FRACTION.fullmatch(value) or _NO_NUMBER.fullmatch(value):
            value = _double(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"metric {_shown(name)} is no number"
        raise Unclear(message)
    return decimal(value) if isinstance(value, float) else _digits("metric", name, value)


def _directions(found: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in _flat("direction", found, "directions"):
        if value not in ("min", "max"):
            message = f"direction of {_shown(name)} is neither 'min' nor 'max'"
            raise Unclear(message)
        yield name, str(value)


def _tags(found: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    said = found.get("tags")
    if isinstance(said, list):
        # A list of words, as some trackers have it.
        _bound("tags", len(said))
        for each in said:
            if isinstance(each, list | Mapping):
                message = "list of tags holds something that is no text"
                raise Unclear(message)
            yield _name("tag", _text("tag", "", each)), ""
        return
    for name, value in _flat("tag", found, "tags"):
        yield name, _text("tag", name, value)


def _datasets(said: object) -> tuple[Dataset, ...]:
    pairs: list[tuple[object, object]] = []
    if isinstance(said, Mapping):
        pairs = list(said.items())
    elif isinstance(said, list) and all(isinstance(each, Mapping) for each in said):
        pairs = [(each.get("name"), each.get("sha256")) for each in said]
    elif said is not None:
        message = "data sets are neither a table of digests by name nor a list of such tables"
        raise Unclear(message)
    _bound("data sets", len(pairs))
    named: dict[str, Dataset] = {}
    for name, digest in pairs:
        known = _name("data set", name)
        found = Dataset(known, digest_of(digest) or "")
        if not found.sha256:
            message = f"data set {_shown(known)} has no sha256 of 64 hex digits"
            raise Unclear(message)
        if named.setdefault(known, found) != found:
            message = f"data set {_shown(known)} is there twice, with two digests"
            raise Unclear(message)
    return sorted_by_name(named.values())


def digest_of(said: object) -> str | None:
    """Return the sha256 that a text spells, `sha256:` before it or not; None if it spells none."""
    if not isinstance(said, str):
        return None
    bare = said.lower().removeprefix("sha256:")
    return bare if is_sha256(bare) else None


def _parent(said: object) -> str | None:
    if said is None:
        return None
    guid = parse_guid(said.removeprefix("run:")) if isinstance(said, str) else None
    if guid is None:
        message = "parent is no run's GUID"
        raise Unclear(message)
    return guid


def _code(said: object) -> Code | None:
    if said is None:
        return None
    if not isinstance(said, Mapping):
        message = "code is no table"
        raise Unclear(message)
    commit, dirty, branch = said.get("commit"), said.get("dirty"), said.get("branch")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        message = "code has no commit of 40 or 64 hex digits"
        raise Unclear(message)
    if dirty is not None and not isinstance(dirty, bool):
        message = "code's 'dirty' is neither true nor false"
        raise Unclear(message)
    return Code(commit, dirty, None if branch is None else _text("code's", "branch", branch))


def _environment(said: object) -> Environment | None:
    if said is None:
        return None
    if not isinstance(said, Mapping):
        message = "environment is no table"
        raise Unclear(message)
    texts = {
        name: None if said.get(name) is None else _text("environment's", name, said[name])
        for name in ("host", "user", "python", "platform")
    }
    packages = said.get("packages")
    if packages is not None and not isinstance(packages, Mapping):
        message = "environment's 'packages' is no table of versions by name"
        raise Unclear(message)
    packages = packages or {}
    _bound("packages", len(packages), MOST_PACKAGES)
    versions = {
        _name("package", name): _text("package", str(name), version)
        for name, version in packages.items()
    }
    return Environment(**texts, packages=versions)


def _flat(what: str, found: Mapping[str, object], key: str) -> list[tuple[str, object]]:
    """Return a table's entries by name, those of tables in it with names joined by dots.

    An entry without a value is left out.
    """
    table = found.get(key)
    if table is None:
        return []
    if not isinstance(table, Mapping):
        message = f"{key} are no table"
        raise Unclear(message)
    entries: dict[str, object] = {}
    waiting: list[tuple[str, int, Mapping[object, object]]] = [("", 1, table)]
    while waiting:
        before, depth, inner = waiting.pop()
        if depth > MOST_DEPTH:
            message = f"{key} are nested more than {MOST_DEPTH} deep"
            raise Unclear(message)
        for part, value in inner.items():
            name = _name(what, f"{before}{part}" if isinstance(part, str) else None)
            if isinstance(value, Mapping):
                waiting.append((f"{name}.", depth + 1, value))
            elif name in entries:
                message = f"{what} {_shown(name)} is there twice"
                raise Unclear(message)
            elif value is not None:
                entries[name] = value
                _bound(key, len(entries))
    return list(entries.items())


def _bound(what: str, number: int, most: int = MOST_ENTRIES) -> None:
    if number > most:
        message = f"{what} are more than {most}"
        raise Unclear(message)


def _name(what: str, name: object) -> str:
    """Return a name that may be kept."""
    why = None
    if not isinstance(name, str) or not name.strip():
        why = f"{what} has no name"
    elif len(name) > MOST_NAME:
        why = f"{what} {_shown(name[:40])}… has a name longer than {MOST_NAME} characters"
    elif printable(name) != name:
        why = f"{what} {_shown(name)} has a control character in its name, or is not UTF-8"
    if why is not None:
        raise Unclear(why)
    return str(name)


def _text(what: str, name: str, value: object) -> str:
    """Return the text by which a value is kept."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int):
        text = _digits(what, name, value)
    elif isinstance(value, float):
        text = decimal(value)
    elif isinstance(value, date | time):
        text = value.isoformat()
    elif isinstance(value, list):
        text = _listed(value)
    else:
        text = str(value)
    if len(text) > MOST_TEXT:
        message = f"{what} {_shown(name)} is longer than {MOST_TEXT} characters"
        raise Unclear(message)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        message = f"{what} {_shown(name)} is not UTF-8"
        raise Unclear(message) from None
    return text


def _listed(value: list[object]) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    except (ValueError, TypeError, RecursionError):
        message = "list in it can't be written down"
        raise Unclear(message) from None


def _digits(what: str, name: str, value: int) -> str:
    # Python itself refuses to spell what has more than some thousands of digits.
    if value and math.log2(abs(value)) > 4 * _MOST_DIGITS:
        message = f"{what} {_shown(name)} is too large a number"
        raise Unclear(message)
    return str(value)


def _shown(name: str) -> str:
    return repr(printable(name))
