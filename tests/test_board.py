"""The status file: how often it is written, and that it never stays old for long."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from modeldrop import Repository
from modeldrop.intake import board
from modeldrop.intake.status import WatcherStatus
from modeldrop.intake.summary import Summary


@pytest.mark.parametrize(
    ("took", "rest"), [(0.0, 1.0), (0.05, 2.45), (60.0, 5.0)], ids=["quick", "many runs", "stalled"]
)
def test_the_status_is_written_again_soon_however_long_it_once_took(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, took: float, rest: float
) -> None:
    clock = iter([100.0, 100.0 + took])
    monkeypatch.setattr(board, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    made = board.Board(repository.home)

    made.write([], [], WatcherStatus(), Summary(), force=True)

    assert made.due == pytest.approx(100.0 + took + rest)
