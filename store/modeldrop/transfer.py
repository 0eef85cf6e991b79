"""Moving bytes to a backend: one pass that reads, hashes and sends; checks of what is there.

The bytes that are hashed are the bytes that are sent: each chunk is read once, and goes
to the hash and to the backend. Hashing runs in a second thread, a few chunks behind; the chunks
are read into the same few buffers again and again, so that memory stays bounded and no page is
cleared twice. Where the store checked a digest with each request, as it was shown to do, that is
the check; otherwise the stored size is compared afterwards, and where the backend doesn't prove
its writes, the file is read back and hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

from modeldrop.backend.base import Backend, Writer
from modeldrop.batch import Batch, Pending
from modeldrop.errors import (
    ArtifactDamaged,
    BackendError,
    BackendRefused,
    BackendUnreachable,
    Interrupted,
    SourceChanged,
)
from modeldrop.names import printable
from modeldrop.parallel import Progress, in_parallel
from modeldrop.records import Artifact, StoredFile
from modeldrop.structs import Frozen

# A chunk and the copies of it that are made on the way fit a processor's cache.
_CHUNK: Final = 512 * 1024
# How many chunks the hash may be behind.
_BEHIND: Final = 7
# What large files in flight may hold in buffers, all together, and medium ones once more; a
# backend that sends in parts has about five of them for each file.
_BUDGET: Final = 128 * 2**20
_PARTS_HELD: Final = 5
# Up to here a file has turns of its own, so that no small one waits behind the gigabytes of others.
_MEDIUM: Final = 16 * 2**20
# How long a large file waits for its turn before it is asked again whether it still wants one.
_TURN: Final = 0.25

# What may be over the next time, with the same bytes.
_PASSING: Final = (BackendUnreachable, BackendRefused, Interrupted)


class Sent(Frozen):
    """What arrived: the digest of the bytes that were sent, and how many there were."""

    sha256: str
    size: int


class _Followers(Frozen):
    unchanged: Callable[[], None]
    moved: Progress
    found: Progress = lambda _: None
    begun: Callable[[str], None] | None = None


class Hash:
    """A sha256 of what it is fed; for what takes longer, in a thread, a few chunks behind."""

    def __init__(self, size: int) -> None:
        self._sha256 = hashlib.sha256()
        # Below two chunks, a thread costs more than it saves.
        self._pool = ThreadPoolExecutor(1, "hash") if size > 2 * _CHUNK else None
        self._pending: deque[Future[None]] = deque()
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def update(self, data: bytes | memoryview) -> None:
        """Take a chunk; at most `_BEHIND` of those that were taken are still looked at after it."""
        self.size += len(data)
        if self._pool is None:
            self._sha256.update(data)
            return
        while len(self._pending) >= _BEHIND:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._sha256.update, data))

    def chunks(self, read_into: Callable[[memoryview], int], size: int) -> Iterator[memoryview]:
        """Yield what is read, about `size` bytes; a chunk is valid as long as it is looked at."""
        ring: deque[memoryview] = deque()
        # One byte more than is expected, so that a file that grew is not read as if it hadn't.
        length = min(_CHUNK, size + 1)
        most = 1 if self._pool is None else _BEHIND + 1
        more = -1
        while more:
            buffer = memoryview(bytearray(length)) if len(ring) < most else ring.popleft()
            ring.append(buffer)
            count = 0
            # What comes from a network comes in small pieces.
            while count < length and (more := read_into(buffer[count:])):
                count += more
            if count:
                yield buffer[:count]

    def sent(self) -> Sent:
        """Return the digest and size of all that was taken."""
        while self._pending:
            self._pending.popleft().result()
        return Sent(self._sha256.hexdigest(), self.size)


def reading(fd: int, size: int, start: int | None = None) -> Callable[[memoryview], int]:
    """Return what reads an open file on into a buffer.

    With `start` that is `size` bytes of it from there on, and others may read it meanwhile.
    """
    if start is None:
        return lambda buffer: os.readv(fd, [buffer])
    place, end = start, start + size

    def read_part(buffer: memoryview) -> int:
        nonlocal place
        count = os.preadv(fd, [buffer[: end - place]], place) if place < end else 0
        place += count
        return count

    return read_part


class Transfer:
    """Moves bytes between this machine and one backend. For any number of threads."""

    def __init__(self, backend: Backend) -> None:
        """Move to and from `backend`."""
        self._backend = backend
        can = backend.capabilities
        self._connections = can.connections
        most = _BUDGET // (_PARTS_HELD * can.chunk_size)
        count = max(1, min(most, can.connections))
        self._turns = threading.BoundedSemaphore(count)
        self._turns_medium = threading.BoundedSemaphore(count)

    @property
    def shares_waits(self) -> bool:
        """Whether `send_in` sends anything."""
        return self._backend.capabilities.shares_waits

    def free(self) -> int | None:
        """Return how many bytes the backend has room for, or None where that can't be known."""
        return self._backend.free()

    def send(
        self,
        fd: int,
        key: str,
        size: int,
        unchanged: Callable[[], None],
        moved: Progress = lambda _: None,
        begun: Callable[[str], None] | None = None,
        *,
        start: int | None = None,
    ) -> Sent:
        """Send an open file of `size` bytes to a unique, free key; return what arrived.

        With `start`, they are those of a larger file from there on.

        `unchanged` raises `SourceChanged` when the file isn't what it was; it is called before,
        during and after. Nothing is visible under the key unless all of it is.

        `begun` is told once, with the first part of a large file on its way, what `resume` needs.
        With it, what arrived of a file that can't be sent just now is left to be gone on with.

        Raises:
            SourceChanged: the file changed meanwhile.
            BackendError: the backend failed, or holds something else than what was sent.
        """
        with self._turn(size, unchanged):
            unchanged()
            writer = self._backend.writer(key, size)
            told = _Followers(unchanged, moved, begun=begun)
            return self._write(writer, fd, key, size, told, start)

    def resume(
        self,
        fd: int,
        key: str,
        token: str,
        size: int,
        unchanged: Callable[[], None],
        moved: Progress = lambda _: None,
        found: Progress = lambda _: None,
    ) -> Sent | None:
        """Go on with a file of which `send` has told `token`; return what arrived.

        All of it is read, from its beginning on, and compared with what the store says of each
        part that it has; `found` counts what isn't sent again. None where there is nothing to go
        on with: then it is to be sent anew, under another key, from the beginning of the file.

        Raises:
            SourceChanged: the file changed meanwhile.
            BackendError: the backend failed, or holds something else than what was sent.
        """
        with self._turn(size, unchanged):
            unchanged()
            writer = self._backend.resume(key, size, token)
            if writer is not None:
                told = _Followers(unchanged, moved, found, begun=lambda _: None)
                return self._write(writer, fd, key, size, told)
            # Perhaps all of it had arrived, and only nobody lived to write that down.
            there = self._backend.stat(key)
            if there is None or there.size != size:
                return None
            sent = self.digest(fd, size, unchanged)
            os.lseek(fd, 0, os.SEEK_SET)
            if self._read_back(key, size, lambda _: unchanged()) != sent:
                return None
            found(size)
            return sent

    def end(self, key: str, token: str, size: int) -> None:
        """Have the store forget what it has of a file that won't be gone on with, if it can."""
        with contextlib.suppress(BackendError):
            writer = self._backend.resume(key, size, token)
            if writer is not None:
                writer.abort()

    def _write(
        self,
        writer: Writer,
        fd: int,
        key: str,
        size: int,
        told: _Followers,
        start: int | None = None,
    ) -> Sent:
        token = None
        try:
            with Hash(size) as digest:
                for chunk in digest.chunks(reading(fd, size, start), size):
                    digest.update(chunk)
                    count = writer.write(chunk)
                    if told.begun is not None and token is None:
                        token = writer.token
                        if token is not None:
                            told.begun(token)
                    told.moved(count)
                    if count != len(chunk):
                        told.found(len(chunk) - count)
                    told.unchanged()
                sent = digest.sent()
            told.unchanged()
            _check_size(sent, size)
            writer.finish()
        except _PASSING:
            # What arrived is good for the next time, if anybody knows of it then.
            writer.abort() if told.begun is None else writer.leave()
            raise
        except BaseException:
            writer.abort()
            raise
        if not writer.checked:
            self._check_arrived(key, sent)
        return sent

    def send_in(
        self, batch: Batch, fd: int, key: str, size: int, unchanged: Callable[[], None]
    ) -> tuple[Sent, Pending] | None:
        """Have a small open file sent to a unique, free key with a batch; return what arrives.

        None where the backend takes no such file with a batch; then nothing was done. All of the
        file is in memory meanwhile. Once the batch has waited, `check_batch` tells whether it did
        arrive.

        Raises:
            SourceChanged: the file changed meanwhile.
            BackendError: the backend failed.
        """
        unchanged()
        # One byte more than is expected, so that a file that grew is not read as if it hadn't.
        data = os.read(fd, size + 1)
        unchanged()
        sent = Sent(hashlib.sha256(data).hexdigest(), len(data))
        _check_size(sent, size)
        pending = self._backend.create_in(batch, key, data)
        return None if pending is None else (sent, pending)

    def check_batch(self, key: str, sent: Sent, pending: Pending) -> None:
        """Return if what a batch has written, and not named yet, is as large as what was sent.

        Raises:
            BackendError: it is not.
        """
        try:
            size = os.stat(pending.temp).st_size
        except OSError as error:
            size, found = -1, str(error.strerror)
        else:
            found = f"{size} bytes"
        if size != sent.size:
            message = f"{self._backend.url}/{key} holds {found} where {sent.size} bytes were sent"
            raise BackendError(message, hint="it is sent again; if this stays, check the store")

    @contextlib.contextmanager
    def _turn(self, size: int, unchanged: Callable[[], None]) -> Iterator[None]:
        """Wait until no more large files are in flight than the buffers are for."""
        if size <= _CHUNK:
            yield
            return
        turns = self._turns_medium if size <= _MEDIUM else self._turns
        while not turns.acquire(timeout=_TURN):
            unchanged()
        try:
            yield
        finally:
            turns.release()

    def digest(
        self,
        fd: int,
        size: int,
        unchanged: Callable[[], None],
        moved: Progress = lambda _: None,
        *,
        start: int | None = None,
    ) -> Sent:
        """Return the digest and size of an open file, without sending it anywhere.

        With `start`, of the `size` bytes of a larger file from there on.

        Raises:
            SourceChanged: the file changed meanwhile.
        """
        unchanged()
        with Hash(size) as digest:
            for chunk in digest.chunks(reading(fd, size, start), size):
                digest.update(chunk)
                moved(len(chunk))
                unchanged()
            return digest.sent()

    def holds(self, file: StoredFile) -> bool:
        """Return whether a file is at the backend with its size, by one request."""
        stored = self._backend.stat(file.key)
        return stored is not None and stored.size == file.size

    def _check_arrived(self, key: str, sent: Sent) -> None:
        stored = self._backend.stat(key)
        if stored is None or stored.size != sent.size:
            what = "nothing" if stored is None else f"{stored.size} bytes"
            message = f"{self._backend.url}/{key} holds {what} where {sent.size} bytes were sent"
            raise BackendError(message, hint="it is sent again; if this stays, check the store")
        if not self._backend.capabilities.proves_writes and self._read_back(key, sent.size) != sent:
            message = f"{self._backend.url}/{key} holds other bytes than were sent"
            raise BackendError(message, hint="it is sent again; if this stays, check the store")

    def _read_back(self, key: str, size: int, moved: Progress = lambda _: None) -> Sent | None:
        """Return digest and size of what is stored under a key, or None if it is absent.

        `size` is what is expected; it decides nothing but how the hash is made.
        """
        source = self._backend.source(key)
        if source is None:
            return None
        with source, Hash(size) as digest:
            for data in digest.chunks(source.read_into, size):
                digest.update(data)
                moved(len(data))
            return digest.sent()

    def missing(self, artifact: Artifact) -> list[str]:
        """Return the paths of the artifact's files that aren't stored with their size."""
        every = in_parallel(self._connections, lambda file, _: self.holds(file), artifact.files)
        return [file.path for file, there in every if not there]

    def require(self, artifact: Artifact) -> None:
        """Return if all of the artifact's files are stored with their sizes.

        Raises:
            ArtifactDamaged: they aren't; the message names those that are missing.
        """
        missing = self.missing(artifact)
        if missing:
            raise damage(artifact, missing, self._backend.url)

    def damaged(self, artifact: Artifact, moved: Progress = lambda _: None) -> list[str]:
        """Return the paths of the artifact's files whose stored bytes aren't what was recorded.

        Reads every byte.
        """
        every = in_parallel(
            self._connections,
            lambda file, moved: self._read_back(file.key, file.size, moved),
            artifact.files,
            moved,
        )
        return [file.path for file, found in every if found != Sent(file.sha256, file.size)]


def _check_size(sent: Sent, size: int) -> None:
    if sent.size != size:
        message = f"{sent.size} bytes were read where {size} were expected"
        raise SourceChanged(message, hint="nothing to do: it is stored once it is quiet")


def damage(artifact: Artifact, paths: list[str], url: str) -> ArtifactDamaged:
    """Return the error that names which files of an artifact aren't what was recorded."""
    names = [
        artifact.artifact if artifact.type == "file" else f"{artifact.artifact}/{path}"
        for path in paths
    ]
    keys = {file.path: file.key for file in artifact.files}
    listed = ", ".join(printable(name) for name in names)
    message = f"stored bytes are damaged or missing: {listed}"
    return ArtifactDamaged(
        message,
        hint="restore the object from a copy of the store; other versions are not affected",
        detail={"files": list(names), "objects": [f"{url}/{keys[path]}" for path in paths]},
    )
