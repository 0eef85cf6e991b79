"""Appending to sequences so that the journal knows of it, whatever happens in between.

The order is: intent, durable; append to the sequence; journal, acknowledged; intent removed. A
crash between any two of them leaves an open intent, and the next append to the same sequence
settles it first, by reading what the sequence holds. The caller holds the sequence's lock from
before `settle` until after `append`, so every intent it meets is a dead request's.

`Ledger.append_together` does the same for several records of the sequence at the price of one, and
`begin_sequences` for the first records of many sequences.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import Protocol

from modeldrop import layout
from modeldrop.backend.base import Backend
from modeldrop.batch import Batch, Pending
from modeldrop.errors import BackendError, OutcomeUnknown
from modeldrop.form import now
from modeldrop.home_records import Intent
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.records import Head
from modeldrop.sequence import Appended, Sequence
from modeldrop.structs import Frozen

_log = logging.getLogger(__name__)


class Request(Frozen):
    """Who asks for an append: the id that the journal and the intent carry, and the person."""

    id: str
    user: str


class Meaning(Protocol):
    """What records of a sequence mean to the rest of the store."""

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        """Return the journal entry that says that this record was appended.

        None if another home appended it: its journal says so.
        """
        ...

    def settled(self, number: int, data: bytes) -> None:
        """Bring forward whatever follows this sequence: counters, notes of what is done."""
        ...


class Ledger:
    """One sequence, its intents, and the journal."""

    def __init__(
        self, sequence: Sequence, intents: Intents, journal: Journal, meaning: Meaning
    ) -> None:
        """Append to `sequence`; `meaning` says what that means."""
        self._sequence = sequence
        self._intents = intents
        self._journal = journal
        self._meaning = meaning

    def settle(self) -> None:
        """Finish what requests began that died: find their records, and journal them.

        A request whose record isn't there did not happen; its intent goes.
        """
        for intent in self._intents.of(self._sequence.folder):
            found = self._sequence.find(intent.owner, intent.starts_at)
            if isinstance(found, tuple):
                number, data = found
                _log.info("settling %s: it is record %d", intent.request, number)
                self._sequence.confirm(number)
                self._meaning.settled(number, data)
                entry = self._meaning.entry(number, data, Request(intent.request, intent.user))
                # Asked first whether it is ours to journal: in a copied home the intent is the
                # original's, and speaks of the original's journal.
                if entry is not None and not self._journaled(intent):
                    self._journal.append(entry)
            self._intents.end(intent.request)

    def append(
        self,
        make: Callable[[int], bytes],
        request: Request,
        *,
        owner: str,
        at: int,
        shared: bool = False,
        accept: Callable[[int, bytes], bool] | None = None,
    ) -> Appended:
        """Append a record and have the journal acknowledge it; see `Sequence.append`.

        Raises:
            JournalDamaged, RecordDamaged: the journal can't take an entry; nothing was written.
            OutcomeUnknown: it may have happened; its intent stays open until that is known.
            BackendError: it did not happen.
        """
        # What couldn't be acknowledged isn't begun.
        head = self._journal.check_writable()
        self._intents.begin(_intent(self._sequence.folder, owner, at, request, head))
        _log.debug("step: intent written")
        try:
            appended = self._sequence.append(make, owner=owner, at=at, shared=shared, accept=accept)
        except OutcomeUnknown:
            raise
        except BackendError:
            self._intents.end(request.id)
            raise
        _log.debug("step: record appended")
        self._meaning.settled(appended.number, appended.data)
        _log.debug("step: followers brought forward")
        if appended.created:
            self._acknowledge(appended.number, appended.data, request)
        _log.debug("step: journal acknowledged")
        self._intents.end(request.id)
        _log.debug("step: intent removed")
        return appended

    def append_together(
        self,
        records: Several[Next],
        batch: Batch,
        admit: Callable[[], int],
        follow: Callable[[int], None],
        *,
        at: int,
        experiment: str,
    ) -> int:
        """Append records under the numbers from `at` on; return how many of them were.

        What is in `batch` lasts before the first has its number, and `admit` is called in between,
        to say how many of them may go on. Where a number is taken by then, the row ends before it.
        `follow` is called with the last number, to bring forward what follows the sequence.

        Raises:
            ModeldropError, OSError: some of it failed. The intents stay open where a record may be
                there: who appends next settles it first.
        """
        head = self._journal.check_writable()
        folder = self._sequence.folder
        requests = [each.request.id for each in records]
        try:
            self._intents.begin_in(
                batch,
                [_intent(folder, each.owner, at, each.request, head) for each in records],
                experiment,
            )
            pending = self._sequence.append_in(batch, at, [each.data for each in records])
            batch.sync()
            _log.debug("step: intent written")
            pending = (pending or [])[: admit()]
        except BaseException:
            # Nothing was appended yet.
            self._intents.end(*requests)
            raise
        created = 0
        for each in pending:
            # One after the other: if the second name lasted without the first, a number would
            # be left out.
            batch.give([each])
            if not each.created:
                break
            created += 1
        _log.debug("step: record appended")
        if created:
            follow(at + created - 1)
        _log.debug("step: followers brought forward")
        self._journal.append(*(each.entry for each in records[:created]))
        _log.debug("step: journal acknowledged")
        self._intents.end(*requests)
        _log.debug("step: intent removed")
        return created

    def _acknowledge(self, number: int, data: bytes, request: Request) -> None:
        entry = self._meaning.entry(number, data, request)
        if entry is not None:
            self._journal.append(entry)

    def _journaled(self, intent: Intent) -> bool:
        # The entry may be written and not yet acknowledged: killed just before HEAD.
        self._journal.recover()
        since = self._journal.entries(intent.journal_offset)
        return any(entry.request == intent.request for entry in since)


class Next(Frozen):
    """A record that is to be one of the next of its sequence, and what the journal says of it."""

    owner: str
    data: bytes
    request: Request
    entry: NewEntry


class First(Frozen):
    """The record that a sequence is to begin with, and what the journal says of it."""

    folder: str
    owner: str
    data: bytes
    request: Request
    entry: NewEntry


def begin_sequences(
    firsts: Several[First],
    batch: Batch,
    arrived: Callable[[], None],
    *,
    backend: Backend,
    intents: Intents,
    journal: Journal,
) -> list[bool]:
    """Append the first record to each of these sequences; return which of them were appended.

    The others were begun by somebody else. None has an open intent, and the caller holds a lock
    that whoever settles one of these sequences takes as well. What is in `batch` lasts before the
    first record is there, and `arrived` is called in between, to raise if it isn't what it should
    be.

    Whatever is raised, the intents stay open where a record may be there: who goes on with one of
    the sequences settles it first.

    Raises:
        ModeldropError, OSError: some of it failed.
    """
    head = journal.check_writable()
    opened = [_intent(each.folder, each.owner, 1, each.request, head) for each in firsts]
    requests = [each.request.id for each in firsts]
    try:
        intents.begin_in(batch, opened)
        # What they refer to is in the same folder, which appears with both.
        records = [_first_in(batch, backend, each) for each in firsts]
        batch.sync()
        arrived()
        _log.debug("step: intent written")
    except BaseException:
        # Nothing was appended yet.
        intents.end(*requests)
        raise
    batch.finish()
    _log.debug("step: record appended")
    _log.debug("step: followers brought forward")
    created = [record is not None and record.created for record in records]
    entries = [each.entry for each, is_first in zip(firsts, created, strict=True) if is_first]
    journal.append(*entries)
    _log.debug("step: journal acknowledged")
    intents.end(*requests)
    _log.debug("step: intent removed")
    return created


def _first_in(batch: Batch, backend: Backend, first: First) -> Pending | None:
    return backend.create_in(batch, layout.numbered(first.folder, 1), first.data)


def _intent(sequence: str, owner: str, at: int, request: Request, head: Head | None) -> Intent:
    return Intent(
        request=request.id,
        sequence=sequence,
        owner=owner,
        starts_at=at,
        journal_seq=head.seq if head else 0,
        journal_offset=head.offset if head else 0,
        user=request.user,
        begun_at=now(),
    )
