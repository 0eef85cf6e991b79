"""What is written down at a backend, and how far a journal is: records of docs/format.md.

What a home writes for itself is in `home_records`, what belongs to deployments in
`deployment_records`. The form that they all have, and what makes bytes of them, is `form`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final, Self

from modeldrop.form import Json, Part, Record, damaged
from modeldrop.metadata import NOTHING, Metadata
from modeldrop.names import WHOLE_RUN, is_sha256, printable, refuse_path
from modeldrop.structs import replace

if TYPE_CHECKING:
    from modeldrop.formats.description import Description


class RepositoryRecord(Record):
    """`.modeldrop/format.json`: what this backend is."""

    kind: ClassVar[str] = "repository"
    repository: str
    created_at: str
    created_by: str
    needs: str


class WriterRecord(Record):
    """`.modeldrop/writer.json`: the home that alone writes, where create-if-absent doesn't hold."""

    kind: ClassVar[str] = "writer"
    home: str
    host: str
    named_by: str
    named_at: str


class StoredFile(Part):
    """One file of an artifact: where its bytes are, and which bytes they are."""

    path: str
    sha256: str
    size: int
    key: str


def folder_sha256(files: Iterable[tuple[str, str]]) -> str:
    r"""Return the digest of a folder from its files' (path, sha256).

    It is the sha256 of the lines `<sha256>  <path>\n`, sorted by the bytes of the path.
    """
    lines = sorted((path.encode("utf-8"), sha256.encode("ascii")) for path, sha256 in files)
    whole = hashlib.sha256()
    for path, sha256 in lines:
        whole.update(sha256 + b"  " + path + b"\n")
    return whole.hexdigest()


class Artifact(Part):
    """One top-level entry of a run: a file, or a folder with its files.

    The paths of a folder's files are relative to the folder; a file's path is its name.
    """

    artifact: str
    type: str  # "file" or "folder"
    sha256: str
    size: int
    files: tuple[StoredFile, ...]

    @classmethod
    def of_file(cls, stored: StoredFile) -> Self:
        """Return the artifact that is one file at the top of its run."""
        return cls(stored.path, "file", stored.sha256, stored.size, (stored,))

    @classmethod
    def of_folder(cls, name: str, files: Iterable[StoredFile]) -> Self:
        """Return the artifact that is a folder with these files."""
        ordered = tuple(sorted(files, key=lambda file: file.path.encode("utf-8")))
        digest = folder_sha256((file.path, file.sha256) for file in ordered)
        return cls(name, "folder", digest, sum(file.size for file in ordered), ordered)

    @classmethod
    def from_json(cls, found: Mapping[str, object], where: str) -> Self:
        """Return the artifact, its digest and size checked against its files'."""
        read = super().from_json(found, where)
        # These names become paths where it is pulled to, and a manifest is data from a store.
        for path in (read.artifact, *(file.path for file in read.files)):
            reason = refuse_path(path)
            if reason or (path == read.artifact and "/" in path):
                raise damaged(where, f"{printable(path)!r} is no path in a run")
        # Before a folder's digest is made of them.
        for file in read.files:
            if not is_sha256(file.sha256):
                raise damaged(where, f"{printable(file.sha256)!r} is no digest")
        if read.type == "folder":
            again = cls.of_folder(read.artifact, read.files)
        elif read.type == "file" and len(read.files) == 1:
            again = cls.of_file(read.files[0])
        else:
            raise damaged(where, f"the artifact {read.artifact!r} is neither file nor folder")
        if again != read:
            raise damaged(where, f"the artifact {read.artifact!r} doesn't match its files")
        return read


class Refused(Part):
    """An entry of a run that isn't stored, and why."""

    path: str
    reason: str


class Origin(Part):
    """Where a record came from, and who brought it here when."""

    source: str  # "mlflow", "mlopsnet" or "bundle"
    location: str
    name: str
    imported_by: str
    imported_at: str

    def same(self, other: Origin | None) -> bool:
        """Return whether both mean the same thing elsewhere, whoever brought it."""
        return other is not None and (self.source, self.name) == (other.source, other.name)


class FileFormat(Part):
    """What a file of a run is, as its header says; the path is relative to the run."""

    path: str
    kind: str
    runs_code: bool
    summary: Mapping[str, str | int]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, path: str, found: Description) -> Self:
        """Return what is kept of a description."""
        return cls(path, found.kind, found.runs_code, found.summary, tuple(found.warnings))


class Revision(Record):
    """`<run>/revisions/<R>.json`, the manifest: one committed state of a run."""

    kind: ClassVar[str] = "revision"
    owner: str
    run: str
    revision: int
    experiment: str | None
    upload: str
    home: str
    host: str
    committed_by: str
    committed_at: str
    artifacts: tuple[Artifact, ...]
    refused: tuple[Refused, ...]
    formats: tuple[FileFormat, ...] = ()
    metadata: Metadata = NOTHING
    origin: Origin | None = None

    @property
    def written_at(self) -> str:
        """When this record was made, whenever what it tells of happened."""
        return self.origin.imported_at if self.origin else self.committed_at

    def formats_of(self, artifact: Artifact) -> tuple[FileFormat, ...]:
        """Return what the files of an artifact are, by their paths in it."""
        if artifact.type == "file":
            return tuple(each for each in self.formats if each.path == artifact.artifact)
        if artifact.artifact == WHOLE_RUN:
            return self.formats
        folder = f"{artifact.artifact}/"
        return tuple(
            replace(each, path=each.path.removeprefix(folder))
            for each in self.formats
            if each.path.startswith(folder)
        )

    def files(self) -> dict[str, StoredFile]:
        """Return every stored file by its path relative to the run."""
        return {
            (file.path if artifact.type == "file" else f"{artifact.artifact}/{file.path}"): file
            for artifact in self.artifacts
            for file in artifact.files
        }

    def whole(self) -> Artifact:
        """Return the whole run as one folder artifact, named `.`."""
        return Artifact.of_folder(
            WHOLE_RUN,
            (
                StoredFile(path, file.sha256, file.size, file.key)
                for path, file in self.files().items()
            ),
        )

    def content(self) -> dict[str, str]:
        """Return what makes two revisions equal: each artifact's digest by its name."""
        return {artifact.artifact: artifact.sha256 for artifact in self.artifacts}


class Version(Record):
    """`experiments/<experiment>/versions/<N>.json`: which bytes a version number means."""

    kind: ClassVar[str] = "version"
    owner: str
    experiment: str
    version: int
    run: str
    revision: int
    artifact: str
    sha256: str
    size: int
    description: str
    home: str
    host: str
    registered_by: str
    registered_at: str
    origin: Origin | None = None

    @property
    def written_at(self) -> str:
        """When this record was made, whenever what it tells of happened."""
        return self.origin.imported_at if self.origin else self.registered_at


class VacantVersion(Record):
    """`experiments/<experiment>/versions/<N>.json`, where the number will never mean anything."""

    kind: ClassVar[str] = "vacant-version"
    owner: str
    experiment: str
    version: int
    reason: str
    home: str
    host: str
    left_by: str
    left_at: str
    origin: Origin | None = None

    @property
    def written_at(self) -> str:
        """When this record was made."""
        return self.left_at


def vacant_owner(experiment: str, number: int) -> str:
    """Return the owner of a vacant version: the same for everybody who leaves the number vacant."""
    what: list[Json] = ["vacant", experiment, number]
    text = json.dumps(what, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class Registration(Record):
    """`registrations/<owner>.json`, the claim: where a registration began to look."""

    kind: ClassVar[str] = "registration"
    owner: str
    experiment: str
    run: str
    artifact: str
    sha256: str
    nonce: str | None
    starts_at: int
    claimed_by: str
    claimed_at: str


def registration_owner(
    experiment: str, run: str, artifact: str, sha256: str, nonce: str | None
) -> str:
    """Return the owner of a registration: the digest of what is registered.

    It is the sha256 of the JSON list `[experiment, run, artifact, sha256, nonce]` without white
    space; the nonce is null except for `--again`.
    """
    what: list[Json] = [experiment, run, artifact, sha256, nonce]
    text = json.dumps(what, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class RegistrationDone(Record):
    """`registrations/<owner>.done.json`: the version that a registration came to."""

    kind: ClassVar[str] = "registration-done"
    owner: str
    experiment: str
    version: int


class AliasMove(Record):
    """`experiments/<experiment>/aliases/<alias>/<S>.json`: where an alias was put, and why."""

    kind: ClassVar[str] = "alias-move"
    owner: str
    experiment: str
    alias: str
    move: int
    version: int | None  # None: the alias was removed
    sha256: str | None
    before: int | None  # the version that it was on until then
    reason: str
    home: str
    host: str
    moved_by: str
    moved_at: str

    @classmethod
    def from_json(cls, found: Mapping[str, object], where: str) -> Self:
        """Return the move, which names a version with its digest or neither."""
        read = super().from_json(found, where)
        if (read.version is None) != (read.sha256 is None):
            raise damaged(where, "one of its fields 'version' and 'sha256' is null, the other not")
        return read

    @property
    def name(self) -> str:
        """What the alias is named by: `churn@champion`."""
        return f"{self.experiment}@{self.alias}"

    @property
    def reference(self) -> str:
        """What this move is named by: `churn@champion~4`."""
        return f"{self.name}~{self.move}"


class Member(Part):
    """A file of a bundle."""

    name: str
    size: int
    sha256: str


class Bundle(Record):
    """`bundle.json`: what a bundle holds."""

    kind: ClassVar[str] = "bundle"
    repository: str
    exported_by: str
    exported_at: str
    members: tuple[Member, ...]


class Retirement(Record):
    """`experiments/<experiment>/retirements/<N>/<S>.json`: whether it is retired, and why."""

    kind: ClassVar[str] = "retirement"
    owner: str
    experiment: str
    version: int
    retirement: int
    retired: bool
    sha256: str
    reason: str
    home: str
    host: str
    retired_by: str
    retired_at: str

    @property
    def name(self) -> str:
        """The version that it is of: `churn/3`."""
        return f"{self.experiment}/{self.version}"

    @property
    def reference(self) -> str:
        """What this record is named by: `churn/3~1`."""
        return f"{self.name}~{self.retirement}"


class LetGo(Part):
    """An artifact of a revision that is to be let go or was, and why."""

    revision: int
    artifact: str
    why: str


MARKED: Final = "marked"
KEPT: Final = "kept"
COLLECTED: Final = "collected"


class Collection(Record):
    """`<run>/collections/<S>.json`: what is to be let go of a run, or was, or stays after all."""

    kind: ClassVar[str] = "collection"
    owner: str
    run: str
    collection: int
    state: str  # MARKED, KEPT or COLLECTED
    home: str
    host: str
    recorded_by: str
    recorded_at: str
    parts: tuple[LetGo, ...]

    @classmethod
    def from_json(cls, found: Mapping[str, object], where: str) -> Self:
        """Return the collection, in a state that there is."""
        read = super().from_json(found, where)
        if read.state not in {MARKED, KEPT, COLLECTED}:
            raise damaged(where, f"{printable(read.state)!r} is no state of a collection")
        return read

    @property
    def reference(self) -> str:
        """What this record is named by: `run:<guid>#1`."""
        return f"run:{self.run}#{self.collection}"


class Head(Record):
    """`HEAD`: how far the journal is acknowledged."""

    kind: ClassVar[str] = "head"
    seq: int
    start: int
    offset: int
    sha256: str

    @classmethod
    def empty(cls) -> Self:
        """Return the HEAD of a journal that has no line."""
        return cls(seq=0, start=0, offset=0, sha256="0" * 64)
