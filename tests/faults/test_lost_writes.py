"""What a power loss leaves is always right, and no wait for the disk is there for nothing.

docs/decisions/0105 says what a power loss may leave.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import losing
from support.acts import ACTS
from support.children import run
from support.losing import ALONE, KILLED, OTHER, WHOLE
from support.needed import NEEDED, NOT_NEEDED
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
    whole, without = (
        run(losing.record_promotion, tmp_path / str(number), number) for number in range(2)
    )
    assert [each for each in whole if each != losing.LEFT_OUT] == [*without]
    assert len(without) < len(whole)
