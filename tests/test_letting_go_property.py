"""Whatever two hosts do, and wherever they die: what a version means is there as long as it has to.

Every version that was ever given resolves to its digest, and its bytes are there unless it was
retired two weeks ago. Two homes share one backend; time passes for both as the test says.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from hypothesis.stateful import run_state_machine_as_test as run_machine

from modeldrop import Repository, layout, pins, retirements
from modeldrop.collection import Collections, State
from modeldrop.errors import (
    AliasNotFound,
    ArtifactCollected,
    DeploymentNotFound,
    ModeldropError,
    VersionInUse,
    VersionRetired,
)
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.elsewhere import Source
from modeldrop.imports.packing import pack
from modeldrop.names import new_guid
from modeldrop.versions import Versions
from support import mlopsnet
from support.letting import at_step, collect
from support.servers import MotoServer
from support.sharing import host
from support.stores import model

GRACE: Final = 14.0
STEPS: Final = (
    *("intent written", "record appended", "followers brought forward", "journal acknowledged"),
    *("intent removed", "claimed", "marked", "kept", "collected", "key deleted", "pins read"),
    *("run imported", "version imported"),
)
HOSTS: Final = st.integers(0, 1)
NAMES: Final = st.sampled_from(["model", "tokenizer"])
TEXTS: Final = st.sampled_from(["a", "b", "c"])
EXPERIMENTS: Final = st.sampled_from(["churn", "fraud"])
ALIASES: Final = st.sampled_from(["champion", "challenger"])
ANY: Final = st.integers(0, 10_000)
DIES: Final = st.one_of(st.none(), st.none(), st.none(), st.sampled_from(STEPS))

# Only what somebody else did, or time, can stand in the way.
EXPECTED: Final = (
    VersionInUse,
    VersionRetired,
    AliasNotFound,
    DeploymentNotFound,
    ArtifactCollected,
)


class Died(BaseException):
    """A process that ends at a step: no handler for errors gets to see it."""


@dataclass
class Elsewhere:
    """What there is to be imported: bundles of `spam`, and what MLOps.NET has of `ham`."""

    bundles: list[tuple[Path, list[Given]]]
    net: mlopsnet.MadeNet
    models: list[Given]

    @classmethod
    def make(cls, root: Path) -> Elsewhere:
        """Make another repository, export it as it grows, and fill tables of MLOps.NET."""
        bundles: list[tuple[Path, list[Given]]] = []
        versions: list[Given] = []
        with host(root / "elsewhere", str(root / "store elsewhere")) as origin:
            for number, text in enumerate(["a", "b", "a"], 1):
                run = new_guid()
                origin.upload(run, model(root / "aside" / "model", text))
                found = origin.register(f"run:{run}", "spam").version
                versions.append(Given(f"spam/{number}", run, 1, found.sha256, text))
                path = root / f"{number}.bundle"
                pack(origin, [origin.resolve("spam")], path, history=True)
                bundles.append((path, [*versions]))
        net = mlopsnet.empty(root / "net")
        experiment = net.add("Experiment", "ham", "2020-10-04 14:00:00")
        models = []
        for number, text in enumerate(["x", "y"], 1):
            run, artifact = net.run(experiment, text.encode(), number)
            net.register(experiment, run, artifact, number)
            sha256 = hashlib.sha256(text.encode()).hexdigest()
            models.append(Given(f"ham/{number}", run, 1, sha256, text))
        return cls(bundles, net, models)


@dataclass
class Given:
    """What a version is to be for ever."""

    reference: str
    run: str
    revision: int
    sha256: str
    text: str
    retired_at: float | None = None
    """On which day it was retired for certain, None if it isn't for certain."""


class LettingGo(RuleBasedStateMachine):
    """Two hosts, and what they have been told."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.today = 0.0
        url = self.url or str(self.root / "store")
        if self.url:
            url = f"{self.url}/{new_guid()}"
        self.hosts = []
        for name in ("one", "other"):
            with host(self.root / name, url) as made:
                config = made.home.paths.config
            text = config.read_text()
            more = "\n[gc]\nkeep_revisions = 1\nunregistered_after = 432000\n"
            config.write_text(text + more)
            self.hosts.append(Repository.open(self.root / name))
        self.hosts[0].add_target("production", self.root / "live")
        self.elsewhere = Elsewhere.make(self.root)
        self.runs = [new_guid() for _ in range(3)]
        self.stored: list[tuple[str, int, str, str]] = []
        self.given: dict[str, Given] = {}
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(retirements, "now", self.now)
        self.patch.setattr(layout, "new_upload_id", self.new_upload_id)

    def now(self) -> str:
        at = datetime.now(UTC) + timedelta(days=self.today)
        return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"

    def new_upload_id(self) -> str:
        """Have uploads begin today, or they would look two weeks old while they are sent."""
        at = datetime.now(UTC) + timedelta(days=self.today)
        return f"{layout.upload_at(at)}-{new_guid().replace('-', '')[:16]}"

    @initialize()
    def begin(self) -> None:
        """Store, register and deploy what is to be lost; not every example would come to that."""
        for number, text in enumerate(["a", "b", "c", "a"]):
            self.upload(number % 2, number % 3, "model", text, None)
        self.register(0, 0, "churn", False, None)
        self.register(1, 2, "fraud", False, None)
        self.register(1, 3, "fraud", False, None)
        self.deploy(1, 0, None)

    def teardown(self) -> None:
        try:
            # Whatever is open is settled, what may go goes, and what was acknowledged is shared.
            for number, days in enumerate([6.0, 1.5, 1.5]):
                self.today += days
                collect(self.hosts[number % 2], self.today)
            for each in self.hosts:
                each.settle_deployments()
                each.push()
            self.every_version_is_what_it_was()
            for each in self.hosts:
                report = each.verify(deep=True)
                assert report.ok, report.findings
        finally:
            self.patch.undo()
            for each in self.hosts:
                each.close()
            shutil.rmtree(self.root)

    @contextlib.contextmanager
    def maybe_dying(self, number: int, step: str | None) -> Iterator[list[bool]]:
        """Have a host die at a step, and come back as another process."""

        def die() -> None:
            raise Died

        lived: list[bool] = []
        try:
            if step is None:
                yield lived
            else:
                with at_step(step, die):
                    yield lived
            lived.append(True)
        except EXPECTED:
            pass
        except Died:
            root = self.hosts[number].home.paths.root
            self.hosts[number].close()
            self.hosts[number] = Repository.open(root)

    def some(self, number: int) -> Given:
        return list(self.given.values())[number % len(self.given)]

    # What hosts do

    @rule(number=HOSTS, run=st.integers(0, 2), name=NAMES, text=TEXTS, step=DIES)
    def upload(self, number: int, run: int, name: str, text: str, step: str | None) -> None:
        path = model(self.root / "aside" / name, text)
        with self.maybe_dying(number, step):
            revision = self.hosts[number].upload(self.runs[run], path).revision
            self.stored.append((self.runs[run], revision.revision, name, text))

    @precondition(lambda self: self.stored)
    @rule(number=HOSTS, which=ANY, experiment=EXPERIMENTS, again=st.booleans(), step=DIES)
    def register(
        self, number: int, which: int, experiment: str, again: bool, step: str | None
    ) -> None:
        run, revision, name, text = self.stored[-1 - which % len(self.stored)]
        with self.maybe_dying(number, step):
            reference = f"run:{run}~{revision}"
            found = self.hosts[number].register(reference, experiment, name, again=again).version
            given = Given(f"{experiment}/{found.version}", run, found.revision, found.sha256, text)
            known = self.given.setdefault(given.reference, given)
            assert (known.run, known.sha256) == (given.run, given.sha256)

    @rule(number=HOSTS, which=st.integers(0, 2), step=DIES)
    def import_bundle(self, number: int, which: int, step: str | None) -> None:
        path, versions = self.elsewhere.bundles[which]
        with opening.bundle(path) as source:
            self._import(number, source, versions, step)

    @rule(number=HOSTS, step=DIES)
    def import_mlopsnet(self, number: int, step: str | None) -> None:
        net = self.elsewhere.net
        with opening.mlopsnet(net.database, net.folder) as source:
            self._import(number, source, self.elsewhere.models, step)

    @rule(number=HOSTS, other=HOSTS)
    def gc_while_another_one_imports(self, number: int, other: int) -> None:
        self.today += 1.5
        with at_step("pins read", lambda: self.import_bundle(other, 2, None)):
            collect(self.hosts[number], self.today)

    def _import(self, number: int, source: Source, versions: list[Given], step: str | None) -> None:
        with self.maybe_dying(number, step) as lived:
            report = carry(self.hosts[number], source, Options())
            assert not report.conflicts
        if lived and report.complete:
            for each in versions:
                self.given.setdefault(each.reference, replace(each))

    @precondition(lambda self: self.given)
    @rule(number=HOSTS, which=ANY, alias=ALIASES, step=DIES)
    def promote(self, number: int, which: int, alias: str, step: str | None) -> None:
        with self.maybe_dying(number, step):
            self.hosts[number].promote(self.some(which).reference, alias)

    @precondition(lambda self: self.given)
    @rule(number=HOSTS, which=ANY, step=DIES)
    def deploy(self, number: int, which: int, step: str | None) -> None:
        with self.maybe_dying(number, step):
            self.hosts[number].deploy(self.some(which).reference, "production")

    @rule(number=HOSTS, experiment=EXPERIMENTS)
    def roll_back(self, number: int, experiment: str) -> None:
        with self.maybe_dying(number, None):
            self.hosts[number].rollback(experiment, "production")

    @rule(number=HOSTS, experiment=EXPERIMENTS, alias=ALIASES)
    def remove_alias(self, number: int, experiment: str, alias: str) -> None:
        with self.maybe_dying(number, None):
            self.hosts[number].remove_alias(f"{experiment}@{alias}")

    @precondition(lambda self: self.given)
    @rule(number=HOSTS, which=ANY, step=DIES)
    def retire(self, number: int, which: int, step: str | None) -> None:
        given = self.some(which)
        with self.maybe_dying(number, step):
            self.hosts[number].retire(given.reference)
        self._note(given)

    @precondition(lambda self: self.given)
    @rule(number=HOSTS, which=ANY, step=DIES)
    def unretire(self, number: int, which: int, step: str | None) -> None:
        given = self.some(which)
        with self.maybe_dying(number, step):
            self.hosts[number].unretire(given.reference)
        self._note(given)

    def _note(self, given: Given) -> None:
        """Take note of what the store says by now, whoever died over it."""
        experiment, _, number = given.reference.partition("/")
        newest = self.hosts[0].retirements_at_backend.newest(experiment, int(number))
        is_retired = newest is not None and newest.retired
        if not is_retired:
            given.retired_at = None
        elif given.retired_at is None:
            given.retired_at = self.today

    @rule(number=HOSTS, days=st.sampled_from([0.0, 0.5, 1.5, 6.0, 15.0]), step=DIES)
    def gc(self, number: int, days: float, step: str | None) -> None:
        self.today += days
        with self.maybe_dying(number, step):
            found = collect(self.hosts[number], self.today)
            assert not [each.trouble for each in found if each.trouble]

    @rule(number=HOSTS, other=HOSTS, which=ANY)
    def gc_while_another_one_registers(self, number: int, other: int, which: int) -> None:
        self.today += 1.5
        with at_step("pins read", lambda: self._register_meanwhile(other, which)):
            collect(self.hosts[number], self.today)

    @rule(number=HOSTS, other=HOSTS, run=st.integers(0, 2), text=TEXTS)
    def upload_while_another_one_collects(
        self, number: int, other: int, run: int, text: str
    ) -> None:
        self.today += 1.5
        with at_step("bytes stored", lambda: collect(self.hosts[other], self.today)):
            self.upload(number, run, "model", text, None)

    def _register_meanwhile(self, number: int, which: int) -> None:
        if self.stored:
            self.register(number, which, "churn", True, None)

    @rule(number=HOSTS)
    def push(self, number: int) -> None:
        self.hosts[number].push()

    # What holds

    @invariant()
    def every_version_is_what_it_was(self) -> None:
        for given in self.given.values():
            for each in self.hosts:
                found = each.resolve(given.reference)
                assert found.version is not None
                assert found.version.sha256 == given.sha256
            if given.retired_at is None or self.today - given.retired_at < GRACE:
                assert self._read(given) == given.sha256

    def _read(self, given: Given) -> str:
        """Return the digest of the bytes that are there for a version."""
        backend = self.hosts[0].backend
        _, artifact = self.hosts[0].artifact(given.reference)
        [file] = artifact.files
        source = backend.source(file.key)
        assert source is not None, f"{given.reference} has no bytes"
        with source:
            return hashlib.sha256(source.read(100)).hexdigest()


def _machine(url: str = "") -> type[LettingGo]:
    return type("Machine", (LettingGo,), {"url": url})


QUICK: Final = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
def test_every_version_resolves_to_its_digest_and_its_bytes_as_long_as_it_has_to() -> None:
    run_machine(_machine(), settings=QUICK)


@pytest.mark.slow
def test_the_same_on_an_object_store(moto: MotoServer, s3_url: str) -> None:
    few = settings(QUICK, max_examples=1, stateful_step_count=20)
    run_machine(_machine(s3_url), settings=few)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_same_for_a_long_time() -> None:
    run_machine(_machine(), settings=settings(QUICK, max_examples=1500, stateful_step_count=50))


def test_if_one_experiment_is_not_read_the_same_machine_is_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = Versions.experiments
    monkeypatch.setattr(
        Versions, "experiments", lambda self: (each for each in every(self) if each != "fraud")
    )
    monkeypatch.setattr(pins, "_check_accounts", lambda *_: None)
    machine = LettingGo()
    try:
        # The shortest way that the machine itself finds.
        machine.upload(0, 0, "model", "a", None)
        machine.register(0, 0, "fraud", False, None)
        machine.gc(0, 6.0, None)
        machine.gc(1, 1.5, None)
        with pytest.raises(AssertionError, match="fraud/1 has no bytes"):
            machine.every_version_is_what_it_was()
    finally:
        with contextlib.suppress(AssertionError, ModeldropError):
            machine.teardown()


def test_if_imports_do_not_look_at_what_goes_the_same_machine_is_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Collections, "keep", lambda *_, **__: None)
    monkeypatch.setattr(State, "leaves", lambda *_: frozenset())
    machine = LettingGo()
    try:
        machine.begin()
        machine.import_bundle(0, 0, "run imported")
        machine.gc(1, 6.0, None)
        machine.gc_while_another_one_imports(1, 0)
        with pytest.raises(AssertionError, match="spam/1 has no bytes"):
            machine.every_version_is_what_it_was()
    finally:
        with contextlib.suppress(AssertionError, ModeldropError):
            machine.teardown()


def test_if_commits_take_over_marked_bytes_the_same_machine_is_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(State, "leaves", lambda *_: frozenset())
    machine = LettingGo()
    machine.begin()
    machine.gc(0, 6.0, None)
    machine.today += 1.5
    # The same bytes by another name: they are there, until the other host has collected them.
    with at_step("bytes stored", lambda: collect(machine.hosts[1], machine.today)):
        machine.upload(0, 2, "tokenizer", "c", None)
    findings = machine.hosts[0].verify(deep=True).findings
    assert "its stored bytes are not what was recorded" in "".join(each.what for each in findings)
    machine.teardown()
