"""watchdog's reader of the kernel's events, made to say what it keeps to itself.

watchdog swallows it when the kernel refuses to watch a folder, goes on when the kernel dropped
events, and is silent when its reader fails. Here each of that is told to the owner. What
is overridden and what is read of watchdog's private state is in this file alone.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from watchdog.events import DirMovedEvent, FileSystemEvent
from watchdog.observers.api import (
    DEFAULT_OBSERVER_TIMEOUT,
    BaseObserver,
    EventQueue,
    ObservedWatch,
)
from watchdog.observers.inotify import InotifyEmitter, InotifyFullEmitter, InotifyObserver
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)
from watchdog.observers.inotify_move_event_grouper import (
    GroupedInotifyEvent,
    PathedInotifyEvent,
)

from modeldrop.names import printable

NO_WATCHES: Final = "the kernel grants no more watches"
OVERFLOW: Final = "the kernel's queue of events overflowed"

_FDINFO: Final = Path("/proc/self/fdinfo")
_WATCH_LINE: Final = re.compile(rb"^inotify wd:([0-9a-f]+) ", re.MULTILINE)


class WatchLimitReached(Exception):
    """The kernel grants too few watches for all of staging."""


class Reader(InotifyFD):
    """The thread that reads what the kernel says."""

    def __init__(
        self,
        *,
        passes_over: Callable[[bytes], bool],
        overflowed: Callable[[], None],
        distrust: Callable[[str], None],
    ) -> None:
        """Read nothing yet. `passes_over` tells by a folder's path that it isn't to be watched.

        Raises:
            OSError: EMFILE, when the kernel grants no more inotify instances.
        """
        super().__init__()
        self._passes_over = passes_over
        self._overflowed = overflowed
        self._distrust = distrust
        self._stands = False

    def stands(self) -> None:
        """Take note that all of the watch is built."""
        self._stands = True

    def believed(self) -> frozenset[int]:
        """Return the numbers of the watches that watchdog believes to be there."""
        with self._lock:
            return frozenset(self._watch_for_wd)

    def in_kernel(self) -> frozenset[int]:
        """Return the numbers of the watches that the kernel holds.

        Raises:
            OSError: it doesn't say; there is no procfs.
        """
        lines = (_FDINFO / str(self._inotify_fd)).read_bytes()
        return frozenset(int(wd, 16) for wd in _WATCH_LINE.findall(lines))

    def add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        """Watch a folder; what can't be watched raises, where watchdog only goes on.

        Raises:
            OSError: it isn't watched; watchdog passes over it then.
            WatchLimitReached: the same, while the watch is built.
        """
        if self._passes_over(path):
            raise OSError(errno.ENOENT, "not to be watched")
        try:
            wd = super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                if not self._stands:
                    raise WatchLimitReached from error
                self._distrust(NO_WATCHES)
            raise
        if wd == -1:
            # watchdog takes the kernel's "permission denied" for the number of a watch.
            with self._lock:
                self._remove_watch(wd)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))
        return wd

    def handle_event(self, event: InotifyEvent) -> None:
        """Take an event."""
        if event.is_queue_overflow:
            self._overflowed()
            self._distrust(OVERFLOW)
            return
        if event.mask & InotifyConstants.IN_UNMOUNT:
            self._distrust("a file system was unmounted")
        super().handle_event(event)

    def run(self) -> None:
        """Read until the end, and say so if it comes by an error."""
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - any end of this thread is a doubt, none is more
            self._distrust(f"events can't be read: {printable(repr(error))}")


class Emitter(InotifyFullEmitter):
    """watchdog's maker of events, without one for each file of a folder that is moved.

    One for the folder says all that anybody here wants to know, and it may hold very many files.
    Each event is taken in this thread: another one, which the observer has for it, would only be
    a turn more to wait for.
    """

    def __init__(
        self,
        event_queue: EventQueue,
        watch: ObservedWatch,
        *,
        take: Callable[[FileSystemEvent], None],
        timeout: float,
        event_filter: list[type[FileSystemEvent]] | None,
        inotify_fd: InotifyFD,
    ) -> None:
        """Have `take` called with each event; it mustn't raise."""
        super().__init__(
            event_queue, watch, timeout=timeout, event_filter=event_filter, inotify_fd=inotify_fd
        )
        self._take = take

    def queue_event(self, event: FileSystemEvent) -> None:
        """Take an event, unless it is of a kind that nobody wants."""
        if self._event_filter is None or isinstance(event, tuple(self._event_filter)):
            self._take(event)

    def build_and_queue_event(
        self, event: GroupedInotifyEvent, *, full_events: bool = True
    ) -> None:
        """Queue the events that this one of the kernel's stands for."""
        source, target = (None, event) if isinstance(event, PathedInotifyEvent) else event
        if target.ev.is_moved_to and target.ev.is_directory:
            moved_from = self._decode_path(source.path) if source is not None else ""
            self.queue_event(DirMovedEvent(moved_from, self._decode_path(target.path)))
        else:
            super().build_and_queue_event(event, full_events=full_events)


class Observer(InotifyObserver):
    """watchdog's observer around a reader of ours."""

    def __init__(self, reader: Reader, take: Callable[[FileSystemEvent], None]) -> None:
        """Have `take` called with each event of a reader that runs already; it mustn't raise."""
        self._inotify_fd = reader
        # Not InotifyObserver's own, which makes a reader itself.
        BaseObserver.__init__(
            self, Emitter, timeout=DEFAULT_OBSERVER_TIMEOUT, inotify_fd=reader, take=take
        )

    def has(self, folder: bytes) -> bool:
        """Return whether watchdog believes that a folder is watched."""
        return any(
            isinstance(emitter, InotifyEmitter)
            and (group := emitter._inotify) is not None  # noqa: SLF001 - nothing public tells
            and folder in group._active_callbacks_by_path  # noqa: SLF001
            for emitter in self.emitters
        )
