"""What the journals of all hosts say, against what the backend holds, both ways.

Each journal is read from the first line on: this home's own here, the others at the backend, and
beside it what was fetched of them before. So what was changed of a past that everybody has read
already is found as well. Nothing is changed, and nothing is fetched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from modeldrop.aliases import ALIAS_REMOVED, PROMOTED
from modeldrop.backend.base import Backend
from modeldrop.collection import ENTRIES
from modeldrop.deployment_records import Deployment, Target
from modeldrop.deployments import DEPLOYED, ROLLED_BACK
from modeldrop.errors import IntegrityError, InvalidName, JournalChanged, RecordDamaged
from modeldrop.form import Json
from modeldrop.home import Home
from modeldrop.home_records import PushedRecord
from modeldrop.intents import Intents
from modeldrop.journal import Copies, Entry, Journal
from modeldrop.journal.reading import EMPTY
from modeldrop.journal.segments import first_difference, read
from modeldrop.layout import collections, numbered, retirements, revisions, versions
from modeldrop.layout import deployments as deployments_of
from modeldrop.layout import moves as moves_of
from modeldrop.layout import target as target_of
from modeldrop.records import (
    AliasMove,
    Collection,
    Head,
    Retirement,
    Revision,
    VacantVersion,
    Version,
)
from modeldrop.retirements import RETIRED, UNRETIRED
from modeldrop.runs import COMMITTED
from modeldrop.shared import SharedJournals
from modeldrop.structs import Struct, field
from modeldrop.targets import TARGET_REMOVED, TARGET_SET
from modeldrop.trust import REBUILT
from modeldrop.versions import LEFT_VACANT, REGISTERED

# Kind of what is off, where, and what.
Found = Callable[[str, str, str], None]
# What entries tell of.
Following = AliasMove | Deployment | Target | Retirement | Collection
Told = Revision | Version | VacantVersion | Following

# How long a record may be there before its entry: a slow store, a crash that is being settled.
_GRACE: Final = 600.0

# What is told of each record, and how `verify` calls what it is about.
KINDS: Final[Mapping[str, str]] = {
    COMMITTED: "revision",
    REGISTERED: "version",
    LEFT_VACANT: "version",
    PROMOTED: "alias",
    ALIAS_REMOVED: "alias",
    RETIRED: "retirement",
    UNRETIRED: "retirement",
    **dict.fromkeys(ENTRIES.values(), "collection"),
    DEPLOYED: "deployment",
    ROLLED_BACK: "deployment",
    TARGET_SET: "target",
    TARGET_REMOVED: "target",
}

_MISSING: Final = "the journal has it, and it is not at the backend"


class Account(Struct):
    """One home's journal, as far as it can be read."""

    home: str
    host: str = ""
    seen: Container[str] = frozenset()
    """The names of records that nobody will ask for."""
    said: dict[str, Entry] = field(default_factory=dict)
    """The entry that speaks of each other record, by the record's name."""
    was: set[str] = field(default_factory=set)
    """The ids that the home had before."""
    last: Head = EMPTY
    last_at: str = ""
    count: int = 0
    wanted: frozenset[int] = frozenset()
    """The numbers of the lines whose digests somebody has vouched for."""
    lines: dict[int, str] = field(default_factory=dict)
    """The digests of those."""
    rebuilt: list[int] = field(default_factory=list)
    """The numbers of the entries that say that the journal was rebuilt."""
    is_whole: bool = True
    """Whether all of it could be read: what is damaged can't be asked what it doesn't have."""

    def take(self, entry: Entry) -> None:
        """Take note of the next entry."""
        self.host, self.last_at = entry.host, entry.at
        self.last = Head(entry.seq, entry.start, entry.end, entry.sha256)
        self.count += 1
        if entry.seq in self.wanted:
            self.lines[entry.seq] = entry.sha256
        if entry.kind in KINDS and entry.about:
            if entry.about[0] not in self.seen:
                self.said[entry.about[0]] = entry
        elif entry.kind == "home-copied":
            self.was.add(str(entry.details.get("copied_from")))
        elif entry.kind == REBUILT:
            self.rebuilt.append(entry.seq)


class Accounts:
    """The journals of all homes."""

    def __init__(
        self, home: Home, journal: Journal, backend: Backend, seen: Container[str] = frozenset()
    ) -> None:
        """Read nothing yet.

        `seen` names records that are known to be at the backend: of what journals say of those
        nothing is kept, which would be some KiB for each.
        """
        self._seen = seen
        self._home = home
        self._journal = journal
        self._backend = backend
        self._shared = SharedJournals(backend)
        self._copies = Copies(home.paths)
        # Of what is under way there may be a record and no entry.
        self._under_way = _under_way(home)
        self.all: dict[str, Account] = {}
        self._wanted: Mapping[str, frozenset[int]] = {}

    def read(self, found: Found, wanted: Mapping[str, frozenset[int]] | None = None) -> None:
        """Read every journal, and tell what is wrong with it.

        `wanted` are, by the home, the numbers of the lines whose digests are to be kept.
        """
        self._wanted = wanted or {}
        self._read_others(found)
        mine = self.all[self._home.id] = self._account(self._home.id, self._home.host)
        try:
            for entry in self._journal.entries():
                mine.take(entry)
        except IntegrityError as error:
            mine.is_whole = False
            found("journal", str(error.detail.get("offset", "")), error.message)
            return
        self._compare_own(mine, found)

    def missing(self) -> list[str]:
        """Return what journals tell of and the backend doesn't hold."""
        return [
            name
            for account in self.all.values()
            for name, entry in account.said.items()
            if not self._is_there(name, KINDS[entry.kind])
        ]

    def compare(
        self,
        known: Mapping[tuple[str, int], Revision],
        pinned: Mapping[tuple[str, int], Version | VacantVersion],
        others: Mapping[str, Following],
        found: Found,
    ) -> int:
        """Tell what journals say and the backend doesn't hold, and the other way round.

        `others` are moves of aliases, deployments and targets, by their names in journals.

        Returns how many records are too new for their home to have shared their entries.
        """
        records: dict[str, Told] = {
            **{f"run:{run}~{number}": each for (run, number), each in known.items()},
            **{f"{name}/{number}": each for (name, number), each in pinned.items()},
            **others,
        }
        for account in self.all.values():
            for name, entry in account.said.items():
                kind = KINDS[entry.kind]
                record = records.get(name)
                if record is None:
                    # Journals are read after the records: it may be newer than those.
                    if not self._is_there(name, kind):
                        found(kind, name, _MISSING + self._of(account))
                elif differs(entry, record):
                    what = "the journal has another digest than the backend"
                    found(kind, name, what + self._of(account))
        self._catch_up()
        waiting = 0
        for name, record in records.items():
            if self._is_told(name, record.home):
                continue
            if self._may_be_unshared(record):
                waiting += 1
                continue
            told = f"no entry of its home {record.home} ({record.host}) tells of it"
            found(_place_of(record)[0], name, told)
        return waiting

    # Reading

    def _catch_up(self) -> None:
        """Take note of what this home has brought to an end since its journal was read."""
        mine = self.all[self._home.id]
        if mine.is_whole:
            # In this order: what is no intent any more has its entry.
            self._under_way |= _under_way(self._home)
            for entry in self._journal.since(mine.last):
                mine.take(entry)

    def _read_others(self, found: Found) -> None:
        for home in sorted({*self._shared.homes(), *self._copies.homes()} - {self._home.id}):
            self._read_other(home, found)

    def _read_other(self, home: str, found: Found) -> None:
        account = self.all[home] = self._account(home)
        path = self._home.paths.fetched_journal(home)
        try:
            copy = self._copies.record(home)
            account.host = copy.host if copy else ""
            self._follow(account, path, copy.head if copy else EMPTY)
        except JournalChanged as error:
            account.is_whole = False
            found("journal", home, error.message)
        except RecordDamaged as error:
            account.is_whole = False
            found("home", home, error.message)

    def _account(self, home: str, host: str = "") -> Account:
        wanted = self._wanted.get(home, frozenset())
        return Account(home, host, seen=self._seen, wanted=wanted)

    def _compare_own(self, mine: Account, found: Found) -> None:
        paths = self._home.paths
        try:
            pushed = PushedRecord.from_bytes(paths.pushed.read_bytes(), "").head
        except (FileNotFoundError, RecordDamaged):
            pushed = EMPTY
        theirs = Account(mine.home, mine.host, seen=self._seen)
        try:
            self._follow(theirs, paths.journal, mine.last, least=pushed)
            # What was appended and shared since the journal was read is no other history.
            if theirs.last.seq > max(mine.last.seq, (self._journal.head() or EMPTY).seq):
                raise self._shared.changed(
                    mine.home, mine.host, mine.last.seq + 1, "it goes on at the backend"
                )
        except JournalChanged as error:
            found("journal", mine.home, error.message)

    def _follow(self, account: Account, path: Path, known: Head, least: Head | None = None) -> None:
        """Read a journal at the backend, and compare it with what is known of it, up to there.

        It may end before that only where it is this home's, and wasn't shared any further.

        Raises:
            JournalChanged: something is off.
        """
        firsts = set(self._shared.firsts(account.home))
        for segment in self._shared.follow(account.home, account.host):
            firsts.discard(segment.first)
            size = min(len(segment.data), max(known.offset - segment.begins, 0))
            mine = read(path, segment.begins, size) if size else b""
            if mine != segment.data[:size]:
                seq = segment.first + first_difference(mine, segment.data)
                raise self._changed(account, seq, f"{path} has it otherwise")
            for entry in segment.entries:
                account.take(entry)
        if account.last.seq < (known if least is None else least).seq:
            raise self._changed(account, account.last.seq + 1, "it was cut there")
        if firsts:
            raise self._changed(account, account.last.seq + 1, "the segment that has it is missing")

    def _changed(self, account: Account, seq: int, why: str) -> JournalChanged:
        return self._shared.changed(account.home, account.host, seq, why)

    # Comparing

    def _of(self, account: Account) -> str:
        return "" if account.home == self._home.id else f" (host {account.host}, {account.home})"

    def _is_there(self, name: str, kind: str) -> bool:
        try:
            return self._backend.stat(_key_of(name, kind)) is not None
        except (ValueError, InvalidName):
            return False  # no name of a record

    def _is_told(self, name: str, home: str) -> bool:
        return any(
            name in each.said and (each.home == home or home in each.was)
            for each in self.all.values()
        )

    def _may_be_unshared(self, record: Told) -> bool:
        """Return whether a record may be there while no entry of it can be known here."""
        _, sequence, at = _place_of(record)
        account = self.all.get(record.home)
        if account is not None and not account.is_whole:
            return True
        if record.home == self._home.id:
            return sequence in self._under_way
        # Where it has another id now, what it did under this one comes no more.
        last = max(
            (
                each.last_at
                for each in self.all.values()
                if each.home == record.home or record.home in each.was
            ),
            default="",
        )
        if not last:
            return time.time() - _seconds(at) < _GRACE
        return _seconds(at) > _seconds(last) - _GRACE


def _place_of(record: Told) -> tuple[str, str, str]:  # noqa: PLR0911 - one for each kind
    """Return what kind of thing a record is of, its sequence, and when it was made."""
    if isinstance(record, Revision):
        return KINDS[COMMITTED], revisions(record.run), record.written_at
    if isinstance(record, Version | VacantVersion):
        return KINDS[REGISTERED], versions(record.experiment), record.written_at
    if isinstance(record, Retirement):
        sequence = retirements(record.experiment, record.version)
        return KINDS[RETIRED], sequence, record.retired_at
    if isinstance(record, Collection):
        return "collection", collections(record.run), record.recorded_at
    if isinstance(record, Deployment):
        sequence = deployments_of(record.experiment, record.target)
        return KINDS[DEPLOYED], sequence, record.deployed_at
    if isinstance(record, Target):
        return KINDS[TARGET_SET], target_of(record.target), record.changed_at
    return KINDS[PROMOTED], moves_of(record.experiment, record.alias), record.moved_at


def _key_of(name: str, kind: str) -> str:
    """Return the key of the record of a kind that has this name in journals.

    Raises:
        ValueError: no record has such a name.
    """
    first, tilde, number = name.partition("~")
    if "#" in first:
        run, _, number = first.removeprefix("run:").partition("#")
        return numbered(collections(run), int(number))
    if first.startswith("run:"):
        return numbered(revisions(first.removeprefix("run:")), int(number))
    if tilde and "@" not in first:
        experiment, _, version = first.partition("/")
        return numbered(retirements(experiment, int(version)), int(number))
    if first.startswith("target:"):
        return numbered(target_of(first.removeprefix("target:")), int(number))
    if tilde:
        experiment, _, bearer = first.partition("@")
        sequence = deployments_of if kind == KINDS[DEPLOYED] else moves_of
        return numbered(sequence(experiment, bearer), int(number))
    experiment, _, number = name.rpartition("/")
    return numbered(versions(experiment), int(number))


def differs(entry: Entry, record: Told) -> bool:  # noqa: PLR0911 - one for each kind
    """Return whether an entry has other digests than the record that it tells of."""
    details = entry.details
    if isinstance(record, Version):
        return record.sha256 != details.get("sha256")
    if isinstance(record, VacantVersion):
        return record.reason != details.get("reason")
    if isinstance(record, Target):
        return record.url != details.get("url")
    if isinstance(record, AliasMove | Deployment):
        pinned = (details.get("version"), details.get("sha256"))
        return pinned != (record.version, record.sha256)
    if isinstance(record, Retirement):
        said_of = (details.get("sha256"), details.get("retired"))
        return said_of != (record.sha256, record.retired)
    if isinstance(record, Collection):
        parts = [each.as_json() for each in record.parts]
        return (details.get("state"), details.get("parts")) != (record.state, parts)
    artifacts = details.get("artifacts")
    said = dict(_digests(artifacts)) if isinstance(artifacts, list) else {}
    return said != record.content()


def _digests(artifacts: list[Json]) -> Iterator[tuple[str, Json]]:
    for each in artifacts:
        if isinstance(each, dict):
            yield str(each.get("artifact")), each.get("sha256")


def _under_way(home: Home) -> set[str]:
    """Return the sequences to which something was begun and not brought to an end."""
    try:
        return {each.sequence for each in Intents(home.paths.intents).all()}
    except IntegrityError:
        return set()  # said by whoever looks after the home


def _seconds(at: str) -> float:
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return 0.0
