"""The whole repository, over random histories: two hosts see what the model says, and nothing else.

Two homes on one store that loses requests and answers store, register, promote, deploy, roll back,
retire, import, collect, share, lose their journals and die, also in the middle of each other. After
each step what is to be seen is the model's: before the deed or after it where nobody was told, and
after it where somebody was. What is let go with time, `test_letting_go_property.py` plays.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from modeldrop import Repository, cache
from modeldrop.asked import Asked
from modeldrop.backend import probe
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import BackendError, Locked, ModeldropError, OutcomeUnknown
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.packing import pack
from modeldrop.names import new_guid
from modeldrop.registrar import Registrar
from modeldrop.retirements import Retirements
from support.behaviours import Plan, is_red, play, play_long
from support.dying import Died, dying
from support.ideal import (
    TARGET,
    Answer,
    Deed,
    Deploy,
    Given,
    Ideal,
    Promote,
    Register,
    RemoveAlias,
    Retire,
    RollBack,
    Upload,
    observed,
)
from support.lossy import FAULTS, Lossy, begin_store, join, open_host, unhurried

# A busy machine takes long, and stops now and then.
pytestmark = pytest.mark.timeout(300)

PLAN: Final = Plan(histories=40, steps=25)
LONG: Final = Plan(histories=3000, steps=50)

RUNS: Final = tuple(new_guid() for _ in range(3))
OURS: Final = ("churn", "fraud")
SPAM: Final = "spam"

HOSTS: Final = st.integers(0, 1)
TEXTS: Final = st.sampled_from("ab")
EXPERIMENTS: Final = st.sampled_from(OURS)
RETIRED: Final = st.sampled_from([True, True, False])
_run = st.integers(0, len(RUNS) - 1).map(lambda number: RUNS[number])
_number = st.integers(1, 3)
_expect = st.none() | st.integers(0, 2)
DEEDS: Final = st.one_of(
    st.builds(Upload, _run, TEXTS),
    st.builds(Register, _run, EXPERIMENTS, st.booleans()),
    st.builds(Promote, EXPERIMENTS, _number, _expect),
    st.builds(RemoveAlias, EXPERIMENTS, _expect),
    st.builds(Deploy, EXPERIMENTS, _number),
    st.builds(RollBack, EXPERIMENTS),
    st.builds(Retire, EXPERIMENTS, _number, RETIRED),
)


@dataclass(frozen=True)
class Trouble:
    """What a deed meets: requests that fail, a death, and another host's deed in the middle."""

    losses: tuple[str, ...] = ()
    losses_of_creating: tuple[str, ...] = ()
    dies: int | None = None
    at: int = 0
    meanwhile: Deed | None = None


NONE: Final = Trouble()
_losses = st.lists(st.sampled_from(FAULTS), max_size=5).map(tuple)
TROUBLES: Final = st.one_of(
    st.just(NONE),
    st.builds(Trouble, losses=_losses, losses_of_creating=_losses),
    st.builds(Trouble, dies=st.integers(0, 80)),
    st.builds(Trouble, at=st.integers(0, 20), meanwhile=DEEDS),
)


class Histories(RuleBasedStateMachine):
    """Two hosts, one store, one target."""

    exported: ClassVar[Path]
    """Another repository's versions of `SPAM`, to be imported."""
    imported: ClassVar[tuple[Given, ...]]

    def __init__(self) -> None:
        """Begin with an empty store."""
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        unhurried(self.patch)
        self.store = self.root / "store"
        repository = begin_store(self.store)
        self.homes = [self.root / "one" / "home", self.root / "other" / "home"]
        for each in self.homes:
            join(each, self.store, repository)
            config = each / "config.toml"
            # Superseded revisions stay, or the model would have to know of marks.
            config.write_text(f"{config.read_text()}\n[gc]\nkeep_revisions = 1000\n")
        self.backends = [Lossy(self.store) for _ in self.homes]
        self.hosts = [self.opened(number) for number in range(len(self.homes))]
        self.hosts[0].add_target(TARGET, self.root / "live")
        verdict = self.hosts[0].home.probe()
        self.patch.setattr(probe, "race", lambda *_, **__: verdict)
        self.ideal = Ideal()
        self.copies = itertools.count()

    def opened(self, number: int) -> Repository:
        """Open a home as another process does."""
        return open_host(self.homes[number], self.backends[number])

    @initialize()
    def begin(self) -> None:
        """Have something to be at, since not every history would come so far."""
        for number, run in enumerate(RUNS):
            self.act(number % 2, Upload(run, "a"), NONE)
        self.act(0, Register(RUNS[0], "churn", again=False), NONE)
        self.act(1, Register(RUNS[1], "churn", again=False), NONE)
        self.act(1, Deploy("churn", 1), NONE)
        self.act(0, Deploy("churn", 2), NONE)

    def teardown(self) -> None:
        try:
            self.all_is_told_once_in_the_end()
        finally:
            self.patch.undo()
            for each in self.hosts:
                each.close()
            shutil.rmtree(self.root)

    # What people do

    @rule(by=HOSTS, run=_run, text=TEXTS, trouble=TROUBLES)
    def upload(self, by: int, run: str, text: str, trouble: Trouble) -> None:
        """Store a text."""
        self.act(by, Upload(run, text), trouble)

    @rule(by=HOSTS, run=_run, experiment=EXPERIMENTS, again=st.booleans(), trouble=TROUBLES)
    def register(self, by: int, run: str, experiment: str, again: bool, trouble: Trouble) -> None:
        """Register what a run has."""
        self.act(by, Register(run, experiment, again), trouble)

    @rule(by=HOSTS, experiment=EXPERIMENTS, version=_number, expect=_expect, trouble=TROUBLES)
    def promote(
        self, by: int, experiment: str, version: int, expect: int | None, trouble: Trouble
    ) -> None:
        """Put the alias on a version."""
        self.act(by, Promote(experiment, version, expect), trouble)

    @rule(by=HOSTS, experiment=EXPERIMENTS, expect=_expect, trouble=TROUBLES)
    def remove_alias(self, by: int, experiment: str, expect: int | None, trouble: Trouble) -> None:
        """Put the alias on none."""
        self.act(by, RemoveAlias(experiment, expect), trouble)

    @rule(by=HOSTS, experiment=EXPERIMENTS, version=_number, trouble=TROUBLES)
    def deploy(self, by: int, experiment: str, version: int, trouble: Trouble) -> None:
        """Have a version live."""
        self.act(by, Deploy(experiment, version), trouble)

    @rule(by=HOSTS, experiment=EXPERIMENTS, trouble=TROUBLES)
    def roll_back(self, by: int, experiment: str, trouble: Trouble) -> None:
        """Have the version live that was live before."""
        self.act(by, RollBack(experiment), trouble)

    @rule(by=HOSTS, experiment=EXPERIMENTS, version=_number, retired=RETIRED, trouble=TROUBLES)
    def retire(
        self, by: int, experiment: str, version: int, retired: bool, trouble: Trouble
    ) -> None:
        """Retire a version, or take that back."""
        self.act(by, Retire(experiment, version, retired), trouble)

    @rule(by=HOSTS, experiment=EXPERIMENTS, version=_number)
    def want_what_is_retired(self, by: int, experiment: str, version: int) -> None:
        """Retire a version, and want it all the same, on the other host."""
        self.act(by, Retire(experiment, version, retired=True), NONE)
        for deed in (
            Promote(experiment, version, None),
            Deploy(experiment, version),
            RollBack(experiment),
        ):
            self.act(1 - by, deed, NONE)

    def act(self, by: int, deed: Deed, trouble: Trouble) -> None:
        """Do something, and hold what comes of it against the model."""
        others: list[Answer | None] = []
        backend = self.backends[by]
        backend.faults = [*trouble.losses]
        backend.faults_of_creating = [*trouble.losses_of_creating]
        if trouble.meanwhile is not None:
            other, host = trouble.meanwhile, self.hosts[1 - by]
            backend.meanwhile = (trouble.at, lambda: others.append(answer_to(other, host)))
        mine: Answer | None = None
        is_unknown = False
        try:
            with dying(trouble.dies) as mortal:
                mine = answer_to(deed, self.hosts[by])
        except Died:
            pass
        except BackendError as error:
            assert trouble.losses or trouble.losses_of_creating
            is_unknown = isinstance(error, OutcomeUnknown) or isinstance(deed, Deploy | RollBack)
        finally:
            backend.faults, backend.faults_of_creating, backend.meanwhile = [], [], None
        if mortal.is_dead:
            self.hosts[by] = self.opened(by)
            is_unknown, mine = True, None
        seen = self.seen(1 - by)
        self.ideal = next(self.expected(deed, mine, trouble.meanwhile, others, seen, is_unknown))
        assert self.seen(by) == self.ideal

    def expected(
        self,
        deed: Deed,
        mine: Answer | None,
        other: Deed | None,
        others: list[Answer | None],
        seen: Ideal,
        is_unknown: bool,
    ) -> Iterator[Ideal]:
        """Yield what may be so by what everybody was told, if it is what is to be seen."""
        deeds = [(deed, mine)]
        if other is not None and others:
            deeds.append((other, others[0]))
        possible: list[tuple[Ideal, list[tuple[Answer | None, Answer]]]] = []
        for order in itertools.permutations(deeds):
            ideal, answers = self.ideal, list[tuple[Answer | None, Answer]]()
            for each, told in order:
                ideal, answer = each.on(ideal)
                answers.append((told, answer))
            possible.append((ideal, answers))
        if mine is None:
            # It didn't happen; or it may have, where nobody knows.
            possible = [*(possible if is_unknown else ()), (self.ideal, [])]
        for ideal, answers in possible:
            if ideal == seen and all(told in (None, answer) for told, answer in answers):
                yield ideal
        raise AssertionError(f"{seen} is none of {possible}, and {deeds} were answered so")

    @rule(by=HOSTS, losses=_losses, dies=st.none() | st.integers(0, 150))
    def bring(self, by: int, losses: tuple[str, ...], dies: int | None) -> None:
        """Import what another repository has; where that is interrupted, once more."""
        self.backends[by].faults = [*losses]
        try:
            with dying(dies):
                self.carry(by)
        except Died:
            self.hosts[by] = self.opened(by)
        except BackendError:
            assert losses
        finally:
            self.backends[by].faults = []
        self.carry(by)
        runs = {each.run: (each.text,) for each in self.imported}
        self.ideal = replace(
            self.ideal,
            runs={**self.ideal.runs, **runs},
            versions={**self.ideal.versions, SPAM: self.imported},
        )
        assert self.seen(by) == self.seen(1 - by) == self.ideal

    def carry(self, by: int) -> None:
        """Import the bundle."""
        with opening.bundle(self.exported) as source:
            report = carry(self.hosts[by], source, Options())
        assert not report.conflicts

    @rule(by=HOSTS, which=st.integers(0, 100), cached=st.booleans())
    def pull(self, by: int, which: int, cached: bool) -> None:
        """Bring a version here, by the cache or not, and find its bytes."""
        every = [
            (f"{name}/{number}", each.text)
            for name, given in self.ideal.versions.items()
            for number, each in enumerate(given, 1)
        ]
        reference, text = every[which % len(every)]
        if cached:
            path = self.hosts[by].path(reference)
        else:
            path = self.hosts[by].pull(reference, self.root / f"copy-{next(self.copies)}")
        assert path.read_text() == text

    @rule(by=HOSTS)
    def prune(self, by: int) -> None:
        """Empty the cache."""
        _, left = cache.prune(self.hosts[by].home.paths.objects, 0, dry_run=False)
        assert left == 0

    @rule(by=HOSTS)
    def collect(self, by: int) -> None:
        """Collect what may go, which is nothing that is as young as all is here."""
        assert not self.hosts[by].gc()

    @rule(by=HOSTS)
    def share(self, by: int) -> None:
        """Share what one host did, and bring it to the other."""
        self.hosts[by].push()
        assert not [each.trouble for each in self.hosts[1 - by].fetch() if each.trouble]

    @rule(by=HOSTS, dies=st.none() | st.integers(0, 40))
    def rebuild(self, by: int, dies: int | None) -> None:
        """Lose a journal, and make it again from what was shared and what is recorded."""
        paths = self.hosts[by].home.paths
        for path in (paths.journal, paths.head):
            path.unlink(missing_ok=True)
        self.hosts[by] = self.opened(by)
        try:
            with dying(dies):
                self.hosts[by].rebuild()
        except Died:
            self.hosts[by] = self.opened(by)
            self.hosts[by].rebuild()
        assert self.seen(by) == self.ideal

    @rule()
    def clone(self) -> None:
        """Make one more home from the store alone, which sees the same."""
        root = self.root / f"clone-{next(self.copies)}"
        repository, _ = Repository.clone(root, str(self.store))
        with repository:
            assert observed(repository, (*OURS, SPAM)) == self.ideal
            report = repository.verify(deep=True)
            assert report.ok, report.findings

    # What holds

    def seen(self, by: int) -> Ideal:
        """Return what a host sees."""
        return observed(self.hosts[by], (*OURS, SPAM))

    def all_is_told_once_in_the_end(self) -> None:
        """Have both hosts settle and share: both tell the same history, each deed of it once."""
        for each in self.hosts:
            each.settle_deployments()
            each.rebuild()
            each.push()
        for number, each in enumerate(self.hosts):
            assert not [found.trouble for found in each.fetch() if found.trouble]
            assert self.seen(number) == self.ideal
            report = each.verify(deep=True)
            assert report.ok, report.findings
        logs = [sorted((e.home, e.seq, e.sha256) for e in each.log()) for each in self.hosts]
        assert logs[0] == logs[1]
        # Homes tell of themselves, and somebody of the target.
        told = [each.about[0] for each in self.hosts[0].log() if each.about[0] != "home"]
        told.remove(f"target:{TARGET}~1")
        assert sorted(told) == sorted(self.ideal.references(TARGET)), told
        for experiment in OURS:
            live = self.ideal.live(experiment)
            place = self.root / "live" / experiment / "current"
            assert place.exists() == (live is not None)
            if live is not None:
                given = self.ideal.versions[experiment][live.version - 1]
                assert (place / "model").read_text() == given.text


def answer_to(deed: Deed, repository: Repository) -> Answer | None:
    """Do something and return what is answered, also if it is why it can't be done.

    None says that it was done, and that what is current has yet to follow it: that has a lock,
    which the host may hold in the middle of whose deed this one is.
    """
    try:
        return deed.do(repository)
    except BackendError:
        raise
    except Locked as error:
        if "is recorded" not in error.message:
            raise
        return None
    except ModeldropError as error:
        return type(error)


@pytest.fixture(autouse=True, scope="module")
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have another repository export what is to be imported."""
    root = tmp_path_factory.mktemp("elsewhere")
    Histories.exported, Histories.imported = export(root)
    yield
    del Histories.exported, Histories.imported


def export(root: Path) -> tuple[Path, tuple[Given, ...]]:
    """Return a bundle of two versions, and what they are."""
    join(root / "home", root / "store", begin_store(root / "store"))
    given = []
    with Repository.open(root / "home") as origin:
        for text in ("x", "y"):
            run = new_guid()
            Upload(run, text).do(origin)
            Register(run, SPAM, again=False).do(origin)
            given.append(Given(run, 1, text))
        pack(origin, [origin.resolve(f"{SPAM}/2")], root / "bundle", history=True)
    return root / "bundle", tuple(given)


@pytest.mark.slow
def test_both_hosts_see_what_the_model_says_whatever_is_lost_and_whoever_dies() -> None:
    play(Histories, PLAN)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_same_for_a_long_time() -> None:
    play_long(Histories, LONG)


def test_without_the_condition_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    def overwrite(self: LocalBackend, key: str, data: bytes) -> bool:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True

    monkeypatch.setattr(LocalBackend, "create", overwrite)
    is_red(Histories, PLAN, ModeldropError)


def test_if_claims_are_not_looked_at_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up: Callable[..., object] = Registrar._look_up

    def count(self: Registrar, asked: Asked, starts_at: int) -> object:
        found = look_up(self, asked, starts_at)
        return found if isinstance(found, int) else self._newest(asked.wanted.experiment) + 1

    monkeypatch.setattr(Registrar, "_look_up", count)
    is_red(Histories, PLAN, ModeldropError)


def test_if_nobody_looks_whether_a_version_is_retired_it_is_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Retirements, "refuse", lambda *_: None)
    is_red(Histories, PLAN)
