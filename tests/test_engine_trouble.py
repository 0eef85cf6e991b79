"""What can't be stored is said, holds up nothing else, and isn't forgotten."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.batch import Batch
from modeldrop.errors import BackendUnreachable, JournalDamaged
from modeldrop.form import now
from modeldrop.home_records import Intent
from modeldrop.intake import (
    Engine,
    Storing,
    read_status,
    together,
    walk,
)
from modeldrop.intake.drops import Job
from modeldrop.intents import Intents
from modeldrop.names import new_guid
from modeldrop.runs import Runs
from modeldrop.settings import FormatSettings
from modeldrop.transfer import Transfer
from support.intake import (
    is_in,
    make_home,
    make_run,
    meddle,
    receipt,
    revisions,
    running,
    scan,
    stored_revisions,
    storing_by,
    tracked,
    turns,
    uploads,
)
from support.stores import unmount


@pytest.mark.scenario(17)
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
    assert stored_revisions(repository, run) == [{"model": b"weights"}]
    assert {each["path"] for each in receipt(staging, run)["refused"]} == {
        "bad/link",
        "pipe",
    }
    # It is still said after a restart that reads nothing.
    assert {each.path for each in scan(repository)[run].refused} == {"bad/link", "pipe"}


@pytest.mark.scenario(17)
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
    assert stored_revisions(repository, run) == [{"model": b"weights"}]


@pytest.mark.scenario(7)
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


def test_a_backend_that_is_unmounted_takes_nothing_and_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    with make_home(tmp_path / "second" / ".mlops", str(store)) as repository:
        staging = repository.home.staging
        with running(repository) as engine:
            first = make_run(staging, {"model": "weights"})
            assert turns(engine, lambda: is_in(engine, first, "committed"))
            away = unmount(store)
            run = make_run(staging, {"model": "other weights"})
            assert turns(engine, lambda: is_in(engine, run, "blocked"))
            assert "holds no repository now" in tracked(engine, run).reason
            assert list(store.iterdir()) == []
            store.rmdir()
            away.rename(store)
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert repository.verify(deep=True).ok


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.usefixtures("waits_alone")
def test_a_journal_that_failed_once_takes_the_run_without_a_restart(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real, failures = os.fdatasync, [code, code]

    def fails_twice(fd: int) -> None:
        if failures:
            raise OSError(failures[0], os.strerror(failures.pop()))
        real(fd)

    with running(repository) as engine:
        monkeypatch.setattr(os, "fdatasync", fails_twice)
        run = make_run(staging, {"model": "weights"})
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert failures == []
    assert [each.revision for each in revisions(repository, run)] == [1]
    assert [entry.kind for entry in repository.log()] == ["committed", "home-created"]
    assert repository.runs_at_backend.open_intents() == []


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


@pytest.mark.scenario(18)
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
            assert stored_revisions(repository, run) == [{"model": b"weights"}]
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
            assert turns(engine, lambda: engine._dispatch.breaker._tries >= 3)
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
        assert stored_revisions(repository, run) == [{"model": b"weights"}]


@pytest.mark.scenario(32)
def test_the_pauses_between_tries_double_and_are_capped(
    repository: Repository, staging: Path
) -> None:
    pauses = []

    class Failing(Storing):
        def store(self, *_: object) -> None:  # type: ignore[override] # it never returns
            pauses.append(time.monotonic())
            raise BackendUnreachable("away")

    make_run(staging, {"model": "weights", "_SUCCESS": ""})
    engine = Engine(repository.home, repository.runs_at_backend, storing_by(repository, Failing))
    try:
        assert turns(engine, lambda: len(pauses) >= 6)
        assert engine._dispatch.breaker._tries >= 5
    finally:
        engine.close()
    gaps = [after - before for before, after in itertools.pairwise(pauses)]
    # 0.05 doubled to 0.2, each from its half on; hints and scans every 0.05 s made none shorter.
    assert all(gap >= least for gap, least in zip(gaps, (0.025, 0.05, 0.1, 0.1), strict=False))


@pytest.mark.scenario(34)
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


@pytest.mark.parametrize("where", ["the look", "the transfer", "the group"])
def test_a_bug_that_one_run_meets_holds_up_no_other(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    cursed = make_run(staging, {"model": "cursed"})
    others = [make_run(staging, {"model": f"{n}"}) for n in range(3)]
    observe, declared, begin = walk.observe, Storing.store, together._begin

    def fail_to_observe(staging: Path, name: str, most: int | None = None) -> walk.Observation:
        if name == cursed:
            raise ValueError("never thought of that")
        return observe(staging, name, most)

    def fail_to_store(self: Storing, drop: object, *rest: object) -> object:
        if getattr(drop, "run", "") == cursed:
            raise ValueError("never thought of that")
        return declared(self, drop, *rest)  # type: ignore[arg-type] # passed on as it came

    def fail_to_begin(
        runs: Runs,
        transfer: Transfer,
        formats: FormatSettings,
        batch: Batch,
        number: int,
        job: Job,
        into: list[together._Sent],
    ) -> together._Begun | None:
        begun = begin(runs, transfer, formats, batch, number, job, into)
        if job.drop.run == cursed:
            raise ValueError("never thought of that")
        return begun

    with monkeypatch.context() as patched:
        if where == "the look":
            patched.setattr(walk, "observe", fail_to_observe)
        else:
            # Whom the group can't take is stored alone.
            patched.setattr(Storing, "store", fail_to_store)
            patched.setattr(Storing, "shares_waits", where == "the group")
            patched.setattr(together, "_begin", fail_to_begin)
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
    assert stored_revisions(repository, run) == [{"model": b"2"}]


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
        assert [each.sequence for each in engine._dispatch._runs.open_intents()] == [intents[0]]


def _intent(repository: Repository, run: str) -> str:
    sequence = f"{run}/revisions"
    intent = Intent(new_guid(), sequence, new_guid(), 2, 0, 0, "ann", now())
    Intents(repository.home.paths.intents).begin(intent)
    return sequence


@pytest.mark.scenario(20)
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


def test_staging_that_couldnt_be_read_once_is_said_and_never_taken_for_empty(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(staging, {"model": "weights", "_SUCCESS": ""})
    runs = walk.runs
    failing = iter([OSError(errno.EIO, os.strerror(errno.EIO))])

    def fails_once(folder: Path) -> object:
        for error in failing:
            raise error
        return runs(folder)

    monkeypatch.setattr(walk, "runs", fails_once)
    [junk] = scan(repository).values()
    assert "can't be read: [Errno 5]" in junk.reason
    assert scan(repository)[run].state == "committed"


def test_single_scan_that_takes_long_tries_what_is_blocked_once_and_ends(tmp_path: Path) -> None:
    with make_home(
        tmp_path / "home", quiet_time=0.5, quiet_time_without_lease=0.5, retry_first=0.2
    ) as made:
        staging = made.home.staging
        blocked = make_run(staging, {"model": "weights", "_SUCCESS": ""})
        settles = make_run(staging, {"model": "others"})
        tries: list[str] = []

        def fails(key: str, data: bytes) -> bytes:
            if key.startswith(blocked) and data:
                tries.append(key)
                if len(tries) == 10:
                    engine.interrupt()
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            return data

        meddle(made, fails)
        engine = made.engine()
        try:
            found = {each.run: each.state for each in engine.scan_once()}
        finally:
            engine.close()
        assert found == {blocked: "blocked", settles: "committed"}
        assert len(tries) == 1
