r"""One line of the journal: its format, its digest, and what an entry may hold.

A line is the UTF-8 JSON object of one entry, keys in the order of `KEYS`, no white space between
tokens, and a newline. JSON escapes every newline within, so a raw one only ever ends a line.
`sha256` is the digest of all bytes of the line before `,"sha256":"`, so a line is exactly

    those bytes ,"sha256":" 64 lower-case hex digits "} newline

and no bit of it can change unseen, framing included. To check the first line of a file by hand:

    head -1 journal.jsonl | sed 's/,"sha256":"[0-9a-f]*"}$//' | tr -d '\n' | sha256sum
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Final

from modeldrop.errors import NewerFormat, UsageError
from modeldrop.form import FORMAT, Fields, now
from modeldrop.names import printable
from modeldrop.records import Head
from modeldrop.structs import Frozen

# What the first line's `prev` says.
NO_LINE: Final = "0" * 64

KEYS: Final = (
    "format",
    "seq",
    "at",
    "home",
    "host",
    "user",
    "kind",
    "about",
    "request",
    "details",
    "prev",
    "sha256",
)
# Those whose values are text and nothing else.
_TEXTS: Final = ("at", "home", "host", "user", "kind", "request", "prev")

_SEAL: Final = b',"sha256":"'
_END: Final = b'"}\n'
_DIGEST: Final = slice(-len(_END) - 64, -len(_END))
# How many bytes at the end of every line are the seal; no line is as short as that.
SEAL_SIZE: Final = len(_SEAL) + 64 + len(_END)

# Made once: to make one takes as long as to use it.
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# Deeper than anything that is written here, and far from where a parser gives up.
_MOST_DEPTH: Final = 64


class NotALine(ValueError):
    """These bytes are no whole, undamaged line; the message says why."""


class NewEntry(Frozen):
    """What a caller puts down; the journal adds number, time, place and digests."""

    kind: str
    about: tuple[str, ...]  # references: run:<guid>~<revision>, <experiment>/<version> …
    request: str  # the id of the request that this entry acknowledges
    details: Fields
    user: str


class Entry(Frozen):
    """One line of the journal, and where it stands: bytes `start` to `end` of the file."""

    seq: int
    at: str
    home: str
    host: str
    user: str
    kind: str
    about: tuple[str, ...]
    request: str
    details: Fields
    prev: str
    sha256: str
    start: int
    end: int

    def as_json(self) -> Fields:
        """Return the object that the line holds, key for key."""
        return {
            "format": FORMAT,
            "seq": self.seq,
            "at": self.at,
            "home": self.home,
            "host": self.host,
            "user": self.user,
            "kind": self.kind,
            "about": list(self.about),
            "request": self.request,
            "details": self.details,
            "prev": self.prev,
            "sha256": self.sha256,
        }


def write(new: NewEntry, *, after: Head, home: str, host: str) -> bytes:
    """Return the line of a new entry that comes after the one that HEAD names.

    Raises:
        UsageError: it holds what JSON or UTF-8 can't, or a float, whose spelling isn't fixed.
    """
    whole: Fields = {
        "format": FORMAT,
        "seq": after.seq + 1,
        "at": now(),
        "home": home,
        "host": host,
        "user": new.user,
        "kind": new.kind,
        "about": list(new.about),
        "request": new.request,
        "details": new.details,
        "prev": after.sha256,
    }
    if not _has_types(whole):
        raise _refused("a field of another type than NewEntry's")
    for flaw in _flaws(whole, "entry", 0):
        raise _refused(flaw)
    try:
        body = _encode(whole)[:-1].encode("utf-8")
    except UnicodeEncodeError as error:
        text = printable(error.object[error.start : error.end])
        raise _refused(f"'{text}', which is no UTF-8") from error
    except ValueError as error:  # an integer of more digits than Python writes
        raise _refused(f"what is no JSON: {error}") from error
    return b"".join((body, _SEAL, hashlib.sha256(body).hexdigest().encode("ascii"), _END))


def parse(line: bytes, start: int) -> Entry:
    """Return the entry of a line that begins at byte `start` of its file.

    The caller checks its number and its `prev` against the line before.

    Raises:
        NotALine: it isn't what was written.
        NewerFormat: it is whole, and of a later format than this modeldrop reads.
    """
    digest = seal_of(line)
    if hashlib.sha256(line[:-SEAL_SIZE]).hexdigest() != digest:
        raise NotALine("the line doesn't have the digest that it carries")
    try:
        found = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotALine("the line is no JSON") from error
    # From here on the bytes are what some modeldrop wrote, or somebody took pains.
    if not isinstance(found, dict):
        raise NotALine("the line is no JSON object")
    number = found.get("format")
    if type(number) is int and number > FORMAT:
        message = f"the journal has a line of format {number}; this modeldrop reads up to {FORMAT}"
        raise NewerFormat(message, hint=f"use a modeldrop that knows format {number}")
    if type(number) is not int or number != FORMAT or tuple(found) != KEYS or not _has_types(found):
        raise NotALine(f"the line is no entry of format {FORMAT}")
    return Entry(
        found["seq"],
        found["at"],
        found["home"],
        found["host"],
        found["user"],
        found["kind"],
        tuple(found["about"]),
        found["request"],
        found["details"],
        found["prev"],
        digest,
        start,
        start + len(line),
    )


def seal_of(tail: bytes) -> str:
    """Return the digest that a line carries, from its last bytes, unchecked.

    Raises:
        NotALine: they don't end as a line does.
    """
    if not tail.endswith(_END) or tail[-SEAL_SIZE : -SEAL_SIZE + len(_SEAL)] != _SEAL:
        raise NotALine("no whole line ends here" if tail else "there is no line")
    return tail[_DIGEST].decode("latin-1")


def _has_types(found: Fields) -> bool:
    about = found["about"]
    return (
        all(isinstance(found[key], str) for key in _TEXTS)
        and type(found["seq"]) is int
        and isinstance(found["details"], dict)
        and isinstance(about, list)
        and all(isinstance(item, str) for item in about)
    )


def _flaws(value: object, where: str, depth: int) -> Iterator[str]:
    """Yield what in this value wouldn't read back as it was written."""
    if depth > _MOST_DEPTH:
        yield f"more than {_MOST_DEPTH} levels of lists and objects"
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _flaws(item, key, depth + 1)
            else:
                yield f"the key {key!r}, which is no text, in {where!r}"
    elif isinstance(value, list):
        for item in value:
            yield from _flaws(item, where, depth + 1)
    elif not (value is None or isinstance(value, str | int)):
        yield f"a {type(value).__name__} in {where!r}"


def _refused(what: str) -> UsageError:
    return UsageError(
        f"the journal can't hold {what}; nothing was written",
        hint="use text that is valid UTF-8, integers, true, false, null, lists and objects",
    )
