"""Locks between processes: they go with their holder, and say who that is."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop import locks
from modeldrop.errors import Locked
from support import work
from support.children import Child, started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def holds(child: Child) -> None:
    """Let a child take the lock."""
    child.say()
    assert child.line() == "held"


@pytest.mark.scenario(44)
def test_lock_is_free_at_once_when_its_holder_is_killed(path: Path) -> None:
    with started(work.hold, path) as child:
        holds(child)
        with pytest.raises(Locked), locks.hold(path, what="the thing", timeout=0.2):
            pass

        child.kill()

        begun = time.monotonic()
        with locks.hold(path, what="the thing", timeout=30):
            assert time.monotonic() - begun < 1


def test_waiter_gets_the_lock_as_soon_as_its_holder_lets_go(path: Path) -> None:
    with started(work.hold, path) as child, ThreadPoolExecutor(1) as pool:
        holds(child)

        def wait() -> bool:
            with locks.hold(path, what="the thing", timeout=30):
                return True

        waiter = pool.submit(wait)
        assert not waiter.done()
        child.say()
        assert waiter.result(30)


@pytest.mark.scenario(44)
def test_stopped_holder_is_named_by_its_process_id(path: Path) -> None:
    with started(work.hold, path) as child:
        holds(child)
        os.kill(child.pid, signal.SIGSTOP)

        with pytest.raises(Locked) as caught, locks.hold(path, what="the thing", timeout=0.2):
            pass

        assert caught.value.message == f"the thing is locked by process {child.pid} for 0.2 s"
        assert f"process {child.pid}" in caught.value.hint
        assert caught.value.detail == {"process": child.pid, "lock": str(path)}


def test_lock_holds_between_threads_of_one_process(path: Path) -> None:
    entered = threading.Event()

    def other() -> None:
        with pytest.raises(Locked), locks.hold(path, what="the thing", timeout=0):
            entered.set()

    with locks.hold(path, what="the thing"), ThreadPoolExecutor(1) as pool:
        pool.submit(other).result(30)

    assert not entered.is_set()


def test_lock_is_let_go_when_its_body_fails(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locks.hold(path, what="the thing"):
        _ = 1 / 0

    with locks.hold(path, what="the thing", timeout=0):
        pass


def test_lock_file_is_never_unlinked(path: Path) -> None:
    with locks.hold(path, what="the thing"):
        first = path.stat().st_ino
    for _ in range(3):
        with locks.hold(path, what="the thing"):
            assert path.stat().st_ino == first
    assert path.stat().st_ino == first


def test_a_lock_on_a_file_that_was_replaced_is_no_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes next would lock the new file, and hold it at the same time."""
    real = locks._try

    def replaced(fd: int) -> bool:
        monkeypatch.setattr(locks, "_try", real)
        path.rename(path.with_name("kept elsewhere"))
        path.touch()
        return real(fd)

    monkeypatch.setattr(locks, "_try", replaced)
    with (
        locks.hold(path, what="the thing"),
        pytest.raises(Locked),
        locks.hold(path, what="the thing", timeout=0),
    ):
        pass
    with locks.hold(path, what="the thing"):
        assert locks.holder(path) == os.getpid()


def test_what_is_held_is_the_file_that_others_see(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = locks._try

    def replaced(fd: int) -> bool:
        monkeypatch.setattr(locks, "_try", real)
        path.unlink()
        path.touch()
        return real(fd)

    monkeypatch.setattr(locks, "_try", replaced)
    with locks.hold(path, what="the thing"):
        assert locks.holder(path) == os.getpid()


def test_locking_makes_no_home_that_isnt_there(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError),
        locks.hold(tmp_path / "away" / "locks" / "journal", what="the journal"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    with locks.hold(tmp_path / "locks" / "journal", what="the journal"):
        assert locks.holder(tmp_path / "locks" / "journal") == os.getpid()


def test_a_full_disk_keeps_nobody_from_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with locks.hold(path, what="the thing"):
        assert locks.holder(path) == 0


def test_holder_is_known_while_it_lives_and_not_after(path: Path) -> None:
    assert locks.holder(path) is None
    assert not path.exists()

    with started(work.hold, path) as child:
        holds(child)
        assert locks.holder(path) == child.pid
        child.kill()

    assert locks.holder(path) is None
    assert int(path.read_text()) == child.pid


def test_holder_that_has_not_said_its_process_id_yet_is_a_holder_all_the_same(path: Path) -> None:
    with locks.hold(path, what="the thing"):
        path.write_text("")
        assert locks.holder(path) == 0
        with pytest.raises(Locked, match="by another process"):
            locks.hold(path, what="the thing", timeout=0).__enter__()


def test_those_who_only_ask_turn_nobody_away(path: Path) -> None:
    with locks.hold(path, what="the thing"):
        pass
    done = threading.Event()

    def ask() -> set[int | None]:
        answers = set()
        while not done.is_set():
            answers.add(locks.holder(path))
        return answers

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for _ in range(50):
                with locks.hold(path, what="the thing", timeout=0):
                    pass
        finally:
            done.set()

        assert set().union(*(each.result(30) for each in asking)) <= {None, 0, os.getpid()}


def test_two_who_ask_at_once_do_not_take_each_other_for_the_holder(path: Path) -> None:
    path.touch()
    start = threading.Barrier(4)

    def ask() -> set[int | None]:
        start.wait()
        return {locks.holder(path) for _ in range(300)}

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask) for _ in range(4)]

        assert set().union(*(each.result(30) for each in answers)) == {None}


def test_who_is_served_by_the_holder_needs_the_lock_no_more(path: Path) -> None:
    asked = 0

    def served() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    with started(work.hold, path) as child:
        holds(child)
        with locks.hold_unless(path, what="the thing", served=served) as held:
            assert not held
            assert locks.holder(path) == child.pid
    assert asked > 2


def test_who_is_not_served_gets_the_lock_or_is_told_who_has_it(path: Path) -> None:
    with locks.hold_unless(path, what="the thing", served=lambda: False) as held:
        assert held
        assert locks.holder(path) == os.getpid()
    assert locks.holder(path) is None
    with started(work.hold, path) as child:
        holds(child)
        with (
            pytest.raises(Locked, match=f"locked by process {child.pid}"),
            locks.hold_unless(path, what="the thing", served=lambda: False, timeout=0.2),
        ):
            pass


def test_a_thread_is_served_by_another_one_of_its_process(path: Path) -> None:
    served = threading.Event()

    def wait() -> bool:
        with locks.hold_unless(path, what="the thing", served=served.is_set) as held:
            return held

    def wait_in_vain() -> None:
        with locks.hold_unless(path, what="it", served=lambda: False, timeout=0.1):
            pass

    with ThreadPoolExecutor(2) as pool, locks.hold(path, what="the thing"):
        waiter, other = pool.submit(wait), pool.submit(wait_in_vain)
        with pytest.raises(Locked):
            other.result(30)
        assert not waiter.done()
        served.set()
        assert not waiter.result(30)
