"""What is let go of a run: marked first, collected later, by records that all hosts read.

A run's collections are a sequence of its own. The last record that names an artifact of a revision
says what is true of it: it is marked, kept after all, or collected. A record is appended only on
top of the one that was read, so of a `kept` and a `collected` that follow the same mark only one is
ever created: whoever wants to refer to what is marked, and whoever lets it go, can't both succeed.

What a crash leaves: an intent, which the next one who appends here settles.

The rules are those of docs/format.md, "Letting go".
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Final

from modeldrop import layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.errors import ArtifactCollected, IntegrityError
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.ledger import Ledger, Request
from modeldrop.names import WHOLE_RUN
from modeldrop.records import COLLECTED, KEPT, MARKED, Collection, LetGo, Revision
from modeldrop.sequence import Sequence
from modeldrop.structs import Frozen

_log = logging.getLogger(__name__)

ENTRIES: Final[Mapping[str, str]] = {
    MARKED: "collection-marked",
    KEPT: "collection-kept",
    COLLECTED: "collected",
}
"""The kind of the entry that tells of a record, by the record's state."""

# Marks are seen for a day before anything follows them.
_LOOK_SECONDS: Final = 3600.0

Part = tuple[int, str]
"""A revision's number and the name of one of its artifacts."""


class State(Frozen):
    """What is true of the parts of a run."""

    last: int = 0
    """The number of the newest record; 0 if there is none."""
    parts: Mapping[Part, Collection] | None = None

    def of(self, revision: int, artifact: str) -> str:
        """Return the state of a part, empty if nothing was ever said of it."""
        found = (self.parts or {}).get((revision, artifact))
        return found.state if found else ""

    def record(self, revision: Revision, artifact: str) -> Collection | None:
        """Return the record by which an artifact is collected, or some of the whole run."""
        for part in parts_of(revision, artifact):
            found = (self.parts or {}).get(part)
            if found is not None and found.state == COLLECTED:
                return found
        return None

    def leaves(self, revision: Revision) -> frozenset[str]:
        """Return the keys of a revision that are named by marked or collected artifacts."""
        going = [
            each
            for each in revision.artifacts
            if self.of(revision.revision, each.artifact) in {MARKED, COLLECTED}
        ]
        return frozenset(file.key for each in going for file in each.files)


def parts_of(revision: Revision, artifact: str) -> list[Part]:
    """Return the parts that an artifact of a revision is; `.` is all of them."""
    names = [each.artifact for each in revision.artifacts] if artifact == WHOLE_RUN else [artifact]
    return [(revision.revision, name) for name in names]


class Collections:
    """What is let go of the runs at a backend."""

    def __init__(self, home: Home, backend: Backend, journal: Journal) -> None:
        """Read from and append at `backend`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._intents = Intents(home.paths.intents)

    def numbers(self, run: str) -> list[int]:
        """Return the numbers of a run's collections by listing them: for those who check."""
        return self._sequence(run).numbers()

    def record(self, run: str, number: int) -> Collection:
        """Return one record.

        Raises:
            IntegrityError: it is missing, or isn't what was written.
        """
        data = self._sequence(run).read(number)
        if data is None:
            message = f"{self._backend.url}/{self._sequence(run).key(number)} is missing"
            raise IntegrityError(message, hint="restore it from a copy of the store")
        return self.parse(data, run, number)

    def state(self, run: str, seen: int = 0) -> State:
        """Return what is true of a run's parts; `seen` is a number that is known to exist.

        Costs one look where nothing was ever let go.
        """
        last = self._sequence(run).last(seen)
        return state_of(self.record(run, number) for number in range(1, last + 1))

    def append(
        self,
        run: str,
        state: str,
        parts: Iterable[LetGo],
        user: str,
        *,
        below: int,
        at: str = "",
    ) -> Collection | None:
        """Say something of parts of a run, on top of the newest record that the caller has read.

        None if somebody else was quicker; then nothing was said. `at` is the time, where that
        isn't this host's.

        Raises:
            OutcomeUnknown: it may have happened; the next append to the run settles it.
            BackendError: it did not happen, or the backend holds another repository now.
        """
        parts = tuple(parts)
        with locks.hold(self._home.paths.run_lock(run), what=f"run {run}"):
            check_backend(self._home, self._backend)
            ledger = self._ledger(run)
            ledger.settle()
            recorded_at = at or now()
            owner = str(uuid.uuid4())

            def make(number: int) -> bytes:
                return Collection(
                    owner=owner,
                    run=run,
                    collection=number,
                    state=state,
                    home=self._home.id,
                    host=self._home.host,
                    recorded_by=user,
                    recorded_at=recorded_at,
                    parts=parts,
                ).to_bytes()

            appended = ledger.append(
                make,
                Request(str(uuid.uuid4()), user),
                owner=owner,
                at=below + 1,
                accept=lambda _number, _data: True,
            )
            _log.debug("step: %s", state)
            record = self.parse(appended.data, run, appended.number)
            return record if record.owner == owner else None

    def keep(self, revision: Revision, artifact: str, user: str, seen: int = 0) -> None:
        """Make sure that an artifact that somebody is about to refer to isn't let go.

        Raises:
            ArtifactCollected: it was let go.
        """
        while True:
            state = self.state(revision.run, seen)
            self.refuse(state, revision, artifact)
            marked = [
                LetGo(number, name, "it is wanted again")
                for number, name in parts_of(revision, artifact)
                if state.of(number, name) == MARKED
            ]
            if not marked:
                return
            if self.append(revision.run, KEPT, marked, user, below=state.last) is not None:
                return

    def refuse(self, state: State, revision: Revision, artifact: str) -> None:
        """Return if nothing of an artifact was let go.

        Raises:
            ArtifactCollected: some of it was.
        """
        found = state.record(revision, artifact)
        if found is not None:
            raise collected(found, f"run:{revision.run}~{revision.revision}/{artifact}")

    def settle(self) -> None:
        """Finish what requests of this home have begun to say and died."""
        suffix = layout.collections("")
        for run in {
            each.sequence.removesuffix(suffix)
            for each in self._intents.all()
            if each.sequence.endswith(suffix)
        }:
            with locks.hold(self._home.paths.run_lock(run), what=f"run {run}"):
                check_backend(self._home, self._backend)
                self._ledger(run).settle()

    def parse(self, data: bytes, run: str, number: int) -> Collection:
        """Return the record that these bytes hold, checked to be the one that was asked for."""
        where = f"{self._backend.url}/{self._sequence(run).key(number)}"
        found = Collection.from_bytes(data, where)
        if (found.run, found.collection) != (run, number):
            message = f"{where} says that it is {found.reference}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return found

    def _ledger(self, run: str) -> Ledger:
        return Ledger(self._sequence(run), self._intents, self._journal, _Meaning(self, run))

    def _sequence(self, run: str) -> Sequence:
        return Sequence(self._backend, layout.collections(run))

    def home_id(self) -> str:
        """Return the id of the home that appends here."""
        return self._home.id


def state_of(records: Iterable[Collection]) -> State:
    """Return what is true after these records, which are all, in their order."""
    last, parts = 0, {}
    for record in records:
        last = record.collection
        parts.update({(each.revision, each.artifact): record for each in record.parts})
    return State(last, parts)


class Look:
    """A look at a run's collections, which counts for as long as no mark can have ripened since."""

    def __init__(self) -> None:
        """Begin to look now."""
        self.until = time.clock_gettime(time.CLOCK_BOOTTIME) + _LOOK_SECONDS
        """Until when it counts; a machine that sleeps is no excuse."""

    @property
    def is_over(self) -> bool:
        """Whether it is too long ago."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) > self.until


def collected(record: Collection, what: str, retired: str = "") -> ArtifactCollected:
    """Return the error for what was let go, with the record that says so, and who retired it."""
    whys = "; ".join(sorted({each.why for each in record.parts}))
    return ArtifactCollected(
        f"{what} was collected at {record.recorded_at} by {record.recorded_by}@{record.host} "
        f"({f'retired: {retired}' if retired else whys}): its bytes are gone",
        hint=f"`modeldrop log run:{record.run}` shows what happened to it; drop the files again "
        "to store them anew",
        detail={
            "run": record.run,
            "collected_at": record.recorded_at,
            "collected_by": record.recorded_by,
            "host": record.host,
        },
    )


def entry_of(record: Collection, home: str, request: Request) -> NewEntry | None:
    """Return the entry that says that a home made a record; None if another one made it."""
    if record.home != home:
        return None
    revisions = sorted({each.revision for each in record.parts})
    return NewEntry(
        kind=ENTRIES[record.state],
        about=(record.reference, *(f"run:{record.run}~{number}" for number in revisions)),
        request=request.id,
        user=request.user,
        details={
            "run": record.run,
            "collection": record.collection,
            "state": record.state,
            "parts": [each.as_json() for each in record.parts],
            "recorded_by": record.recorded_by,
        },
    )


class _Meaning:
    """What a run's collections mean to the journal."""

    def __init__(self, collections: Collections, run: str) -> None:
        self._collections = collections
        self._run = run

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        record = self._collections.parse(data, self._run, number)
        return entry_of(record, self._collections.home_id(), request)

    def settled(self, number: int, data: bytes) -> None:
        """Nothing follows: the bytes are deleted by whoever collects next."""
