"""The index: a disposable SQLite file in the home, for what would take reading every record.

Purpose: lists and searches over all versions and runs in well below a second. It is never the
truth: nothing is decided by it, and what it says was read from records that never change.

Calling sequence: `Index(path, repository)` costs nothing; `use(work)` calls `work` with a
connection to an index that has the tables below, perhaps empty. `forward` fills them.

What a crash leaves: what was committed. SQLite's write-ahead log keeps a power loss from leaving a
mixture.

Damaged, of another modeldrop or another repository, it is thrown away and begun anew; where no file
can be kept (a full disk, a home that may only be read), it is made in memory for this once. Neither
is an error: `work` is called again then, so it must do nothing that can't be done twice.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from modeldrop import files
from modeldrop.errors import Locked

_log = logging.getLogger(__name__)

Found = TypeVar("Found")

# `last`: whether a revision is the run's last one, as far as a journal or a listing told.
# `artifacts`, `metadata` and `formats` are JSON; `facts` and `formats` are the same, to be asked.
# `said`: the revision that has a version's metadata; `upto`: the last one of its run that was
# looked at, `open`: whether a later one might say something as well.
# `wanted` are last revisions that were told of and not read yet; `heads` the newest version of each
# experiment that was told of. `aliases`, `retirements`, `live` and `targets` hold the newest record
# of each sequence; what is live at another place than the target's is not live there any more.
_TABLES: Final = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE journals (
    home TEXT PRIMARY KEY, seq INTEGER, start INTEGER, offset INTEGER, sha256 TEXT
) WITHOUT ROWID;
CREATE TABLE wanted (run TEXT PRIMARY KEY, revision INTEGER) WITHOUT ROWID;
CREATE TABLE heads (experiment TEXT PRIMARY KEY, newest INTEGER) WITHOUT ROWID;
CREATE TABLE revisions (
    id INTEGER PRIMARY KEY, run TEXT, revision INTEGER, last INTEGER, experiment TEXT, size INTEGER,
    host TEXT, committed_by TEXT, committed_at TEXT, artifacts TEXT, metadata TEXT, formats TEXT,
    UNIQUE (run, revision)
);
CREATE INDEX newest ON revisions (committed_at, run) WHERE last;
CREATE TABLE versions (
    experiment TEXT, version INTEGER, run TEXT, revision INTEGER, artifact TEXT, sha256 TEXT,
    size INTEGER, host TEXT, registered_by TEXT, registered_at TEXT, description TEXT,
    said INTEGER, upto INTEGER, open INTEGER, PRIMARY KEY (experiment, version)
) WITHOUT ROWID;
CREATE TABLE vacant (
    experiment TEXT, version INTEGER, PRIMARY KEY (experiment, version)
) WITHOUT ROWID;
CREATE TABLE facts (
    name TEXT, revision INTEGER, text TEXT, number, PRIMARY KEY (name, revision, text)
) WITHOUT ROWID;
CREATE TABLE formats (
    revision INTEGER, artifact TEXT, kind TEXT, runs_code INTEGER,
    PRIMARY KEY (revision, artifact, kind, runs_code)
) WITHOUT ROWID;
CREATE TABLE aliases (
    experiment TEXT, alias TEXT, move INTEGER, version INTEGER, PRIMARY KEY (experiment, alias)
) WITHOUT ROWID;
CREATE TABLE retirements (
    experiment TEXT, version INTEGER, retirement INTEGER, retired INTEGER,
    PRIMARY KEY (experiment, version)
) WITHOUT ROWID;
CREATE TABLE live (
    experiment TEXT, target TEXT, deployment INTEGER, version INTEGER, url TEXT,
    PRIMARY KEY (experiment, target)
) WITHOUT ROWID;
CREATE TABLE targets (target TEXT PRIMARY KEY, change INTEGER, url TEXT) WITHOUT ROWID;
"""
# To be raised when other things are put into the same tables.
_CONTENT: Final = 1
# Tables of another shape have another number.
_SHAPE: Final = zlib.crc32(_TABLES.encode() + bytes([_CONTENT])) & 0x7FFFFFFF

# For so many seconds another process of this home may be at writing; a batch takes a part of one.
_TIMEOUT: Final = 30.0


class Index:
    """The index of one home."""

    def __init__(self, path: Path, repository: str) -> None:
        """Keep it at `path`, for this repository."""
        self._path = path
        self._repository = repository

    def use(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what `work` returns, once the index can be used; see above.

        Raises:
            Locked: another process of this home writes to it for too long.
        """
        for _ in range(2):
            try:
                with self._file() as db:
                    return work(db)
            except (sqlite3.Error, _Foreign, OSError, ValueError, TypeError) as error:
                # The last two are what is read of a damaged file as well: texts that are no UTF-8,
                # numbers that are none. Of a new file, the same error is no damage, and is raised.
                if _is_busy(error):
                    raise Locked(
                        f"another process has been writing to {self._path} for {_TIMEOUT:.0f} s",
                        hint="run it again; the index may be removed at any time",
                    ) from error
                _log.debug("the index is made anew: %s", error)
                self._discard()
        with contextlib.closing(_connected(":memory:")) as db:
            self._begin(db)
            return work(db)

    @contextlib.contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        files.make_folders(self._path.parent)
        with contextlib.closing(_connected(str(self._path))) as db:
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # Two that make it at a time: one of them sees to it, and nobody waits for that.
                if not _is_busy(error):
                    raise
            db.execute("PRAGMA synchronous = NORMAL")
            # Pages that can't be right are noticed when they are read, not when they mislead.
            db.execute("PRAGMA cell_size_check = ON")
            if _shape(db) != _SHAPE:
                self._begin(db)
            if about(db, "repository") != self._repository:
                raise _Foreign("it is of another repository")
            yield db

    def _begin(self, db: sqlite3.Connection) -> None:
        with writing(db):
            shape = _shape(db)
            if shape == _SHAPE:
                return  # another process was quicker
            if shape or db.execute("SELECT 1 FROM sqlite_master").fetchone():
                raise _Foreign("it is of another modeldrop")
            for each in _TABLES.split(";"):
                db.execute(each)
            db.execute("INSERT INTO about VALUES ('repository', ?)", (self._repository,))
            db.execute(f"PRAGMA user_version = {_SHAPE}")

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()


class _Foreign(Exception):
    """It isn't this repository's, or not of this shape."""


@contextlib.contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """Make all that is written within one transaction; a reader sees all of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # An error of SQLite's may have ended it already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def about(db: sqlite3.Connection, name: str) -> str | None:
    """Return what the index says of itself under a name."""
    found = db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])


def _connected(path: str) -> sqlite3.Connection:
    # Transactions are begun and ended by `writing` alone.
    return sqlite3.connect(path, timeout=_TIMEOUT, isolation_level=None)


def _is_busy(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _shape(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
