"""Large files to and from an object store: parts on their way while the next one is filled.

Memory is bounded by the size of a part: as many as the driver takes at a time are on their way,
one is filled or drained.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Final, Self

from modeldrop.backend import failures
from modeldrop.backend.driver import Body, Driver, Held, Resumable, Upload
from modeldrop.errors import BackendError

# Turns whatever a client library raised into one of ours, for the operation that it is told.
Told = Callable[[str], contextlib.AbstractContextManager[None]]

_AHEAD: Final = 1
# How often in a row an answer may break off without a byte.
_BREAKS: Final = 2


class PartWriter:
    """A file on its way into an object store: one request if it fits a part, otherwise several."""

    def __init__(
        self,
        driver: Driver,
        pool: Executor,
        key: str,
        part_size: int,
        told: Told,
        *,
        checked: bool = False,
        upload: Upload | None = None,
    ) -> None:
        """Send nothing yet, or go on with `upload`.

        `checked` says that the driver sends digests and the store checks them.
        """
        self._driver = driver
        self._pool = pool
        self._key = key
        self._part_size = part_size
        self._told = told
        self.checked = checked
        # A part is filled where another one was: new memory for each costs as much as a copy.
        self._part = bytearray()
        self._filled = 0
        self._free: list[bytearray] = []
        self._upload: Upload | None = None
        # The same, where the store says what it has of it.
        self._kept: Resumable | None = None
        if upload is not None:
            self._begin(upload)
        self._under_way: deque[tuple[Future[None], bytearray]] = deque()
        self._number = 0
        self._sent = 0
        self._closed = False

    @property
    def token(self) -> str | None:
        """The size of a part, and what the store calls the upload, where it can be gone on with."""
        return None if self._kept is None else f"{self._part_size}:{self._kept.name}"

    def write(self, data: bytes | memoryview) -> int:
        """Send the next bytes; waits while as many parts are on their way as may be."""
        to_send = 0
        with self._told("write"):
            view = memoryview(data).cast("B")
            while view:
                # Only when more is to come: what fits one part is sent whole, by `finish`.
                if self._filled == self._part_size:
                    to_send += self._send()
                count = min(self._part_size - self._filled, len(view))
                self._fill(view[:count])
                view = view[count:]
                to_send += count if self._held() is None else 0
        return to_send

    def _fill(self, data: memoryview) -> None:
        """Put bytes behind those that the part has; as a slice of it they would be copied twice."""
        end = self._filled + len(data)
        if end > len(self._part):
            del self._part[self._filled :]
            self._part += data
        else:
            with memoryview(self._part) as part:
                part[self._filled : end] = data
        self._filled = end

    def finish(self) -> None:
        """Make the file visible under its key."""
        with self._told("write"):
            if self._closed:
                message = f"{self._key} was finished or aborted before"
                raise BackendError(message)
            if self._upload is None:
                self._sent = self._filled
                self._driver.put(self._key, memoryview(self._part)[: self._filled])
            else:
                if self._filled:
                    self._send()
                while self._under_way:
                    self._arrived()
                self._complete(self._upload)
            self._closed = True
            self._drop()

    def abort(self) -> None:
        """Have the store forget the parts. Never raises."""
        if not self._closed:
            self._stop()
            if self._upload is not None:
                with contextlib.suppress(Exception):
                    self._upload.discard()

    def leave(self) -> None:
        """Leave the parts that arrived with the store. Never raises."""
        if self.token is None:
            self.abort()
        elif not self._closed:
            self._stop()

    def _stop(self) -> None:
        self._closed = True
        for each, _ in self._under_way:
            each.cancel()
        # A part that arrives after the upload was ended would stay, and be paid for; one that
        # arrives after it was taken up again would have been sent twice.
        while self._under_way:
            with contextlib.suppress(BaseException):
                self._arrived()
        self._drop()

    def _begin(self, upload: Upload) -> Upload:
        self._upload = upload
        self._kept = upload if isinstance(upload, Resumable) else None
        return upload

    def _held(self) -> Held | None:
        """Return what the store said to have in the place of the part that is being filled."""
        return None if self._kept is None else self._kept.held.get(self._number + 1)

    def _send(self) -> int:
        """Send the part that is filled, or find it held; return what of it wasn't counted yet."""
        upload = self._upload or self._begin(self._driver.begin(self._key))
        uncounted = 0
        if (held := self._held()) is not None:
            if self._keep(held):
                return 0
            uncounted = self._filled
        while len(self._under_way) >= upload.parallel:
            self._arrived()
        self._number += 1
        self._sent += self._filled
        part: bytes | memoryview = memoryview(self._part)[: self._filled]
        buffer = self._part
        self._filled = 0
        if upload.views:
            self._part = self._free.pop() if self._free else bytearray()
        else:
            # It would make a copy of its own, which two buffers would be held for.
            part, buffer = bytes(part), bytearray()
        self._under_way.append((self._pool.submit(upload.send, self._number, part), buffer))
        return uncounted

    def _keep(self, held: Held) -> bool:
        """Take the part that is filled for sent, if it is what the store has."""
        assert self._kept is not None  # noqa: S101 - it said what it has
        with memoryview(self._part)[: self._filled] as part:
            # Against accidents, as the digests that go along with parts.
            digest = hashlib.md5(part, usedforsecurity=False).hexdigest()
        if Held(self._filled, digest) != held:
            return False
        self._number += 1
        self._kept.keep(self._number)
        self._sent += self._filled
        self._filled = 0
        return True

    def _arrived(self) -> None:
        sending, buffer = self._under_way.popleft()
        sending.result()
        if buffer:
            self._free.append(buffer)

    def _drop(self) -> None:
        self._part, self._filled = bytearray(), 0
        self._free.clear()

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
        self,
        driver: Driver,
        pool: Executor,
        key: str,
        size: int,
        chunk: int,
        told: Told,
        start: int = 0,
    ) -> None:
        """Ask for the first range, which begins at `start`."""
        self._driver = driver
        self._pool = pool
        self._key = key
        self._size = size
        self._chunk = chunk
        self._told = told
        self._asked = start
        self._under_way: deque[Future[bytes]] = deque()
        self._left = memoryview(b"")
        self._ask()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, and none at the end."""
        return bytes(self._take(size))

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer, and return how many; none at the end."""
        taken = self._take(len(view))
        view[: len(taken)] = taken
        return len(taken)

    def _take(self, size: int) -> memoryview:
        if not self._left and self._under_way:
            with self._told("read"):
                self._ask()
                self._left = memoryview(self._under_way.popleft().result())
        taken, self._left = self._left[:size], self._left[size:]
        return taken

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


class StreamSource:
    """A stored file being read as one answer, taken up where it breaks off."""

    def __init__(
        self,
        driver: Driver,
        key: str,
        body: Body,
        told: Told,
        start: int = 0,
        end: int | None = None,
        waited: float = 0.0,
    ) -> None:
        """Take the answer to a request for the bytes from `start` to before `end`."""
        self._driver = driver
        self._key = key
        self._body: Body | None = body
        self._told = told
        self.size = body.total
        self.waited = waited
        self._at = start
        self._end = body.total if end is None else min(end, body.total)

    def within(self, start: int, end: int) -> StreamSource:
        """Return another source, of a range of the same file; both may be read at the same time."""
        with self._told("read"):
            began = time.monotonic()
            body = self._open(start, end)
            waited = time.monotonic() - began
            return StreamSource(self._driver, self._key, body, self._told, start, end, waited)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, and none at the end."""
        data = bytearray(min(size, self._end - self._at))
        count = self.read_into(memoryview(data))
        return bytes(data[:count])

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer, and return how many; none at the end."""
        with self._told("read"):
            for attempt in range(_BREAKS + 1):
                if self._at == self._end:
                    return 0
                try:
                    if self._body is None:
                        self._body = self._open(self._at, self._end)
                    count = self._body.read_into(view)
                except Exception as error:
                    self._let_go()
                    if attempt == _BREAKS or not failures.is_transient(error):
                        raise
                    continue
                self._at += count
                return count
            raise AssertionError

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ask for no more."""
        self._let_go()

    def _open(self, start: int, end: int) -> Body:
        body = self._driver.open(self._key, start, end)
        if body is None or body.total != self.size:
            # A key is written once.
            message = f"{self._key}: the file isn't what it was when it was opened"
            raise BackendError(message, hint="doing it again is safe")
        return body

    def _let_go(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
