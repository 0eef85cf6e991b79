"""The form of every record: one JSON object, as bytes and back, sealed with its own digest.

A record is one JSON object with `format`, `kind`, its own fields, and `record_sha256`, the digest
of its canonical form: the object without `record_sha256`, keys sorted, no white space, UTF-8. So

    jq -cjS 'del(.record_sha256)' FILE | sha256sum

gives it again. Records hold text, integers, booleans, null, lists and objects, never floats,
whose spelling differs between languages. Which records there are is what `records` says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field, fields
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any, ClassVar, Final, Self

from modeldrop.errors import NewerFormat, RecordDamaged, UsageError
from modeldrop.names import printable

FORMAT: Final = 1
# The first modeldrop that reads and writes FORMAT; format.json says it to those that can't.
NEEDS: Final = "modeldrop 0.1.0"

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]
Fields = dict[str, Json]


def now() -> str:
    """Return the present time in UTC, RFC 3339 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(fields: Mapping[str, Json]) -> bytes:
    """Return the canonical form that `record_sha256` is the digest of."""
    bare = {key: value for key, value in fields.items() if key != "record_sha256"}
    return _dump(bare, indent=None)


def seal(kind: str, fields: Mapping[str, Json], *, indent: int | None = 2) -> bytes:
    """Return a record as it is stored: two-space JSON with format, kind and digest.

    With no `indent`, as one line: for what no person reads, which is written much faster.

    Raises:
        UsageError: a text in it can't be written as UTF-8.
    """
    whole: Fields = {"format": FORMAT, "kind": kind, **fields}
    whole["record_sha256"] = hashlib.sha256(canonical(whole)).hexdigest()
    return _dump(whole, indent=indent) + b"\n"


# Made once: to make one takes as long as to use it.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
).encode


def _indented(value: Json, newline: str = "\n") -> str:
    """Return what `json.dumps(value, indent=2)` does, in a third of its time.

    The library indents in Python, token by token; here it is only asked how a value is written.
    """
    inner = newline + "  "
    if isinstance(value, dict) and value:
        each = [
            # Most values are text: that is seen here, and not by one more call for each.
            f"{encode_basestring(key)}: {encode_basestring(item)}"
            if isinstance(item := value[key], str)
            else f"{encode_basestring(key)}: {_indented(item, inner)}"
            for key in sorted(value)
        ]
        return f"{{{inner}{(',' + inner).join(each)}{newline}}}"
    if isinstance(value, list) and value:
        return f"[{inner}{(',' + inner).join([_indented(item, inner) for item in value])}{newline}]"
    return str(value) if type(value) is int else _encode(value)


def _dump(fields: Fields, indent: int | None) -> bytes:
    text = _encode(fields) if indent is None else _indented(fields)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = f"{printable(text[error.start : error.end])!r} can't be written as UTF-8"
        raise UsageError(message, hint="use text that is valid UTF-8") from error


def unseal(data: bytes, kind: str, where: str) -> Mapping[str, object]:
    """Return the fields of a stored record after checking its digest, format and kind.

    Raises:
        RecordDamaged: it isn't what was written.
        NewerFormat: it is whole, and of a later format than this modeldrop reads.
    """
    found = _checked(data, where)
    if found.get("kind") != kind:
        raise damaged(where, f"it is no record of kind {kind!r}")
    return found


def _checked(data: bytes, where: str) -> Mapping[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(where, "it is no JSON" if data.strip() else "it is empty") from error
    if not isinstance(found, dict):
        raise damaged(where, "it is no JSON object")
    try:
        digest = hashlib.sha256(canonical(found)).hexdigest()
    except (UsageError, ValueError, RecursionError) as error:
        raise damaged(where, "it has no canonical form") from error
    # The digest comes first: every later format keeps it, and a flipped bit in the
    # number of the format is damage, not news.
    if found.get("record_sha256") != digest:
        raise damaged(where, "its content doesn't have the digest that it carries")
    number = found.get("format")
    if type(number) is int and number > FORMAT:
        needs = found.get("needs", f"a modeldrop that knows format {number}")
        message = f"{where} is of format {number}; this modeldrop reads up to {FORMAT}"
        raise NewerFormat(message, hint=f"use {needs} or later")
    if type(number) is not int or number != FORMAT:  # true and 1.0 equal 1
        raise damaged(where, f"{number!r} is no format")
    return found


def owner_of(data: bytes, where: str) -> str:
    """Return whose record of a sequence this is.

    Raises:
        RecordDamaged: it isn't what was written.
    """
    owner = _checked(data, where).get("owner")
    if not isinstance(owner, str):
        raise damaged(where, "its field 'owner' is missing or of another type")
    return owner


def damaged(where: str, why: str) -> RecordDamaged:
    """Return the error that says what is wrong with the record at `where`."""
    return RecordDamaged(
        f"{where} is damaged: {why}",
        hint="`modeldrop verify` names everything that is damaged",
        detail={"where": where},
    )


def moment(at: str, where: str) -> datetime:
    """Return the time that a record names.

    Raises:
        RecordDamaged: it is none, or of no time zone; whoever wrote the record is none of us.
    """
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise damaged(where, f"{printable(at)!r} is no time")
    return found


class Part:
    """A dataclass that is JSON: out by `as_json`, in by `from_json`.

    The types its fields may have are those of `_TYPES`, and what the functions below make: parts,
    tuples of them, and maps. Those that end in `_if_any` make fields that are left out of the JSON
    where there is nothing to say, so that a record without them is, byte for byte, what it was
    before they were thought of.
    """

    @classmethod
    def from_json(cls, found: Mapping[str, object], where: str) -> Self:
        """Return the part that these fields describe.

        Raises:
            RecordDamaged: a field is missing or of another type.
        """
        values: dict[str, Any] = {}
        for name, types, how in _fields_of(cls):
            value = found.get(name)
            if how is None:
                if type(value) not in types:
                    raise damaged(where, f"its field {name!r} is missing or of another type")
                values[name] = value
            elif name in found or "if_any" not in how:
                values[name] = how["read"](value, name, where)
        return cls(**values)

    def as_json(self) -> Fields:
        """Return the part's fields as JSON."""
        made: Fields = {}
        for name, _, how in _fields_of(type(self)):
            value = getattr(self, name)
            if how is None:
                made[name] = value
            elif value or "if_any" not in how:
                made[name] = how["write"](value)
        return made


# Of each field its name, and either the types that it may have or how it is read and written.
# Asked of every record; the library puts them together anew each time.
_Fields = tuple[tuple[str, tuple[type, ...], Mapping[str, Any] | None], ...]
_fields: Final[dict[type[Part], _Fields]] = {}


def _fields_of(part: type[Part]) -> _Fields:
    found = _fields.get(part)
    if found is None:
        found = _fields[part] = tuple(
            (each.name, (), each.metadata)
            if each.metadata
            else (each.name, _TYPES[str(each.type)], None)
            for each in fields(part)  # type: ignore[arg-type] # each is a dataclass
        )
    return found


# By how the annotation is spelled: exact types, since a bool is an int to isinstance.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "bool | None": (bool, type(None)),
}


def parts_of(part: type[Part]) -> Any:  # noqa: ANN401 - what dataclasses.field returns, too
    """Return the dataclass field of a tuple of parts."""
    return field(metadata=_of_parts(part))


def parts_if_any(part: type[Part]) -> Any:  # noqa: ANN401 - what dataclasses.field returns, too
    """Return the dataclass field of a tuple of parts that may be empty, and is left out then."""
    return field(default=(), metadata={**_of_parts(part), "if_any": True})


def part_if_any(part: type[Part], nothing: Part | None = None) -> Any:  # noqa: ANN401 - as above
    """Return the dataclass field of one part; `nothing` stands for one that says nothing."""

    def read(value: object, name: str, where: str) -> Part:
        if not isinstance(value, dict):
            raise damaged(where, f"its field {name!r} is no object")
        return part.from_json(value, where)

    how = {"part": part, "read": read, "write": part.as_json, "if_any": True}
    return field(default=nothing, metadata=how)


def map_if_any(*types: type) -> Any:  # noqa: ANN401 - as above
    """Return the dataclass field of values of these types by their names."""

    def read(value: object, name: str, where: str) -> dict[str, object]:
        if not isinstance(value, dict) or any(type(each) not in types for each in value.values()):
            raise damaged(where, f"its field {name!r} is no object of such values")
        return value

    how = {"read": read, "write": dict, "if_any": True}
    return field(default_factory=dict, hash=False, metadata=how)


def text_if_any() -> Any:  # noqa: ANN401 - as above
    """Return the dataclass field of a text, or None."""

    def read(value: object, name: str, where: str) -> str:
        if not isinstance(value, str):
            raise damaged(where, f"its field {name!r} is no text")
        return value

    return field(default=None, metadata={"read": read, "write": str, "if_any": True})


def _of_parts(part: type[Part]) -> dict[str, object]:
    def read(value: object, name: str, where: str) -> tuple[Part, ...]:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise damaged(where, f"its field {name!r} is no list of objects")
        return tuple(part.from_json(each, where) for each in value)

    def write(value: tuple[Part, ...]) -> list[Fields]:
        return [each.as_json() for each in value]

    return {"part": part, "read": read, "write": write}


def texts() -> Any:  # noqa: ANN401 - as above
    """Return the dataclass field of a tuple of texts."""

    def read(value: object, name: str, where: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise damaged(where, f"its field {name!r} is no list of texts")
        return tuple(value)

    return field(metadata={"read": read, "write": list})


def map_of(*types: type) -> Any:  # noqa: ANN401 - as above
    """Return the dataclass field of values of these types by their names, which may be empty."""
    how = {key: value for key, value in map_if_any(*types).metadata.items() if key != "if_any"}
    return field(hash=False, metadata=how)


class Record(Part):
    """A part that is stored by itself, sealed with its kind, the format and its digest."""

    kind: ClassVar[str]
    indent: ClassVar[int | None] = 2

    def to_bytes(self) -> bytes:
        """Return the record as it is stored."""
        return seal(self.kind, self.as_json(), indent=self.indent)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Return the record that these bytes hold; `where` names it in errors.

        Raises:
            RecordDamaged: it isn't what was written.
            NewerFormat: it is of a later format.
        """
        return cls.from_json(unseal(data, cls.kind, where), where)
