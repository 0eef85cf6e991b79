"""Every guard in the product has a row that names the tests which go red without it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutations import guards, tables, taking

TESTS = Path(__file__).parent

SNIPPETS = {
    guards.SYNC: "os.fsync(fd)",
    guards.LOCK: "locks.hold(path, what='it')",
    guards.CONDITION: "files.link_if_absent(temp, path)",
    guards.DIGEST: "found.sha256 != file.sha256",
    guards.READ_BACK: "backend.confirm(key)",
    guards.SOURCE: "unchanged()",
}


def test_every_guard_has_a_row_and_every_row_a_guard() -> None:
    _, wrong = tables.paired()

    assert wrong == []


def test_every_row_names_tests_that_are_there_or_says_why_there_are_none() -> None:
    wrong = [
        f"{name}: {row}"
        for name, row in tables.rows().items()
        if bool(row.tests) == bool(row.no_guard or row.stays)
        or not all(_is_there(test) for test in row.tests)
    ]

    assert wrong == []


@pytest.mark.parametrize("kind", SNIPPETS)
def test_a_guard_of_each_kind_that_is_new_is_found(kind: str) -> None:
    path = guards.ROOT / "store" / "modeldrop" / "new.py"

    found = guards.guards_in(f"def work():\n    {SNIPPETS[kind]}\n".encode(), path)

    assert [each.id for each in found] == [f"modeldrop.new:work:{kind}:1"]


def test_every_guard_that_is_tried_can_be_taken_out_and_leaves_the_rest_as_it_was() -> None:
    pairs, _ = tables.paired()
    for guard, row in pairs.items():
        if row.tests:
            before = guard.path.read_bytes()
            after = taking.without(guard, row.instead)
            assert after != before
            assert after.endswith(before[guard.end :])
            # Up to the guard, or to the comma before it.
            assert after.startswith(before[: before.rindex(b"\n", 0, guard.start)])


def _is_there(test: str) -> bool:
    """Return whether a test is there, by its file and its name; parameters aren't looked at."""
    file, *names = test.partition("[")[0].split("::")
    path = TESTS / file
    if not path.is_file() or not names:
        return False
    scope: list[ast.stmt] = ast.parse(path.read_bytes()).body
    for name in names:
        found = [
            each
            for each in scope
            if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name == name
        ]
        if not found:
            return False
        scope = found[0].body
    return True
