"""What the engine knows of each run in staging, and which of them is to be looked at when.

A run that is not in flight is either on the agenda or waits for news: a hint or the next scan puts
it there. Nothing else decides when a run is looked at, so nothing can be forgotten. Taking what is
due costs by what is due, however many runs there are.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from modeldrop.config import ServiceSettings
from modeldrop.intake.memory import RunMemory
from modeldrop.intake.observation import Observation
from modeldrop.intake.settling import History, State
from modeldrop.intake.storing import Attempts, Outcome
from modeldrop.records import Refused, now

# What the watcher is while the kernel's events tell of changes; anything else is polling.
EVENTS: Final = "events"
# How many times what a scan of all of staging took the next one waits: a tenth of a core at most
# where nothing but scans tells of changes, a hundredth where events do.
_POLL_FACTOR: Final = 9.0
_SCAN_FACTOR: Final = 99.0
_LATEST_SCAN: Final = 10.0
# Entries that don't count any more are dropped once they are this many times the runs.
_MOST_STALE: Final = 4
# Doubling further than this would only overflow.
_MOST_DOUBLINGS: Final = 30


@dataclass(slots=True)
class Tracked:
    """One run folder that the engine knows.

    It belongs to the loop's thread. While `task` runs, the threads of the transfer call `moved`,
    and `verifying` once; everything else is left alone until the task is done.
    """

    run: str
    folder: str
    history: History
    state: State = State.OPEN
    reason: str = "not looked at yet"
    since: str = field(default_factory=now)
    due: float | None = None
    """When it is looked at next; set by `Agenda.put` alone."""
    not_before: float = 0.0
    """Hints and scans bring no look before this: something else is waited for."""
    failures: int = 0
    changes: int = 0
    """How many times in a row it changed while it was stored."""
    rests_until: float = 0.0
    """The same, since it was looked at only just now."""
    patience: tuple[float, float, float] | None = None
    """When a single scan began to wait for it, until when, and until when if it is still."""
    remembered: RunMemory | None = None
    revision: int | None = None
    observation: Observation | None = None
    refused: tuple[Refused, ...] = ()
    parked: str | None = None
    """The signature of what can't be stored; only another one brings the run back."""
    attempts: Attempts = field(default_factory=Attempts)
    task: Future[Outcome] | None = None
    stale: bool = False
    """Whether a hint came since it was looked at last."""
    sent: int = 0
    size: int = 0
    _count: threading.Lock = field(default_factory=threading.Lock)

    def become(self, state: State, reason: str) -> bool:
        """Take a state; return whether that is news."""
        changed = (self.state, self.reason) != (state, reason)
        if self.state is not state:
            self.since = now()
        self.state, self.reason = state, reason
        return changed

    def verifying(self) -> None:
        """Take note that all bytes are at the backend."""
        self.become(State.VERIFYING, "")

    def moved(self, size: int) -> None:
        """Count bytes; files of one run move at the same time."""
        with self._count:
            self.sent += size


class Agenda:
    """Which runs are to be looked at, and when; times are of the monotonic clock."""

    def __init__(self) -> None:
        """Begin with nothing on it."""
        self._heap: list[tuple[float, int, Tracked]] = []
        self._number = 0
        self._runs = 0

    def put(self, tracked: Tracked, when: float | None) -> None:
        """Look at a run then, and not at any time that was set before; None is: at news only."""
        self._runs += (when is not None) - (tracked.due is not None)
        tracked.due = when
        if when is None:
            return
        # The number keeps runs of one time in order, and from being compared.
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, tracked))
        if len(self._heap) > _MOST_STALE * (self._runs + 16):
            self._heap = [each for each in self._heap if _counts(each)]
            heapq.heapify(self._heap)

    def take(self, clock: float) -> Iterator[Tracked]:
        """Yield the runs whose time has come, each once; they are off the agenda then."""
        while (when := self.next()) is not None and when <= clock:
            tracked = heapq.heappop(self._heap)[2]
            self._runs -= 1
            tracked.due = None
            yield tracked

    def next(self) -> float | None:
        """Return the time of the next run, or None if there is none."""
        while self._heap and not _counts(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


def scan_interval(settings: ServiceSettings, watcher: str) -> float:
    """Return the seconds between two scans of all of staging."""
    return settings.scan_interval if watcher == EVENTS else settings.poll_interval


def next_scan(began: float, settings: ServiceSettings, watcher: str) -> float:
    """Return when to scan next; so many runs that it takes long are scanned less often."""
    clock, regular = time.monotonic(), scan_interval(settings, watcher)
    factor = _SCAN_FACTOR if watcher == EVENTS else _POLL_FACTOR
    pause = min(factor * (clock - began), _LATEST_SCAN * regular)
    return max(began + regular, clock + pause)


def is_worth_waiting(
    tracked: Tracked, when: float, settings: ServiceSettings, *, network: bool
) -> bool:
    """Return whether a single scan waits until then for a run to settle.

    It waits for as long as the first verdict said, and once more for the quiet time. Only a run
    that hasn't changed at all, and that nobody writes to, gets the longest quiet time.
    """
    if tracked.state is not State.SETTLING:
        return False
    if tracked.patience is None:
        clock = time.monotonic()
        longest = max(settings.quiet_time, settings.quiet_time_without_lease)
        if network:
            longest = max(longest, settings.quiet_time_network)
        first = min(when, clock + longest) + settings.quiet_time
        tracked.patience = (clock, first, clock + longest + settings.quiet_time)
    began, first, last = tracked.patience
    history = tracked.history
    is_still = history.since <= began and not history.writer and tracked.changes == 0
    return when <= (last if is_still else first)


def doubled(first: float, times: int, most: float) -> float:
    """Return a pause that is doubled each time, and capped."""
    pause: float = first * 2 ** min(times - 1, _MOST_DOUBLINGS)
    return min(pause, most)


def _counts(entry: tuple[float, int, Tracked]) -> bool:
    when, _, tracked = entry
    return tracked.due == when
