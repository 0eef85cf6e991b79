"""What the tests don't reach is found, and has a true row; where it has none, that is red."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from covering.check import check
from covering.places import LEAST, Place, Table, mistakes, places, table

SOURCE = """\
def reached(number):
    if number:
        number += 1
    for _ in range(number):
        number += 1
    return number


class Some:
    def lost(self):
        try:
            return reached(0)
        except ValueError:
            raise KeyError from None

    def never(self):
        return reached(2)


reached(1)
Some().lost()
"""
NOT_TAKEN = "reached: for _ in range(number):"


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    """What coverage.py says of a small program that really ran."""
    (tmp_path / "small.py").write_text(SOURCE)
    (tmp_path / ".coveragerc").write_text("[run]\nbranch = true\nrelative_files = true\n")
    for arguments in (["run", "small.py"], ["json", "-q", "-o", "out.json"]):
        command = [sys.executable, "-m", "coverage", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, env={"PATH": ""})
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    return found


def rows(**more: str) -> Table:
    said = {
        "Some.lost: except ValueError:": "@never",
        "Some.never: return reached(2)": "nobody calls it here",
    }
    return Table({"small.py": said | more}, {"never": "it can't be"})


def test_lines_and_branches_that_are_not_reached_are_named_by_function_and_text(
    report: dict[str, Any], tmp_path: Path
) -> None:
    assert places(report, tmp_path) == [
        Place("small.py", "Some.lost: except ValueError:", 13),
        Place("small.py", "Some.never: return reached(2)", 17),
    ]


def test_a_branch_that_is_not_taken_is_named_where_both_its_ends_are_reached(
    report: dict[str, Any], tmp_path: Path
) -> None:
    report["files"]["small.py"]["missing_branches"].append([4, 6])

    assert NOT_TAKEN in [each.name for each in places(report, tmp_path)]


def test_what_has_a_reason_is_well_and_what_has_none_is_told_with_its_place(
    report: dict[str, Any], tmp_path: Path
) -> None:
    assert check(report, rows(), tmp_path, 0)[0]

    without = Table({"small.py": {}}, {})
    is_well, lines = check(report, without, tmp_path, 0)
    assert not is_well
    assert any("small.py:13 isn't reached" in each for each in lines)
    # As many as a run may miss by luck are told, and are no failure.
    assert check(report, without, tmp_path, 2) == (True, lines)
    # A reason that there isn't is none.
    assert not check(report, Table(rows().rows, {}), tmp_path, 0)[0]


def test_fewer_branches_than_are_wanted_are_not_well(
    report: dict[str, Any], tmp_path: Path
) -> None:
    report["totals"].update(num_branches=10_000, covered_branches=int(LEAST * 100) - 1)

    is_well, lines = check(report, rows(), tmp_path, 0)

    assert not is_well
    assert f"94.99 % (9,499 of 10,000), and {LEAST:g} % are wanted" in lines[0]


def test_a_row_of_what_is_reached_is_told_and_is_no_failure(
    report: dict[str, Any], tmp_path: Path
) -> None:
    is_well, lines = check(report, rows(**{NOT_TAKEN: "@never"}), tmp_path, 0)

    assert is_well
    assert [each for each in lines if NOT_TAKEN in each]


def test_rows_of_lines_that_are_gone_and_reasons_that_are_not_there_are_mistakes(
    tmp_path: Path,
) -> None:
    (tmp_path / "small.py").write_text(SOURCE)
    assert mistakes(rows(), tmp_path) == []

    wrong = mistakes(
        Table({"small.py": {"reached: gone": "@nothing", NOT_TAKEN: " "}}, {"unused": "x"}),
        tmp_path,
    )

    assert len(wrong) == 4


def test_the_table_has_only_rows_of_lines_that_are_there_with_reasons_that_are() -> None:
    assert mistakes(table()) == []
