"""Bringing the index forward: what journals tell, what listings show, and records, each read once.

Records never change, so what was read once is never read again. What is there to be read, three
sources tell: this home's journal and those that were fetched, from where the index has read them
on; the sequence of versions of an experiment that is asked about; and a listing of the whole
backend, for `runs` and for an index that was just begun.

All of it is committed bit by bit, so whoever is interrupted goes on from there, and two that do it
at a time do some of it twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from modeldrop import layout
from modeldrop.admission import check_backend
from modeldrop.aliases import Aliases
from modeldrop.backend.base import Backend
from modeldrop.deployment_records import Deployment
from modeldrop.deployments import Deployments
from modeldrop.errors import (
    IntegrityError,
    JournalDamaged,
    RunNotFound,
    VersionNotFound,
    VersionVacant,
)
from modeldrop.finding import tables
from modeldrop.finding.index import about, writing
from modeldrop.finding.standing import Standing
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.journal import Copies, Entry, Journal
from modeldrop.journal.reading import EMPTY, head_of
from modeldrop.names import WHOLE_RUN
from modeldrop.records import AliasMove, Head, Retirement, Revision, Version
from modeldrop.references import References
from modeldrop.retirements import Retirements
from modeldrop.runs import COMMITTED, Runs
from modeldrop.structs import Frozen
from modeldrop.targets import Targets
from modeldrop.versions import LEFT_VACANT, REGISTERED, Versions

Named = TypeVar("Named")
Read = TypeVar("Read")

# So many records, and so many lines, go into one transaction.
_RECORDS: Final = 1000
_LINES: Final = 5000
# From so many records on a person should be told.
_MANY: Final = 2000
_VACANT: Final = "vacant"
# The name under which the index says when the whole backend was listed.
SURVEYED: Final = "surveyed_at"


class Rooms(Frozen):
    """Where what is indexed is read: the rooms of one repository."""

    home: Home
    backend: Backend
    journal: Journal
    runs: Runs
    versions: Versions
    aliases: Aliases
    retirements: Retirements
    deployments: Deployments
    targets: Targets
    references: References


class _Chain(NamedTuple):
    """The revisions in which something may be said of a version, as far as they aren't read."""

    experiment: str
    version: int
    run: str
    artifact: str
    sha256: str
    said: int | None
    """The revision that says most so far, by its number in the index."""
    first: int
    """The next revision to look at: first of all the one that the version pins."""
    last: int
    """The run's last revision, as far as was told; 0 if nothing was."""


class Forward:
    """Brings one index forward, once."""

    def __init__(
        self, db: sqlite3.Connection, rooms: Rooms, reading: Callable[[int], None]
    ) -> None:
        """Read nothing yet; `reading` is told how many records are read, where they are many."""
        self._db = db
        self._rooms = rooms
        self._reading = reading
        self.damaged: list[IntegrityError] = []
        """Why some of what was to be read could not be."""

    def all(self) -> None:
        """Take up and read all that the home knows; of a new index all that there is."""
        self.journals()
        began = None if about(self._db, SURVEYED) else now()
        if began:
            self.runs_at_backend()
            names = sorted(self._rooms.versions.experiments())
            self.newest(names)
            self.aliases(names)
            self.live(names)
            self.retirements(names)
        self.revisions()
        self.versions()
        if began:
            with writing(self._db):
                self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (SURVEYED, began))

    # What there is

    def journals(self) -> None:
        """Take up what the journals that are here tell since the last time. Reads no record."""
        rooms = self._rooms
        self._journal(rooms.home.id, rooms.journal.since)
        copies = Copies(rooms.home.paths)
        for other in copies.homes():
            # A home that was restored may have fetched what it was before.
            if other != rooms.home.id:
                self._journal(other, partial(copies.since, other))

    def _journal(self, home: str, since: Callable[[Head], Iterator[Entry]]) -> None:
        found = self._db.execute(
            "SELECT seq, start, offset, sha256 FROM journals WHERE home = ?", (home,)
        ).fetchone()
        try:
            try:
                self._entries(home, since(EMPTY if found is None else Head(*found)))
            except JournalDamaged:
                if found is None:
                    raise
                # It was rebuilt since, perhaps, and is another one from some line on.
                self._entries(home, since(EMPTY))
        except IntegrityError as error:
            self.damaged.append(error)

    def _entries(self, home: str, entries: Iterator[Entry]) -> None:
        while batch := list(islice(entries, _LINES)):
            runs: dict[str, int] = {}
            heads: dict[str, int] = {}
            standing = Standing()
            for entry in batch:
                match entry.kind, entry.details:
                    case (kind, {"run": str(run), "revision": int(revision)}) if kind == COMMITTED:
                        runs[run] = max(revision, runs.get(run, 0))
                    case (kind, {"experiment": str(name), "version": int(number)}) if kind in {
                        REGISTERED,
                        LEFT_VACANT,
                    }:
                        heads[name] = max(number, heads.get(name, 0))
                    case _:
                        standing.hear(entry)
            with writing(self._db):
                tables.want(self._db, runs.items())
                tables.note_heads(self._db, heads.items())
                standing.keep(self._db)
                tables.note_journal(self._db, home, head_of(batch[-1]))

    def runs_at_backend(self) -> None:
        """Take up which runs there are, by a listing; one that is gone is no answer any more."""
        # Before the listing: a run that is taken up meanwhile isn't gone for not being listed.
        known = {run for (run,) in self._db.execute("SELECT run FROM revisions WHERE last")}
        told = {run for (run,) in self._db.execute("SELECT run FROM wanted")}
        there = set(self._rooms.backend.children(""))
        gone = [(run,) for run in known - there]
        if gone:
            check_backend(self._rooms.home, self._rooms.backend, to_write=False)
            with writing(self._db):
                self._db.executemany("UPDATE revisions SET last = 0 WHERE run = ?", gone)
        new = filter(layout.is_run_folder, sorted(there - known - told))
        while some := list(islice(new, _RECORDS)):
            numbers = self._several(self._rooms.runs.last, some)
            with writing(self._db):
                tables.want(self._db, [each for each in zip(some, numbers, strict=True) if each[1]])

    def newest(self, experiments: Sequence[str]) -> dict[str, int]:
        """Return the newest version's number of some experiments, asked of the backend now."""
        known = dict(self._db.execute("SELECT experiment, newest FROM heads").fetchall())
        found = self._several(
            lambda name: self._rooms.versions.reach(name, known.get(name, 0)), experiments
        )
        newest = dict(zip(experiments, found, strict=True))
        news = {name: each for name, each in newest.items() if each != known.get(name, 0)}
        gone = {name: each for name, each in news.items() if each < known.get(name, 0)}
        if gone:
            # What isn't there is absent then, and not merely unmounted.
            check_backend(self._rooms.home, self._rooms.backend, to_write=False)
        if news:
            with writing(self._db):
                tables.note_heads(self._db, [each for each in news.items() if each[1]])
                for name, number in gone.items():
                    tables.forget_after(self._db, name, number)
        return newest

    def aliases(self, experiments: Sequence[str]) -> list[AliasMove]:
        """Take up where aliases are now, and return it."""
        moves = self._rooms.aliases.all(experiments, self.damaged.append)
        self._stands(Standing.of(moves=moves))
        return moves

    def live(self, experiments: Sequence[str]) -> list[Deployment]:
        """Take up what is live now of some experiments, and return it."""
        targets = self._rooms.targets.all(self.damaged.append)
        found = self._rooms.deployments.all(experiments, self.damaged.append) if targets else []
        self._stands(Standing.of(deployments=found, targets=targets))
        return found

    def retirements(self, experiments: Sequence[str]) -> None:
        """Take up which versions are retired: those are read of which nothing is known here.

        That a retirement was taken back is known once the journal of that host is here.
        """
        known = set(self._db.execute("SELECT experiment, version FROM retirements"))
        listed = self._several(self._rooms.retirements.versions_of, experiments)
        names = [
            (experiment, version)
            for experiment, versions in zip(experiments, listed, strict=True)
            for version in versions
            if (experiment, version) not in known
        ]
        found = self._several(lambda name: self.retirement(*name), names)
        self._stands(Standing.of(retirements=[each for each in found if each is not None]))

    def retirement(self, experiment: str, version: int) -> Retirement | None:
        """Return what is said last of whether a version is retired, asked of the backend now."""
        try:
            return self._rooms.retirements.newest(experiment, version)
        except IntegrityError as error:
            self.damaged.append(error)
            return None

    def _stands(self, found: Standing) -> None:
        if not found.is_known(self._db):
            with writing(self._db):
                found.keep(self._db)

    # Reading what there is

    def revisions(self) -> None:
        """Read the last revisions that were told of; what is absent is forgotten."""
        wanted = self._db.execute("SELECT run, revision FROM wanted ORDER BY run").fetchall()
        for some in self._batches(wanted):
            read = self._several(lambda row: self._revision(*row), some)
            with writing(self._db):
                for (run, number), found in zip(some, read, strict=True):
                    if isinstance(found, IntegrityError):
                        self.damaged.append(found)
                        continue
                    if found is not None:
                        tables.insert_revision(self._db, found)
                        tables.mark_last(self._db, run, number)
                    self._db.execute(
                        "DELETE FROM wanted WHERE run = ? AND revision = ?", (run, number)
                    )

    def versions(self, numbers: Mapping[str, Iterable[int]] | None = None) -> None:
        """Read these versions of experiments, or all that were told of; and what is said there."""
        for experiment, wanted in (self._untold() if numbers is None else numbers).items():
            known = {
                number
                for (number,) in self._db.execute(
                    "SELECT version FROM versions WHERE experiment = ? "
                    "UNION ALL SELECT version FROM vacant WHERE experiment = ?",
                    (experiment, experiment),
                )
            }
            missing = [(experiment, number) for number in wanted if number not in known]
            for some in self._batches(missing):
                read = self._several(lambda name: self._version(*name), some)
                vacant = [name for name, each in zip(some, read, strict=True) if each == _VACANT]
                with writing(self._db):
                    tables.insert_versions(
                        self._db, [each for each in read if isinstance(each, Version)]
                    )
                    self._db.executemany("INSERT OR IGNORE INTO vacant VALUES (?, ?)", vacant)
        self._follow(numbers)

    def newest_versions(self, experiments: Sequence[str]) -> dict[str, int]:
        """Read the newest version of some experiments; return its number, of those that have any.

        Numbers that an import left vacant are passed over.
        """
        newest = {name: number for name, number in self.newest(experiments).items() if number}
        wanted = newest
        while wanted:
            self.versions({name: [number] for name, number in wanted.items()})
            vacant = set(self._db.execute("SELECT experiment, version FROM vacant"))
            wanted = {
                name: number - 1
                for name, number in wanted.items()
                if number > 1 and (name, number) in vacant
            }
            newest |= wanted
        return newest

    def _untold(self) -> dict[str, Iterable[int]]:
        """Return the experiments of which versions are missing, with all numbers that they have."""
        rows = self._db.execute(
            "SELECT experiment, newest FROM heads h WHERE newest > "
            "(SELECT count(*) FROM versions v WHERE v.experiment = h.experiment) + "
            "(SELECT count(*) FROM vacant v WHERE v.experiment = h.experiment)"
        )
        return {experiment: range(1, newest + 1) for experiment, newest in rows.fetchall()}

    def _follow(self, of: Iterable[str] | None) -> None:
        """Read what is said of versions: in the revisions that they pin, and in later ones."""
        ask = (
            "SELECT v.experiment, v.version, v.run, v.artifact, v.sha256, v.said, "
            "ifnull(v.upto + 1, v.revision), max(ifnull(l.revision, 0), ifnull(w.revision, 0)) t "
            "FROM versions v LEFT JOIN revisions l ON l.run = v.run AND l.last "
            "LEFT JOIN wanted w ON w.run = v.run "
            "WHERE (v.said IS NULL OR (v.open AND t > v.upto))"
        )
        found = (
            self._db.execute(ask).fetchall()
            if of is None
            else [
                row
                for name in of
                for row in self._db.execute(f"{ask} AND v.experiment = ?", (name,))
            ]
        )
        for some in self._batches([_Chain(*row) for row in found]):
            read = self._several(self._walk, some)
            with writing(self._db):
                for chain, (revisions, is_open) in zip(some, read, strict=True):
                    self._keep(chain, revisions, is_open=is_open)

    def _walk(self, chain: _Chain) -> tuple[list[Revision], bool]:
        """Return the revisions of a chain, and whether one that comes later may belong to it."""
        found: list[Revision] = []
        number = chain.first
        # Of a run that nothing was told of, the backend is asked until there is none.
        while chain.last < chain.first or number <= chain.last:
            revision = self._revision(chain.run, number)
            if isinstance(revision, IntegrityError):
                self.damaged.append(revision)
                return found, True
            if revision is None:
                return found, number > chain.last
            found.append(revision)
            if _digest(revision, chain.artifact) != chain.sha256:
                return found, False
            number += 1
        return found, True

    def _keep(self, chain: _Chain, revisions: Sequence[Revision], *, is_open: bool) -> None:
        said, upto = chain.said, chain.first - 1
        for revision in revisions:
            upto = revision.revision
            number = tables.insert_revision(self._db, revision)
            belongs = _digest(revision, chain.artifact) == chain.sha256
            if said is None or (belongs and revision.metadata):
                said = number
        if said is not None:
            # Another process may have come further, and not be asked again.
            self._db.execute(
                "UPDATE versions SET said = ?, upto = ?, open = ? "
                "WHERE experiment = ? AND version = ? AND ifnull(upto, 0) <= ?",
                (said, upto, is_open, chain.experiment, chain.version, upto),
            )

    def _revision(self, run: str, number: int) -> Revision | IntegrityError | None:
        try:
            return self._rooms.runs.revision(run, number)
        except RunNotFound:
            return None
        except IntegrityError as error:
            return error

    def _version(self, experiment: str, number: int) -> Version | str | None:
        try:
            return self._rooms.versions.version(experiment, number)
        except VersionVacant:
            return _VACANT
        except VersionNotFound as error:
            # Numbers have no gaps.
            hint = "`modeldrop verify` checks the whole store"
            self.damaged.append(IntegrityError(error.message, hint=hint))
        except IntegrityError as error:
            self.damaged.append(error)
        return None

    def _batches(self, wanted: Sequence[Named]) -> Iterator[Sequence[Named]]:
        if wanted:
            # What isn't there is absent then, and not merely unmounted.
            check_backend(self._rooms.home, self._rooms.backend, to_write=False)
        if len(wanted) >= _MANY:
            self._reading(len(wanted))
        for start in range(0, len(wanted), _RECORDS):
            yield wanted[start : start + _RECORDS]

    def _several(self, read: Callable[[Named], Read], names: Sequence[Named]) -> list[Read]:
        capabilities = self._rooms.backend.capabilities
        if not capabilities.lists_by_prefix or len(names) == 1:
            # A look is cheap there, and threads would only wait for each other.
            return [read(name) for name in names]
        with ThreadPoolExecutor(capabilities.connections) as pool:
            return list(pool.map(read, names))


def _digest(revision: Revision, artifact: str) -> str | None:
    if artifact == WHOLE_RUN:
        return revision.whole().sha256
    return revision.content().get(artifact)
