"""Protocol Buffers on the wire: the fields of a message, one after the other.

What no one asks for is passed over by its length and never read, so a file of gigabytes takes a few
reads. Messages are walked by whoever knows their fields: <https://protobuf.dev/programming-guides/
encoding/> says how they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modeldrop.formats.description import DamagedError
from modeldrop.formats.source import Bounded, Cursor
from modeldrop.formats.texts import decoded
from modeldrop.structs import Frozen

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

_MOST_VARINT: Final = 10
_MOST_TEXT: Final = 64 * 2**10


class Field(Frozen):
    """A field of a message: a number, or a place in the file."""

    number: int
    wire: int
    value: int
    source: Bounded
    start: int
    end: int

    def message(self) -> Iterator[Field]:
        """Yield the fields of the message that this field is; nothing if it is none."""
        return fields(self.source, self.start, self.end)

    def text(self) -> str:
        """Return the text that this field is."""
        return decoded(self.bytes())

    def bytes(self) -> bytes:
        """Return the bytes that this field is; of very many only the beginning."""
        return self.source.read(self.start, min(self.end - self.start, _MOST_TEXT))

    def numbers(self) -> Iterator[int]:
        """Yield the number that this field is, or the numbers that are packed into it."""
        if self.wire != LENGTH:
            yield self.value
            return
        cursor = Cursor(self.source, self.start, self.end)
        while cursor.at < cursor.end:
            self.source.tick()
            yield varint(cursor)


def fields(source: Bounded, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message from `start` to before `end`.

    Raises:
        DamagedError: no message is written like that.
    """
    cursor = Cursor(source, start, end)
    while cursor.at < end:
        source.tick()
        tag = varint(cursor)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            message = f"there is no field at byte {cursor.at}"
            raise DamagedError(message)
        if wire == VARINT:
            yield Field(number, wire, varint(cursor), source, 0, 0)
        elif wire == LENGTH:
            length = varint(cursor)
            at = cursor.at
            cursor.skip(length)
            yield Field(number, wire, 0, source, at, at + length)
        elif wire in (FIXED32, FIXED64):
            yield Field(number, wire, cursor.number(4 if wire == FIXED32 else 8), source, 0, 0)
        else:
            message = f"there is no field at byte {cursor.at}"
            raise DamagedError(message)


def varint(cursor: Cursor) -> int:
    """Return the number that is written next.

    Raises:
        DamagedError: none is.
    """
    data = cursor.source.upto(cursor.at, min(_MOST_VARINT, cursor.end - cursor.at))
    value = shift = 0
    for count, byte in enumerate(data, 1):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            cursor.at += count
            return value
        shift += 7
    message = f"there is no number at byte {cursor.at}"
    raise DamagedError(message)


def signed(value: int) -> int:
    """Return a number as an `int64` field means it."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
