"""Reading one large stored file in several places at a time, where that is worth while.

Most stores give each connection a share of what they can, and begin every answer at once. A few
do work on the whole object before they begin, be it for a range: those are asked for it once.

What is written in several places is hashed in order: what others wrote is read from the file
again, which is in memory still. A crash leaves a file with holes, under whatever temporary name
the caller gave it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from modeldrop import files
from modeldrop.backend.base import Ranged, Source

_CHUNK: Final = 512 * 1024
_RANGE: Final = 64 * 2**20
_HELPERS: Final = 3
# A store that takes longer to begin an answer doesn't only look the object up.
_LONG_WAIT: Final = 0.5


def is_worth_while(source: Source, size: int) -> bool:
    """Return whether a file of that size is to be read in several places at a time."""
    return (
        isinstance(source, Ranged) and source.size == size > _RANGE and source.waited < _LONG_WAIT
    )


def save(
    source: Source,
    size: int,
    fd: int,
    moved: Callable[[int], None],
    hashed: Callable[[bytes], None],
) -> None:
    """Write a source to an open, empty file; `hashed` is given every byte in order.

    Fewer bytes than `size` are what the file has then, for the digest to tell. `moved` is called
    from several threads; what it raises ends all of them.
    """
    # One more than fetches, for the disk.
    with ThreadPoolExecutor(_HELPERS + 1, thread_name_prefix="range") as pool:
        saving = _Saving(source, size, fd, moved, hashed, pool)
        try:
            saving.first_range()
            saving.ranges_behind()
        finally:
            saving.stop()


class _Saving:
    def __init__(
        self,
        source: Source,
        size: int,
        fd: int,
        moved: Callable[[int], None],
        hashed: Callable[[bytes], None],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._source = source
        self._size = size
        self._fd = fd
        self._moved = moved
        self._hashed = hashed
        self._pool = pool
        self._stopped = threading.Event()
        self._under_way: dict[int, Future[None]] = {}
        self._syncing: Future[None] | None = None

    def first_range(self) -> None:
        """Write what the source itself has, while others begin with what is behind that."""
        for number in range(1, 1 + _HELPERS):
            self._ask(number * _RANGE)
        at = 0
        while at < _RANGE and (data := self._source.read(min(_CHUNK, _RANGE - at))):
            self._write(data, at)
            self._hashed(data)
            at += len(data)

    def ranges_behind(self) -> None:
        """Hash what others write, range by range, and see that some are always at it."""
        for start in range(_RANGE, self._size, _RANGE):
            self._under_way.pop(start).result()
            self._ask(start + _HELPERS * _RANGE)
            self._sync()
            at, end = start, min(start + _RANGE, self._size)
            while at < end and (data := os.pread(self._fd, min(_CHUNK, end - at), at)):
                self._hashed(data)
                at += len(data)

    def _sync(self) -> None:
        """Have the disk begin with what it has, which the caller syncs at the end anyway."""
        if self._syncing is None or self._syncing.done():
            self._syncing = self._pool.submit(files.sync_file, self._fd)

    def stop(self) -> None:
        """Have the others end after the piece that they are at."""
        self._stopped.set()
        for each in self._under_way.values():
            each.cancel()

    def _ask(self, start: int) -> None:
        if start < self._size:
            self._under_way[start] = self._pool.submit(self._fetch, start)

    def _fetch(self, at: int) -> None:
        ranged = self._source
        if not isinstance(ranged, Ranged):
            return
        with ranged.within(at, min(at + _RANGE, self._size)) as part:
            while not self._stopped.is_set() and (data := part.read(_CHUNK)):
                self._write(data, at)
                at += len(data)

    def _write(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, at)
            view, at = view[count:], at + count
        self._moved(len(data))
