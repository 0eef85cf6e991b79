"""Runs and their revisions: what is committed, and how it comes to be.

A revision's manifest is its commit marker. It is appended to the run's sequence only after every
file that it names is at the backend and was checked there.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from modeldrop import layout, locks
from modeldrop.backend.base import Backend
from modeldrop.errors import (
    AmbiguousArtifact,
    ArtifactNotFound,
    IntegrityError,
    RunNotFound,
)
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.ledger import Ledger, Request
from modeldrop.names import WHOLE_RUN, parse_guid_prefix, printable
from modeldrop.records import Artifact, Intent, Refused, Revision, now
from modeldrop.sequence import Sequence

COMMITTED: Final = "committed"


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to become a revision: every file of it is at the backend already."""

    run: str
    upload: str
    experiment: str | None
    artifacts: tuple[Artifact, ...]
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """The revision that holds a draft's content."""

    revision: Revision
    created: bool
    """Whether the draft became a revision; False if the last one has this content already."""


class Runs:
    """The runs at a backend."""

    def __init__(self, home: Home, backend: Backend, journal: Journal) -> None:
        """Read from and commit to `backend`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._intents = Intents(home.paths.intents)

    @property
    def url(self) -> str:
        """The backend's URL, for people."""
        return self._backend.url

    def open_intents(self) -> list[Intent]:
        """Return what requests have begun and not finished; those of a dead process stay."""
        return self._intents.all()

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

    def commit(self, draft: Draft, request: Request) -> Committed:
        """Make a draft the run's next revision, unless the last one has its content already.

        Idempotent, also after a crash. A draft that only lacks artifacts of the last revision is
        no new revision: what was committed stays committed.

        Raises:
            OutcomeUnknown: it may have happened; the next commit to the run settles it.
        """
        with locks.hold(self._home.paths.run_lock(draft.run), what=f"run {draft.run}"):
            ledger = self._ledger(draft.run)
            ledger.settle()
            last = self.latest(draft.run)
            if last is not None and adds_nothing(draft.artifacts, last):
                return Committed(last, created=False)
            owner, at = str(uuid.uuid4()), now()

            def make(number: int) -> bytes:
                return Revision(
                    owner=owner,
                    run=draft.run,
                    revision=number,
                    experiment=draft.experiment,
                    artifacts=draft.artifacts,
                    refused=draft.refused,
                    upload=draft.upload,
                    home=self._home.id,
                    host=self._home.host,
                    committed_by=request.user,
                    committed_at=at,
                ).to_bytes()

            first = (last.revision if last else 0) + 1
            appended = ledger.append(make, request, owner=owner, at=first)
            return Committed(self.parse(appended.data, appended.number), created=True)

    def settle(self, run: str) -> None:
        """Finish what a process that died had begun to commit for this run, if anything."""
        with locks.hold(self._home.paths.run_lock(run), what=f"run {run}"):
            self._ledger(run).settle()

    def parse(self, data: bytes, number: int | None = None) -> Revision:
        """Return the revision that these bytes hold, checked to be the one that was asked for."""
        revision = Revision.from_bytes(data, "a revision's manifest")
        if number is not None and revision.revision != number:
            message = f"revision {number} of {revision.run} says that it is {revision.revision}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return revision

    def home_id(self) -> str:
        """Return the id of the home that commits here."""
        return self._home.id

    def _ledger(self, run: str) -> Ledger:
        return Ledger(self._sequence(run), self._intents, self._journal, _Revisions(self))

    def _sequence(self, run: str) -> Sequence:
        return Sequence(self._backend, layout.revisions(run))

    def _read(self, run: str, number: int) -> Revision | None:
        sequence = self._sequence(run)
        data = sequence.read(number)
        if data is None:
            return None
        revision = Revision.from_bytes(data, f"{self._backend.url}/{sequence.key(number)}")
        if (revision.run, revision.revision) != (run, number):
            message = f"{self._backend.url}/{sequence.key(number)} is the manifest of another run"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return revision


class _Revisions:
    """What a run's records mean to the journal."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        revision = self._runs.parse(data, number)
        if revision.home != self._runs.home_id():
            return None
        return NewEntry(
            kind=COMMITTED,
            about=(f"run:{revision.run}~{number}",),
            request=request.id,
            user=request.user,
            details={
                "run": revision.run,
                "revision": number,
                "upload": revision.upload,
                "experiment": revision.experiment,
                "artifacts": [
                    {"artifact": each.artifact, "sha256": each.sha256, "size": each.size}
                    for each in revision.artifacts
                ],
                "refused": [each.as_json() for each in revision.refused],
            },
        )

    def settled(self, number: int, data: bytes) -> None:
        """Nothing follows a run's revisions."""


def adds_nothing(artifacts: tuple[Artifact, ...], last: Revision) -> bool:
    """Return whether a revision holds all of these artifacts already, with the same bytes."""
    content = last.content()
    return all(content.get(each.artifact) == each.sha256 for each in artifacts)


def choose_artifact(revision: Revision, name: str | None) -> Artifact:
    """Return the artifact of a revision by its name, or its only one.

    Raises:
        ArtifactNotFound: there is none of that name, or it was refused.
        AmbiguousArtifact: none was named, and there are several.
    """
    names = [each.artifact for each in revision.artifacts]
    listed = ", ".join(printable(each) for each in names)
    run = f"run {revision.run}"
    if name == WHOLE_RUN:
        _refuse_incomplete(revision, WHOLE_RUN)
        return revision.whole()
    if name is None:
        if len(names) == 1:
            return choose_artifact(revision, names[0])
        message = f"{run} has several artifacts: {listed}"
        raise AmbiguousArtifact(
            message,
            hint=f"name one with `--artifact NAME`, or `--artifact {WHOLE_RUN}` for the whole run",
            detail={"run": revision.run, "artifacts": list(names)},
        )
    _refuse_incomplete(revision, name)
    for each in revision.artifacts:
        if each.artifact == name:
            return each
    message = f"{run} has no artifact {printable(name)!r}; it has {listed}"
    raise ArtifactNotFound(
        message,
        hint="name one of these with `--artifact`",
        detail={"run": revision.run, "artifacts": list(names)},
    )


def _refuse_incomplete(revision: Revision, name: str) -> None:
    """Raise if a part of this artifact was refused, so that it isn't stored whole.

    Raises:
        ArtifactNotFound: it isn't whole; the message names what was refused, and why.
    """
    parts = [
        each
        for each in revision.refused
        if name in (WHOLE_RUN, each.path) or each.path.startswith(f"{name}/")
    ]
    if parts:
        listed = "; ".join(f"{printable(each.path)} ({each.reason})" for each in parts)
        message = f"{printable(name)!r} of run {revision.run} is not stored whole: {listed}"
        raise ArtifactNotFound(
            message,
            hint="replace it by regular files in staging; the service stores a new revision",
            detail={"run": revision.run, "refused": [each.as_json() for each in parts]},
        )
