"""The survey: whether each folder of staging has a watch that the kernel knows of.

It walks all of staging, a few hundred folders at a time, so that it never holds up the service
and costs no more of a second however many there are. What watchdog believes that it watches is
held against both sides: against the folders that there are, and against the kernel's own list.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Final, Protocol

# Seconds from the building of a watch to the first survey, and from the end of one to the next.
_FIRST: Final = 10.0
_INTERVAL: Final = 300.0
# Seconds between two slices, and the folders of one.
_PAUSE: Final = 1.0
_SLICE: Final = 250
# Seconds that a folder may be without a watch: it may have been made just now.
_GRACE: Final = 10.0
# Watches of folders that left staging are kept by the kernel. This many are worth a new watch.
_MOST_STRAYS: Final = 1000


class Watched(Protocol):
    """What is surveyed."""

    @property
    def root(self) -> bytes:
        """The watched folder."""

    def passes_over(self, folder: bytes) -> bool:
        """Return whether a folder isn't to be watched."""

    def has(self, folder: bytes) -> bool:
        """Return whether a folder is believed to be watched."""

    def believed(self) -> frozenset[int]:
        """Return the numbers of the watches that are believed to be there."""

    def in_kernel(self) -> frozenset[int]:
        """Return the numbers of the watches that the kernel holds."""


class Survey:
    """The surveys of one watch, one after the other. Times are of the caller's clock."""

    def __init__(self, watched: Watched, began: float) -> None:
        """Wait for the first."""
        self._watched = watched
        self._due = began + _FIRST
        self._folders: Iterator[bytes] | None = None
        self._seen = 0
        self._unwatched: list[bytes] = []
        self._lost: frozenset[int] = frozenset()

    def step(self, now: float) -> str | None:
        """Go on with it if it is time; return why the watch isn't to be trusted, or None."""
        if now < self._due:
            return None
        if self._unwatched or self._lost:
            return self._judge(now)
        self._due = now + _PAUSE
        if self._folders is None:
            self._folders, self._seen = _folders(self._watched), 0
        part = list(itertools.islice(self._folders, _SLICE))
        self._seen += len(part)
        self._unwatched = [each for each in part if not self._watched.has(each)]
        if self._unwatched:
            self._due = now + _GRACE
            return None
        return self._end(now) if len(part) < _SLICE else None

    def _end(self, now: float) -> str | None:
        """Hold what is believed against what the kernel says."""
        self._folders = None
        believed = self._watched.believed()
        if len(believed) - self._seen > max(_MOST_STRAYS, self._seen):
            return "too many folders that left staging are watched"
        self._lost = believed - self._in_kernel(believed)
        self._due = now + (_GRACE if self._lost else _INTERVAL)
        return None

    def _judge(self, now: float) -> str | None:
        """Look once more at what seemed not to be watched."""
        unwatched = [
            each for each in self._unwatched if _is_readable(each) and not self._watched.has(each)
        ]
        believed = self._watched.believed()
        lost = (self._lost & believed) - self._in_kernel(believed)
        if number := len(unwatched) + len(lost):
            return f"folders of staging that turned out not to be watched: {number}"
        self._due = now + (_INTERVAL if self._folders is None else _PAUSE)
        self._unwatched, self._lost = [], frozenset()
        return None

    def _in_kernel(self, otherwise: frozenset[int]) -> frozenset[int]:
        try:
            return self._watched.in_kernel()
        except OSError:
            # Where there is no procfs, nothing can be told.
            return otherwise


def _folders(watched: Watched) -> Iterator[bytes]:
    """Yield every folder that is to be watched, while they come and go."""
    waiting = [watched.root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                waiting += [
                    entry.path
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) and not watched.passes_over(entry.path)
                ]
        except OSError:
            # It is gone, or can't be read: then it can't be watched either.
            continue
        yield folder


def _is_readable(folder: bytes) -> bool:
    """Return whether a folder is there and can be watched by this user."""
    return os.path.isdir(folder) and os.access(folder, os.R_OK)
