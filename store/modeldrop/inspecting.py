"""Looking at files by what their headers say: on this machine, in a home's cache, at a backend.

Of what is stored, only the header is fetched, by ranges. Nothing is loaded, and nothing is written.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modeldrop.backend.base import Backend, Ranged, Source
from modeldrop.errors import ArtifactDamaged, NotFound
from modeldrop.formats.description import Description, Tensor
from modeldrop.formats.recognition import look
from modeldrop.formats.source import ASKED, Limits, OpenFile
from modeldrop.names import printable
from modeldrop.parallel import in_parallel
from modeldrop.records import Artifact, FileFormat, StoredFile
from modeldrop.structs import Frozen, replace

# What a request costs is about what as many bytes cost.
_FAR: Final = Limits(ASKED.seconds, ASKED.most_bytes, 256 * 2**10, time.monotonic)
_MOST_FILES: Final = 100_000
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Inspected(Frozen):
    """What a file is, and its tensors, if they were asked for."""

    format: FileFormat
    tensors: tuple[Tensor, ...] = ()


def inspect_path(path: Path | str, *, tensors: bool = False) -> list[Inspected]:
    """Return what a file on this machine is, or each file in a folder that is of a known kind.

    Paths are relative to the folder; a file's is its name. Links in a folder aren't followed.

    Raises:
        NotFound: there is nothing at the path, or something that is neither file nor folder.
        OSError: it can't be read.
    """
    # A link that was named is followed.
    place = Path(path).resolve()
    if place.is_dir():
        names = sorted(_files_in(place), key=os.fsencode)
        return _of_files(place, names, tensors=tensors, here=place)
    if not place.is_file():
        message = f"there is no file or folder at {printable(str(path))}"
        raise NotFound(message, hint="give the path of a file, or a reference such as `churn/3`")
    return _of_files(place.parent, [place.name], tensors=tensors, here=place.parent)


def inspect_artifact(
    backend: Backend, artifact: Artifact, copy: Path | None, *, tensors: bool = False
) -> list[Inspected]:
    """Return what each file of a stored artifact is, by its path in it, of those that are known.

    `copy` is a verified copy of it on this machine, if there is one.

    Raises:
        ArtifactDamaged: a file of it isn't there.
        BackendError: the backend failed.
    """
    if copy is not None:
        if artifact.type == "file":
            found = _of_files(copy.parent, [copy.name], tensors=tensors)
            return [_renamed(each, artifact.files[0].path) for each in found]
        return _of_files(copy, [each.path for each in artifact.files], tensors=tensors)

    def read(file: StoredFile, _: object) -> Description | None:
        near = backend.local_path(file.key)
        if near is not None:
            try:
                return _of_path(near, file.path, tensors=tensors)
            except FileNotFoundError as error:
                raise _missing(backend, file) from error
        return look(_StoredSource(backend, file), _FAR, tensors=tensors)

    every = list(in_parallel(backend.capabilities.connections, read, artifact.files))
    return _told([(file.path, found) for file, found in every])


def _missing(backend: Backend, file: StoredFile) -> ArtifactDamaged:
    message = f"{backend.url}/{file.key} isn't there"
    return ArtifactDamaged(message, hint="`modeldrop verify` names everything that is missing")


def _renamed(found: Inspected, path: str) -> Inspected:
    return Inspected(replace(found.format, path=path), found.tensors)


def _files_in(folder: Path) -> Iterator[str]:
    count = 0
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            if count < _MOST_FILES and stat.S_ISREG(os.lstat(path).st_mode):
                count += 1
                yield os.path.relpath(path, folder)


def _of_files(
    folder: Path, names: list[str], *, tensors: bool, here: Path | None = None
) -> list[Inspected]:
    found = [(name, _of_path(folder / name, name, tensors=tensors)) for name in names]
    return _told(found, here)


def _of_path(path: Path, name: str, *, tensors: bool) -> Description | None:
    fd = os.open(path, _OPEN)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return look(OpenFile(fd, name, status.st_size), ASKED, tensors=tensors)
    finally:
        os.close(fd)


def _told(found: list[tuple[str, Description | None]], here: Path | None = None) -> list[Inspected]:
    """Return what was found; what a file needs may be among the others, or in the folder `here`."""
    names = {path for path, _ in found}
    told = []
    for path, each in found:
        if each is not None:
            each.hold_against(
                path,
                lambda name: name in names or (here is not None and os.path.exists(here / name)),
            )
            told.append(Inspected(FileFormat.of(path, each), tuple(each.tensors)))
    return told


class _StoredSource:
    """A stored file, read by ranges."""

    def __init__(self, backend: Backend, file: StoredFile) -> None:
        self.name = file.path
        self.size = file.size
        self._backend = backend
        self._file = file
        self._ranged: Ranged | None = None

    def read(self, offset: int, count: int) -> bytes:
        count = max(0, min(count, self.size - offset))
        if not count:
            return b""
        with self._open(offset, offset + count) as source:
            parts: list[bytes] = []
            while count and (part := source.read(count)):
                parts.append(part)
                count -= len(part)
        return b"".join(parts)

    def _open(self, start: int, end: int) -> Source:
        if self._ranged is not None:
            return self._ranged.within(start, end)
        source = self._backend.source(self._file.key, start)
        if source is None:
            raise _missing(self._backend, self._file)
        if isinstance(source, Ranged):
            self._ranged = source
        return source
