"""Others who register at the same time, and how long to wait for them."""

from __future__ import annotations

import random
import time
from typing import Final

# How long a crowd makes others wait at most, and for how long it is expected to be there still.
_LONGEST_WAIT: Final = 8.0
_REMEMBERED: Final = 60.0


class Crowd:
    """How much others register at the same time, by what this process has met.

    Whoever waits after it has looked has to read all that others append meanwhile; whoever waits
    before it looks gets past them for nothing. So the pause that a crowd asks for is made before
    the next registration, twice as long after each that met others and half as long otherwise.
    """

    def __init__(self) -> None:
        """Expect nobody."""
        self._pause = 0.0
        self._met_at = time.monotonic()

    def wait(self) -> None:
        """Wait as long as the crowd asks for, if one was met lately."""
        if time.monotonic() - self._met_at > _REMEMBERED:
            self._pause = 0.0
        time.sleep(random.uniform(0, self._pause))  # noqa: S311 - jitter, no secret

    def met(self, others: int, seconds: float) -> None:
        """Take note of how many others a registration met, and how long it took to append."""
        self._met_at = time.monotonic()
        self._pause = (
            min(max(2 * self._pause, seconds), _LONGEST_WAIT) if others else self._pause / 2
        )
