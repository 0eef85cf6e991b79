"""The watcher with the kernel's own events, and a recorder in the engine's place."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from watchdog.events import FileSystemEvent
from watchdog.observers.inotify_c import InotifyEvent, InotifyFD
from watchdog.utils import BaseThread

from modeldrop_daemon import events, watch
from modeldrop_daemon.watch import Watcher
from support.watching import Clock, Recorder

RUN = "3f2b8c1e-0000-4000-8000-000000000001"
OTHER = "3f2b8c1e-0000-4000-8000-000000000002"


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watcher(staging: Path, recorder: Recorder, clock: Clock) -> Iterator[Watcher]:
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)
    watcher.check()
    assert watcher.state == "events"
    assert recorder.hints == [(None, False)]
    recorder.hints.clear()
    yield watcher
    watcher.close()


def settled(recorder: Recorder, staging: Path) -> list[tuple[str | None, bool]]:
    """Return the hints so far: those before an event that is raised now."""
    (staging / OTHER).mkdir()
    assert recorder.got(OTHER)
    return [hint for hint in recorder.hints if hint[0] != OTHER]


# What is hinted


def test_run_that_is_made_is_hinted_and_is_not_whole(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    (staging / RUN).mkdir()

    assert recorder.got(RUN)
    assert (RUN, True) not in settled(recorder, staging)


def test_run_that_is_renamed_in_is_whole(
    watcher: Watcher, staging: Path, recorder: Recorder, tmp_path: Path
) -> None:
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside/model.bin").write_bytes(b"model")

    (tmp_path / "aside").rename(staging / RUN)

    assert recorder.got(RUN, whole=True)


def test_run_that_is_dropped_is_hinted_once_it_has_its_name(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    aside = staging / ".modeldrop-drop-1"
    (aside / "sub").mkdir(parents=True)
    (aside / "sub/model.bin").write_bytes(b"model")

    aside.rename(staging / RUN)

    assert recorder.got(RUN, whole=True)
    assert {folder for folder, _ in settled(recorder, staging)} == {RUN}


def test_folder_of_a_thousand_files_that_is_moved_in_is_one_event(
    watcher: Watcher, staging: Path, recorder: Recorder, tmp_path: Path
) -> None:
    folder = tmp_path / "aside"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number}").touch()
    events = watcher._events
    assert events is not None
    before = events.taken

    folder.rename(staging / RUN)

    assert recorder.got(RUN, whole=True)
    settled(recorder, staging)
    # The arrival, and what `settled` itself does to see that all was taken.
    assert events.taken - before < 10
    # What is written into it afterwards is noticed.
    recorder.hints.clear()
    (staging / RUN / "late").touch()
    assert recorder.got(RUN)


def test_rename_is_told_without_delay(watcher: Watcher, staging: Path, recorder: Recorder) -> None:
    waited = []
    for number in range(10):
        aside = staging / f".modeldrop-drop-{number}"
        aside.mkdir()
        began = time.monotonic()
        aside.rename(staging / f"run-{number}")
        assert recorder.got(f"run-{number}", whole=True)
        waited.append(time.monotonic() - began)

    # watchdog by itself holds the first half of a rename back for half a second.
    assert sorted(waited)[len(waited) // 2] < 0.25


def test_file_that_is_renamed_within_a_run_does_not_make_the_run_whole(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    (staging / RUN).mkdir()
    (staging / RUN / "model.part").write_bytes(b"model")
    (staging / RUN / "sub").mkdir()

    (staging / RUN / "model.part").rename(staging / RUN / "model.bin")
    (staging / RUN / "sub").rename(staging / RUN / "sub2")

    assert recorder.got(RUN)
    assert (RUN, True) not in settled(recorder, staging)


def test_last_close_is_hinted_in_a_deep_folder_that_was_made_at_once(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    deep = staging / RUN / "a/b/c"
    deep.mkdir(parents=True)
    with (deep / "model.bin").open("wb") as file:
        file.write(b"model")
        file.flush()
        assert recorder.got(RUN)
        settled(recorder, staging)
        recorder.hints.clear()

    assert recorder.got(RUN)


def test_run_that_is_moved_out_is_hinted(
    watcher: Watcher, staging: Path, recorder: Recorder, tmp_path: Path
) -> None:
    (staging / RUN).mkdir()
    assert recorder.got(RUN)
    recorder.hints.clear()

    (staging / RUN).rename(tmp_path / "gone")

    assert recorder.got(RUN)


def test_reading_and_receipts_wake_nobody(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    (staging / RUN).mkdir()
    (staging / RUN / "model.bin").write_bytes(b"model")
    settled(recorder, staging)
    recorder.hints.clear()
    (staging / OTHER).rmdir()

    (staging / RUN / "model.bin").read_bytes()
    list(os.scandir(staging / RUN))
    temp = staging / RUN / ".tmp-0123456789abcdef"
    temp.write_bytes(b"{}")
    temp.rename(staging / RUN / ".modeldrop-receipt.json")
    (staging / ".modeldrop-canary").touch()

    assert settled(recorder, staging) == []


def test_marker_is_hinted(watcher: Watcher, staging: Path, recorder: Recorder) -> None:
    (staging / RUN).mkdir()
    settled(recorder, staging)
    recorder.hints.clear()

    (staging / RUN / "_SUCCESS").touch()

    assert recorder.got(RUN)


def test_names_that_are_not_utf_8_are_hinted(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    name = os.fsdecode(b"not-\xff-utf8")

    (staging / name).mkdir()

    assert recorder.got(name)


def test_staging_behind_a_link_is_watched(
    staging: Path, recorder: Recorder, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(staging)
    watcher = Watcher(link, recorder, mode="auto", poll_interval=2.0)
    watcher.check()

    (staging / RUN).mkdir()

    assert recorder.got(RUN)
    watcher.close()


def test_watch_is_there_before_the_scan_is_asked_for(
    staging: Path, recorder: Recorder, clock: Clock
) -> None:
    # What appears just when the scan is asked for is seen by the watch, or by the scan.
    recorder.when_hinted = lambda: (staging / RUN).mkdir(exist_ok=True)
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)

    watcher.check()

    assert recorder.got(RUN)
    watcher.close()


# When it is not to be trusted


def test_staging_deleted_is_polled_until_it_is_back(
    watcher: Watcher, staging: Path, recorder: Recorder, clock: Clock
) -> None:
    shutil.rmtree(staging)

    pause = watcher.check()

    assert watcher.state.startswith("polling: staging can't be")
    # The engine scans by itself, as the state tells it to.
    assert 0 < pause <= 2
    recorder.hints.clear()
    clock.now += 2
    watcher.check()
    # The engine scans by itself, as the state tells it to.
    assert recorder.hints == []
    staging.mkdir()
    clock.now += 30
    watcher.check()
    assert watcher.state == "events"
    (staging / RUN).mkdir()
    assert recorder.got(RUN)


def test_staging_replaced_is_watched_anew(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    staging.rename(staging.with_name("old"))
    staging.mkdir()
    recorder.hints.clear()

    watcher.check()

    assert watcher.state == "events"
    assert (None, False) in recorder.hints
    (staging / RUN).mkdir()
    assert recorder.got(RUN)


@pytest.mark.parametrize("kind", ["Reader", "Emitter", "Observer"])
def test_thread_of_watchdogs_that_ends_is_noticed(
    watcher: Watcher, staging: Path, recorder: Recorder, kind: str
) -> None:
    (thread,) = (
        each
        for each in threading.enumerate()
        if isinstance(each, BaseThread) and type(each).__name__ == kind
    )
    thread.stop()
    thread.join(5)
    recorder.hints.clear()

    watcher.check()

    assert watcher.state == "events"
    assert (None, False) in recorder.hints
    (staging / OTHER).mkdir()
    assert recorder.got(OTHER)


def test_event_that_cannot_be_understood_raises_a_doubt_and_no_error(
    watcher: Watcher, staging: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: events._Handler, event: FileSystemEvent) -> None:
        raise ValueError("staged")

    monkeypatch.setattr(events._Handler, "_take", fail)
    (staging / RUN).mkdir()
    # The doubt itself asks for a scan, at once.
    assert recorder.got(None)
    monkeypatch.undo()

    watcher.check()

    assert watcher.state == "events"
    (staging / OTHER).mkdir()
    assert recorder.got(OTHER)


def test_overflow_of_the_kernels_queue_is_noticed(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    (reader,) = (each for each in threading.enumerate() if isinstance(each, InotifyFD))
    overflow = 0x4000

    reader.handle_event(InotifyEvent(-1, overflow, 0, b""))  # type: ignore[arg-type] # new types

    assert recorder.got(None)
    watcher.check()
    assert watcher.state == "events"
    assert not reader.is_alive()


def test_watch_that_keeps_failing_is_built_less_and_less_often(
    staging: Path, recorder: Recorder, clock: Clock
) -> None:
    staging.rmdir()
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)
    built: list[float] = []
    build = watcher._build

    def count(now: float) -> None:
        built.append(now)
        build(now)

    watcher._build = count  # type: ignore[method-assign] # a counter in front
    for _ in range(240):
        watcher.check()
        clock.now += 0.5

    between = [later - earlier for earlier, later in pairwise(built)]
    # Each is at least half of what it may be, and is found at the next check.
    for pause, most in zip(between, [1, 2, 4, 8, 16, 30, 30, 30], strict=False):
        assert most / 2 <= pause <= most + 0.5
    assert len(built) > 8
    assert len(set(between)) > 4


def test_instance_limit_of_the_machine_means_polling(
    staging: Path, recorder: Recorder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(InotifyFD, "_create_inotify_fd", staticmethod(refuse))
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)

    watcher.check()

    limit = Path("/proc/sys/fs/inotify/max_user_instances").read_text("ascii").strip()
    assert watcher.state == (
        "polling: the kernel grants no more inotify instances; "
        f"raise fs.inotify.max_user_instances (now {limit})"
    )
    monkeypatch.undo()
    clock.now += 2
    watcher.check()
    assert watcher.state == "events"
    watcher.close()


def test_network_file_system_is_polled(
    staging: Path, recorder: Recorder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "is_network", lambda _: True)
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)

    watcher.check()

    assert watcher.state == "polling: a network file system sends no events"
    assert not [each for each in threading.enumerate() if isinstance(each, BaseThread)]


def test_without_a_watcher_nothing_is_watched(
    staging: Path, recorder: Recorder, clock: Clock
) -> None:
    watcher = Watcher(staging, recorder, mode="none", poll_interval=2.0, clock=clock)

    assert watcher.check() == 2.0

    assert watcher.state == "none"
    assert not [each for each in threading.enumerate() if isinstance(each, BaseThread)]


def test_mode_can_be_changed_while_it_runs(
    watcher: Watcher, staging: Path, recorder: Recorder
) -> None:
    watcher.set(mode="none", poll_interval=2.0)
    watcher.check()
    assert watcher.state == "none"
    assert not [each for each in threading.enumerate() if isinstance(each, BaseThread)]

    watcher.set(mode="auto", poll_interval=2.0)
    watcher.check()

    assert watcher.state == "events"
    (staging / RUN).mkdir()
    assert recorder.got(RUN)


def test_closed_watcher_leaves_no_thread(watcher: Watcher) -> None:
    watcher.close()

    assert not [each for each in threading.enumerate() if isinstance(each, BaseThread)]


def test_folder_that_leaves_and_comes_back_ends_no_thread(
    watcher: Watcher, staging: Path, recorder: Recorder, tmp_path: Path
) -> None:
    # watchdog then watches it twice, and warns of that; here warnings are errors.
    (staging / RUN).mkdir()
    assert recorder.got(RUN)
    for _ in range(5):
        (staging / RUN).rename(tmp_path / "out")
        (tmp_path / "out").rename(staging / RUN)
    assert recorder.got(RUN, whole=True)
    settled(recorder, staging)

    watcher.check()

    assert (None, False) not in recorder.hints
