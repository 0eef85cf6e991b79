"""The counts of faults that were tried: kept, compared, shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import faulttable
from support.faulttable import Row, added


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(faulttable, "RESULTS", tmp_path)
    return tmp_path


def test_what_several_tests_tried_of_a_kind_is_added_up() -> None:
    counted = added([Row("register", "EIO", 3, 0), Row("register", "EIO", 4, 1)])
    assert faulttable.update("calls", counted, whole=True) == []
    assert faulttable.read("calls") == {("register", "EIO"): Row("register", "EIO", 7, 1)}


def test_count_that_falls_is_told_and_kept() -> None:
    faulttable.update("calls", added([Row("register", "EIO", 70, 0)]), whole=True)
    [told] = faulttable.update("calls", added([Row("register", "EIO", 30, 0)]), whole=True)
    assert told == "calls: EIO, register: 70 before, 30 now"
    assert faulttable.read("calls")["register", "EIO"].cases == 30
    assert faulttable.update("calls", {}, whole=True) == ["calls: EIO, register: 30 before, 0 now"]


def test_count_that_is_nearly_the_same_leaves_the_file_alone(results: Path) -> None:
    faulttable.update("calls", added([Row("register", "EIO", 70, 0)]), whole=True)
    before = (results / "calls.json").read_bytes()
    assert faulttable.update("calls", added([Row("register", "EIO", 68, 0)]), whole=True) == []
    assert (results / "calls.json").read_bytes() == before


def test_suite_of_which_tests_were_skipped_loses_nothing() -> None:
    both = [Row("pull", "full disk", 9, 0), Row("register", "EIO", 70, 0)]
    faulttable.update("calls", added(both), whole=True)
    assert faulttable.update("calls", added([Row("register", "EIO", 90, 0)]), whole=False) == []
    assert faulttable.read("calls") == {
        ("pull", "full disk"): Row("pull", "full disk", 9, 0),
        ("register", "EIO"): Row("register", "EIO", 90, 0),
    }


def test_table_has_each_count_and_the_sums() -> None:
    rows = [Row("pull", "EIO", 5, 0), Row("register", "EIO", 7, 2), Row("register", "ENOSPC", 4, 0)]
    faulttable.update("calls", added(rows), whole=True)
    assert faulttable.shown() == (
        "16 cases in all, 2 of them failed.\n\n"
        "`tests/faults/test_calls.py`:\n\n"
        "|  | pull | register | all |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| EIO | 5 | 7 (2 failed) | 12 |\n"
        "| ENOSPC |  | 4 | 4 |\n"
        "| all | 5 | 11 | 16 |\n"
    )
