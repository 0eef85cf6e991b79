"""The engine's loop: single scans end, stopping is clean, and idling costs nothing."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import BackendError
from modeldrop.intake import (
    lease,
    memory,
    walk,
)
from modeldrop.intake.agenda import Agenda, Tracked
from modeldrop.intake.machine import Standing
from modeldrop.intake.settling import History
from modeldrop.structs import replace
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
    tracked,
    turns,
    uploads,
)
from support.waiting import comes_true

MIB = 1 << 20


# The first scan ends


def test_the_first_scan_ends_though_there_is_always_something_due(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = repository.home.staging
    for _ in range(20):
        make_run(staging, {"model": "1"})
    busy = make_run(staging, {"log": ""})
    with (staging / busy / "log").open("w"), running(repository) as engine:
        look = engine._look

        def look_and_have_news(run: Tracked) -> None:
            look(run)
            engine._roster.agenda.put(tracked(engine, busy), 0.0)

        monkeypatch.setattr(engine, "_look", look_and_have_news)

        assert turns(engine, lambda: engine.has_scanned)


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
        with (staging / key.partition("/")[0] / "log").open("a") as opened:
            opened.write("more\n")
        return data

    meddle(repository, disturb)
    began = time.monotonic()
    found = scan(repository)
    # Far more than it takes; one that didn't end would be stopped by the test's own limit.
    assert time.monotonic() - began < 60
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another user's files, or another kernel: here it is only played.
    monkeypatch.setattr(lease, "probe_files", lambda *_: lease.Writers.UNKNOWN)
    with make_home(tmp_path / "home", quiet_time_without_lease=0.8) as repository:
        run = make_run(repository.home.staging, {"model": "1"})
        began = time.monotonic()
        assert scan(repository)[run].state == "committed"
        assert time.monotonic() - began >= 0.8


# Stopping


def test_draining_finishes_what_is_in_flight_and_begins_nothing(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", parallel_small=1) as repository:
        gate = Gate()
        meddle(repository, gate)
        staging = repository.home.staging
        runs = [make_run(staging, {"model": f"{n}", "_SUCCESS": ""}) for n in range(3)]
        with running(repository) as engine:
            assert turns(engine, gate.reached.is_set)
            assert len(engine._dispatch.lanes.flying) == 2
            assert not engine.drain(0.05)
            gate.open()
            assert engine.drain(20)
            states = sorted(tracked(engine, run).state.value for run in runs)
            assert states == ["committed", "open", "settling"]
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
    assert turns(engine, lambda: run in engine._dispatch.lanes.flying)
    assert comes_true(lambda: bool(engine._dispatch.lanes._done))
    engine.close()
    assert memory.recall(repository.home.paths, run) is not None
    assert receipt(staging, run)["state"] == "committed"


# The agenda


def _taken(agenda: Agenda, clock: float) -> list[Tracked]:
    return list(iter(partial(agenda.take, clock), None))


def test_the_agenda_gives_each_run_at_its_last_set_time_and_once() -> None:
    agenda = Agenda()
    a, b, c = (Tracked(name, name, Standing(History())) for name in "abc")
    for when in (5.0, 1.0, 3.0, 3.0):
        agenda.put(a, when)
    agenda.put(b, 2.0)
    agenda.put(c, 0.5)
    agenda.put(c, None)
    assert _taken(agenda, 1.9) == []
    assert _taken(agenda, 3.0) == [b, a]
    assert (a.due, agenda.next()) == (None, None)
    agenda.put(a, 4.0)
    assert _taken(agenda, 10.0) == [a]


def test_the_agenda_doesnt_grow_with_how_often_it_is_set() -> None:
    agenda = Agenda()
    runs = [Tracked(str(n), str(n), Standing(History())) for n in range(10)]
    for when in range(1000):
        for each in runs:
            agenda.put(each, float(1000 + when))
    assert len(agenda._heap) < 500
    assert agenda.next() == 1999.0
    assert len(_taken(agenda, 2000.0)) == 10


def test_an_idle_turn_costs_nothing_however_many_runs_are_committed(
    repository: Repository, staging: Path
) -> None:
    """By what it calls, not by time: no run is looked at, none is gone through."""
    for number in range(50):
        make_run(staging, {"model": f"{number}", "_SUCCESS": ""})
    with running(repository, watcher="events") as engine:
        assert turns(
            engine,
            lambda: engine._roster.counts["committed"] == 50,
        )
        engine._write_status(force=True)

        engine._roster.runs = _Unseen(engine._roster.runs)
        for _ in range(20):
            assert engine.turn() > 0.5
        engine._roster.runs = dict.copy(engine._roster.runs)


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

    def counted(staging: Path, name: str, most: int | None = None) -> walk.Observation:
        looks.append(time.monotonic())
        return observe(staging, name, most)

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
    errors: list[Exception] = [
        BackendError("503"),
        OSError(errno.EMFILE, "too many"),
        MemoryError(),
        RuntimeError("can't start new thread"),
    ]

    def on_write(_key: str, data: bytes) -> bytes:
        if errors:
            raise errors.pop()
        return data

    meddle(repository, on_write)
    run = make_run(staging, {"model": "1"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, run, "committed"))
    assert errors == []
