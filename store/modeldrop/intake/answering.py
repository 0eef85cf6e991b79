"""What a person asks of a run, done: it is tried again now, or left alone from now on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from modeldrop.intake import machine
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.dispatch import Become, Dispatch
from modeldrop.intake.requests import IGNORE, RunRequest
from modeldrop.intake.roster import Roster
from modeldrop.names import parse_guid, printable

_log = logging.getLogger(__name__)


class Answering:
    """Does what was asked for. For the loop's thread."""

    def __init__(
        self, roster: Roster, dispatch: Dispatch, become: Become, list_staging: Callable[[], object]
    ) -> None:
        """Answer for the runs of a roster, to which `list_staging` adds what has come since.

        `become` is told each new standing.
        """
        self._roster = roster
        self._dispatch = dispatch
        self._become = become
        self._list_staging = list_staging

    def answer(self, request: RunRequest) -> None:
        """Do what a person asked for."""
        tracked = self._find(request.run)
        action, who = printable(request.action), printable(request.asked_by)
        if tracked is None:
            shown = printable(request.run)
            _log.warning("%s asked to %s run %s, which isn't in staging", who, action, shown)
            return
        _log.info("%s asked to %s run %s", who, action, tracked.run, extra={"run": tracked.run})
        clock = time.monotonic()
        is_idle = tracked.flight is None and not tracked.standing.is_stored
        if request.action == IGNORE:
            self._dispatch.lanes.leave(tracked)
            tracked.ignored = f"ignored on request of {who}"
            self._dispatch.standings.keep(tracked)
            if is_idle:
                self._become(tracked, machine.ignored(tracked.standing, tracked.ignored, clock))
            return
        if tracked.ignored or is_idle:
            tracked.ignored = ""
            self._dispatch.standings.drop(tracked)
        self._dispatch.breaker.try_now(clock)
        if is_idle:
            self._become(tracked, machine.retried(tracked.standing, clock))

    def _find(self, run: str) -> Tracked | None:
        guid = parse_guid(run)
        if guid is None:
            return None
        if guid not in self._roster.runs:
            self._list_staging()
        return self._roster.runs.get(guid)
