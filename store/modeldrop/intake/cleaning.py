"""Deleting staged copies by hand: what was stored long enough ago, and is still the same.

The same care as `afterwards = "delete"`: the stored bytes are read and compared again, the copy is
looked at before and after it is put aside, and what differs from what was committed stays. What a
crash leaves is undone or finished by the next scan or start.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from modeldrop.errors import ModeldropError
from modeldrop.home import Home
from modeldrop.intake import afterwards, memory, walk
from modeldrop.intake.storing import Storing
from modeldrop.names import printable
from modeldrop.structs import Frozen


class Cleaned(Frozen):
    """A staged copy that is deleted, or would be."""

    run: str
    folder: Path
    stored_at: str
    size: int
    trouble: str = ""
    """Why it is still there; empty if it isn't."""


def clean(home: Home, storing: Storing, age: timedelta, *, dry_run: bool) -> Iterator[Cleaned]:
    """Delete the staged copies of runs that were stored longer ago, and yield each.

    Folders that were moved to `done/`, and what isn't stored as it is, stay.

    Raises:
        NotFound: staging isn't there.
    """

    def verify(run: str, revision: int) -> None:
        storing.verify(run, revision, lambda _: None, lambda: None)

    staging, before = home.staging, datetime.now(UTC) - age
    for found in walk.runs(staging):
        remembered = memory.recall(home.paths, found.guid) if found.guid else None
        if remembered is None or datetime.fromisoformat(remembered.noted_at) >= before:
            continue
        run, revision = remembered.run, remembered.revision
        trouble = ""
        try:
            if walk.observe(staging, found.name).signature() != remembered.signature:
                continue
            if not dry_run:
                afterwards.delete(
                    staging,
                    found.name,
                    remembered.signature,
                    lambda: verify(run, revision),  # noqa: B023 - called at once
                )
        except (ModeldropError, OSError) as error:
            trouble = printable(str(error))
        place = staging / found.name
        yield Cleaned(run, place, remembered.noted_at, remembered.size, trouble)
