"""What is to be stored of a run, and what became of it.

A `Drop` is one observation of one run. It is what is stored, or nothing is: whoever stores it
checks each file before, while and after it is read, and the whole run once more at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from modeldrop.errors import DropRefused, SourceChanged
from modeldrop.intake import declared
from modeldrop.intake.attempts import Attempts
from modeldrop.intake.declared import UNDECLARED, Declared, Wish
from modeldrop.intake.marker import Marker
from modeldrop.intake.memory import KnownFile
from modeldrop.intake.observation import Observation, SeenFile, artifact_of
from modeldrop.intake.spent import SpentMarker
from modeldrop.ledger import Request
from modeldrop.metadata import NOTHING, Metadata
from modeldrop.names import MARKER, printable
from modeldrop.records import Artifact, FileFormat, Refused, StoredFile
from modeldrop.runs import Committed, Draft
from modeldrop.structs import Frozen, field

CHANGED_HINT: Final = "nothing to do: it is stored once it is quiet"


class Drop(Frozen):
    """One observation of one run that is to be stored."""

    staging: Path
    name: str
    run: str
    observation: Observation
    observe: Callable[[], Observation]
    """Looks again, to know whether it is what it was."""
    marker: Marker | None = None
    known: Mapping[tuple[str, str], KnownFile] | None = None
    """Files whose bytes are known by their signature, from `RunMemory.known`."""
    seen: int = 0
    """A revision of the run that is known to exist."""
    spent: SpentMarker | None = None
    """What was noted of its marker, if an earlier attempt may have made a revision by that."""
    attempts: Attempts = field(default_factory=Attempts)
    called: str | None = None
    """Another name for its only artifact than the one on the disk."""
    metadata: Metadata = NOTHING
    """What is said of it by other means than its own files."""


class Outcome(Frozen):
    """What became of a drop."""

    committed: Committed
    files: dict[str, StoredFile]
    refused: tuple[Refused, ...]
    """What of the drop isn't stored, and why."""
    seen_at: float
    """When it was last seen to be what is stored, on the monotonic clock."""
    wish: Wish | None = None
    """That it be registered, if it says so."""


class Watch(Frozen):
    """What follows and may stop the storing of a drop; called from several threads."""

    moved: Callable[[int], None] = lambda _: None
    """Takes note that so many bytes were sent."""
    found: Callable[[int], None] = lambda _: None
    """Takes note that so many bytes are at the backend already."""
    verifying: Callable[[], None] = lambda: None
    """Takes note that all bytes are at the backend."""
    committing: Callable[[str], None] = lambda _: None
    """Takes note of the upload that is about to be made a revision."""
    check: Callable[[], None] = lambda: None
    """Raises to stop."""


class Job(Frozen):
    """A drop that is to be stored, who asks for it, and who follows it."""

    drop: Drop
    request: Request
    watch: Watch


class Wanted(Frozen):
    """What of a drop is to be stored, and what it declares of itself."""

    files: tuple[SeenFile, ...]
    declared: Declared
    refused: tuple[Refused, ...]

    def draft(
        self,
        drop: Drop,
        upload: str,
        files: Mapping[str, StoredFile],
        lost: frozenset[str] = frozenset(),
        formats: tuple[FileFormat, ...] = (),
    ) -> Draft:
        """Return what is to become a revision once these files are at the backend."""
        return Draft(
            drop.run,
            upload,
            self.declared.experiment,
            artifacts_of(files),
            self.refused,
            lost,
            self.declared.metadata.over(drop.metadata),
            formats,
        )


def wanted_of(drop: Drop) -> Wanted:
    """Return what of a drop is to be stored.

    Raises:
        DropRefused: that is nothing.
        SourceChanged: a file by which it declares something isn't what it was.
        PermissionError: such a file can't be read.
    """
    refused = drop.observation.refused
    parked = {artifact_of(each.path) for each in refused}
    files = tuple(
        seen
        for seen in drop.observation.files
        if not parked or printable(artifact_of(seen.path)) not in parked
    )
    said = UNDECLARED
    if drop.observation.run_files:
        said, complaints = declared.read(drop.staging, drop.name, drop.observation.run_files)
        refused += complaints
    if not files:
        raise _nothing(refused)
    return Wanted(files, said, refused)


def _nothing(refused: tuple[Refused, ...]) -> DropRefused:
    listed = "; ".join(f"{each.path}: {each.reason}" for each in refused)
    message = f"nothing in it can be stored: {listed}"
    return DropRefused(message, hint="replace it by regular files")


def check_unchanged(drop: Drop) -> float:
    """Return since when it is known that the run is still what was observed.

    Raises:
        SourceChanged: it is not.
    """
    began = time.monotonic()
    if drop.observe().signature() != drop.observation.signature():
        message = f"run {drop.run} changed while it was stored"
        raise SourceChanged(message, hint=CHANGED_HINT)
    return began


def check_digests(drop: Drop, files: Mapping[str, StoredFile]) -> None:
    """Return if what the run's marker says of its files' digests is so.

    Raises:
        DropRefused: it is not.
    """
    wrong = sorted(
        path
        for path, digest in (drop.marker.digests if drop.marker else {}).items()
        if path in files and files[path].sha256 != digest
    )
    if wrong:
        listed = ", ".join(printable(path) for path in wrong)
        message = f"{MARKER} has another digest than the file: {listed}"
        raise DropRefused(message, hint=f"copy it again, or correct {MARKER}")


def artifacts_of(files: Mapping[str, StoredFile]) -> tuple[Artifact, ...]:
    """Return the artifacts that stored files make up, from their paths relative to the run."""
    folders: dict[str, list[StoredFile]] = {}
    artifacts: list[Artifact] = []
    for path, file in files.items():
        top, slash, below = path.partition("/")
        if slash:
            folders.setdefault(top, []).append(StoredFile(below, file.sha256, file.size, file.key))
        else:
            artifacts.append(Artifact.of_file(file))
    artifacts += [Artifact.of_folder(name, parts) for name, parts in folders.items()]
    return tuple(sorted(artifacts, key=lambda each: each.artifact.encode("utf-8")))
