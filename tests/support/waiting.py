"""Waiting for what another process does: a condition and a deadline, never a fixed time."""

import time
from collections.abc import Callable
from typing import Final

POLL_INTERVAL: Final = 0.02
"""Seconds between two looks."""


def comes_true(condition: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Say whether a condition comes to hold within so many seconds.

    The timeout is for the day when the machine is busy: a test that passes never waits for it.
    The condition is looked at once more after the time is over, or a long stop of this process
    would be taken for a failure of the other.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(POLL_INTERVAL)
    return condition()
