"""Runs: how their revisions come to be; `revisions` reads them.

A revision's manifest is its commit marker. It is appended to the run's sequence only after every
file that it names is at the backend and was checked there.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Several
from datetime import UTC, datetime, timedelta
from typing import Final

from modeldrop import layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.batch import Batch, Pending
from modeldrop.collection import Collections
from modeldrop.errors import BackendError
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.home_records import Intent
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.ledger import First, Ledger, Request, begin_sequences
from modeldrop.metadata import NOTHING, Metadata
from modeldrop.records import Artifact, FileFormat, Origin, Refused, Revision
from modeldrop.revisions import Revisions
from modeldrop.structs import Frozen

COMMITTED: Final = "committed"

_GROUP: Final = "a group of runs"
# When a commit looks once more that its bytes are there, and when it takes them no more: `gc`
# deletes what no manifest names after 14 days.
_LOOK_AGAIN: Final = timedelta(days=1)
_TOO_OLD: Final = timedelta(days=13)
# How long a group waits for another process's, in seconds: its runs can go alone instead.
_GROUP_TIMEOUT: Final = 5.0


class Draft(Frozen):
    """What is to become a revision: every file of it is at the backend already."""

    run: str
    upload: str
    experiment: str | None
    artifacts: tuple[Artifact, ...]
    refused: tuple[Refused, ...]
    lost: frozenset[str] = frozenset()
    """Keys of the last revision that were looked for, and whose bytes are not there any more."""
    metadata: Metadata = NOTHING
    """What the run was, as far as is said."""
    formats: tuple[FileFormat, ...] = ()
    """What its files are, of those that were recognised, in the order of their paths."""
    origin: Origin | None = None
    """Where it was imported from, if it was."""
    by: str | None = None
    """Who made it there, where that is known."""
    at: str | None = None
    """When it was made there, where that is known."""


class Committed(Frozen):
    """The revision that holds a draft's content."""

    revision: Revision
    created: bool
    """Whether the draft became a revision; False if the last one has this content already."""


class Runs(Revisions):
    """The runs at a backend."""

    def __init__(self, home: Home, backend: Backend, journal: Journal) -> None:
        """Read from and commit to `backend`."""
        super().__init__(home, backend)
        self._journal = journal
        self._intents = Intents(home.paths.intents)
        self.collections = Collections(home, backend, journal)
        """What is let go of the runs."""

    def open_intents(self) -> list[Intent]:
        """Return what requests have begun and not finished; those of a dead process stay."""
        return self._intents.all()

    def check_backend(self) -> None:
        """Raise unless the backend still holds this home's repository; see `check_backend`."""
        check_backend(self._home, self._backend)

    def commit(self, draft: Draft, request: Request) -> Committed:
        """Make a draft the run's next revision, unless the last one has its content already.

        Idempotent, also after a crash. A draft that only lacks artifacts of the last revision is
        no new revision: what was committed stays committed.

        Raises:
            OutcomeUnknown: it may have happened; the next commit to the run settles it.
            BackendError: it did not happen, or the backend holds another repository now.
        """
        with locks.hold(self._home.paths.run_lock(draft.run), what=f"run {draft.run}"):
            # Before settling: what an empty mount point lacks was not undone.
            self.check_backend()
            mine: dict[bytes, Revision] = {}
            ledger = self._ledger(draft.run, mine)
            self._settle(draft.run, ledger)
            last = self.latest(draft.run)
            if last is not None and adds_nothing(draft, last):
                # A group may just be at making it last.
                self._sequence(draft.run).confirm(last.revision)
                return Committed(last, created=False)
            owner, at = str(uuid.uuid4()), now()

            def make(number: int) -> bytes:
                revision = self._revision(draft, number, owner, at, request)
                data = revision.to_bytes()
                mine[data] = revision
                return data

            def accept(number: int, data: bytes) -> bool:
                # Another home was quicker, perhaps with the same content.
                return adds_nothing(draft, self.parse(data, number))

            self._look_again(draft, last)
            first = (last.revision if last else 0) + 1
            appended = ledger.append(make, request, owner=owner, at=first, accept=accept)
            revision = mine.get(appended.data) or self.parse(appended.data, appended.number)
            self._copies.keep(revision, appended.data)
            return Committed(revision, created=appended.created)

    def commit_firsts(
        self,
        drafts: Several[tuple[Draft, Request, Several[Pending]]],
        batch: Batch,
        arrived: Callable[[], None],
    ) -> list[Committed | None]:
        """Make each draft the first revision of its run, all of them at the price of one.

        The bytes that they name are in `batch`, and given beside each; see
        `ledger.begin_sequences` for `arrived`. Whoever put them there has checked the backend
        before, and the batch keeps its folder from being unmounted. None stands for a run that
        somebody has begun already: `commit` is for that.

        Raises:
            ModeldropError, OSError: some of it failed, and `commit` tells what became of each.
        """
        # Not the lock of each run: that two writers began the same one shows by its sequence.
        with locks.hold(self._home.paths.group_lock(), what=_GROUP, timeout=_GROUP_TIMEOUT):
            folders = [layout.revisions(draft.run) for draft, _, _ in drafts]
            settling = {each.sequence for each in self._intents.of_any(frozenset(folders))}
            at = now()
            made: dict[int, Revision] = {}
            firsts: list[First] = []
            for number, (draft, request, sent) in enumerate(drafts):
                if folders[number] in settling:
                    batch.drop(sent)
                    continue
                revision = made[number] = self._revision(draft, 1, str(uuid.uuid4()), at, request)
                data, entry = revision.to_bytes(), _entry(revision, request)
                firsts.append(First(folders[number], revision.owner, data, request, entry))
            if not firsts:
                return [None] * len(drafts)
            created = begin_sequences(
                firsts,
                batch,
                arrived,
                backend=self._backend,
                intents=self._intents,
                journal=self._journal,
            )
        became = dict(zip(made, created, strict=True))
        return [
            Committed(made[number], created=True) if became.get(number) else None
            for number in range(len(drafts))
        ]

    def _revision(
        self, draft: Draft, number: int, owner: str, at: str, request: Request
    ) -> Revision:
        return Revision(
            owner=owner,
            run=draft.run,
            revision=number,
            experiment=draft.experiment,
            artifacts=draft.artifacts,
            refused=draft.refused,
            formats=draft.formats,
            upload=draft.upload,
            home=self._home.id,
            host=self._home.host,
            committed_by=draft.by or request.user,
            committed_at=draft.at or at,
            metadata=draft.metadata,
            origin=draft.origin,
        )

    def _look_again(self, draft: Draft, last: Revision | None) -> None:
        """Make sure that old bytes of a draft are there still: they may be collected meanwhile.

        Raises:
            BackendError: they aren't, or won't be for much longer; they are to be sent anew.
        """
        keys = {file.key: file.size for each in draft.artifacts for file in each.files}
        named = {file.key for each in last.artifacts for file in each.files} if last else set()
        today = datetime.now(UTC)
        oldest = min([draft.upload, *(layout.upload_of(key) for key in keys.keys() - named)])
        if oldest >= layout.upload_at(today - _LOOK_AGAIN):
            return
        gone = self.collections.state(draft.run).leaves(last) if last else frozenset()
        too_old = layout.upload_at(today - _TOO_OLD)
        for key, size in keys.items():
            stored = self._backend.stat(key)
            unnamed = key not in named and layout.upload_of(key) < too_old
            if stored is None or stored.size != size or unnamed or key in gone:
                message = f"{self._backend.url}/{key} was sent too long ago to be committed now"
                raise BackendError(message, hint="nothing to do: it is sent again")

    def settle(self, run: str) -> None:
        """Finish what a process that died had begun to commit for this run, if anything."""
        with locks.hold(self._home.paths.run_lock(run), what=f"run {run}"):
            self.check_backend()
            self._settle(run, self._ledger(run))

    def _settle(self, run: str, ledger: Ledger) -> None:
        if self._intents.of(layout.revisions(run)):
            # What a group has begun is no dead request's while somebody holds this.
            with locks.hold(self._home.paths.group_lock(), what=_GROUP):
                ledger.settle()

    def entry(self, revision: Revision, request: Request) -> NewEntry | None:
        """Return the entry that says that this home committed a revision; None if it didn't."""
        return _entry(revision, request) if revision.home == self._home.id else None

    def home_id(self) -> str:
        """Return the id of the home that commits here."""
        return self._home.id

    def _ledger(self, run: str, known: Mapping[bytes, Revision] | None = None) -> Ledger:
        meaning = _Meaning(self, known if known is not None else {})
        return Ledger(self._sequence(run), self._intents, self._journal, meaning)


class _Meaning:
    """What a run's records mean to the journal."""

    def __init__(self, runs: Runs, known: Mapping[bytes, Revision]) -> None:
        """Look up in `known` what needs no reading: what this very request has written."""
        self._runs = runs
        self._known = known

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        revision = self._known.get(data) or self._runs.parse(data, number)
        if revision.home != self._runs.home_id():
            return None
        return _entry(revision, request)

    def settled(self, number: int, data: bytes) -> None:
        """Nothing follows a run's revisions."""


def _entry(revision: Revision, request: Request) -> NewEntry:
    return NewEntry(
        kind=COMMITTED,
        about=(f"run:{revision.run}~{revision.revision}",),
        request=request.id,
        user=request.user,
        details={
            "run": revision.run,
            "revision": revision.revision,
            "upload": revision.upload,
            "experiment": revision.experiment,
            "artifacts": [
                {"artifact": each.artifact, "sha256": each.sha256, "size": each.size}
                for each in revision.artifacts
            ],
            "refused": [each.as_json() for each in revision.refused],
            **({"origin": revision.origin.as_json()} if revision.origin else {}),
        },
    )


def adds_nothing(draft: Draft, last: Revision) -> bool:
    """Return whether a revision holds all of a draft already.

    It does not where bytes that it names are lost and the draft has them, where the draft's
    metadata add something, nor where the draft has all of its artifacts and says something better
    of the run: that less of it is refused, or that it belongs to another experiment.
    """
    mine, content = {each.artifact: each.sha256 for each in draft.artifacts}, last.content()
    if any(content.get(artifact) != sha256 for artifact, sha256 in mine.items()):
        return False
    keys = {file.key for each in last.artifacts if each.artifact in mine for file in each.files}
    if keys & draft.lost or draft.metadata.adds_to(last.metadata):
        return False
    if mine.keys() < content.keys():
        # It says nothing of what it lacks, and a revision of it would lose that.
        return True
    stored_now = {each.path for each in last.refused} - {each.path for each in draft.refused}
    belongs = draft.experiment in {None, last.experiment}
    return belongs and not stored_now
