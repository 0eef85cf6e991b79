"""Rows of a database that somebody else wrote, read and never changed.

SQLite is read by the standard library, everything else by SQLAlchemy, an extra. No SQL of the
database's own is run: a view in the place of a table is refused, and so is a damaged file, before
anything of it is used.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

from modeldrop.errors import BackendError, DriverMissing, IntegrityError, NotFound, UsageError
from modeldrop.imports.places import hide_userinfo
from modeldrop.names import printable
from modeldrop.redaction import scrub

if TYPE_CHECKING:
    import sqlalchemy as sa

Row = dict[str, object]
Where = tuple[str, object]

# No text that has a place in a record is longer.
_LONGEST: Final = 16 * 2**20
_HEADER: Final = b"SQLite format 3\0"
# The byte of the header that says how it is written to, and the number of a write-ahead log.
_READ_VERSION: Final = 19
_WAL: Final = 2


class Tables(Protocol):
    """An open database."""

    def has(self, table: str) -> bool:
        """Return whether there is a table of this name."""
        ...

    def rows(self, table: str, columns: Sequence[str], where: Where | None = None) -> Iterator[Row]:
        """Yield the rows of a table, or those with a value; a column that is missing is None.

        Raises:
            IntegrityError: the database is damaged.
        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def require(tables: Tables, names: Sequence[str], shown: str) -> None:
    """Return if a database has these tables.

    Raises:
        UsageError: it lacks one.
    """
    missing = [each for each in names if not tables.has(each)]
    if missing:
        message = f"{shown} has no table {', '.join(missing)}"
        raise UsageError(message, hint="name the database itself, not another one beside it")


def open_sqlite(path: Path) -> Tables:
    """Return a SQLite file, open to be read.

    Raises:
        NotFound: there is no such file.
        UsageError: it is no SQLite database, or can't be read by this user.
        IntegrityError: it is damaged.
    """
    shown = printable(str(path))
    try:
        with path.open("rb") as file:
            begins = file.read(_READ_VERSION + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no database {shown}", hint="name the SQLite file") from error
    except OSError as error:
        raise UsageError(f"{shown} can't be read: {error.strerror}") from error
    if not begins.startswith(_HEADER) or len(begins) <= _READ_VERSION:
        raise UsageError(f"{shown} is no SQLite database", hint="name the SQLite file")
    # In this mode SQLite makes files beside it, even to read; they are there while it is in use.
    quiet = begins[-1] == _WAL and not path.with_name(f"{path.name}-wal").exists()
    return _Sqlite(path, shown, "mode=ro&immutable=1" if quiet else "mode=ro")


class _Sqlite:
    def __init__(self, path: Path, shown: str, mode: str) -> None:
        self._shown = shown
        self._connection = self._connect(path, mode)
        try:
            self._columns = self._read_schema()
        except BaseException:
            self._connection.close()
            raise

    def _connect(self, path: Path, mode: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(path.absolute()))}?{mode}"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
        connection.row_factory = sqlite3.Row
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            raise UsageError(
                f"{self._shown} can't be opened by SQLite: {error}",
                hint="stop what writes to it, or copy it with `sqlite3 FILE '.backup COPY'`",
            ) from error
        except sqlite3.DatabaseError as error:
            connection.close()
            raise self._damaged(error) from error
        return connection

    def _read_schema(self) -> dict[str, frozenset[str]]:
        with self._told():
            found = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if found is None or found[0] != "ok":
                raise self._damaged(found[0] if found else "it can't be checked")
            tables = self._connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' "
                "AND sql NOT LIKE 'CREATE VIRTUAL%'"
            ).fetchall()
            return {
                str(name): frozenset(
                    str(each["name"])
                    for each in self._connection.execute(
                        "SELECT name FROM pragma_table_info(?)", (name,)
                    )
                )
                for (name,) in tables
            }

    def has(self, table: str) -> bool:
        return table in self._columns

    def rows(self, table: str, columns: Sequence[str], where: Where | None = None) -> Iterator[Row]:
        known = self._columns.get(table, frozenset())
        there = [each for each in columns if each in known]
        if not there or (where is not None and where[0] not in known):
            return
        # The names are ours, and quoted; values go as parameters.
        query = f"SELECT {', '.join(map(_quoted, there))} FROM {_quoted(table)}"  # noqa: S608 - see above
        values: tuple[object, ...] = ()
        if where is not None:
            query += f" WHERE {_quoted(where[0])} = ?"
            values = (where[1],)
        with self._told():
            for row in self._connection.execute(query, values):
                yield {name: row[name] if name in there else None for name in columns}

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise self._damaged(error) from error

    def _damaged(self, why: object) -> IntegrityError:
        return IntegrityError(
            f"the database {self._shown} is damaged: {printable(str(why))}",
            hint="restore it from a copy; nothing was imported from it",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def open_url(url: str) -> Tables:
    """Return the database that an SQLAlchemy URL names, open to be read.

    Raises:
        DriverMissing: SQLAlchemy or the driver of that database isn't installed.
        UsageError: it is no such URL.
        BackendError: the database doesn't answer.
    """
    try:
        import sqlalchemy  # noqa: PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise DriverMissing(
            f"to read {hide_userinfo(url)} SQLAlchemy is needed, and it isn't installed",
            hint="install `modeldrop[mlflow]`, and the driver of your database",
        ) from error
    return _Alchemy(sqlalchemy, url)


class _Alchemy:
    def __init__(self, sqlalchemy: Any, url: str) -> None:  # noqa: ANN401 - a module
        self._sa = sqlalchemy
        self._shown = hide_userinfo(url)
        self._tables: dict[str, sa.Table | None] = {}
        try:
            self._engine: sa.Engine = sqlalchemy.create_engine(url)
        except ImportError as error:
            message = f"the driver of {self._shown} isn't installed: {error}"
            raise DriverMissing(message, hint="install the driver that the URL names") from error
        except sqlalchemy.exc.SQLAlchemyError as error:
            message = f"{self._shown} is no URL of a database"
            raise UsageError(message, hint="write it as MLflow's `--backend-store-uri`") from error
        with self._told():
            self._connection: sa.Connection = self._engine.connect()

    def has(self, table: str) -> bool:
        return self._table(table) is not None

    def rows(self, table: str, columns: Sequence[str], where: Where | None = None) -> Iterator[Row]:
        found = self._table(table)
        if found is None:
            return
        there = [each for each in columns if each in found.c]
        if not there or (where is not None and where[0] not in found.c):
            return
        query = self._sa.select(*(found.c[each] for each in there))
        if where is not None:
            query = query.where(found.c[where[0]] == where[1])
        with self._told():
            for row in self._connection.execute(query).mappings():
                yield {name: row[name] if name in there else None for name in columns}

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def _table(self, name: str) -> sa.Table | None:
        if name not in self._tables:
            with self._told():
                try:
                    self._tables[name] = self._sa.Table(
                        name, self._sa.MetaData(), autoload_with=self._connection
                    )
                except self._sa.exc.NoSuchTableError:
                    self._tables[name] = None
        return self._tables[name]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._sa.exc.SQLAlchemyError as error:
            # What a driver says may repeat the URL.
            raise BackendError(
                f"the database {self._shown} failed: {type(error).__name__}: "
                f"{scrub(str(getattr(error, 'orig', None) or type(error).__name__))}",
                hint="see that it runs, and that the URL and its user may read it",
            ) from None
