"""What is done with runs in threads: lanes by size, so that 100 GB don't hold up 1 KB.

Large runs and small ones have threads of their own. The smallest go in `groups` where the backend
shares its waits, by the threads of the small ones.

A run that is complete waits in the queue of its lane for one of the lane's threads; only the run
itself waits, not what was seen of it, so that a queue of a hundred thousand costs next to nothing,
and what is stored was seen just before. While the backend is away nothing leaves the queues but one
probe at a time: see `breaker`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from modeldrop.intake import groups
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.drops import Job
from modeldrop.intake.groups import Groups, Passenger, Together
from modeldrop.intake.observation import Observation
from modeldrop.intake.throttle import Rate
from modeldrop.intake.together import SMALL as SMALLEST

# Up to this many bytes a run is small.
SMALL: Final = 16 * 2**20
# What is no transfer, and may wait long for another process: it has a thread of its own.
REGISTER: Final = "register"
# A thread that is done with a small run finds the next one waiting: that many for each.
_BACKLOG: Final = 2


class _Lane:
    def __init__(self, pool: ThreadPoolExecutor, most: int) -> None:
        self.pool = pool
        self.most = most
        self.flying = 0
        self.queue: OrderedDict[str, Tracked] = OrderedDict()


class Flight:
    """What a thread does with one run: `store` or `register` it, `move` or `delete` its copy.

    The threads of the transfer call `moved` and `found`; the rest belongs to the loop's thread.
    """

    def __init__(self, kind: str, observation: Observation, *, probe: bool) -> None:
        """Begin with nothing moved."""
        self.kind = kind
        self.observation = observation
        self.probe = probe
        """Whether it was begun to see whether the backend is back."""
        self.size = observation.size()
        self.began = time.monotonic()
        self.task: Future[Any] | None = None
        self.lane: _Lane | None = None
        self.verifying = False
        self.noted_at = self.began
        """When what was sent of it was written down last."""
        self.sent = 0
        self.done = 0
        self._rate = Rate(self.began)
        self._lock = threading.Lock()

    def moved(self, size: int) -> None:
        """Count bytes that were sent; files of one run move at the same time."""
        with self._lock:
            self.sent += size
            self.done += size

    def found(self, size: int) -> None:
        """Count bytes that are at the backend already."""
        with self._lock:
            self.done += size

    def rate(self) -> float:
        """Return the bytes a second that are being sent, over the last few seconds."""
        return self._rate.at(time.monotonic(), self.sent)


class Lanes:
    """The queues and the threads, by the size of a run. For one thread."""

    def __init__(
        self, small: int, large: int, landed: Callable[[], None], together: Together | None
    ) -> None:
        """Have so many threads for each; `landed` is called by a thread that is done.

        `together` stores the smallest runs in groups, if there is one.
        """
        pools = [ThreadPoolExecutor(small, "small"), ThreadPoolExecutor(large, "large")]
        self._small = _Lane(pools[0], small * _BACKLOG)
        self._large = _Lane(pools[1], large)
        self._smallest = _Lane(pools[0], groups.LARGEST * groups.AT_A_TIME * _BACKLOG)
        self._aside = _Lane(ThreadPoolExecutor(1, REGISTER), 1)
        self._groups = Groups(pools[0], together) if together is not None else None
        self._landed = landed
        self._done: deque[Tracked] = deque()
        self.flying: dict[str, Tracked] = {}
        self.probing = False
        """Whether a flight that is a probe is under way."""

    def queue(self, tracked: Tracked) -> None:
        """Put a run at the end of its queue, unless it waits there already."""
        if not tracked.is_queued:
            tracked.is_queued = True
            self._lane(tracked.size).queue[tracked.run] = tracked

    def has_room(self, size: int) -> bool:
        """Return whether a run of so many bytes may begin at once, before those that wait."""
        lane = self._lane(size)
        return self._is_free(lane) and not lane.queue

    def leave(self, tracked: Tracked) -> None:
        """Take a run out of its queue, if it waits in one."""
        for lane in self._every() if tracked.is_queued else ():
            lane.queue.pop(tracked.run, None)
        tracked.is_queued = False

    def take(self) -> Tracked | None:
        """Return the next run whose turn has come, or None; a small one before a large one."""
        for lane in self._every():
            if lane.queue and self._is_free(lane):
                _, tracked = lane.queue.popitem(last=False)
                tracked.is_queued = False
                return tracked
        return None

    def submit(
        self, tracked: Tracked, flight: Flight, work: Callable[[], object], job: Job | None = None
    ) -> None:
        """Have a thread do it; the run is in flight until it was harvested.

        With a `job`, it may be stored with others instead; `work` is for a run that can't be.
        """
        together = job is not None and self._groups is not None and flight.size <= SMALLEST
        alone = self._aside if flight.kind == REGISTER else self._by_threads(flight.size)
        flight.lane = lane = self._smallest if together else alone
        lane.flying += 1
        tracked.flight = flight
        self.flying[tracked.run] = tracked
        self.probing = self.probing or flight.probe
        if together:
            assert job is not None and self._groups is not None  # noqa: PT018, S101 - see above
            passenger = Passenger(job, work)
            flight.task = passenger.task
            self._groups.put(passenger)
        else:
            flight.task = lane.pool.submit(work)
        flight.task.add_done_callback(lambda _: self._land(tracked))

    def _land(self, tracked: Tracked) -> None:
        self._done.append(tracked)
        self._landed()

    def harvest(self) -> Iterator[tuple[Tracked, Flight]]:
        """Yield the runs whose flight has ended, with it; they are in flight no more."""
        while self._done:
            tracked = self._done.popleft()
            flight, tracked.flight = tracked.flight, None
            self.flying.pop(tracked.run, None)
            if flight is not None:
                if flight.lane is not None:
                    flight.lane.flying -= 1
                self.probing = self.probing and not flight.probe
                yield tracked, flight

    def queued(self) -> list[Tracked]:
        """Return every run that waits in a queue."""
        return [tracked for lane in self._every() for tracked in lane.queue.values()]

    def waiting(self) -> int:
        """Return how many runs wait in the queues."""
        return sum(len(lane.queue) for lane in self._every())

    def cancel(self) -> None:
        """Take back what still waits for a thread."""
        for tracked in list(self.flying.values()):
            if tracked.flight is not None and tracked.flight.task is not None:
                # What runs already doesn't let itself be cancelled.
                tracked.flight.task.cancel()

    def close(self) -> None:
        """Wait until every thread has ended; what still waits for one is taken back."""
        self.cancel()
        for lane in (self._small, self._large, self._aside):
            lane.pool.shutdown(wait=True, cancel_futures=True)

    def _every(self) -> tuple[_Lane, ...]:
        return self._smallest, self._small, self._large

    def _lane(self, size: int) -> _Lane:
        if size <= SMALLEST and self._groups is not None:
            return self._smallest
        return self._by_threads(size)

    def _by_threads(self, size: int) -> _Lane:
        return self._small if size <= SMALL else self._large

    def _is_free(self, lane: _Lane) -> bool:
        # The smallest have the threads of the small ones, and some of them go alone after all.
        others = self._small if lane is self._smallest else lane
        return lane.flying < lane.most and others.flying < others.most
