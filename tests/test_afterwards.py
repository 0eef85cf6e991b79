"""What becomes of staged copies: moved or deleted whole, and never anything but what was stored."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import Conflict, ModeldropError, SourceChanged
from modeldrop.intake import afterwards, drop, lease, removal, walk
from modeldrop.intake.aside import held_open, remove_stale
from modeldrop.names import new_guid
from support import children, work
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
from support.waiting import comes_true

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
    for name in (f"{run}~3.2", f"{run}~3.3"):
        make_run(staging, CONTENTS, run)
        moved = afterwards.move(staging, run, signed(staging, run), 3)
        assert moved == staging / "done" / name


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
NEW: dict[Change, set[str]] = {
    add_a_file: {"new"},
    change_a_file: {"model"},
    add_a_link: {"link"},
    add_a_temporary: {"model.part"},
}
"""What each of them leaves where all that was stored is gone."""
CHANGES = list(NEW)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("what", ["move", "delete"])
def test_what_was_changed_stays_as_it_is(
    staging: Path, change: Change, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    change(staging / run)
    before = signed(staging, run)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(SourceChanged, match=r"the staged copy .* stays: "):
        clear(staging, run, signature, what)
    assert signed(staging, run) == before
    # Nor was it renamed for a moment, under the hands of whoever works in it.
    assert "step: leaving" not in caplog.messages
    assert entries(staging) <= {run, "done"}


@pytest.mark.parametrize("change", [add_a_link, add_a_temporary])
@pytest.mark.parametrize("what", ["move", "delete"])
def test_what_was_never_stored_stays_with_the_rest(
    staging: Path, change: Change, what: str
) -> None:
    run = make_run(staging, CONTENTS)
    change(staging / run)
    signature = signed(staging, run)
    with pytest.raises(SourceChanged, match=r"link is not stored|model.part is temporary"):
        clear(staging, run, signature, what)
    assert signed(staging, run) == signature


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("what", ["move", "delete"])
def test_what_cannot_be_read_stays_with_the_rest(what: str) -> None:
    """As a user whom permissions bind; pytest's own folders are for root alone."""
    staging = Path(tempfile.mkdtemp())
    run = make_run(staging, CONTENTS)
    for path in [staging, *staging.rglob("*")]:
        os.chown(path, 65534, 65534)
    (staging / run / "hidden").mkdir(mode=0)
    signature = signed(staging, run)
    os.seteuid(65534)
    try:
        with pytest.raises(SourceChanged, match="hidden can't be read"):
            clear(staging, run, signature, what)
    finally:
        os.seteuid(0)
        assert signed(staging, run) == signature
        shutil.rmtree(staging)


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


@contextlib.contextmanager
def at_step(step: str, act: Callable[[], None]) -> Iterator[None]:
    """Do something once the code has said that a step is done."""

    class Heard(logging.Handler):
        done = False

        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == f"step: {step}" and not self.done:
                self.done = True
                act()

    heard, log = Heard(logging.DEBUG), logging.getLogger("modeldrop.intake")
    level = log.level
    log.addHandler(heard)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(heard)
        log.setLevel(level)
    assert heard.done


def aside(staging: Path) -> Path:
    """Return where the run is that is being moved or deleted."""
    (found,) = staging.glob(".modeldrop-leaving-*")
    return found


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("what", ["move", "delete"])
def test_what_changes_as_it_leaves_goes_back(staging: Path, change: Change, what: str) -> None:
    run = make_run(staging, CONTENTS)
    with (
        at_step("leaving", lambda: change(aside(staging))),
        pytest.raises(SourceChanged, match="stays: "),
    ):
        clear(staging, run, signed(staging, run), what)
    assert entries(staging) <= {run, "done"}
    assert {"model", "w", "run.toml"} < entries(staging / run) | {"new", "link", "model.part"}
    assert not (staging / "done").exists() or entries(staging / "done") == set()


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_while_it_is_deleted_goes_back(staging: Path, change: Change) -> None:
    run = make_run(staging, CONTENTS)
    with (
        at_step("listed", lambda: change(aside(staging))),
        pytest.raises(SourceChanged, match=r"while the staged copy was deleted|which is new"),
    ):
        afterwards.delete(staging, run, signed(staging, run), nothing)
    assert entries(staging) == {run}
    assert entries(staging / run) == NEW[change]


def test_a_writer_that_comes_while_it_is_deleted_keeps_its_file(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    lease.prepare()
    with contextlib.ExitStack() as stack:

        def write() -> None:
            stack.enter_context((aside(staging) / "w/a").open("r+b"))

        with at_step("listed", write), pytest.raises(SourceChanged, match="w/a"):
            afterwards.delete(staging, run, signed(staging, run), nothing)
    assert [each.name for each in (staging / run).rglob("*")] == ["w", "a"]


def test_a_file_put_in_place_of_one_that_is_listed_is_kept(staging: Path) -> None:
    run = make_run(staging, CONTENTS)

    def replace() -> None:
        new = staging.parent / "new"
        new.write_text("1")
        new.rename(aside(staging) / "model")

    with at_step("listed", replace), pytest.raises(SourceChanged, match="model"):
        afterwards.delete(staging, run, signed(staging, run), nothing)
    assert [each.name for each in (staging / run).rglob("*")] == ["model"]


def test_a_file_put_in_place_of_one_at_its_last_look_is_kept(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(staging, CONTENTS)
    probe, probed = lease.probe, list[int]()

    def replace_then_probe(fd: int) -> lease.Writers:
        probed.append(fd)
        # All are asked in place and aside; then each one as it is removed.
        if len(probed) == 2 * len(CONTENTS) + 1:
            new = staging.parent / "new"
            new.write_text("1")
            new.rename(aside(staging) / "model")
        return probe(fd)

    monkeypatch.setattr(lease, "probe", replace_then_probe)
    with pytest.raises(SourceChanged, match="model"):
        afterwards.delete(staging, run, signed(staging, run), nothing)
    assert [each.name for each in (staging / run).rglob("*")] == ["model"]


def test_a_folder_that_became_a_link_leads_to_no_deletion_elsewhere(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)

    def swap() -> None:
        # The very files, so that nothing but the link gives it away.
        (aside(staging) / "w").rename(staging.parent / "outside")
        (aside(staging) / "w").symlink_to(staging.parent / "outside")

    with at_step("listed", swap), pytest.raises((SourceChanged, OSError)):
        afterwards.delete(staging, run, signature, nothing)
    assert (staging.parent / "outside/a").read_text() == "2"
    assert (staging.parent / "outside/b/c").read_text() == "3"
    assert (staging / run / "w").is_symlink()


def test_a_receipt_that_became_a_link_is_removed_and_not_followed(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    outside = staging.parent / "outside"
    outside.write_text("not yours")
    (staging / run / ".modeldrop-receipt.json").symlink_to(outside)
    afterwards.delete(staging, run, signed(staging, run), nothing)
    assert entries(staging) == set()
    assert outside.read_text() == "not yours"


def test_files_of_a_run_that_are_links_of_each_other_are_all_deleted(staging: Path) -> None:
    """To remove the first name of a file changes the ctime of the second."""
    run = make_run(staging, CONTENTS)
    for name in ("last.ckpt", "w/best.ckpt"):
        os.link(staging / run / "model", staging / run / name)
    afterwards.delete(staging, run, signed(staging, run), nothing)
    assert entries(staging) == set()


@pytest.mark.parametrize("what", ["move", "delete"])
def test_a_new_run_that_took_the_name_meanwhile_is_not_touched(staging: Path, what: str) -> None:
    run = make_run(staging, CONTENTS)

    def take() -> None:
        add_a_file(aside(staging))
        make_run(staging, {"model": "another"}, run)

    with at_step("leaving", take), pytest.raises(SourceChanged, match="modeldrop-leaving-") as why:
        clear(staging, run, signed(staging, run), what)
    assert aside(staging).name in str(why.value)
    assert (aside(staging) / "new").read_text() == "new"
    assert (staging / run / "model").read_text() == "another"
    afterwards.recover(staging)
    assert (aside(staging) / "new").read_text() == "new"
    (staging / run).rename(staging.parent / "other")
    afterwards.recover(staging)
    assert (staging / run / "new").read_text() == "new"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("folder", [".", "w/b"])
def test_a_run_with_a_folder_that_may_not_be_changed_is_not_deleted(folder: str) -> None:
    """As a user whom permissions bind; pytest's own folders are for root alone."""
    staging = Path(tempfile.mkdtemp())
    run = make_run(staging, CONTENTS)
    for path in [staging, *staging.rglob("*")]:
        os.chown(path, 65534, 65534)
    (staging / run / folder).chmod(0o555)
    signature = signed(staging, run)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            afterwards.delete(staging, run, signature, nothing)
        assert signed(staging, run) == signature
        assert entries(staging) == {run}
    finally:
        os.seteuid(0)
        shutil.rmtree(staging)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_file_that_may_not_be_removed_stays_and_is_named() -> None:
    """A sticky folder lets nobody remove the file of another user."""
    staging = Path(tempfile.mkdtemp())
    run = make_run(staging, CONTENTS)
    for path in [staging, staging / run, staging / run / "w/b"]:
        os.chown(path, 65534, 65534)
    (staging / run / "w/b/c").chmod(0o644)
    os.chown(staging / run / "w", 0, 65534)
    (staging / run / "w").chmod(0o1775)
    signature = signed(staging, run)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError) as why:
            afterwards.delete(staging, run, signature, nothing)
        assert why.value.filename == "w/a"
        assert (staging / run / "w/a").read_text() == "2"
    finally:
        os.seteuid(0)
        os.setegid(0)
        shutil.rmtree(staging)


@pytest.mark.parametrize("what", ["move", "delete"])
def test_a_run_that_something_is_dropped_into_stays(staging: Path, what: str) -> None:
    run = make_run(staging, CONTENTS)
    old = staging.parent / "old"
    old.mkdir()
    signature = signed(staging, run)
    with held_open(staging / run, ["model"], old), pytest.raises(SourceChanged, match="dropped"):
        clear(staging, run, signature, what)
    clear(staging, run, signature, what)
    assert not (staging / run).exists()


def test_what_is_dropped_into_a_run_that_is_being_deleted_becomes_a_new_one(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    model = staging.parent / "dropped"
    model.write_text("new")
    dropping: list[Future[str]] = []
    with ThreadPoolExecutor() as pool:

        def begin() -> None:
            dropping.append(pool.submit(drop, staging, [model], run=run))
            # It has found the run's folder, and waits for its lock.
            assert comes_true(lambda: any(staging.glob(".modeldrop-drop-*/dropped")))

        afterwards.delete(staging, run, signed(staging, run), begin)
        assert dropping[0].result(20) == run
    assert entries(staging) == {run}
    assert entries(staging / run) == {"dropped", "_SUCCESS"}


# Crashes


def test_killed_as_it_leaves_a_run_goes_back_and_is_moved_again(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    assert dies(work.move_staged, staging, run, at="leaving")
    assert entries(staging) == {"done", aside(staging).name}
    afterwards.recover(staging)
    assert entries(staging) == {"done", run}
    assert signed(staging, run) == signature
    assert afterwards.move(staging, run, signature, 1) == staging / "done" / run


def test_a_run_that_a_crash_left_takes_no_name_that_another_has_by_now(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    assert dies(work.move_staged, staging, run, at="leaving")
    left = aside(staging).name
    (staging / run).mkdir()

    afterwards.recover(staging)

    assert entries(staging) == {"done", left, run}
    assert list((staging / run).iterdir()) == []


def test_killed_once_it_is_moved_a_run_is_whole_in_done(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    assert dies(work.move_staged, staging, run, at="moved")
    afterwards.recover(staging)
    assert entries(staging) == {"done"}
    assert signed(staging / "done", run) == signature


def test_killed_before_anything_may_be_deleted_a_run_goes_back_whole(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    assert dies(work.delete_staged, staging, run, at="leaving")
    assert run not in entries(staging)
    afterwards.recover(staging)
    assert entries(staging) == {run}
    assert signed(staging, run) == signature


@pytest.mark.parametrize("step", ["listed", "file removed", "emptied"])
def test_killed_while_it_is_deleted_the_deletion_goes_on(staging: Path, step: str) -> None:
    run = make_run(staging, CONTENTS)
    os.link(staging / run / "model", staging / run / "again")
    assert dies(work.delete_staged, staging, run, at=step)
    remove_stale(staging)
    assert run not in entries(staging)
    afterwards.recover(staging)
    assert entries(staging) == set()


def test_killed_before_any_call_that_changes_a_file_system_a_run_is_whole_or_gone(
    staging: Path,
) -> None:
    found = children.run(work.delete_and_die_everywhere, staging)
    assert found == sorted(found, reverse=True)
    # Aside, list, each file and folder, and their syncs.
    assert found.count("whole") > 3
    assert found.count("gone") > 8


@pytest.mark.parametrize("change", [add_a_file, change_a_file])
def test_what_changed_after_the_crash_is_kept(staging: Path, change: Change) -> None:
    run = make_run(staging, CONTENTS)
    assert dies(work.delete_staged, staging, run, at="listed")
    change(aside(staging))
    afterwards.recover(staging)
    assert entries(staging) == {run}
    assert entries(staging / run) == NEW[change]


def test_a_deletion_under_way_is_nothing_that_a_crash_has_left(
    staging: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(staging, CONTENTS)
    with at_step("listed", lambda: afterwards.recover(staging)):
        afterwards.delete(staging, run, signed(staging, run), nothing)
    assert entries(staging) == set()
    assert [each.message for each in caplog.records if each.levelno > logging.DEBUG] == []


# Staging is a folder that others may write to


def forged(staging: Path, run: str, *others: str, made_for: str = "") -> Path:
    """Leave what a deletion leaves that was cut short: a folder, and a list of `w/mine` in it.

    The list has these other paths, too, each with the signature of what it leads to.
    """
    token = "0123456789abcdef"
    folder = staging / f".modeldrop-leaving-{token}-{run}"
    make_run(staging, {"w/mine": "whole"}, folder.name)
    listed = [
        walk.SeenFile(path, walk.Signature.of((folder / path).stat()))
        for path in ("w/mine", *others)
    ]
    removal.note(staging, token, made_for or run, tuple(listed))
    return folder


def test_a_list_that_is_whole_and_this_users_is_used(staging: Path) -> None:
    forged(staging, new_guid())
    afterwards.recover(staging)
    assert entries(staging) == set()


def test_a_list_that_leads_out_of_its_folder_is_not_used(staging: Path) -> None:
    outside = staging.parent / "outside"
    outside.write_text("not yours")
    run = new_guid()
    forged(staging, run, "w/../../../outside")
    afterwards.recover(staging)
    assert outside.read_text() == "not yours"
    assert entries(staging) == {run}
    assert (staging / run / "w/mine").read_text() == "whole"


def test_a_list_that_was_made_for_another_folder_is_not_used(staging: Path) -> None:
    run = new_guid()
    forged(staging, run, made_for=new_guid())
    afterwards.recover(staging)
    assert (staging / run / "w/mine").read_text() == "whole"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another user")
def test_a_list_of_another_user_is_not_used(staging: Path) -> None:
    run = new_guid()
    forged(staging, run)
    (found,) = staging.glob(".modeldrop-deletion-*")
    os.chown(found, 65534, 65534)
    afterwards.recover(staging)
    assert (staging / run / "w/mine").read_text() == "whole"


@pytest.mark.parametrize("kind", ["link", "damaged", "fifo", "folder"])
def test_what_is_no_list_deletes_nothing_and_stops_nothing(staging: Path, kind: str) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    assert dies(work.delete_staged, staging, run, at="listed")
    (found,) = staging.glob(".modeldrop-deletion-*")
    if kind == "damaged":
        found.write_bytes(found.read_bytes().replace(b"model", b"mod3l"))
    else:
        found.rename(staging.parent / "list")
        if kind == "link":
            found.symlink_to(staging.parent / "list")
        elif kind == "fifo":
            os.mkfifo(found)
        else:
            found.mkdir()
    other = staging / ".modeldrop-leaving-0123456789abcdef-other"
    other.symlink_to(staging.parent)
    afterwards.recover(staging)
    assert signed(staging, run) == signature


def test_nothing_is_left_to_do_where_staging_is_away(tmp_path: Path) -> None:
    afterwards.recover(tmp_path / "gone")


def test_done_swapped_for_a_link_leads_nowhere(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    outside = staging.parent / "outside"
    outside.mkdir()

    def swap() -> None:
        (staging / "done").rename(staging / "was-done")
        (staging / "done").symlink_to(outside)

    with at_step("leaving", swap):
        afterwards.move(staging, run, signed(staging, run), 1)
    assert list(outside.iterdir()) == []
    assert (staging / "was-done" / run / "model").read_text() == "1"


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="needs root to mount")
def test_a_done_on_another_file_system_is_refused_and_the_run_stays(staging: Path) -> None:
    run = make_run(staging, CONTENTS)
    signature = signed(staging, run)
    (staging / "done").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "none", staging / "done"], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        with pytest.raises(Conflict, match="another file system"):
            afterwards.move(staging, run, signature, 1)
    finally:
        subprocess.run(["umount", staging / "done"], check=True)
    assert signed(staging, run) == signature


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


def test_a_run_that_can_not_be_moved_says_why_and_is_moved_once_it_can(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", afterwards="move", retry_first=0.1) as repository:
        staging = repository.home.staging
        (staging / "done").write_text("in the way")
        run = make_run(staging, {**CONTENTS, "_SUCCESS": ""})
        with running(repository) as engine:
            assert turns(
                engine,
                lambda: is_in(engine, run, "committed") and bool(tracked(engine, run).reason),
            )
            assert "no folder" in tracked(engine, run).reason
            (staging / "done").unlink()
            assert turns(engine, (staging / "done" / run).is_dir)
        assert len(revisions(repository, run)) == 1


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
