"""Markers that are spent: a `_SUCCESS` completes one revision, and then says nothing more.

The memory of a run says which marker that was, and comes after the commit. Until it is there, this
says the same: written before the commit, with the upload by which it shows afterwards whether the
revision came to be. So whatever dies in between, or breaks off, what is written into the run later
isn't stored by the word of the old marker. One record a run, in `service/spent/` of the home, gone
once the run is remembered. It is a cache: a power loss may take it.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import datetime
from typing import ClassVar

from modeldrop.errors import ModeldropError, SourceChanged
from modeldrop.files import write_quick
from modeldrop.form import Record, now
from modeldrop.intake.observation import Observation, Signature
from modeldrop.intake.settling import History
from modeldrop.layout import HomePaths
from modeldrop.names import MARKER
from modeldrop.records import Revision
from modeldrop.structs import replace


class SpentMarker(Record):
    """`service/spent/<run>.json`: what was seen, and is about to become a revision by a marker."""

    kind: ClassVar[str] = "spent-marker"
    indent: ClassVar[int | None] = None
    run: str
    upload: str
    """That of the revision, if it came to be."""
    signature: str
    marker: str
    noted_at: str

    def made(self, last: Revision | None) -> bool:
        """Return whether the last revision of the run is the one that the marker completed."""
        return last is not None and last.upload == self.upload

    def allows(self, seen: Observation) -> bool:
        """Return whether a run is what the marker completed, or has another marker by now."""
        marker = seen.marker.signature.spelled() if seen.marker else None
        return marker != self.marker or seen.signature() == self.signature

    def history(self, before: History, clock: float) -> History:
        """Return the history with the commit in it that nobody remembers; `clock` is the time."""
        age = time.time() - datetime.fromisoformat(self.noted_at).timestamp()
        return replace(
            before,
            committed=self.signature,
            committed_marker=Signature.parse(self.marker),
            # A clock that was set back must not hold the next revision up for longer.
            committed_at=clock - max(age, 0.0),
        )


class MarkerSpent(SourceChanged):
    """A run is complete by the word of a marker only that was spent on its last revision."""

    def __init__(self, spent: SpentMarker, revision: int) -> None:
        """Say of which marker and of which revision."""
        message = f"run {spent.run} changed after revision {revision} was stored by its {MARKER}"
        super().__init__(message, hint="nothing to do: it is stored once it is quiet")
        self.spent = spent
        self.revision = revision


def note(paths: HomePaths, run: str, upload: str, seen: Observation) -> None:
    """Write down whose word a revision is about to be made by; that it can't be fails nothing."""
    if seen.marker is None:
        return
    spent = SpentMarker(run, upload, seen.signature(), seen.marker.signature.spelled(), now())
    path = paths.spent_marker(run)
    with contextlib.suppress(OSError, ModeldropError):
        try:
            write_quick(path, spent.to_bytes())
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_quick(path, spent.to_bytes())


def recall(paths: HomePaths, run: str) -> SpentMarker | None:
    """Return what was noted of a run, or None if that is nothing that can be relied on."""
    path = os.fspath(paths.spent_marker(run))
    try:
        with open(path, "rb") as file:
            spent = SpentMarker.from_bytes(file.read(), path)
        datetime.fromisoformat(spent.noted_at)
        Signature.parse(spent.marker)
    except (OSError, ModeldropError, ValueError, TypeError):
        return None
    return spent if spent.run == run else None


def forget(paths: HomePaths, run: str) -> None:
    """Remove what was noted of a run that is remembered, or is gone."""
    with contextlib.suppress(OSError):
        os.unlink(paths.spent_marker(run))
