"""Small runs that go together: whatever waits when a thread is free is one group.

Nobody waits for company: a run that is alone goes at once. While one group waits for the disk, the
next one is put together. Whom a group leaves out goes alone, in a thread of the same pool.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from modeldrop.errors import Interrupted
from modeldrop.intake.drops import Job
from modeldrop.structs import Struct, field

# How many runs go together at most, and how many groups are under way at a time: one computes
# while the other waits for the disk.
LARGEST: Final = 64
AT_A_TIME: Final = 2

Together = Callable[[Sequence[Job]], Sequence[object | None]]
"""Stores jobs as one; None stands for one that is to be stored alone."""


class Passenger(Struct):
    """One run of a group: how it is stored with others, how alone, and what became of it."""

    job: Job
    alone: Callable[[], object]
    task: Future[Any] = field(default_factory=Future)


class Groups:
    """The runs that wait to go together, and the groups under way. For any number of threads."""

    def __init__(self, pool: ThreadPoolExecutor, together: Together) -> None:
        """Store groups by `together`, in threads of `pool`."""
        self._pool = pool
        self._together = together
        self._lock = threading.Lock()
        self._waiting: deque[Passenger] = deque()
        self._under_way = 0

    def put(self, passenger: Passenger) -> None:
        """Have a run stored with whoever waits when a thread is free; `task` tells how it ended."""
        with self._lock:
            self._waiting.append(passenger)
            if self._under_way >= AT_A_TIME:
                return
            self._under_way += 1
        self._pool.submit(self._run)

    def _run(self) -> None:
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST))]
        # Whom the end of the service has taken back isn't among them.
        self._store([each for each in group if each.task.set_running_or_notify_cancel()])
        with self._lock:
            if not self._waiting:
                self._under_way -= 1
                return
        # In turn with larger runs, which have the same threads. Where these are let go, whoever
        # waits is taken back.
        with contextlib.suppress(RuntimeError):
            self._pool.submit(self._run)

    def _store(self, group: list[Passenger]) -> None:
        try:
            results = self._together([each.job for each in group]) if group else ()
            stored = list(zip(group, results, strict=True))
        except BaseException as error:  # noqa: BLE001 - it is told by each of the tasks
            for each in group:
                each.task.set_exception(error)
            return
        for each, result in stored:
            if result is None:
                self._go_alone(each)
            else:
                each.task.set_result(result)

    def _go_alone(self, passenger: Passenger) -> None:
        def ended(task: Future[None]) -> None:
            if task.cancelled():
                passenger.task.set_exception(_stopped())

        try:
            self._pool.submit(_fly_alone, passenger).add_done_callback(ended)
        except RuntimeError:
            # The threads are let go.
            passenger.task.set_exception(_stopped())


def _stopped() -> Interrupted:
    return Interrupted("stopped before it was stored", hint="it is stored after the next start")


def _fly_alone(passenger: Passenger) -> None:
    try:
        result = passenger.alone()
    except BaseException as error:  # noqa: BLE001 - as above
        passenger.task.set_exception(error)
    else:
        passenger.task.set_result(result)
