"""What the engine tells of its runs, and when: the status file is not written at every byte."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final

from modeldrop.home import Home
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.status import DONE, RunStatus, write_status
from modeldrop.names import printable
from modeldrop.records import Refused, now

# How often the file may be written, and how many times what writing it took.
_INTERVAL: Final = 1.0
_REST_FACTOR: Final = 19.0


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

    def write(
        self,
        runs: Collection[Tracked],
        junk: Collection[Refused],
        watcher: str,
        *,
        force: bool = False,
    ) -> None:
        """Tell of all runs that need something still, if that is news and its time has come."""
        began = time.monotonic()
        if not force and (not self.stale or began < self.due):
            return
        self.stale = False
        write_status(
            self._home,
            at=now(),
            started_at=self._started_at,
            watcher=printable(watcher),
            committed=sum(each.state.value in DONE for each in runs),
            runs=tuple(
                status_of(each) for each in runs if each.state.value not in DONE or each.refused
            ),
            junk=tuple(junk),
        )
        ended = time.monotonic()
        self.due = ended + max(_INTERVAL, _REST_FACTOR * (ended - began))


def status_of(tracked: Tracked) -> RunStatus:
    """Return where a run stands."""
    next_try = None
    if tracked.due is not None and tracked.state.value not in DONE:
        pause = max(tracked.due - time.monotonic(), 0.0)
        when = datetime.now(UTC) + timedelta(seconds=pause)
        next_try = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return RunStatus(
        run=tracked.run,
        folder=printable(tracked.folder),
        state=tracked.state.value,
        reason=tracked.reason,
        since=tracked.since,
        next_try_at=next_try,
        revision=tracked.revision,
        sent=tracked.sent,
        size=_size(tracked),
        refused=tracked.refused,
    )


def _size(tracked: Tracked) -> int:
    """Return how many bytes a run has: as it was seen last, or as it was stored."""
    if tracked.observation is not None:
        return sum(each.signature.size for each in tracked.observation.files)
    return tracked.remembered.size if tracked.remembered else tracked.size


def junk_status(junk: Refused) -> RunStatus:
    """Return what is told of an entry of staging that is no run."""
    return RunStatus("", junk.path, "junk", junk.reason, now(), None, None, 0, 0, ())
