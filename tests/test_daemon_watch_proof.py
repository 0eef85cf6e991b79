"""The watch is proven alive: the canary, the survey, what its reader says."""

import ctypes
import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyEvent

from modeldrop_daemon import watch
from modeldrop_daemon.canary import NAME, Canary
from modeldrop_daemon.inotify import Reader
from modeldrop_daemon.survey import Survey
from modeldrop_daemon.watch import Watcher
from support import children
from support.waiting import comes_true
from support.watching import (
    Clock,
    Recorder,
    pass_time,
    queue_length,
    touch_in_turn,
    watch_what_becomes_readable,
)

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
    for name in (RUN, OTHER):
        (staging / name / "checkpoints").mkdir(parents=True)
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)
    watcher.check()
    assert watcher.state == "events"
    recorder.hints.clear()
    yield watcher
    watcher.close()


def drop_watch_of(folder: Path) -> None:
    """Make the kernel forget a watch, of which watchdog tells nobody."""
    (reader,) = (each for each in threading.enumerate() if isinstance(each, Reader))
    (wd,) = (
        wd
        for wd, watch in reader._watch_for_wd.items()
        if watch._initial_creation_path == os.fsencode(folder)
    )
    assert ctypes.CDLL(None).inotify_rm_watch(reader._inotify_fd, wd) == 0
    assert comes_true(lambda: wd not in reader.believed())


# The canary


def test_watch_that_stands_is_never_doubted(
    watcher: Watcher, recorder: Recorder, clock: Clock
) -> None:
    before = watcher.report()

    pass_time(watcher, clock, 400)

    assert watcher.report() == before
    assert (before.rebuilds, before.doubt, before.watches) == (0, "", 5)
    # Nor does its own proof wake anybody.
    assert recorder.hints == []


def test_watch_that_fell_silent_is_built_anew(
    watcher: Watcher, staging: Path, recorder: Recorder, clock: Clock
) -> None:
    # The first survey is over, which would find it too, and the next canary is to come.
    pass_time(watcher, clock, 25)
    drop_watch_of(staging)
    (staging / "unseen").mkdir()

    pass_time(watcher, clock, 40)

    report = watcher.report()
    assert (report.state, report.rebuilds) == ("events", 1)
    assert report.doubt == "a change made to prove the watch brought no event"
    # What was missed meanwhile is found by a scan.
    assert (None, False) in recorder.hints
    (staging / "seen").mkdir()
    assert recorder.got("seen")


def test_staging_that_sends_no_events_at_all_is_polled(
    staging: Path,
    recorder: Recorder,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # As a file system does that is none of those known to be a network's.
    monkeypatch.setattr(Reader, "handle_event", lambda *_: None)
    monkeypatch.setattr(watch, "_FIRST_SONG", 0.01)
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)
    states = set()

    for _ in range(100):
        watcher.check()
        states.add(watcher.state)
        clock.now += 1

    assert states == {
        "polling: the watch is not proven alive yet",
        "polling: a change made to prove the watch brought no event",
    }
    assert caplog.text.count("built anew") == 1
    monkeypatch.undo()
    pass_time(watcher, clock, 40)
    assert watcher.state == "events"
    watcher.close()


def test_canary_costs_staging_neither_bytes_nor_times(
    watcher: Watcher, staging: Path, clock: Clock
) -> None:
    before = staging.stat().st_mtime_ns
    canary = (staging / NAME).stat()

    pass_time(watcher, clock, 70)

    assert staging.stat().st_mtime_ns == before
    assert (staging / NAME).stat().st_mtime_ns == canary.st_mtime_ns
    assert canary.st_size == 0


def test_canary_that_cannot_be_written_is_said_once_and_is_no_doubt(
    staging: Path, recorder: Recorder, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # For every user alike, root too: a folder can't be opened to be written.
    (staging / NAME).mkdir()
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)
    watcher.check()

    pass_time(watcher, clock, 100)

    assert watcher.report().rebuilds == 0
    assert watcher.state == "events"
    assert caplog.text.count("can't be proven alive") == 1
    watcher.close()


def test_canary_leads_nobody_out_of_staging(
    staging: Path, recorder: Recorder, clock: Clock, tmp_path: Path
) -> None:
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)
    (staging / NAME).symlink_to(tmp_path / "outside")

    watcher.check()

    assert not (tmp_path / "outside").exists()
    watcher.close()
    assert not (staging / NAME).is_symlink()


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_canary_of_a_dead_service_does_not_stay(
    staging: Path, recorder: Recorder, clock: Clock, mode: str
) -> None:
    (staging / NAME).touch()
    watcher = Watcher(staging, recorder, mode=mode, poll_interval=2.0, clock=clock)
    watcher.check()
    assert [each.name for each in staging.iterdir()] == ([] if mode == "none" else [NAME])
    watcher.close()

    assert list(staging.iterdir()) == []


def test_canary_behind_a_burst_is_waited_for_but_not_for_ever(staging: Path) -> None:
    canary = Canary(staging)
    assert canary.look(0, heard=0, taken=0) is None

    assert all(canary.look(now, heard=0, taken=now) is None for now in range(1, 60))
    assert canary.look(60, heard=0, taken=60) is not None


def test_process_that_was_stopped_for_long_doubts_nothing_at_once(staging: Path) -> None:
    canary = Canary(staging)
    canary.look(0, heard=0, taken=0)

    assert canary.look(600, heard=0, taken=0) is None
    assert canary.look(601, heard=1, taken=1) is None
    assert canary.look(602, heard=1, taken=1) is None
    assert canary.look(603, heard=1, taken=1) is None


# The kernel's own count of watches


def test_folder_that_is_not_watched_is_found_and_the_watch_built_anew(
    watcher: Watcher, staging: Path, recorder: Recorder, clock: Clock
) -> None:
    drop_watch_of(staging / RUN / "checkpoints")

    pass_time(watcher, clock, 25)

    report = watcher.report()
    assert report.doubt == "folders of staging that turned out not to be watched: 1"
    assert (report.rebuilds, report.watches) == (1, 5)
    recorder.hints.clear()
    (staging / RUN / "checkpoints/last.ckpt").touch()
    assert recorder.got(RUN)


def test_folder_that_becomes_readable_is_watched_from_then_on(staging: Path) -> None:
    before, after, doubt = children.run(watch_what_becomes_readable, staging)

    assert (before, after) == (1, 2)
    assert doubt == "folders of staging that turned out not to be watched: 1"


class Scripted:
    """A watch that believes and holds what it is told."""

    def __init__(self, staging: Path) -> None:
        self.root = os.fsencode(staging)
        self.missing: set[bytes] = set()
        self.asked: list[bytes] = []
        self.believes: frozenset[int] = frozenset()
        self.kernel: frozenset[int] = frozenset()

    def passes_over(self, folder: bytes) -> bool:
        return b"/." in folder[len(self.root) :]

    def has(self, folder: bytes) -> bool:
        self.asked.append(folder)
        return folder not in self.missing

    def believed(self) -> frozenset[int]:
        return self.believes

    def in_kernel(self) -> frozenset[int]:
        return self.kernel


def first_doubt(survey: Survey, seconds: int) -> str | None:
    return next((doubt for now in range(seconds) if (doubt := survey.step(now))), None)


def test_watch_that_only_watchdog_believes_in_is_a_doubt(staging: Path) -> None:
    scripted = Scripted(staging)
    scripted.believes, scripted.kernel = frozenset({1, 2, 3}), frozenset({1, 3})

    assert first_doubt(Survey(scripted, 0), 60) == (
        "folders of staging that turned out not to be watched: 1"
    )


def test_folder_that_was_made_just_now_or_is_gone_is_no_doubt(staging: Path) -> None:
    scripted = Scripted(staging)
    (staging / "new").mkdir()
    (staging / "going").mkdir()
    new, going = os.fsencode(staging / "new"), os.fsencode(staging / "going")
    scripted.missing = {new, going}
    survey = Survey(scripted, 0)
    assert first_doubt(survey, 12) is None

    scripted.missing.remove(new)
    (staging / "going").rmdir()

    assert first_doubt(survey, 1000) is None


def test_folders_that_left_staging_are_let_go_once_they_are_many(staging: Path) -> None:
    scripted = Scripted(staging)
    scripted.believes = scripted.kernel = frozenset(range(1001))
    assert first_doubt(Survey(scripted, 0), 1000) is None

    scripted.believes = scripted.kernel = frozenset(range(1002))
    assert (
        first_doubt(Survey(scripted, 0), 1000) == "too many folders that left staging are watched"
    )


def test_large_staging_is_surveyed_bit_by_bit(staging: Path) -> None:
    for number in range(600):
        (staging / f"{number}").mkdir()
    scripted = Scripted(staging)
    survey = Survey(scripted, 0)

    counts = [len(scripted.asked) for now in range(20) if survey.step(now) is None]

    assert counts[-1] == 601
    assert max(after - before for before, after in pairwise(counts)) <= 250


def test_what_is_no_runs_is_not_watched(
    watcher: Watcher, staging: Path, recorder: Recorder, clock: Clock
) -> None:
    (staging / "done" / RUN).mkdir(parents=True)
    (staging / ".modeldrop-drop-1/sub").mkdir(parents=True)
    (staging / "run").mkdir()
    assert recorder.got("run")

    (staging / "done" / RUN / "model.bin").touch()
    (staging / "run/model.bin").touch()

    assert recorder.got("run")
    assert {folder for folder, _ in recorder.hints} == {"run"}
    assert watcher.report().watches == 6
    # It isn't missed by the survey either.
    pass_time(watcher, clock, 60)
    assert watcher.report().rebuilds == 0


# Overflows and errors


def test_reader_that_fails_leaves_nothing_open(
    watcher: Watcher, staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def fail(self: Reader, event: InotifyEvent) -> None:
        raise ValueError("staged")

    monkeypatch.setattr(Reader, "handle_event", fail)
    (reader,) = (each for each in threading.enumerate() if isinstance(each, Reader))
    (staging / "first").mkdir()
    reader.join(10)
    monkeypatch.undo()
    watcher.check()

    assert watcher.report().doubt == "events can't be read: ValueError('staged')"
    assert watcher.state == "events"
    assert len(os.listdir("/proc/self/fd")) == before


def test_overflow_is_counted_and_the_watch_built_anew(
    watcher: Watcher, staging: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, goes_on = threading.Event(), threading.Event()
    handle = Reader.handle_event

    def wait(self: Reader, event: InotifyEvent) -> None:
        reads.set()
        goes_on.wait(60)
        handle(self, event)

    monkeypatch.setattr(Reader, "handle_event", wait)
    (staging / "first").mkdir()
    assert reads.wait(10)
    touch_in_turn(staging / RUN, queue_length() + 2000)
    (staging / "lost").mkdir()
    goes_on.set()

    assert comes_true(lambda: watcher.report().overflows == 1)
    assert ("lost", False) not in recorder.hints
    watcher.check()

    report = watcher.report()
    assert (report.state, report.rebuilds) == ("events", 1)
    assert report.doubt == "the kernel's queue of events overflowed"
    assert (None, False) in recorder.hints
    (staging / "lost/model.bin").touch()
    assert recorder.got("lost")
