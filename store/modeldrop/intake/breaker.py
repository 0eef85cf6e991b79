"""Whether the backend is worth trying: one probe at a time while it is away. Pure, over a clock.

Each run tried by itself would be a storm: ten thousand runs that wait for a backend that is down,
each with a back-off of its own, are hundreds of attempts a second. So trouble of the backend is
counted here, for all runs together. While the breaker is open, one attempt at a time is made, each
a capped, doubled and jittered pause after the last one; the first that succeeds closes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modeldrop.errors import BackendError, BackendRefused, BackendUnreachable, BucketNotFound
from modeldrop.intake.machine import Patience

# So many runs that failed one after the other, with no success in between, are its fault.
_IN_A_ROW: Final = 3


class Breaker:
    """The state of one backend; times are of one monotonic clock. For one thread."""

    def __init__(self, patience: Patience, luck: Callable[[], float]) -> None:
        """Begin closed; `luck` returns a number of 0 to 1, for the jitter."""
        self.patience = patience
        self._luck = luck
        self._in_a_row: set[str] = set()
        self._tries = 0
        self.reason = ""
        """Why the backend is waited for; empty while it answers."""
        self.step = ""
        """What a person may do about it."""
        self.since = 0.0
        """Since when it is waited for."""
        self.next_try = 0.0
        """When it may be tried next."""

    @property
    def is_open(self) -> bool:
        """Whether the backend is waited for."""
        return bool(self.reason)

    def allows(self, now: float, *, probing: bool) -> bool:
        """Return whether another attempt may begin; `probing` says whether a probe is under way."""
        return not self.is_open or (not probing and now >= self.next_try)

    def failed(
        self, run: str, error: Exception, reason: str, step: str, now: float, *, probe: bool
    ) -> bool:
        """Take note of a failed attempt; return whether it is the backend's fault, not the run's.

        `probe` says whether the attempt was begun while the breaker was open.
        """
        if not isinstance(error, BackendError):
            return False
        self._in_a_row.add(run)
        if not (self.is_open or is_away(error) or len(self._in_a_row) >= _IN_A_ROW):
            return False
        if self.is_open and not probe:
            # It was under way already when the first one failed, and says nothing new.
            return True
        if not self.is_open:
            self.since = now
        self._tries += 1
        self.reason, self.step = reason, step
        self.next_try = now + self.patience.after(self._tries, self._luck())
        return True

    def succeeded(self) -> None:
        """Take note that the backend answered as it should."""
        self._in_a_row.clear()
        self._tries = 0
        self.reason = ""

    def try_now(self, now: float) -> None:
        """Have the next attempt made at once: a person asked for it."""
        self.next_try = min(self.next_try, now)


def is_away(error: Exception) -> bool:
    """Return whether one such error says that no other run would fare better."""
    return isinstance(error, BackendUnreachable | BackendRefused | BucketNotFound)
