from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydb import Query, TinyDB, where
from tinydb.queries import QueryLike
from tinydb.storages import MemoryStorage
from tinydb.table import Document, Table

from modeldrop.errors import UsageError
from modeldrop.form import Fields
from modeldrop.journal import Journal, NewEntry
from modeldrop.journal.table import JournalStorage
from modeldrop.layout import HomePaths
from support.journals import note, opened, paths_in

entry = Query()
QUERIES: dict[str, QueryLike] = {
    "equal": where("kind") == "committed",
    "unequal": entry.user != "ada",
    "nested": entry.details.n > 1,
    "and": (entry.kind == "deployed") & (entry.user == "ada"),
    "or": (entry.kind == "deployed") | (entry.details.n == 0),
    "not": ~(entry.kind == "deployed"),
    "exists": entry.details.text.exists(),
    "one of": entry.kind.one_of(["registered", "deployed"]),
    "any": entry.about.any(["churn/1"]),
    "all": entry.about.all(["churn/1", "churn/2"]),
    "any that": entry.about.any(lambda about: about.endswith("2")),
    "matches": entry.details.text.matches("[a-m]", flags=re.IGNORECASE),
    "search": entry.details.text.search("b"),
    "test": entry.seq.test(lambda seq: seq % 2 == 0),
    "fragment": entry.fragment({"user": "bob"}),
    "map": entry.about.map(len) == 2,
    "noop": entry.noop(),
    "by number": entry.seq == 3,
    "a function": lambda document: len(document["about"]) == 1,
}


@st.composite
def news(draw: st.DrawFn) -> NewEntry:
    about = st.lists(st.sampled_from(["churn/1", "churn/2", "iris/2"]), max_size=2)
    details: Fields = {"n": draw(st.integers(-1, 3))}
    if draw(st.booleans()):
        details["text"] = draw(st.text("abnZ", max_size=3))
    if draw(st.booleans()):
        details["flag"] = draw(st.booleans() | st.none())
    return NewEntry(
        draw(st.sampled_from(["committed", "registered", "deployed"])),
        tuple(draw(about)),
        "request",
        details,
        draw(st.sampled_from(["ada", "bob"])),
    )


@pytest.fixture
def paths(tmp_path: Path) -> HomePaths:
    return paths_in(tmp_path / "home")


@pytest.fixture
def journal(paths: HomePaths) -> Journal:
    return opened(paths)


def answers(table: Table, cond: QueryLike) -> list[object]:
    """Return what a table answers to a query in every way there is, numbers included."""
    found = table.search(cond)
    one = table.get(cond)
    assert isinstance(one, Document | None)
    return [
        [(document.doc_id, document) for document in found],
        (one.doc_id, one) if one else None,
        table.count(cond),
        table.contains(cond),
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(news(), max_size=4), max_size=4))
def test_every_query_is_answered_as_stock_tinydb_answers_it(batches: list[list[NewEntry]]) -> None:
    with tempfile.TemporaryDirectory() as folder, TinyDB(storage=MemoryStorage) as stock:
        journal = opened(paths_in(Path(folder)))
        ours, theirs = journal.table(), stock.table("_default")
        for batch in batches:
            written = journal.append(*batch)
            theirs.insert_multiple(Document(each.as_json(), each.seq) for each in written)
            for cond in QUERIES.values():
                assert answers(ours, cond) == answers(theirs, cond)
        assert len(ours) == len(theirs)
        assert ours.all() == theirs.all() == list(ours)
        assert [each.doc_id for each in ours] == [each.doc_id for each in theirs]
        for number in (0, 1, 3, 99):
            assert ours.get(doc_id=number) == theirs.get(doc_id=number)
            assert ours.contains(doc_id=number) == theirs.contains(doc_id=number)
        assert ours.get(None, None, [2, 1, 99]) == theirs.get(None, None, [2, 1, 99])


def test_insert_appends_and_returns_the_number(journal: Journal) -> None:
    table = journal.table()
    assert table.insert({"kind": "noted", "user": "ada"}) == 1
    whole = {"kind": "k", "user": "u", "about": ["churn/1"], "request": "r", "details": {"n": 1}}
    assert table.insert_multiple(dict(whole, kind=kind) for kind in "ab") == [2, 3]
    assert table.insert_multiple([]) == []
    assert journal.check() == len(table) == 3
    assert [found.kind for found in journal.entries()] == ["noted", "a", "b"]
    second = table.get(doc_id=2)
    assert isinstance(second, Document)
    assert {key: second[key] for key in whole} == dict(whole, kind="a")
    requests = [found.request for found in journal.entries()]
    assert len(requests[0]) == 36


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "noted"},
        {"kind": "noted", "user": "ada", "seq": 7},
        {"kind": "noted", "user": "ada", "note": "unknown"},
        {"kind": "noted", "user": "ada", "about": "churn/1"},
        {"kind": "noted", "user": "ada", "details": {"ratio": 0.5}},
        {"kind": "noted", "user": None},
        Document({"kind": "noted", "user": "ada"}, 7),
    ],
    ids=str,
)
def test_what_is_no_entry_is_refused_and_none_of_its_company_is_written(
    journal: Journal, document: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        journal.table().insert_multiple([{"kind": "noted", "user": "ada"}, document])
    assert journal.head() is None


def test_what_is_no_mapping_is_refused_as_tinydb_refuses_it(journal: Journal) -> None:
    with pytest.raises(ValueError, match="Document is not a Mapping"):
        journal.table().insert([])  # type: ignore[arg-type] # what a careless caller does


CHANGES: dict[str, Callable[[Table], object]] = {
    "update": lambda table: table.update({"user": "eve"}),
    "update by function": lambda table: table.update(dict.clear, where("user") == "ada"),
    "update by number": lambda table: table.update({"user": "eve"}, doc_ids=[]),
    "update several": lambda table: table.update_multiple([({"user": "eve"}, where("seq") == 1)]),
    "upsert": lambda table: table.upsert({"user": "eve"}, where("user") == "ada"),
    "remove": lambda table: table.remove(where("user") == "ada"),
    "remove by number": lambda table: table.remove(doc_ids=[1]),
    "remove nothing": lambda table: table.remove(),
    "truncate": lambda table: table.truncate(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_would_change_an_entry_is_refused(
    journal: Journal, paths: HomePaths, change: str
) -> None:
    journal.append(note(1), note(2))
    before = paths.journal.read_bytes(), journal.table().all()
    with pytest.raises(UsageError, match="append-only"):
        CHANGES[change](journal.table())
    assert (paths.journal.read_bytes(), journal.table().all()) == before


def test_dropping_the_table_is_refused(journal: Journal, paths: HomePaths) -> None:
    journal.append(note(1))
    before = paths.journal.read_bytes()
    with TinyDB(journal, storage=JournalStorage) as database:
        assert len(database) == 1
        for drop in (database.drop_tables, lambda: database.drop_table("_default")):
            with pytest.raises(UsageError, match="append-only"):
                drop()
        assert len(database) == 1
    assert paths.journal.read_bytes() == before


def test_the_table_is_named_once_it_has_an_entry_as_stock_tinydb_names_it(journal: Journal) -> None:
    with (
        TinyDB(journal, storage=JournalStorage) as database,
        TinyDB(storage=MemoryStorage) as stock,
    ):
        assert database.tables() == stock.tables() == set()
        assert (len(journal.table()), journal.table().all()) == (0, [])
        journal.append(note(1))
        stock.insert({})
        assert database.tables() == stock.tables() == {"_default"}


def test_what_a_caller_does_to_a_document_changes_no_later_answer(journal: Journal) -> None:
    journal.append(note(1, tags=["a"]))
    table = journal.table()
    cond = where("seq") == 1
    before = table.search(cond)
    for documents in (table.search(cond), table.all(), [table.get(cond)], [table.get(doc_id=1)]):
        for document in documents:
            assert isinstance(document, Document)
            document["details"]["tags"].append("b")
            document["kind"] = "changed"
    assert table.search(cond) == before
    assert before[0]["details"]["tags"] == ["a"]


def test_a_later_search_sees_what_others_appended_by_reading_the_tail(
    journal: Journal, paths: HomePaths
) -> None:
    journal.append(*(note(number) for number in range(2000)))
    table = journal.table()
    last = where("details").map(lambda details: details["number"]) >= 1999
    assert table.count(last) == 1

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text("ascii").split()[1])

    opened(paths).append(note(2000), note(2001))
    before = bytes_read()
    assert [document.doc_id for document in table.search(last)] == [2000, 2001, 2002]
    assert bytes_read() - before < 20_000
