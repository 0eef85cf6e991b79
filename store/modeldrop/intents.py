"""What a request was about to do, written down before it begins.

An intent is one file in `intents/` of the home. It is made, durably, before the first attempt to
append to a sequence, and removed once the journal has acknowledged the outcome. So a crash leaves
an open intent behind, and whoever next holds the lock of its sequence settles it by reading: see
`ledger`. Intents of a sequence are only written, read and removed by the holder of its lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from modeldrop.files import TEMP_PREFIX, write_shared
from modeldrop.records import Intent


class Intents:
    """The open intents of a home."""

    def __init__(self, folder: Path) -> None:
        """Keep intents in `folder`, which is there."""
        self._folder = os.fspath(folder)
        # Which sequence an intent is of never changes: those of other ones that are under way
        # aren't read by every commit.
        self._sequences: dict[str, str] = {}

    def begin(self, intent: Intent) -> None:
        """Write an intent down; it survives a crash from here on."""
        self._sequences[f"{intent.request}.json"] = intent.sequence
        write_shared(self._path(intent.request), intent.to_bytes())

    def end(self, request: str) -> None:
        """Remove an intent whose outcome is acknowledged.

        Without a sync: an intent that a power loss brings back is settled again, to the
        same outcome.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(request))
        self._sequences.pop(f"{request}.json", None)

    def of(self, sequence: str) -> list[Intent]:
        """Return the open intents of a sequence, oldest first.

        Raises:
            RecordDamaged: an intent can't be read.
        """
        return [
            intent
            for intent in self._read(lambda name: self._sequences.get(name, sequence) == sequence)
            if intent.sequence == sequence
        ]

    def all(self) -> list[Intent]:
        """Return all open intents, oldest first.

        Raises:
            RecordDamaged: an intent can't be read.
        """
        return self._read(lambda _: True)

    def _read(self, wanted: Callable[[str], bool]) -> list[Intent]:
        found = []
        for name in os.listdir(self._folder):
            if name.startswith(TEMP_PREFIX) or not wanted(name):
                continue
            path = Path(self._folder, name)
            # Other sequences' intents come and go while this one's lock is held.
            with contextlib.suppress(FileNotFoundError):
                found.append(Intent.from_bytes(path.read_bytes(), str(path)))
        return sorted(found, key=lambda intent: (intent.begun_at, intent.request))

    def _path(self, request: str) -> Path:
        return Path(self._folder, f"{request}.json")
