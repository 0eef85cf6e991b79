"""Revisions of runs: what is committed, and how it is read.

How it comes to be is in `runs`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Final

from modeldrop import layout
from modeldrop.backend.base import Backend
from modeldrop.errors import IntegrityError, RunNotFound
from modeldrop.home import Home
from modeldrop.manifests import Manifests
from modeldrop.metadata import Metadata
from modeldrop.names import WHOLE_RUN, parse_guid_prefix, printable
from modeldrop.records import Artifact, Revision, Version
from modeldrop.sequence import Sequence
from modeldrop.structs import Frozen, field, replace

# As many names as any store lists in one request.
_PAGE: Final = 1000


class Shown(Frozen):
    """A revision, and what is known to be stored of its files."""

    revision: Revision
    sizes: Mapping[str, int] = field(default_factory=dict)
    """The size of each file that was seen at the backend, by its key."""
    collections: int | None = None
    """How many records say what is let go of the run; None if nobody looked."""

    def unseen(self, artifact: Artifact) -> Artifact | None:
        """Return the part of an artifact whose files were not seen with their sizes, if any."""
        files = [file for file in artifact.files if self.sizes.get(file.key) != file.size]
        return replace(artifact, files=tuple(files)) if files else None


class Revisions:
    """The revisions at a backend, to be read."""

    def __init__(self, home: Home, backend: Backend) -> None:
        """Read from `backend`."""
        self._home = home
        self._backend = backend
        self._copies = Manifests(home.paths, backend)

    @property
    def url(self) -> str:
        """The backend's URL, for people."""
        return self._backend.url

    def revision(self, run: str, number: int) -> Revision:
        """Return one revision of a run.

        Raises:
            RunNotFound: the run has no such revision.
        """
        found = self._read(run, number)
        if found is None:
            message = f"run {run} has no revision {number} at {self._backend.url}"
            raise RunNotFound(message, hint=f"`modeldrop show run:{run}` shows its last one")
        return found

    def metadata_of(self, version: Version, pinned: Revision) -> Metadata:
        """Return what is said of the run that a version came from, also after it was registered.

        It is that of the newest revision that says anything, among the one that the version pins
        and those right after it that hold the same bytes under the artifact's name.
        """
        said, revision = pinned.metadata, pinned
        while found := self._read(version.run, revision.revision + 1):
            if _digest(found, version.artifact) != version.sha256:
                break
            revision = found
            said = revision.metadata or said
        return said

    def last(self, run: str, seen: int = 0) -> int:
        """Return the number of the last revision, 0 if there is none."""
        return self._sequence(run).last(seen)

    def numbers(self, run: str) -> list[int]:
        """Return the numbers of the run's revisions by listing them: for those who check."""
        return self._sequence(run).numbers()

    def latest(self, run: str, seen: int = 0) -> Revision | None:
        """Return the last revision, or None if the run isn't committed.

        `seen` is the number of a revision that is known to exist.
        """
        number = self.last(run, seen)
        return self.revision(run, number) if number else None

    def committed(self, run: str) -> Revision:
        """Return the last revision.

        Raises:
            RunNotFound: the run isn't committed.
        """
        found = self.latest(run)
        if found is None:
            message = (
                f"run {run} is not committed: not at {self._backend.url}, "
                f"by the home {self._home.paths.root}"
            )
            raise RunNotFound(
                message,
                hint="`modeldrop status` says what became of it, `modeldrop runs` lists the others",
                detail={"run": run, "backend": self._backend.url},
            )
        return found

    def shown(self, run: str) -> Shown | None:
        """Return a run's last revision and what is stored of it, by one listing of its folder.

        None where one request doesn't show all of it, or the run isn't committed: then ask for
        each thing by itself. The manifest is taken from the home where it has been kept.

        Raises:
            RecordDamaged: the manifest isn't what was written.
        """
        if not self._backend.capabilities.lists_by_prefix:
            return None
        page = list(itertools.islice(self._backend.walk(run), _PAGE))
        folder = layout.revisions(run)
        numbers = [layout.number_of(file.key) or 0 for file in page if _is_in(file.key, folder)]
        number = len(numbers)
        # There are no gaps; a listing has no digest, and is not taken at its word where it has one.
        if len(page) == _PAGE or not number or sorted(numbers) != list(range(1, number + 1)):
            return None
        sizes = {file.key: file.size for file in page}
        key = layout.numbered(folder, number)
        revision = self._copies.kept(run, number, sizes[key])
        if revision is None:
            found = self._fetch(run, number)
            if found is None:
                return None
            revision, data = found
            self._copies.keep(revision, data)
        folder = layout.collections(run)
        collections = [layout.number_of(key) for key in sizes if _is_in(key, folder)]
        return Shown(revision, sizes, len(collections))

    def manifest(self, run: str, number: int, size: int) -> Revision:
        """Return a revision whose manifest was seen with a size; read from the home if it can be.

        Raises:
            RunNotFound: the run has no such revision.
            RecordDamaged: the manifest isn't what was written.
        """
        kept = self._copies.kept(run, number, size)
        if kept is not None:
            return kept
        found = self._fetch(run, number)
        if found is None:
            return self.revision(run, number)
        self._copies.keep(*found)
        return found[0]

    def guids(self, prefix: str = "") -> Iterator[str]:
        """Yield the GUIDs of the runs at the backend, in no particular order."""
        for name in self._backend.children("", prefix):
            if layout.is_run_folder(name):
                yield name

    def complete(self, prefix: str) -> str:
        """Return the one run whose GUID begins with `prefix`.

        Raises:
            RunNotFound: there is none, or more than one.
        """
        canonical = parse_guid_prefix(prefix)
        found = sorted(self.guids(canonical)) if canonical else []
        if len(found) == 1:
            return found[0]
        shown = printable(prefix)
        if found:
            message = f"{shown} is the beginning of {len(found)} runs: {', '.join(found[:4])}"
            raise RunNotFound(message, hint="give more digits", detail={"runs": list(found)})
        message = f"no run begins with {shown} at {self._backend.url}"
        raise RunNotFound(message, hint="`modeldrop runs` lists the runs")

    def parse(self, data: bytes, number: int | None = None) -> Revision:
        """Return the revision that these bytes hold, checked to be the one that was asked for."""
        revision = Revision.from_bytes(data, "a revision's manifest")
        if number is not None and revision.revision != number:
            message = f"revision {number} of {revision.run} says that it is {revision.revision}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return revision

    def _sequence(self, run: str) -> Sequence:
        return Sequence(self._backend, layout.revisions(run))

    def _read(self, run: str, number: int) -> Revision | None:
        found = self._fetch(run, number)
        return found[0] if found else None

    def _fetch(self, run: str, number: int) -> tuple[Revision, bytes] | None:
        """Return a revision and its manifest as it is stored."""
        sequence = self._sequence(run)
        data = sequence.read(number)
        if data is None:
            return None
        revision = Revision.from_bytes(data, f"{self._backend.url}/{sequence.key(number)}")
        if (revision.run, revision.revision) != (run, number):
            message = f"{self._backend.url}/{sequence.key(number)} is the manifest of another run"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return revision, data


def _digest(revision: Revision, artifact: str) -> str | None:
    if artifact == WHOLE_RUN:
        return revision.whole().sha256
    return revision.content().get(artifact)


def _is_in(key: str, folder: str) -> bool:
    return key.startswith(f"{folder}/")
