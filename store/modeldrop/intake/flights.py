"""What is done with runs in threads: two lanes, so that 100 GB don't hold up 1 KB.

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

from modeldrop.intake.agenda import Tracked
from modeldrop.intake.observation import Observation
from modeldrop.intake.throttle import Rate

# Up to this many bytes a run is small.
SMALL: Final = 16 * 2**20
# A thread that is done with a small run finds the next one waiting: that many for each.
_BACKLOG: Final = 2


class Flight:
    """What a thread does with one run: `store` it, or `move` or `delete` its staged copy.

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


class _Lane:
    def __init__(self, name: str, threads: int, backlog: int) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self.most = threads * backlog
        self.flying = 0
        self.queue: OrderedDict[str, Tracked] = OrderedDict()


class Lanes:
    """The queues and the threads, for small runs and for large ones. For one thread."""

    def __init__(self, small: int, large: int, landed: Callable[[], None]) -> None:
        """Have so many threads for each; `landed` is called by a thread that is done."""
        self._small = _Lane("small", small, _BACKLOG)
        self._large = _Lane("large", large, 1)
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
        return lane.flying < lane.most and not lane.queue

    def leave(self, tracked: Tracked) -> None:
        """Take a run out of its queue, if it waits in one."""
        for lane in (self._small, self._large) if tracked.is_queued else ():
            lane.queue.pop(tracked.run, None)
        tracked.is_queued = False

    def take(self) -> Tracked | None:
        """Return the next run whose turn has come, or None; a small one before a large one."""
        for lane in (self._small, self._large):
            if lane.queue and lane.flying < lane.most:
                _, tracked = lane.queue.popitem(last=False)
                tracked.is_queued = False
                return tracked
        return None

    def submit(self, tracked: Tracked, flight: Flight, work: Callable[[], object]) -> None:
        """Have a thread do it; the run is in flight until it was harvested."""
        lane = self._lane(flight.size)
        lane.flying += 1
        tracked.flight = flight
        self.flying[tracked.run] = tracked
        self.probing = self.probing or flight.probe
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
                self._lane(flight.size).flying -= 1
                self.probing = self.probing and not flight.probe
                yield tracked, flight

    def queued(self) -> list[Tracked]:
        """Return every run that waits in a queue."""
        return [*self._small.queue.values(), *self._large.queue.values()]

    def waiting(self) -> int:
        """Return how many runs wait in the queues."""
        return len(self._small.queue) + len(self._large.queue)

    def cancel(self) -> None:
        """Take back what still waits for a thread."""
        for tracked in list(self.flying.values()):
            if tracked.flight is not None and tracked.flight.task is not None:
                # What runs already doesn't let itself be cancelled.
                tracked.flight.task.cancel()

    def close(self) -> None:
        """Wait until every thread has ended."""
        for lane in (self._small, self._large):
            lane.pool.shutdown(wait=True, cancel_futures=True)

    def _lane(self, size: int) -> _Lane:
        return self._small if size <= SMALL else self._large
