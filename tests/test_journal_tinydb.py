"""TinyDB's own tests on the journal's storage and table."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from support import tinydb_suite
from support.tinydb_suite import Exclusion, Outcome

EXCLUSIONS: Final = (
    Exclusion(
        "The journal is append-only: what changes, removes or writes over is refused.",
        "UsageError: the journal is append-only",
        """
        middlewares: caching_flush_manually caching_write
        operations: delete add_int add_str subtract set increment decrement
        storages: json json_readwrite in_memory
        tables: next_id truncate_table
        tinydb: drop_table drop_tables custom_mapping_type_with_json unique_ids doc_ids_json delete
        tinydb: remove remove_all_fails remove_multiple remove_ids remove_returns_ids
        tinydb: remove_ids_missing remove_ids_mixed doc_id_missing_consistency
        tinydb: update update_all update_returns_ids update_transform
        tinydb: update_custom_transform_callable update_ids update_ids_missing update_ids_mixed
        tinydb: update_multiple update_multiple_operation upsert upsert_by_id
        """,
    ),
    Exclusion(
        "A journal is one table, and these want another.",
        "UsageError: a journal is one table",
        """
        tables: tables_list one_table multiple_tables caching query_cache_with_mutable_callable
        tables: zero_cache_size query_cache_size lru_cache table_is_iterable table_name table_repr
        tables: persist_table
        tinydb: gc
        """,
    ),
    Exclusion(
        "Queries aren't cached: other processes append.",
        r"utils\.LRUCache object|Right contains one more item: {'name': 'foo', 'value': 42}",
        """
        tables: query_cache
        tinydb: search search_path query_cache
        """,
    ),
    Exclusion(
        "The journal numbers its entries itself, densely.",
        "UsageError: an entry to insert gives kind and user",
        "tinydb: insert_with_doc_id insert_with_duplicate_doc_id insert_multiple_with_doc_ids",
    ),
    Exclusion(
        "The journal holds no floats, and what it can't hold is a UsageError, not a TypeError.",
        "UsageError: the journal can't hold a",
        "tinydb: multiple_dbs insert_invalid_dict",
    ),
    Exclusion(
        "These are about what only a JSON file, or a store in memory, has.",
        "'SuiteStorage' object has no attribute '(memory|_handle)'"
        "|unexpected keyword argument '(sort_keys|access_mode|create_dirs|encoding)'"
        "|DID NOT WARN",
        """
        middlewares: caching_write_many caching_flush caching_json_write
        storages: json_kwargs json_read create_dirs encoding json_invalid_mode_warning
        """,
    ),
)


@pytest.mark.slow  # each insert waits for the disk
def test_tinydbs_own_tests_pass_on_the_journal_or_are_listed_with_the_reason(
    tmp_path: Path, required: bool
) -> None:
    missing = tinydb_suite.is_missing()
    if missing is not None:
        if required:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    outcomes = tinydb_suite.run(tmp_path)
    assert tinydb_suite.differences(outcomes, EXCLUSIONS) == []
    # Much of the suite is about queries alone, and would pass without a journal.
    passed = [name for name, each in outcomes.items() if each.ours and each.failed is None]
    assert len(passed) >= 32


LISTED = Exclusion("", "append-only", "tinydb: remove update")
REFUSED = Outcome(ours=True, failed="UsageError: the journal is append-only")
PASSED = Outcome(ours=True, failed=None)
REMOVE, UPDATE = LISTED.names()


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        ({REMOVE: REFUSED, UPDATE: REFUSED, "test_tinydb.py::test_all": PASSED}, None),
        ({REMOVE: REFUSED, UPDATE: PASSED}, f"{UPDATE} is listed, and passes"),
        ({REMOVE: REFUSED}, f"{UPDATE} is listed, and there is no such test"),
        (
            {REMOVE: REFUSED, UPDATE: Outcome(ours=True, failed="KeyError: 'int'")},
            f"{UPDATE} fails with something else than 'append-only': KeyError: 'int'",
        ),
        (
            {REMOVE: REFUSED, UPDATE: REFUSED, "test_tinydb.py::test_all": REFUSED},
            f"test_tinydb.py::test_all isn't listed, and fails: {REFUSED.failed}",
        ),
    ],
    ids=["as listed", "passes", "is gone", "fails otherwise", "isn't listed"],
)
def test_what_differs_from_the_list_is_told(outcomes: dict[str, Outcome], told: str | None) -> None:
    assert tinydb_suite.differences(outcomes, (LISTED,)) == ([told] if told else [])


def test_no_test_is_listed_twice() -> None:
    names = [name for exclusion in EXCLUSIONS for name in exclusion.names()]
    assert len(names) == len(set(names))
