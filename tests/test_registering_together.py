"""Several registrations of an experiment at the price of one: each as if it were alone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop import Repository, disk, errands, files, layout, locks
from modeldrop import batch as batches
from modeldrop.backend.local import LocalBackend
from modeldrop.batch import Batch
from modeldrop.errands import Errand, Errands, Handover
from modeldrop.errors import ArtifactCollected, RunNotFound
from modeldrop.form import Fields, canonical
from modeldrop.home_records import VersionWanted
from modeldrop.names import new_guid
from modeldrop.records import Registration
from modeldrop.registrar import Registered
from support import work
from support.children import started
from support.intake import make_run
from support.letting import collect
from support.sharing import host
from support.stores import model
from support.waiting import comes_true


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with host(tmp_path / ".mlops", str(tmp_path / "store")) as opened:
        # What comes first of all makes the folders, and goes alone.
        opened.register(stored(opened), "churn")
        yield opened


def stored(repository: Repository) -> str:
    """Store a run with one artifact; return it."""
    run = new_guid()
    path = model(repository.home.paths.root.parent / "aside" / run / "model", run)
    repository.upload(run, path)
    return run


def numbers(found: list[Registered]) -> list[int]:
    return [each.version.version for each in found]


def claims(repository: Repository) -> dict[int, int]:
    """Return from which number on the claim of each version has it looked for."""
    return {
        each.version: Registration.from_bytes(
            repository.backend.read(layout.registration("churn", each.owner)) or b"", "the claim"
        ).starts_at
        for each in repository.versions("churn")
    }


def is_whole(repository: Repository, count: int) -> None:
    """Assert that the versions are dense, the journal tells of each, and nothing is left over."""
    assert [each.version for each in repository.versions("churn")] == list(range(1, count + 1))
    told = [each.about[0] for each in repository.log() if each.kind == "registered"]
    entries = [each for each in told if each.startswith("churn/")]
    assert entries == [f"churn/{number}" for number in range(count, 0, -1)]
    assert repository.versions_at_backend.counter("churn") == count
    assert os.listdir(repository.home.paths.intents) == []
    assert repository.verify(deep=True).ok


# Of one caller


def test_runs_are_registered_in_their_order_each_with_its_own_version(
    repository: Repository,
) -> None:
    runs = [stored(repository) for _ in range(5)]

    found = repository.register_all(runs, "churn", "ada", "five at once")

    assert numbers(found) == [2, 3, 4, 5, 6]
    assert [each.version.run for each in found] == runs
    assert {each.created for each in found} == {True}
    for each in found:
        read = repository.resolve(f"churn/{each.version.version}").version
        assert read == each.version
        assert (each.version.registered_by, each.version.description) == ("ada", "five at once")
    assert claims(repository) == {1: 1, **dict.fromkeys(range(2, 7), 2)}
    is_whole(repository, 6)


def test_registering_them_again_tells_the_same_versions_by_either_way(
    repository: Repository,
) -> None:
    runs = [stored(repository) for _ in range(3)]
    first = repository.register_all(runs, "churn")

    again = repository.register_all([*reversed(runs), stored(repository)], "churn")

    assert numbers(again) == [4, 3, 2, 5]
    assert [each.created for each in again] == [False, False, False, True]
    assert [repository.register(run, "churn").version for run in runs] == [
        each.version for each in first
    ]
    is_whole(repository, 5)


def test_the_same_run_twice_in_a_row_gets_one_version(repository: Repository) -> None:
    run, other = stored(repository), stored(repository)

    found = repository.register_all([run, run, other, run], "churn")

    assert numbers(found) == [2, 2, 3, 2]
    assert [each.created for each in found] == [True, False, True, False]
    is_whole(repository, 3)


def test_runs_go_to_the_experiments_that_they_name(repository: Repository) -> None:
    runs = [
        make_run(repository.home.staging, {"model": name, "run.toml": f'experiment = "{name}"\n'})
        for name in ("churn", "fraud", "fraud", "churn")
    ]
    engine = repository.engine()
    engine.scan_once()
    engine.close()

    found = repository.register_all(runs)

    assert [(each.version.experiment, each.version.version) for each in found] == [
        ("churn", 2),
        ("fraud", 1),
        ("fraud", 2),
        ("churn", 3),
    ]
    is_whole(repository, 3)


def test_more_than_go_together_are_registered_all_the_same(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.registrar._MOST", 3)
    runs = [stored(repository) for _ in range(8)]

    found = repository.register_all(runs, "churn")

    assert numbers(found) == [*range(2, 10)]
    assert [*claims(repository).values()] == [1, 2, 2, 2, 5, 5, 5, 8, 8]
    is_whole(repository, 9)


def test_of_none_nothing_is_made(repository: Repository) -> None:
    assert repository.register_all([], "churn") == []
    is_whole(repository, 1)


def test_if_one_run_is_unknown_nothing_is_registered(repository: Repository) -> None:
    with pytest.raises(RunNotFound):
        repository.register_all([stored(repository), new_guid()], "churn")

    is_whole(repository, 1)


def test_a_store_that_shares_no_waits_gives_the_same_answers(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(LocalBackend, "create_among", refuse)
    monkeypatch.setattr(repository.backend, "_exclusive", False)
    runs = [stored(repository) for _ in range(3)]

    assert numbers(repository.register_all([*runs, runs[1]], "churn")) == [2, 3, 4, 3]
    is_whole(repository, 4)


def test_a_run_that_was_let_go_meanwhile_ends_the_row_and_leaves_no_gap(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [stored(repository) for _ in range(3)]
    # What keeps the others.
    repository.register_all([runs[0], runs[2]], "other")
    version = repository.register(runs[1], "old").version
    repository.retire(f"old/{version.version}")
    sync = Batch.sync

    def let_go_first(batch: Batch) -> None:
        monkeypatch.setattr(Batch, "sync", sync)
        # Marked as retired for long enough, and let go a day later.
        for days in (15.0, 16.1):
            collect(repository, days)
        sync(batch)

    monkeypatch.setattr(Batch, "sync", let_go_first)
    with pytest.raises(ArtifactCollected):
        repository.register_all(runs, "churn")

    assert repository.versions("churn")[-1].run == runs[0]
    assert numbers(repository.register_all([runs[2], runs[0]], "churn")) == [3, 2]
    is_whole(repository, 3)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_where_another_host_takes_a_number_first_the_rest_goes_on_above_it(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Of three, that many have their numbers by then."""
    runs = [stored(repository) for _ in range(3)]
    link, given = files.link_if_absent, []

    def come_in(temp: Path | str, path: Path | str) -> bool:
        if "/versions/" in str(path):
            given.append(path)
            if len(given) == taken + 1:
                with host(tmp_path / "elsewhere", str(tmp_path / "store")) as other:
                    monkeypatch.setattr(files, "link_if_absent", link)
                    other.register(stored(other), "churn")
        return link(temp, path)

    monkeypatch.setattr(files, "link_if_absent", come_in)
    found = repository.register_all(runs, "churn")

    theirs = 2 + taken
    assert numbers(found) == [each for each in range(2, 6) if each != theirs]
    assert [each.version for each in repository.versions("churn")] == [1, 2, 3, 4, 5]
    told = {each.about[0] for each in repository.log() if each.kind == "registered"}
    assert told == {f"churn/{number}" for number in range(1, 6) if number != theirs}
    assert os.listdir(repository.home.paths.intents) == []
    assert repository.register(runs[2], "churn").version == found[2].version


def test_where_the_disk_says_no_they_are_registered_one_by_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [stored(repository) for _ in range(3)]
    give, failing = Batch.give, [1]

    def fails(batch: Batch, those: list[batches.Pending], *, waits: bool = True) -> None:
        give(batch, those, waits=waits)
        if failing and "/versions/" in those[0].path:
            failing.pop()
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(Batch, "give", fails)
    found = repository.register_all(runs, "churn")

    assert sorted(numbers(found)) == [2, 3, 4]
    is_whole(repository, 4)


def test_what_a_version_refers_to_lasts_before_the_version_has_its_number(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stored(repository)
    seen: list[str] = []
    sync, link = disk.sync_path, files.link_if_absent

    def note(path: str) -> None:
        seen.append(path)
        sync(path)

    def name(temp: Path | str, path: Path | str) -> bool:
        seen.append(str(path))
        return link(temp, path)

    monkeypatch.setattr(disk, "syncs_whole", lambda _: False)
    monkeypatch.setattr(disk, "sync_path", note)
    monkeypatch.setattr(files, "link_if_absent", name)
    repository.register(run, "churn")

    store = repository.backend.url
    numbered = seen.index(f"{store}/{layout.numbered(layout.versions('churn'), 2)}")
    assert {store, f"{store}/{run}", f"{store}/{run}/revisions"} <= {*seen[:numbered]}


# Of several processes


def in_line(folder: Path) -> int:
    """Return how many errands there are, each with its bell."""
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    return len([each for each in names if f"{each}.bell" in names])


@contextlib.contextmanager
def waiting(repository: Repository, count: int) -> Iterator[list[str]]:
    """Have so many processes wait for the experiment, each with a run of its own."""
    runs = [stored(repository) for _ in range(count)]
    root, folder = repository.home.paths.root, repository.home.paths.errands / "churn"
    with contextlib.ExitStack() as stack:
        path = repository.home.paths.counter_lock("churn")
        with locks.hold(path, what="the experiment"):
            children = [
                stack.enter_context(started(work.register, root, run, run, 1, "once"))
                for run in runs
            ]
            for child in children:
                child.say()
            assert comes_true(lambda: in_line(folder) == count)
            yield runs
        for run, child in zip(runs, children, strict=True):
            [[_, created, said]] = child.result()
            assert created
            assert said == f"{run}, 0"


def test_who_waits_is_served_by_the_one_that_registers(repository: Repository) -> None:
    with waiting(repository, 6) as runs:
        pass

    found = {each.run: each for each in repository.versions("churn")}
    assert {found[run].description for run in runs} == {f"{run}, 0" for run in runs}
    # All of them by one: each claim names the same number.
    assert [*claims(repository).values()] == [1, *[2] * 6]
    assert os.listdir(repository.home.paths.errands / "churn") == []
    is_whole(repository, 7)


class Line:
    """What another process of this home waits for, by hand."""

    def __init__(self, repository: Repository) -> None:
        self.errands = Errands(str(repository.home.paths.errands / "churn"))
        self.repository = repository

    def join(self, run: str, until: int = 2**53, experiment: str = "churn") -> Errand:
        """Wait for a run to be registered."""
        _, artifact = self.repository.artifact(f"run:{run}")
        wanted = VersionWanted(
            request=new_guid(),
            user="ada",
            experiment=experiment,
            run=run,
            revision=1,
            artifact=artifact.artifact,
            sha256=artifact.sha256,
            size=artifact.size,
            nonce=None,
            by="bob",
            description="for another",
            until=until,
        )
        return self.errands.join(wanted.to_bytes())

    def __len__(self) -> int:
        return in_line(self.repository.home.paths.errands / "churn")


@pytest.fixture
def line(repository: Repository) -> Line:
    return Line(repository)


def test_each_who_waits_is_told_its_own_version(repository: Repository, line: Line) -> None:
    runs = [stored(repository) for _ in range(3)]
    errands = [line.join(run) for run in runs]

    mine = repository.register(stored(repository), "churn").version.version

    told = [int(each.answer() or b"0") for each in errands]
    assert sorted([mine, *told]) == [2, 3, 4, 5]
    for run, number in zip(runs, told, strict=True):
        version = repository.resolve(f"churn/{number}").version
        assert version is not None
        assert (version.run, version.registered_by, version.description) == (
            run,
            "bob",
            "for another",
        )
    is_whole(repository, 5)


def test_what_somebody_waits_for_who_died_is_not_done(repository: Repository, line: Line) -> None:
    run = stored(repository)
    line.join(run).close()

    assert repository.register(stored(repository), "churn").version.version == 2

    assert run not in {each.run for each in repository.versions("churn")}
    assert len(line) == 0
    is_whole(repository, 2)


@pytest.mark.parametrize("what", ["looked at long ago", "registered already", "asked for twice"])
def test_what_cannot_go_together_its_owner_is_told_to_do_alone(
    repository: Repository, line: Line, what: str
) -> None:
    run = stored(repository)
    if what == "registered already":
        repository.register(run, "churn")
    errand = line.join(run, until=0 if what == "looked at long ago" else 2**53)
    before = len(repository.versions("churn"))

    repository.register(run if what == "asked for twice" else stored(repository), "churn")

    assert errand.answer() == b"-"
    is_whole(repository, before + 1)


def test_what_cannot_be_read_is_left_to_its_owner(repository: Repository, line: Line) -> None:
    torn, other = line.errands.join(b"half of a"), stored(repository)
    later: Fields = {"format": 2, "kind": "errand"}
    digest = hashlib.sha256(canonical(later)).hexdigest()
    strange = [
        line.errands.join(b'{"kind": "errand"}\n'),
        line.errands.join(canonical({**later, "record_sha256": digest}) + b"\n"),
        line.join(stored(repository), experiment="fraud"),
    ]
    good = line.join(other)

    repository.register(stored(repository), "churn")

    assert [each.answer() for each in (torn, *strange)] == [None] * 4
    assert good.answer() is not None
    is_whole(repository, 3)


def test_who_is_told_a_version_that_is_another_ones_looks_for_itself(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stored(repository)
    tell = Errand.answer
    said = [b"1", b"1"]

    def answer(errand: Errand) -> bytes | None:
        return said.pop() if said else tell(errand)

    monkeypatch.setattr(Errand, "answer", answer)
    path = repository.home.paths.counter_lock("churn")
    with ThreadPoolExecutor(1) as pool:
        with locks.hold(path, what="the experiment"):
            waiting = pool.submit(repository.register, run, "churn")
            assert comes_true(lambda: not said)
        found = waiting.result()

    assert (found.version.run, found.version.version) == (run, 2)
    is_whole(repository, 2)


def test_who_cannot_hand_over_what_it_wants_waits_for_its_turn(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, refused = stored(repository), threading.Event()

    def join(*_: object) -> Errand:
        refused.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Errands, "join", join)
    path = repository.home.paths.counter_lock("churn")
    with ThreadPoolExecutor(1) as pool:
        with locks.hold(path, what="the experiment"):
            waiting = pool.submit(repository.register, run, "churn")
            assert refused.wait(30)
        assert waiting.result().version.version == 2

    is_whole(repository, 2)


def test_what_was_wanted_is_not_done_twice(repository: Repository, line: Line) -> None:
    errand = line.join(stored(repository))
    repository.register(stored(repository), "churn")
    assert errand.answer() == b"3"

    # Answered, and its owner hasn't looked yet.
    repository.register(stored(repository), "churn")
    line.errands.rest(errand)
    repository.register(stored(repository), "churn")
    is_whole(repository, 5)

    # The same file, for something else; that it was answered before says nothing.
    again = line.join(stored(repository))
    assert again is errand
    assert again.answer() is None
    repository.register(stored(repository), "churn")
    assert again.answer() == b"7"
    line.errands.rest(again)
    line.errands.close()
    assert len(line) == 0
    is_whole(repository, 7)


@contextlib.contextmanager
def asleep(errand: Errand, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have its owner sleep until somebody rings, however long that takes; somebody has to."""
    monkeypatch.setattr(errands, "_PATIENCE", 3600.0)
    sleeper = threading.Thread(target=errand.wait, daemon=True)
    sleeper.start()
    yield
    sleeper.join(timeout=60)
    assert not sleeper.is_alive()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("wanted", ["what can be done", "nothing that can be read"])
def test_who_waits_is_woken_once_the_lock_is_free(
    repository: Repository, line: Line, monkeypatch: pytest.MonkeyPatch, several: bool, wanted: str
) -> None:
    run, other = stored(repository), stored(repository)
    can = wanted == "what can be done"
    errand = line.join(other) if can else line.errands.join(b"half of a")
    with asleep(errand, monkeypatch):
        if several:
            repository.register_all([run], "churn")
        else:
            repository.register(run, "churn")
    assert errand.answer() == (b"3" if can and not several else None)


def test_who_can_not_write_an_errand_down_waits_for_its_turn(tmp_path: Path) -> None:
    (tmp_path / "churn").write_text("no folder")
    handover = Handover(Errands(str(tmp_path / "churn")), lambda: b"something\n")

    assert not handover.served()
    handover.wait(0.0)
    assert handover.answer() is None
    handover.rest()
    handover.drop()
