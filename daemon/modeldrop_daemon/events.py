"""The kernel's events, made into hints for the engine.

Events are hints; a scan is the truth. So nothing here has to be right, it only has to say when it
is no longer to be trusted. watchdog says so to nobody: its observer looks alive when the kernel's
queue has overflowed, when a folder could not be watched, and when one of its threads has ended.

Every folder of staging is watched, but for what is none of a run's: what modeldrop puts together
aside, and `done/`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
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
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
from watchdog.utils import BaseThread

from modeldrop.files import TEMP_PREFIX
from modeldrop.intake.walk import DONE
from modeldrop.names import RECEIPT, printable
from modeldrop_daemon.inotify import Observer, Reader

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
# How long the threads of an old watch are waited for.
_STOP_TIME: Final = 5.0


class Hints(Protocol):
    """What the watcher needs of the engine."""

    def hint(self, folder: str | None = None, *, whole: bool = False) -> None:
        """Take a hint; see `modeldrop.intake.Engine.hint`."""


class Events:
    """One watch of one folder, from its building to its end."""

    def __init__(
        self,
        staging: Path,
        hints: Hints,
        *,
        deep: bool,
        canary: str,
        overflowed: Callable[[], None],
    ) -> None:
        """Watch; when this returns, every change in staging raises an event.

        If not `deep`, only what appears at the top of staging does. `canary` is the file there
        whose closing is counted in `heard`; `overflowed` is called, from another thread, when the
        kernel dropped events.

        Raises:
            WatchLimitReached: some folders can't be watched.
            OSError: staging isn't there, or the kernel grants no inotify instance.
            RuntimeError: no thread can be started.
        """
        self.deep = deep
        self._staging = staging
        self._hints = hints
        self._trouble: str | None = None
        self._reader: Reader | None = None
        self._observer: Observer | None = None
        self._threads: list[BaseThread] = []
        self._complaints = _Complaints(self._distrust)
        try:
            self._identity = _identity(staging)
            # The kernel follows no link here, so it is followed before.
            self._start(str(staging.resolve(strict=True)), canary, overflowed)
            if _identity(staging) != self._identity:
                self._distrust("staging was replaced")
        except BaseException:
            self.end()
            raise

    def _start(self, root: str, canary: str, overflowed: Callable[[], None]) -> None:
        # watchdog warns of races that do no harm, in its caller's name; where warnings are errors,
        # that ends its thread.
        warnings.filterwarnings("ignore", module=r"watchdog\..*|modeldrop_daemon\.inotify")
        InotifyMoveEventGrouper.delay = _PAIRING
        self.root = os.fsencode(root)
        self._handler = _Handler(root, self._hints, canary, self._distrust)
        self._reader = Reader(
            passes_over=self.passes_over, overflowed=overflowed, distrust=self._distrust
        )
        self._reader.start()
        self._observer = Observer(self._reader, self._handler.dispatch)
        self._observer.schedule(self._handler, root, recursive=self.deep, event_filter=_WANTED)
        self._observer.start()
        self._reader.stands()
        self._threads = [self._reader, *self._observer.emitters, self._observer]

    @property
    def taken(self) -> int:
        """How many events were taken so far."""
        return self._handler.taken

    @property
    def heard(self) -> int:
        """How many events of the canary were taken so far."""
        return self._handler.heard

    def wait_heard(self, seconds: float) -> None:
        """Wait until an event of the canary was taken, at most for so long."""
        self._handler.rings.wait(seconds)

    def has(self, folder: bytes) -> bool:
        """Return whether a folder is believed to be watched."""
        return self._observer is not None and self._observer.has(folder)

    def believed(self) -> frozenset[int]:
        """Return the numbers of the watches that are believed to be there."""
        return self._reader.believed() if self._reader is not None else frozenset()

    def in_kernel(self) -> frozenset[int]:
        """Return the numbers of the watches that the kernel holds for us.

        Raises:
            OSError: it doesn't say.
        """
        return self._reader.in_kernel() if self._reader is not None else frozenset()

    def passes_over(self, folder: bytes) -> bool:
        """Return whether a folder isn't watched, being none of a run's."""
        names = os.fsdecode(folder[len(self.root) :]).lstrip("/").split("/")
        return names != [""] and _is_ours(names)

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
        return f"the thread {ended[0]} has ended" if ended else None

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
        # What an ended thread left behind may be in any state.
        for each in (self._observer, self._reader):
            if each is not None:
                with contextlib.suppress(Exception):
                    each.stop()
                if each.is_alive():
                    each.join()

    def _distrust(self, why: str) -> None:
        # From any thread. The hint also wakes the loop, which then asks for the doubt.
        self._trouble = self._trouble or why
        self._hints.hint()


class _Handler(FileSystemEventHandler):
    """Makes events into hints. It never raises: that would end watchdog's thread, in silence."""

    def __init__(
        self, root: str, hints: Hints, canary: str, distrust: Callable[[str], None]
    ) -> None:
        self._root = root
        self._hints = hints
        self._canary = [canary]
        self._distrust = distrust
        self.taken = 0
        self.heard = 0
        self.rings = threading.Event()

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take an event."""
        self.taken += 1
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
        if source == self._canary and isinstance(event, FileClosedEvent):
            self.heard += 1
            self.rings.set()
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
    """Return whether a path is modeldrop's own: a receipt, files put aside, what was moved away."""
    if names[0].startswith(".") or names[0] == DONE:
        # No run's name begins with a dot; `modeldrop drop` fills such a folder and renames it.
        return True
    return names[1:] == [RECEIPT] or (len(names) == _RUN_FILE and names[1].startswith(TEMP_PREFIX))


def _identity(folder: Path) -> tuple[int, int]:
    """Return what tells one folder from another that has its path.

    Raises:
        OSError: it isn't there.
    """
    found = folder.stat()
    return found.st_dev, found.st_ino
