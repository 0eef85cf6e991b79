"""The engine stores everything that is complete, as it is in the end, and once."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.intake import Storing, drop, walk
from modeldrop.intake.drops import Job, Outcome
from support.intake import (
    Gate,
    is_in,
    make_home,
    make_run,
    meddle,
    opened_files,
    revisions,
    running,
    scan,
    stored_revisions,
    tracked,
    tracked_revision,
    turns,
    uploads,
)
from support.waiting import comes_true

# It is complete


def test_what_was_written_before_a_scan_is_stored_by_it(
    repository: Repository, staging: Path
) -> None:
    contents: dict[str, str | bytes] = {"model": "weights", "folder/a": "1", "folder/b/c": b""}
    run = make_run(staging, contents)
    found = scan(repository)
    assert (found[run].state, found[run].revision) == ("committed", 1)
    assert stored_revisions(repository, run) == [
        {"model": b"weights", "folder/a": b"1", "folder/b/c": b""}
    ]
    (entry,) = repository.log(f"run:{run}")
    assert entry.kind == "committed"


@pytest.mark.scenario(1)
def test_a_file_that_is_written_slowly_is_stored_once_and_whole(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"model": ""})
    data = random.Random(1).randbytes(600_000)

    def write() -> None:
        with (staging / run / "model").open("wb") as opened:
            for start in range(0, len(data), 20_000):
                opened.write(data[start : start + 20_000])
                opened.flush()
                time.sleep(0.03)  # what is tested: a writer that takes longer than any quiet time

    writer = threading.Thread(target=write)
    with running(repository) as engine:
        writer.start()
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        writer.join()
    assert stored_revisions(repository, run) == [{"model": data}]
    assert len(uploads(repository, run)) == 1


@pytest.mark.scenario(2)
def test_a_file_that_is_held_open_for_writing_is_not_stored(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"other": "x"})
    with (staging / run / "model").open("wb") as opened, running(repository) as engine:
        opened.write(b"first half")
        opened.flush()
        assert turns(
            engine,
            lambda: is_in(engine, run, "settling") and "writing" in tracked(engine, run).reason,
        )
        opened.write(b", second half")
        opened.close()
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert stored_revisions(repository, run) == [
        {"other": b"x", "model": b"first half, second half"}
    ]


def test_a_marker_needs_no_quiet(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", quiet_time=600, complete="marker") as repository:
        staging = repository.home.staging
        run = make_run(staging, {"model": "weights"})
        with running(repository) as engine:
            assert turns(engine, lambda: is_in(engine, run, "open"))
            assert "_SUCCESS" in tracked(engine, run).reason
            (staging / run / "_SUCCESS").touch()
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert stored_revisions(repository, run) == [{"model": b"weights"}]


@pytest.mark.scenario(7)
def test_a_marker_waits_for_what_it_lists(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", quiet_time=600) as repository:
        staging = repository.home.staging
        run = make_run(staging, {"_SUCCESS": "a\nb/c\n", "a": "1"})
        with running(repository) as engine:
            assert turns(engine, lambda: is_in(engine, run, "open"))
            assert "b/c" in tracked(engine, run).reason
            make_run(staging, {"b/c": "2"}, run)
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert stored_revisions(repository, run) == [{"a": b"1", "b/c": b"2"}]


def test_what_arrives_whole_doesnt_wait_if_a_hint_says_so(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", quiet_time=600) as repository:
        staging = repository.home.staging
        run = make_run(tmp_path / "aside", {"model": "weights"})
        with running(repository, watcher="events") as engine:
            engine.turn()
            (tmp_path / "aside" / run).rename(staging / run)
            engine.hint(run, whole=True)
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert stored_revisions(repository, run) == [{"model": b"weights"}]


@pytest.mark.scenario(9)
def test_a_drop_is_stored_without_waiting_and_without_any_hint(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", quiet_time=600) as repository:
        (tmp_path / "model").write_text("weights")
        run = drop(repository.home.staging, [tmp_path / "model"])
        assert scan(repository)[run].state == "committed"


def test_several_runs_are_stored_at_the_same_time(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", parallel=3) as repository:
        together = threading.Barrier(3, timeout=20)

        def meet(_key: str, data: bytes) -> bytes:
            together.wait()
            return data

        meddle(repository, meet)
        runs = [make_run(repository.home.staging, {"model": str(n)}) for n in range(3)]
        assert {each.state for each in scan(repository).values()} == {"committed"}
        assert [stored_revisions(repository, run)[0]["model"] for run in runs] == [b"0", b"1", b"2"]


def test_a_run_whose_files_are_many_and_nested_is_stored_whole(
    repository: Repository, staging: Path
) -> None:
    contents: dict[str, str | bytes] = {f"d{n % 7}/e{n % 3}/f{n}": f"{n}" for n in range(300)}
    run = make_run(staging, contents)
    assert scan(repository)[run].state == "committed"
    assert {
        path: data.decode() for path, data in stored_revisions(repository, run)[0].items()
    } == contents


# It changes


@pytest.mark.scenario(10)
def test_a_change_during_the_upload_leaves_the_final_bytes_alone(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"model": "first", "other": "other"})
    with running(repository, watcher="events") as engine:
        assert turns(engine, gate.reached.is_set)
        (staging / run / "model").write_text("final")
        engine.hint(run)
        gate.open()
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert stored_revisions(repository, run) == [{"model": b"final", "other": b"other"}]


@pytest.mark.scenario(11)
def test_five_edits_during_one_upload_are_one_more_upload(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    backend = meddle(repository, gate)
    run = make_run(staging, {"model": "first"})
    with running(repository, watcher="events") as engine:
        assert turns(engine, gate.reached.is_set)
        for number in range(5):
            (staging / run / "model").write_text(f"edit {number}")
            engine.hint(run)
            engine.turn()
        gate.open()
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert not turns(engine, lambda: tracked(engine, run).flight is not None, timeout=0.5)
    assert stored_revisions(repository, run) == [{"model": b"edit 4"}]
    assert len(backend.written) == 1


def test_a_file_that_didnt_change_is_not_sent_again_after_one_that_did(
    repository: Repository, staging: Path
) -> None:
    """An attempt that failed is gone on from: a large file isn't sent again for a small one."""
    run = make_run(staging, {"a-large": "weights", "b-log": "first"})
    changed = threading.Event()

    def on_write(key: str, data: bytes) -> bytes:
        if key.endswith("b-log") and not changed.is_set():
            assert comes_true(lambda: any(each.endswith("a-large") for each in backend.written))
            changed.set()
            (staging / run / "b-log").write_text("second")
        return data

    backend = meddle(repository, on_write)
    with running(repository) as engine, opened_files() as opened:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert sorted(opened) == ["a-large", "b-log", "b-log"]
    assert stored_revisions(repository, run) == [{"a-large": b"weights", "b-log": b"second"}]
    assert [key.rpartition("/")[2] for key in backend.written] == ["a-large", "b-log"]


@pytest.mark.scenario(16)
def test_a_file_renamed_before_the_commit_is_sent_once(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"a": "weights", "b": "other"})
    renamed = threading.Event()

    def on_write(key: str, data: bytes) -> bytes:
        if key.endswith("/b") and not renamed.is_set():
            assert comes_true(lambda: any(each.endswith("/a") for each in backend.written))
            renamed.set()
            (staging / run / "a").rename(staging / run / "c")
        return data

    backend = meddle(repository, on_write)
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert stored_revisions(repository, run) == [{"c": b"weights", "b": b"other"}]
    assert len(backend.written) == 2


@pytest.mark.scenario(13)
def test_a_change_after_the_commit_is_revision_2(repository: Repository, staging: Path) -> None:
    run = make_run(staging, {"model": "first", "same": "same"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        (staging / run / "model").write_text("second")
        with opened_files() as opened:
            assert turns(engine, lambda: tracked(engine, run).revision == 2)
    # What is unchanged isn't even read.
    assert opened == ["model"]
    assert stored_revisions(repository, run) == [
        {"model": b"first", "same": b"same"},
        {"model": b"second", "same": b"same"},
    ]
    first, second = revisions(repository, run)
    assert first.files()["same"].key == second.files()["same"].key


def test_what_is_removed_after_the_commit_stays_committed(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"model": "first", "other": "x"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        (staging / run / "other").unlink()
        assert turns(engine, lambda: not is_in(engine, run, "committed"))
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert len(revisions(repository, run)) == 1


@pytest.mark.scenario(12)
def test_a_run_that_vanishes_during_its_upload_is_forgotten_and_others_go_on(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"model": "first"})
    with running(repository) as engine:
        assert turns(engine, gate.reached.is_set)
        shutil.rmtree(staging / run)
        other = make_run(staging, {"model": "other"})
        assert turns(engine, lambda: other in engine._roster.runs)
        # Its transfer goes on, and nothing else may begin for it.
        assert run in engine._roster.runs
        gate.open()
        assert turns(engine, lambda: is_in(engine, other, "committed"))
        assert turns(engine, lambda: run not in engine._roster.runs)
    assert revisions(repository, run) == []


def test_a_folder_that_is_replaced_during_its_upload_is_stored_as_the_new_one(
    repository: Repository, staging: Path, tmp_path: Path
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"model": "first"})
    make_run(tmp_path / "aside", {"model": "other", "more": "more"}, run)
    with running(repository, watcher="events") as engine:
        assert turns(engine, gate.reached.is_set)
        (staging / run).rename(tmp_path / "old")
        (tmp_path / "aside" / run).rename(staging / run)
        engine.hint(run, whole=True)
        engine.turn()
        gate.open()
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert stored_revisions(repository, run) == [{"model": b"other", "more": b"more"}]


def test_another_spelling_of_a_run_in_flight_takes_its_place_afterwards(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"model": "first"})
    with running(repository, watcher="events") as engine:
        assert turns(engine, gate.reached.is_set)
        (staging / run).rename(staging / run.upper())
        engine.hint(run.upper(), whole=True)
        engine.turn()
        engine.hint()
        engine.turn()
        # One transfer of a run at a time.
        assert tracked(engine, run).folder == run
        gate.open()
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert tracked(engine, run).folder == run.upper()
    assert stored_revisions(repository, run) == [{"model": b"first"}]


@pytest.mark.parametrize("way", ["commit", "commit_firsts"])
def test_a_hint_that_comes_during_the_upload_is_not_lost(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """After the last look at the run, before it is committed: the change is the next revision."""
    run = make_run(staging, {"model": "first"})
    monkeypatch.setattr(Storing, "shares_waits", way == "commit_firsts")
    with running(repository, watcher="events") as engine:
        runs = engine._dispatch._runs
        commit = getattr(runs, way)

        def change_then_commit(*arguments: object) -> object:
            if len(revisions(repository, run)) == 0:
                (staging / run / "model").write_text("second")
                engine.hint(run)
            return commit(*arguments)

        monkeypatch.setattr(runs, way, change_then_commit)
        assert turns(engine, lambda: tracked_revision(engine, run) == 2)
    assert stored_revisions(repository, run) == [{"model": b"first"}, {"model": b"second"}]


def test_news_that_the_last_look_has_seen_bring_no_other_look(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of one arrival in several events, and the run is looked at once for all."""
    looks: list[str] = []
    observe = walk.observe

    def counted(staging: Path, name: str, most: int | None = None) -> walk.Observation:
        looks.append(name)
        return observe(staging, name, most)

    run = make_run(staging, {"model": "weights", "_SUCCESS": ""})
    with running(repository, watcher="events") as engine:
        store = engine._dispatch._store_together

        def hint_then_store(jobs: Sequence[Job]) -> list[Outcome | None]:
            engine.hint(run)
            assert comes_true(lambda: tracked(engine, run).is_stale)
            return store(jobs)

        monkeypatch.setattr(engine._dispatch.lanes._groups, "_together", hint_then_store)
        monkeypatch.setattr(walk, "observe", counted)
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        # The look that found it complete, and the one before it was committed.
        assert looks == [run, run]
        assert not tracked(engine, run).is_stale
