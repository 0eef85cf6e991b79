"""The service without time and without threads of its own: both go on when a test says so.

`wind_up` has the intake read a clock that stands still until it is moved, and leave what its
lanes would do to a queue. All else is real: the folder, the leases, the backend.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from modeldrop.intake import engine, flights, memory

_TIMED: Final = (
    *("agenda", "attempts", "board", "dispatch", "drops", "engine", "flights", "looking"),
    *("memory", "registering", "room", "roster", "scanning"),
)


class Clock:
    """Stands in for the module `time` where the intake reads it."""

    def __init__(self) -> None:
        """Begin now."""
        self._monotonic = time.monotonic()
        self._time = time.time()
        self.passed = 0.0
        """How many seconds it has been moved on."""

    def monotonic(self) -> float:
        return self.monotonic_at(self.passed)

    def monotonic_at(self, passed: float) -> float:
        """Return what `monotonic` was when so many seconds had passed."""
        return self._monotonic + passed

    def time(self) -> float:
        return self._time + self.passed

    def now(self) -> str:
        """Return the time as records have it."""
        return f"{datetime.fromtimestamp(self.time(), UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class Lanes:
    """Stands in for every pool of threads: keeps what they are to do until `run_next`."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._queue: deque[tuple[Future[Any], Callable[[], object]]] = deque()

    def pool(self, *_: object) -> _Pool:
        """Return what a `ThreadPoolExecutor` would be."""
        return _Pool(self._queue)

    def __len__(self) -> int:
        return len(self._queue)

    def run_next(self) -> None:
        """Do what comes next, in this thread."""
        task, work = self._queue.popleft()
        if not task.set_running_or_notify_cancel():
            return
        try:
            task.set_result(work())
        except BaseException as error:  # noqa: BLE001 - as a thread of a pool keeps it
            task.set_exception(error)

    def forget(self) -> None:
        """End every thread, as the end of the process does."""
        self._queue.clear()


class _Pool:
    def __init__(self, queue: deque[tuple[Future[Any], Callable[[], object]]]) -> None:
        self._queue = queue
        self._is_shut = False

    def submit(self, work: Callable[..., object], *arguments: object) -> Future[Any]:
        if self._is_shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        task: Future[Any] = Future()
        self._queue.append((task, lambda: work(*arguments)))
        return task

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        del wait
        self._is_shut = True
        if cancel_futures:
            for task, _ in self._queue:
                task.cancel()


def wind_up(patch: pytest.MonkeyPatch) -> tuple[Clock, Lanes]:
    """Have the intake go by a clock and by lanes that a test moves on."""
    clock, lanes = Clock(), Lanes()
    for name in _TIMED:
        patch.setattr(importlib.import_module(f"modeldrop.intake.{name}"), "time", clock)
    patch.setattr(memory, "now", clock.now)
    patch.setattr(flights, "ThreadPoolExecutor", lanes.pool)
    # It says itself when there is something to do next.
    patch.setattr(engine, "_IDLE", 1e9)
    return clock, lanes
