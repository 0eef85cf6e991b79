"""The journal through TinyDB: its `Table` and `Query` over a file that only grows.

Stock TinyDB writes its whole file in place at each insert, and rebuilds every document of a table
even where its storage doesn't. So this table overrides what writes, and leaves what reads to
TinyDB. The first search reads the journal once; a later one reads what was appended since.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tinydb import TinyDB
from tinydb.storages import Storage
from tinydb.table import Document, Table

from modeldrop.errors import UsageError
from modeldrop.form import Fields, Json
from modeldrop.journal.lines import NewEntry
from modeldrop.journal.reading import EMPTY, head_of

if TYPE_CHECKING:
    from modeldrop.journal.log import Journal

# What a document to insert may give, and what it has to; the journal adds the rest.
_GIVEN: Final = frozenset({"kind", "about", "request", "details", "user"})
_NEEDED: Final = frozenset({"kind", "user"})


class JournalStorage(Storage):
    """The journal's entries in memory, brought up to date at each read."""

    def __init__(self, journal: Journal) -> None:
        """Read nothing yet."""
        self._journal = journal
        self._seen = EMPTY
        self._documents: dict[str, Fields] = {}
        self._refreshing = threading.Lock()

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the one table, if it has entries, with what was appended since the last time."""
        with self._refreshing:
            if (self._journal.head() or EMPTY) != self._seen:
                # A new dict: another thread may be going through the one it was given.
                documents, seen = dict(self._documents), self._seen
                for entry in self._journal.since(seen):
                    documents[str(entry.seq)] = entry.as_json()
                    seen = head_of(entry)
                self._documents, self._seen = documents, seen
            # TinyDB knows no table in which nothing was put down yet.
            return {TinyDB.default_table_name: self._documents} if self._documents else {}

    def write(self, data: dict[str, dict[str, Any]]) -> NoReturn:  # noqa: ARG002 - Storage's
        """Refuse: the journal is append-only."""
        raise _append_only()


class JournalDocument(Document):
    """A copy of an entry, down to its details: what a caller does to it stays with the caller."""

    def __init__(self, value: Mapping[str, Any], doc_id: int) -> None:
        """Copy the entry."""
        super().__init__({key: _copy(item) for key, item in value.items()}, doc_id)


class JournalTable(Table):
    """The journal's entries as documents, numbered as the journal numbers them.

    A search sees everything that was acknowledged when it began, and returns copies. To insert
    is to append, durably, at a cost that doesn't depend on the journal's length. What would
    change or remove an entry raises `UsageError`: an audit trail only grows.
    """

    document_class: type[Document] = JournalDocument

    def __init__(self, journal: Journal) -> None:
        """Read nothing yet."""
        # TinyDB's cache of queries would have to be dropped whenever another process appends.
        super().__init__(JournalStorage(journal), TinyDB.default_table_name, cache_size=0)
        self._journal = journal

    def insert(self, document: Mapping[str, Any]) -> int:
        """Append one entry and return its number.

        The document gives `kind` and `user`, and may give `about`, `request` and `details`.

        Raises:
            UsageError: it gives something else; nothing was written.
            ModeldropError: as for `Journal.append`.
        """
        return self.insert_multiple([document])[0]

    def insert_multiple(self, documents: Iterable[Mapping[str, Any]]) -> list[int]:
        """Append entries in one commit and return their numbers; raises as `insert` does."""
        new = [_new_entry(document) for document in documents]
        return [entry.seq for entry in self._journal.append(*new)]

    def __len__(self) -> int:
        """Return how many entries are acknowledged, without reading them."""
        head = self._journal.head()
        return head.seq if head else 0

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 - whatever TinyDB's take
        raise _append_only()

    update = update_multiple = upsert = remove = truncate = _refuse


def _new_entry(document: object) -> NewEntry:
    if not isinstance(document, Mapping):
        raise ValueError("Document is not a Mapping")  # noqa: TRY004 - what TinyDB raises
    keys = set(document)
    if isinstance(document, Document) or not _NEEDED <= keys <= _GIVEN:
        message = "an entry to insert gives kind and user, and may give about, request and details"
        raise UsageError(message, hint="number, time, home and host are the journal's to give")
    about = document.get("about", [])
    if not isinstance(about, list | tuple):
        message = "what an entry is about is a list of references"
        raise UsageError(message, hint='use a list, as in {"about": ["churn/3"]}')
    return NewEntry(
        kind=document["kind"],
        about=tuple(about),
        request=document.get("request", str(uuid.uuid4())),
        details=document.get("details", {}),
        user=document["user"],
    )


def _copy(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _append_only() -> UsageError:
    return UsageError(
        "the journal is append-only: its entries are never changed or removed",
        hint="append an entry that says what changed",
    )
