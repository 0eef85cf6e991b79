"""What the tests of the watcher share: an engine's stand-in, a clock, namespaces of their own."""

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from modeldrop_daemon.watch import Watcher
from support.waiting import comes_true

_NEW_USER: Final = 0x10000000
_NEW_MOUNTS: Final = 0x00020000
_LIMITS: Final = Path("/proc/sys/user")


class Recorder:
    """Takes hints as the engine does."""

    def __init__(self) -> None:
        """Begin with none."""
        self.hints: list[tuple[str | None, bool]] = []
        self.when_hinted: Callable[[], None] = lambda: None

    def hint(self, folder: str | None = None, *, whole: bool = False) -> None:
        """Take a hint."""
        self.when_hinted()
        self.hints.append((folder, whole))

    def got(self, folder: str | None, *, whole: bool = False) -> bool:
        """Return whether such a hint comes."""
        return comes_true(lambda: (folder, whole) in self.hints, timeout=5)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def pass_time(watcher: Watcher, clock: Clock, seconds: int) -> None:
    """Let so many seconds pass, second by second, until the watch is built anew."""
    rebuilds = watcher.report().rebuilds
    for _ in range(seconds):
        clock.now += 1
        watcher.check()
        if watcher.report().rebuilds > rebuilds:
            return
        # The canary's event takes milliseconds, of which this clock knows nothing.
        comes_true(lambda: _has_been_heard(watcher), timeout=0.5)


def _has_been_heard(watcher: Watcher) -> bool:
    canary, events = watcher._canary, watcher._events
    return events is None or canary._sung is None or events.heard != canary._heard


def touch_in_turn(folder: Path, times: int) -> None:
    """Raise so many events that the kernel can't make into fewer."""
    for _ in range(times // 2):
        for name in ("a.bin", "b.bin"):
            os.close(os.open(folder / name, os.O_WRONLY | os.O_CREAT))


def queue_length() -> int:
    """Return how many events the kernel keeps for one who doesn't read them."""
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def enter_namespace(*, mounts: bool = False) -> None:
    """Put this process, which has one thread, into a user namespace of its own, as its root.

    Raises:
        OSError: this machine doesn't permit it.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USER | (_NEW_MOUNTS if mounts else 0)) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def limit(name: str, value: int, *, until: str = "") -> None:
    """Set a limit of this namespace; it is lifted once the file `until` is there.

    Raises:
        OSError: this machine doesn't permit it.
    """
    setting = _LIMITS / name
    before = setting.read_text()
    setting.write_text(str(value))

    def lift() -> None:
        comes_true(Path(until).exists, timeout=100)
        setting.write_text(before)

    if until:
        threading.Thread(target=lift, daemon=True).start()


def why_no_namespace() -> str:
    """Return why no user namespace with limits and mounts of its own can be had, or nothing."""
    code = (
        "from support.watching import enter_namespace, limit;"
        "enter_namespace(mounts=True); limit('max_inotify_watches', 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def watch_through_mounts(folder: str) -> list[str]:
    """Watch staging while a disk is mounted over it and goes again; return what was doubted.

    Each time a run that is made afterwards has to be hinted.
    """
    enter_namespace(mounts=True)
    staging = Path(folder)
    recorder, clock = Recorder(), Clock()
    watcher = Watcher(staging, recorder, mode="auto", poll_interval=2.0, clock=clock)
    watcher.check()
    doubts: list[str] = []
    for number, command in enumerate(
        (["mount", "-t", "tmpfs", "tmpfs", folder], ["umount", folder])
    ):
        subprocess.run(command, check=True)
        clock.now += 40
        assert comes_true(lambda: _doubts_again(watcher, doubts), timeout=10), watcher.report()
        assert watcher.state == "events"
        (staging / f"run-{number}").mkdir()
        assert recorder.got(f"run-{number}")
    watcher.close()
    return doubts


def watch_a_run_that_is_unmounted(folder: str) -> str:
    """Watch staging while the disk under one run is taken away; return what was doubted.

    What is made in the folder beneath it has to be hinted afterwards.
    """
    enter_namespace(mounts=True)
    run = Path(folder) / "run"
    run.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(run)], check=True)
    recorder = Recorder()
    watcher = Watcher(Path(folder), recorder, mode="auto", poll_interval=2.0)
    watcher.check()
    doubts: list[str] = []
    subprocess.run(["umount", str(run)], check=True)
    assert comes_true(lambda: _doubts_again(watcher, doubts), timeout=5), watcher.report()
    recorder.hints.clear()
    (run / "model.bin").touch()
    assert recorder.got("run")
    watcher.close()
    return doubts[0]


def _doubts_again(watcher: Watcher, doubts: list[str]) -> bool:
    watcher.check()
    report = watcher.report()
    if report.rebuilds == len(doubts) + 1:
        doubts.append(report.doubt)
        return True
    return False


def watch_what_becomes_readable(folder: str) -> list[object]:
    """Watch staging with an unreadable run as one whom permissions bind; then make it readable.

    Returns how many folders were watched before and after, and what was doubted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Version 3 of the call, this thread; no capability at all, by which root is like anybody.
    assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0
    staging = Path(folder)
    hidden = staging / "hidden"
    hidden.mkdir(mode=0)
    clock = Clock()
    watcher = Watcher(staging, Recorder(), mode="auto", poll_interval=2.0, clock=clock)
    watcher.check()
    before = watcher.report().watches
    hidden.chmod(0o700)
    pass_time(watcher, clock, 25)
    report = watcher.report()
    watcher.close()
    return [before, report.watches, report.doubt]
