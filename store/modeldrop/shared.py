"""Journals at the backend: the sealed segments of every home, read and verified.

Nothing is written here; `sync` seals and creates. What a segment is, and what a reader checks of
it, is specified in docs/format.md, "Segments of journals".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from modeldrop import layout
from modeldrop.backend.base import Backend
from modeldrop.errors import JournalChanged
from modeldrop.journal.reading import EMPTY
from modeldrop.journal.segments import NotChained, Segment, chained, first_difference
from modeldrop.names import parse_guid, printable
from modeldrop.records import Head

# Who is further behind than so many segments lists them, and reads several at a time.
_STEPS: Final = 4


class SharedJournals:
    """The journals that homes have shared through a backend."""

    def __init__(self, backend: Backend) -> None:
        """Read from this backend."""
        self._backend = backend

    def homes(self) -> list[str]:
        """Return the ids of all homes that have shared a journal, by one listing."""
        names = self._backend.children(layout.JOURNALS)
        return sorted(name for name in names if parse_guid(name) == name)

    def firsts(self, home: str) -> list[int]:
        """Return the numbers of the first lines of a home's segments, by a listing."""
        names = self._backend.children(layout.journal_segments(home))
        return sorted(filter(None, map(layout.segment_number, names)))

    def data(self, home: str, first: int) -> bytes | None:
        """Return the bytes of a segment, unchecked, or None if it is absent."""
        return self._backend.read(layout.journal_segment(home, first))

    def place(self, home: str, first: int) -> str:
        """Return where a segment is, for people."""
        return f"{self._backend.url}/{layout.journal_segment(home, first)}"

    def follow(self, home: str, host: str, after: Head = EMPTY) -> Iterator[Segment]:
        """Yield the segments after a line that is known, each verified to follow the one before.

        With nothing new it is one request. `host` is the home's host, as far as it is known.

        Raises:
            JournalChanged: what is there doesn't follow; what came before it was yielded.
            NewerFormat: a later modeldrop wrote a line.
        """
        for _ in range(_STEPS):
            data = self.data(home, after.seq + 1)
            if data is None:
                return
            segment = self._verified(home, host, after, data)
            yield segment
            host, after = segment.entries[-1].host, segment.reached
        firsts = [first for first in self.firsts(home) if first > after.seq]
        for first, data in self._several(home, firsts):
            if first != after.seq + 1 or data is None:
                raise self.changed(home, host, after.seq + 1, "the segment that has it is missing")
            segment = self._verified(home, host, after, data)
            yield segment
            host, after = segment.entries[-1].host, segment.reached

    def check(self, home: str, host: str, first: int, mine: bytes) -> None:
        """Compare a segment that is known with what is at the backend now, by one request.

        Raises:
            JournalChanged: it is missing, or has other bytes.
        """
        theirs = self.data(home, first)
        if theirs is not None and theirs != mine:
            # A connection that flips a bit changes no history.
            theirs = self.data(home, first)
        if theirs == mine:
            return
        if theirs is None:
            raise self.changed(home, host, first, f"{self.place(home, first)} is missing")
        seq = first + first_difference(mine, theirs)
        what = "was rewritten" if mine[: len(theirs)] != theirs else "was cut"
        raise self.changed(home, host, seq, f"{self.place(home, first)} {what}")

    def changed(self, home: str, host: str, seq: int, why: str) -> JournalChanged:
        """Return the error that says that a home's journal isn't what it was."""
        shown = printable(host) or "unknown"
        message = (
            f"the journal of the home {home} (host {shown}) isn't what it was at line {seq}: {why}"
        )
        return JournalChanged(
            message,
            hint="ask whoever looks after that host; what was fetched before is kept, and "
            "`modeldrop verify` compares all of it",
            detail={"home": home, "host": host, "line": seq},
        )

    def _verified(self, home: str, host: str, after: Head, data: bytes) -> Segment:
        try:
            return chained(data, after, home)
        except NotChained:
            again = self.data(home, after.seq + 1)
        try:
            return chained(again or b"", after, home)
        except NotChained as error:
            where = self.place(home, after.seq + 1)
            raise self.changed(home, host, error.seq, f"{where}: {error}") from error

    def _several(self, home: str, firsts: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
        """Yield segments in order, read several at a time, and no more of them than that kept."""
        most = self._backend.capabilities.connections
        with ThreadPoolExecutor(most) as pool:
            for start in range(0, len(firsts), most):
                some = firsts[start : start + most]
                yield from zip(
                    some, pool.map(lambda each: self.data(home, each), some), strict=True
                )
