"""What the engine tells of its runs, and when: the status file is not written at every byte."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.settling import State
from modeldrop.intake.status import MOST_SHOWN, RunStatus, WatcherStatus, write_status
from modeldrop.intake.summary import Summary
from modeldrop.names import printable
from modeldrop.records import Refused
from modeldrop.structs import replace

# How often the file may be written, and how many times what writing it took; but a disk that was
# busy for once keeps nobody from the news for longer than this.
_INTERVAL: Final = 1.0
_REST_FACTOR: Final = 49.0
_LONGEST_REST: Final = 5.0


class Board:
    """The status file of an engine."""

    def __init__(self, home: Home) -> None:
        """Write to the home's."""
        self._home = home
        self._started_at = now()
        self.due = 0.0
        """When it may be written next, by the monotonic clock."""
        self.stale = True
        """Whether there is anything new to tell."""
        self.oldest_waiting = 0.0
        """For how many seconds the run has been waiting that waits longest, when last told."""

    def write(
        self,
        runs: Iterable[Tracked],
        junk: Iterable[Refused],
        watcher: WatcherStatus,
        summary: Summary,
        *,
        force: bool = False,
    ) -> None:
        """Tell of the runs that need something still, if that is news and its time has come."""
        began = time.monotonic()
        if not force and (not self.stale or began < self.due):
            return
        self.stale = False
        waiting = list(runs)
        since = min(
            (each.standing.since for each in waiting if not each.standing.is_stored), default=began
        )
        self.oldest_waiting = began - since
        write_status(
            self._home,
            at=now(),
            started_at=self._started_at,
            watcher=watcher,
            summary=replace(summary, oldest_waiting=self.oldest_waiting),
            runs=tuple(_told(each, summary) for each in sorted(waiting, key=_urgency)[:MOST_SHOWN]),
            junk=tuple(islice(junk, MOST_SHOWN)),
        )
        ended = time.monotonic()
        rest = max(_INTERVAL, _REST_FACTOR * (ended - began))
        self.due = ended + min(rest, _LONGEST_REST)


def _urgency(tracked: Tracked) -> int:
    """Return what sorts what moves and what needs somebody before what just waits."""
    if tracked.flight is not None:
        return 0
    return 1 if tracked.state is State.PARKED or tracked.failures or tracked.refused else 2


def _told(tracked: Tracked, summary: Summary) -> RunStatus:
    status = status_of(tracked)
    if tracked.is_queued and tracked.state is State.BLOCKED:
        return replace(status, next_try_at=summary.backend_next_try_at)
    return status


def status_of(tracked: Tracked) -> RunStatus:
    """Return where a run stands."""
    flight, standing = tracked.flight, tracked.standing
    is_due = tracked.due is not None and not standing.is_stored
    return RunStatus(
        run=tracked.run,
        folder=printable(tracked.folder),
        state=standing.state.value,
        reason=standing.reason,
        since=wall_time(standing.since),
        next_try_at=wall_time(max(tracked.due or 0.0, time.monotonic())) if is_due else None,
        revision=tracked.revision,
        sent=flight.done if flight else tracked.size * standing.is_stored,
        size=tracked.size,
        rate=int(flight.rate()) if flight else 0,
        refused=standing.complaints,
    )


def junk_status(junk: Refused) -> RunStatus:
    """Return what is told of an entry of staging that is no run."""
    return RunStatus("", junk.path, "junk", junk.reason, now(), None, None, 0, 0, 0, ())


def wall_time(clock: float) -> str:
    """Return a time of the monotonic clock as UTC, RFC 3339."""
    when = datetime.now(UTC) + timedelta(seconds=clock - time.monotonic())
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
