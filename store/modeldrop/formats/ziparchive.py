"""Zip archives: their table of contents, and single members, within bounds.

Python's own zipfile makes an object of each entry before it can be asked anything, and unpacks
whatever size an entry claims. Here the table is read with a meter, a member that is stored as it is
can be read anywhere, and a packed one is unpacked up to a size that the caller names. A zip in a
zip is a member like any other.
"""

from __future__ import annotations

import zlib
from typing import Final

from modeldrop.formats.description import DamagedError, TooMuchError
from modeldrop.formats.source import Bounded, InMemory
from modeldrop.formats.texts import decoded
from modeldrop.structs import Frozen

_END: Final = b"PK\x05\x06"
_END_SIZE: Final = 22
_MOST_COMMENT: Final = 65_535
_LOCATOR_SIZE: Final = 20
_ENTRY: Final = b"PK\x01\x02"
_ENTRY_SIZE: Final = 46
_LOCAL: Final = b"PK\x03\x04"
_LOCAL_SIZE: Final = 30
_STORED: Final = 0
_DEFLATED: Final = 8
_LARGE: Final = 0xFFFFFFFF
_MOST_TABLE: Final = 16 * 2**20
_MOST_ENTRIES: Final = 100_000
_STEP: Final = 64 * 2**10


class Member(Frozen):
    """An entry of the table of contents."""

    name: str
    method: int
    packed: int
    size: int
    header: int

    @property
    def is_stored(self) -> bool:
        """Whether its bytes are in the archive as they are."""
        return self.method == _STORED


class Archive:
    """The members of an archive, by name; of two with one name, the last."""

    def __init__(self, source: Bounded) -> None:
        """Read the table of contents.

        Raises:
            DamagedError: there is none, or it isn't one.
            TooMuchError: it is too long.
        """
        self._source = source
        self.members: dict[str, Member] = {}
        start, size = _table(source)
        if size > _MOST_TABLE:
            message = f"its table of contents has {size} bytes, and up to {_MOST_TABLE} are read"
            raise TooMuchError(message)
        table = source.read(start, size)
        at = 0
        while table.startswith(_ENTRY, at):
            source.tick()
            if len(self.members) >= _MOST_ENTRIES:
                message = f"it has more than {_MOST_ENTRIES} members"
                raise TooMuchError(message)
            member, at = _entry(table, at)
            self.members[member.name] = member
        if at != size:
            message = "its table of contents is damaged"
            raise DamagedError(message)

    def open(self, name: str, most: int) -> Bounded:
        """Return a member to read from; a packed one is unpacked, up to `most` bytes of it.

        Raises:
            DamagedError: it isn't there, or isn't what the table says.
        """
        member = self.members.get(name)
        if member is None:
            message = f"it has no {name}"
            raise DamagedError(message)
        start = self._start(member)
        if member.method == _STORED:
            return self._source.window(start, member.size, name)
        if member.method != _DEFLATED:
            message = f"{name} is packed by method {member.method}, which isn't known"
            raise TooMuchError(message)
        packed = self._source.window(start, member.packed, name)
        return self._source.beside(InMemory(_inflate(packed, most), name))

    def check(self, name: str, size: int) -> bool:
        """Return whether a member is there and has at least so many bytes."""
        member = self.members.get(name)
        return member is not None and member.size >= size

    def _start(self, member: Member) -> int:
        header = self._source.read(member.header, _LOCAL_SIZE)
        if not header.startswith(_LOCAL):
            message = f"{member.name} isn't where its table of contents says"
            raise DamagedError(message)
        return member.header + _LOCAL_SIZE + _number(header, 26, 2) + _number(header, 28, 2)


def _table(source: Bounded) -> tuple[int, int]:
    """Return where the table of contents begins, and its size."""
    for length in (_END_SIZE, _END_SIZE + _MOST_COMMENT):
        begins = max(0, source.size - length)
        tail = source.upto(begins, length)
        at = tail.rfind(_END)
        if 0 <= at <= len(tail) - _END_SIZE:
            break
    else:
        message = "it is cut off: it has no table of contents"
        raise DamagedError(message)
    size, start = _number(tail, at + 12, 4), _number(tail, at + 16, 4)
    if _LARGE in (start, size) or _number(tail, at + 10, 2) == 0xFFFF:
        locator = begins + at - _LOCATOR_SIZE
        if locator >= 0 and source.read(locator, 4) == b"PK\x06\x07":
            end = source.read(_number(source.read(locator, _LOCATOR_SIZE), 8, 8), 56)
            size, start = _number(end, 40, 8), _number(end, 48, 8)
    return start, size


def _entry(table: bytes, at: int) -> tuple[Member, int]:
    """Return the member that is described at a place of the table, and where the next one is."""
    if at + _ENTRY_SIZE > len(table):
        message = "its table of contents is cut off"
        raise DamagedError(message)
    packed, size = _number(table, at + 20, 4), _number(table, at + 24, 4)
    length, extra, comment = (_number(table, at + each, 2) for each in (28, 30, 32))
    header = _number(table, at + 42, 4)
    name = decoded(table[at + _ENTRY_SIZE : at + _ENTRY_SIZE + length])
    more = at + _ENTRY_SIZE + length
    numbers = _large_numbers(table[more : more + extra])
    if size == _LARGE and numbers:
        size = numbers.pop(0)
    if packed == _LARGE and numbers:
        packed = numbers.pop(0)
    if header == _LARGE and numbers:
        header = numbers.pop(0)
    return Member(name, _number(table, at + 10, 2), packed, size, header), more + extra + comment


def _large_numbers(extra: bytes) -> list[int]:
    """Return the numbers of an entry that have more than four bytes, in their order."""
    at = 0
    while at + 4 <= len(extra):
        length = _number(extra, at + 2, 2)
        if _number(extra, at, 2) == 1:
            field = extra[at + 4 : at + 4 + length]
            return [_number(field, each, 8) for each in range(0, len(field) - 7, 8)]
        at += 4 + length
    return []


def _inflate(packed: Bounded, most: int) -> bytes:
    """Return what was packed, at most `most` bytes of it."""
    unpacker = zlib.decompressobj(-15)
    parts: list[bytes] = []
    at = count = 0
    try:
        while count < most and not unpacker.eof:
            data = unpacker.unconsumed_tail
            if not data:
                data = packed.upto(at, _STEP)
                at += len(data)
            part = unpacker.decompress(data, min(_STEP, most - count))
            if not data and not part:
                message = f"{packed.name} is cut off"
                raise DamagedError(message)
            packed.meter.charge(len(part))
            parts.append(part)
            count += len(part)
    except zlib.error as error:
        message = f"{packed.name} can't be unpacked"
        raise DamagedError(message) from error
    return b"".join(parts)


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")
