"""What the attempts at a run have sent already, so that no attempt sends it again.

A file that was sent and checked is at the backend under an upload id that no manifest names yet.
The next attempt takes it up while the staged file is still what was sent, by the same process or,
once it was written down, by the next one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from modeldrop.form import Part
from modeldrop.intake.memory import known_as
from modeldrop.intake.observation import SeenFile
from modeldrop.records import StoredFile

# For how many seconds bytes that no manifest names yet are taken up again. `gc` leaves them alone
# for much longer.
_TAKEN_UP: Final = 86_400


@dataclass(frozen=True, slots=True)
class SentFile(Part):
    """A file that is at the backend and in no revision yet; `sent_at` is in seconds since 1970."""

    path: str
    signature: str
    sha256: str
    size: int
    key: str
    sent_at: int


class Attempts:
    """What the attempts at one run have sent and checked, by its path and signature.

    For one attempt at a time, from any number of its threads.
    """

    def __init__(self, sent: tuple[SentFile, ...] = ()) -> None:
        """Begin with what earlier attempts have sent."""
        self._sent = {(each.path, each.signature): each for each in sent}

    def note(self, seen: SeenFile, stored: StoredFile) -> None:
        """Take note of what was sent."""
        path, signature = known_as(seen.path, seen.signature)
        self._sent[path, signature] = SentFile(
            path, signature, stored.sha256, stored.size, stored.key, int(time.time())
        )

    def find(self, seen: SeenFile) -> StoredFile | None:
        """Return where the bytes of a file are already, if it is still what was sent."""
        sent = self._sent.get(known_as(seen.path, seen.signature))
        if sent is None or not _is_fresh(sent):
            return None
        return StoredFile(seen.path, sent.sha256, sent.size, sent.key)

    def by_content(self) -> dict[tuple[str, int], str]:
        """Return the keys of what was sent, by digest and size: a renamed file is found so."""
        return {(each.sha256, each.size): each.key for each in self.files()}

    def files(self) -> tuple[SentFile, ...]:
        """Return what may be taken up again."""
        return tuple(each for each in list(self._sent.values()) if _is_fresh(each))

    def clear(self) -> None:
        """Forget it all: it is committed."""
        self._sent.clear()


def _is_fresh(sent: SentFile) -> bool:
    # A clock that was set back makes it no fresher than it is.
    return abs(time.time() - sent.sent_at) < _TAKEN_UP
