"""The engine: everything that is complete gets stored, once, and nothing is forgotten."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import BackendError, BackendUnreachable, JournalDamaged
from modeldrop.intake import Engine, Storing, drop, memory, new_run, read_status, receipts, walk
from modeldrop.intake.agenda import Agenda, Tracked
from modeldrop.intake.engine import Engine as RealEngine
from modeldrop.intake.settling import History
from modeldrop.names import new_guid
from modeldrop.runs import Runs
from support.intake import (
    content,
    is_in,
    make_home,
    meddle,
    revisions,
    running,
    scan,
    tracked,
    turns,
    uploads,
)
from support.waiting import comes_true

MIB = 1 << 20


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / ".mlops") as opened:
        yield opened


@pytest.fixture
def staging(repository: Repository) -> Path:
    return repository.home.staging


def make_run(staging: Path, contents: dict[str, str | bytes], run: str | None = None) -> str:
    run = run or new_guid()
    for path, data in contents.items():
        place = staging / run / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data if isinstance(data, bytes) else data.encode())
    return run


def receipt(staging: Path, run: str) -> dict[str, object]:
    path = staging / run / ".modeldrop-receipt.json"
    found = json.loads(path.read_bytes()) if path.exists() else {}
    assert isinstance(found, dict)
    return found


def stored(repository: Repository, run: str) -> list[dict[str, bytes]]:
    return [content(repository, each) for each in revisions(repository, run)]


class Gate:
    """Holds every write to a backend up until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, _key: str, data: bytes) -> bytes:
        self.reached.set()
        assert self._open.wait(20)
        return data

    def open(self) -> None:
        self._open.set()


# It is complete


def test_what_was_written_before_a_scan_is_stored_by_it(
    repository: Repository, staging: Path
) -> None:
    contents: dict[str, str | bytes] = {"model": "weights", "folder/a": "1", "folder/b/c": b""}
    run = make_run(staging, contents)
    found = scan(repository)
    assert (found[run].state, found[run].revision) == ("committed", 1)
    assert stored(repository, run) == [{"model": b"weights", "folder/a": b"1", "folder/b/c": b""}]
    (entry,) = repository.log(f"run:{run}")
    assert entry.kind == "committed"


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
    assert stored(repository, run) == [{"model": data}]
    assert len(uploads(repository, run)) == 1


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
    assert stored(repository, run) == [{"other": b"x", "model": b"first half, second half"}]


def test_a_marker_needs_no_quiet(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", quiet_time=600, complete="marker") as repository:
        staging = repository.home.staging
        run = make_run(staging, {"model": "weights"})
        with running(repository) as engine:
            assert turns(engine, lambda: is_in(engine, run, "open"))
            assert "_SUCCESS" in tracked(engine, run).reason
            (staging / run / "_SUCCESS").touch()
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert stored(repository, run) == [{"model": b"weights"}]


def test_a_marker_waits_for_what_it_lists(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", quiet_time=600) as repository:
        staging = repository.home.staging
        run = make_run(staging, {"_SUCCESS": "a\nb/c\n", "a": "1"})
        with running(repository) as engine:
            assert turns(engine, lambda: is_in(engine, run, "open"))
            assert "b/c" in tracked(engine, run).reason
            make_run(staging, {"b/c": "2"}, run)
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert stored(repository, run) == [{"a": b"1", "b/c": b"2"}]


def test_what_arrives_whole_doesnt_wait_if_a_hint_says_so(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", quiet_time=600) as repository:
        staging = repository.home.staging
        run = make_run(tmp_path / "aside", {"model": "weights"})
        with running(repository, watcher="events") as engine:
            engine.turn()
            (tmp_path / "aside" / run).rename(staging / run)
            engine.hint(run, whole=True)
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert stored(repository, run) == [{"model": b"weights"}]


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
        assert [stored(repository, run)[0]["model"] for run in runs] == [b"0", b"1", b"2"]


def test_a_run_whose_files_are_many_and_nested_is_stored_whole(
    repository: Repository, staging: Path
) -> None:
    contents: dict[str, str | bytes] = {f"d{n % 7}/e{n % 3}/f{n}": f"{n}" for n in range(300)}
    run = make_run(staging, contents)
    assert scan(repository)[run].state == "committed"
    assert {path: data.decode() for path, data in stored(repository, run)[0].items()} == contents


# It changes


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
    assert stored(repository, run) == [{"model": b"final", "other": b"other"}]


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
        assert not turns(engine, lambda: tracked(engine, run).task is not None, timeout=0.5)
    assert stored(repository, run) == [{"model": b"edit 4"}]
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
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert stored(repository, run) == [{"a-large": b"weights", "b-log": b"second"}]
    assert [key.rpartition("/")[2] for key in backend.written] == ["a-large", "b-log"]


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
    assert stored(repository, run) == [{"c": b"weights", "b": b"other"}]
    assert len(backend.written) == 2


def test_a_change_after_the_commit_is_revision_2(repository: Repository, staging: Path) -> None:
    run = make_run(staging, {"model": "first", "same": "same"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        (staging / run / "model").write_text("second")
        assert turns(engine, lambda: tracked(engine, run).revision == 2)
    assert stored(repository, run) == [
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
        gate.open()
        assert turns(engine, lambda: is_in(engine, other, "committed"))
        assert turns(engine, lambda: run not in engine._tracked)
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
    assert stored(repository, run) == [{"model": b"other", "more": b"more"}]


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
        assert list(engine._flying) == [run]
        gate.open()
        assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert tracked(engine, run).folder == run.upper()
    assert stored(repository, run) == [{"model": b"first"}]


def test_a_hint_that_comes_during_the_upload_is_not_lost(
    repository: Repository, staging: Path
) -> None:
    """After the last look at the run, before it is committed: the change is the next revision."""
    run = make_run(staging, {"model": "first"})
    with running(repository, watcher="events") as engine:
        runs = engine._runs
        commit = runs.commit

        def change_then_commit(*arguments: object) -> object:
            if len(revisions(repository, run)) == 0:
                (staging / run / "model").write_text("second")
                engine.hint(run)
            return commit(*arguments)  # type: ignore[arg-type] # passed on as it came

        runs.commit = change_then_commit  # type: ignore[assignment,method-assign] # the right moment
        assert turns(engine, lambda: tracked_revision(engine, run) == 2)
    assert stored(repository, run) == [{"model": b"first"}, {"model": b"second"}]


def tracked_revision(engine: Engine, run: str) -> int | None:
    return tracked(engine, run).revision if run in engine._tracked else None


# It can't be stored


def test_a_refused_entry_parks_its_artifact_and_the_rest_is_stored(
    repository: Repository, staging: Path, tmp_path: Path
) -> None:
    run = make_run(staging, {"model": "weights", "bad/file": "x"})
    (staging / run / "bad" / "link").symlink_to(tmp_path)
    os.mkfifo(staging / run / "pipe")
    found = scan(repository)[run]
    assert found.state == "committed"
    assert found.needs_attention
    assert {each.path for each in found.refused} == {"bad/link", "pipe"}
    assert stored(repository, run) == [{"model": b"weights"}]
    assert {each["path"] for each in receipt(staging, run)["refused"]} == {  # type: ignore[attr-defined]
        "bad/link",
        "pipe",
    }
    # It is still said after a restart that reads nothing.
    assert {each.path for each in scan(repository)[run].refused} == {"bad/link", "pipe"}


def test_a_run_of_nothing_but_refused_entries_is_parked_until_it_changes(
    repository: Repository, staging: Path, tmp_path: Path
) -> None:
    run = make_run(staging, {})
    (staging / run).mkdir()
    (staging / run / "model").symlink_to(tmp_path)
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "parked"))
        assert receipt(staging, run)["state"] == "parked"
        (staging / run / "model").unlink()
        (staging / run / "model").write_text("weights")
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert receipt(staging, run)["state"] == "committed"
    assert stored(repository, run) == [{"model": b"weights"}]


def test_a_wrong_digest_in_the_marker_parks_the_run_until_it_is_right(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"model": "weights"})
    wrong = hashlib.sha256(b"other").hexdigest()
    (staging / run / "_SUCCESS").write_text(f"{wrong}  model\n")
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "parked"))
        assert "another digest than the file: model" in tracked(engine, run).reason
        assert revisions(repository, run) == []
        right = hashlib.sha256(b"weights").hexdigest()
        (staging / run / "_SUCCESS").write_text(f"{right}  model\n")
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert len(uploads(repository, run)) == 1


def test_what_is_parked_after_a_failure_of_the_backend_comes_back_when_it_changes(
    repository: Repository, staging: Path
) -> None:
    """A failure before must not make scans and hints pass it over."""
    run = make_run(staging, {"model": "weights"})
    (staging / run / "_SUCCESS").write_text(f"{hashlib.sha256(b'other').hexdigest()}  model\n")
    failures = iter([BackendUnreachable("away"), BackendUnreachable("away")])

    def on_write(_key: str, data: bytes) -> bytes:
        for failure in failures:
            raise failure
        return data

    meddle(repository, on_write)
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "parked"))
        (staging / run / "_SUCCESS").write_text("model\n")
        assert turns(engine, lambda: is_in(engine, run, "committed"))


@pytest.mark.parametrize("watcher", ["none", "events"])
def test_a_run_that_failed_and_then_was_held_open_is_not_forgotten(
    repository: Repository, staging: Path, watcher: str
) -> None:
    run = make_run(staging, {"model": "weights"})
    away = threading.Event()
    away.set()

    def on_write(_key: str, data: bytes) -> bytes:
        if away.is_set():
            raise BackendUnreachable("away")
        return data

    meddle(repository, on_write)
    with running(repository, watcher=watcher) as engine:
        assert turns(engine, lambda: is_in(engine, run, "blocked"))
        (staging / run / "more.part").write_text("half")
        assert turns(engine, lambda: is_in(engine, run, "open"))
        assert tracked(engine, run).due is None
        away.clear()
        (staging / run / "more.part").rename(staging / run / "more")
        if watcher == "events":
            engine.hint(run)
        assert turns(engine, lambda: is_in(engine, run, "committed"))


def test_an_unreadable_file_blocks_its_run_until_it_can_be_read() -> None:
    """As a user whom permissions bind; pytest's own folders are for root alone."""
    root = Path(tempfile.mkdtemp())
    user = os.geteuid()
    try:
        if user == 0:
            os.chown(root, 65534, 65534)
            os.seteuid(65534)
        with make_home(root / "home") as repository:
            staging = repository.home.staging
            run = make_run(staging, {"model": "weights"})
            other = make_run(staging, {"model": "other"})
            (staging / run / "model").chmod(0)
            with running(repository) as engine:
                assert turns(engine, lambda: is_in(engine, run, "blocked"))
                assert tracked(engine, run).reason == "model can't be read: Permission denied"
                assert turns(engine, lambda: is_in(engine, other, "committed"))
                assert receipt(staging, run)["state"] == "blocked"
                (staging / run / "model").chmod(0o600)
                assert turns(engine, lambda: is_in(engine, run, "committed"))
            assert stored(repository, run) == [{"model": b"weights"}]
    finally:
        os.seteuid(user)
        shutil.rmtree(root)


def test_a_folder_of_the_backend_that_is_away_blocks_until_it_is_back(
    tmp_path: Path,
) -> None:
    with make_home(tmp_path / "home", str(tmp_path / "store")) as repository:
        staging = repository.home.staging
        run = make_run(staging, {"model": "weights"})
        with running(repository) as engine:
            (tmp_path / "store").rename(tmp_path / "unmounted")
            assert turns(engine, lambda: is_in(engine, run, "blocked"))
            assert turns(engine, lambda: tracked(engine, run).failures >= 3)
            assert receipt(staging, run)["state"] == "blocked"
            assert "mount it" in str(receipt(staging, run)["next"])
            (tmp_path / "unmounted").rename(tmp_path / "store")
            assert turns(engine, lambda: is_in(engine, run, "committed"))
            assert tracked(engine, run).failures == 0
        assert len(revisions(repository, run)) == 1


def test_a_server_that_cant_be_reached_blocks_and_a_single_scan_says_so(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_home(tmp_path / "home", s3_url) as repository:
        run = make_run(repository.home.staging, {"model": "weights"})
        engine = repository.engine()
        with socket.socket() as nobody:
            # Bound and not listening: nobody else gets the port, and every connection is refused.
            nobody.bind(("127.0.0.1", 0))
            real = os.environ["AWS_ENDPOINT_URL"]
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
            repository.backend.close()
            (found,) = engine.scan_once()
            assert found.state == "blocked"
            monkeypatch.setenv("AWS_ENDPOINT_URL", real)
            repository.backend.close()
            engine.watcher = "none"
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        engine.close()
        assert stored(repository, run) == [{"model": b"weights"}]


def test_the_pauses_between_tries_double_and_are_capped(
    repository: Repository, staging: Path
) -> None:
    pauses = []

    class Failing(Storing):
        def store(self, *_: object) -> None:  # type: ignore[override] # it never returns
            pauses.append(time.monotonic())
            raise BackendUnreachable("away")

    run = make_run(staging, {"model": "weights", "_SUCCESS": ""})
    engine = RealEngine(repository.home, repository.runs_at_backend, _storing(repository, Failing))
    try:
        assert turns(engine, lambda: len(pauses) >= 6)
        assert tracked(engine, run).failures >= 5
    finally:
        engine.close()
    gaps = [after - before for before, after in zip(pauses, pauses[1:], strict=False)]
    # 0.05 doubled to 0.2, each from its half on; hints and scans every 0.05 s made none shorter.
    assert all(gap >= least for gap, least in zip(gaps, (0.025, 0.05, 0.1, 0.1), strict=False))


def _storing(repository: Repository, cls: type[Storing]) -> Storing:
    connections = repository.backend.capabilities.connections
    return cls(repository.runs_at_backend, repository.transfer, connections)


def test_one_poisoned_run_among_many_is_parked_and_the_others_are_stored(
    repository: Repository, staging: Path
) -> None:
    runs = [make_run(staging, {"model": f"{n}", "_SUCCESS": ""}) for n in range(60)]
    poisoned = runs[30]
    (staging / poisoned / "_SUCCESS").write_text(f"{'0' * 64}  model\n")
    found = scan(repository)
    assert {run: found[run].state for run in runs} == {
        run: "parked" if run == poisoned else "committed" for run in runs
    }


@pytest.mark.parametrize("where", ["the look", "the transfer"])
def test_a_bug_that_one_run_meets_holds_up_no_other(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    cursed = make_run(staging, {"model": "cursed"})
    others = [make_run(staging, {"model": f"{n}"}) for n in range(3)]
    observe, declared = walk.observe, Storing.store

    def fail_to_observe(staging: Path, name: str) -> walk.Observation:
        if name == cursed:
            raise ValueError("never thought of that")
        return observe(staging, name)

    def fail_to_store(self: Storing, drop: object, *rest: object) -> object:
        if getattr(drop, "run", "") == cursed:
            raise ValueError("never thought of that")
        return declared(self, drop, *rest)  # type: ignore[arg-type] # passed on as it came

    with monkeypatch.context() as patched:
        if where == "the look":
            patched.setattr(walk, "observe", fail_to_observe)
        else:
            patched.setattr(Storing, "store", fail_to_store)
        found = scan(repository)
        assert found[cursed].state == "blocked"
        assert "never thought of that" in found[cursed].reason
        assert {found[run].state for run in others} == {"committed"}
    assert scan(repository)[cursed].state == "committed"


def test_damage_at_home_blocks_and_is_overcome_once_it_is_mended(
    repository: Repository, staging: Path
) -> None:
    """Not parked: nothing in the run has to change for it to be stored later."""
    first = make_run(staging, {"model": "1"})
    assert scan(repository)[first].state == "committed"
    journal = repository.home.paths.journal
    whole = journal.read_bytes()
    run = make_run(staging, {"model": "2"})
    with running(repository) as engine:
        journal.write_bytes(whole[:-40] + b"x" * 40)
        assert turns(engine, lambda: is_in(engine, run, "blocked"))
        journal.write_bytes(whole)
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    # The bytes were there already at each further try.
    assert len(uploads(repository, run)) == 1
    assert repository.verify(deep=True).ok


def test_a_remembered_revision_that_is_gone_is_no_endless_error(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"model": "1"})
    scan(repository)
    repository.backend.delete(f"{run}/revisions/00000001.json")
    (staging / run / "model").write_text("2")
    time.sleep(0.15)  # the settings' revision_interval
    assert scan(repository)[run].state == "committed"
    assert stored(repository, run) == [{"model": b"2"}]


def test_what_cant_be_settled_at_the_start_holds_up_no_other(
    repository: Repository, staging: Path
) -> None:
    cursed, good = make_run(staging, {"model": "1"}), make_run(staging, {"model": "2"})
    scan(repository)
    runs: Runs = repository.runs_at_backend
    settle = runs.settle

    def fail(run: str) -> None:
        if run == cursed:
            raise JournalDamaged("damaged")
        settle(run)

    intents = [_intent(repository, run) for run in (cursed, good)]
    runs.settle = fail  # type: ignore[method-assign] # damage of just one run
    with running(repository) as engine:
        assert [each.sequence for each in engine._runs.open_intents()] == [intents[0]]


def _intent(repository: Repository, run: str) -> str:
    from modeldrop.intents import Intents  # noqa: PLC0415 - used here alone
    from modeldrop.records import Intent, now  # noqa: PLC0415

    sequence = f"{run}/revisions"
    intent = Intent(new_guid(), sequence, new_guid(), 2, 0, 0, "ann", now())
    Intents(repository.home.paths.intents).begin(intent)
    return sequence


def test_junk_is_reported_and_left_where_it_is(repository: Repository, staging: Path) -> None:
    (staging / "wandb-run").mkdir()
    (staging / "loose.bin").write_text("x")
    (staging / "evil\x1b[2J").mkdir()
    upper = new_guid()
    make_run(staging, {"model": "1"}, upper)
    make_run(staging, {"model": "2"}, upper.upper())
    found = scan(repository)
    assert {each.state for each in found.values()} == {"junk"}
    assert set(found) == {"wandb-run", "loose.bin", "evil\\x1b[2J", upper, upper.upper()}
    assert len(list(staging.iterdir())) == 5
    assert {each.path for each in read_status(repository.home).junk} == set(found)


# Restart, memory, staging


class _Untouchable(Storing):
    def store(self, *_: object) -> None:  # type: ignore[override] # it never returns
        raise AssertionError("stored again")


@pytest.mark.parametrize("touched", ["nothing", "the receipt is removed"])
def test_a_restart_with_nothing_changed_reads_and_sends_nothing(
    repository: Repository, staging: Path, touched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(staging, {"model": f"{n}", "_SUCCESS": "model\n"}) for n in range(5)]
    scan(repository)
    before = {run: uploads(repository, run) for run in runs}
    if touched != "nothing":
        (staging / runs[0] / ".modeldrop-receipt.json").unlink()
    opened: list[str] = []
    monkeypatch.setattr(walk, "open_file", lambda *arguments: opened.append(str(arguments)))
    storing = _storing(repository, _Untouchable)
    engine = RealEngine(repository.home, repository.runs_at_backend, storing)
    found = {each.run: each for each in engine.scan_once()}
    engine.close()
    assert {found[run].state for run in runs} == {"committed"}
    assert {found[run].revision for run in runs} == {1}
    assert {run: uploads(repository, run) for run in runs} == before
    assert opened == []


@pytest.mark.parametrize("how", ["lost", "damaged", "empty", "another run's"])
def test_without_its_memory_a_run_is_read_again_and_found_to_be_stored(
    repository: Repository, staging: Path, how: str
) -> None:
    run = make_run(staging, {"model": "weights", "folder/a": "1"})
    other = make_run(staging, {"model": "other"})
    scan(repository)
    state = repository.home.paths.run_state(run)
    if how == "lost":
        state.unlink()
    elif how == "another run's":
        state.write_bytes(repository.home.paths.run_state(other).read_bytes())
    else:
        state.write_bytes(b"" if how == "empty" else state.read_bytes().replace(b"1", b"2"))
    before = uploads(repository, run)
    assert scan(repository)[run].state == "committed"
    assert len(revisions(repository, run)) == 1
    assert uploads(repository, run) == before
    assert memory.recall(repository.home.paths, run) is not None


def test_a_memory_that_cant_be_written_fails_nothing(repository: Repository, staging: Path) -> None:
    run = make_run(staging, {"model": "weights"})
    place = repository.home.paths.run_state(run).parent
    place.write_text("in the way of a folder")
    found = scan(repository)[run]
    assert (found.state, found.revision) == ("committed", 1)
    place.unlink()
    assert scan(repository)[run].state == "committed"
    assert len(revisions(repository, run)) == 1


def test_staging_that_is_away_is_said_and_nothing_is_forgotten(
    repository: Repository, staging: Path, tmp_path: Path
) -> None:
    committed = make_run(staging, {"model": "1"})
    parked = make_run(staging, {"model": "2", "_SUCCESS": f"{'0' * 64}  model\n"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, committed, "committed"))
        assert turns(engine, lambda: is_in(engine, parked, "parked"))
        staging.rename(tmp_path / "unmounted")
        assert turns(engine, lambda: bool(engine._junk))
        engine._write_status(force=True)
        (junk,) = read_status(repository.home).junk
        assert "isn't there" in junk.reason
        assert set(engine._tracked) == {committed, parked}
        assert len(revisions(repository, committed)) == 1
        (tmp_path / "unmounted").rename(staging)
        (staging / committed / "model").write_text("changed")
        assert turns(engine, lambda: tracked_revision(engine, committed) == 2)
        assert is_in(engine, parked, "parked")
        assert not engine._junk


def test_a_run_that_is_blocked_while_staging_vanishes_goes_on_when_both_are_back(
    tmp_path: Path,
) -> None:
    with make_home(tmp_path / "home", str(tmp_path / "store")) as repository:
        staging = repository.home.staging
        run = make_run(staging, {"model": "1"})
        with running(repository) as engine:
            (tmp_path / "store").rename(tmp_path / "unmounted")
            assert turns(engine, lambda: is_in(engine, run, "blocked"))
            staging.rename(tmp_path / "staging")
            assert turns(engine, lambda: tracked(engine, run).due is None)
            (tmp_path / "unmounted").rename(tmp_path / "store")
            (tmp_path / "staging").rename(staging)
            assert turns(engine, lambda: is_in(engine, run, "committed"))


def test_a_single_scan_of_staging_that_isnt_there_says_so(
    repository: Repository, staging: Path
) -> None:
    staging.rmdir()
    (found,) = scan(repository).values()
    assert (found.state, "isn't there" in found.reason) == ("junk", True)


# Receipts and status


def test_the_receipt_says_what_was_stored(repository: Repository, staging: Path) -> None:
    run = make_run(staging, {"model": "weights"})
    scan(repository)
    found = receipt(staging, run)
    assert (found["state"], found["run"], found["revision"]) == ("committed", run, 1)
    assert found["artifacts"] == [
        {
            "artifact": "model",
            "type": "file",
            "sha256": hashlib.sha256(b"weights").hexdigest(),
            "size": 7,
        }
    ]
    assert found["backend"] == repository.backend.url


@pytest.mark.parametrize("how", ["a folder of its name", "the run's folder is read-only"])
def test_a_receipt_that_cant_be_written_fails_nothing(
    repository: Repository, staging: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(staging, {"model": "weights", "_SUCCESS": ""})
    if how == "a folder of its name":
        (staging / run / ".modeldrop-receipt.json").mkdir()
    else:

        def refuse(*_: object) -> None:
            # Root, as which these tests may run, is refused nothing.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(receipts, "write_between", refuse)
    assert scan(repository)[run].state == "committed"
    assert scan(repository)[run].state == "committed"
    assert len(revisions(repository, run)) == 1
    assert not [path for path in staging.iterdir() if path.name.startswith(".")]


def test_a_receipt_goes_through_no_link(
    repository: Repository, staging: Path, tmp_path: Path
) -> None:
    run = make_run(staging, {"model": "weights", "_SUCCESS": ""})
    target = tmp_path / "target"
    target.write_text("mine")
    (staging / run / ".modeldrop-receipt.json").symlink_to(target)
    assert scan(repository)[run].state == "committed"
    assert target.read_text() == "mine"
    assert receipt(staging, run)["state"] == "committed"


def test_the_status_file_says_where_every_run_stands(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", complete="marker") as repository:
        staging = repository.home.staging
        committed = make_run(staging, {"model": "1", "_SUCCESS": ""})
        waits = make_run(staging, {"model": "22"})
        parked = make_run(staging, {"model": "333", "_SUCCESS": f"{'0' * 64}  model\n"})
        found = scan(repository)
        assert {run: found[run].state for run in (committed, waits, parked)} == {
            committed: "committed",
            waits: "open",
            parked: "parked",
        }
        said = read_status(repository.home)
        assert (said.pid, said.committed) == (None, 1)
        assert {each.run: each.state for each in said.runs} == {waits: "open", parked: "parked"}
        by_run = {each.run: each for each in said.runs}
        assert by_run[parked].reason == found[parked].reason
        assert (by_run[parked].sent, by_run[parked].size) == (3, 3)
        assert "_SUCCESS" in by_run[waits].reason


def test_the_status_without_a_service_doesnt_say_that_bytes_move(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"model": "1"})
    engine = repository.engine()
    assert turns(engine, gate.reached.is_set)
    engine._write_status(force=True)
    (found,) = read_status(repository.home).runs
    assert (found.run, found.state) == (run, "open")
    assert found.reason == "no service is running to store it"
    gate.open()
    engine.close()


def test_the_status_is_of_the_folder_where_no_status_was_written(
    repository: Repository, staging: Path
) -> None:
    committed = make_run(staging, {"model": "1"})
    scan(repository)
    repository.home.paths.status().unlink()
    fresh = new_run(staging)
    said = read_status(repository.home)
    assert said.committed == 1
    assert [(each.run, each.state) for each in said.runs] == [(fresh, "open")]
    (staging / committed / "model").write_text("changed")
    assert read_status(repository.home).committed == 0


# A single scan ends


def test_a_single_scan_ends_though_runs_keep_changing_and_coming(tmp_path: Path) -> None:
    # Long enough for a writer that a busy machine holds up.
    with make_home(tmp_path / "home", quiet_time=1) as repository:
        _disturbed(repository)


def _disturbed(repository: Repository) -> None:
    staging = repository.home.staging
    restless = [make_run(staging, {"log": "x"}) for _ in range(3)]
    settled = make_run(staging, {"model": "1"})
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.02):
            for run in restless:
                with (staging / run / "log").open("a") as opened:
                    opened.write("more\n")
            make_run(staging, {"model": "new"})

    disturber = threading.Thread(target=disturb)
    disturber.start()
    try:
        began = time.monotonic()
        found = scan(repository)
        assert time.monotonic() - began < 20
    finally:
        stop.set()
        disturber.join()
    assert found[settled].state == "committed"
    assert {found[run].state for run in restless} == {"settling"}


def test_a_single_scan_ends_though_marked_runs_change_during_each_upload(
    repository: Repository, staging: Path
) -> None:
    runs = [make_run(staging, {"log": f"{n}", "_SUCCESS": ""}) for n in range(3)]

    def disturb(key: str, data: bytes) -> bytes:
        with (staging / key.split("/")[0] / "log").open("a") as opened:
            opened.write("more\n")
        return data

    meddle(repository, disturb)
    began = time.monotonic()
    found = scan(repository)
    assert time.monotonic() - began < 10
    assert {found[run].state for run in runs} == {"settling"}


def test_a_single_scan_doesnt_wait_for_the_revision_interval(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", revision_interval=600) as repository:
        run = make_run(repository.home.staging, {"model": "1"})
        scan(repository)
        (repository.home.staging / run / "model").write_text("2")
        began = time.monotonic()
        found = scan(repository)[run]
        assert time.monotonic() - began < 10
        assert (found.state, found.revision) == ("settling", 1)
        assert "the next revision is due in" in found.reason


def test_a_single_scan_waits_as_long_as_it_takes_where_writers_cant_be_seen(
    repository: Repository, staging: Path
) -> None:
    """An empty file has the longer quiet time, though nobody writes to it."""
    run = make_run(staging, {"model": "1", "empty": ""})
    assert scan(repository)[run].state == "committed"


# Stopping


def test_draining_finishes_what_is_in_flight_and_begins_nothing(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", parallel=1) as repository:
        gate = Gate()
        meddle(repository, gate)
        staging = repository.home.staging
        runs = [make_run(staging, {"model": f"{n}", "_SUCCESS": ""}) for n in range(3)]
        with running(repository) as engine:
            assert turns(engine, gate.reached.is_set)
            assert len(engine._flying) == 3
            assert not engine.drain(0.05)
            gate.open()
            assert engine.drain(20)
            states = sorted(tracked(engine, run).state.value for run in runs)
            assert states == ["committed", "open", "open"]
        assert sum(len(revisions(repository, run)) for run in runs) == 1
        assert {each.state for each in scan(repository).values()} == {"committed"}


def test_interrupted_means_gone_at_once_and_stored_after_the_next_start(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"model": random.Random(1).randbytes(3 * MIB)})
    engine = repository.engine()
    assert turns(engine, gate.reached.is_set)
    engine.interrupt()
    gate.open()
    engine.close()
    assert revisions(repository, run) == []
    assert uploads(repository, run) == set()
    assert scan(repository)[run].state == "committed"


def test_what_was_committed_while_it_closed_is_remembered(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"model": "1"})
    engine = repository.engine()
    assert turns(engine, lambda: run in engine._flying)
    assert comes_true(lambda: bool(engine._done))
    engine.close()
    assert memory.recall(repository.home.paths, run) is not None
    assert receipt(staging, run)["state"] == "committed"


# The agenda


def test_the_agenda_gives_each_run_at_its_last_set_time_and_once() -> None:
    agenda = Agenda()
    a, b, c = (Tracked(name, name, History()) for name in "abc")
    for when in (5.0, 1.0, 3.0, 3.0):
        agenda.put(a, when)
    agenda.put(b, 2.0)
    agenda.put(c, 0.5)
    agenda.put(c, None)
    assert list(agenda.take(1.9)) == []
    assert list(agenda.take(3.0)) == [b, a]
    assert (a.due, agenda.next()) == (None, None)
    agenda.put(a, 4.0)
    assert list(agenda.take(10.0)) == [a]


def test_the_agenda_doesnt_grow_with_how_often_it_is_set() -> None:
    agenda = Agenda()
    runs = [Tracked(str(n), str(n), History()) for n in range(10)]
    for when in range(1000):
        for each in runs:
            agenda.put(each, float(1000 + when))
    assert len(agenda._heap) < 500
    assert agenda.next() == 1999.0
    assert len(list(agenda.take(2000.0))) == 10


def test_an_idle_turn_costs_nothing_however_many_runs_are_committed(
    repository: Repository, staging: Path
) -> None:
    """By what it calls, not by time: no run is looked at, none is gone through."""
    for number in range(50):
        make_run(staging, {"model": f"{number}", "_SUCCESS": ""})
    with running(repository, watcher="events") as engine:
        assert turns(
            engine,
            lambda: sum(each.state.value == "committed" for each in engine._tracked.values()) == 50,
        )
        engine._write_status(force=True)

        engine._tracked = _Unseen(engine._tracked)
        for _ in range(20):
            assert engine.turn() > 1
        engine._tracked = dict.copy(engine._tracked)


class _Unseen(dict[str, Tracked]):
    """Runs of which one can be looked up, and that can't be gone through."""

    def values(self) -> _Unseen:  # type: ignore[override] # nobody may use what it returns
        return self

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("gone through all runs")


def test_a_burst_of_hints_is_not_a_burst_of_walks(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(staging, {"model": "1"})
    looks: list[float] = []
    observe = walk.observe

    def counted(staging: Path, name: str) -> walk.Observation:
        looks.append(time.monotonic())
        return observe(staging, name)

    monkeypatch.setattr(walk, "observe", counted)
    with running(repository, watcher="events") as engine:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            engine.hint(run)
            engine.turn()
    assert 1 < len(looks) <= 8


def test_settings_that_are_read_again_hold_from_then_on(
    tmp_path: Path,
) -> None:
    with make_home(tmp_path / "home", quiet_time=600) as repository:
        run = make_run(repository.home.staging, {"model": "1"})
        with running(repository, watcher="events") as engine:
            assert turns(engine, lambda: is_in(engine, run, "settling"))
            engine.reload(replace(repository.home.config.service, quiet_time=0.2))
            assert turns(engine, lambda: is_in(engine, run, "committed"))


def test_a_backend_error_of_any_kind_never_ends_the_loop(
    repository: Repository, staging: Path
) -> None:
    kinds: list[Callable[[], Exception]] = [
        lambda: BackendError("503"),
        lambda: OSError(errno.EMFILE, "too many"),
        lambda: MemoryError(),
        lambda: RuntimeError("can't start new thread"),
    ]

    def on_write(_key: str, data: bytes) -> bytes:
        if kinds:
            raise kinds.pop()()
        return data

    meddle(repository, on_write)
    run = make_run(staging, {"model": "1"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert kinds == []
