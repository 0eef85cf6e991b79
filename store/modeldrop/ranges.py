"""Reading one large stored file in several places at a time, where that is worth while.

Most stores give each connection a share of what they can, and begin every answer at once. A few
do work on the whole object before they begin, be it for a range. Some of those remember it, and
have it for the next range; the others are asked twice in all.

What is written in several places is hashed in order, from the memory that it was received in: a
range is held until those before it are hashed. A crash leaves a file with holes, under whatever
temporary name the caller gave it, and notes of what is no hole.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Final, Self

from modeldrop import files
from modeldrop.backend.base import Backend, Parting, Ranged, Source

_CHUNK: Final = 512 * 1024
# So large that to ask for it is a small part of its time, and so many may be held, fetched or not
# hashed yet; so many are fetched at a time.
_RANGE: Final = 16 * 2**20
_AHEAD: Final = 6
_FETCHERS: Final = 4
# After so many bytes in one place it is noted that they are there.
_PIECE: Final = 4 * 2**20
# A store that takes longer to begin an answer doesn't only look the object up.
_LONG_WAIT: Final = 0.5

Interval = tuple[int, int]
Note = Callable[[int, int], None]
"""Called, in several threads, with the first byte that was written and the one after the last."""


def begin(backend: Backend, key: str, size: int, start: int) -> tuple[Source, bool] | None:
    """Open a large stored file at `start`; None where it can only be opened as a whole.

    Returns also whether it is to be read in several places at a time, by `save`; otherwise the
    source has all of it.

    Raises:
        BackendError: the backend failed.
    """
    end = min(start - start % _RANGE + _RANGE, size)
    first = backend.part(key, start, end) if isinstance(backend, Parting) else None
    if first is None:
        return None
    with contextlib.ExitStack() as opened:
        opened.enter_context(first)
        if not isinstance(first, Ranged) or first.size != size:
            return None
        if first.waited >= _LONG_WAIT and end < size:
            rest = first.within(end, size)
            if not isinstance(rest, Ranged) or rest.waited >= _LONG_WAIT:
                opened.pop_all()
                return _InTurn(first, rest), False
            # It has done its work. This answer has too many bytes for one of several.
            with rest:
                pass
        opened.pop_all()
        return first, True


class _InTurn:
    """Two sources, of which one begins where the other ends, read as one."""

    def __init__(self, first: Source, second: Source) -> None:
        self._left = [second, first]

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self.read_into(memoryview(data))])

    def read_into(self, view: memoryview) -> int:
        while self._left:
            if count := self._left[-1].read_into(view):
                return count
            self._left.pop().__exit__(None, None, None)
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._left:
            self._left.pop().__exit__(kind, error, trace)


def first_missing(arrived: Sequence[Interval], at: int = 0) -> int:
    """Return the first byte from `at` on that isn't in any of these intervals, which are in order.

    Those that touch each other are one.
    """
    return next((end for start, end in arrived if start <= at < end), at)


def save(
    source: Source,
    size: int,
    fd: int,
    arrived: Sequence[Interval],
    note: Note,
    moved: Callable[[int], None],
    hashed: Callable[[memoryview], object],
) -> None:
    """Write what is missing of a source to an open file; `hashed` is given every byte in order.

    `source` is at the first byte that is missing, and has the rest of its range. Fewer bytes than
    `size` are what the file has then, for the digest to tell. `moved` is called from several
    threads; what it raises ends all of them. It counts what had arrived before, too.
    """
    with ThreadPoolExecutor(_FETCHERS, thread_name_prefix="range") as pool:
        saving = _Saving(source, size, fd, arrived, note, moved, pool)
        try:
            saving.hash_behind(hashed)
        finally:
            saving.stop()


class _Saving:
    def __init__(
        self,
        source: Source,
        size: int,
        fd: int,
        arrived: Sequence[Interval],
        note: Note,
        moved: Callable[[int], None],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._source = source
        self._size = size
        self._fd = fd
        self._arrived = arrived
        self._first = first_missing(arrived)
        self._note = note
        self._moved = moved
        self._pool = pool
        self._stopped = threading.Event()
        self._under_way: dict[int, Future[tuple[memoryview, int]]] = {}
        # New memory for each range costs as much as a copy.
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()

    def hash_behind(self, hashed: Callable[[memoryview], object]) -> None:
        """Hash what others fetch, range by range, and see that some are always at it."""
        starts = range(0, self._size, _RANGE)
        for each in starts[:_AHEAD]:
            self._free.put(memoryview(bytearray(min(_RANGE, self._size))))
            self._ask(each)
        for start in starts:
            buffer, count = self._under_way.pop(start).result()
            hashed(buffer[:count])
            self._free.put(buffer)
            self._ask(start + _AHEAD * _RANGE)

    def stop(self) -> None:
        """Have the others end after the piece that they are at."""
        self._stopped.set()
        for each in self._under_way.values():
            each.cancel()

    def _ask(self, start: int) -> None:
        if start < self._size:
            self._under_way[start] = self._pool.submit(self._fetch, start)

    def _fetch(self, start: int) -> tuple[memoryview, int]:
        """Have a range in the file and in a buffer; return that, and how many bytes of it."""
        buffer = self._free.get_nowait()
        end = min(start + _RANGE, self._size)
        at = min(first_missing(self._arrived, start), end)
        held = _filled(partial(self._read, start), buffer[: at - start])
        self._moved(at - start)
        # Fewer than were noted aren't what was recorded, whatever comes after them.
        if held < at - start or at == end or not isinstance(self._source, Ranged):
            return buffer, held
        part = self._source if at == self._first else self._source.within(at, end)
        with part:
            noted = at
            while not self._stopped.is_set() and at < end:
                view = buffer[at - start : min(at + _CHUNK, end) - start]
                count = _filled(lambda left, _: part.read_into(left), view)
                if not count:
                    break
                files.write_at(self._fd, view[:count], at)
                at += count
                if at - noted >= _PIECE or at == end:
                    self._note(noted, at)
                    noted = at
                self._moved(count)
        return buffer, at - start

    def _read(self, start: int, view: memoryview, held: int) -> int:
        return os.preadv(self._fd, [view], start + held)


def _filled(read: Callable[[memoryview, int], int], view: memoryview) -> int:
    """Fill a buffer with the next bytes until it is full or there are no more; return how many.

    `read` is given what is left of the buffer, and how many bytes are before that.
    """
    count = 0
    while count < len(view) and (more := read(view[count:], count)):
        count += more
    return count
