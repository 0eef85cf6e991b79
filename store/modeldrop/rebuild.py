"""Making a home's journal again, where it is lost or damaged.

What can be known stands in three places: the undamaged beginning of what is left, the segments
that this home has shared, and the records at the backend that name it. Models and versions need no
rebuilding: they are at the backend.

What a crash leaves: the journal as it was, or the rebuilt one without the entries of some records,
which the next rebuild adds. What was there before is kept in `torn/`.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from modeldrop import collection, locks, retirements
from modeldrop.accounts import KINDS
from modeldrop.admission import check_backend
from modeldrop.aliases import entry_of
from modeldrop.backend.base import Backend
from modeldrop.deployments import entry_of as entry_of_deployment
from modeldrop.errors import (
    CounterDamaged,
    IntegrityError,
    JournalChanged,
    NotFound,
)
from modeldrop.files import make_folders, remove_durable, write_durable
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.journal.lines import parse, write
from modeldrop.journal.reading import EMPTY, head_of
from modeldrop.journal.segments import beginning
from modeldrop.ledger import Request
from modeldrop.records import Head
from modeldrop.rooms import Rooms
from modeldrop.shared import SharedJournals
from modeldrop.structs import Frozen, replace
from modeldrop.targets import entry_of as entry_of_target
from modeldrop.trust import REBUILT

_log = logging.getLogger(__name__)

# So many entries are put down at once.
_BATCH: Final = 500


class Rebuilt(Frozen):
    """What came of it."""

    source: str | None
    """What the journal was made of again: `backend`, `home` or `nothing`; None if it is whole."""
    entries: int
    """How many entries were taken from there."""
    recovered: int
    """How many entries were made again from records at the backend."""
    lost: int | None
    """How many entries there were beyond those that were taken; None if nobody knows."""
    troubles: tuple[str, ...]
    """What could not be read at the backend, and so has no entry."""


def rebuild(rooms: Rooms) -> Rebuilt:
    """Make the journal whole again, and give every record that names this home an entry.

    Idempotent: a journal that is whole, and tells of every record, stays as it is. Nothing else
    may use the home meanwhile.

    Raises:
        Locked: the service of this home runs.
        ConfigError: the home was copied: it begins a new journal anyway.
        BackendError: the backend failed, or holds another repository; the next rebuild goes on.
        NewerFormat: a later modeldrop wrote the journal.
    """
    home, backend, journal = rooms.home, rooms.backend, rooms.journal
    home.require_own()
    troubles: list[str] = []
    with locks.hold(home.paths.service_lock(), what="the service's work", timeout=0):
        check_backend(home, backend, to_write=False)
        source, entries, lost = _restore(home, backend, journal, troubles)
        recovered = _recover(journal, _records(rooms, troubles))
        # Whatever was begun is known by now: its record has an entry, or is not there.
        Intents(home.paths.intents).clear(home.paths.torn)
    return Rebuilt(source, entries, recovered, lost, tuple(troubles))


def _restore(
    home: Home, backend: Backend, journal: Journal, troubles: list[str]
) -> tuple[str | None, int, int | None]:
    """Bring back the longest undamaged beginning; return from where, its length, what is lost."""
    path = home.paths.journal
    there = _bytes(path)
    local = beginning(there, home.id)
    mine = local.data if local else b""
    theirs = _shared(home, backend, troubles)
    is_whole = _is_whole(journal)
    if is_whole and mine.startswith(theirs):
        return None, 0, 0
    # Where they differ, what others have seen holds.
    source, data = ("home", mine) if mine.startswith(theirs) else ("backend", theirs)
    if not data:
        source = "nothing"
    head = _last(data, home)
    before = _head_before(journal, there, local.reached if local else EMPTY)
    lost = None if before is None else max(before - head.seq, 0)
    with locks.hold(home.paths.journal_lock(), what="the journal"):
        _keep(home)
        new = NewEntry(
            kind=REBUILT,
            about=("home",),
            request=str(uuid.uuid4()),
            user=home.user,
            details={"from": source, "entries": head.seq, "lost": lost},
        )
        line = write(new, after=head, home=home.id, host=home.host)
        write_durable(path, data + line)
        _log.debug("step: journal rebuilt")
        # A place in the journal that was is none in this one: hooks begin with what comes next.
        remove_durable(home.paths.hooks())
        reached = head_of(parse(line, head.offset))
        write_durable(home.paths.head, reached.to_bytes())
        _log.debug("step: head rebuilt")
    return source, head.seq, lost


def _shared(home: Home, backend: Backend, troubles: list[str]) -> bytes:
    """Return what this home has shared, as far as that is undamaged."""
    found: list[bytes] = []
    try:
        for segment in SharedJournals(backend).follow(home.id, home.host):
            found.append(segment.data)  # noqa: PERF401 - what came before the damage is kept
    except JournalChanged as error:
        troubles.append(error.message)
    return b"".join(found)


def _is_whole(journal: Journal) -> bool:
    try:
        return journal.check() > 0
    except IntegrityError:
        return False


def _last(data: bytes, home: Home) -> Head:
    found = beginning(data, home.id)
    return found.reached if found else EMPTY


def _head_before(journal: Journal, there: bytes, whole: Head) -> int | None:
    """Return how many entries the journal had, if that can be known."""
    try:
        head = journal.head()
    except IntegrityError:
        head = None
    if head is not None:
        return max(head.seq, whole.seq)
    # Without HEAD, whole lines are all that there was, unless it never was there.
    return whole.seq if there and len(there) == whole.offset else None


def _keep(home: Home) -> None:
    """Keep what is there under `torn/`, before it is replaced."""
    make_folders(home.paths.torn)
    at = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    for path in (home.paths.journal, home.paths.head):
        if path.exists():
            write_durable(home.paths.torn / f"{at}-{path.name}", path.read_bytes())


def _recover(journal: Journal, records: Iterable[tuple[str, NewEntry]]) -> int:
    """Give each record that no entry tells of an entry."""
    # What a writer that died left past HEAD would be adopted by the first append, and told twice.
    journal.recover()
    told = {entry.about[0] for entry in journal.entries() if entry.kind in KINDS and entry.about}
    untold: list[tuple[str, NewEntry]] = []
    for at, entry in records:
        if entry.about[0] not in told:
            untold.append((at, replace(entry, details={**entry.details, "rebuilt": True})))
    untold.sort(key=lambda each: each[0])
    for start in range(0, len(untold), _BATCH):
        journal.append(*(entry for _, entry in untold[start : start + _BATCH]))
        _log.debug("step: records told of")
    return len(untold)


def _records(rooms: Rooms, troubles: list[str]) -> Iterator[tuple[str, NewEntry]]:
    """Yield the time and the entry of each record at the backend that names this home."""
    home, runs, versions = rooms.home, rooms.runs_at_backend, rooms.versions_at_backend
    for run in runs.guids():
        for number in runs.numbers(run):
            with _told(troubles):
                revision = runs.revision(run, number)
                entry = runs.entry(revision, _request(revision.committed_by))
                if entry is not None:
                    yield revision.written_at, entry
        yield from _collections(rooms, run, troubles)
    for experiment in versions.experiments():
        _mend_counter(home, experiment, partial(versions.counter, experiment))
        for number in versions.numbers(experiment):
            with _told(troubles):
                version = versions.record(experiment, number)
                entry = versions.entry(version, _request(home.user)) if version else None
                if version and entry:
                    yield version.written_at, entry
        yield from _moves(rooms, experiment, troubles)
        yield from _retirements(rooms, experiment, troubles)
        yield from _deployments(rooms, experiment, troubles)
    targets = rooms.targets_at_backend
    for name in targets.names():
        for number in targets.numbers(name):
            with _told(troubles):
                target = targets.record(name, number)
                entry = entry_of_target(target, home.id, _request(home.user))
                if entry is not None:
                    yield target.changed_at, entry


def _moves(rooms: Rooms, experiment: str, troubles: list[str]) -> Iterator[tuple[str, NewEntry]]:
    home, aliases = rooms.home, rooms.aliases_at_backend
    for alias in aliases.names(experiment):
        _mend_counter(home, f"{experiment}@{alias}", partial(aliases.counter, experiment, alias))
        for number in aliases.numbers(experiment, alias):
            with _told(troubles):
                move = aliases.move(experiment, alias, number)
                entry = entry_of(move, home.id, _request(home.user))
                if entry is not None:
                    yield move.moved_at, entry


def _collections(rooms: Rooms, run: str, troubles: list[str]) -> Iterator[tuple[str, NewEntry]]:
    every = rooms.runs_at_backend.collections
    for number in every.numbers(run):
        with _told(troubles):
            record = every.record(run, number)
            entry = collection.entry_of(record, rooms.home.id, _request(record.recorded_by))
            if entry is not None:
                yield record.recorded_at, entry


def _retirements(
    rooms: Rooms, experiment: str, troubles: list[str]
) -> Iterator[tuple[str, NewEntry]]:
    every = rooms.retirements_at_backend
    for version in every.versions_of(experiment):
        for number in every.numbers(experiment, version):
            with _told(troubles):
                record = every.record(experiment, version, number)
                entry = retirements.entry_of(record, rooms.home.id, _request(rooms.home.user))
                if entry is not None:
                    yield record.retired_at, entry


def _deployments(
    rooms: Rooms, experiment: str, troubles: list[str]
) -> Iterator[tuple[str, NewEntry]]:
    home, deployments = rooms.home, rooms.deployments_at_backend
    for name in deployments.targets_of(experiment):
        read = partial(deployments.counter, experiment, name)
        _mend_counter(home, f"{experiment}+{name}", read)
        for number in deployments.numbers(experiment, name):
            with _told(troubles):
                deployment = deployments.deployment(experiment, name, number)
                entry = entry_of_deployment(deployment, home.id, _request(home.user))
                if entry is not None:
                    yield deployment.deployed_at, entry


def _mend_counter(home: Home, name: str, read: Callable[[], object]) -> None:
    """Remove a counter that can't be read: what it counts is counted at the backend then."""
    try:
        read()
    except (CounterDamaged, OSError):
        remove_durable(home.paths.counter(name))


@contextlib.contextmanager
def _told(troubles: list[str]) -> Iterator[None]:
    try:
        yield
    except (IntegrityError, NotFound) as error:
        troubles.append(error.message)


def _request(user: str) -> Request:
    return Request(str(uuid.uuid4()), user)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
