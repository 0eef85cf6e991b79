"""What was fetched of other homes' journals: copies, byte for byte, each with a HEAD of its own.

Write order: (first time: the copy, empty) → lines, and the next `<home>.json` beside the last one →
both on the disk → its name. A crash leaves the copy as it was, perhaps with bytes past its end,
which are no part of it and are overwritten. Readers take no lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from modeldrop import disk, files
from modeldrop.batch import Batch
from modeldrop.errors import JournalDamaged, RecordDamaged
from modeldrop.form import damaged
from modeldrop.home_records import FetchedRecord
from modeldrop.journal.lines import Entry
from modeldrop.journal.reading import EMPTY, Place, backward, forward
from modeldrop.journal.segments import Segment, read
from modeldrop.layout import HomePaths
from modeldrop.names import parse_guid
from modeldrop.records import Head

_log = logging.getLogger(__name__)


class Copies:
    """The copies in one home of other homes' journals. Opening costs nothing."""

    def __init__(self, paths: HomePaths) -> None:
        """Keep them at `paths`."""
        self._paths = paths

    def homes(self) -> list[str]:
        """Return the ids of the homes of whose journals there are copies."""
        try:
            names = os.listdir(self._paths.journals)
        except FileNotFoundError:
            return []
        bare = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(name for name in bare if parse_guid(name) == name)

    def record(self, home: str) -> FetchedRecord | None:
        """Return how far a home's journal was fetched, or None if it wasn't.

        Raises:
            RecordDamaged: it can't be told.
        """
        path = self._paths.fetched_head(home)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        with self._told(home):
            found = FetchedRecord.from_bytes(data, str(path))
            if found.home != home:
                raise damaged(str(path), f"it is of the home {found.home}")
            return found

    def last_segment(self, found: FetchedRecord) -> bytes:
        """Return the last segment that was fetched, as it was then.

        Raises:
            JournalDamaged: the copy has lost it.
        """
        path = self._paths.fetched_journal(found.home)
        size = found.offset - found.begins
        data = read(path, found.begins, size)
        if len(data) != size:
            raise self._lost(path, found.home)
        return data

    def append(self, home: str, segments: Sequence[Segment]) -> None:
        """Keep verified segments that follow what there is; they last when it returns."""
        files.make_folders(self._paths.journals)
        path = self._paths.fetched_journal(home)
        last = segments[-1]
        head = last.reached
        found = FetchedRecord(
            home=home,
            host=last.entries[-1].host,
            seq=head.seq,
            start=head.start,
            offset=head.offset,
            sha256=head.sha256,
            segment=last.first,
            begins=last.begins,
        )
        data = b"".join(each.data for each in segments)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if not segments[0].begins:
                # The file's name has to last before a HEAD with lines does.
                disk.sync_folder(self._paths.journals)
            with Batch() as batch:
                batch.extend(fd, data, segments[0].begins)
                batch.replace(os.fspath(self._paths.fetched_head(home)), found.to_bytes())
                batch.finish()
        finally:
            os.close(fd)
        _log.debug("step: fetch noted")

    def confirm(self) -> None:
        """Have what is seen of the copies last: whoever kept it may have died before it did."""
        with contextlib.suppress(FileNotFoundError):
            disk.sync_folder(self._paths.journals)

    def newest(self, home: str) -> Iterator[Entry]:
        """Yield a home's entries as far as they were fetched, newest first, each verified.

        Raises:
            JournalDamaged, RecordDamaged: the copy isn't what was fetched.
        """
        found = self.record(home)
        if found is not None:
            with self._told(home):
                yield from backward(self._paths.fetched_journal(home), found.head)

    def entries(self, home: str) -> Iterator[Entry]:
        """Yield a home's entries as far as they were fetched, oldest first, each verified.

        Raises as `newest` does.
        """
        found = self.record(home)
        with self._told(home):
            yield from forward(self._paths.fetched_journal(home), found.head if found else EMPTY)

    def since(self, home: str, head: Head) -> Iterator[Entry]:
        """Yield the entries after a line that was read before, oldest first, each verified.

        Raises:
            JournalDamaged, RecordDamaged: the copy isn't what was fetched, or what it was then.
        """
        found = self.record(home)
        place = Place(head.offset, head.seq, head.sha256)
        with self._told(home):
            yield from forward(
                self._paths.fetched_journal(home), found.head if found else EMPTY, place
            )

    def _lost(self, path: Path, home: str) -> JournalDamaged:
        return JournalDamaged(
            f"{path} is damaged: it ends too early",
            hint=self._hint(home),
            detail={"where": str(path), "home": home},
        )

    @contextlib.contextmanager
    def _told(self, home: str) -> Iterator[None]:
        """Say of damage that it is of a copy."""
        try:
            yield
        except (JournalDamaged, RecordDamaged) as error:
            error.hint = self._hint(home)
            raise

    def _hint(self, home: str) -> str:
        return (
            f"it is a copy: move {self._paths.fetched_journal(home)} and "
            f"{self._paths.fetched_head(home)} away, and `modeldrop fetch` fetches it anew"
        )
