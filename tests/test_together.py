"""Small runs that are stored side by side: each as if it were alone, at the price of one."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from modeldrop import Repository, disk, files, locks
from modeldrop.errors import Interrupted, Locked, RecordDamaged
from modeldrop.files import TEMP_PREFIX
from modeldrop.intake import Storing, memory, walk
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.drops import Job, Watch
from modeldrop.intake.flights import Flight, Lanes
from modeldrop.intake.machine import Standing
from modeldrop.intake.observation import Observation
from modeldrop.intake.settling import History
from modeldrop.journal import Journal
from modeldrop.journal.group import Waiting
from modeldrop.names import RECEIPT, new_guid
from modeldrop.structs import replace
from support.children import dies, run, started
from support.intake import (
    jobs_of,
    make_run,
    scan,
    store_together,
    store_together_and_die,
    store_together_in_child,
    stored_revisions,
    storing_by,
    uploads,
)
from support.waiting import comes_true

STEPS = (
    "ready",
    "bytes stored",
    "intent written",
    "record appended",
    "followers brought forward",
    "journal acknowledged",
    "intent removed",
    "committed",
)


def make_runs(repository: Repository, count: int) -> dict[str, dict[str, bytes]]:
    """Write runs of a file and a folder, each with bytes of its own; return them by their GUID."""
    made = {}
    for number in range(count):
        content = {"model": b"weights %d" % number, "tokens/a": b"%d" % number, "tokens/b": b"b"}
        made[make_run(repository.home.staging, {**content})] = content
    return made


def check_stored_once(repository: Repository, runs: dict[str, dict[str, bytes]]) -> None:
    """Check that each run has one revision with its own bytes, and one entry; nothing is open."""
    for guid, content in runs.items():
        assert stored_revisions(repository, guid) == [content]
        assert [entry.kind for entry in repository.log(f"run:{guid}")] == ["committed"]
    assert repository.runs_at_backend.open_intents() == []
    left = os.listdir(repository.home.paths.intents)
    assert [each for each in left if not each.startswith(TEMP_PREFIX)] == []
    assert repository.verify(deep=True).ok


def test_runs_that_go_together_are_each_committed_as_if_they_were_alone(
    repository: Repository,
) -> None:
    runs = make_runs(repository, 20)

    found = store_together(repository, runs)

    assert all(each is not None and each.committed.created for each in found.values())
    for guid, each in found.items():
        assert each is not None
        assert {path: file.sha256 for path, file in each.files.items()} == {
            path: hashlib.sha256(data).hexdigest() for path, data in runs[guid].items()
        }
    check_stored_once(repository, runs)


def test_a_group_is_one_intent_file_and_one_commit_of_the_journal(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs(repository, 20)
    commits: list[int] = []
    commit_all = Journal._commit_all
    open_then: list[int] = []

    def counted(self: Journal, group: list[Waiting]) -> None:
        commits.append(sum(len(each.entries) for each in group))
        open_then.append(len(list(repository.home.paths.intents.iterdir())))
        assert len(repository.runs_at_backend.open_intents()) == 20
        commit_all(self, group)

    monkeypatch.setattr(
        repository.journal._group, "_commit", lambda group: counted(repository.journal, group)
    )
    store_together(repository, runs)

    assert (commits, open_then) == ([20], [1])


def changed(_: Repository, staging: Path, guid: str) -> None:
    (staging / guid / "model").write_bytes(b"changed")


def vanished(_: Repository, staging: Path, guid: str) -> None:
    (staging / guid / "model").unlink()


def stored(repository: Repository, _: Path, guid: str) -> None:
    assert store_together(repository, [guid])[guid] is not None


@pytest.mark.parametrize("what", [changed, vanished, stored])
def test_whoever_is_not_as_it_was_seen_to_be_is_left_out_and_the_others_are_stored(
    repository: Repository, what: Callable[[Repository, Path, str], None]
) -> None:
    staging, runs = repository.home.staging, make_runs(repository, 5)
    odd = sorted(runs)[2]
    jobs = jobs_of(repository, runs)
    what(repository, staging, odd)
    before = uploads(repository, odd)

    found = dict(zip(runs, storing_by(repository, Storing).store_together(jobs), strict=True))

    assert [guid for guid, each in found.items() if each is None] == [odd]
    # What is stored already is not sent again.
    assert what is not stored or uploads(repository, odd) == before
    del runs[odd]
    check_stored_once(repository, runs)


def test_a_change_while_a_group_is_under_way_leaves_no_mixture(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging, runs = repository.home.staging, make_runs(repository, 3)
    odd = sorted(runs)[1]
    observe = walk.observe

    def change_then_observe(staging: Path, name: str, most: int | None = None) -> Observation:
        # One of its files was read already, the other one as well; now it is another run.
        if name == odd:
            (staging / odd / "tokens" / "a").write_bytes(b"another")
        return observe(staging, name, most)

    jobs = jobs_of(repository, runs)
    monkeypatch.setattr(walk, "observe", change_then_observe)
    found = storing_by(repository, Storing).store_together(jobs)
    monkeypatch.undo()

    assert [each is None for each in found] == [guid == odd for guid in runs]
    assert stored_revisions(repository, odd) == []
    assert scan(repository)[odd].state == "committed"
    runs[odd]["tokens/a"] = b"another"
    check_stored_once(repository, runs)
    assert not list(staging.glob("*/.tmp-*"))


def test_a_digest_in_a_marker_that_is_wrong_is_left_to_who_parks_it(repository: Repository) -> None:
    staging = repository.home.staging
    lines = f"{'0' * 64}  model\n"
    wrong = make_run(staging, {"model": "weights", "_SUCCESS": lines})
    right = make_run(staging, {"model": "weights", "_SUCCESS": "model\n"})

    found = scan(repository)

    assert (found[wrong].state, found[right].state) == ("parked", "committed")
    assert stored_revisions(repository, wrong) == []


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_a_group_is_stored_once_by_the_next_scan(
    repository: Repository, step: str
) -> None:
    runs = make_runs(repository, 8)
    assert dies(store_together_in_child, repository.home.paths.root, list(runs), at=step)
    # All of them or none: their records come after all that they refer to.
    there = {len(stored_revisions(repository, guid)) for guid in runs}
    assert there == {0 if step in STEPS[:3] else 1}

    assert {each.state for each in scan(repository).values()} == {"committed"}

    check_stored_once(repository, runs)


@pytest.mark.slow
def test_killed_before_any_call_that_changes_a_file_system_a_group_loses_and_doubles_nothing(
    repository: Repository,
) -> None:
    every: dict[str, dict[str, bytes]] = {}
    home = repository.home.paths.root
    call, alive = 0, False
    while not alive:
        runs = make_runs(repository, 2)
        every |= runs
        with started(store_together_and_die, home, list(runs), call) as child:
            child.say()
            alive = not child.was_killed()
        call += 1

    assert {each.state for each in scan(repository).values()} == {"committed"}
    check_stored_once(repository, every)
    assert call > 40


def test_what_a_dead_group_had_begun_is_settled_run_by_run(repository: Repository) -> None:
    runs = make_runs(repository, 3)
    home = repository.home.paths
    assert dies(store_together_in_child, home.root, list(runs), at="record appended")
    (intents,) = home.intents.iterdir()

    for left, guid in zip((2, 1, 0), runs, strict=True):
        repository.runs_at_backend.settle(guid)
        assert len(repository.runs_at_backend.open_intents()) == left
        assert intents.exists() == bool(left)
        repository.runs_at_backend.settle(guid)

    check_stored_once(repository, runs)


@pytest.mark.parametrize("cut", [0, 1, 200])
def test_intents_that_a_crash_tore_are_none_and_go_with_the_next_group(
    repository: Repository, cut: int
) -> None:
    runs = make_runs(repository, 3)
    home = repository.home.paths
    assert dies(store_together_in_child, home.root, list(runs), at="intent written")
    (left,) = home.intents.iterdir()
    lines = left.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    # As a power loss before the wait may leave it: nothing, a part of a line, pages of zeros.
    left.write_bytes(lines[0][:cut])
    left.with_name(f"{new_guid()}.group.jsonl").write_bytes(bytes(4096) + lines[2])

    assert len(Repository.open(home.root).runs_at_backend.open_intents()) == 0
    assert all(each is not None for each in store_together(repository, runs).values())
    check_stored_once(repository, runs)
    assert list(home.intents.iterdir()) == []


def test_a_single_intent_that_is_damaged_is_said_to_be(repository: Repository) -> None:
    (repository.home.paths.intents / f"{new_guid()}.jsonl").write_bytes(b"{")
    with pytest.raises(RecordDamaged):
        repository.runs_at_backend.open_intents()


def test_a_group_that_is_under_way_is_not_taken_for_a_dead_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the groups' lock its intents would be settled to "did not happen", and go."""
    runs = make_runs(repository, 2)
    real, reached, go = locks.hold, threading.Event(), threading.Event()
    commit_all = Journal._commit_all

    def stands(group: list[Waiting]) -> None:
        reached.set()
        assert go.wait(20)
        commit_all(repository.journal, group)

    repository.journal._group._commit = stands
    group = threading.Thread(target=store_together, args=(repository, list(runs)))
    group.start()
    assert reached.wait(20)
    monkeypatch.setattr(locks, "hold", lambda *_, **named: real(*_, **{**named, "timeout": 0.1}))
    try:
        with (
            Repository.open(repository.home.paths.root) as other,
            pytest.raises(Locked, match=rf"a group of runs is locked by process {os.getpid()}"),
        ):
            other.runs_at_backend.settle(next(iter(runs)))
    finally:
        monkeypatch.undo()
        go.set()
        group.join(20)
    check_stored_once(repository, runs)


def test_two_processes_that_store_the_same_runs_make_one_revision_of_each(
    repository: Repository,
) -> None:
    runs = make_runs(repository, 8)
    home = repository.home.paths.root
    with (
        started(store_together_in_child, home, list(runs)) as one,
        started(store_together_in_child, home, list(runs)) as two,
    ):
        for each in (one, two):
            each.say()
        first, second = one.result(), two.result()

    assert sorted([*first, *second]) == sorted(runs)
    check_stored_once(repository, runs)


def test_what_a_dead_group_had_begun_stays_on_the_disk_while_it_is_settled(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of an intent that goes has the others' in it, which a power loss mustn't take."""
    runs = make_runs(repository, 3)
    home = repository.home.paths
    assert dies(store_together_in_child, home.root, list(runs), at="record appended")
    synced: list[str] = []
    fsync = os.fsync

    def note(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    repository.runs_at_backend.settle(next(iter(runs)))

    of_intents = [each for each in synced if each.startswith(str(home.intents))]
    assert of_intents[-2].startswith(str(home.intents / TEMP_PREFIX))
    assert of_intents[-1] == str(home.intents)
    monkeypatch.undo()
    assert len(repository.runs_at_backend.open_intents()) == 2


def test_what_a_group_that_failed_has_named_lasts_before_it_is_the_answer(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a single run finds it by looking, and looking doesn't tell whether it lasts."""
    runs = make_runs(repository, 3)
    synced: list[str] = []
    sync_folder, rename, begun = disk.sync_folder, files.rename_if_free, itertools.count()
    root = repository.home.paths.model_repository

    def note_folder(path: Path | str) -> None:
        synced.append(str(path))
        sync_folder(path)

    def full_at_the_third(temp: str, path: str) -> bool:
        if next(begun) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return rename(temp, path)

    monkeypatch.setattr(files, "rename_if_free", full_at_the_third)
    storing = storing_by(repository, Storing)
    jobs = jobs_of(repository, runs)
    assert storing.store_together(jobs) == [None] * 3
    sent = [uploads(repository, guid) for guid in runs]
    assert [len(each) for each in sent] == [1, 1, 0]
    assert not [each for each in os.listdir(root) if each.startswith(TEMP_PREFIX)]
    monkeypatch.setattr(disk, "sync_folder", note_folder)
    for job, guid, before in zip(jobs, runs, sent, strict=True):
        synced.clear()
        storing.store(job.drop, job.request, job.watch)
        if before:
            # It is what the group has made, and was waited for.
            assert {str(root), str(root / guid), str(root / guid / "revisions")} <= {*synced}
    check_stored_once(repository, runs)


def test_what_is_there_already_lasts_before_it_is_the_answer(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group may have made it visible, and still be waiting for the disk."""
    (guid,) = make_runs(repository, 1)
    synced: list[str] = []
    sync_folder = disk.sync_folder

    def note(folder: Path | str) -> None:
        synced.append(str(folder))
        sync_folder(folder)

    storing = storing_by(repository, Storing)
    (job,) = jobs_of(repository, [guid])
    assert storing.store_together([job]) != [None]
    monkeypatch.setattr(disk, "sync_folder", note)
    again = storing.store(job.drop, replace(job.request, id=new_guid()), job.watch)
    assert not again.committed.created
    root = repository.home.paths.model_repository
    needed = [str(each) for each in (root, root / guid, root / guid / "revisions")]
    assert synced[-3:] == needed
    synced.clear()
    repository.register(guid, "churn", artifact=".")
    assert synced[:3] == needed


def test_a_disk_that_fails_leaves_a_group_to_those_who_store_each_run_by_itself(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs(repository, 3)
    rename = files.rename_if_free

    def full_once(temp: str, path: str) -> bool:
        monkeypatch.setattr(files, "rename_if_free", rename)
        raise OSError(28, "No space left on device", temp, path)

    monkeypatch.setattr(files, "rename_if_free", full_once)
    assert {each.state for each in scan(repository).values()} == {"committed"}
    assert files.rename_if_free is rename
    check_stored_once(repository, runs)


def test_a_stop_commits_nothing_of_a_group(repository: Repository) -> None:
    runs = make_runs(repository, 3)

    def stop() -> None:
        raise Interrupted("stopped")

    jobs = [replace(each, watch=Watch(check=stop)) for each in jobs_of(repository, runs)]
    with pytest.raises(Interrupted):
        storing_by(repository, Storing).store_together(jobs)
    assert all(stored_revisions(repository, guid) == [] for guid in runs)
    assert repository.runs_at_backend.open_intents() == []


def test_the_receipt_and_the_memory_of_each_run_of_a_group_are_its_own(
    repository: Repository,
) -> None:
    runs = make_runs(repository, 5)
    scan(repository)
    for guid, content in runs.items():
        remembered = memory.recall(repository.home.paths, guid)
        assert remembered is not None
        assert {each.path for each in remembered.files} == set(content)
        text = (repository.home.staging / guid / RECEIPT).read_text()
        assert f'"run": "{guid}"' in text


# The lanes


def tracked(number: int) -> Tracked:
    return Tracked(f"run-{number}", f"run-{number}", Standing(History()))


def test_whatever_waits_when_a_thread_is_free_goes_as_one_group() -> None:
    groups: list[int] = []
    first, go = threading.Event(), threading.Event()

    def together(jobs: Sequence[Job]) -> list[object]:
        groups.append(len(jobs))
        first.set()
        assert go.wait(20)
        return ["stored"] * len(jobs)

    lanes = Lanes(4, 1, lambda: None, together)
    try:
        job = cast("Job", SimpleNamespace())
        for number in range(30):
            if number in {1, 2}:
                assert comes_true(lambda number=number: len(groups) == number)  # type: ignore[misc]
            flight = Flight("store", Observation(), probe=False)
            lanes.submit(tracked(number), flight, lambda: "alone", job)
        go.set()
        done: list[object] = []

        def harvest() -> bool:
            for _, flight in lanes.harvest():
                assert flight.task is not None
                done.append(flight.task.result())
            return len(done) == 30

        assert comes_true(harvest)
    finally:
        go.set()
        lanes.close()
    # Two were under way, each alone when it came; whoever was free first took the other 28.
    assert groups == [1, 1, 28]
    assert done == ["stored"] * 30


def test_whom_a_group_leaves_out_is_stored_alone_and_whom_a_stop_takes_back_is_not() -> None:
    go = threading.Event()

    def together(jobs: Sequence[Job]) -> list[object | None]:
        assert go.wait(20)
        return [None] * len(jobs)

    lanes = Lanes(4, 1, lambda: None, together)
    runs = [tracked(number) for number in range(6)]
    try:
        job = cast("Job", SimpleNamespace())
        for each in runs:
            lanes.submit(each, Flight("store", Observation(), probe=False), lambda: "alone", job)
        tasks = [each.flight.task for each in runs if each.flight is not None]
        assert comes_true(lambda: sum(each is not None and each.running() for each in tasks) >= 2)
        lanes.cancel()
        go.set()
        found: list[object] = []

        def harvest() -> bool:
            for _, flight in lanes.harvest():
                assert flight.task is not None
                try:
                    found.append(flight.task.result())
                except CancelledError:
                    found.append("taken back")
            return len(found) == 6

        assert comes_true(harvest)
    finally:
        go.set()
        lanes.close()
    assert set(found) == {"alone", "taken back"}


def test_larger_runs_have_their_turn_between_groups() -> None:
    """With so few threads that groups could have all of them."""
    turns: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def together(jobs: Sequence[Job]) -> list[object]:
        begun.set()
        assert go.wait(20)
        turns.append("group")
        return ["stored"] * len(jobs)

    lanes = Lanes(1, 1, lambda: None, together)
    try:
        job = cast("Job", SimpleNamespace())

        def put(number: int) -> None:
            flight = Flight("store", Observation(), probe=False)
            lanes.submit(tracked(number), flight, lambda: "alone", job)

        put(0)
        assert begun.wait(20)
        flight = Flight("store", Observation(), probe=False)
        lanes.submit(tracked(1), flight, lambda: turns.append("larger"))
        for number in range(2, 200):
            put(number)
        go.set()
        # 198 wait for four more groups of at most 64.
        assert comes_true(lambda: len(turns) == 6)
    finally:
        go.set()
        lanes.close()
    assert turns == ["group", "larger", *["group"] * 4]


def test_whoever_waits_when_the_threads_are_let_go_is_told() -> None:
    begun, go = threading.Event(), threading.Event()

    def together(jobs: Sequence[Job]) -> list[object | None]:
        begun.set()
        assert go.wait(20)
        return [None] * len(jobs)

    lanes = Lanes(2, 1, lambda: None, together)
    runs = [tracked(number) for number in range(20)]
    job = cast("Job", SimpleNamespace())
    for each in runs:
        lanes.submit(each, Flight("store", Observation(), probe=False), lambda: "alone", job)
    assert begun.wait(20)
    closing = threading.Thread(target=lanes.close)
    closing.start()
    assert comes_true(lambda: bool(lanes._small.pool._shutdown))
    go.set()
    closing.join(20)
    tasks = [each.flight.task for each in runs if each.flight is not None]
    assert all(each is not None and each.done() for each in tasks)
    assert len(list(lanes.harvest())) == 20
    assert lanes.flying == {}


def test_processes_find_no_run_stored_twice(repository: Repository) -> None:
    runs = make_runs(repository, 2)
    home = repository.home.paths.root
    assert sorted(run(store_together_in_child, home, list(runs))) == sorted(runs)
    assert run(store_together_in_child, home, list(runs)) == []
    check_stored_once(repository, runs)
