"""The watcher's supervisor: staging is watched, provably, or it is polled.

The watch is proven alive, and built anew with back-off on any doubt: a canary (a change of our own
has to bring its event), the identity of staging (deleted, replaced, another disk mounted over it),
the threads of watchdog, whatever it or the kernel complains of (a handler that failed, an overflow
of the kernel's queue), and a survey, which holds the folders of staging against the kernel's own
list of watches. Each new watch is followed by a full scan.

While it doesn't stand, `state` is not `events`, by which the engine knows that it has to scan
every `poll_interval`. Where the kernel grants too few watches, the top of staging alone is watched
meanwhile, so that what arrives whole is still noticed at once.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from modeldrop.form import now as utc_now
from modeldrop.intake import is_network
from modeldrop.names import printable
from modeldrop.structs import Frozen
from modeldrop_daemon import canary, limits
from modeldrop_daemon.canary import Canary
from modeldrop_daemon.events import Events, Hints
from modeldrop_daemon.inotify import WatchLimitReached
from modeldrop_daemon.survey import Survey

_log = logging.getLogger(__name__)

# How often it is asked whether the watch is to be trusted; this costs microseconds.
_CHECK_INTERVAL: Final = 1.0
# Seconds before a watch that could not be built is tried again: doubled each time, up to the
# second. A watch that has held for as long as that is no failure any more.
_FIRST_RETRY: Final = 1.0
_MOST_RETRY: Final = 30.0
# The same where the kernel grants too few watches: each try takes all that there are.
_FIRST_LIMIT_RETRY: Final = 60.0
_MOST_LIMIT_RETRY: Final = 900.0
# How long the first canary of a watch is waited for, which takes milliseconds. Where it is not
# heard, staging is polled until it is.
_FIRST_SONG: Final = 1.0


class WatcherReport(Frozen):
    """How the watcher is, for the status file and the metrics."""

    state: str
    """`events`, `none`, or `polling: ` or `degraded: ` and the reason."""
    since: str
    """Since when it is in this state."""
    watches: int
    """How many folders are watched."""
    overflows: int
    """How often the kernel dropped events, since the start."""
    rebuilds: int
    """How often the watch was built anew, since the start."""
    doubt: str
    """Why it was not trusted last; empty if it always was."""


class Watcher:
    """Watches over a staging folder, and over itself.

    `report` may be called from any thread; everything else is for one.
    """

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
        self._events: Events | None = None
        self._canary = Canary(staging)
        self._survey: Survey | None = None
        self._built_at = 0.0
        self._builds = 0
        self._overflows = 0
        self._why = "not watched yet"
        self._doubt = ""
        self._mute = ""
        self._limited = False
        self._retry = self._retry_at = 0.0
        # One that was killed may have left it, and this one may never sing.
        canary.remove(staging)
        self.set(mode=mode, poll_interval=poll_interval)
        self._stated, self._since = self.state, utc_now()

    def set(self, *, mode: str, poll_interval: float) -> None:
        """Use other settings from the next `check` on."""
        self._mode = mode
        self._poll_interval = poll_interval
        self._retry = self._retry_at = 0.0

    @property
    def state(self) -> str:
        """How staging is watched: `events`, `none`, or `polling: ` or `degraded: ` and why."""
        if self._mode == "none":
            return "none"
        # Read once: another thread may end the watch meanwhile.
        events = self._events
        if events is None or not events.deep:
            return f"{'degraded' if self._limited else 'polling'}: {self._why}"
        return "events" if self._canary.proven else "polling: the watch is not proven alive yet"

    def report(self) -> WatcherReport:
        """Return how the watcher is."""
        events = self._events
        return WatcherReport(
            state=self.state,
            since=self._since,
            watches=len(events.believed()) if events is not None else 0,
            overflows=self._overflows,
            rebuilds=max(self._builds - 1, 0),
            doubt=self._doubt,
        )

    def check(self) -> float:
        """See to it that staging is watched, if it can be; return the seconds until the next check.

        After it, everything in staging is either seen by the watch or hinted to be scanned, or
        `state` tells the engine to scan again and again.
        """
        pause = self._check(self._clock())
        if self.state != self._stated:
            self._stated, self._since = self.state, utc_now()
        return pause

    def close(self) -> None:
        """Let go of the kernel's watches, and leave nothing in staging."""
        self._end_watch()
        canary.remove(self._staging)

    def _check(self, now: float) -> float:
        if self._mode == "none":
            if self._events is not None:
                self.close()
            # The engine scans by itself; this is how a change of the mode is noticed.
            return self._poll_interval
        if self._events is not None:
            doubt = self._find_doubt(self._events, now)
            if doubt is not None:
                self._take_doubt(doubt, now)
        if (self._events is None or not self._events.deep) and self._may_retry(now):
            self._build(now)
        if self._events is not None:
            return _CHECK_INTERVAL
        return max(self._retry_at - now, 0.0)

    def _find_doubt(self, events: Events, now: float) -> str | None:
        doubt = events.doubt()
        if doubt is None:
            doubt = self._canary.look(now, heard=events.heard, taken=events.taken)
            if self._canary.mute != self._mute:
                self._mute = self._canary.mute
                if self._mute:
                    _log.warning("the watch can't be proven alive: %s", printable(self._mute))
        if doubt is None and self._survey is not None:
            doubt = self._survey.step(now)
        return doubt

    def _take_doubt(self, doubt: str, now: float) -> None:
        # Where no events come at all, it is said once.
        again = doubt == self._doubt and not self._canary.proven
        _log.log(
            logging.DEBUG if again else logging.WARNING,
            "the watch of staging is built anew: %s",
            doubt,
        )
        self._end_watch()
        if now - self._built_at > _MOST_RETRY:
            self._retry = 0.0
        self._why = self._doubt = doubt
        self._limited = False
        self._wait_retry(now, self._retry)
        self._back_off(_FIRST_RETRY, _MOST_RETRY)

    def _may_retry(self, now: float) -> bool:
        # Whoever raises the limit sees what it does at once.
        return now >= self._retry_at or (self._limited and limits.no_more_watches() != self._why)

    def _build(self, now: float) -> None:
        self._limited = False
        try:
            if is_network(self._staging):
                why = "a network file system sends no events"
            else:
                self._take(self._make(deep=True), now)
                _log.debug("staging is watched")
                return
        except WatchLimitReached:
            self._degrade(now)
            return
        except OSError as error:
            if error.errno == errno.EMFILE:
                why = limits.no_more_instances()
            else:
                why = f"staging can't be watched: {printable(str(error))}"
        except RuntimeError as error:
            why = f"staging can't be watched: {printable(str(error))}"
        self._end_watch()
        self._say(why)
        self._back_off(_FIRST_RETRY, _MOST_RETRY)
        self._wait_retry(now, self._retry)

    def _degrade(self, now: float) -> None:
        """Watch the top of staging alone: the kernel grants no more."""
        why = limits.no_more_watches()
        try:
            if self._events is None:
                self._take(self._make(deep=False), now)
        except (WatchLimitReached, OSError, RuntimeError):
            # Not even that. Then it is only polled.
            self._end_watch()
        self._say(why)
        self._limited = True
        self._back_off(_FIRST_LIMIT_RETRY, _MOST_LIMIT_RETRY)
        self._wait_retry(now, self._retry)

    def _make(self, *, deep: bool) -> Events:
        return Events(
            self._staging,
            self._hints,
            deep=deep,
            canary=canary.NAME,
            overflowed=self._count_overflow,
        )

    def _take(self, events: Events, now: float) -> None:
        """Rely on a watch from now on."""
        self._end_watch()
        self._events = events
        self._canary = Canary(self._staging)
        self._survey = Survey(events, now) if events.deep else None
        self._built_at = now
        self._builds += 1
        # What came before the watch was there is found by a scan that comes after.
        self._hints.hint()
        if self._find_doubt(events, now) is None and not self._canary.proven:
            events.wait_heard(_FIRST_SONG)
            self._canary.look(now, heard=events.heard, taken=events.taken)

    def _say(self, why: str) -> None:
        if why != self._why:
            _log.warning("%s; staging is scanned every %g s", why, self._poll_interval)
        self._why = why

    def _wait_retry(self, now: float, seconds: float) -> None:
        # Spread, so that services that failed together don't all come back together.
        self._retry_at = now + random.uniform(seconds / 2, seconds)  # noqa: S311 - no secret

    def _back_off(self, first: float, most: float) -> None:
        self._retry = min(max(self._retry * 2, first), most)

    def _count_overflow(self) -> None:
        # One thread reads, and the one before it has ended: nothing is counted at the same time.
        self._overflows += 1

    def _end_watch(self) -> None:
        if self._events is not None:
            self._events.end()
            self._events = self._survey = None
