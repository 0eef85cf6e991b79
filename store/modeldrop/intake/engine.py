"""The loop that watches over staging: look, judge, store, note what became of it.

Purpose: one engine for the service and for a single scan. A scan is the truth; hints from a
watcher only make it look sooner.

Calling sequence: `recover()` once, then `turn()` again and again, waiting in between with
`wait()`, which a hint or a finished transfer ends early. `turn`, `drain` and `close` belong to one
thread; `hint`, `wake` and `interrupt` may be called from any, and from a signal handler's thread.
An engine that has drained, or been interrupted, begins nothing any more.

What a crash leaves: bytes that no manifest names, or an intent that `recover` settles, or a
committed run without a memory, which is read once more and found to be stored. Never two
revisions of one content.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Final

from modeldrop.config import ServiceSettings
from modeldrop.errors import (
    DropRefused,
    IntegrityError,
    Interrupted,
    Locked,
    ModeldropError,
    NotFound,
    RunNotFound,
    SourceChanged,
)
from modeldrop.home import Home
from modeldrop.intake import lease, memory, receipts, walk
from modeldrop.intake.agenda import (
    Agenda,
    Tracked,
    doubled,
    is_worth_waiting,
    next_scan,
    scan_interval,
)
from modeldrop.intake.board import Board, junk_status, status_of
from modeldrop.intake.looking import Looked, look, next_step
from modeldrop.intake.memory import RunMemory
from modeldrop.intake.settling import History, State, Step
from modeldrop.intake.status import RunStatus
from modeldrop.intake.storing import Drop, Outcome, Storing, Watch
from modeldrop.ledger import Request
from modeldrop.names import parse_guid, printable
from modeldrop.records import Refused
from modeldrop.runs import Runs

_log = logging.getLogger(__name__)

# How soon a run is looked at again when something changed under the look itself.
_SOON: Final = 0.2
# How soon hints and scans bring the next look at one run, and how many times what a look took: the
# ten thousand events of an archive that is unpacked are not worth ten thousand walks.
_REST: Final = 0.1
_REST_FACTOR: Final = 9.0
# How soon all of staging is looked at again when a run vanished under the look.
_SCAN_REST: Final = 1.0
# For how long at a time something is waited for whose progress is to be told.
_STATUS_INTERVAL: Final = 1.0
# Without anything else to do, the loop turns this often.
_IDLE: Final = 60.0


class Engine:
    """Watches over the staging folder of one home."""

    def __init__(self, home: Home, runs: Runs, storing: Storing) -> None:
        """Watch over `home.staging`, and commit to `runs`."""
        self._home = home
        self._runs = runs
        self._storing = storing
        self._staging = home.staging
        self._settings = home.config.service
        self._tracked: dict[str, Tracked] = {}
        self._agenda = Agenda()
        self._flying: dict[str, Tracked] = {}
        self._done: deque[Tracked] = deque()
        self._junk: dict[str, Refused] = {}
        self._scan_due = 0.0
        self._scanned = float("-inf")
        self._network = False
        self._draining = False
        self._once = False
        self._takes_new = True
        self._stopped = threading.Event()
        self._bell = threading.Event()
        self._hints_lock = threading.Lock()
        self._hints: dict[str | None, bool] = {}
        self._pool = ThreadPoolExecutor(self._settings.parallel, thread_name_prefix="store")
        self._board = Board(home)
        self._watcher = "none"

    @property
    def watcher(self) -> str:
        """What the status file says of the watcher: `agenda.EVENTS`, or why staging is polled."""
        return self._watcher

    @watcher.setter
    def watcher(self, state: str) -> None:
        if state != self._watcher:
            self._watcher = state
            self._board.stale = True
            self.hint()

    # From any thread

    def hint(self, folder: str | None = None, *, whole: bool = False) -> None:
        """Say that something may have changed in a run's folder, or anywhere if none is named.

        `whole` says that the folder itself has just been moved into staging.
        """
        with self._hints_lock:
            self._hints[folder] = self._hints.get(folder, False) or whole
        self._bell.set()

    def wake(self) -> None:
        """End the present `wait`."""
        self._bell.set()

    def interrupt(self) -> None:
        """Make the transfers in flight end at once, with nothing committed."""
        self._stopped.set()
        self._bell.set()

    # From the thread of the loop

    def recover(self) -> None:
        """Settle what requests of a process that died had begun.

        What can't be settled for a reason of its own is left to the next commit of that run, so
        that it holds up no other.

        Raises:
            BackendError: the backend can't say what happened.
        """
        for run in {intent.sequence.partition("/")[0] for intent in self._runs.open_intents()}:
            if parse_guid(run) is None:
                continue
            try:
                self._runs.settle(run)
            except (IntegrityError, Locked) as error:
                _log.error("what was begun for run %s is not settled: %s", run, error)

    def reload(self, settings: ServiceSettings) -> None:
        """Use other settings from now on; `parallel` from the next start."""
        self._settings = settings
        self.hint()

    def wait(self, seconds: float) -> None:
        """Wait until there may be something to do, at most for so long."""
        self._bell.wait(max(seconds, 0.0))
        self._bell.clear()

    def turn(self) -> float:
        """Do what is due; return for how many seconds nothing will be."""
        began = time.monotonic()
        self._take_hints(began)
        self._harvest()
        scans = began >= self._scan_due
        if scans:
            self._scan(began)
        regular = self._scan_due
        for tracked in self._agenda.take(time.monotonic()):
            self._look(tracked)
        if scans and self._scan_due == regular:
            self._scan_due = next_scan(began, self._settings, self._watcher)
        self._write_status()
        return self._until_next()

    def scan_once(self) -> list[RunStatus]:
        """Store what is complete or becomes so within its quiet time; return where all runs stand.

        A run that changes meanwhile is left open, and so is one that is blocked: the caller is
        told, and may call again. Runs that appear meanwhile are for the next call, so it ends.
        """
        # Without it nobody can be seen writing, and the quiet time is the longer one. Only the main
        # thread can ask for it; a caller in another one has done so, or waits longer.
        with contextlib.suppress(ValueError):
            lease.prepare()
        self.recover()
        self.hint()
        self._once = True
        try:
            while True:
                pause = self.turn()
                self._takes_new = False
                waits = self._flying or self._agenda.next() is not None
                if not waits or self._stopped.is_set():
                    break
                self.wait(min(pause, _STATUS_INTERVAL))
            # What vanished meanwhile is no run of whom anything could be said.
            self._scan(time.monotonic())
        finally:
            self._once, self._takes_new = False, True
        self._write_status(force=True)
        return [
            *(status_of(each) for each in self._tracked.values()),
            *(junk_status(each) for each in self._junk.values()),
        ]

    def standing(self, run: str) -> RunStatus | None:
        """Return where a run stands, or None if it hasn't been seen."""
        tracked = self._tracked.get(run)
        return status_of(tracked) if tracked is not None else None

    def drain(self, seconds: float) -> bool:
        """Begin nothing new, and wait for what is in flight; return whether all of it ended."""
        self._draining = True
        for tracked in self._flying.values():
            if tracked.task is not None:
                # Only what still waits for a thread lets itself be cancelled.
                tracked.task.cancel()
        self._harvest()
        deadline = time.monotonic() + seconds
        while self._flying and time.monotonic() < deadline and not self._stopped.is_set():
            self.wait(min(deadline - time.monotonic(), _STATUS_INTERVAL))
            self._harvest()
            self._write_status()
        return not self._flying

    def close(self) -> None:
        """End what is in flight, and let the threads go."""
        self.interrupt()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._harvest()
        self._write_status(force=True)

    # Looking

    def _take_hints(self, clock: float) -> None:
        with self._hints_lock:
            hints, self._hints = self._hints, {}
        for folder, whole in hints.items():
            guid = parse_guid(folder) if folder is not None else None
            if folder is None or guid is None:
                self._scan_due = clock
                continue
            tracked = self._tracked.get(guid)
            if tracked is None or tracked.folder != folder:
                self._scan_due = clock
                if not whole or (tracked is not None and tracked.task is not None):
                    continue
                # The scan of this turn finds it, and has to know.
                tracked = self._track(guid, folder)
            if whole:
                tracked.history = tracked.history.arrived_whole()
                tracked.not_before = tracked.rests_until = 0.0
            self._has_news(tracked, clock)

    def _has_news(self, tracked: Tracked, clock: float) -> None:
        """See to it that a run is looked at, now or as soon as it may be."""
        tracked.stale = True
        when = max(clock, tracked.not_before, tracked.rests_until)
        if tracked.task is None and (tracked.due is None or when < tracked.due):
            self._agenda.put(tracked, when)

    def _scan(self, clock: float) -> None:
        """Look at all of staging."""
        self._scanned = clock
        self._scan_due = clock + scan_interval(self._settings, self._watcher)
        try:
            found = list(walk.runs(self._staging))
            self._network = lease.is_network(self._staging)
        except (NotFound, OSError) as error:
            # It may be an unmounted disk: nothing is forgotten, nothing is deleted.
            shown = printable(str(self._staging))
            if shown not in self._junk:
                _log.error("staging can't be read: %s", error)
            self._junk = {shown: Refused(shown, printable(f"staging can't be read: {error}"))}
            self._scan_due = clock + self._settings.poll_interval
            self._board.stale = True
            return
        there = {each.guid: each.name for each in found if each.guid is not None}
        for guid in [guid for guid in self._tracked if guid not in there]:
            self._forget(guid)
        self._note_junk(each for each in found if each.guid is None)
        if not self._takes_new:
            return
        for guid, name in there.items():
            tracked = self._tracked.get(guid)
            if tracked is None or (tracked.folder != name and tracked.task is None):
                tracked = self._track(guid, name)
            self._has_news(tracked, clock)

    def _track(self, guid: str, folder: str) -> Tracked:
        before = self._tracked.get(guid)
        if before is not None:
            self._agenda.put(before, None)
        remembered = memory.recall(self._home.paths, guid)
        history = remembered.history(time.monotonic()) if remembered else History()
        tracked = Tracked(guid, folder, history, remembered=remembered)
        tracked.revision = remembered.revision if remembered else None
        self._tracked[guid] = tracked
        return tracked

    def _forget(self, guid: str) -> None:
        """Forget a run that is gone from staging, unless it is in flight."""
        if guid not in self._flying:
            _log.info("run %s is gone from staging", guid)
            self._agenda.put(self._tracked.pop(guid), None)
            self._board.stale = True

    def _note_junk(self, found: Iterable[walk.Found]) -> None:
        junk = {each.name: Refused(printable(each.name), each.reason or "") for each in found}
        for name, refused in junk.items():
            if name not in self._junk:
                _log.warning("left where it is: %s: %s", refused.path, refused.reason)
        if junk != self._junk:
            self._board.stale = True
        self._junk = junk

    def _look(self, tracked: Tracked) -> None:
        tracked.stale = False
        began = time.monotonic()
        try:
            self._obey(tracked, look(self._staging, tracked, self._settings, network=self._network))
        except NotFound:
            self._vanished(tracked)
        except SourceChanged as error:
            tracked.become(State.SETTLING, printable(error.message))
            self._board.stale = True
            self._plan(tracked, time.monotonic() + _SOON)
        except Exception as error:  # noqa: BLE001 - one bad run holds up no other
            self._fail(tracked, error)
        ended = time.monotonic()
        tracked.rests_until = ended + max(_REST, _REST_FACTOR * (ended - began))

    def _obey(self, tracked: Tracked, looked: Looked) -> None:
        verdict = looked.verdict
        tracked.history, tracked.observation = verdict.history, looked.observation
        if verdict.step is Step.STORE and not self._draining:
            self._begin(tracked, looked)
            return
        if verdict.state is State.COMMITTED:
            tracked.refused = tracked.refused or looked.observation.refused
        if tracked.become(verdict.state, verdict.reason):
            self._board.stale = True
            if verdict.state in {State.BLOCKED, State.PARKED}:
                self._say_stuck(tracked, next_step(verdict.state))
        after = verdict.wake_after
        self._plan(tracked, None if after is None else time.monotonic() + after)

    def _vanished(self, tracked: Tracked) -> None:
        """Leave a run that isn't there to a scan: it, or all of staging, is gone."""
        self._agenda.put(tracked, None)
        soon = max(time.monotonic(), self._scanned + _SCAN_REST)
        self._scan_due = min(self._scan_due, soon)

    # Storing

    def _begin(self, tracked: Tracked, looked: Looked) -> None:
        observation, folder = looked.observation, tracked.folder
        drop = Drop(
            staging=self._staging,
            name=folder,
            run=tracked.run,
            observation=observation,
            observe=lambda: walk.observe(self._staging, folder),
            marker=looked.marker,
            known=tracked.remembered.known() if tracked.remembered else None,
            seen=tracked.remembered.revision if tracked.remembered else 0,
            attempts=tracked.attempts,
        )
        tracked.sent, tracked.size = 0, sum(each.signature.size for each in observation.files)
        tracked.become(State.UPLOADING, "")
        self._board.stale = True
        watch = Watch(moved=tracked.moved, verifying=tracked.verifying, check=self._check_stop)
        request = Request(str(uuid.uuid4()), self._home.user)
        self._flying[tracked.run] = tracked
        tracked.task = self._pool.submit(self._storing.store, drop, request, watch)
        tracked.task.add_done_callback(lambda _: self._landed(tracked))

    def _landed(self, tracked: Tracked) -> None:
        self._done.append(tracked)
        self._bell.set()

    def _check_stop(self) -> None:
        if self._stopped.is_set():
            message = "stopped while it was stored"
            raise Interrupted(message, hint="it is stored after the next start")

    def _harvest(self) -> None:
        while self._done:
            tracked = self._done.popleft()
            task, tracked.task = tracked.task, None
            self._flying.pop(tracked.run, None)
            self._board.stale = True
            if task is None:
                continue
            try:
                self._committed(tracked, task.result())
            except (Interrupted, CancelledError):
                tracked.become(State.OPEN, "the service stopped before it was stored")
            except Exception as error:  # noqa: BLE001 - one bad run holds up no other
                self._fail(tracked, error)

    def _committed(self, tracked: Tracked, outcome: Outcome) -> None:
        revision = outcome.committed.revision
        observation = tracked.observation
        if observation is None:
            return
        name = f"run:{tracked.run}~{revision.revision}"
        created = outcome.committed.created
        _log.info("committed %s" if created else "%s was stored already", name)
        tracked.history = tracked.history.committed_with(observation, time.monotonic())
        tracked.failures = tracked.changes = 0
        tracked.not_before = 0.0
        tracked.parked = None
        tracked.revision = revision.revision
        tracked.refused = outcome.refused
        tracked.become(State.COMMITTED, "")
        # What changed meanwhile is looked at once more; otherwise only a change brings news.
        self._plan(tracked, time.monotonic() if tracked.stale else None)
        tracked.remembered = RunMemory.of(revision, observation, outcome.files)
        try:
            memory.remember(self._home.paths, tracked.remembered)
        except (OSError, ModeldropError) as error:
            _log.warning("%s is read again after the next start: %s", name, error)
        _log.debug("step: remembered")
        receipts.committed(self._staging, tracked.folder, revision, self._runs.url)
        _log.debug("step: receipt left")

    def _fail(self, tracked: Tracked, error: Exception) -> None:
        """Decide what becomes of a run that could not be stored."""
        clock, settings = time.monotonic(), self._settings
        self._board.stale = True
        if isinstance(error, SourceChanged):
            tracked.changes += 1
            pause = doubled(_SOON, tracked.changes, max(settings.quiet_time, _SOON))
            tracked.not_before = clock + pause
            tracked.become(State.SETTLING, printable(error.message))
            self._plan(tracked, tracked.not_before)
            return
        if isinstance(error, NotFound) and not isinstance(error, RunNotFound):
            self._vanished(tracked)
            return
        if isinstance(error, DropRefused):
            # Until a person changes something in it, trying again tells nothing new.
            if tracked.observation is not None:
                tracked.parked = tracked.observation.signature()
            tracked.failures, tracked.not_before = 0, 0.0
            state, due, step = State.PARKED, clock if tracked.stale else None, error.hint
        else:
            tracked.failures += 1
            most = doubled(settings.retry_first, tracked.failures, settings.retry_most)
            # Spread, so that those that failed together don't all come back together.
            pause = random.uniform(most / 2, most)  # noqa: S311 - jitter, no secret
            due = tracked.not_before = clock + pause
            state, step = State.BLOCKED, "it is tried again by itself"
            if isinstance(error, ModeldropError):
                step = f"{error.hint}; {step}" if error.hint else step
            elif not isinstance(error, OSError):
                _log.error("run %s: unexpected error", tracked.run, exc_info=error)
        reason = printable(str(error)) or type(error).__name__
        if tracked.become(state, reason):
            _log.warning("run %s is %s: %s", tracked.run, state.value, reason)
            self._say_stuck(tracked, step)
        self._plan(tracked, due)

    def _say_stuck(self, tracked: Tracked, step: str) -> None:
        receipts.stuck(
            self._staging, tracked.folder, tracked.run, tracked.state.value, tracked.reason, step
        )

    def _write_status(self, *, force: bool = False) -> None:
        self._board.write(self._tracked.values(), self._junk.values(), self.watcher, force=force)

    # When

    def _plan(self, tracked: Tracked, when: float | None) -> None:
        """Look at a run then, unless this is a single scan that doesn't wait so long for it."""
        if self._once and when is not None:
            network = self._network
            if not is_worth_waiting(tracked, when, self._settings, network=network):
                when = None
        self._agenda.put(tracked, when)

    def _until_next(self) -> float:
        dues = [self._scan_due]
        if (due := self._agenda.next()) is not None:
            dues.append(due)
        if self._flying:
            # Bytes move.
            self._board.stale = True
        if self._board.stale:
            dues.append(self._board.due)
        return min(max(min(dues) - time.monotonic(), 0.0), _IDLE)
