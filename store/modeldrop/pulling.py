"""Verified pulls: an artifact's bytes from a backend to a place of this machine.

Bytes are hashed while they are put together in a hidden folder beside the target (`unfinished`),
waited for on the disk, and only what has the recorded digests gets the final name, whole. A crash
leaves that folder, and the next pull of the same goes on with it.

A digest that is wrong is no proof of damage at the store: what arrived before may have been lost by
this machine's disk, and a bit may have flipped on the way. So the bytes are fetched once more.
"""

from __future__ import annotations

import enum
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modeldrop import batch, disk, files, ranges, unfinished
from modeldrop.backend.base import Backend, Gathering, Ranged, Source, Stored
from modeldrop.copies import check_names, files_in, same
from modeldrop.parallel import Progress, in_parallel
from modeldrop.records import Artifact, StoredFile
from modeldrop.syncing import Syncing
from modeldrop.transfer import Hash, damage

if TYPE_CHECKING:
    from modeldrop.unfinished import Unfinished

_CHUNK: Final = 512 * 1024
# Up to here a file is brought together with others, if there are so many.
_SMALL: Final = 2**20
_MANY: Final = 8
# From here on it is noted what has arrived of a file; of a smaller one its size tells.
_LARGE: Final = 64 * 2**20
# After so many bytes of a large one.
_PIECE: Final = 4 * 2**20
# How often the bytes of a file are read before the store is said to be damaged.
_READINGS: Final = 2
# What renaming answers where there is something else already.
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})


class _Outcome(enum.Enum):
    RIGHT = enum.auto()
    WRONG = enum.auto()
    # The store has no such file, or one of another size: to read it again is no use.
    GONE = enum.auto()


def pull(
    backend: Backend, artifact: Artifact, target: Path, moved: Progress = lambda _: None
) -> Path:
    """Bring an artifact to `target`, verified and whole; return it.

    What is there already with the same bytes is the answer. What an earlier pull of the artifact
    to this folder brought, and came to no end, isn't fetched again; `moved` counts it too.

    After an interruption or a failure of the backend, what has arrived is kept in a hidden folder
    beside the target, for the next pull; so it is after a crash.

    Raises:
        Conflict: there is something else at `target`.
        ArtifactDamaged: stored bytes aren't what was recorded, and the message names the
            files; or a name in the manifest leads elsewhere. Nothing is left at `target`.
    """
    check_names(artifact)
    if os.path.lexists(target):
        there = same(target, artifact)
        # The pull that brought it may have died before it had put its things away.
        unfinished.clean(target.parent, artifact.sha256)
        return there
    files.make_folders(target.parent)
    with unfinished.gather(target, artifact) as gathered:
        _Pull(backend, artifact, gathered).fetch(moved)
        try:
            files.rename_if_absent(gathered.content, target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            # Somebody else was quicker, perhaps with the same pull.
            same(target, artifact)
    unfinished.clean(target.parent, artifact.sha256)
    return target


class _Pull:
    """One artifact on its way to where it is gathered."""

    def __init__(self, backend: Backend, artifact: Artifact, gathered: Unfinished) -> None:
        self._backend = backend
        self._artifact = artifact
        self._gathered = gathered
        self._fresh = gathered.fresh
        self._threads = backend.capabilities.connections
        ordered = sorted(artifact.files, key=lambda file: file.path.encode())
        self._numbers = {file.path: number for number, file in enumerate(ordered)}

    def fetch(self, moved: Progress) -> None:
        """Return when all of it is there, verified, and on the disk."""
        every = self._artifact.files
        # Before anything is written: it is told of every write that fails from now on.
        root = os.open(self._gathered.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            folders = self._make_folders()
            count = len(every) + len(folders)
            # What an earlier pull wrote may have failed before, and somebody else been told of it.
            together = self._fresh and batch.go_together(root, count)
            with Syncing(root, whole=True) as syncing:
                there = self._gather(every, moved, syncing if together else None)
                left = [file for number, file in enumerate(every) if number not in there]
                done = in_parallel(self._threads, self._fetch, left, moved)
                bad = [file.path for file, good in done if not good]
                if bad:
                    raise damage(self._artifact, bad, self._backend.url)
                # Others may have begun to write much meanwhile, which isn't to be waited for.
                if together and batch.go_together(root, count):
                    syncing.finish()
                    return
            for _ in in_parallel(self._threads, self._sync, every):
                pass
            for folder in folders:
                disk.sync_folder(folder)
        finally:
            os.close(root)

    def _gather(
        self, every: Sequence[StoredFile], moved: Progress, syncing: Syncing | None
    ) -> set[int]:
        """Bring small files at once, as far as that goes; return which of them are there.

        Without `syncing`, each of them is on its way to the disk by itself.
        """
        there: set[int] = set()
        small = [number for number, file in enumerate(every) if file.size <= _SMALL]
        # What has arrived before is gone on with.
        if not self._fresh or len(small) < _MANY or not isinstance(self._backend, Gathering):
            return there
        content = os.fspath(self._gathered.content)

        def take(number: int, data: memoryview) -> None:
            file = every[small[number]]
            # Whether it was hit on its way only, another reading tells.
            if hashlib.sha256(data).hexdigest() == file.sha256:
                path, alone = f"{content}/{file.path}", syncing is None
                files.write_temp(path, data, 0o666, sync=False, send=alone)
                if syncing is not None:
                    syncing.wrote(len(data))
                there.add(small[number])
                moved(len(data))

        wanted = [Stored(every[number].key, every[number].size) for number in small]
        self._backend.gather(wanted, take)
        return there

    def _make_folders(self) -> set[Path]:
        """Make what the files are put into, and return it; what doesn't belong there goes."""
        content = self._gathered.content
        if not self._fresh and not self._is_part(content):
            is_folder = content.is_dir() and not content.is_symlink()
            shutil.rmtree(content) if is_folder else content.unlink()
            self._fresh = True
        if self._artifact.type == "file":
            return set()
        folders = {content}
        for file in self._artifact.files:
            folder = self._place(file).parent
            while folder not in folders:
                folders.add(folder)
                folder = folder.parent
        for folder in sorted(folders):
            folder.mkdir(exist_ok=True)
        return folders

    def _is_part(self, content: Path) -> bool:
        """Return whether what has arrived before has no file that the artifact doesn't have."""
        if self._artifact.type == "file":
            return content.is_file() and not content.is_symlink()
        return (
            content.is_dir()
            and not content.is_symlink()
            and files_in(content) <= self._numbers.keys()
        )

    def _place(self, file: StoredFile) -> Path:
        content = self._gathered.content
        return content if self._artifact.type == "file" else content / file.path

    def _sync(self, file: StoredFile, _: Progress) -> None:
        disk.sync_path(str(self._place(file)))

    def _fetch(self, file: StoredFile, moved: Progress) -> bool:
        """Bring a file where it belongs; return whether it is what was recorded."""
        place = self._place(file)
        resumed = not self._fresh and place.exists()
        for attempt in range(_READINGS + resumed):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(place, flags, 0o666)
            try:
                if attempt:
                    self._gathered.forget(self._numbers[file.path])
                    os.ftruncate(fd, 0)
                outcome = self._complete(file, fd, moved, resumed=resumed and not attempt)
            finally:
                os.close(fd)
            if outcome is not _Outcome.WRONG:
                return outcome is _Outcome.RIGHT
        return False

    def _complete(self, file: StoredFile, fd: int, moved: Progress, *, resumed: bool) -> _Outcome:
        """Fetch what is missing of a file, and hash all of it."""
        arrived = self._arrived(file, fd) if resumed else []
        start = ranges.first_missing(arrived)
        if resumed and start == file.size:
            return self._judge(file, fd, _hash_of(fd, start, moved))
        if start:
            # To ask for bytes behind its end would be an error of another kind.
            stored = self._backend.stat(file.key)
            if stored is None or stored.size != file.size:
                return _Outcome.GONE
        large = file.size > _LARGE
        begun = ranges.begin(self._backend, file.key, file.size, start) if large else None
        source, parted = begun or (self._backend.source(file.key, start), False)
        if source is None:
            return _Outcome.GONE
        with source, Syncing(fd) as syncing:
            # Of a smaller one, the bytes that come tell it as quickly.
            if large and isinstance(source, Ranged) and source.size != file.size:
                return _Outcome.GONE
            if parted:
                digest = hashlib.sha256()
                note = partial(self._note, file, syncing)
                ranges.save(source, file.size, fd, arrived, note, moved, digest.update)
                sha256 = digest.hexdigest()
            else:
                sha256 = self._stream(source, file, fd, start, moved, syncing)
            if large:
                syncing.finish()
        if _CHUNK < file.size <= _LARGE:
            disk.send_off(fd)
        return self._judge(file, fd, sha256)

    @staticmethod
    def _judge(file: StoredFile, fd: int, sha256: str) -> _Outcome:
        right = sha256 == file.sha256 and os.fstat(fd).st_size == file.size
        return _Outcome.RIGHT if right else _Outcome.WRONG

    def _arrived(self, file: StoredFile, fd: int) -> list[unfinished.Interval]:
        if file.size > _LARGE:
            return self._gathered.arrived(self._numbers[file.path])
        size = os.fstat(fd).st_size
        return [(0, size)] if 0 < size <= file.size else []

    def _note(self, file: StoredFile, syncing: Syncing, start: int, end: int) -> None:
        """Take note that a part of a large file has arrived; called from several threads."""
        self._gathered.note(self._numbers[file.path], start, end)
        syncing.wrote(end - start)

    def _stream(
        self,
        source: Source,
        file: StoredFile,
        fd: int,
        start: int,
        moved: Progress,
        syncing: Syncing,
    ) -> str:
        """Write a source from its `start` on, and return the digest of all of the file."""
        with Hash(file.size) as digest:
            for before in _read(fd, start):
                digest.update(before)
                moved(len(before))
            at = noted = start
            for data in digest.chunks(source.read_into, file.size - start):
                digest.update(data)
                files.write_at(fd, data, at)
                at += len(data)
                if file.size > _LARGE and (at - noted >= _PIECE or at == file.size):
                    self._note(file, syncing, noted, at)
                    noted = at
                moved(len(data))
                # A longer one is not taken for it, nor all of it written.
                if at > file.size:
                    break
            return digest.sent().sha256


def _read(fd: int, size: int) -> Iterator[bytes]:
    at = 0
    while at < size and (data := os.pread(fd, min(_CHUNK, size - at), at)):
        yield data
        at += len(data)


def _hash_of(fd: int, size: int, moved: Progress) -> str:
    digest = hashlib.sha256()
    for data in _read(fd, size):
        digest.update(data)
        moved(len(data))
    return digest.hexdigest()
