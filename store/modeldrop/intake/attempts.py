"""What the attempts at a run have sent already, so that no attempt sends it again.

A file that was sent and checked is at the backend under an upload id that no manifest names yet.
The next attempt takes it up while the staged file is still what was sent, by the same process or,
once it was written down, by the next one.

Of a large file that was begun, it is noted on the disk at once which upload that is: one record a
file, in `service/uploads/` of the home, gone once the run is committed. How much of it arrived is
asked of the store. Each note is a cache: without it, the file is sent anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import ClassVar, Final

from modeldrop import layout
from modeldrop.errors import ModeldropError
from modeldrop.files import make_folders, write_durable
from modeldrop.form import Part, Record
from modeldrop.formats.description import Description
from modeldrop.intake.memory import known_as
from modeldrop.intake.observation import SeenFile
from modeldrop.layout import HomePaths
from modeldrop.records import StoredFile

# For how many seconds bytes that no manifest names yet are taken up again. `gc` leaves them alone
# for much longer.
_TAKEN_UP: Final = 86_400
# No store takes smaller parts of a larger file, so what has fewer bytes has no notes.
_LARGE: Final = 2**20
# For how many seconds a large file that was begun is gone on with, if the store has it for so long.
# The rest is to be sent, and named by a manifest, before `gc` takes its key for one of garbage.
_GONE_ON_WITH: Final = 10 * 86_400


class SentFile(Part):
    """A file that is at the backend and in no revision yet; `sent_at` is in seconds since 1970."""

    path: str
    signature: str
    sha256: str
    size: int
    key: str
    sent_at: int


class BegunUpload(Record):
    """`service/uploads/<run>/….json`: a large file of which the store may have a part.

    `token` is what the backend needs to go on with it; `begun_at` is in seconds since 1970.
    """

    kind: ClassVar[str] = "begun-upload"
    indent: ClassVar[int | None] = None
    path: str
    signature: str
    size: int
    key: str
    token: str
    begun_at: int


class Attempts:
    """What the attempts at one run have sent, by its path and signature.

    For one attempt at a time, from any number of its threads.
    """

    def __init__(self, sent: tuple[SentFile, ...] = (), notes: Path | None = None) -> None:
        """Begin with what earlier attempts have sent; `notes` is the folder of what was begun.

        Without it, nothing that was begun is gone on with.
        """
        self._sent = {(each.path, each.signature): each for each in sent}
        self._notes = notes
        self.looked: dict[tuple[str, str], Description | None] = {}
        """What files were found to be, by path and signature."""

    @property
    def keeps_begun(self) -> bool:
        """Whether `begin` writes anything down."""
        return self._notes is not None

    def begin(self, seen: SeenFile, key: str, token: str) -> None:
        """Write down that the store has the first part of a file, in place of what was before.

        That it can't be written fails nothing.
        """
        if self._notes is None:
            return
        path, signature = known_as(seen.path, seen.signature)
        size = seen.signature.size
        note = BegunUpload(path, signature, size, key, token, int(time.time()))
        with contextlib.suppress(OSError, ModeldropError):
            make_folders(self._notes)
            # A machine that loses its power is an interruption like any other.
            write_durable(self._note(path), note.to_bytes())

    def begun(self, seen: SeenFile) -> BegunUpload | None:
        """Return what was written down last of a file of this path, be it still the same or not."""
        if self._notes is None or seen.signature.size < _LARGE:
            return None
        return _read(self._note(seen.path))

    def _note(self, path: str) -> Path:
        assert self._notes is not None  # noqa: S101 - asked by both who call
        return self._notes / f"{hashlib.sha256(path.encode()).hexdigest()[:32]}.json"

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
        if self._notes is not None and any(each.size >= _LARGE for each in self._sent.values()):
            shutil.rmtree(self._notes, ignore_errors=True)
        self._sent.clear()
        self.looked.clear()


def can_be_gone_on_with(begun: BegunUpload, seen: SeenFile) -> bool:
    """Return whether a file is still what was begun, and that not too long ago."""
    same = (begun.path, begun.signature) == known_as(seen.path, seen.signature)
    return same and _is_recent(begun)


def forget_old(paths: HomePaths) -> None:
    """Remove the notes that nobody goes on with, as of runs that are gone from staging."""
    for folder, _, names in os.walk(paths.begun_uploads()):
        for name in names:
            path = Path(folder) / name
            begun = _read(path)
            if begun is None or not _is_recent(begun):
                with contextlib.suppress(OSError):
                    path.unlink()
                    path.parent.rmdir()


def _read(path: Path) -> BegunUpload | None:
    try:
        return BegunUpload.from_bytes(path.read_bytes(), str(path))
    except (OSError, ModeldropError):
        return None


def _is_recent(begun: BegunUpload) -> bool:
    return abs(time.time() - begun.begun_at) < _GONE_ON_WITH


def _is_fresh(sent: SentFile) -> bool:
    # A clock that was set back makes it no fresher than it is; and by its key it may be older, if
    # it took long to send.
    began = layout.upload_began(sent.key)
    is_young = began is None or time.time() - began.timestamp() < _GONE_ON_WITH + _TAKEN_UP
    return is_young and abs(time.time() - sent.sent_at) < _TAKEN_UP
