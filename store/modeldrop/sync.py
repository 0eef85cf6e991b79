"""Sharing journals: this home's goes to the backend in sealed segments, other homes' come here.

Purpose: one history of many hosts, through the backend alone, as git shares commits. Nothing that
is decided depends on it: what is so, the sequences at the backend say.

Calling sequence: `push` and `fetch`, in any order, by any process, as often as one likes.

What a crash leaves: `push` has created a segment or not, and the next one finds out by what is at
the backend; `fetch` has kept some lines or not, and the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Final

from modeldrop import counters, layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.errors import (
    BackendError,
    CounterDamaged,
    JournalForked,
    Locked,
    ModeldropError,
    OutcomeUnknown,
    RecordDamaged,
)
from modeldrop.files import write_quick
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.home_records import Counter, FetchedAt, PushedRecord
from modeldrop.journal import Copies, Journal
from modeldrop.journal.lines import NotALine, parse
from modeldrop.journal.reading import EMPTY
from modeldrop.journal.segments import Segment, chained, cut, first_difference, is_at, read
from modeldrop.names import is_experiment
from modeldrop.records import Head
from modeldrop.shared import SharedJournals
from modeldrop.structs import Frozen
from modeldrop.versions import LEFT_VACANT, REGISTERED

if TYPE_CHECKING:
    from modeldrop.sealing import Sealing

_log = logging.getLogger(__name__)

# The entries that tell of a version's number.
_NUMBERED: Final = frozenset((REGISTERED, LEFT_VACANT))
# So many bytes of a home are kept at once while it is fetched.
_BATCH: Final = 8 << 20


class Pushed(Frozen):
    """What was shared of this home's journal."""

    entries: int
    """How many of its entries are shared now that were not before."""
    segments: int
    """How many segments there are for them."""
    seq: int
    """Up to which entry the journal is shared."""


class FetchedJournal(Frozen):
    """What is known of another home's journal after a fetch."""

    home: str
    host: str
    entries: int
    """How many of its entries are new here."""
    seq: int
    """Up to which entry its journal is here."""
    trouble: ModeldropError | None
    """Why it could not be fetched, or not all of it."""


class Sync:
    """Shares the journal of one home, and fetches those of the others."""

    def __init__(self, home: Home, backend: Backend, journal: Journal) -> None:
        """Share through this backend."""
        self._home = home
        self._paths = home.paths
        self._backend = backend
        self._journal = journal
        self._shared = SharedJournals(backend)
        self._copies = Copies(home.paths)

    @cached_property
    def sealing(self) -> Sealing:
        """The key of this home, and what it signs."""
        from modeldrop.sealing import Sealing  # noqa: PLC0415 - most homes sign nothing

        return Sealing(self._home, self._backend, self._journal)

    def unpushed(self) -> int:
        """Return how many bytes of the journal are acknowledged and, as far as known, not shared.

        Asks nothing of the backend.
        """
        head = self._journal.head()
        return head.offset - self._pushed(head).offset if head else 0

    def push(self, *, timeout: float = locks.TIMEOUT, whole: bool = False) -> Pushed:
        """Share what the journal has acknowledged; one request for each segment, none for none.

        A home that has a key signs what was shared: one request more.

        Idempotent: what an earlier attempt has brought to the backend is recognised there. With
        `whole`, or where nobody knows how far it came, every segment is looked at, and those that
        are missing are created again.

        Raises:
            Locked: another process of this home shared for all of `timeout`.
            JournalForked: the backend has another continuation of this journal.
            JournalChanged: a segment of this home at the backend is damaged.
            SignatureWrong: somebody else has signed there in the place of this home.
            BackendError: the backend failed, or holds another repository now.
        """
        with locks.hold(self._paths.push_lock(), what="sharing the journal", timeout=timeout):
            head = self._journal.head()
            if head is None:
                return Pushed(0, 0, 0)
            place = EMPTY if whole else self._pushed(head)
            entries = segments = 0
            there: list[int] = []
            if place.offset < head.offset:
                check_backend(self._home, self._backend)
                there = self._shared.firsts(self._home.id) if place == EMPTY else []
            while place.offset < head.offset:
                before = place.seq
                place, is_new = self._seal(place, head, there)
                self._note(place)
                _log.debug("step: push noted")
                if is_new:
                    entries, segments = entries + place.seq - before, segments + 1
            # Asked here: without a key, nothing that signs is loaded.
            if os.path.exists(self._paths.key_record):
                if whole:
                    self.sealing.bring_back()
                self.sealing.seal(place)
            return Pushed(entries, segments, head.seq)

    def fetch(self, *, timeout: float = locks.TIMEOUT) -> list[FetchedJournal]:
        """Bring what other homes have shared into this one; return what is known of each.

        What they have signed is verified, and pinned.

        With nothing new it takes one listing of the homes, and two requests for each. What is
        wrong with one home's journal is said of that one, and holds up no other.

        Raises:
            BackendError: the backend failed before anything was fetched, or holds another
                repository now.
            Locked: another process of this home fetches, for all of `timeout`.
        """
        with locks.hold(self._paths.fetch_lock(), what="fetching journals", timeout=timeout):
            check_backend(self._home, self._backend, to_write=False)
            # What a fetch that died has kept is answered from, where nothing new follows it.
            self._copies.confirm()
            began = now()
            homes = {*self._shared.homes(), *self._copies.homes()} - {self._home.id}
            with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
                fetched = list(pool.map(self._fetch, sorted(homes)))
            if not any(each.trouble for each in fetched):
                # For those who ask how old an answer is; without it, it is older.
                with contextlib.suppress(OSError):
                    write_quick(self._paths.fetched_at(), FetchedAt(began).to_bytes())
            return fetched

    # To the backend

    def _pushed(self, head: Head) -> Head:
        """Return the last line that is known to be shared."""
        try:
            found = PushedRecord.from_bytes(self._paths.pushed.read_bytes(), "")
        except (FileNotFoundError, RecordDamaged):
            return EMPTY
        known = found.home == self._home.id and is_at(self._paths.journal, found.head, head)
        return found.head if known else EMPTY

    def _note(self, place: Head) -> None:
        # A hint: what a power loss takes of it is found at the backend again.
        record = PushedRecord(self._home.id, place.seq, place.start, place.offset, place.sha256)
        write_quick(self._paths.pushed, record.to_bytes())

    def _seal(self, place: Head, head: Head, there: Sequence[int]) -> tuple[Head, bool]:
        """Have the next segment at the backend; return its last line, and if it wasn't there.

        `there` are the numbers of segments that are known to be.
        """
        first = place.seq + 1
        key = layout.journal_segment(self._home.id, first)
        probe = self._home.probe()
        if first in there or probe is None or not probe.holds:
            # Where create-if-absent doesn't hold, to create is perhaps to overwrite.
            data = self._backend.read(key)
            if data is not None:
                return self._mine(place, head, data), False
        following = next((each for each in there if each > first), None)
        segment = cut(self._paths.journal, place, head, self._home.id, following)
        trouble: BackendError | None = None
        try:
            if self._backend.create(key, segment.data):
                _log.debug("step: segment created")
                return segment.reached, True
        except BackendError as error:
            trouble = error
        data = self._backend.read(key)
        if data is not None:
            return self._mine(place, head, data), trouble is not None
        raise trouble or OutcomeUnknown(
            f"{self._backend.url}/{key} is neither there nor absent",
            hint="run `modeldrop push` again: nothing happens twice",
        )

    def _mine(self, place: Head, head: Head, there: bytes) -> Head:
        """Return the last line of a segment that is there already, if it is this journal's.

        Raises:
            JournalForked: it is another continuation, whole and undamaged.
            JournalChanged: it is damaged.
        """
        first = place.seq + 1
        mine = self._own(place, head, len(there))
        if mine != there:
            there = self._shared.data(self._home.id, first) or b""
            mine = self._own(place, head, len(there))
        if there and mine == there:
            return chained(there, place, self._home.id).reached
        seq = first + first_difference(mine, there)
        where = self._shared.place(self._home.id, first)
        if not _are_lines(there, self._home.id):
            raise self._shared.changed(self._home.id, self._home.host, seq, f"{where} is damaged")
        raise JournalForked(
            f"the journal of this home, {self._home.id}, goes on differently at {where}, from "
            f"line {seq} on: the home was copied or restored",
            hint="stop the service and whatever else uses this home; then `modeldrop rebuild` "
            "takes over what was shared, or, where another copy of it is still in use, "
            "`modeldrop push` gives this one a new id",
            detail={"home": self._home.id, "host": self._home.host, "line": seq},
        )

    def _own(self, place: Head, head: Head, size: int) -> bytes:
        return read(self._paths.journal, place.offset, min(size, head.offset - place.offset))

    # From the backend

    def _fetch(self, home: str) -> FetchedJournal:
        before = 0
        trouble: ModeldropError | None = None
        try:
            found = self._copies.record(home)
            before = found.seq if found else 0
            if found is not None:
                last = self._copies.last_segment(found)
                self._shared.check(home, found.host, found.segment, last)
            self._follow(home, found.host if found else "", found.head if found else EMPTY)
            now_there = self._copies.record(home)
            if now_there is not None and now_there.seq > before:
                self.sealing.trust.follow(home, before)
        except ModeldropError as error:
            trouble = error
        try:
            found = self._copies.record(home)
        except RecordDamaged as error:
            trouble, found = trouble or error, None
        if found is None:
            return FetchedJournal(home, "", 0, 0, trouble)
        return FetchedJournal(home, found.host, found.seq - before, found.seq, trouble)

    def _follow(self, home: str, host: str, after: Head) -> None:
        """Keep what is new of a home; what was verified is kept also where the rest is not."""
        batch: list[Segment] = []
        try:
            for segment in self._shared.follow(home, host, after):
                batch.append(segment)
                after = segment.reached
                if after.offset - batch[0].begins >= _BATCH:
                    self._keep(home, batch)
                    batch = []
        finally:
            if batch:
                self._keep(home, batch)
        if after == EMPTY and self._shared.firsts(home):
            raise self._shared.changed(home, host, 1, "the segment that has it is missing")

    def _keep(self, home: str, segments: Sequence[Segment]) -> None:
        """Keep segments, and bring the counters that this home has up to what they tell of."""
        # One that its home is still at could go in a power loss, and would then be missed here.
        self._backend.confirm(layout.journal_segment(home, segments[-1].first))
        self._copies.append(home, segments)
        newest: dict[str, int] = {}
        for segment in segments:
            for entry in segment.entries:
                name, number = entry.details.get("experiment"), entry.details.get("version")
                if entry.kind in _NUMBERED and isinstance(name, str) and type(number) is int:
                    newest[name] = max(number, newest.get(name, 0))
        for name, number in newest.items():
            if is_experiment(name) and self._paths.counter(name).exists():
                # So that no number that was told of is given again, should the backend lose it.
                # A counter is a hint: who can't write it has what it says already.
                with (
                    contextlib.suppress(Locked, CounterDamaged, OSError),
                    locks.hold(self._paths.counter_lock(name), what=f"the experiment {name}"),
                ):
                    counters.bring_forward(self._home, Counter(name, number, self._home.repository))


def _are_lines(data: bytes, home: str) -> bool:
    """Return whether these are whole lines of a home's journal, whatever they follow."""
    try:
        return all(parse(line, 0).home == home for line in io.BytesIO(data))
    except NotALine:
        return False
