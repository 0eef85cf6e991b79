"""What the engine knows of each run in staging, and which of them is to be looked at when.

A run that is not in flight and not in the queue is either on the agenda or waits for news: a hint
or a scan puts it there. Nothing else decides when a run is looked at, so nothing can be forgotten.
Taking what is due costs by what is due, however many runs there are.
"""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING, Final

from modeldrop.intake.machine import Standing
from modeldrop.intake.settling import State
from modeldrop.records import Refused
from modeldrop.settings import ServiceSettings
from modeldrop.structs import Struct

if TYPE_CHECKING:
    from modeldrop.intake.attempts import Attempts
    from modeldrop.intake.declared import Wish
    from modeldrop.intake.flights import Flight
    from modeldrop.intake.looking import Looked

# What the watcher is while the kernel's events tell of changes; anything else is polling.
EVENTS: Final = "events"
# Entries that don't count any more are dropped once they are this many times the runs.
_MOST_STALE: Final = 4


class Tracked(Struct):
    """One run folder that the engine knows; it belongs to the loop's thread.

    There may be a hundred thousand of them, so what only some runs need is made when they do.
    """

    run: str
    folder: str
    standing: Standing
    size: int = 0
    """How many bytes it has, as it was seen last or as it was stored."""
    due: float | None = None
    """When it is looked at next; set by `Agenda.put` alone."""
    rests_until: float = 0.0
    """Hints and scans bring no look before this: it was looked at only just now."""
    patience: tuple[float, float, float] | None = None
    """When a single scan began to wait for it, until when, and until when if it is still."""
    attempts: Attempts | None = None
    """What of it was sent already, if anything was begun and not committed."""
    flight: Flight | None = None
    """What a thread does with it now."""
    is_queued: bool = False
    """Whether it is complete, and waits for its turn or for the backend."""
    looked: Looked | None = None
    """What was seen of it a moment ago, if it waits for its turn since then."""
    has_turn: bool = False
    """Whether its turn has come, and a thread is free for it."""
    ignored: str = ""
    """Why it is left alone, if a person wants that; it holds until a retry."""
    looked_at: float = 0.0
    """When it was looked at last."""
    is_stale: bool = False
    """Whether a hint came since it was looked at last."""
    news_at: float = 0.0
    """When the last hint came."""
    wish: Wish | None = None
    """That it be registered, until it is or can't be."""

    @property
    def state(self) -> State:
        """The state that it is in."""
        return self.standing.state

    @property
    def reason(self) -> str:
        """Why it is in that state, for people; may be empty."""
        return self.standing.reason

    @property
    def revision(self) -> int | None:
        """Its last revision, as far as is known."""
        return self.standing.revision or None

    @property
    def refused(self) -> tuple[Refused, ...]:
        """What of it isn't stored, or not done that it asks for, and why."""
        return self.standing.complaints

    @property
    def failures(self) -> int:
        """How many attempts in a row failed."""
        return self.standing.failures


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

    def take(self, clock: float) -> Tracked | None:
        """Return the run whose time came first, off the agenda, or None if none's has come."""
        when = self.next()
        if when is None or when > clock:
            return None
        tracked = heapq.heappop(self._heap)[2]
        self._runs -= 1
        tracked.due = None
        return tracked

    def next(self) -> float | None:
        """Return the time of the next run, or None if there is none."""
        while self._heap and not _counts(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


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
    standing = tracked.standing
    history = standing.history
    is_still = history.since <= began and not history.writer and standing.changes == 0
    return when <= (last if is_still else first)


def _counts(entry: tuple[float, int, Tracked]) -> bool:
    when, _, tracked = entry
    return tracked.due == when
