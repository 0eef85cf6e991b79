"""Every guard in the product has a row that names the tests which go red without it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
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


def test_a_test_that_its_time_limit_stops_is_red_even_where_pytest_cant_report_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "conftest.py").write_text(
        "import signal\n\n"
        "def pytest_runtest_makereport():\n"
        "    signal.raise_signal(signal.SIGALRM)\n"
    )
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    place = os.path.relpath(tmp_path / "test_it.py", TESTS)
    code = (
        "import pathlib, sys; from mutations import run;"
        "place, folder = sys.argv[1:];"
        "tried = run.run_all([run.Try('it', (place,))], pathlib.Path(folder), 1);"
        "print([(each.code, 'INTERNALERROR' in each.said) for each in tried])"
    )

    said = subprocess.run(
        [sys.executable, "-c", code, place, tmp_path],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stdout == "[(1, True)]\n"
