"""What becomes of staged copies: moved or deleted whole, and never anything but what was stored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import Conflict, ModeldropError, SourceChanged
from modeldrop.intake import afterwards, lease, walk
from support import work
from support.children import dies
from support.intake import (
    is_in,
    make_home,
    make_run,
    receipt,
    revisions,
    running,
    scan,
    stored_revisions,
    tracked,
    turns,
)

CONTENTS: dict[str, str | bytes] = {"model": "1", "w/a": "2", "w/b/c": "3", "run.toml": ""}


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    """A bare staging folder."""
    path = tmp_path / "staging"
    path.mkdir()
    return path


def signed(staging: Path, run: str) -> str:
    """Return what was committed of a run, if it is committed now."""
    return walk.observe(staging, run).signature()


def nothing() -> None:
    """Find stored bytes right."""


def clear(staging: Path, run: str, signature: str, what: str) -> None:
    """Move or delete the staged copy of a run."""
    if what == "move":
        afterwards.move(staging, run, signature, 1)
    else:
        afterwards.delete(staging, run, signature, nothing)


def entries(staging: Path) -> set[str]:
    """Return what stands in staging."""
    return {each.name for each in staging.iterdir()}


# Moving


def test_a_moved_run_is_whole_in_done(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    place = afterwards.move(staging, run, signed(staging, run), 1)
    assert place == staging / "done" / run
    assert (place / "w/b/c").read_text() == "3"
    assert entries(staging) == {"done"}


def test_a_second_revision_of_a_moved_run_gets_a_place_of_its_own(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    afterwards.move(staging, run, signed(staging, run), 1)
    for revision in (2, 3):
        make_run(staging, {"model": f"{revision}"}, run)
        place = afterwards.move(staging, run, signed(staging, run), revision)
        assert place == staging / "done" / f"{run}~{revision}"
    make_run(staging, CONTENTS, run)
    with pytest.raises(Conflict, match="already"):
        afterwards.move(staging, run, signed(staging, run), 3)
    assert (staging / run / "model").read_text() == "1"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_done_that_is_no_folder_is_refused_and_the_run_stays(staging: Path, kind: str) -> None:
    run = make_run(staging, CONTENTS)
    outside = staging.parent / "outside"
    outside.mkdir()
    if kind == "file":
        (staging / "done").write_text("")
    else:
        (staging / "done").symlink_to(outside)
    with pytest.raises(Conflict, match="no folder"):
        afterwards.move(staging, run, signed(staging, run), 1)
    assert (staging / run / "model").exists()
    assert list(outside.iterdir()) == []


# What isn't the committed state


def add_a_file(run: Path) -> None:
    (run / "new").write_text("new")


def change_a_file(run: Path) -> None:
    (run / "model").write_text("2")


def add_a_link(run: Path) -> None:
    (run / "link").symlink_to("/etc/passwd")


def add_a_temporary(run: Path) -> None:
    (run / "model.part").write_text("")


Change = Callable[[Path], None]
CHANGES = [add_a_file, change_a_file, add_a_link, add_a_temporary]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("what", ["move", "delete"])
def test_what_was_changed_stays_as_it_is(staging: Path, change: Change, what: str) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    change(staging / run)
    before = signed(staging, run)
    with pytest.raises(SourceChanged, match="stays in staging"):
        clear(staging, run, signature, what)
    assert signed(staging, run) == before
    assert entries(staging) <= {run, "done"}


@pytest.mark.parametrize("what", ["move", "delete"])
def test_what_somebody_has_open_for_writing_stays(staging: Path, what: str) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    lease.prepare()
    with (staging / run / "model").open("r+b"), pytest.raises(SourceChanged, match="open"):
        clear(staging, run, signature, what)
    assert signed(staging, run) == signature


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_it_is_verified_is_not_deleted(staging: Path, change: Change) -> None:
    run = make_run(staging, CONTENTS)
    with pytest.raises(SourceChanged):
        afterwards.delete(staging, run, signed(staging, run), lambda: change(staging / run))
    assert (staging / run / "model").exists()
    assert (staging / run / "w/b/c").exists()


def test_nothing_is_deleted_whose_stored_bytes_are_wrong(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)

    def verify() -> None:
        raise ModeldropError("stored bytes are damaged")

    with pytest.raises(ModeldropError, match="damaged"):
        afterwards.delete(staging, run, signature, verify)
    assert signed(staging, run) == signature


# Deleting


def test_a_deleted_run_leaves_nothing_but_what_others_have_linked(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    outside = staging.parent / "outside"
    os.link(staging / run / "model", outside)
    (staging / run / "empty").mkdir()
    (staging / run / ".modeldrop-receipt.json").write_text("{}")
    afterwards.delete(staging, run, signed(staging, run), nothing)
    assert entries(staging) == set()
    assert outside.read_text() == "1"


def test_what_appears_while_it_is_deleted_is_kept(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(staging, CONTENTS)
    inside = os.open(staging / run / "w", os.O_RDONLY)
    unlink = afterwards._unlink

    def drop_then_unlink(fd: int, seen: walk.SeenFile) -> None:
        if seen.path == "w/a":
            late = os.open("late", os.O_WRONLY | os.O_CREAT, dir_fd=inside)
            os.write(late, b"late")
            os.close(late)
        unlink(fd, seen)

    monkeypatch.setattr(afterwards, "_unlink", drop_then_unlink)
    afterwards.delete(staging, run, signed(staging, run), nothing)
    os.close(inside)
    assert entries(staging) == {run}
    assert (staging / run / "w/late").read_text() == "late"
    assert not (staging / run / "model").exists()


def test_a_folder_that_became_a_link_leads_to_no_deletion_elsewhere(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(staging, CONTENTS)
    outside = staging.parent / "outside"
    make_run(staging.parent, {"a": "outside", "b/c": "outside"}, "outside")
    unlink = afterwards._unlink

    def swap_then_unlink(fd: int, seen: walk.SeenFile) -> None:
        if seen.path == "w/a":
            os.rename("w", "x", src_dir_fd=fd, dst_dir_fd=fd)
            os.symlink(outside, "w", dir_fd=fd)
        unlink(fd, seen)

    monkeypatch.setattr(afterwards, "_unlink", swap_then_unlink)
    afterwards.delete(staging, run, signed(staging, run), nothing)
    assert (outside / "a").read_text() == "outside"
    assert (outside / "b/c").read_text() == "outside"


# Crashes


@pytest.mark.parametrize("step", ["moved"])
def test_killed_while_it_is_moved_a_run_is_in_one_place_and_whole(staging: Path, step: str) -> None:
    run = make_run(staging, CONTENTS)
    assert dies(work.move_staged, staging, run, at=step)
    places = [each for each in (staging / run, staging / "done" / run) if each.exists()]
    assert len(places) == 1
    assert {each.name for each in places[0].rglob("*") if each.is_file()} == {
        *("model", "a", "c", "run.toml")
    }


@pytest.mark.parametrize("step", ["leaving", "listed"])
def test_killed_before_it_is_condemned_a_run_comes_back_whole(staging: Path, step: str) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    assert dies(work.delete_staged, staging, run, at=step)
    assert run not in entries(staging)
    afterwards.recover(staging)
    assert entries(staging) == {run}
    assert signed(staging, run) == signature


@pytest.mark.parametrize("step", ["condemned", "emptied"])
def test_killed_after_it_is_condemned_its_deletion_goes_on(staging: Path, step: str) -> None:
    run = make_run(staging, CONTENTS)
    assert dies(work.delete_staged, staging, run, at=step)
    afterwards.recover(staging)
    assert entries(staging) == set()


# The service


def test_a_run_that_is_to_be_moved_is_moved_once_it_is_stored(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", afterwards="move") as repository:
        staging = repository.home.staging
        run = make_run(staging, {**CONTENTS, "_SUCCESS": ""})
        with running(repository) as engine:
            assert turns(engine, (staging / "done" / run).is_dir)
            assert turns(engine, lambda: run not in engine._roster.runs)
        assert receipt(staging / "done", run)["state"] == "committed"
        assert len(revisions(repository, run)) == 1
        # What comes under the same name later is its next revision.
        make_run(staging, {"model": "second", "_SUCCESS": ""}, run)
        with running(repository) as engine:
            assert turns(engine, (staging / "done" / f"{run}~2").is_dir)
        assert stored_revisions(repository, run)[1] == {"model": b"second"}


def test_a_run_that_is_to_be_deleted_is_deleted_after_its_grace_and_not_before(
    tmp_path: Path,
) -> None:
    with make_home(tmp_path / "home", afterwards="delete", delete_after=600) as repository:
        staging = repository.home.staging
        run = make_run(staging, {**CONTENTS, "_SUCCESS": ""})
        assert scan(repository)[run].state == "committed"
        assert scan(repository)[run].state == "committed"
    with make_home_again(tmp_path / "home", delete_after=0.2) as repository:
        with running(repository) as engine:
            assert turns(engine, lambda: not (staging / run).exists())
        assert entries(staging) == set()
        assert stored_revisions(repository, run)[0]["w/b/c"] == b"3"


def test_a_run_whose_stored_bytes_are_damaged_is_not_deleted(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", afterwards="delete", delete_after=0.3) as repository:
        staging = repository.home.staging
        run = make_run(staging, {"model": "good", "_SUCCESS": ""})
        with running(repository) as engine:
            assert turns(engine, lambda: is_in(engine, run, "committed"))
            (stored,) = (tmp_path / "home/model-repository" / run).glob("2*/model")
            stored.chmod(0o644)
            stored.write_text("evil")
            assert turns(engine, lambda: is_in(engine, run, "parked"))
            assert "damaged" in tracked(engine, run).reason
        assert (staging / run / "model").read_text() == "good"


@pytest.mark.parametrize("what", ["move", "delete"])
def test_a_run_of_which_a_part_is_refused_is_kept(tmp_path: Path, what: str) -> None:
    with make_home(tmp_path / "home", afterwards=what, delete_after=0.01) as repository:
        staging = repository.home.staging
        run = make_run(staging, {"model": "1", "_SUCCESS": ""})
        (staging / run / "link").symlink_to("model")
        with running(repository) as engine:
            assert turns(engine, lambda: is_in(engine, run, "kept"))
            assert "isn't stored" in tracked(engine, run).reason
        assert (staging / run / "model").exists()


def make_home_again(root: Path, **settings: object) -> Repository:
    """Open a home whose settings are changed."""
    config = root / "config.toml"
    text = config.read_text()
    for name, value in settings.items():
        lines = [line for line in text.splitlines() if not line.startswith(f"{name} =")]
        text = "\n".join([*lines, f"{name} = {value}", ""])
    config.write_text(text)
    return Repository.open(root)
