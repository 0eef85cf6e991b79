"""What the service remembers of a run that it committed, so that a restart reads no byte again.

One record a run, in `service/runs/` of the home. It is a cache: without it, or with one that can't
be read, a run is read and hashed once more and found to be stored already.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import ClassVar, Self

from modeldrop.errors import IntegrityError, UsageError
from modeldrop.files import write_quick
from modeldrop.form import Part, Record, now
from modeldrop.intake.declared import Wish
from modeldrop.intake.observation import Observation, Signature
from modeldrop.intake.settling import History
from modeldrop.layout import HomePaths
from modeldrop.records import Revision, StoredFile


class KnownFile(Part):
    """A file of the run as it was when it was stored: its signature, its bytes, their key."""

    path: str
    signature: str
    sha256: str
    size: int
    key: str


class RunMemory(Record):
    """`service/runs/<xx>/<run>.json`."""

    kind: ClassVar[str] = "run-memory"
    indent: ClassVar[int | None] = None
    run: str
    revision: int
    signature: str
    marker: str | None
    noted_at: str
    files: tuple[KnownFile, ...]
    wish: Wish | None = None
    """That it be registered, until it is."""

    @classmethod
    def of(
        cls,
        revision: Revision,
        observation: Observation,
        stored: dict[str, StoredFile],
        wish: Wish | None = None,
    ) -> Self:
        """Return what to remember of an observation that is committed as this revision."""
        return cls(
            run=revision.run,
            revision=revision.revision,
            signature=observation.signature(),
            marker=observation.marker.signature.spelled() if observation.marker else None,
            noted_at=now(),
            files=tuple(
                KnownFile(
                    path=seen.path,
                    signature=seen.signature.spelled(),
                    sha256=stored[seen.path].sha256,
                    size=stored[seen.path].size,
                    key=stored[seen.path].key,
                )
                for seen in observation.files
                if seen.path in stored
            ),
            wish=wish,
        )

    @property
    def size(self) -> int:
        """How many bytes of the run were stored."""
        return sum(each.size for each in self.files)

    def history(self, clock: float) -> History:
        """Return what the judgement of the run begins with; `clock` is its present time."""
        age = time.time() - datetime.fromisoformat(self.noted_at).timestamp()
        return History(
            committed=self.signature,
            committed_marker=Signature.parse(self.marker) if self.marker else None,
            # A clock that was set back must not hold the next revision up for longer.
            committed_at=clock - max(age, 0.0),
        )

    def known(self) -> dict[tuple[str, str], KnownFile]:
        """Return the files by path and signature: an equal pair means equal bytes."""
        return {(file.path, file.signature): file for file in self.files}


def known_as(path: str, signature: Signature) -> tuple[str, str]:
    """Return the key under which `RunMemory.known` has a file, if it is unchanged."""
    return path, signature.spelled()


def recall(paths: HomePaths, run: str) -> RunMemory | None:
    """Return what is remembered of a run, or None if that is nothing that can be relied on."""
    path = os.fspath(paths.run_state(run))
    try:
        with open(path, "rb") as file:
            memory = RunMemory.from_bytes(file.read(), path)
        datetime.fromisoformat(memory.noted_at)
        if memory.marker:
            Signature.parse(memory.marker)
    except (OSError, IntegrityError, UsageError, ValueError, TypeError):
        return None
    return memory if memory.run == run else None


def remember(paths: HomePaths, memory: RunMemory) -> None:
    """Remember a run; after a power loss it may be forgotten."""
    path, data = paths.run_state(memory.run), memory.to_bytes()
    try:
        write_quick(path, data)
    except FileNotFoundError:
        # Without a sync, as the record itself.
        path.parent.mkdir(parents=True, exist_ok=True)
        write_quick(path, data)
