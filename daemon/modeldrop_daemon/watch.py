"""The watcher: the kernel's events, made into hints for the engine. The only user of watchdog.

Events are hints; a scan is the truth. So nothing here has to be right, it only has to know when
it is no longer to be trusted: then everything is scanned, the watch is built anew, and until that
has worked staging is scanned every `poll_interval`.

What raises a doubt: a thread of watchdog's that ended, a staging folder that is not the one that
was watched (deleted, replaced, another disk mounted over it), a handler that failed, and whatever
watchdog itself complains of, such as an overflow of the kernel's queue. watchdog says none of
that to its users: its observer looks alive in all of these cases.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
from watchdog.utils import BaseThread

from modeldrop.files import TEMP_PREFIX
from modeldrop.intake import is_network
from modeldrop.names import RECEIPT, printable

_log = logging.getLogger(__name__)

# What the kernel is asked for. Not what reading causes (opened, closed unwritten): our own looks
# would wake us for ever. Not each single write (modified): a file that is written to is open,
# which the lease tells, and its end is a close.
_WANTED: Final[list[type[FileSystemEvent]]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]
# watchdog holds the first half of a rename back for half a second, and everything behind it, to
# see whether the other half comes. The kernel puts both down together; it takes no longer than
# another thread's turn until both are read.
_PAIRING: Final = 0.02

# How many names lead to a file at the top of a run.
_RUN_FILE: Final = 2

# How often it is asked whether the watch is to be trusted; this costs microseconds.
_CHECK_INTERVAL: Final = 1.0
# Seconds before a watch that could not be built is tried again: doubled each time, up to the
# second. A watch that has held for as long as that is no failure any more.
_FIRST_RETRY: Final = 1.0
_MOST_RETRY: Final = 30.0
# How long the threads of an old watch are waited for.
_STOP_TIME: Final = 5.0


class Hints(Protocol):
    """What the watcher needs of the engine."""

    def hint(self, folder: str | None = None, *, whole: bool = False) -> None:
        """Take a hint; see `modeldrop.intake.Engine.hint`."""


class Watcher:
    """Watches over a staging folder, and over itself. `check` and `close` are for one thread."""

    def __init__(
        self,
        staging: Path,
        hints: Hints,
        *,
        mode: str,
        poll_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch nothing yet: `check` begins. `mode` is the setting `watcher`."""
        self._staging = staging
        self._hints = hints
        self._clock = clock
        self._watch: _Watch | None = None
        self._doubt = ""
        self._built_at = 0.0
        self._retry = 0.0
        self._retry_at = 0.0
        self._poll_at = 0.0
        self.set(mode=mode, poll_interval=poll_interval)

    def set(self, *, mode: str, poll_interval: float) -> None:
        """Use other settings from the next `check` on."""
        self._mode = mode
        self._poll_interval = poll_interval
        self._retry = self._retry_at = 0.0

    @property
    def state(self) -> str:
        """How staging is watched: `events`, `none`, or `polling: ` and the reason."""
        if self._mode == "none":
            return "none"
        return f"polling: {self._doubt}" if self._watch is None else "events"

    def check(self) -> float:
        """See to it that staging is watched or polled; return the seconds until the next check.

        After it, everything in staging is either seen by the watch or hinted to be scanned.
        """
        if self._mode == "none":
            self._end_watch()
            # The engine scans by itself; this is how a change of the mode is noticed.
            return self._poll_interval
        now = self._clock()
        if self._watch is not None:
            doubt = self._watch.doubt()
            if doubt is None:
                return _CHECK_INTERVAL
            _log.warning("the watch of staging is built anew: %s", doubt)
            self._end_watch()
            if now - self._built_at > _MOST_RETRY:
                self._retry = 0.0
            self._doubt = doubt
            self._retry_at = now + self._retry
            self._back_off()
        if now >= self._retry_at:
            self._build(now)
        if self._watch is not None:
            return _CHECK_INTERVAL
        if now >= self._poll_at:
            self._poll_at = now + self._poll_interval
            self._hints.hint()
        return max(min(self._poll_at, self._retry_at) - now, 0.0)

    def close(self) -> None:
        """Let go of the kernel's watches."""
        self._end_watch()

    def _build(self, now: float) -> None:
        try:
            if is_network(self._staging):
                doubt = "a network file system sends no events"
            else:
                self._watch = _Watch(self._staging, self._hints)
                # What came before the watch was there is found by a scan that comes after.
                self._hints.hint()
                self._built_at = now
                _log.debug("staging is watched")
                return
        except (OSError, RuntimeError) as error:
            doubt = f"staging can't be watched: {printable(str(error))}"
        if doubt != self._doubt:
            _log.warning("%s; it is scanned every %g s", doubt, self._poll_interval)
        self._doubt = doubt
        self._back_off()
        self._retry_at = now + self._retry

    def _back_off(self) -> None:
        self._retry = min(max(self._retry * 2, _FIRST_RETRY), _MOST_RETRY)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None


class _Watch:
    """One recursive watch of one folder, from its building to its end."""

    def __init__(self, staging: Path, hints: Hints) -> None:
        """Watch; when this returns, every change in staging raises an event.

        Raises:
            OSError: staging isn't there, or the kernel grants no more watches or instances.
            RuntimeError: no thread can be started.
        """
        self._staging = staging
        self._hints = hints
        self._trouble: str | None = None
        self._observer: InotifyObserver | None = None
        self._threads: list[BaseThread] = []
        self._complaints = _Complaints(self._distrust)
        try:
            self._identity = _identity(staging)
            self._start()
            if _identity(staging) != self._identity:
                self._distrust("staging was replaced")
        except BaseException:
            self.end()
            raise

    def _start(self) -> None:
        # watchdog warns of races that do no harm; where warnings are errors, that ends its thread.
        warnings.filterwarnings("ignore", module=r"watchdog\..*")
        InotifyMoveEventGrouper.delay = _PAIRING
        before = set(threading.enumerate())
        self._observer = InotifyObserver(generate_full_events=True)
        # The kernel follows no link here, so it is followed before.
        root = str(self._staging.resolve(strict=True))
        handler = _Handler(root, self._hints, self._distrust)
        self._observer.schedule(handler, root, recursive=True, event_filter=_WANTED)
        self._observer.start()
        # The type is asked as well: the engine starts threads of its own.
        self._threads = [
            each
            for each in threading.enumerate()
            if isinstance(each, BaseThread) and each not in before
        ]

    def doubt(self) -> str | None:
        """Return why this watch can't be trusted any more, or None."""
        if self._trouble is not None:
            return self._trouble
        try:
            identity = _identity(self._staging)
        except OSError as error:
            return f"staging can't be found: {printable(str(error))}"
        if identity != self._identity:
            return "staging was replaced"
        # The others go on as if nothing had happened when one of them ends.
        ended = [type(each).__name__ for each in self._threads if not each.is_alive()]
        return f"its thread {ended[0]} has ended" if ended else None

    def end(self) -> None:
        """End its threads, as far as they let themselves be ended."""
        self._complaints.close()
        # A thread of its own: whatever happened to those of watchdog, the service goes on.
        ending = threading.Thread(target=self._stop, name="end of a watch", daemon=True)
        ending.start()
        ending.join(_STOP_TIME)
        if ending.is_alive():
            _log.warning("the threads of an old watch don't end; they do no harm")

    def _stop(self) -> None:
        if self._observer is None:
            return
        # What an ended thread left behind may be in any state.
        with contextlib.suppress(Exception):
            self._observer.stop()
        if self._observer.is_alive():
            self._observer.join()

    def _distrust(self, why: str) -> None:
        # From any thread. The hint also wakes the loop, which then asks for the doubt.
        self._trouble = self._trouble or why
        self._hints.hint()


class _Handler(FileSystemEventHandler):
    """Makes events into hints. It never raises: that would end watchdog's thread, in silence."""

    def __init__(self, root: str, hints: Hints, distrust: Callable[[str], None]) -> None:
        self._root = root
        self._hints = hints
        self._distrust = distrust

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take an event."""
        try:
            self._take(event)
        except Exception as error:  # noqa: BLE001 - see above
            self._distrust(f"an event could not be understood: {printable(repr(error))}")

    def _take(self, event: FileSystemEvent) -> None:
        source, target = self._names(event.src_path), self._names(event.dest_path)
        if [""] in (source, target):
            # Something became of the root itself.
            self._hints.hint()
            return
        if target and not _is_ours(target):
            # Renamed into staging: from elsewhere, of which no event tells, or from aside.
            whole = isinstance(event, DirMovedEvent) and len(target) == 1
            self._hints.hint(target[0], whole=whole)
        if source and not _is_ours(source) and source[:1] != target[:1]:
            self._hints.hint(source[0])

    def _names(self, path: bytes | str) -> list[str]:
        """Return the names on the way from the root to a path; nothing if there is no path."""
        return str(path).removeprefix(self._root).lstrip("/").split("/") if path else []


class _Complaints(logging.Handler):
    """Hears what watchdog complains of, which it does nowhere but in its log."""

    def __init__(self, distrust: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._distrust = distrust
        self._logger = logging.getLogger("watchdog")
        self._logger.addHandler(self)
        # What becomes of it is said in our own words.
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take a complaint."""
        self._distrust(f"watchdog says: {printable(record.getMessage())}")

    def close(self) -> None:
        """Hear no more."""
        self._logger.removeHandler(self)
        super().close()


def _is_ours(names: list[str]) -> bool:
    """Return whether a change is one that modeldrop made: a receipt, or files put aside."""
    if names[0].startswith("."):
        # No run's name begins so; `modeldrop drop` fills such a folder before it is renamed.
        return True
    return names[1:] == [RECEIPT] or (len(names) == _RUN_FILE and names[1].startswith(TEMP_PREFIX))


def _identity(folder: Path) -> tuple[int, int]:
    """Return what tells one folder from another that has its path.

    Raises:
        OSError: it isn't there.
    """
    found = folder.stat()
    return found.st_dev, found.st_ino
