"""The watcher: sees to it that staging is watched by the kernel's events, or said to be polled.

Events are hints; a scan is the truth. So nothing here has to be right, it only has to know when
it is no longer to be trusted: then everything is scanned, the watch is built anew, and until that
has worked the engine polls. What raises a doubt is in `events`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from modeldrop.intake import WatcherStatus, is_network
from modeldrop.names import printable
from modeldrop_daemon.events import Hints, Watch

_log = logging.getLogger(__name__)

# How often it is asked whether the watch is to be trusted; this costs microseconds.
_CHECK_INTERVAL: Final = 1.0
# Seconds before a watch that could not be built is tried again: doubled each time, up to the
# second. A watch that has held for as long as that is no failure any more.
_FIRST_RETRY: Final = 1.0
_MOST_RETRY: Final = 30.0
# A watch that covers a part of staging is built anew less often: that costs by how large it is.
_LIMITED_RETRY: Final = 300.0


class Watcher:
    """Watches over a staging folder, and over itself. `check` and `close` are for one thread."""

    def __init__(
        self,
        staging: Path,
        hints: Hints,
        *,
        mode: str,
        poll_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch nothing yet: `check` begins. `mode` is the setting `watcher`."""
        self._staging = staging
        self._hints = hints
        self._clock = clock
        self._watch: Watch | None = None
        self._doubt = ""
        self._built_at = 0.0
        self._retry = 0.0
        self._retry_at = 0.0
        self._overflows = 0
        self._rebuilds = 0
        self._is_limited = False
        self.set(mode=mode, poll_interval=poll_interval)

    def set(self, *, mode: str, poll_interval: float) -> None:
        """Use other settings from the next `check` on."""
        self._mode = mode
        self._poll_interval = poll_interval
        self._retry = self._retry_at = 0.0

    @property
    def state(self) -> str:
        """How staging is watched: `events`, `none`, or `polling` or `degraded` and the reason.

        In every state but `events` the engine scans all the time; degraded, events make it quick
        for a part of staging.
        """
        if self._mode == "none":
            return "none"
        if self._watch is None:
            return f"polling: {self._doubt}"
        return f"degraded: {self._watch.limit}" if self._watch.limit else "events"

    def report(self) -> WatcherStatus:
        """Return the state, and what went wrong since the start."""
        overflows = self._overflows + (self._watch.overflows if self._watch else 0)
        return WatcherStatus(self.state, overflows, self._rebuilds)

    def check(self) -> float:
        """See to it that staging is watched or polled; return the seconds until the next check.

        After it, everything in staging is either seen by the watch or hinted to be scanned.
        """
        if self._mode == "none":
            self._end_watch()
            # The engine scans by itself; this is how a change of the mode is noticed.
            return self._poll_interval
        now = self._clock()
        if self._watch is not None:
            doubt = self._watch.doubt()
            if doubt is None and not (self._watch.limit and now >= self._retry_at):
                self._note_limit(now)
                return _CHECK_INTERVAL
            if doubt is not None:
                _log.warning("the watch of staging is built anew: %s", doubt)
                if now - self._built_at > _MOST_RETRY:
                    self._retry = 0.0
                self._doubt = doubt
                self._retry_at = now + self._retry
                self._back_off()
            self._rebuilds += 1
            self._end_watch()
        if now >= self._retry_at:
            self._build(now)
        if self._watch is not None:
            return _CHECK_INTERVAL
        return min(max(self._retry_at - now, 0.0), self._poll_interval)

    def _note_limit(self, now: float) -> None:
        """Say once that a part of staging isn't watched, and try all of it again some time."""
        if self._watch is not None and self._watch.limit and not self._is_limited:
            self._is_limited = True
            self._retry_at = now + _LIMITED_RETRY
            _log.warning("a part of staging isn't watched: %s", self._watch.limit)

    def close(self) -> None:
        """Let go of the kernel's watches."""
        self._end_watch()

    def _build(self, now: float) -> None:
        try:
            if is_network(self._staging):
                doubt = "a network file system sends no events"
            else:
                self._watch = Watch(self._staging, self._hints)
                # What came before the watch was there is found by a scan that comes after.
                self._hints.hint()
                self._built_at = now
                self._is_limited = False
                self._note_limit(now)
                _log.debug("staging is watched")
                return
        except (OSError, RuntimeError) as error:
            doubt = f"staging can't be watched: {printable(str(error))}"
        if doubt != self._doubt:
            _log.warning("%s; it is scanned every %g s", doubt, self._poll_interval)
        self._doubt = doubt
        self._back_off()
        self._retry_at = now + self._retry

    def _back_off(self) -> None:
        self._retry = min(max(self._retry * 2, _FIRST_RETRY), _MOST_RETRY)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._overflows += self._watch.overflows
            self._watch.end()
            self._watch = None
