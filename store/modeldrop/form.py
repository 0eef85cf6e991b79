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
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any, ClassVar, Final, Self, get_args

from modeldrop.errors import NewerFormat, RecordDamaged, UsageError
from modeldrop.names import printable
from modeldrop.structs import Frozen

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


class Part(Frozen):
    """A struct that is JSON: out by `as_json`, in by `from_json`.

    The annotations of its fields say how, and it inherits none. They are those of `_TYPES`; parts,
    one or a tuple of them; tuples of texts; and maps from names to text, integers or booleans. A
    field that has a default is left out of the JSON where it is empty, so that a record without it
    is, byte for byte, what it was before it was thought of.
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
            elif how.required or name in found:
                values[name] = how.read(value, name, where)
        return cls(**values)

    def as_json(self) -> Fields:
        """Return the part's fields as JSON."""
        made: Fields = {}
        for name, _, how in _fields_of(type(self)):
            value = getattr(self, name)
            if how is None:
                made[name] = value
            elif value or how.required:
                made[name] = how.write(value)
        return made


class _How(Frozen):
    """How a field of a part is read from JSON and written as such."""

    read: Callable[[object, str, str], object]
    write: Callable[[Any], Json]
    required: bool
    part: type[Part] | None = None


# Of each field its name, and either the types that it may have or how it is read and written.
# Asked of every record, and found out once, when the first of its kind is read or written.
_Fields = tuple[tuple[str, tuple[type, ...], _How | None], ...]
_fields: Final[dict[type[Part], _Fields]] = {}


def _fields_of(part: type[Part]) -> _Fields:
    found = _fields.get(part)
    if found is None:
        names, defaults = part.__struct_fields__, part.__struct_defaults__
        required = len(names) - len(defaults)
        found = _fields[part] = tuple(
            _field_of(part, name, required=number < required) for number, name in enumerate(names)
        )
    return found


def _field_of(
    part: type[Part], name: str, *, required: bool
) -> tuple[str, tuple[type, ...], _How | None]:
    spelled = part.__annotations__[name]
    if required and spelled in _TYPES:
        return name, _TYPES[spelled], None
    known = vars(sys.modules[part.__module__])
    if spelled in _TYPES:
        # What is left out where it is None is never written as null.
        types = tuple(each for each in _TYPES[spelled] if each is not type(None))
        return name, (), _How(_reader_of(types), _as_it_is, required)
    if spelled == "tuple[str, ...]":
        return name, (), _How(_read_texts, list, required)
    if found := _MAP.fullmatch(spelled):
        types = _types_of(found[1], known)
        return name, (), _How(_reader_of_map(types), dict, required)
    if found := _PARTS.fullmatch(spelled):
        each = known[found[1]]
        return name, (), _How(_reader_of_parts(each), _write_parts, required, each)
    each = known[spelled.removesuffix(" | None")]
    return name, (), _How(_reader_of_part(each), each.as_json, required, each)


# By how the annotation is spelled: exact types, since a bool is an int to isinstance.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
    "bool | None": (bool, type(None)),
}
_MAP: Final = re.compile(r"Mapping\[str, ([\w |]+)\]")
_PARTS: Final = re.compile(r"tuple\[(\w+), \.\.\.\]")


def _types_of(spelled: str, known: Mapping[str, Any]) -> tuple[type, ...]:
    """Return the types that a union is of; it may have a name in the module."""
    if spelled in known:
        return get_args(known[spelled])
    return tuple(_TYPES[each][0] for each in spelled.split(" | "))


def _reader_of(types: tuple[type, ...]) -> Callable[[object, str, str], object]:
    def read(value: object, name: str, where: str) -> object:
        if type(value) not in types:
            raise damaged(where, f"its field {name!r} is of another type")
        return value

    return read


def _as_it_is(value: Json) -> Json:
    return value


def _reader_of_part(part: type[Part]) -> Callable[[object, str, str], Part]:
    def read(value: object, name: str, where: str) -> Part:
        if not isinstance(value, dict):
            raise damaged(where, f"its field {name!r} is no object")
        return part.from_json(value, where)

    return read


def _reader_of_map(types: tuple[type, ...]) -> Callable[[object, str, str], dict[str, object]]:
    def read(value: object, name: str, where: str) -> dict[str, object]:
        if not isinstance(value, dict) or any(type(each) not in types for each in value.values()):
            raise damaged(where, f"its field {name!r} is no object of such values")
        return value

    return read


def _reader_of_parts(part: type[Part]) -> Callable[[object, str, str], tuple[Part, ...]]:
    def read(value: object, name: str, where: str) -> tuple[Part, ...]:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise damaged(where, f"its field {name!r} is no list of objects")
        return tuple(part.from_json(each, where) for each in value)

    return read


def _write_parts(value: tuple[Part, ...]) -> Json:
    return [each.as_json() for each in value]


def _read_texts(value: object, name: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise damaged(where, f"its field {name!r} is no list of texts")
    return tuple(value)


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
