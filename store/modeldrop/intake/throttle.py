"""How fast bytes move, and how fast they may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

# The longest sleep at a time, after which it is asked whether to go on.
_NAP: Final = 0.25
# How much may go at once after a pause: seconds of the limit.
_BURST: Final = 0.25
# Over how many seconds a rate is smoothed.
_SMOOTH: Final = 3.0


class Throttle:
    """A limit on the bytes a second that all threads together move; 0 is none."""

    def __init__(self, limit: int) -> None:
        """Allow `limit` bytes a second."""
        self._limit = limit
        self._lock = threading.Lock()
        self._free_at = 0.0

    def set(self, limit: int) -> None:
        """Allow another number of bytes a second from now on."""
        with self._lock:
            self._limit = limit
            self._free_at = 0.0

    def take(self, size: int, check: Callable[[], None]) -> None:
        """Wait until so many bytes more may have moved; `check` raises to end the wait."""
        if not self._limit:
            return
        with self._lock:
            if not self._limit:
                return
            clock = time.monotonic()
            begins = max(self._free_at, clock - _BURST)
            mine = self._free_at = begins + size / self._limit
        while (left := mine - time.monotonic()) > 0:
            check()
            time.sleep(min(left, _NAP))


class Rate:
    """Bytes a second, smoothed over the last few seconds. For one thread."""

    def __init__(self, clock: float) -> None:
        """Begin with nothing moved."""
        self._at, self._moved, self._rate = clock, 0, 0.0
        self._known = 0.0

    def at(self, clock: float, moved: int) -> float:
        """Return the rate, given how many bytes have moved altogether by now."""
        passed = clock - self._at
        if passed > 0:
            # Weighted by how long each of the two was watched, up to the last few seconds.
            weight = passed / (min(self._known, _SMOOTH) + passed)
            self._rate += weight * ((moved - self._moved) / passed - self._rate)
            self._known += passed
            self._at, self._moved = clock, moved
        return self._rate
