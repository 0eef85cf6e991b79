"""Bits flipped, lines changed, files lost, old copies put back: it is told, or it is harmless.

Never is anything changed silently, is a number given twice, or does an error come that is none of
modeldrop's. What is asked, and what is right then, say the tables in `support.damage` and
`support.rewriting`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support import children, damage, missing, rewriting, world
from support.damage import THINGS, Judge, truth
from support.program import as_process
from support.questions import QUESTIONS, Told
from support.world import PENDING, TARGET, WAITING, Snapshot, World

# By the machine's load: the children that are waited for here ask thousands of times.
pytestmark = pytest.mark.timeout(900)

Tried = Callable[[str, str, int, int], None]
Tallies = dict[str, dict[str, Any]]

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - folders of our own are made there


COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "log": ("log",),
    "pull": ("pull", "churn/1"),
    "register": ("register", WAITING, "-e", "churn"),
    "settle": ("register", WAITING, "-e", PENDING),
    "promote": ("promote", "churn/1", "champion"),
    "deploy": ("deploy", "churn/1", TARGET),
    "scan": ("scan", "--once"),
    "fetch": ("fetch",),
    "verify": ("verify", "--deep"),
}
"""The program's commands that ask the questions."""
TOLD_BY: Final = [
    (name, question)
    for name, thing in THINGS.items()
    for question in thing.told
    # What is in the folder belongs to another version than the one that is pulled.
    if question in COMMANDS and (name, question) != ("object in a folder", "pull")
]


def _folder() -> Path:
    """Return a new folder, in memory if it can be: what is waited for here can't be lost."""
    in_memory = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="modeldrop-", dir=MEMORY if in_memory else None))


@pytest.fixture(scope="session")
def whole() -> Iterator[tuple[Path, Tallies]]:
    """The world, and what it answers while it is whole."""
    root = _folder()
    world.build(root)
    yield root, children.run(damage.truths, root, list(QUESTIONS))
    shutil.rmtree(root)


@pytest.fixture
def empty() -> Iterator[Path]:
    """A folder for a world of the test's own."""
    root = _folder()
    yield root
    shutil.rmtree(root)


def _judged(tried: Tried, kind: str, done: Tallies) -> None:
    """Count what was tried, and fail if any of it did."""
    failures = list[str]()
    for question, tally in done.items():
        tried(question, kind, tally["cases"], len(tally["failures"]))
        failures += tally["failures"]
    shown = "\n".join(failures[:20])
    assert not failures, f"{len(failures)} failures, of which\n{shown}"


@pytest.mark.parametrize("thing", THINGS)
def test_flipped_bit_is_told_or_harmless(
    whole: tuple[Path, Tallies], tried: Tried, thing: str
) -> None:
    done = children.run(damage.flip, whole[0], thing, whole[1])
    assert {name for name, expected, _ in THINGS[thing].questions() if expected == "told"} <= {
        name for name, tally in done.items() if tally["told"]
    }
    _judged(tried, f"bit of the {thing}", done)


@pytest.mark.parametrize(("thing", "command"), TOLD_BY)
def test_program_says_what_is_damaged_with_the_right_exit_code(
    whole: tuple[Path, Tallies], tried: Tried, thing: str, command: str
) -> None:
    here = World(whole[0])
    snapshot = Snapshot(here.root)
    path = THINGS[thing].find(here)
    damage.overwrite(path, at := path.stat().st_size // 2, path.read_bytes()[at] ^ 4)

    ran = as_process("--home", here.home, *COMMANDS[command])
    snapshot.put_back()

    tried(command, "bit, by the program", 1, 0)
    # A scan goes on with the other runs, and says that some of it failed.
    assert ran.code == (3 if command == "scan" and thing == "HEAD" else 20)
    assert "Traceback" not in ran.err
    if command != "verify":
        assert "Error:" in ran.err
        assert "Try:" in ran.err


def test_lines_dropped_doubled_swapped_and_pasted_are_told(
    whole: tuple[Path, Tallies], tried: Tried
) -> None:
    _judged(tried, "line of the journal", children.run(rewriting.change_lines, *whole))


def test_journal_cut_at_every_byte_is_told(whole: tuple[Path, Tallies], tried: Tried) -> None:
    _judged(tried, "journal cut", children.run(rewriting.cut_journal, *whole))


def test_segments_of_another_host_that_are_not_what_it_wrote_are_told(
    whole: tuple[Path, Tallies], tried: Tried
) -> None:
    _judged(tried, "line of a segment", children.run(rewriting.change_segments, *whole))


@pytest.mark.parametrize("what", ["home", "store"])
def test_old_copy_that_is_put_back_gives_no_number_again(
    empty: Path, tried: Tried, what: str
) -> None:
    _judged(tried, f"old {what} put back", children.run(rewriting.put_back, empty, what))


@pytest.mark.parametrize("where", ["store", "home", "serving"])
def test_each_file_that_is_lost_is_named_or_made_again(
    whole: tuple[Path, Tallies], tried: Tried, where: str
) -> None:
    _judged(tried, f"file of the {where} lost", children.run(missing.lose, *whole, where))


def test_strange_files_in_the_store_change_nothing(
    whole: tuple[Path, Tallies], tried: Tried
) -> None:
    _judged(tried, "strange file in the store", children.run(missing.add, *whole))


def test_a_change_that_is_not_told_is_a_failure_here(whole: tuple[Path, Tallies]) -> None:
    """The judgement itself can fail: a silent change, a crash, a number that is given twice."""
    here = World(whole[0])
    judge = Judge(here, "show", truth(here, "show"))
    judge.judge("nothing was damaged", "told")
    assert "nothing was said" in judge.failures.pop()
    judge = Judge(here, "show", Told(answer="[]"))
    judge.judge("it was another answer", "either")
    assert "a silent change" in judge.failures.pop()
    version = here.store / ".modeldrop/experiments/churn/versions/00000003.json"
    judge = Judge(here, "show", truth(here, "show"))
    version.write_bytes(b"damaged")
    judge.judge("damaged", "told", frozenset({10}))
    assert "exit code 20" in judge.failures.pop()
