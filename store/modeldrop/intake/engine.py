"""The loop that watches over staging: look, judge, store, note what became of it.

Purpose: one engine for the service and for a single scan. A scan is the truth; hints from a
watcher only make it look sooner.

Calling sequence: `recover()` once, then `turn()` again and again, waiting in between with
`wait()`, which a hint or a finished transfer ends early. `turn`, `drain` and `close` belong to one
thread; `hint`, `wake` and `interrupt` may be called from any, and from a signal handler's thread.

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
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from modeldrop.config import ServiceSettings
from modeldrop.errors import (
    BackendError,
    DropRefused,
    IntegrityError,
    Interrupted,
    Locked,
    ModeldropError,
    NewerFormat,
    NotFound,
    SourceChanged,
)
from modeldrop.home import Home
from modeldrop.intake import lease, marker, memory, receipts, walk
from modeldrop.intake.memory import RunMemory
from modeldrop.intake.settling import (
    History,
    Settings,
    State,
    Step,
    Verdict,
    has_news,
    judge,
)
from modeldrop.intake.status import DONE, RunStatus, write_status
from modeldrop.intake.storing import Drop, Outcome, Storing, Watch
from modeldrop.intake.walk import Observation
from modeldrop.ledger import Request
from modeldrop.names import parse_guid, printable
from modeldrop.records import Refused, now
from modeldrop.runs import Runs

_log = logging.getLogger(__name__)

# How soon a run is looked at again when something changed under the look itself.
_SOON: Final = 0.2
# How often the status file may be written while bytes move.
_STATUS_INTERVAL: Final = 1.0
# Without anything else to do, the loop turns this often.
_IDLE: Final = 60.0


@dataclass(slots=True)
class _Tracked:
    """One run folder that the engine knows."""

    run: str
    folder: str
    history: History
    state: State = State.OPEN
    reason: str = "not looked at yet"
    since: str = field(default_factory=now)
    due: float | None = 0.0
    failures: int = 0
    remembered: RunMemory | None = None
    revision: int | None = None
    observation: Observation | None = None
    refused: tuple[Refused, ...] = ()
    parked: str | None = None
    """The signature of what can't be stored; only another one brings the run back."""
    task: Future[Outcome] | None = None
    stale: bool = False
    sent: int = 0
    size: int = 0

    def become(self, state: State, reason: str) -> bool:
        """Take a state; return whether that is news."""
        changed = (self.state, self.reason) != (state, reason)
        if self.state is not state:
            self.since = now()
        self.state, self.reason = state, reason
        return changed


class Engine:
    """Watches over the staging folder of one home."""

    def __init__(self, home: Home, runs: Runs, storing: Storing) -> None:
        """Watch over `home.staging`, and commit to `runs`."""
        self._home = home
        self._runs = runs
        self._storing = storing
        self._staging = home.staging
        self._settings = home.config.service
        self._tracked: dict[str, _Tracked] = {}
        self._junk: dict[str, Refused] = {}
        self._scan_due = 0.0
        self._started_at = now()
        self._network = False
        self._draining = False
        self._stopped = threading.Event()
        self._bell = threading.Event()
        self._hints_lock = threading.Lock()
        self._hints: dict[str | None, bool] = {}
        self._pool = ThreadPoolExecutor(self._settings.parallel, thread_name_prefix="store")
        self._status_due = 0.0
        self._status_stale = True
        self.watcher = "none"
        """What the status file says of the watcher."""

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
        """Settle what requests of a process that died had begun."""
        for run in {
            intent.sequence.partition("/")[0]
            for intent in self._runs.open_intents()
            if parse_guid(intent.sequence.partition("/")[0])
        }:
            self._runs.settle(run)

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
        clock = time.monotonic()
        self._take_hints(clock)
        if clock >= self._scan_due:
            self._scan(clock)
        self._harvest()
        for tracked in list(self._tracked.values()):
            if tracked.task is None and tracked.due is not None and tracked.due <= clock:
                self._look(tracked)
        self._write_status(clock)
        return self._until_next()

    def scan_once(self) -> list[RunStatus]:
        """Store what is complete or becomes so within its quiet time; return where all runs stand.

        A run that changes meanwhile is left open, and so is one that is blocked: the caller is
        told, and may call again.
        """
        # Without it nobody can be seen writing, and the quiet time is the longer one. Only the main
        # thread can ask for it; a caller in another one has done so, or waits longer.
        with contextlib.suppress(ValueError):
            lease.prepare()
        self.recover()
        self.hint()
        patience: dict[str, float] = {}
        while True:
            pause = self.turn()
            if not self._worth_waiting(patience):
                break
            self.wait(min(pause, 1.0))
        self._write_status(time.monotonic(), force=True)
        return [*(self._status_of(each) for each in self._tracked.values()), *self._junk_status()]

    def drain(self, seconds: float) -> bool:
        """Begin nothing new, and wait for what is in flight; return whether all of it ended."""
        self._draining = True
        deadline = time.monotonic() + seconds
        while self._in_flight() and time.monotonic() < deadline and not self._stopped.is_set():
            self.wait(min(deadline - time.monotonic(), _STATUS_INTERVAL))
            self._harvest()
            self._write_status(time.monotonic())
        return not self._in_flight()

    def close(self) -> None:
        """End what is in flight, and let the threads go."""
        self.interrupt()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._write_status(time.monotonic(), force=True)

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
                if whole:
                    # The scan of this turn finds it, and has to know.
                    tracked = self._track(guid, folder)
            if tracked is not None:
                if whole:
                    tracked.history = tracked.history.arrived_whole()
                tracked.stale = True
                # A run that failed keeps its back-off: it is the backend that is waited for.
                if tracked.failures == 0 or whole:
                    tracked.due = clock

    def _scan(self, clock: float) -> None:
        """Look at all of staging."""
        self._scan_due = clock + self._scan_interval()
        try:
            found = list(walk.runs(self._staging))
            self._network = lease.is_network(self._staging)
        except (NotFound, OSError) as error:
            # It may be an unmounted disk: nothing is forgotten, nothing is deleted.
            shown = printable(str(self._staging))
            if shown not in self._junk:
                _log.error("staging can't be read: %s", error)
            self._junk = {shown: Refused(shown, f"staging can't be read: {error}")}
            self._scan_due = clock + self._settings.poll_interval
            self._status_stale = True
            return
        there = {each.guid: each for each in found if each.guid is not None}
        for guid, each in there.items():
            tracked = self._tracked.get(guid)
            if tracked is None or tracked.folder != each.name:
                tracked = self._track(guid, each.name)
            elif tracked.failures == 0:
                tracked.due = clock
        for guid in [guid for guid in self._tracked if guid not in there]:
            if self._tracked[guid].task is None:
                _log.info("run %s is gone from staging", guid)
                del self._tracked[guid]
        self._note_junk(each for each in found if each.guid is None)

    def _track(self, guid: str, folder: str) -> _Tracked:
        remembered = memory.recall(self._home.paths, guid)
        history = remembered.history(time.monotonic()) if remembered else History()
        tracked = _Tracked(guid, folder, history, remembered=remembered)
        tracked.revision = remembered.revision if remembered else None
        self._tracked[guid] = tracked
        return tracked

    def _note_junk(self, found: Iterable[walk.Found]) -> None:
        junk = {each.name: Refused(printable(each.name), each.reason or "") for each in found}
        for name, refused in junk.items():
            if name not in self._junk:
                _log.warning("left where it is: %s: %s", refused.path, refused.reason)
        self._status_stale = self._status_stale or junk != self._junk
        self._junk = junk

    def _look(self, tracked: _Tracked) -> None:
        tracked.stale = False
        try:
            verdict = self._judge(tracked)
        except NotFound:
            # Gone, or staging is: the next scan says which.
            tracked.due = None
            self._scan_due = 0.0
        except SourceChanged:
            tracked.due = time.monotonic() + _SOON
        except OSError as error:
            self._fail(tracked, error)
        else:
            self._obey(tracked, verdict)

    def _judge(self, tracked: _Tracked) -> Verdict:
        observation = walk.observe(self._staging, tracked.folder)
        tracked.observation = observation
        if tracked.parked == observation.signature():
            return Verdict(State.PARKED, Step.WAIT, tracked.reason, None, tracked.history)
        said = None
        if observation.marker is not None and has_news(tracked.history, observation):
            said = marker.read(self._staging, tracked.folder, observation.marker)
        settings = Settings(
            quiet_time=self._settings.quiet_time,
            quiet_time_without_lease=self._settings.quiet_time_without_lease,
            quiet_time_network=self._settings.quiet_time_network,
            revision_interval=self._settings.revision_interval,
            complete="marker" if self._settings.complete == "marker" else "quiet",
        )

        def ask(history: History, writers: lease.Writers | None) -> Verdict:
            return judge(
                history,
                observation,
                writers,
                time.monotonic(),
                settings,
                marker=said,
                network=self._network,
            )

        verdict = ask(tracked.history, None)
        if verdict.step is Step.PROBE:
            try:
                writers = lease.probe_files(
                    self._staging, tracked.folder, observation.everything()
                )
            except PermissionError as error:
                unreadable = observation.with_unreadable(
                    error.filename or ".", error.strerror or str(error)
                )
                return judge(
                    verdict.history, unreadable, None, time.monotonic(), settings, marker=said
                )
            verdict = ask(verdict.history, writers)
        return verdict

    def _obey(self, tracked: _Tracked, verdict: Verdict) -> None:
        tracked.history = verdict.history
        clock = time.monotonic()
        if verdict.step is Step.STORE and not self._draining:
            self._begin(tracked)
            return
        if verdict.state is State.COMMITTED and tracked.remembered is not None:
            tracked.revision = tracked.remembered.revision
        if tracked.become(verdict.state, verdict.reason):
            self._status_stale = True
            if verdict.state in (State.BLOCKED, State.PARKED):
                self._say_stuck(tracked, _step_for(verdict.state))
        tracked.due = None if verdict.wake_after is None else clock + verdict.wake_after

    # Storing

    def _begin(self, tracked: _Tracked) -> None:
        observation = tracked.observation
        if observation is None:
            return
        said = None
        # An older marker lists what was complete then; its digests aren't those of a change.
        if observation.marker is not None and has_news(tracked.history, observation):
            found = marker.read(self._staging, tracked.folder, observation.marker)
            said = found if isinstance(found, marker.Marker) else None
        folder = tracked.folder
        drop = Drop(
            staging=self._staging,
            name=folder,
            run=tracked.run,
            observation=observation,
            observe=lambda: walk.observe(self._staging, folder),
            marker=said,
            known=tracked.remembered.known() if tracked.remembered else None,
            seen=tracked.remembered.revision if tracked.remembered else 0,
        )
        tracked.sent, tracked.size = 0, sum(each.signature.size for each in observation.files)
        tracked.become(State.UPLOADING, "")
        tracked.due = None
        self._status_stale = True
        watch = Watch(
            moved=lambda size: self._moved(tracked, size),
            verifying=lambda: self._verifying(tracked),
            check=self._check_stop,
        )
        request = Request(str(uuid.uuid4()), self._home.user)
        tracked.task = self._pool.submit(self._storing.store, drop, request, watch)
        tracked.task.add_done_callback(lambda _: self._bell.set())

    def _moved(self, tracked: _Tracked, size: int) -> None:
        # Files of one run move at the same time; a byte count that is a little off harms nobody.
        tracked.sent += size
        self._status_stale = True

    def _verifying(self, tracked: _Tracked) -> None:
        tracked.become(State.VERIFYING, "")
        self._status_stale = True

    def _check_stop(self) -> None:
        if self._stopped.is_set():
            message = "stopped while it was stored"
            raise Interrupted(message, hint="it is stored after the next start")

    def _harvest(self) -> None:
        for tracked in list(self._tracked.values()):
            task = tracked.task
            if task is None or not task.done():
                continue
            tracked.task = None
            self._status_stale = True
            error = task.exception()
            if error is None:
                self._committed(tracked, task.result())
            elif isinstance(error, Interrupted) or task.cancelled():
                tracked.become(State.OPEN, "stopped while it was stored")
            elif isinstance(error, Exception):
                self._fail(tracked, error)
            else:
                raise error

    def _committed(self, tracked: _Tracked, outcome: Outcome) -> None:
        revision = outcome.committed.revision
        observation = tracked.observation
        if observation is None:
            return
        name = f"run:{tracked.run}~{revision.revision}"
        if outcome.committed.created:
            _log.info("committed %s: %d files", name, len(outcome.files))
        else:
            _log.info("%s was stored already", name)
        tracked.remembered = RunMemory.of(revision, observation, outcome.files)
        memory.remember(self._home.paths, tracked.remembered)
        _log.debug("step: remembered")
        tracked.history = tracked.history.committed_with(observation, time.monotonic())
        tracked.failures = 0
        tracked.revision = revision.revision
        tracked.refused = observation.refused
        tracked.become(State.COMMITTED, "")
        # What changed meanwhile is looked at once more; otherwise only a change brings news.
        tracked.due = time.monotonic() if tracked.stale else None
        receipts.committed(self._staging, tracked.folder, revision, self._runs.url)
        _log.debug("step: receipt left")

    def _fail(self, tracked: _Tracked, error: Exception) -> None:
        """Decide what becomes of a run that could not be stored."""
        clock = time.monotonic()
        self._status_stale = True
        if isinstance(error, SourceChanged):
            tracked.become(State.SETTLING, f"{error}")
            tracked.due = clock + _SOON
            return
        if isinstance(error, NotFound):
            tracked.due, self._scan_due = None, 0.0
            return
        reason = printable(str(error))
        if isinstance(error, DropRefused | NewerFormat | IntegrityError):
            # Until a person changes something, trying again tells nothing new.
            if tracked.observation is not None:
                tracked.parked = tracked.observation.signature()
            state, tracked.due, step = State.PARKED, None, error.hint
        else:
            tracked.failures += 1
            pause = self._pause(tracked.failures)
            state, tracked.due = State.BLOCKED, clock + pause
            step = "nothing to do: it is tried again by itself"
            if isinstance(error, BackendError | Locked):
                step = f"{step}; {error.hint}" if error.hint else step
            elif not isinstance(error, OSError | ModeldropError):
                _log.error("run %s: unexpected error", tracked.run, exc_info=error)
        if tracked.become(state, reason):
            _log.warning("run %s is %s: %s", tracked.run, state.value, reason)
            self._say_stuck(tracked, step)

    def _pause(self, failures: int) -> float:
        """Return the seconds until the next try: doubled each time, capped, and spread."""
        settings = self._settings
        most = min(settings.retry_first * 2 ** min(failures - 1, 30), settings.retry_most)
        return random.uniform(most / 2, most)  # noqa: S311 - jitter, no secret

    def _say_stuck(self, tracked: _Tracked, step: str) -> None:
        receipts.stuck(
            self._staging, tracked.folder, tracked.run, tracked.state.value, tracked.reason, step
        )

    # Saying

    def _status_of(self, tracked: _Tracked) -> RunStatus:
        next_try = None
        if tracked.due is not None and tracked.state.value not in DONE:
            pause = max(tracked.due - time.monotonic(), 0.0)
            when = datetime.now(UTC) + timedelta(seconds=pause)
            next_try = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return RunStatus(
            run=tracked.run,
            folder=printable(tracked.folder),
            state=tracked.state.value,
            reason=tracked.reason,
            since=tracked.since,
            next_try_at=next_try,
            revision=tracked.revision,
            sent=tracked.sent,
            size=tracked.size,
            refused=tracked.refused,
        )

    def _junk_status(self) -> list[RunStatus]:
        at = now()
        return [
            RunStatus("", each.path, "junk", each.reason, at, None, None, 0, 0, ())
            for each in self._junk.values()
        ]

    def _write_status(self, clock: float, *, force: bool = False) -> None:
        if not force and (not self._status_stale or clock < self._status_due):
            return
        self._status_due = clock + _STATUS_INTERVAL
        self._status_stale = False
        tracked = list(self._tracked.values())
        write_status(
            self._home,
            at=now(),
            started_at=self._started_at,
            watcher=self.watcher,
            committed=sum(each.state.value in DONE for each in tracked),
            runs=tuple(
                self._status_of(each)
                for each in tracked
                if each.state.value not in DONE or each.refused
            ),
            junk=tuple(self._junk.values()),
        )

    # When

    def _scan_interval(self) -> float:
        polls = self.watcher == "none"
        return self._settings.poll_interval if polls else self._settings.scan_interval

    def _until_next(self) -> float:
        dues = [
            each.due for each in self._tracked.values() if each.due is not None and not each.task
        ]
        if self._status_stale:
            dues.append(self._status_due)
        soonest = min([*dues, self._scan_due])
        return min(max(soonest - time.monotonic(), 0.0), _IDLE)

    def _in_flight(self) -> bool:
        return any(each.task is not None for each in self._tracked.values())

    def _worth_waiting(self, patience: dict[str, float]) -> bool:
        """Return whether a single scan has something to wait for.

        Each run has as long as its verdict said at first; a run that then still isn't stored
        keeps changing, and one scan doesn't wait for that.
        """
        clock = time.monotonic()
        worth = False
        for tracked in self._tracked.values():
            if tracked.task is not None or tracked.observation is None:
                worth = True
            elif tracked.state is State.SETTLING and tracked.due is not None:
                until = patience.setdefault(tracked.run, tracked.due + self._settings.quiet_time)
                worth = worth or clock < until
        return worth


def _step_for(state: State) -> str:
    if state is State.BLOCKED:
        return "nothing to do: it is tried again by itself once it can be read"
    return "replace or remove what is named; the service looks at it again by itself"


