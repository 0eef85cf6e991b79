"""The service: the loop around the engine, and what may end it.

Order of the start, each step of which the next one relies on: the signals, the lock of the home,
what a crash left, the watch, the first scan, READY. The watch is there before the scan begins, so
that nothing can appear between them unseen.

A first SIGTERM or SIGINT begins nothing new and gives what is in flight `stop_time`; a second one
ends the service at once, which costs nothing that was acknowledged. SIGHUP reads the settings
again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

from modeldrop import config, locks
from modeldrop.errors import (
    EXIT_DONE,
    BackendError,
    BackendUnreachable,
    Interrupted,
    Locked,
    ModeldropError,
)
from modeldrop.intake import Engine, Summary, WatcherStatus, prepare_leases
from modeldrop.names import printable
from modeldrop.repository import Repository
from modeldrop.settings import ServiceSettings
from modeldrop.structs import replace
from modeldrop_daemon.collecting import Collecting
from modeldrop_daemon.hooks import Hooks
from modeldrop_daemon.metrics import Metrics, Reading, address_of
from modeldrop_daemon.notify import Notifier
from modeldrop_daemon.sharing import Sharing
from modeldrop_daemon.signals import Signals
from modeldrop_daemon.statusline import status_line
from modeldrop_daemon.watch import Watcher

_log = logging.getLogger(__name__)

# Long enough for another instance that is on its way out, short enough to be told at once.
_LOCK_TIMEOUT: Final = 1.0
# After a second signal the main thread may say goodbye; then it is not waited for any more.
_LEAVE_TIME: Final = 1.0
# Beyond what a slice of the first scan takes; asked for again after each.
_SCAN_PATIENCE: Final = 60.0
# How often, at least, the watcher is looked after and the manager told.
_BEAT: Final = 1.0
# While it drains, the manager hears from us this often.
_DRAIN_SLICE: Final = 1.0
# For how long a transfer that has just moved may pause before the manager need not wait for it.
_DRAIN_PATIENCE: Final = 30.0
# The share of the manager's patience after which it is told that the loop turns.
_ALIVE_SHARE: Final = 3.0


class _Stopped(Exception):
    """A signal came before the service was up."""


class Service:
    """The service of one home. Run it once, in the main thread."""

    def __init__(
        self,
        repository: Repository,
        notifier: Notifier,
        *,
        watcher: str | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        """Serve a repository; `watcher` takes the place of the setting of that name.

        `secrets` are the names of environment variables that other processes don't get.
        """
        self._repository = repository
        self._home = repository.home
        self._notifier = notifier
        self._watcher_option = watcher
        self._settings = self._with_option(self._home.config.service)
        self._metrics_address = address_of(self._settings.metrics)
        self._metrics = Metrics(self._reading)
        self._hooks = Hooks(self._home, secrets)
        self._sharing = Sharing(self._settings)
        self._collecting = Collecting(self._home.paths.root, self._home.paths.collected(), secrets)
        self._engine: Engine | None = None
        self._asked_to_stop = threading.Event()
        self._asked_to_leave = threading.Event()
        self._asked_to_reload = threading.Event()
        self._has_terminal = sys.stderr.isatty()

    def run(self) -> int:
        """Serve until a signal ends it; return the exit code.

        Raises:
            Locked: the home has a service already; the message names its process.
            BackendRefused, BucketNotFound, IntegrityError, …: waiting would not help.
        """
        with Signals(self._take_signal):
            prepare_leases()
            lock = locks.hold(
                self._home.paths.service_lock(),
                what=f"the service of {self._home.paths.root}",
                timeout=_LOCK_TIMEOUT,
            )
            with lock, contextlib.suppress(_Stopped):
                try:
                    self._serve()
                finally:
                    ended = self._collecting.close()
                    ended &= self._sharing.close(now=self._asked_to_leave.is_set())
                    self._hooks.close()
                    self._metrics.close()
                if not ended:
                    # It may sit in a call that nothing interrupts.
                    _leave_soon(EXIT_DONE)
            self._notifier.stopping("stopped")
            if self._asked_to_leave.is_set():
                return Interrupted.exit_code
            _log.info("stopped")
            return EXIT_DONE

    # From the thread of the signals

    def _take_signal(self, number: int) -> None:
        # A terminal that is closed says so with the signal that means "reload" to a service.
        closed = self._has_terminal and not sys.stderr.isatty()
        if number == signal.SIGHUP and not closed:
            self._asked_to_reload.set()
        elif not self._asked_to_stop.is_set():
            self._asked_to_stop.set()
        else:
            self._asked_to_leave.set()
            self._hooks.stop(now=True)
            if self._engine is not None:
                self._engine.interrupt()
            _leave_soon(Interrupted.exit_code)
        if self._engine is not None:
            self._engine.wake()

    # From the main thread

    def _serve(self) -> None:
        self._metrics.set(self._metrics_address)
        engine = self._engine = self._recovered()
        engine.listen(self._hooks.take)
        watcher = Watcher(
            self._home.staging,
            engine,
            mode=self._settings.watcher,
            poll_interval=self._settings.poll_interval,
        )
        try:
            watcher.check()
            engine.watched(_status_of(watcher))
            engine.hint()
            self._loop(engine, watcher)
            self._drain(engine)
        finally:
            watcher.close()
            engine.close()

    def _recovered(self) -> Engine:
        """Return the engine once what a crash left is settled.

        A backend that can't be reached is waited for: a machine that boots may be quicker than
        its network.
        """
        engine: Engine | None = None
        for pause in self._pauses():
            self._stop_if_asked()
            try:
                engine = engine or self._repository.engine()
                # What is settled now is told of, too.
                self._hooks.begin(self._repository.journal, self._home.config.hooks)
                engine.recover()
            except BackendUnreachable as error:
                said = f"waiting for the backend: {error}"
                _log.warning("%s; tried again in %.0f s", said, pause)
                self._notifier.status(said)
                self._notifier.extend(2 * pause + self._settings.retry_most)
                self._asked_to_stop.wait(pause)
            else:
                break
        self._stop_if_asked()
        assert engine is not None  # noqa: S101 - the pauses don't end
        self._sharing.begin(self._repository.sync)
        self._collecting.begin()
        return engine

    def _pauses(self) -> Iterator[float]:
        pause = self._settings.retry_first
        while True:
            yield min(pause, self._settings.retry_most)
            pause *= 2

    def _stop_if_asked(self) -> None:
        if self._asked_to_stop.is_set():
            raise _Stopped

    def _loop(self, engine: Engine, watcher: Watcher) -> None:
        staging = printable(str(self._home.staging))
        is_ready = False
        pauses = self._pauses()
        beat = 0.0
        while not self._asked_to_stop.is_set():
            if self._asked_to_reload.is_set():
                self._asked_to_reload.clear()
                self._reload(engine, watcher)
                beat = 0.0
            # The engine turns at every hint; the rest needs it now and then only.
            beats = time.monotonic() >= beat
            if beats:
                beat = time.monotonic() + self._look_after(engine, watcher)
            try:
                pause = engine.turn()
                pauses = self._pauses()
            except (BackendError, Locked, OSError) as error:
                # Of one run the engine takes care; this is the home or the machine.
                pause = next(pauses)
                _log.error("%s; tried again in %.0f s", error, pause)
            else:
                if not is_ready and not engine.has_scanned:
                    self._notifier.extend(_SCAN_PATIENCE)
                elif not is_ready:
                    is_ready = True
                    _log.info("watching %s (%s)", staging, watcher.state)
                    self._notifier.ready(self._status_line(engine, watcher))
            if beats:
                if is_ready:
                    self._notifier.status(self._status_line(engine, watcher))
                self._notifier.alive()
            engine.wait(min(pause, beat - time.monotonic()))

    def _look_after(self, engine: Engine, watcher: Watcher) -> float:
        """See to it that staging is watched; return the seconds until that is to be asked again."""
        pause = min(watcher.check(), _BEAT)
        engine.watched(_status_of(watcher))
        if self._notifier.watchdog is not None:
            pause = min(pause, self._notifier.watchdog / _ALIVE_SHARE)
        return pause

    def _drain(self, engine: Engine) -> None:
        self._hooks.stop()
        self._collecting.stop()
        seconds = self._settings.stop_time
        _log.info("stopping; what is in flight has %g s, or until a second signal", seconds)
        self._notifier.stopping("stopping: what is in flight is finished")
        deadline = time.monotonic() + seconds
        sent = engine.summary.sent
        while (left := deadline - time.monotonic()) > 0 and not self._asked_to_leave.is_set():
            self._notifier.alive()
            if engine.drain(min(left, _DRAIN_SLICE)):
                return
            if engine.summary.sent > sent:
                # The unit may give less than `stop_time`; a transfer that moves gets all of it.
                sent = engine.summary.sent
                self._notifier.extend(min(left, _DRAIN_PATIENCE) + _LEAVE_TIME)
        if self._asked_to_leave.is_set():
            return
        _log.warning("what is in flight is given up; it is stored after the next start")
        # A transfer may sit in a call that nothing interrupts.
        _leave_soon(EXIT_DONE)

    def _reload(self, engine: Engine, watcher: Watcher) -> None:
        self._notifier.reloading()
        before = self._home.config
        try:
            found = config.load(self._home.paths.config)
            metrics_address = address_of(found.service.metrics)
        except ModeldropError as error:
            _log.error("the settings are kept as they were: %s (%s)", error, error.hint)
        else:
            lasting = replace(found, backend=before.backend, staging=before.staging)
            if lasting != found:
                _log.warning("[backend] and [staging] hold from the next start only")
            self._settings = self._with_option(found.service)
            engine.reload(self._settings, found.formats)
            watcher.set(mode=self._settings.watcher, poll_interval=self._settings.poll_interval)
            self._metrics.set(metrics_address)
            self._hooks.set(found.hooks)
            self._sharing.set(self._settings)
            _log.info("the settings were read again")
        self._notifier.ready(self._status_line(engine, watcher))

    def _reading(self) -> Reading:
        """Return what metrics are made of; called by other threads."""
        engine = self._engine
        if engine is None:
            # Only the backend is waited for before there is one.
            summary, watcher = Summary(backend="the service starts"), WatcherStatus()
        else:
            summary, watcher = engine.summary, engine.watcher_status
        return Reading(summary, watcher, self._hooks.ran, self._hooks.failed)

    def _status_line(self, engine: Engine, watcher: Watcher) -> str:
        return status_line(engine.summary, self._home.staging, watcher.state)

    def _with_option(self, settings: ServiceSettings) -> ServiceSettings:
        return replace(settings, watcher=self._watcher_option or settings.watcher)


def _status_of(watcher: Watcher) -> WatcherStatus:
    report = watcher.report()
    return WatcherStatus(report.state, report.overflows, report.rebuilds)


def _leave_soon(code: int) -> None:
    """End the process in a moment, whatever the main thread is doing then."""

    def leave() -> None:
        time.sleep(_LEAVE_TIME)
        os._exit(code)

    threading.Thread(target=leave, name="leave", daemon=True).start()
