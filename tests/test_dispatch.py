"""Turns, trouble and people's wishes: lanes, the breaker, limits, retry and ignore, restarts."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from modeldrop import Repository
from modeldrop.errors import BackendError, BackendUnreachable, SourceChanged
from modeldrop.intake import Engine, RunStatus, flights, requests, walk
from modeldrop.intake.agenda import EVENTS
from modeldrop.intake.breaker import Breaker
from modeldrop.intake.machine import Patience
from modeldrop.intake.room import Room
from modeldrop.intake.settling import State
from modeldrop.intake.storing import Storing
from modeldrop.intake.throttle import Rate, Throttle
from modeldrop.layout import HomePaths
from support.intake import (
    Gate,
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

MIB = 1 << 20
PATIENCE = Patience(first=1.0, most=8.0)


# Lanes


def test_a_large_run_holds_up_no_small_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "SMALL", MIB)
    with make_home(tmp_path / "home", parallel=1, parallel_small=1) as repository:
        gate = Gate()
        meddle(repository, lambda key, data: gate(key, data) if key.endswith("large") else data)
        staging = repository.home.staging
        large = [make_run(staging, {"large": bytes(2 * MIB), "_SUCCESS": ""}) for _ in range(3)]
        with running(repository) as engine:
            assert turns(engine, gate.reached.is_set)
            small = [make_run(staging, {"m": f"{n}", "_SUCCESS": ""}) for n in range(20)]
            assert turns(engine, lambda: all(is_in(engine, run, "committed") for run in small))
            assert not any(is_in(engine, run, "committed") for run in large)
            assert engine.summary.queued == 2
            gate.open()
            assert turns(engine, lambda: all(is_in(engine, run, "committed") for run in large))


def test_what_waits_for_its_turn_and_changes_is_stored_as_it_is_then(
    tmp_path: Path,
) -> None:
    with make_home(tmp_path / "home", parallel_small=1) as repository:
        gate = Gate()
        meddle(repository, gate)
        staging = repository.home.staging
        runs = [make_run(staging, {"m": f"first {n}", "_SUCCESS": ""}) for n in range(6)]
        with running(repository) as engine:
            assert turns(engine, lambda: gate.reached.is_set() and engine.summary.queued == 4)
            for run in runs:
                if tracked(engine, run).is_queued:
                    (staging / run / "m").write_text("second")
            gate.open()
            assert turns(engine, lambda: engine.summary.runs["committed"] == 6)
        found = [stored_revisions(repository, run) for run in runs]
        assert sum(each == [{"m": b"second"}] for each in found) == 4


# The breaker


def breaker() -> Breaker:
    """Return one whose jitter is none."""
    return Breaker(PATIENCE, lambda: 1.0)


def test_one_probe_at_a_time_while_the_backend_is_away() -> None:
    away = breaker()
    assert away.allows(0.0, probing=False)
    assert away.failed("a", BackendUnreachable("x"), "x", "", 0.0, probe=False)
    assert not away.allows(0.5, probing=False)
    assert away.allows(1.0, probing=False)
    assert not away.allows(1.0, probing=True)


def test_pauses_between_probes_double_and_are_capped() -> None:
    away, clock, pauses = breaker(), 0.0, []
    for _ in range(6):
        away.failed("a", BackendUnreachable("x"), "x", "", clock, probe=True)
        pauses.append(away.next_try - clock)
        clock = away.next_try
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    away.succeeded()
    assert not away.is_open
    away.failed("a", BackendUnreachable("x"), "x", "", clock, probe=True)
    assert away.next_try - clock == 1.0


def test_attempts_that_were_under_way_when_it_opened_put_nothing_off() -> None:
    away = breaker()
    away.failed("a", BackendUnreachable("x"), "x", "", 0.0, probe=False)
    for _ in range(10):
        assert away.failed("a", BackendUnreachable("x"), "x", "", 0.5, probe=False)
    assert away.next_try == 1.0


def test_trouble_of_one_object_is_that_runs_alone_until_it_is_everybodys() -> None:
    away = breaker()
    assert not away.failed("a", SourceChanged("x"), "x", "", 0.0, probe=False)
    for run in "abaabb":
        assert not away.failed(run, BackendError("x"), "x", "", 0.0, probe=False)
    away.succeeded()
    assert not away.failed("c", BackendError("x"), "x", "", 0.0, probe=False)
    assert not away.failed("a", BackendError("x"), "x", "", 0.0, probe=False)
    assert away.failed("b", BackendError("x"), "x", "", 0.0, probe=False)


def test_while_the_backend_is_away_a_hundred_runs_are_one_attempt_at_a_time(
    tmp_path: Path,
) -> None:
    with make_home(tmp_path / "home", str(tmp_path / "store"), retry_most=0.2) as repository:
        staging = repository.home.staging
        runs = [make_run(staging, {"m": f"{n}", "_SUCCESS": ""}) for n in range(100)]
        attempts: list[float] = []

        class Counting(Storing):
            def store(self, *given: object) -> object:  # type: ignore[override] # passed on
                attempts.append(time.monotonic())
                return super().store(*given)  # type: ignore[arg-type] # as it came

        engine = Engine(
            repository.home, repository.runs_at_backend, storing_by(repository, Counting)
        )
        try:
            (tmp_path / "store").rename(tmp_path / "unmounted")
            assert turns(engine, lambda: engine.summary.runs["blocked"] == 100)
            first = len(attempts)
            # As many as had a thread when it went away, and then one after the other.
            assert first <= 2 * repository.home.config.service.parallel_small + 10
            assert turns(engine, lambda: len(attempts) >= first + 5)
            late = attempts[first:]
            assert all(b - a > 0.04 for a, b in pairwise(late))
            assert engine.summary.backend
            (tmp_path / "unmounted").rename(tmp_path / "store")
            assert turns(engine, lambda: engine.summary.runs["committed"] == 100)
            assert engine.summary.backend == ""
        finally:
            engine.close()
        assert all(len(revisions(repository, run)) == 1 for run in runs)


# What people ask for


def test_a_retry_tries_a_parked_run_again_though_nothing_changed(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"m": "1", "_SUCCESS": f"{'0' * 64}  m\n"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "parked"))
        failed: list[RunStatus] = []
        engine.listen(failed.append)
        requests.ask(repository.home, requests.RETRY, run)
        assert turns(engine, lambda: any(each.state == "parked" for each in failed))
    assert list(repository.home.paths.requests().iterdir()) == []


def test_a_retry_doesnt_wait_for_the_pause_of_the_backend(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with make_home(
        tmp_path / "home", str(store), retry_first=600.0, retry_most=600.0
    ) as repository:
        run = make_run(repository.home.staging, {"m": "1", "_SUCCESS": ""})
        with running(repository) as engine:
            store.rename(tmp_path / "unmounted")
            assert turns(engine, lambda: is_in(engine, run, "blocked"))
            (tmp_path / "unmounted").rename(store)
            requests.ask(repository.home, requests.RETRY, run)
            assert turns(engine, lambda: is_in(engine, run, "committed"))


def test_an_ignored_run_is_left_alone_over_restarts_until_a_retry(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"m": "1", "later.part": ""})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "open"))
        requests.ask(repository.home, requests.IGNORE, run)
        assert turns(engine, lambda: is_in(engine, run, "ignored"))
    (staging / run / "later.part").unlink()
    found = scan(repository)[run]
    assert (found.state, found.needs_attention) == ("ignored", False)
    assert "asked" in found.reason or "request" in found.reason
    requests.ask(repository.home, requests.RETRY, run)
    assert scan(repository)[run].state == "committed"


def test_what_is_asked_of_a_run_that_has_just_come_is_answered(
    repository: Repository, staging: Path
) -> None:
    with running(repository, EVENTS) as engine:
        assert turns(engine, lambda: engine.has_scanned)
        # Nobody has told of it, and it isn't time to scan.
        run = make_run(staging, {"m": "1", "_SUCCESS": ""})
        requests.ask(repository.home, requests.IGNORE, run)
        assert turns(engine, lambda: is_in(engine, run, "ignored"))
    assert revisions(repository, run) == []


@pytest.mark.parametrize("is_retried", [False, True], ids=["ignored", "and retried"])
def test_what_is_asked_of_a_run_while_it_is_stored_holds_over_a_restart(
    repository: Repository, staging: Path, is_retried: bool
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"m": "1", "_SUCCESS": ""})
    with running(repository) as engine:
        assert turns(engine, gate.reached.is_set)
        requests.ask(repository.home, requests.IGNORE, run)
        assert turns(engine, lambda: tracked(engine, run).ignored != "")
        engine._dispatch.keep_all_attempts()
        if is_retried:
            requests.ask(repository.home, requests.RETRY, run)
            assert turns(engine, lambda: tracked(engine, run).ignored == "")
            engine.interrupt()
        gate.open()
        assert is_retried or turns(engine, lambda: is_in(engine, run, "committed"))
    (staging / run / "m").write_text("another one")
    (staging / run / "_SUCCESS").write_text("m\n")

    found = scan(repository)[run]

    assert (found.state, found.revision) == ("committed" if is_retried else "ignored", 1)
    assert is_retried or found.reason.startswith("ignored on request of ")


def test_a_run_that_is_ignored_while_it_is_stored_is_left_alone_when_that_fails(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()

    def fails(key: str, data: bytes) -> bytes:
        gate(key, data)
        message = "500 Internal Server Error"
        raise BackendError(message)

    meddle(repository, fails)
    run = make_run(staging, {"m": "1", "_SUCCESS": ""})
    with running(repository) as engine:
        assert turns(engine, gate.reached.is_set)
        requests.ask(repository.home, requests.IGNORE, run)
        assert turns(engine, lambda: tracked(engine, run).ignored != "")
        gate.open()
        assert turns(engine, lambda: is_in(engine, run, "ignored"))
        assert tracked(engine, run).reason.startswith("ignored on request of ")


def test_a_request_that_cant_be_understood_is_dropped_and_said(
    repository: Repository, caplog: pytest.LogCaptureFixture
) -> None:
    folder = repository.home.paths.requests()
    folder.mkdir(parents=True)
    (folder / "x.json").write_text("nonsense")
    scan(repository)
    assert "can't be understood" in caplog.text
    assert list(folder.iterdir()) == []


# Restarts


def test_what_is_parked_is_not_sent_again_after_a_restart(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"m": "1", "_SUCCESS": f"{'0' * 64}  m\n"})
    assert scan(repository)[run].state == "parked"
    before = uploads(repository, run)
    found = scan(repository)[run]
    assert (found.state, "another digest" in found.reason) == ("parked", True)
    assert uploads(repository, run) == before
    # Only a change of it brings it back.
    (staging / run / "_SUCCESS").write_text("")
    assert scan(repository)[run].state == "committed"


def test_files_that_are_stored_already_are_not_sent_again_after_a_restart(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    meddle(repository, lambda key, data: gate(key, data) if key.endswith("last") else data)
    contents = {f"part-{n}": bytes([n]) * 1000 for n in range(6)}
    run = make_run(staging, {**contents, "last": "l", "_SUCCESS": ""})
    engine = repository.engine()
    assert turns(engine, gate.reached.is_set)
    attempts = tracked(engine, run).attempts
    assert attempts is not None
    assert turns(engine, lambda: len(attempts.files()) == 6)
    engine.interrupt()
    gate.open()
    engine.close()
    assert revisions(repository, run) == []
    with Repository.open(repository.home.paths.root) as again:
        backend = meddle(again, lambda _, data: data)
        assert scan(again)[run].state == "committed"
        assert [key.rpartition("/")[2] for key in backend.written] == ["last"]
        assert stored_revisions(again, run) == [
            {**contents, "last": b"l"}  # what was sent by both attempts
        ]
    assert not repository.home.paths.standing(run).exists()


# Limits


def test_a_run_with_too_many_files_or_bytes_is_parked_with_the_limit(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", most_files=3, most_bytes=100) as repository:
        staging = repository.home.staging
        many = make_run(staging, {f"m{n}": "1" for n in range(4)})
        large = make_run(staging, {"m": "1" * 101})
        fine = make_run(staging, {"m": "1" * 99, "n": "1"})
        found = scan(repository)
        assert (found[many].state, "more than 3 files" in found[many].reason) == ("parked", True)
        assert (found[large].state, "101 bytes" in found[large].reason) == ("parked", True)
        assert found[fine].state == "committed"


def test_what_would_take_the_reserve_waits_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_home(tmp_path / "home", reserve=1000) as repository:
        staging = repository.home.staging
        free = [2000]
        monkeypatch.setattr(Storing, "free", lambda _: free[0])
        large = make_run(staging, {"m": "1" * 1500, "_SUCCESS": ""})
        small = make_run(staging, {"m": "1" * 500, "_SUCCESS": ""})
        with running(repository) as engine:
            assert turns(engine, lambda: is_in(engine, small, "committed"))
            assert turns(engine, lambda: is_in(engine, large, "blocked"))
            assert "are kept" in tracked(engine, large).reason
            assert "make room" in str(receipt(staging, large)["next"])
            free[0] = 1 << 30
            assert turns(engine, lambda: is_in(engine, large, "committed"))


def test_room_is_asked_for_each_run_unless_there_is_plenty(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    gib, asked = 2**30, [0]
    free = [2 * gib]

    def counted(_: Storing) -> int:
        asked[0] += 1
        return free[0]

    monkeypatch.setattr(Storing, "free", counted)
    at_home = SimpleNamespace(f_bavail=1000 * gib, f_frsize=1)
    monkeypatch.setattr(os, "statvfs", lambda _: at_home)
    room = Room(repository.home, storing_by(repository, Storing))
    # Little more than the reserve: the next one may be the one too many.
    assert [room.lacks(1000, gib) for _ in range(3)] == [None] * 3
    assert asked[0] == 3
    free[0] = 1000 * gib
    assert [room.lacks(1000, gib) for _ in range(5)] == [None] * 5
    assert asked[0] == 4
    # A large one is asked for whatever there was a moment ago.
    free[0] = 2 * gib
    assert room.lacks(10 * gib, gib) == "the backend has 2.0 GiB free, of which 1.0 GiB are kept"
    at_home.f_bavail = 2**20
    assert room.lacks(gib // 2, gib) == "the disk of the home has 1.0 MiB free"


def test_a_limit_on_the_bandwidth_holds_for_all_threads_together() -> None:
    throttle = Throttle(10 * MIB)
    began = time.monotonic()
    for _ in range(8):
        throttle.take(MIB, lambda: None)
    # 8 MiB at 10 MiB/s, less the quarter of a second that may go at once.
    assert time.monotonic() - began >= 0.5
    throttle.set(0)
    began = time.monotonic()
    throttle.take(1 << 40, lambda: None)
    assert time.monotonic() - began < 1


def test_waiting_for_the_bandwidth_is_ended_by_a_stop() -> None:
    def check() -> None:
        raise BackendError("stop")

    with pytest.raises(BackendError):
        Throttle(1).take(1 << 30, check)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(0.0)
    assert rate.at(1.0, 100) == pytest.approx(100.0)
    for second in range(2, 30):
        last = rate.at(float(second), 100 + (second - 1) * 500)
    assert last == pytest.approx(500.0, rel=0.01)


# What costs what


def test_only_the_most_urgent_of_very_many_are_named_and_all_are_counted(
    repository: Repository, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.intake.board.MOST_SHOWN", 5)
    for _ in range(9):
        make_run(staging, {"m.part": ""})
    parked = make_run(staging, {"m": "1", "_SUCCESS": f"{'0' * 64}  m\n"})
    scan(repository)
    from modeldrop.intake import read_status  # noqa: PLC0415 - what the test is about
    from modeldrop.intake.status import _StatusRecord  # noqa: PLC0415 - the file itself

    path = HomePaths(repository.home.paths.root).status()
    record = _StatusRecord.from_bytes(path.read_bytes(), "status")
    assert next(each.run for each in record.runs) == parked
    assert len(record.runs) == 5
    assert {each.state: each.runs for each in record.counts} == {"open": 9, "parked": 1}
    assert read_status(repository.home).counts[State.OPEN.value] == 9


def test_a_run_with_endless_entries_is_not_looked_at_to_its_end(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", most_files=10) as repository:
        staging = repository.home.staging
        run = make_run(staging, {f"d{n // 10}/m{n}": "1" for n in range(500)})
        assert len(walk.observe(staging, run, 21).files) <= 22
        found = scan(repository)[run]
        assert (found.state, "more than 10 files" in found.reason) == ("parked", True)


def test_a_hint_brings_no_run_back_that_is_spelled_twice(
    repository: Repository, staging: Path
) -> None:
    run = make_run(staging, {"m": "1"})
    make_run(staging, {"m": "2"}, run.upper())
    with running(repository, watcher="events") as engine:
        assert turns(engine, lambda: engine.summary.junk == 2)
        (staging / run / "m").write_text("3")
        engine.hint(run)
        engine.hint(run.upper())
        assert not turns(engine, lambda: engine.summary.committed > 0, timeout=1.0)
    assert not repository.runs_at_backend.last(run)
