"""Commits of several threads made one: whoever comes first leads, and takes along who waits.

A commit waits for the disk three times, however many entries it has. So a thread that finds
another one committing waits, and the next leader commits for all that wait by then. Nobody waits
for company: a thread alone commits at once, and in its own thread.

What one caller learns is what happened to its own entries: each gets its entries or an error of
its own. Between processes this does nothing; there is the journal's lock for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from modeldrop.errors import ModeldropError, OutcomeUnknown
from modeldrop.journal.lines import Entry, NewEntry


class Waiting:
    """One caller's entries, and what became of them."""

    def __init__(self, entries: tuple[NewEntry, ...]) -> None:
        """Wait with these entries."""
        self.entries = entries
        self.written: tuple[Entry, ...] = ()
        """The entries as they stand in the journal, to be relied on once the commit returned."""
        self.error: ModeldropError | None = None
        """Why they are not acknowledged; with one set, the commit passes over the caller."""
        self.leads = False
        self._call = threading.Lock()
        self._call.acquire()

    def wait(self) -> None:
        """Wait to be called: it is done, or this thread leads now."""
        self._call.acquire()

    def call(self) -> None:
        """End the wait."""
        self._call.release()


class Group:
    """The threads that append to one journal at a time."""

    def __init__(self, commit: Callable[[list[Waiting]], None]) -> None:
        """Commit by `commit`, which is called by one thread at a time.

        It sets `written` or `error` of each that waits, or raises what holds for all of them.
        """
        self._commit = commit
        self._lock = threading.Lock()
        self._queue: list[Waiting] = []
        self._led = False

    def append(self, entries: tuple[NewEntry, ...]) -> tuple[Entry, ...]:
        """Return these entries once they are acknowledged.

        Raises:
            ModeldropError: they aren't; what `commit` said of them.
        """
        mine = Waiting(entries)
        with self._lock:
            self._queue.append(mine)
            mine.leads = not self._led
            self._led = True
        if not mine.leads:
            try:
                mine.wait()
            except BaseException:
                self._leave(mine)
                raise
        if mine.leads:
            self._lead(mine)
        if mine.error is not None:
            raise mine.error
        return mine.written

    def _lead(self, mine: Waiting) -> None:
        with self._lock:
            group, self._queue = self._queue, []
        followers = [each for each in group if each is not mine]
        try:
            self._commit(group)
        except BaseException as error:
            for each in followers:
                each.error = _for_another(error)
            raise
        finally:
            # The next group is on its way before this one's threads wake.
            self._hand_over()
            for each in followers:
                each.call()

    def _hand_over(self) -> None:
        with self._lock:
            if not self._queue:
                self._led = False
                return
            following = self._queue[0]
            following.leads = True
        following.call()

    def _leave(self, mine: Waiting) -> None:
        """Let go of a caller that was interrupted while it waited."""
        with self._lock:
            leads = mine.leads
            if mine in self._queue:
                self._queue.remove(mine)
        if leads:
            self._hand_over()


def _for_another(error: BaseException) -> ModeldropError:
    """Return for another thread what its leader met: an error has the trace of one thread."""
    if isinstance(error, ModeldropError):
        mine = type(error)(error.message, hint=error.hint, detail=error.detail)
    else:
        message = "whether the entry is in the journal is unknown: its commit was interrupted"
        mine = OutcomeUnknown(message, hint="run it again: repeating is safe")
    mine.__cause__ = error
    return mine
