"""Killed at every step between ready and receipt: one revision, the right bytes, nothing open.

Each step is a message that the code says at DEBUG after it; see `support.killing`. The last one
checks that no step is missing here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import modeldrop
from modeldrop import Repository
from modeldrop.intake import drop
from modeldrop.names import RECEIPT
from support.children import dies, run, started
from support.intake import (
    content,
    die_during_the_bytes,
    make_home,
    revisions,
    scan_in_child,
    uploads,
)

STEPS = {
    "ready": "open",
    "bytes stored": "open",
    "intent written": "open",
    "record appended": "committed",
    "followers brought forward": "committed",
    "journal acknowledged": "committed",
    "committed": "committed",
    "remembered": "committed",
    "receipt left": "committed",
}
"""Each step, and whether the revision is there when a crash follows it."""

# Two parts on S3, and a folder beside it.
WEIGHTS = random.Random(1).randbytes(9 * 2**20)


@pytest.fixture(params=["local", "s3"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    url = "" if request.param == "local" else request.getfixturevalue("s3_url")
    with make_home(tmp_path / "home", url) as opened:
        yield opened


@pytest.fixture
def dropped(repository: Repository, tmp_path: Path) -> str:
    (tmp_path / "model").write_bytes(WEIGHTS)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "vocabulary").write_text("words")
    return drop(repository.home.staging, [tmp_path / "model", tmp_path / "folder"])


def check_stored_once(repository: Repository, dropped: str) -> None:
    """Check all that has to hold after the next start, whatever happened before."""
    found = run(scan_in_child, repository.home.paths.root)
    assert found["states"] == {dropped: "committed"}
    (revision,) = revisions(repository, dropped)
    assert content(repository, revision) == {"model": WEIGHTS, "folder/vocabulary": b"words"}
    kinds = [entry.kind for entry in repository.log(f"run:{dropped}")]
    assert kinds == ["committed"]
    assert repository.runs_at_backend.open_intents() == []
    assert repository.verify(deep=True).ok
    # Nothing that a crash left in the run's folder holds it open, or makes it look changed.
    names = {path.name for path in (repository.home.staging / dropped).iterdir()}
    assert names - {RECEIPT} == {"_SUCCESS", "folder", "model"}


@pytest.mark.scenario(28)
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_leaves_one_revision_after_the_restart(
    repository: Repository, dropped: str, step: str
) -> None:
    assert dies(scan_in_child, repository.home.paths.root, at=step)
    is_there = len(revisions(repository, dropped)) == 1
    assert is_there == (STEPS[step] == "committed")
    check_stored_once(repository, dropped)
    # A run that is remembered as stored isn't looked at again, so its receipt came before that.
    assert (repository.home.staging / dropped / RECEIPT).exists()


def test_killed_during_the_bytes_leaves_nothing_visible_and_is_stored_after_the_restart(
    repository: Repository, dropped: str
) -> None:
    home = repository.home.paths.root
    with started(die_during_the_bytes, home, len(WEIGHTS) // 2) as child:
        child.say()
        assert child.was_killed()
    assert revisions(repository, dropped) == []
    # Only the small file may be there, under an upload that no manifest names.
    assert len(uploads(repository, dropped)) <= 1
    assert all(each.size < 1000 for each in repository.backend.walk(dropped))
    check_stored_once(repository, dropped)


def test_killed_again_and_again_is_stored_once_in_the_end(
    repository: Repository, dropped: str
) -> None:
    for step in ("bytes stored", "intent written", "record appended", "followers brought forward"):
        dies(scan_in_child, repository.home.paths.root, at=step)
    check_stored_once(repository, dropped)


def test_every_step_that_the_code_names_is_among_these() -> None:
    source = Path(modeldrop.__file__).parent
    named = {
        step
        for path in source.rglob("*.py")
        for step in re.findall(r'"step: ([^"]+)"', path.read_text())
    }
    assert set(STEPS) <= named
    in_intake = {
        step
        for path in (source / "intake").rglob("*.py")
        # What becomes of the run afterwards has its own steps, and tests of its own.
        if path.stem not in {"afterwards", "removal", "registering"}
        for step in re.findall(r'"step: ([^"]+)"', path.read_text())
    }
    assert in_intake <= set(STEPS)
