"""When staging is scanned, and how far a scan is: the truth, at a price that stays small.

Three rounds of different cost. The *listing* sees which runs there are. The *poll* looks at the
runs that aren't stored, every few seconds where no events tell of changes. The *sweep* lists, and
then looks at every run there is, stored or not: at the start, after any doubt, and every minute or
two. It goes on beside the loop's other work, a slice at a time, and is spaced by what it costs, so
that ten thousand stored runs take a two hundredth of a core at most.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from modeldrop.errors import NotFound
from modeldrop.intake import lease, walk
from modeldrop.intake.agenda import EVENTS, Tracked
from modeldrop.names import printable
from modeldrop.records import Refused
from modeldrop.settings import ServiceSettings

_log = logging.getLogger(__name__)

# How many times what a sweep took the next one waits: half a percent of a core.
_SPACED: Final = 199.0
# The same where somebody asked for it.
_SPACED_IN_DOUBT: Final = 9.0
# A folder's time may stay the same over changes within one tick of the kernel's clock, and some
# file systems have coarse ticks: so long after its last change it can be relied on.
_TICK: Final = 2.0


class Scanner:
    """What is due of the three rounds; times are of the monotonic clock. For the loop's thread."""

    def __init__(self, staging: Path, settings: ServiceSettings) -> None:
        """Begin with a sweep due at once."""
        self.settings = settings
        self._staging = staging
        self.network = False
        """Whether staging is on a network file system."""
        self.has_scanned = False
        """Whether a sweep has ended, or could not be made."""
        self.junk: dict[str, Refused] = {}
        """What stands in staging and is no run, by its name, or why staging can't be read."""
        self.has_news = False
        """Whether the last listing found other junk than the one before."""
        self.scans = 0
        """How many sweeps were made."""
        self.scan_seconds = 0.0
        """What the last one took of the loop's time."""
        self._list_due = float("inf")
        self._list_rests_until = 0.0
        self._poll_due = 0.0
        self._ended = float("-inf")
        self._in_doubt = True
        self._retry_at = 0.0
        self._sweep: deque[Tracked] | None = None
        self._began = 0.0
        self._spent = 0.0
        self._changed_at: tuple[int, int] | None = None

    @property
    def is_sweeping(self) -> bool:
        """Whether a sweep is under way."""
        return self._sweep is not None

    @property
    def is_in_doubt(self) -> bool:
        """Return whether a sweep that was asked for has yet to begin."""
        return self._in_doubt

    def is_junk(self, folder: str) -> bool:
        """Return whether the last listing found that this is no run, such as a second spelling."""
        return printable(folder) in self.junk

    # What is asked for

    def doubt(self, *, at_once: bool = False) -> None:
        """Have everything looked at, as soon as that is reasonable, or at once."""
        self._in_doubt = True
        if at_once:
            self._ended = float("-inf")

    def list_soon(self) -> None:
        """Have staging listed, as soon as that is reasonable."""
        self._list_due = max(time.monotonic(), self._list_rests_until)

    # What is due

    def polls(self, clock: float, watcher: str) -> bool:
        """Return whether the open runs are to be looked at now, since no events tell of them."""
        if watcher == EVENTS or clock < self._poll_due:
            return False
        self._poll_due = clock + self.settings.poll_interval
        if self._may_have_changed():
            self.list_soon()
        return True

    def lists(self, clock: float) -> bool:
        """Return whether staging is to be listed now."""
        return clock >= self._list_due

    def sweeps(self, clock: float, watcher: str) -> bool:
        """Return whether a sweep is to begin now."""
        return self._sweep is None and clock >= self._sweep_due(watcher)

    def next_due(self, watcher: str) -> float:
        """Return when there is something to do next: now, while a sweep is under way."""
        if self._sweep is not None:
            return 0.0
        dues = [self._list_due, self._sweep_due(watcher)]
        if watcher != EVENTS:
            dues.append(self._poll_due)
        return min(dues)

    def _sweep_due(self, watcher: str) -> float:
        regular = self.settings.scan_interval if watcher == EVENTS else self.settings.poll_interval
        due = self._ended + max(regular, _SPACED * self.scan_seconds)
        if self._in_doubt:
            due = min(due, self._ended + _SPACED_IN_DOUBT * self.scan_seconds)
        return max(due, self._retry_at)

    def _may_have_changed(self) -> bool:
        """Return whether there may be other entries at the top of staging than were listed."""
        if self.network:
            return True
        try:
            found = self._staging.stat()
        except OSError:
            return True
        return self._changed_at != (found.st_ino, found.st_mtime_ns)

    # What is done

    def listing(self) -> list[walk.Found] | None:
        """Return what stands at the top of staging, or None if that can't be told.

        What is no run is noted as `junk`, and so is the reason why nothing can be told.
        """
        began = time.monotonic()
        self._list_due = float("inf")
        try:
            # Before it is listed: what comes meanwhile changes the folder once more.
            before = self._staging.stat() if self._staging.exists() else None
            found = list(walk.runs(self._staging))
            self.network = lease.is_network(self._staging)
        except (NotFound, OSError) as error:
            shown = printable(str(self._staging))
            self._retry_at = self._list_due = began + self.settings.poll_interval
            self._changed_at = None
            self._sweep = None
            self.has_scanned = True
            self._note([Refused(shown, printable(f"staging can't be read: {error}"))])
            return None
        self._changed_at = None
        if before is not None and abs(time.time() - before.st_mtime) > _TICK:
            self._changed_at = (before.st_ino, before.st_mtime_ns)
        ended = time.monotonic()
        # On a network file system, nothing but a listing tells what is there.
        factor = _SPACED if self.network else _SPACED_IN_DOUBT
        self._list_rests_until = ended + factor * (ended - began)
        self._spent += ended - began
        self._note(
            Refused(printable(each.name), each.reason or "") for each in found if each.guid is None
        )
        return found

    def _note(self, found: Iterable[Refused]) -> None:
        """Take note of what is no run, and say each once."""
        junk = {each.path: each for each in found}
        for path, refused in junk.items():
            if path not in self.junk:
                _log.warning("left where it is: %s: %s", path, refused.reason)
        self.has_news = junk != self.junk
        self.junk = junk

    def begin(self, clock: float) -> None:
        """Begin a sweep; a listing goes before it, and counts."""
        self._began, self._spent, self._in_doubt = clock, 0.0, False

    def sweep(self, runs: Iterable[Tracked]) -> None:
        """Go on with these runs."""
        self._sweep = deque(runs)

    def next(self) -> Tracked | None:
        """Return the next run of the sweep that hasn't been looked at since it began, or None."""
        while self._sweep:
            tracked = self._sweep.popleft()
            if tracked.looked_at < self._began:
                return tracked
        if self._sweep is not None:
            self._sweep = None
            self._ended = time.monotonic()
            self.scan_seconds = self._spent
            self.scans += 1
            self.has_scanned = True
        return None

    def spent(self, seconds: float) -> None:
        """Count what a look of the sweep took."""
        self._spent += seconds
