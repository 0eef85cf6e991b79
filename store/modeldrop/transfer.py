"""Moving bytes: one pass that reads, hashes and sends; checks of what arrived; verified pulls.

Sending. The bytes that are hashed are the bytes that are sent: each chunk is read once, and goes
to the hash and to the backend. Hashing runs in a second thread, a few chunks behind; the chunks
are read into the same few buffers again and again, so that memory stays bounded and no page is
cleared twice. Where the store checked a digest with each request, as it was shown to do, that is
the check; otherwise the stored size is compared afterwards, and where the backend doesn't prove
its writes, the file is read back and hashed again.

Pulling. Bytes are hashed while they are written to a temporary name, synced, and only what has
the recorded digest gets the final name, whole. A crash leaves temporary files, never a part. A
manifest is data from a store: no name in it leads out of the folder that is pulled to.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TypeVar

from modeldrop import files, ranges
from modeldrop.backend.base import Backend, Writer
from modeldrop.batch import Batch, Pending
from modeldrop.errors import (
    ArtifactDamaged,
    BackendError,
    BackendRefused,
    BackendUnreachable,
    Conflict,
    Interrupted,
    SourceChanged,
)
from modeldrop.names import WHOLE_RUN, printable, refuse_component
from modeldrop.records import Artifact, StoredFile

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

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
# What renaming answers where there is something else already.
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})

T = TypeVar("T")

Progress = Callable[[int], None]
"""Called with the number of bytes that were just moved."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What arrived: the digest of the bytes that were sent, and how many there were."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class _Followers:
    unchanged: Callable[[], None]
    moved: Progress
    found: Progress = lambda _: None
    begun: Callable[[str], None] | None = None


class _Hash:
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

    def sent(self) -> Sent:
        """Return the digest and size of all that was taken."""
        while self._pending:
            self._pending.popleft().result()
        return Sent(self._sha256.hexdigest(), self.size)


def _chunks(fd: int, size: int) -> Iterator[memoryview]:
    """Yield an open file's bytes from where it stands; a chunk is valid for `_BEHIND` more."""
    ring: deque[memoryview] = deque()
    # One byte more than is expected, so that a file that grew is not read as if it hadn't.
    length = min(_CHUNK, size + 1)
    while True:
        fresh = len(ring) <= _BEHIND
        buffer = memoryview(bytearray(length)) if fresh else ring.popleft()
        ring.append(buffer)
        count = os.readv(fd, [buffer])
        if not count:
            return
        yield buffer[:count]


class Transfer:
    """Moves bytes between this machine and one backend. For any number of threads."""

    def __init__(self, backend: Backend) -> None:
        """Move to and from `backend`."""
        self._backend = backend
        can = backend.capabilities
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
    ) -> Sent:
        """Send an open file of `size` bytes to a unique, free key; return what arrived.

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
            return self._write(writer, fd, key, size, _Followers(unchanged, moved, begun=begun))

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

    def _write(self, writer: Writer, fd: int, key: str, size: int, told: _Followers) -> Sent:
        token = None
        try:
            with _Hash(size) as digest:
                for chunk in _chunks(fd, size):
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
        self, fd: int, size: int, unchanged: Callable[[], None], moved: Progress = lambda _: None
    ) -> Sent:
        """Return the digest and size of an open file, without sending it anywhere.

        Raises:
            SourceChanged: the file changed meanwhile.
        """
        unchanged()
        with _Hash(size) as digest:
            for chunk in _chunks(fd, size):
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
        with source, _Hash(size) as digest:
            while data := source.read(_CHUNK):
                digest.update(data)
                moved(len(data))
            return digest.sent()

    def missing(self, artifact: Artifact) -> list[str]:
        """Return the paths of the artifact's files that aren't stored with their size."""
        every = self._in_parallel(lambda file, _: self.holds(file), artifact.files)
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
        every = self._in_parallel(
            lambda file, moved: self._read_back(file.key, file.size, moved), artifact.files, moved
        )
        return [file.path for file, found in every if found != Sent(file.sha256, file.size)]

    def pull(self, artifact: Artifact, target: Path, moved: Progress = lambda _: None) -> Path:
        """Bring an artifact to `target`, verified and whole; return it.

        What is there already with the same bytes is the answer.

        Raises:
            Conflict: there is something else at `target`.
            ArtifactDamaged: stored bytes aren't what was recorded, and the message names the
                files; or a name in the manifest leads elsewhere. Nothing is left at `target`.
        """
        check_names(artifact)
        if os.path.lexists(target):
            return _same(target, artifact)
        files.make_folders(target.parent)
        temp = files.temp_beside(target)
        try:
            if artifact.type == "file":
                self._fetch_all({artifact.files[0]: temp}, artifact, moved)
            else:
                temp.mkdir()
                places = {file: temp.joinpath(*file.path.split("/")) for file in artifact.files}
                for folder in {place.parent for place in places.values()}:
                    folder.mkdir(parents=True, exist_ok=True)
                self._fetch_all(places, artifact, moved)
                files.sync_tree(temp)
            try:
                files.rename_if_absent(temp, target)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                # Somebody else was quicker, perhaps with the same pull.
                return _same(target, artifact)
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(temp) if temp.is_dir() else temp.unlink(missing_ok=True)
        return target

    def _fetch_all(
        self, places: dict[StoredFile, Path], artifact: Artifact, moved: Progress
    ) -> None:
        every = self._in_parallel(
            lambda file, moved: self._fetch(file, places[file], moved), places, moved
        )
        bad = [file.path for file, good in every if not good]
        if bad:
            raise damage(artifact, bad, self._backend.url)

    def _fetch(self, file: StoredFile, place: Path, moved: Progress) -> bool:
        """Write a stored file to `place`; return whether it is what was recorded."""
        source = self._backend.source(file.key)
        if source is None:
            return False
        with source, place.open("x+b") as out, _Hash(file.size) as digest:
            if ranges.is_worth_while(source, file.size):
                ranges.save(source, file.size, out.fileno(), moved, digest.update)
            else:
                while data := source.read(_CHUNK):
                    digest.update(data)
                    out.write(data)
                    moved(len(data))
            out.flush()
            files.sync_file(out.fileno())
            return digest.sent() == Sent(file.sha256, file.size)

    def _in_parallel(
        self,
        work: Callable[[StoredFile, Progress], T],
        items: Iterable[StoredFile],
        moved: Progress = lambda _: None,
    ) -> Iterator[tuple[StoredFile, T]]:
        every = list(items)
        if len(every) == 1:
            yield every[0], work(every[0], moved)
            return
        stop = threading.Event()
        causes: list[BaseException] = []

        def check() -> None:
            # Whoever failed or was interrupted doesn't wait for gigabytes of the others.
            if stop.is_set():
                message = "stopped, since another file failed"
                raise Interrupted(message)

        def counted(size: int) -> None:
            check()
            moved(size)

        def one(file: StoredFile) -> T:
            try:
                check()
                return work(file, counted)
            except BaseException as error:
                causes.append(error)
                stop.set()
                raise

        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            try:
                yield from zip(every, pool.map(one, every), strict=True)
            except BaseException:
                # Results come in order; what went wrong first is what has to be said.
                if causes:
                    raise causes[0] from None
                raise
            finally:
                stop.set()


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


def is_copy(path: Path, artifact: Artifact) -> bool:
    """Return whether a local file or folder holds exactly an artifact's bytes; reads them all."""
    try:
        if artifact.type == "file":
            return _file_is(path, artifact.files[0])
        if path.is_symlink() or not path.is_dir():
            return False
        return files_in(path) == {file.path for file in artifact.files} and all(
            _file_is(path / file.path, file) for file in artifact.files
        )
    except OSError:
        # What can't be read is no copy that anybody could use.
        return False


def files_in(folder: Path) -> set[str]:
    """Return the paths of all in a folder and below that is no folder."""
    return {
        str(each.relative_to(folder))
        for each in folder.rglob("*")
        if each.is_symlink() or not each.is_dir()
    }


def check_names(artifact: Artifact) -> None:
    """Return if no name in an artifact leads anywhere else than below where it is put.

    Raises:
        ArtifactDamaged: one does, or two of its files have one place.
    """
    paths = [file.path.split("/") for file in artifact.files]
    if artifact.artifact != WHOLE_RUN:
        paths.append([artifact.artifact])
    for path in paths:
        if any(part in {"", ".", ".."} or "/" in part or refuse_component(part) for part in path):
            message = f"{printable('/'.join(path))!r} leads out of the folder that it is pulled to"
            raise ArtifactDamaged(message, hint=_DISTRUST)
    digests = (artifact.sha256, *(file.sha256 for file in artifact.files))
    if not all(_SHA256.fullmatch(digest) for digest in digests):
        message = f"{printable(artifact.artifact)!r} has a digest that is none"
        raise ArtifactDamaged(message, hint=_DISTRUST)
    places = [file.path for file in artifact.files]
    folders = {
        "/".join(parts[:length])
        for parts in (place.split("/") for place in places)
        for length in range(1, len(parts))
    }
    if len(set(places)) != len(places) or not folders.isdisjoint(places):
        message = f"two files of {printable(artifact.artifact)!r} have the same place"
        raise ArtifactDamaged(message, hint=_DISTRUST)


_DISTRUST: Final = "don't trust this store before you know why"


def _same(target: Path, artifact: Artifact) -> Path:
    if is_copy(target, artifact):
        return target
    message = f"{printable(str(target))} exists, and isn't what would be pulled"
    raise Conflict(message, hint="move it away, or pull to another folder with `-o DIR`")


def _file_is(path: Path, file: StoredFile) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
