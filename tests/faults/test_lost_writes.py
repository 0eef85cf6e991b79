"""What a power loss leaves is always right, and no wait for the disk is there for nothing.

docs/decisions/0105 says what a power loss may leave.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop import files
from support import losing
from support.acts import ACTS
from support.children import run
from support.losing import ALONE, KILLED, OTHER, WHOLE
from support.needed import NEEDED, NOT_NEEDED
from support.recording import Synced
from support.waits import waits

pytestmark = pytest.mark.timeout(900)

Tried = Callable[[str, str, int, int], None]

PLAYED = [
    *((name, ALONE) for name in ACTS),
    *((name, WHOLE) for name, act in ACTS.items() if act.whole),
    *((name, KILLED) for name, act in ACTS.items() if act.killed),
    *((name, OTHER) for name, act in ACTS.items() if act.other),
]
KINDS = {
    ALONE: "unsynced writes lost",
    WHOLE: "unsynced writes lost, syncfs",
    KILLED: "killed, then unsynced writes lost",
    OTHER: "killed, then unsynced writes lost",
}
GROUPS = sorted({*NEEDED.values()})


@pytest.mark.parametrize(("name", "mode"), PLAYED)
def test_whatever_a_power_loss_leaves_what_was_told_is_there_and_it_goes_on(
    name: str, mode: str, tmp_path: Path, tried: Tried
) -> None:
    cases, wrong = run(losing.play, name, mode, tmp_path)
    tried(name.partition(",")[0], KINDS[mode], cases, len(wrong))
    assert not wrong, f"{len(wrong)} of {cases}; the first: {wrong[0]}"
    assert cases


@pytest.mark.parametrize(("name", "mode"), GROUPS)
def test_without_any_one_of_its_waits_something_is_lost(
    name: str, mode: str, tmp_path: Path, tried: Tried
) -> None:
    mine = [wait for wait, where in NEEDED.items() if where == (name, mode)]
    _, green = run(losing.play_without, name, mode, tmp_path, mine)
    tried(name.partition(",")[0], "a wait for the disk left out", len(mine), len(green))
    assert green == [], "nothing is lost without them: a gap here, or they are waits for nothing"


def test_every_wait_for_the_disk_is_known_to_be_needed_or_why_it_is_not() -> None:
    assert {*waits()} == {*NEEDED} | {*NOT_NEEDED}
    assert not {*NEEDED} & {*NOT_NEEDED}


def test_what_is_not_waited_for_is_not_recorded(tmp_path: Path) -> None:
    left_out = "modeldrop/files.py: create_durable: sync_folder"
    whole, without = (run(record_promotion, tmp_path / str(number), number) for number in range(2))
    wait = waits()[left_out]
    assert [each for each in whole if wait.name not in each] == [*without]
    assert len(without) < len(whole)


def record_promotion(folder: str, left_out: int) -> list[str]:
    """Record a promotion, with a line of the product taken out; return its events."""
    real = files.create_durable
    if left_out:

        def without_a_wait(*arguments: object) -> bool:
            sync = files.sync_folder
            files.sync_folder = lambda path: None  # noqa: ARG005 - whatever the folder
            try:
                return real(*arguments)  # type: ignore[arg-type] # as it was called
            finally:
                files.sync_folder = sync

        files.create_durable = without_a_wait  # type: ignore[assignment] # the same
    recording = losing.Player("promote", ALONE, Path(folder)).recording
    wait = waits()["modeldrop/files.py: create_durable: sync_folder"]
    return [
        f"{wait.name}" if isinstance(each, Synced) and wait.is_in(each) else type(each).__name__
        for each in recording.events
    ]
