"""The runs in staging that the engine knows, counted and sorted by what there is to do."""

from __future__ import annotations

import time

from modeldrop.intake import machine, memory
from modeldrop.intake.agenda import Agenda, Tracked
from modeldrop.intake.attempts import Attempts
from modeldrop.intake.machine import Standing
from modeldrop.intake.settling import History
from modeldrop.intake.standings import Standings
from modeldrop.intake.summary import no_runs
from modeldrop.layout import HomePaths


class Roster:
    """Every run that is known, and which are not stored; for the loop's thread.

    Nothing in here costs by how many runs there are, but `runs` itself.
    """

    def __init__(self, paths: HomePaths, standings: Standings) -> None:
        """Begin with none; what is remembered of a run is recalled when it is added."""
        self._paths = paths
        self._standings = standings
        self.runs: dict[str, Tracked] = {}
        """All of them, by their GUID."""
        self.open: dict[str, Tracked] = {}
        """Those that aren't stored."""
        self.partial: dict[str, Tracked] = {}
        """Those that are stored but for what was refused."""
        self.counts = no_runs()
        """How many there are in each state."""
        self.agenda = Agenda()

    def add(self, guid: str, folder: str) -> Tracked:
        """Return a run that was found in staging, as it was left by whoever saw it last."""
        clock = time.monotonic()
        remembered = memory.recall(self._paths, guid)
        history = remembered.history(clock) if remembered else History()
        standing = Standing(history, since=clock, revision=remembered.revision if remembered else 0)
        tracked = Tracked(guid, folder, standing, size=remembered.size if remembered else 0)
        tracked.wish = remembered.wish if remembered else None
        kept = self._standings.recall(guid)
        if kept is not None:
            if kept.sent:
                tracked.attempts = Attempts(kept.sent, self._paths.begun_uploads(guid))
            if kept.ignored:
                tracked.ignored = kept.reason
                tracked.standing = machine.ignored(standing, kept.reason, clock)
            elif kept.parked is not None:
                tracked.standing = machine.refused(standing, kept.reason, kept.parked, clock)
        self.runs[guid] = self.open[guid] = tracked
        self.counts[tracked.state.value] += 1
        return tracked

    def remove(self, tracked: Tracked) -> None:
        """Know of a run no more."""
        self.agenda.put(tracked, None)
        self.counts[tracked.state.value] -= 1
        self.open.pop(tracked.run, None)
        self.partial.pop(tracked.run, None)
        del self.runs[tracked.run]

    def become(self, tracked: Tracked, standing: Standing) -> None:
        """Take note of where a run stands now."""
        self.counts[tracked.state.value] -= 1
        self.counts[standing.state.value] += 1
        tracked.standing = standing
        if not standing.is_stored:
            self.open[tracked.run] = tracked
            self.partial.pop(tracked.run, None)
            return
        self.open.pop(tracked.run, None)
        if standing.complaints:
            self.partial[tracked.run] = tracked
        else:
            self.partial.pop(tracked.run, None)
