"""What the service keeps on the disk of runs that aren't committed, so that no restart loses it.

Staging itself is the queue; what it can't say is written down: that a run is parked as it is, so
that it isn't sent again to be refused again; that a person wants it ignored; and which of its
files are at the backend already. One record a run, in `service/standing/` of the home, gone once
the run is committed and not to be ignored. It is a cache: without it, a run is tried once more.
"""

from __future__ import annotations

import contextlib
import os
from typing import ClassVar

from modeldrop.errors import IntegrityError, ModeldropError
from modeldrop.files import make_folders, write_quick
from modeldrop.form import Record, now
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.attempts import SentFile, forget_old
from modeldrop.layout import HomePaths


class RunStanding(Record):
    """`service/standing/<run>.json`: `parked` is the signature of what can't be stored."""

    kind: ClassVar[str] = "run-standing"
    indent: ClassVar[int | None] = None
    run: str
    ignored: bool
    parked: str | None
    reason: str
    noted_at: str
    sent: tuple[SentFile, ...]


class Standings:
    """The kept standings of a home. For one thread."""

    def __init__(self, paths: HomePaths) -> None:
        """Look once which runs have one: most have none."""
        self._paths = paths
        folder = paths.standing("").parent
        self._there: set[str] = set()
        with contextlib.suppress(FileNotFoundError):
            self._there = {name.removesuffix(".json") for name in os.listdir(folder)}
        forget_old(paths)
        self._folder = folder

    def recall(self, run: str) -> RunStanding | None:
        """Return what is kept of a run, or None if that is nothing that can be relied on."""
        if run not in self._there:
            return None
        path = self._paths.standing(run)
        try:
            found = RunStanding.from_bytes(path.read_bytes(), str(path))
        except (OSError, IntegrityError):
            return None
        return found if found.run == run else None

    def keep(
        self,
        tracked: Tracked,
        reason: str = "",
        *,
        parked: str | None = None,
        sent: tuple[SentFile, ...] = (),
    ) -> None:
        """Write down where a run stands; that it can't be written fails nothing."""
        ignored, run = tracked.ignored, tracked.run
        record = RunStanding(run, bool(ignored), parked, ignored or reason, now(), sent)
        path = self._paths.standing(run)
        with contextlib.suppress(OSError, ModeldropError):
            if not self._there:
                make_folders(self._folder)
            write_quick(path, record.to_bytes())
            self._there.add(run)

    def drop(self, tracked: Tracked) -> None:
        """Forget all of a run that is committed, tried anew, or gone, but that it is ignored."""
        if tracked.ignored:
            self.keep(tracked)
        elif tracked.run in self._there:
            self._there.discard(tracked.run)
            with contextlib.suppress(OSError):
                self._paths.standing(tracked.run).unlink()

    def runs(self) -> frozenset[str]:
        """Return the runs of which something is kept."""
        return frozenset(self._there)
