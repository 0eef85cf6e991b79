"""Whoever changes something holds the lock of it: while another has that, nothing is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository, cache, founding, layout, locks, runs
from modeldrop.backend.local import LocalBackend
from modeldrop.batch import Batch
from modeldrop.errors import Locked
from modeldrop.form import now
from modeldrop.home_records import Intent
from modeldrop.intents import Intents
from modeldrop.journal import Journal
from modeldrop.ledger import Request
from modeldrop.names import new_guid
from modeldrop.placing import Placing
from modeldrop.records import KEPT, LetGo, Origin
from support.letting import at_step
from support.sharing import host, note, store
from support.stores import model

Prepared = tuple[Path, Callable[[], Any]]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return host(tmp_path / ".mlops", str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for a lock for as long as people would."""
    inner: Any = locks.hold
    monkeypatch.setitem(inner.__wrapped__.__kwdefaults__, "timeout", 0.05)
    waiting: Any = locks.hold_unless
    monkeypatch.setitem(waiting.__wrapped__.__kwdefaults__, "timeout", 0.05)
    monkeypatch.setattr(runs, "_GROUP_TIMEOUT", 0.05)
    monkeypatch.setattr(cache, "_PATIENCE", 0.05)


def uploaded(repository: Repository, text: str = "weights") -> str:
    run = new_guid()
    repository.upload(run, model(repository.home.paths.root.parent / run / "model", text))
    return run


def begin(repository: Repository, sequence: str) -> None:
    """Leave an intent of a request that died."""
    Intents(repository.home.paths.intents).begin(
        Intent(
            request=new_guid(),
            sequence=sequence,
            owner=new_guid(),
            starts_at=1,
            journal_seq=0,
            journal_offset=0,
            user="ada",
            begun_at=now(),
        )
    )


def storing(repository: Repository) -> Prepared:
    run = new_guid()
    path = model(repository.home.paths.root.parent / "aside" / "model")
    return repository.home.paths.run_lock(run), lambda: repository.upload(run, path)


def storing_a_group(repository: Repository) -> Prepared:
    def work() -> None:
        with Batch() as batch:
            repository.runs_at_backend.commit_firsts([], batch, lambda: None)

    return repository.home.paths.group_lock(), work


def settling_a_run(repository: Repository) -> Prepared:
    run = uploaded(repository)
    return (
        repository.home.paths.run_lock(run),
        lambda: repository.runs_at_backend.settle(run),
    )


def settling_what_a_group_began(repository: Repository) -> Prepared:
    run = uploaded(repository)
    begin(repository, layout.revisions(run))
    # What was begun is read from the disk by whoever didn't begin it.
    return repository.home.paths.group_lock(), lambda: repository.runs_at_backend.settle(run)


def saying_what_is_kept(repository: Repository) -> Prepared:
    run = uploaded(repository)
    parts = [LetGo(1, "model", "it is wanted again")]

    def work() -> None:
        repository.runs_at_backend.collections.append(run, KEPT, parts, "ada", below=0)

    return repository.home.paths.run_lock(run), work


def settling_what_was_let_go(repository: Repository) -> Prepared:
    run = uploaded(repository)
    begin(repository, layout.collections(run))
    return repository.home.paths.run_lock(run), repository.runs_at_backend.collections.settle


def registering(repository: Repository) -> Prepared:
    run = uploaded(repository)
    return (
        repository.home.paths.counter_lock("churn"),
        lambda: repository.register(f"run:{run}", "churn"),
    )


def registering_several(repository: Repository) -> Prepared:
    run = uploaded(repository)
    return (
        repository.home.paths.counter_lock("churn"),
        lambda: repository.register_all([run], "churn"),
    )


def leaving_a_number_vacant(repository: Repository) -> Prepared:
    versions = repository.versions_at_backend
    placing = Placing(repository.home, repository.backend, versions)
    origin = Origin("bundle", "there", "churn/1", "ada", now())
    request = Request(new_guid(), "ada")

    def work() -> None:
        placing.vacant(1, "churn", "it is gone there", origin, request)

    return repository.home.paths.counter_lock("churn"), work


def promoting(repository: Repository) -> Prepared:
    version = store(repository, "one")
    return (
        repository.home.paths.counter_lock("churn@champion"),
        lambda: repository.promote(version, "champion"),
    )


def retiring(repository: Repository) -> Prepared:
    version = store(repository, "one")
    return repository.home.paths.retirement_lock("churn"), lambda: repository.retire(version)


def settling_what_was_retired(repository: Repository) -> Prepared:
    store(repository, "one")
    begin(repository, layout.retirements("churn", 1))
    return (
        repository.home.paths.retirement_lock("churn"),
        repository.retirements_at_backend.settle,
    )


def setting_a_target(repository: Repository) -> Prepared:
    place = repository.home.paths.root.parent / "live"
    return (
        repository.home.paths.counter_lock("+live"),
        lambda: repository.add_target("live", place),
    )


def deploying(repository: Repository) -> Prepared:
    version = store(repository, "one")
    repository.add_target("live", repository.home.paths.root.parent / "live")
    return (
        repository.home.paths.counter_lock("churn+live"),
        lambda: repository.deploy(version, "live"),
    )


def appending_to_the_journal(repository: Repository) -> Prepared:
    return repository.home.paths.journal_lock(), lambda: note(repository, "this")


def sharing_the_journal(repository: Repository) -> Prepared:
    note(repository, "this")
    return repository.home.paths.push_lock(), lambda: repository.sync.push(timeout=0)


def making_a_key(repository: Repository) -> Prepared:
    return repository.home.paths.push_lock(), repository.create_key


def trusting_a_key(repository: Repository) -> Prepared:
    fingerprint = repository.create_key().key.fingerprint
    repository.push()
    return (
        repository.home.paths.fetch_lock(),
        lambda: repository.trust_key(repository.home.id, fingerprint),
    )


def fetching_journals(repository: Repository) -> Prepared:
    return repository.home.paths.fetch_lock(), lambda: repository.sync.fetch(timeout=0)


def making_a_home(repository: Repository) -> Prepared:
    root = repository.home.paths.root.parent / "another"
    root.mkdir()
    return root / "locks" / "home", lambda: Repository.init(root)


def taking_a_new_id(repository: Repository) -> Prepared:
    repository.home.disown(repository.home.id)
    return repository.home.paths.locks / "home", repository.home.claim


def giving_an_id_up(repository: Repository) -> Prepared:
    home = repository.home
    return home.paths.locks / "home", lambda: home.disown(home.id)


def beginning_the_journal_of_a_copy(repository: Repository) -> Prepared:
    home = repository.home
    home.paths.journal.unlink(missing_ok=True)
    home.paths.head.unlink(missing_ok=True)
    journal = Journal(home.paths, home.id, home.host)

    def work() -> None:
        founding.begin_journal(home, journal, new_guid())

    return home.paths.locks / "home", work


def making_the_journal_anew(repository: Repository) -> Prepared:
    store(repository, "one")
    repository.home.paths.journal.unlink()
    repository.home.paths.head.unlink()
    return repository.home.paths.journal_lock(), repository.rebuild


def pulling_into_the_cache(repository: Repository) -> Prepared:
    store(repository, "one")
    sha256 = repository.versions("churn")[0].sha256
    lock = repository.home.paths.objects / sha256[:2] / f"{sha256}.lock"
    lock.parent.mkdir(parents=True)
    return lock, lambda: repository.path("churn/1")


EACH: Final = (
    storing,
    storing_a_group,
    settling_a_run,
    settling_what_a_group_began,
    saying_what_is_kept,
    settling_what_was_let_go,
    registering,
    registering_several,
    leaving_a_number_vacant,
    promoting,
    retiring,
    settling_what_was_retired,
    setting_a_target,
    deploying,
    appending_to_the_journal,
    sharing_the_journal,
    making_a_key,
    trusting_a_key,
    fetching_journals,
    making_a_home,
    taking_a_new_id,
    giving_an_id_up,
    beginning_the_journal_of_a_copy,
    making_the_journal_anew,
    pulling_into_the_cache,
)


def test_a_fetch_leaves_the_counter_that_somebody_else_is_bringing_forward(
    repository: Repository, tmp_path: Path
) -> None:
    with repository, host(tmp_path / "bob", str(tmp_path / "store")) as bob:
        store(repository, "one")
        store(bob, "two")
        bob.push()
        counter = repository.home.paths.counter("churn")
        before = counter.read_bytes()

        with locks.hold(repository.home.paths.counter_lock("churn"), what="the same"):
            repository.fetch()

        assert counter.read_bytes() == before


@pytest.mark.parametrize("prepare", EACH, ids=[each.__name__ for each in EACH])
def test_nothing_is_done_while_another_holds_the_lock(
    repository: Repository, prepare: Callable[[Repository], Prepared]
) -> None:
    with repository:
        lock, work = prepare(repository)

        with locks.hold(lock, what="the same"), pytest.raises(Locked):
            work()

        # It was the lock, and nothing else.
        work()


def test_what_is_live_is_switched_by_one_at_a_time(repository: Repository, tmp_path: Path) -> None:
    with repository:
        first, second = store(repository, "one"), store(repository, "two")
        repository.add_target("live", tmp_path / "live")
        repository.deploy(first, "live")
        lock = tmp_path / "live" / "churn" / ".current.lock"

        with locks.hold(lock, what="the same"), pytest.raises(Locked):
            repository.deploy(second, "live")

        repository.deploy(second, "live")


def test_a_journal_is_not_made_anew_under_whoever_writes_to_it(repository: Repository) -> None:
    with repository:
        lock, work = making_the_journal_anew(repository)

        with locks.hold(lock, what="the same"), pytest.raises(Locked):
            work()

        assert not repository.home.paths.journal.exists()


def test_a_deployment_that_is_under_way_is_not_settled_as_a_dead_one(
    repository: Repository, tmp_path: Path
) -> None:
    settled: list[object] = []
    with repository:
        version = store(repository, "one")
        repository.add_target("live", tmp_path / "live")

        with at_step("intent written", lambda: settled.extend(repository.settle_deployments())):
            assert repository.deploy(version, "live").created

    assert settled == []


def test_who_switches_what_is_live_waits_for_whoever_switches(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    (tmp_path / "churn").mkdir()

    with (
        backend.turn("churn/.current.lock", "what is live"),
        pytest.raises(Locked),
        backend.turn("churn/.current.lock", "what is live"),
    ):
        pass
