"""A bundle as a place to import from. Nothing of it becomes a path on this machine.

Headers are read one by one and held against the list at the front; a member's bytes are read where
they stand in the file, and hashed by whoever takes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from modeldrop.errors import IntegrityError, NotFound, RecordDamaged, SourceChanged, UsageError
from modeldrop.form import Record
from modeldrop.imports.elsewhere import (
    Content,
    Described,
    ExperimentThere,
    File,
    Left,
    Opened,
    RunThere,
    TargetThere,
    VersionThere,
)
from modeldrop.imports.packing import NAME
from modeldrop.intake.observation import Signature
from modeldrop.names import is_alias, is_experiment, parse_guid, printable
from modeldrop.records import AliasMove, Bundle, Member, Revision, VacantVersion, Version

_BLOCK: Final = 512
# What is held in memory: the list, and one record.
_MOST_RECORD: Final = 64 * 2**20

AnyRecord = TypeVar("AnyRecord", bound=Record)


class BundleFile:
    """A bundle, open to be read."""

    source = "bundle"
    called = "a bundle"

    def __init__(self, path: Path) -> None:
        """Read the list and the records of a bundle.

        Raises:
            NotFound: there is no such file.
            UsageError: it is no bundle.
            IntegrityError: it is damaged, or holds what no bundle may.
        """
        self.location = str(path.absolute())
        self._shown = printable(str(path))
        self._fd = self._opened(path)
        try:
            self._check_regular()
            self._read()
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    def runs(self) -> Iterator[RunThere]:
        """Return the revisions, those of one run in their order."""
        for revision in sorted(self._revisions, key=lambda each: (each.run, each.revision)):
            yield RunThere(
                run=revision.run,
                name=_named(revision.run, revision.revision),
                experiment=revision.experiment,
                by=revision.committed_by,
                at=revision.committed_at,
                content=partial(self._content, revision),
                described=partial(Described, metadata=revision.metadata),
                key=_named(revision.run, revision.revision),
            )

    def experiments(self) -> Iterator[ExperimentThere]:
        """Return the experiments."""
        for experiment, records in sorted(self._versions.items()):
            yield ExperimentThere(
                experiment,
                tuple(records[number] for number in sorted(records)),
                self._aliases[experiment],
                complete=False,
            )

    def targets(self) -> Iterator[TargetThere]:
        """Return nothing: a bundle has none."""
        return iter(())

    def left(self) -> Iterator[Left]:
        """Return nothing: a bundle holds only what has a place here."""
        return iter(())

    # Reading

    def _opened(self, path: Path) -> int:
        try:
            # A pipe that nobody writes to would never open otherwise.
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotFound(f"there is no bundle {self._shown}", hint="name the file") from error
        except OSError as error:
            raise UsageError(f"{self._shown} can't be read: {error.strerror}") from error

    def _check_regular(self) -> None:
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            message = f"{self._shown} is no regular file"
            raise UsageError(message, hint="write what comes through a pipe into a file first")
        self._signature, self._size = Signature.of(status), status.st_size

    def _read(self) -> None:
        offset, size = self._header(0, NAME)
        bundle = self._record(Bundle, self._small(NAME, offset, size), NAME)
        offset = _after(offset, size)
        self._places: dict[str, tuple[int, int]] = {}
        self._revisions: list[Revision] = []
        self._versions: dict[str, dict[int, VersionThere]] = defaultdict(dict)
        self._aliases: dict[str, dict[str, int]] = defaultdict(dict)
        records: dict[str, Callable[[bytes, str], None]] = {
            Version.kind: self._take_version,
            VacantVersion.kind: self._take_vacant,
            AliasMove.kind: self._take_alias,
            Revision.kind: self._take_revision,
        }
        for member in bundle.members:
            start, size = self._header(offset, member.name)
            if size != member.size:
                self._damaged(f"{printable(member.name)} has another size than the list says")
            if member.name == f"bytes/{member.sha256}":
                self._places[member.sha256] = (start, size)
            elif member.name.startswith("records/"):
                self._take(member, start, records)
            else:
                self._damaged(f"{printable(member.name)} is nothing that a bundle holds")
            offset = _after(start, size)
        if os.pread(self._fd, 2 * _BLOCK + 1, offset) != bytes(2 * _BLOCK):
            self._damaged("it doesn't end where its list does")
        for revision in self._revisions:
            for file in revision.files().values():
                if self._places.get(file.sha256, (0, -1))[1] != file.size:
                    self._damaged(f"the bytes of {printable(file.path)} aren't in it")

    def _header(self, offset: int, name: str) -> tuple[int, int]:
        """Return where the bytes of the member that has to be next begin, and how many they are."""
        block = os.pread(self._fd, _BLOCK, offset)
        try:
            found = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            if not offset:
                message = f"{self._shown} is no bundle"
                raise UsageError(message, hint="`modeldrop export` makes one") from error
            self._damaged(f"it has no readable header at byte {offset}")
        if found.type != tarfile.REGTYPE or found.name != name or found.size < 0:
            if not offset:
                message = f"{self._shown} is no bundle: it doesn't begin with {NAME}"
                raise UsageError(message, hint="`modeldrop export` makes one")
            self._damaged(f"its member at byte {offset} isn't the plain file {printable(name)}")
        if offset + _BLOCK + found.size > self._size:
            self._damaged(f"it was cut within {printable(name)}")
        return offset + _BLOCK, found.size

    def _small(self, name: str, offset: int, size: int) -> bytes:
        if size > _MOST_RECORD:
            self._damaged(f"{printable(name)} is larger than {_MOST_RECORD} bytes")
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            self._damaged(f"{printable(name)} can't be read whole")
        return data

    def _take(
        self, member: Member, start: int, records: dict[str, Callable[[bytes, str], None]]
    ) -> None:
        data = self._small(member.name, start, member.size)
        if hashlib.sha256(data).hexdigest() != member.sha256:
            self._damaged(f"{printable(member.name)} doesn't have the digest that the list says")
        try:
            kind = json.loads(data).get("kind")
        except (ValueError, RecursionError, AttributeError):
            kind = None
        take = records.get(kind) if isinstance(kind, str) else None
        if take is None:
            self._damaged(f"{printable(member.name)} is no record that a bundle holds")
        take(data, member.name)

    def _take_version(self, data: bytes, name: str) -> None:
        version = self._record(Version, data, name)
        self._number(version.experiment, version.version)
        self._versions[version.experiment][version.version] = VersionThere(
            number=version.version,
            name=f"{version.experiment}/{version.version}",
            run=_named(version.run, version.revision),
            artifact=version.artifact,
            by=version.registered_by,
            at=version.registered_at,
            description=version.description,
            sha256=version.sha256,
        )

    def _take_vacant(self, data: bytes, name: str) -> None:
        vacant = self._record(VacantVersion, data, name)
        self._number(vacant.experiment, vacant.version)
        self._versions[vacant.experiment][vacant.version] = VersionThere(
            number=vacant.version,
            name=f"{vacant.experiment}/{vacant.version}",
            gone=vacant.reason,
        )

    def _take_alias(self, data: bytes, name: str) -> None:
        move = self._record(AliasMove, data, name)
        self._number(move.experiment, move.version or 0)
        if not is_alias(move.alias):
            self._damaged(f"{printable(move.alias)!r} is no alias")
        self._aliases[move.experiment][move.alias] = move.version or 0

    def _take_revision(self, data: bytes, name: str) -> None:
        revision = self._record(Revision, data, name)
        if parse_guid(revision.run) != revision.run or revision.revision < 1:
            self._damaged(f"{printable(revision.run)!r} is no run")
        self._revisions.append(revision)

    def _number(self, experiment: str, number: int) -> None:
        if not is_experiment(experiment) or number < 1:
            self._damaged(f"{printable(experiment)}/{number} is no version")

    def _record(self, kind: type[AnyRecord], data: bytes, name: str) -> AnyRecord:
        try:
            return kind.from_bytes(data, f"{self._shown}, {printable(name)}")
        except RecordDamaged as error:
            error.hint = _AGAIN
            raise

    def _content(self, revision: Revision) -> Content:
        files: list[File] = []
        for path, stored in revision.files().items():
            start, size = self._places[stored.sha256]
            files.append(File(path, size, partial(self._open, start), stored.sha256))
        return Content(tuple(files), revision.refused)

    def _open(self, start: int) -> AbstractContextManager[Opened]:
        return contextlib.nullcontext(Opened(self._fd, start, self._unchanged))

    def _unchanged(self) -> None:
        if Signature.of(os.fstat(self._fd)) != self._signature:
            message = f"{self._shown} changed while it was read"
            raise SourceChanged(message, hint="run the same import again once it stays as it is")

    def _damaged(self, why: str) -> NoReturn:
        raise IntegrityError(f"the bundle {self._shown} is damaged: {why}", hint=_AGAIN)


_AGAIN: Final = "copy the bundle again, or export it anew; nothing of it was imported"


def _after(offset: int, size: int) -> int:
    return offset + size + -size % _BLOCK


def _named(run: str, revision: int) -> str:
    return f"run:{run}~{revision}"
