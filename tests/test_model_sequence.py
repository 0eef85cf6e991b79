"""A sequence, over random histories: dense, each number once, and each caller told its own.

Two homes register at one store that loses requests and answers and fails in between; they die
before any change of a file system, come in the middle of each other, and ask again. The model is
what each request was told, and what a record was when it was seen first.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modeldrop import Repository, layout, sequence
from modeldrop.asked import asked as ask_for
from modeldrop.backend import Backend
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import BackendError, ModeldropError, OutcomeUnknown
from modeldrop.intents import Intents
from modeldrop.ledger import Ledger, Request
from modeldrop.metadata import NOTHING
from modeldrop.names import new_guid
from modeldrop.records import registration_owner
from modeldrop.sequence import Sequence
from support import worlds
from support.behaviours import Plan, is_red, play, play_long
from support.dying import Died, dying
from support.lossy import FAULTS, Lossy, begin_store, join, open_host, quiet, unhurried

# A busy machine takes long, and stops now and then.
pytestmark = pytest.mark.timeout(300)

PLAN: Final = Plan(histories=60, steps=25)
LONG: Final = Plan(histories=5000, steps=60)

EXPERIMENT: Final = "churn"
HOMES: Final = st.integers(0, 1)
WHAT: Final = st.integers(0, 2)
LOSSES: Final = st.tuples(
    st.lists(st.sampled_from(FAULTS), max_size=6), st.lists(st.sampled_from(FAULTS), max_size=4)
)
"""What comes of the requests, and of those that create something."""
Losses = tuple[list[str], list[str]]
NONE: Final[Losses] = ([], [])
DIES: Final = st.one_of(st.none(), st.none(), st.integers(0, 60))


@dataclass(frozen=True)
class Asked:
    """One request: what is to be registered, and whether it is to get one more version."""

    what: int
    again: bool
    request: Request


class Histories(RuleBasedStateMachine):
    """Two homes, and the versions of one experiment."""

    def __init__(self) -> None:
        """Begin with a store that has three runs."""
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        unhurried(self.patch)
        self.store = self.root / "store"
        repository = begin_store(self.store)
        self.revisions = [worlds.revision(number, NOTHING) for number in range(3)]
        worlds.put(self.store, *self.revisions)
        self.homes = [self.root / "one", self.root / "other"]
        for each in self.homes:
            join(each, self.store, repository)
        self.told: dict[str, int] = {}
        """Which number each owner was told."""
        self.records: dict[int, bytes] = {}
        """What each number was when it was seen first."""
        self.unknown: list[Asked] = []
        """Requests whose outcome nobody was told, and that may be made again."""

    @initialize(lists=st.booleans())
    def begin(self, lists: bool) -> None:
        """Have the store be one where a listing by prefix is one request, or not."""
        self.backends = [Lossy(self.store, lists=lists) for _ in self.homes]
        self.hosts = [self.opened(number) for number in range(len(self.homes))]

    def opened(self, number: int) -> Repository:
        """Open a home as another process does."""
        return open_host(self.homes[number], self.backends[number])

    def teardown(self) -> None:
        try:
            # Whoever comes next settles what is left.
            for number in range(len(self.homes)):
                self.register(number, 0, True, NONE, None, 0, [])
                assert not Intents(self.hosts[number].home.paths.intents).all()
            self.numbers_are_dense_and_never_change_their_meaning()
            self.each_journal_tells_of_each_record_of_its_home_once()
            for each in self.hosts:
                assert each.versions_at_backend.last(EXPERIMENT) == len(self.records)
        finally:
            self.patch.undo()
            shutil.rmtree(self.root)

    # What hosts do

    @rule(
        by=HOMES,
        what=WHAT,
        again=st.booleans(),
        losses=LOSSES,
        dies=DIES,
        at=st.integers(0, 12),
        meanwhile=st.lists(st.tuples(WHAT, st.booleans()), max_size=2),
    )
    def register(
        self,
        by: int,
        what: int,
        again: bool,
        losses: Losses,
        dies: int | None,
        at: int,
        meanwhile: list[tuple[int, bool]],
    ) -> None:
        """Register something, while the other home does as well, perhaps the same."""

        def come_in() -> None:
            for others, anew in meanwhile:
                self.ask(1 - by, Asked(others, anew, self.request()), NONE, None)

        if meanwhile:
            self.backends[by].meanwhile = (at, come_in)
        self.ask(by, Asked(what, again, self.request()), losses, dies)
        self.backends[by].meanwhile = None

    @precondition(lambda self: self.unknown)
    @rule(by=HOMES, losses=LOSSES, dies=DIES)
    def ask_again(self, by: int, losses: Losses, dies: int | None) -> None:
        """Make a request again whose outcome is unknown, on the same home or on the other one."""
        self.ask(by, self.unknown.pop(0), losses, dies)

    @rule(by=HOMES)
    def restart(self, by: int) -> None:
        """Go on in another process."""
        self.hosts[by] = self.opened(by)

    def request(self) -> Request:
        """Return who asks."""
        return Request(new_guid(), "ada")

    def owner(self, asked: Asked) -> str:
        """Return the owner of what is asked for."""
        revision = self.revisions[asked.what]
        [artifact] = revision.artifacts
        nonce = asked.request.id if asked.again else None
        return registration_owner(
            EXPERIMENT, revision.run, artifact.artifact, artifact.sha256, nonce
        )

    def ask(self, by: int, asked: Asked, losses: Losses, dies: int | None) -> None:
        """Make a request, and hold what it is told against what there is."""
        owner, revision = self.owner(asked), self.revisions[asked.what]
        was_there = owner in self.owners()
        backend = self.backends[by]
        backend.faults, backend.faults_of_creating = ([*each] for each in losses)
        try:
            with dying(dies):
                answer = self.hosts[by].registrar.register(
                    ask_for(
                        EXPERIMENT,
                        revision,
                        revision.artifacts[0],
                        asked.request,
                        by="ada",
                        description="",
                        again=asked.again,
                    )
                )
        except Died:
            self.hosts[by] = self.opened(by)
            self.unknown.append(asked)
        except OutcomeUnknown:
            assert losses != NONE
            self.unknown.append(asked)
        except BackendError:
            # "It did not happen"; but somebody else may have asked for the same meanwhile.
            assert losses != NONE
            assert was_there or owner in self.told or owner not in self.owners()
        else:
            version = answer.version
            assert version.owner == owner
            assert self.told.setdefault(owner, version.version) == version.version
            assert self.owners()[owner] == [version.version]
            assert not (answer.created and was_there)
        finally:
            backend.faults, backend.faults_of_creating = [], []

    # What holds

    def seen(self) -> dict[int, bytes]:
        """Return what is at the store, as nobody of ours sees it."""
        folder = self.store / layout.versions(EXPERIMENT)
        files = folder.iterdir() if folder.is_dir() else ()
        return {int(each.stem): each.read_bytes() for each in files if each.name[0] != "."}

    def owners(self) -> dict[str, list[int]]:
        """Return which numbers bear which owner."""
        found: dict[str, list[int]] = {}
        for number, data in sorted(self.seen().items()):
            found.setdefault(json.loads(data)["owner"], []).append(number)
        return found

    @invariant()
    def numbers_are_dense_and_never_change_their_meaning(self) -> None:
        """What a number was is what it is, and none is left out."""
        seen = self.seen()
        assert sorted(seen) == list(range(1, len(seen) + 1))
        for number, data in self.records.items():
            assert seen[number] == data
        self.records = seen
        for numbers in self.owners().values():
            assert len(numbers) == 1

    @invariant()
    def no_counter_is_ahead(self) -> None:
        """A counter says what was seen, and may be behind."""
        for each in getattr(self, "hosts", ()):
            assert (each.versions_at_backend.counter(EXPERIMENT) or 0) <= len(self.seen())

    @invariant()
    def each_journal_tells_of_each_record_of_its_home_once(self) -> None:
        """What has no entry has an open intent, and nothing has an entry that isn't there."""
        for each in getattr(self, "hosts", ()):
            intents = Intents(each.home.paths.intents).all()
            open_ones = {intent.owner for intent in intents}
            entries = [entry.details for entry in each.journal.entries()]
            told = [entry["version"] for entry in entries if "version" in entry]
            assert len(told) == len(set(map(str, told)))
            records = {number: json.loads(data) for number, data in self.seen().items()}
            for number, record in records.items():
                if record["home"] == each.home.id and number not in told:
                    assert record["owner"] in open_ones
            for number in told:
                assert isinstance(number, int)
                assert records[number]["home"] == each.home.id

    @invariant()
    def readers_find_the_newest(self) -> None:
        """Whoever looks finds the last number, from what its home has seen or from nothing."""
        for each, backend in zip(getattr(self, "hosts", ()), self.backends_there(), strict=True):
            with quiet(backend):
                assert each.versions_at_backend.last(EXPERIMENT) == len(self.seen())
                assert Sequence(backend, layout.versions(EXPERIMENT)).last() == len(self.seen())

    def backends_there(self) -> list[Lossy]:
        """Return the backends, of which there are none before the first step."""
        return getattr(self, "backends", [])


@pytest.mark.slow
def test_each_number_is_given_once_whatever_is_lost_and_whoever_dies() -> None:
    play(Histories, PLAN)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_same_for_a_long_time() -> None:
    play_long(Histories, LONG)


def test_without_reading_back_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(backend: Backend, key: str, data: bytes, owner: str) -> bytes | None:
        del owner
        return None if backend.create(key, data) else backend.read(key)

    monkeypatch.setattr(sequence, "create_once", create)
    is_red(Histories, PLAN, ModeldropError)


def test_without_the_condition_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(self: LocalBackend, key: str, data: bytes) -> bool:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True

    monkeypatch.setattr(LocalBackend, "create", overwrite)
    is_red(Histories, PLAN, ModeldropError, KeyError)


def test_if_intents_are_not_settled_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "settle", lambda _: None)
    is_red(Histories, PLAN)


def test_without_the_intent_before_the_record_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Intents, "begin", lambda *_: None)
    is_red(Histories, PLAN)
