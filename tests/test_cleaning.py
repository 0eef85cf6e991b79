"""Room on this machine's disk: cached and staged copies go when asked for; nothing else does."""

from __future__ import annotations

import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from modeldrop import Repository, cache, locks
from modeldrop.intake import drop, memory
from modeldrop.layout import HomePaths
from modeldrop.names import new_guid
from modeldrop.structs import replace
from support.intake import scan
from support.program import Program, in_process
from support.stores import model


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


# --- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def cached(repository: Repository, tmp_path: Path) -> list[Path]:
    """Three cached copies of 1,000 bytes, the one that was used last at the end."""
    places = []
    for number in range(3):
        run = new_guid()
        repository.upload(run, model(tmp_path / str(number) / "model", str(number) * 1000))
        places.append(repository.path(f"run:{run}"))
        age(repository.home.paths, places[-1], hours=5 - number)
    return places


def age(paths: HomePaths, place: Path, hours: float) -> None:
    """Have a cached copy be used for the last time so long ago."""
    at = time.time() - hours * 3600
    digest = place.parent.name
    for each in (place.parent, *(paths.objects / digest[:2]).glob(f"{digest}-*.json")):
        os.utime(each, (at, at))


def prune(repository: Repository, most: int, *, dry_run: bool = False) -> tuple[list[str], int]:
    removed, left = cache.prune(repository.home.paths.objects, most, dry_run=dry_run)
    return [each.sha256 for each in removed], left


def test_what_was_not_used_for_longest_goes_first_and_is_pulled_again(
    repository: Repository, cached: list[Path]
) -> None:
    digests = [each.parent.name for each in cached]
    assert prune(repository, 2500, dry_run=True) == (digests[:1], 2000)
    assert all(each.exists() for each in cached)
    assert prune(repository, 2500) == (digests[:1], 2000)
    assert [each.exists() for each in cached] == [False, True, True]
    assert prune(repository, 2000) == ([], 2000)
    assert prune(repository, 0) == (digests[1:], 0)
    runs = list(repository.runs())
    assert sorted(repository.path(f"run:{each.run}").read_text()[0] for each in runs) == list("012")


def test_what_is_asked_for_is_used(repository: Repository, cached: list[Path]) -> None:
    oldest = {each.artifacts[0].sha256: each.run for each in repository.runs()}
    assert repository.path(f"run:{oldest[cached[0].parent.name]}") == cached[0]
    assert prune(repository, 1000)[0] == [each.parent.name for each in cached[1:]]
    assert cached[0].exists()


def test_what_is_just_being_pulled_stays(repository: Repository, cached: list[Path]) -> None:
    busy, done = threading.Event(), threading.Event()

    def pull() -> None:
        # As another process does: it holds the lock of the digest meanwhile.
        with locks.hold(cached[0].parent.with_name(f"{cached[0].parent.name}.lock"), what="it"):
            busy.set()
            done.wait(60)

    other = threading.Thread(target=pull)
    other.start()
    busy.wait(60)
    try:
        assert prune(repository, 0)[0] == [each.parent.name for each in cached[1:]]
    finally:
        done.set()
        other.join()
    assert cached[0].exists()


def test_what_a_crash_leaves_of_a_copy_is_no_copy(
    repository: Repository, cached: list[Path]
) -> None:
    run = next(each for each in repository.runs() if each.artifacts[0].size == 1000)
    place = repository.path(f"run:{run.run}")
    # Killed after the note went, with some of the bytes still there.
    for note in place.parent.parent.glob(f"{place.parent.name}-*.json"):
        note.unlink()
    place.chmod(0o644)
    place.write_text("half")
    assert len(repository.path(f"run:{run.run}").read_text()) == 1000


def test_the_program_prunes_and_says_what_is_left(
    repository: Repository, cached: list[Path], program: Program
) -> None:
    call = ("--home", str(repository.home.paths.root), "cache", "prune")
    told = program(*call, "--max-size", "1K", "--dry-run", "--json").json
    assert (len(told["removed"]), told["left"], told["dry_run"]) == (2, 1000, True)
    assert program(*call, "--max-size", "1KiB", "-q").lines == [c.parent.name for c in cached[:2]]
    assert "0 removed; 1000 B are left." in program(*call, "--max-size", "10G").err
    assert program(*call, "--max-size", "much").code == 2


# --- staging -------------------------------------------------------------------------------------


def store(repository: Repository, tmp_path: Path, days: float) -> Path:
    """Have a run stored so many days ago; return its staged copy."""
    path = model(tmp_path / new_guid() / "model", "weights")
    run = drop(repository.home.staging, [path])
    scan(repository)
    noted = memory.recall(repository.home.paths, run)
    assert noted is not None
    at = datetime.fromisoformat(noted.noted_at) - timedelta(days=days)
    memory.remember(repository.home.paths, replace(noted, noted_at=f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"))
    return repository.home.staging / run


def test_only_what_was_stored_long_enough_ago_and_is_still_the_same_is_deleted(
    repository: Repository, tmp_path: Path, program: Program
) -> None:
    old, young, changed = (store(repository, tmp_path, days) for days in (8, 6, 8))
    (changed / "model").write_text("more weights")
    (repository.home.staging / "notes").write_text("mine")
    call = ("--home", str(repository.home.paths.root), "clean", "--older-than", "7d")
    told = program(*call, "--dry-run", "--json").json
    assert [each["run"] for each in told["cleaned"]] == [old.name]
    assert old.exists()
    assert program(*call, "-q").lines == [old.name]
    assert (old.exists(), young.exists(), changed.exists()) == (False, True, True)
    assert (repository.home.staging / "notes").exists()
    assert "There is nothing to delete." in program(*call).err
    assert repository.verify(deep=True).ok


def test_a_staged_copy_stays_if_the_stored_bytes_are_damaged(
    repository: Repository, tmp_path: Path, program: Program
) -> None:
    staged = store(repository, tmp_path, 8)
    [file] = repository.runs_at_backend.revision(staged.name, 1).artifacts[0].files
    stored = repository.backend.local_path(file.key)
    assert stored is not None
    stored.chmod(0o644)
    stored.write_text("WEIGHTS")
    call = ("--home", str(repository.home.paths.root), "clean", "--older-than", "1w")
    done = program(*call)
    assert done.code == 3
    assert "damaged" in done.err
    assert (staged / "model").read_text() == "weights"
    assert program(*call[:-1], "soon").code == 2
