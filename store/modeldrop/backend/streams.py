"""Large files to and from an object store: parts on their way while the next one is filled.

Memory is bounded by the size of a part: two are on their way, one is filled or drained.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Final, Self

from modeldrop.backend.driver import Driver, Upload
from modeldrop.errors import BackendError

# Turns whatever a client library raised into one of ours, for the operation that it is told.
Told = Callable[[str], contextlib.AbstractContextManager[None]]

_AHEAD: Final = 1


class PartWriter:
    """A file on its way into an object store: one request if it fits a part, otherwise several."""

    def __init__(
        self, driver: Driver, pool: Executor, key: str, part_size: int, told: Told
    ) -> None:
        """Send nothing yet."""
        self._driver = driver
        self._pool = pool
        self._key = key
        self._part_size = part_size
        self._told = told
        self._part = bytearray()
        self._upload: Upload | None = None
        self._under_way: deque[Future[None]] = deque()
        self._number = 0
        self._sent = 0
        self._closed = False

    def write(self, data: bytes | memoryview) -> None:
        """Send the next bytes; waits while two parts are on their way."""
        with self._told("write"):
            view = memoryview(data).cast("B")
            while view:
                # Only when more is to come: what fits one part is sent whole, by `finish`.
                if len(self._part) == self._part_size:
                    self._send()
                room = self._part_size - len(self._part)
                self._part += view[:room]
                view = view[room:]

    def finish(self) -> None:
        """Make the file visible under its key."""
        with self._told("write"):
            if self._closed:
                message = f"{self._key} was finished or aborted before"
                raise BackendError(message)
            if self._upload is None:
                self._sent = len(self._part)
                self._driver.put(self._key, bytes(self._part))
            else:
                if self._part:
                    self._send()
                while self._under_way:
                    self._under_way.popleft().result()
                self._complete(self._upload)
            self._closed = True
            self._part = bytearray()

    def abort(self) -> None:
        """Have the store forget the parts. Never raises."""
        if self._closed:
            return
        self._closed = True
        for each in self._under_way:
            each.cancel()
        # A part that arrives after the upload was ended would stay, and be paid for.
        while self._under_way:
            with contextlib.suppress(BaseException):
                self._under_way.popleft().result()
        self._part = bytearray()
        if self._upload is not None:
            with contextlib.suppress(Exception):
                self._upload.discard()

    def _send(self) -> None:
        if self._upload is None:
            self._upload = self._driver.begin(self._key)
        while len(self._under_way) >= self._upload.parallel:
            self._under_way.popleft().result()
        part, self._part = bytes(self._part), bytearray()
        self._number += 1
        self._sent += len(part)
        self._under_way.append(self._pool.submit(self._upload.send, self._number, part))

    def _complete(self, upload: Upload) -> None:
        try:
            upload.complete()
        except Exception:
            # The answer may have been lost: asked again, the store says that it knows no such
            # upload. The key is unique, so what is there with our size is ours.
            with contextlib.suppress(Exception):
                if self._driver.size(self._key) == self._sent:
                    return
            raise


class RangeSource:
    """A stored file being read range by range, the next one on its way meanwhile."""

    def __init__(
        self, driver: Driver, pool: Executor, key: str, size: int, chunk: int, told: Told
    ) -> None:
        """Ask for the first range."""
        self._driver = driver
        self._pool = pool
        self._key = key
        self._size = size
        self._chunk = chunk
        self._told = told
        self._asked = 0
        self._under_way: deque[Future[bytes]] = deque()
        self._left = memoryview(b"")
        self._ask()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, and none at the end."""
        if not self._left and self._under_way:
            with self._told("read"):
                self._ask()
                self._left = memoryview(self._under_way.popleft().result())
        taken, self._left = self._left[:size], self._left[size:]
        return bytes(taken)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ask for no more; what is on its way is dropped when it comes."""
        for each in self._under_way:
            each.cancel()
        self._under_way.clear()
        self._left = memoryview(b"")

    def _ask(self) -> None:
        while self._asked < self._size and len(self._under_way) <= _AHEAD:
            end = min(self._asked + self._chunk, self._size)
            self._under_way.append(self._pool.submit(self._fetch, self._asked, end))
            self._asked = end

    def _fetch(self, start: int, end: int) -> bytes:
        data = self._driver.read(self._key, start, end)
        if len(data) != end - start:
            # Taken for the end of the file it would be a silent truncation.
            message = f"{self._key}: asked for {end - start} bytes at {start}, got {len(data)}"
            raise BackendError(message, hint="doing it again is safe")
        return data
