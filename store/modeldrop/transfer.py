"""Moving bytes: one pass that reads, hashes and sends; checks of what arrived; verified pulls.

Sending. The bytes that are hashed are the bytes that are sent: each chunk is read once, and goes
to the hash and to the backend. Hashing runs in a second thread, one chunk behind, so that memory
stays at a few chunks. Afterwards the stored size is compared, and where the backend doesn't prove
its writes, the file is read back and hashed again.

Pulling. Bytes are hashed while they are written to a temporary name, synced, and only what has
the recorded digest gets the final name, whole. A crash leaves temporary files, never a part.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from modeldrop import files
from modeldrop.backend.base import Backend
from modeldrop.errors import ArtifactDamaged, BackendError, Conflict, SourceChanged
from modeldrop.names import printable
from modeldrop.records import Artifact, StoredFile

# Below this, handing the hash to another thread costs more than it saves.
_INLINE: Final = 256 * 1024
_READ_SIZE: Final = 4 * 1024 * 1024

T = TypeVar("T")

Progress = Callable[[int], None]
"""Called with the number of bytes that were just moved."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What arrived: the digest of the bytes that were sent, and how many there were."""

    sha256: str
    size: int


class _Hash:
    """A sha256 that runs one chunk behind its reader, in the pool."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._sha256 = hashlib.sha256()
        self._pool = pool
        self._pending: Future[None] | None = None

    def update(self, data: bytes) -> None:
        self._wait()
        if len(data) < _INLINE:
            self._sha256.update(data)
        else:
            self._pending = self._pool.submit(self._sha256.update, data)

    def hexdigest(self) -> str:
        self._wait()
        return self._sha256.hexdigest()

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None


class Transfer:
    """Moves bytes between this machine and one backend."""

    def __init__(self, backend: Backend) -> None:
        """Move to and from `backend`."""
        self._backend = backend
        # One hashing thread a core that can run beside the sender; idle threads cost nothing.
        self._hashers = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hash")

    def close(self) -> None:
        """Let the hashing threads go."""
        self._hashers.shutdown(wait=False)

    def send(
        self,
        fd: int,
        key: str,
        size: int,
        unchanged: Callable[[], None],
        moved: Progress = lambda _: None,
    ) -> Sent:
        """Send an open file of `size` bytes to a unique, free key; return what arrived.

        `unchanged` raises `SourceChanged` when the file isn't what it was; it is called before,
        during and after. Nothing is visible under the key unless all of it is.

        Raises:
            SourceChanged: the file changed meanwhile.
            BackendError: the backend failed, or holds something else than what was sent.
        """
        unchanged()
        writer = self._backend.writer(key, size)
        digest, total = _Hash(self._hashers), 0
        try:
            while data := os.read(fd, _READ_SIZE):
                digest.update(data)
                writer.write(data)
                total += len(data)
                moved(len(data))
                unchanged()
            sha256 = digest.hexdigest()
            unchanged()
            if total != size:
                message = f"{total} bytes were read where {size} were expected"
                raise SourceChanged(message, hint="nothing to do: it is stored once it is quiet")
            writer.finish()
        except BaseException:
            writer.abort()
            raise
        self._check_arrived(key, sha256, size)
        return Sent(sha256, size)

    def digest(
        self, fd: int, unchanged: Callable[[], None], moved: Progress = lambda _: None
    ) -> Sent:
        """Return the digest and size of an open file, without sending it anywhere.

        Raises:
            SourceChanged: the file changed meanwhile.
        """
        digest, total = hashlib.sha256(), 0
        unchanged()
        while data := os.read(fd, _READ_SIZE):
            digest.update(data)
            total += len(data)
            moved(len(data))
            unchanged()
        return Sent(digest.hexdigest(), total)

    def _check_arrived(self, key: str, sha256: str, size: int) -> None:
        stored = self._backend.stat(key)
        if stored is None or stored.size != size:
            what = "nothing" if stored is None else f"{stored.size} bytes"
            message = f"{self._backend.url}/{key} holds {what} where {size} bytes were sent"
            raise BackendError(message, hint="it is sent again; if this stays, check the store")
        if self._backend.capabilities.proves_writes:
            return
        found = self._read_back(key)
        if found is None or found.sha256 != sha256:
            message = f"{self._backend.url}/{key} holds other bytes than were sent"
            raise BackendError(message, hint="it is sent again; if this stays, check the store")

    def _read_back(self, key: str, moved: Progress = lambda _: None) -> Sent | None:
        """Return digest and size of what is stored under a key, or None if it is absent."""
        source = self._backend.source(key)
        if source is None:
            return None
        digest, total = _Hash(self._hashers), 0
        with source:
            while data := source.read(self._backend.capabilities.chunk_size):
                digest.update(data)
                total += len(data)
                moved(len(data))
        return Sent(digest.hexdigest(), total)

    def missing(self, artifact: Artifact) -> list[str]:
        """Return the paths of the artifact's files that aren't stored with their size."""
        return [
            file.path
            for file, stored in self._in_parallel(
                lambda file: self._backend.stat(file.key), artifact.files
            )
            if stored is None or stored.size != file.size
        ]

    def damaged(self, artifact: Artifact, moved: Progress = lambda _: None) -> list[str]:
        """Return the paths of the artifact's files whose stored bytes aren't what was recorded.

        Reads every byte.
        """
        return [
            file.path
            for file, found in self._in_parallel(
                lambda file: self._read_back(file.key, moved), artifact.files
            )
            if found != Sent(file.sha256, file.size)
        ]

    def pull(self, artifact: Artifact, target: Path, moved: Progress = lambda _: None) -> Path:
        """Bring an artifact to `target`, a path that is free, verified and whole; return it.

        Raises:
            Conflict: there is something else at `target`.
            ArtifactDamaged: stored bytes aren't what was recorded; the message names the files.
                Nothing is left at `target`.
        """
        if os.path.lexists(target):
            if is_copy(target, artifact):
                return target
            message = f"{target} exists, and isn't what would be pulled"
            raise Conflict(message, hint="move it away, or pull to another folder with `-o DIR`")
        files.make_folders(target.parent)
        temp = files.temp_beside(target)
        try:
            if artifact.type == "file":
                self._fetch_all([(artifact.files[0], temp)], artifact, moved)
            else:
                temp.mkdir()
                places = [(file, _inside(temp, file.path)) for file in artifact.files]
                for folder in {place.parent for _, place in places}:
                    folder.mkdir(parents=True, exist_ok=True)
                self._fetch_all(places, artifact, moved)
                files.sync_tree(temp)
            files.rename_if_absent(temp, target)
        except FileExistsError as error:
            message = f"{target} appeared while it was pulled"
            raise Conflict(message, hint="pull to another folder with `-o DIR`") from error
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(temp) if temp.is_dir() else temp.unlink(missing_ok=True)
        return target

    def _fetch_all(
        self, places: list[tuple[StoredFile, Path]], artifact: Artifact, moved: Progress
    ) -> None:
        where = dict(places)
        bad = [
            file.path
            for file, good in self._in_parallel(
                lambda file: self._fetch(file, where[file], moved), where
            )
            if not good
        ]
        if bad:
            raise damage(artifact, bad, self._backend.url)

    def _fetch(self, file: StoredFile, place: Path, moved: Progress) -> bool:
        """Write a stored file to `place`; return whether it is what was recorded."""
        source = self._backend.source(file.key)
        if source is None:
            return False
        digest, total = _Hash(self._hashers), 0
        with source, place.open("xb") as out:
            while data := source.read(self._backend.capabilities.chunk_size):
                digest.update(data)
                out.write(data)
                total += len(data)
                moved(len(data))
            out.flush()
            files.sync_file(out.fileno())
        return Sent(digest.hexdigest(), total) == Sent(file.sha256, file.size)

    def _in_parallel(
        self, work: Callable[[StoredFile], T], items: Iterable[StoredFile]
    ) -> Iterator[tuple[StoredFile, T]]:
        every = list(items)
        if len(every) == 1:
            yield every[0], work(every[0])
            return
        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            yield from zip(every, pool.map(work, every), strict=True)


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
    if artifact.type == "file":
        return path.is_file() and _file_is(path, artifact.files[0])
    if not path.is_dir():
        return False
    found = {
        str(each.relative_to(path)) for each in path.rglob("*") if each.is_symlink() or not each.is_dir()
    }
    return found == {file.path for file in artifact.files} and all(
        _file_is(path / file.path, file) for file in artifact.files
    )


def _file_is(path: Path, file: StoredFile) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _inside(root: Path, path: str) -> Path:
    """Return a path below `root`, and only below: a manifest is data from a store."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        message = f"{printable(path)!r} leads out of the folder that it is pulled to"
        raise ArtifactDamaged(message, hint="don't trust this store before you know why")
    return root.joinpath(*parts)
