"""The canary: proof that a change in staging still reaches us, by a change of our own.

The file stays where it is and is never written to: it is opened for writing and closed, which
raises the same event as a drop's last close, costs no write to the disk, needs no space, and
leaves the times of staging as they are.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from modeldrop.intake.walk import OWN_PREFIX

NAME: Final = f"{OWN_PREFIX}canary"

# Seconds between two songs.
_INTERVAL: Final = 30.0
# It is heard within milliseconds. Seconds without any event at all, after which it was not; and
# seconds after which it was not, although others come: a burst of them may stand before it.
_PATIENCE: Final = 5.0
_MOST_PATIENCE: Final = 60.0
# A process that was stopped finds that much time has gone by when it goes on, before its other
# threads had a turn.
_LEAST_LOOKS: Final = 3

# Whoever else may write to staging gains nothing by putting something else in its place.
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Canary:
    """The canary of one watch. Times are those of the caller's clock, in seconds."""

    def __init__(self, staging: Path) -> None:
        """Be silent until the first `look`."""
        self._path = staging / NAME
        self._next = float("-inf")
        self._sung: float | None = None
        self._heard = 0
        self._taken = 0
        self._quiet_since = 0.0
        self._looks = 0
        self.proven = False
        """Whether it was heard once, or can't be written, and nothing speaks against the watch."""
        self.mute = ""
        """Why it can't be written, which is no doubt about the watch; empty if it can."""

    def look(self, now: float, *, heard: int, taken: int) -> str | None:
        """Sing if it is time; return why the watch isn't to be trusted, or None.

        `heard` and `taken` count the events of the canary, and all of them, since the watch began.
        """
        if self._sung is not None:
            self._looks += 1
            if heard != self._heard:
                self._sung, self.proven = None, True
            elif taken != self._taken:
                self._taken, self._quiet_since = taken, now
            if self._sung is not None and self._looks >= _LEAST_LOOKS:
                late = now - self._quiet_since >= _PATIENCE
                if late or now - self._sung >= _MOST_PATIENCE:
                    return "a change made to prove the watch brought no event"
        if self._sung is None and now >= self._next:
            self._heard, self._taken = heard, taken
            self._sing(now)
        return None

    def _sing(self, now: float) -> None:
        self._next = now + _INTERVAL
        self._quiet_since, self._looks = now, 0
        try:
            os.close(os.open(self._path, _FLAGS, 0o600))
        except OSError as error:
            self.mute, self.proven = str(error), True
        else:
            self._sung, self.mute = now, ""


def remove(staging: Path) -> None:
    """Remove the canary, which a service that was killed leaves; it may not be there."""
    with contextlib.suppress(OSError):
        (staging / NAME).unlink()
