"""Making a bundle: runs and versions in one file, for a place that no network leads to.

docs/format.md, "A bundle", is the specification. What is written is checked on the way: a file
whose stored bytes aren't what was recorded ends it, and there is no bundle then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from modeldrop import layout
from modeldrop.disk import sync_file
from modeldrop.errors import AliasNotFound, Conflict, UsageError, VersionNotFound
from modeldrop.files import rename, rename_if_absent, temp_beside
from modeldrop.form import now
from modeldrop.names import printable
from modeldrop.records import Artifact, Bundle, Member, Revision, StoredFile, Version
from modeldrop.references import Resolved
from modeldrop.rooms import Rooms
from modeldrop.structs import Frozen
from modeldrop.transfer import damage

Progress = Callable[[int], None]

NAME: Final = "bundle.json"
_BLOCK: Final = 512
_CHUNK: Final = 2**20


class Packed(Frozen):
    """What a bundle holds."""

    path: Path
    size: int
    versions: tuple[str, ...]
    runs: tuple[str, ...]


def pack(
    rooms: Rooms,
    named: Iterable[Resolved],
    path: Path,
    *,
    history: bool = False,
    replace: bool = False,
    moved: Progress = lambda _: None,
) -> Packed:
    """Write a bundle of what was named; return what it holds.

    The file is there only once all of it is written. `history` takes along every lower number of
    each experiment, so that the versions can be imported where none of them is.

    Raises:
        Conflict: there is a file of that name, and it isn't to be replaced.
        ArtifactDamaged: stored bytes aren't what was recorded.
        BackendError: the backend failed.
    """
    if path.exists() and not replace:
        message = f"there is something at {printable(str(path))} already"
        raise Conflict(message, hint="name another file, or remove it first")
    packing = _Packing(rooms)
    for each in named:
        packing.take(each, history=history)
    packing.take_aliases()
    temp = temp_beside(path)
    try:
        try:
            with open(temp, "xb") as file:
                packing.write(file, moved)
                file.flush()
                sync_file(file.fileno())
            size = temp.stat().st_size
            if replace:
                rename(temp, path)
            else:
                rename_if_absent(temp, path)
        except FileExistsError as error:
            message = f"there is something at {printable(str(path))} already"
            raise Conflict(message, hint="name another file, or remove it first") from error
        except OSError as error:
            message = f"{printable(str(path))} can't be written: {error.strerror}"
            raise UsageError(
                message, hint="name a place with room, that you can write to"
            ) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
    return Packed(path, size, tuple(packing.versions), tuple(packing.revisions))


class _Packing:
    """What is to be in a bundle."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self.versions: dict[str, bytes] = {}
        self.revisions: dict[str, bytes] = {}
        self._aliases: list[bytes] = []
        self._numbers: dict[str, set[int]] = {}
        self._files: dict[str, StoredFile] = {}

    def take(self, found: Resolved, *, history: bool) -> None:
        """Take a version with its run, or a run."""
        if found.version is None:
            self._take_revision(found.revision.run, found.revision.revision)
            return
        experiment, number = found.version.experiment, found.version.version
        for each in range(1, number + 1) if history else (number,):
            self._take_version(experiment, each)

    def take_aliases(self) -> None:
        """Take the aliases that are on versions that were taken."""
        aliases = self._rooms.aliases_at_backend
        for experiment, numbers in sorted(self._numbers.items()):
            for alias in aliases.names(experiment):
                with contextlib.suppress(AliasNotFound):
                    move = aliases.current(experiment, alias)
                    if move.version in numbers:
                        self._aliases.append(self._read(layout.moves(experiment, alias), move.move))

    def write(self, file: BinaryIO, moved: Progress) -> None:
        """Write all of it."""
        records = [*self.versions.values(), *self._aliases, *self.revisions.values()]
        members = [
            Member(f"records/{number}.json", len(data), hashlib.sha256(data).hexdigest())
            for number, data in enumerate(records, 1)
        ]
        members += [
            Member(f"bytes/{sha256}", each.size, sha256)
            for sha256, each in sorted(self._files.items())
        ]
        home = self._rooms.home
        bundle = Bundle(home.repository, home.user, now(), tuple(members)).to_bytes()
        _write_member(file, NAME, len(bundle), [bundle])
        for member, data in zip(members, records, strict=False):
            _write_member(file, member.name, member.size, [data])
        for sha256, each in sorted(self._files.items()):
            _write_member(file, f"bytes/{sha256}", each.size, self._bytes(each, moved))
        file.write(bytes(2 * _BLOCK))

    def _take_version(self, experiment: str, number: int) -> None:
        record = self._rooms.versions_at_backend.record(experiment, number)
        if record is None:
            message = f"version {experiment}/{number} isn't there"
            raise VersionNotFound(message, hint="`modeldrop verify` checks the whole store")
        name = f"{experiment}/{number}"
        self.versions[name] = self._read(layout.versions(experiment), number)
        if isinstance(record, Version):
            self._numbers.setdefault(experiment, set()).add(number)
            self._take_revision(record.run, record.revision)

    def _take_revision(self, run: str, number: int) -> None:
        name = f"run:{run}~{number}"
        if name in self.revisions:
            return
        data = self._read(layout.revisions(run), number)
        self.revisions[name] = data
        for each in Revision.from_bytes(data, name).files().values():
            self._files.setdefault(each.sha256, each)

    def _read(self, sequence: str, number: int) -> bytes:
        # Byte for byte: a later modeldrop may have said more in it than this one reads.
        key = layout.numbered(sequence, number)
        data = self._rooms.backend.read(key)
        if data is None:
            message = f"{self._rooms.backend.url}/{key} isn't there"
            raise VersionNotFound(message, hint="`modeldrop verify` checks the whole store")
        return data

    def _bytes(self, stored: StoredFile, moved: Progress) -> Iterator[bytes]:
        """Yield the bytes of a stored file, checked.

        Raises:
            ArtifactDamaged: they aren't what was recorded.
        """
        digest, size = hashlib.sha256(), 0
        source = self._rooms.backend.source(stored.key)
        if source is not None:
            with source:
                while size <= stored.size and (data := source.read(_CHUNK)):
                    digest.update(data)
                    size += len(data)
                    if size <= stored.size:
                        yield data
                        moved(len(data))
        if (digest.hexdigest(), size) != (stored.sha256, stored.size):
            raise damage(Artifact.of_file(stored), [stored.path], self._rooms.backend.url)


def _write_member(file: BinaryIO, name: str, size: int, data: Iterable[bytes]) -> None:
    header = tarfile.TarInfo(name)
    header.size = size
    file.write(header.tobuf(tarfile.GNU_FORMAT, "ascii", "strict"))
    file.writelines(data)
    file.write(bytes(-size % _BLOCK))
