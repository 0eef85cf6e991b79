"""What stands in place of the `conftest.py` of TinyDB's own tests: their databases are journals.

TinyDB's documents hold what they like, the journal's entries have fields of their own. So a
document of the suite is the `details` of an entry, going in and coming out; all else is what
`JournalStorage` and `JournalTable` do. What a suite's test drops before it begins is arrangement,
and gets a new journal; where a test is about dropping, nothing stands in for it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware, Middleware
from tinydb.table import Document, Table

from modeldrop.errors import UsageError
from modeldrop.journal.table import JournalStorage, JournalTable
from support.journals import opened, paths_in

OUTCOMES: dict[str, dict[str, Any]] = {}
ABOUT_DROPPING = frozenset({"test_tinydb.py::test_drop_tables", "test_tinydb.py::test_drop_table"})
running = ""


class SuiteStorage(JournalStorage):
    """The journal of a home at a path, or of a new one, read as documents of the suite."""

    def __init__(self, path: str | None = None, *, ensure_ascii: bool = False) -> None:
        """Open it, or begin it in a folder that is there, as a file would be."""
        del ensure_ascii  # the journal's lines are always UTF-8
        folder = Path(path or tempfile.mkdtemp())
        if not folder.exists():
            folder.mkdir()
        self.journal = opened(paths_in(folder))
        super().__init__(self.journal)
        OUTCOMES[running]["ours"] = True

    def read(self) -> dict[str, dict[str, Any]]:
        """Return what was inserted, without what the journal adds."""
        return {
            name: {number: entry["details"] for number, entry in entries.items()}
            for name, entries in super().read().items()
        }


class SuiteTable(JournalTable):
    """The table of such a journal."""

    def __init__(self, storage: SuiteStorage, name: str) -> None:
        """Read through this storage, or through what stands before it."""
        super().__init__(storage.journal)
        self._storage = storage
        assert self.name == name

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[int]:
        """Append them as entries; what is no document goes on as it is."""
        return super().insert_multiple(_entry(document) for document in documents)


def _entry(document: object) -> Any:  # noqa: ANN401 - the suite inserts what is no document too
    if not isinstance(document, Mapping):
        return document
    entry = {"kind": "inserted", "user": "suite", "details": dict(document)}
    return Document(entry, document.doc_id) if isinstance(document, Document) else entry


class SuiteDatabase(TinyDB):
    """TinyDB, with our table where the storage is ours."""

    default_storage_class = SuiteStorage  # type: ignore[assignment] # TinyDB names one of its own

    def table(self, name: str, **settings: Any) -> Table:  # noqa: ANN401 - TinyDB's
        """Return the journal's table; a storage of a test's own has TinyDB's."""
        if not _is_ours(self.storage):
            return super().table(name, **settings)
        if name != self.default_table_name:
            raise UsageError("a journal is one table", hint="use the table of the journal")
        return super().table(name, **settings)

    def table_class(self, storage: Any, name: str, **settings: Any) -> Table:  # type: ignore[override] # noqa: ANN401 - called as TinyDB calls its class
        """Make a table."""
        made = SuiteTable if _is_ours(storage) else Table
        return made(storage, name, **settings)

    def drop_tables(self) -> None:
        """Go on with a new journal, unless the test is about dropping."""
        if not _is_ours(self.storage) or running in ABOUT_DROPPING:
            super().drop_tables()
        else:
            self._storage = SuiteStorage()
            self._tables.clear()


# A test looks at what the database says of itself.
SuiteDatabase.__name__ = TinyDB.__name__


def _is_ours(storage: object) -> bool:
    while isinstance(storage, Middleware):
        storage = storage.storage
    return isinstance(storage, SuiteStorage)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note which test runs, and put our classes where it looks for TinyDB's."""
    global running  # noqa: PLW0603 - a storage isn't told which test makes it
    running = item.nodeid.removeprefix("tests/")
    OUTCOMES[running] = {"ours": False, "failed": None}
    module = item.getparent(pytest.Module)
    assert module is not None
    ours: dict[str, type] = {
        "TinyDB": SuiteDatabase,
        "MemoryStorage": SuiteStorage,
        "JSONStorage": SuiteStorage,
    }
    for name in ours.keys() & vars(module.obj).keys():
        setattr(module.obj, name, ours[name])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what a test failed with, in whichever of its phases."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        OUTCOMES[running]["failed"] = crash.message if crash else report.longreprtext


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down what became of each test."""
    (session.config.rootpath / "outcomes.json").write_text(json.dumps(OUTCOMES), "utf-8")


@pytest.fixture
def db() -> Iterator[TinyDB]:
    """A database with the three documents that the suite counts on."""
    with SuiteDatabase() as database:
        database.insert_multiple({"int": 1, "char": char} for char in "abc")
        yield database


@pytest.fixture
def storage() -> Any:  # noqa: ANN401 - TinyDB's middleware is no Storage, and untyped
    """A cache before a storage."""
    return CachingMiddleware(SuiteStorage)()  # type: ignore[no-untyped-call] # the same
