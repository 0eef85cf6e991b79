"""Sharing: a thread that pushes this home's journal now and then, and fetches those of others.

Purpose: one history on all hosts, without anything that the backend does or fails to do holding up
the service. What is stored and registered doesn't depend on it, so what goes wrong is said once and
tried again, with the patience that runs have.

Calling sequence: `begin` once the journal is the home's own; `set` when the settings have changed;
`close` gives it a moment to share the last entries.

What a crash leaves: what `Sync` says; the next service goes on from there.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from modeldrop.errors import Locked, ModeldropError
from modeldrop.intake.machine import Patience
from modeldrop.journal.segments import MOST
from modeldrop.redaction import told
from modeldrop.settings import ServiceSettings
from modeldrop.sync import FetchedJournal, Sync

_log = logging.getLogger(__name__)

# How often it is looked whether a whole segment waits: three small files.
_LOOK: Final = 1.0
# How long the end of the service waits for the last entries to be shared.
_END_TIME: Final = 3.0


class Sharing:
    """The thread of one service."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Share nothing yet."""
        self._settings = settings
        self._stopping = threading.Event()
        self._leaving = False
        self._failures = 0
        self._said: set[str] = set()
        self._next = 0.0
        self._thread: threading.Thread | None = None

    def begin(self, sync: Sync) -> None:
        """Share by this from now on, for the first time when the interval has passed."""
        self._next = time.monotonic() + self._settings.share_interval
        self._thread = threading.Thread(
            target=self._share, args=(sync,), name="sharing", daemon=True
        )
        self._thread.start()

    def set(self, settings: ServiceSettings) -> None:
        """Use other settings from now on."""
        self._settings = settings
        self._next = min(self._next, time.monotonic() + settings.share_interval)

    def close(self, *, now: bool = False) -> bool:
        """Share what is left, unless it is to be `now`; return whether the thread has ended."""
        self._leaving = now
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(0.0 if now else _END_TIME)
        return not self._thread.is_alive()

    def _share(self, sync: Sync) -> None:
        while not self._stopping.wait(min(_LOOK, self._settings.share_interval)):
            if time.monotonic() >= self._next:
                self._attempt(lambda: self._round(sync))
            elif not self._failures:
                self._attempt(lambda: self._push_whole(sync))
        # Where it didn't work before, nobody waits for it now.
        if not (self._leaving or self._failures):
            self._attempt(lambda: self._push(sync))

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do it; what goes wrong is said, and the next round comes later."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a thread that died would share nothing more
            if self._stopping.is_set():
                return
            self._failures += 1
            patience = Patience(self._settings.retry_first, self._settings.retry_most)
            pause = patience.after(self._failures, random.random())  # noqa: S311 - jitter, no secret
            self._next = time.monotonic() + pause
            self._say(error)

    def _round(self, sync: Sync) -> None:
        self._push(sync)
        for each in self._fetched(sync):
            if each.trouble is not None:
                self._say(each.trouble)
            elif each.entries:
                _log.debug("fetched %d entries of %s (%s)", each.entries, each.host, each.home)
        if self._failures:
            self._failures = 0
            self._said.clear()
            _log.info("journals are shared again")
        self._next = time.monotonic() + self._settings.share_interval

    def _fetched(self, sync: Sync) -> list[FetchedJournal]:
        try:
            return sync.fetch(timeout=0)
        except Locked:
            return []  # another process of this home fetches all that there is

    def _push_whole(self, sync: Sync) -> None:
        if sync.unpushed() >= MOST:
            self._push(sync)

    def _push(self, sync: Sync) -> None:
        try:
            pushed = sync.push(timeout=0)
        except Locked:
            return  # another process of this home shares all that there is
        if pushed.entries:
            _log.debug("shared %d entries of the journal, up to %d", pushed.entries, pushed.seq)

    def _say(self, error: Exception) -> None:
        """Tell of what is wrong, once."""
        said = told(error)
        if said not in self._said:
            self._said.add(said)
            hint = f" ({error.hint})" if isinstance(error, ModeldropError) and error.hint else ""
            _log.warning("sharing journals: %s%s", said, hint)
