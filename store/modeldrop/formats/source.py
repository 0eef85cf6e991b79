"""Where a reader's bytes come from, and the bounds that it can't get past.

Whatever a file says of itself, its reader gets no more bytes, at once and in all, and no more time
than its `Meter` has. Every read and every turn of a loop goes through it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, Protocol, Self

from modeldrop.formats.description import DamagedError, TooMuchError
from modeldrop.structs import Frozen

_AT_ONCE: Final = 16 * 2**20
# How many turns of a loop go by between two looks at the clock.
_TURNS: Final = 256


class RandomAccess(Protocol):
    """A file that can be read anywhere."""

    @property
    def name(self) -> str:
        """Its path, with `/`, as far as that says what it is."""
        ...

    @property
    def size(self) -> int:
        """How many bytes it has."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, fewer only at the end of the file."""
        ...


class OpenFile(Frozen):
    """A file by its descriptor, whose own position is left alone."""

    fd: int
    name: str
    size: int
    start: int = 0
    """Where its bytes begin in the descriptor, if other bytes come before them."""

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, fewer only at the end of the file."""
        # What comes after the file in the descriptor isn't of it.
        count = max(0, min(count, self.size - offset))
        offset += self.start
        parts: list[bytes] = []
        while count and (part := os.pread(self.fd, count, offset)):
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class InMemory(Frozen):
    """A file whose bytes are at hand."""

    data: bytes
    name: str

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data)

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` on, fewer only at the end of the file."""
        return self.data[offset : offset + count]


class _Slice(Frozen):
    whole: RandomAccess
    start: int
    size: int
    name: str

    def read(self, offset: int, count: int) -> bytes:
        return self.whole.read(self.start + offset, max(0, min(count, self.size - offset)))


class Limits(Frozen):
    """How much one look at a file may take."""

    seconds: float
    most_bytes: int
    block: int
    """How many bytes are read at least, where a few are asked for: what a read costs anyway."""
    clock: Callable[[], float] = time.thread_time
    """Of this thread's work, so that a busy machine takes nothing from what is known of a file."""


STORING: Final = Limits(1.0, 64 * 2**20, 16 * 2**10)
"""While others wait for the file to be stored."""
ASKED: Final = Limits(30.0, 512 * 2**20, 64 * 2**10)
"""While the one who asked waits."""


class Meter:
    """What is left of the limits of one look, for all that it looks at."""

    def __init__(self, limits: Limits) -> None:
        """Begin to count now."""
        self.block = limits.block
        self._clock = limits.clock
        self._limits = limits
        self._ends = limits.clock() + limits.seconds
        self._left = limits.most_bytes
        self._turns = 0

    def charge(self, count: int) -> None:
        """Count bytes that are about to be read or unpacked.

        Raises:
            TooMuchError: they are too many, or the time is over.
        """
        self._left -= count
        if count > _AT_ONCE or self._left < 0:
            message = f"its header takes more than {self._limits.most_bytes >> 20} MiB to read"
            if count > _AT_ONCE:
                message = f"a part of its header is larger than {_AT_ONCE >> 20} MiB"
            raise TooMuchError(message)
        self.check()

    def tick(self) -> None:
        """Count a turn of a loop.

        Raises:
            TooMuchError: the time is over.
        """
        self._turns += 1
        if self._turns % _TURNS == 0:
            self.check()

    def check(self) -> None:
        """Look at the clock.

        Raises:
            TooMuchError: the time is over.
        """
        if self._clock() > self._ends:
            message = "there was no more time to read it"
            raise TooMuchError(message)


class Bounded:
    """A source as readers get it: exact, metered, and quick at small reads that go forward."""

    def __init__(self, source: RandomAccess, meter: Meter, head: bytes = b"") -> None:
        """Read `source`; `head` is its beginning, if that was read already."""
        self._source = source
        self._block = head
        self._start = 0
        self.meter = meter
        self.name = source.name
        self.size = source.size
        self.tick = meter.tick

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes from `offset` on.

        Raises:
            DamagedError: the file ends before that.
            TooMuchError: that is too much.
        """
        data = self._get(offset, count)
        if len(data) < count:
            message = f"it is cut off: byte {offset + count} is needed"
            raise DamagedError(message)
        return data

    def upto(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on, fewer where the file ends."""
        return self._get(offset, max(0, min(count, self.size - offset)))

    def _get(self, offset: int, count: int) -> bytes:
        start = offset - self._start
        if start >= 0 and start + count <= len(self._block):
            return self._block[start : start + count]
        if offset < 0 or count < 0 or offset + count > self.size:
            message = f"it is cut off: byte {offset + count} is needed, and it has {self.size}"
            raise DamagedError(message)
        length = max(count, min(self.meter.block, self.size - offset))
        self.meter.charge(length)
        data = self._source.read(offset, length)
        if count <= self.meter.block:
            self._start, self._block = offset, data
        return data if len(data) <= count else data[:count]

    def window(self, start: int, size: int, name: str) -> Self:
        """Return a part of the file as if it were one.

        Raises:
            DamagedError: the file ends before that.
        """
        if start < 0 or size < 0 or start + size > self.size:
            message = f"it is cut off: {name} ends at byte {start + size}, and it has {self.size}"
            raise DamagedError(message)
        return type(self)(_Slice(self._source, start, size, name), self.meter)

    def beside(self, source: RandomAccess) -> Self:
        """Return another source under the same meter."""
        return type(self)(source, self.meter)


class Cursor:
    """Reads a bounded source from one place on, forward."""

    def __init__(self, source: Bounded, at: int = 0, end: int | None = None) -> None:
        """Begin at `at`; nothing from `end` on is read."""
        self.source = source
        self.at = at
        self.end = source.size if end is None else end

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            DamagedError: there are fewer.
        """
        self.check(count)
        data = self.source.read(self.at, count)
        self.at += count
        return data

    def skip(self, count: int) -> None:
        """Pass over the next bytes, without reading them.

        Raises:
            DamagedError: there are fewer.
        """
        self.check(count)
        self.at += count

    def check(self, count: int) -> None:
        """Make sure that so many bytes follow.

        Raises:
            DamagedError: there are fewer.
        """
        if count < 0 or self.at + count > self.end:
            message = f"it is cut off: {count} bytes are said to follow byte {self.at}"
            message += f", and {max(0, self.end - self.at)} do"
            raise DamagedError(message)

    def number(self, count: int, order: str = "little", *, signed: bool = False) -> int:
        """Return the next bytes as a whole number; `order` is `little` or `big`.

        Raises:
            DamagedError: there are fewer.
        """
        big = order == "big"
        return int.from_bytes(self.take(count), "big" if big else "little", signed=signed)
