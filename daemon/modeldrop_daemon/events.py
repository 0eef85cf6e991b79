"""One watch of staging: the kernel's events, made into hints. The only user of watchdog.

watchdog tells its users nothing of what goes wrong: its observer looks alive when one of its
threads has ended, when the folder was replaced, when the kernel granted no more watches, when
events were lost. So a watch looks after itself, and says by `doubt` why it isn't to be trusted any
more, and by `limit` that it covers a part of staging only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
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
from watchdog.observers.inotify_c import CallbackId, InotifyFD, Mask, WatchCallback, WatchDescriptor
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
from watchdog.utils import BaseThread

from modeldrop.files import TEMP_PREFIX
from modeldrop.names import RECEIPT, printable

_log = logging.getLogger(__name__)

# A line of fdinfo for a watch, and the inode in it.
_INODE: Final = re.compile(r"^inotify wd:[0-9a-f]+ ino:([0-9a-f]+)", re.MULTILINE)
CANARY: Final = ".modeldrop-canary"
# How watchdog's two messages about lost events begin.
_OVERFLOW: Final = "Inotify queue overflowed"

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
# How often it is proven that events arrive, and that every folder is watched.
_PROOF_INTERVAL: Final = 30.0
# How long the event of the canary may take: behind it in the kernel's queue there may be a burst.
_CANARY_PATIENCE: Final = 10.0


class Hints(Protocol):
    """What the watcher needs of the engine."""

    def hint(self, folder: str | None = None, *, whole: bool = False) -> None:
        """Take a hint; see `modeldrop.intake.Engine.hint`."""


class Watch:
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
        self.limit = ""
        """Why a part of staging isn't watched; empty if all of it is."""
        self.overflows = 0
        """How many times the kernel dropped events."""
        self._canary = _Canary(staging)
        self._proof_due = 0.0
        self._descriptor = -1
        self._missing: frozenset[str] = frozenset()
        self._observer: InotifyObserver | None = None
        self._threads: list[BaseThread] = []
        self._complaints = _Complaints(self._overflowed, self._distrust)
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
        warnings.filterwarnings("ignore", module=__name__, category=RuntimeWarning)
        InotifyMoveEventGrouper.delay = _PAIRING
        before = set(threading.enumerate())
        others = _inotify_descriptors()
        self._observer = InotifyObserver(generate_full_events=True)
        self._descriptor = min(_inotify_descriptors() - others, default=-1)
        self._see_refusals(self._observer._inotify_fd)  # noqa: SLF001 - nobody else is told
        # The kernel follows no link here, so it is followed before.
        root = str(self._staging.resolve(strict=True))
        handler = _Handler(root, self._hints, self._canary.arrived, self._distrust)
        self._observer.schedule(handler, root, recursive=True, event_filter=_WANTED)
        self._observer.start()
        # The type is asked as well: the engine starts threads of its own.
        self._threads = [
            each
            for each in threading.enumerate()
            if isinstance(each, BaseThread) and each not in before
        ]

    def _see_refusals(self, reader: InotifyFD) -> None:
        """See to it that a watch which the kernel refuses is noticed: watchdog goes on without."""
        add = reader.add_callback

        def seen(
            path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
        ) -> WatchDescriptor:
            try:
                return add(path, mask, callback, id_)
            except OSError as error:
                if error.errno == errno.ENOSPC and not self.limit:
                    self.limit = _limit_reached()
                    self._hints.hint()
                raise

        reader.add_callback = seen  # type: ignore[method-assign] # it tells nobody otherwise

    def _unproven(self) -> str | None:
        """Prove now and then that events arrive and that all is watched; return what is not so."""
        late = self._canary.overdue()
        if late is not None:
            return late
        clock = time.monotonic()
        if clock < self._proof_due:
            return None
        self._proof_due = clock + _PROOF_INTERVAL
        self._canary.send()
        try:
            missing = self._unwatched()
        except OSError as error:
            return f"staging can't be listed: {printable(str(error))}"
        # One that was made just now isn't watched yet; the same ones half a minute later should be.
        again, self._missing = missing & self._missing, missing
        if again and not self.limit:
            return f"{len(again)} folders aren't watched, such as {printable(min(again))}"
        return None

    def _unwatched(self) -> frozenset[str]:
        """Return the folders at the top of staging that the kernel has no watch for."""
        watched = _watched_inodes(self._descriptor)
        if self._identity[1] not in watched:
            # Where inodes have other numbers inside of the kernel, this tells nothing.
            return frozenset()
        with os.scandir(self._staging) as entries:
            return frozenset(
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
                and not entry.name.startswith(".")
                and entry.inode() not in watched
            )

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
        return f"its thread {ended[0]} has ended" if ended else self._unproven()

    def end(self) -> None:
        """End its threads, as far as they let themselves be ended."""
        self._complaints.close()
        self._canary.remove()
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

    def _overflowed(self) -> None:
        # watchdog renews its watches by itself; what the lost events told of, a scan finds.
        self.overflows += 1
        self._hints.hint()

    def _distrust(self, why: str) -> None:
        # From any thread. The hint also wakes the loop, which then asks for the doubt.
        self._trouble = self._trouble or why
        self._hints.hint()


class _Handler(FileSystemEventHandler):
    """Makes events into hints. It never raises: that would end watchdog's thread, in silence."""

    def __init__(
        self,
        root: str,
        hints: Hints,
        arrived: Callable[[], None],
        distrust: Callable[[str], None],
    ) -> None:
        self._root = root
        self._hints = hints
        self._arrived = arrived
        self._distrust = distrust

    def dispatch(self, event: FileSystemEvent) -> None:
        """Take an event."""
        try:
            self._take(event)
        except Exception as error:  # noqa: BLE001 - see above
            self._distrust(f"an event could not be understood: {printable(repr(error))}")

    def _take(self, event: FileSystemEvent) -> None:
        source, target = self._names(event.src_path), self._names(event.dest_path)
        if source == [CANARY]:
            self._arrived()
            return
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


class _Canary:
    """A file whose events have to arrive; a staging folder that can't be written to has none."""

    def __init__(self, staging: Path) -> None:
        self._path = staging / CANARY
        self._sent_at: float | None = None
        self._has_complained = False

    def send(self) -> None:
        """Write it; its event is waited for."""
        # Before it is written: the event may arrive at once.
        self._sent_at = time.monotonic()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            os.close(os.open(self._path, flags, 0o600))
        except OSError as error:
            self._sent_at = None
            if not self._has_complained:
                self._has_complained = True
                why = error.strerror or str(error)
                _log.warning("whether events arrive can't be proven: %s", printable(why))

    def arrived(self) -> None:
        """Take note of its event; from any thread."""
        self._sent_at = None

    def overdue(self) -> str | None:
        """Return what is wrong if its event should be here by now."""
        sent_at = self._sent_at
        if sent_at is None or time.monotonic() - sent_at < _CANARY_PATIENCE:
            return None
        self._sent_at = None
        return f"an event didn't arrive within {_CANARY_PATIENCE:g} s"

    def remove(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _inotify_descriptors() -> set[int]:
    """Return the descriptors of this process by which the kernel tells events."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify":
                found.add(int(name))
    return found


def _watched_inodes(descriptor: int) -> set[int]:
    """Return the inodes that the kernel watches, by its own account: see proc_pid_fdinfo(5)."""
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii")
    except (OSError, ValueError):
        return set()
    return {int(found, 16) for found in _INODE.findall(told)}


def _limit_reached() -> str:
    """Return why the kernel refuses watches, and what to do."""
    limit = "fs.inotify.max_user_watches"
    with contextlib.suppress(OSError):
        limit += f" = {Path('/proc/sys/fs/inotify/max_user_watches').read_text().strip()}"
    return f"the kernel grants this user no more watches ({limit}; raise it by sysctl)"


class _Complaints(logging.Handler):
    """Hears what watchdog complains of, which it does nowhere but in its log."""

    def __init__(self, overflowed: Callable[[], None], distrust: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._overflowed = overflowed
        self._distrust = distrust
        self._logger = logging.getLogger("watchdog")
        self._logger.addHandler(self)
        # What becomes of it is said in our own words.
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take a complaint."""
        said = record.getMessage()
        if not said.startswith(_OVERFLOW):
            self._distrust(f"watchdog says: {printable(said)}")
        elif "reconciling" not in said:
            # It says so twice: that events were lost, and that it renews its watches.
            self._overflowed()

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
