"""The loop that watches over staging: look, judge, store, note what became of it.

Purpose: one engine for the service and for a single scan. A scan is the truth; hints from a
watcher only make it look sooner.

Calling sequence: `recover()` once, then `turn()` again and again, waiting in between with
`wait()`, which a hint or a finished transfer ends early. `turn`, `drain` and `close` belong to one
thread; `hint`, `wake` and `interrupt` may be called from any, and from a signal handler's thread;
`summary` may be read by any. An engine that has drained, or been interrupted, begins nothing any
more.

What a crash leaves: bytes that no manifest names, or an intent that `recover` settles, or a
committed run without a memory, which is read once more and found to be stored. Never two
revisions of one content.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from itertools import chain
from typing import Final

from modeldrop.errors import NotFound, SourceChanged
from modeldrop.home import Home
from modeldrop.intake import lease, machine
from modeldrop.intake.agenda import Tracked, is_worth_waiting
from modeldrop.intake.answering import Answering
from modeldrop.intake.board import Board, junk_status, status_of, wall_time
from modeldrop.intake.dispatch import Dispatch
from modeldrop.intake.looking import Looked, look, next_step
from modeldrop.intake.machine import Standing
from modeldrop.intake.requests import Inbox
from modeldrop.intake.roster import Roster
from modeldrop.intake.scanning import Scanner
from modeldrop.intake.settling import State, Step
from modeldrop.intake.status import RunStatus, WatcherStatus
from modeldrop.intake.storing import Storing
from modeldrop.intake.summary import Summary
from modeldrop.names import parse_guid, printable
from modeldrop.runs import Runs
from modeldrop.settings import FormatSettings, ServiceSettings

_log = logging.getLogger(__name__)

# How soon hints and scans bring the next look at one run, and how many times what a look took: the
# ten thousand events of an archive that is unpacked are not worth ten thousand walks.
_REST: Final = 0.1
_REST_FACTOR: Final = 9.0
# For how many seconds what was seen of a run that waits for its turn is good enough to begin with:
# what changed since then ends the attempt, which compares before, during and after.
_FRESH: Final = 1.0
# For how long at a time the loop looks at runs before it turns to what else there is.
_SLICE: Final = 0.05
# For how long at a time something is waited for whose progress is to be told.
_STATUS_INTERVAL: Final = 1.0
# Without anything else to do, the loop turns this often: somebody may have asked for something.
_IDLE: Final = 1.0

Listener = Callable[[RunStatus], None]
_TOLD: Final = frozenset({State.COMMITTED, State.BLOCKED, State.PARKED})


class Engine:
    """Watches over the staging folder of one home."""

    def __init__(self, home: Home, runs: Runs, storing: Storing) -> None:
        """Watch over `home.staging`, and commit to `runs`."""
        self._staging = home.staging
        self._settings = home.config.service
        self._bell = threading.Event()
        self._hints_lock = threading.Lock()
        self._hints: dict[str | None, bool] = {}
        self._dispatch = Dispatch(home, runs, storing, self._become, self._vanished, self._bell.set)
        self._roster = Roster(home.paths, self._dispatch.standings)
        self._scanner = Scanner(home.staging, self._settings)
        self._inbox = Inbox(home.paths)
        self._answering = Answering(self._roster, self._dispatch, self._become, self._list)
        self._board = Board(home)
        self._watcher = WatcherStatus()
        self._listeners: list[Listener] = []
        self._once = False
        self._once_since = 0.0
        self._sweeps_next = False
        self._takes_new = True
        self._summary = Summary()

    @property
    def watcher(self) -> str:
        """What the status file says of the watcher: `agenda.EVENTS`, or why staging is polled."""
        return self._watcher.state

    @watcher.setter
    def watcher(self, state: str) -> None:
        self.watched(WatcherStatus(state, self._watcher.overflows, self._watcher.rebuilds))

    def watched(self, status: WatcherStatus) -> None:
        """Take note of how the watcher is; a change of its state is a doubt: all is looked at."""
        if status != self._watcher:
            is_news = status.state != self._watcher.state
            self._watcher = status
            self._board.stale = True
            if is_news:
                self.hint()

    @property
    def watcher_status(self) -> WatcherStatus:
        """What was last taken note of by `watched`."""
        return self._watcher

    @property
    def summary(self) -> Summary:
        """What the engine was at when it last turned."""
        return self._summary

    @property
    def has_scanned(self) -> bool:
        """Whether all that was in staging has been looked at once, or can't be."""
        return self._scanner.has_scanned

    def listen(self, listener: Listener) -> None:
        """Have a function called, in the loop's thread, when a run is committed, blocked or parked.

        It must not wait for anything.
        """
        self._listeners.append(listener)

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
        self._dispatch.interrupt()
        self._bell.set()

    # From the thread of the loop

    def recover(self) -> None:
        """Settle what requests of a process that died had begun.

        What can't be settled for a reason of its own is left to the next commit of that run, so
        that it holds up no other.

        Raises:
            BackendError: the backend can't say what happened.
        """
        self._dispatch.recover()

    def reload(self, settings: ServiceSettings, formats: FormatSettings | None = None) -> None:
        """Use other settings from now on; how many runs at a time, from the next start."""
        self._settings = settings
        self._scanner.settings = settings
        self._dispatch.reload(settings, formats)
        self.hint()

    def wait(self, seconds: float) -> None:
        """Wait until there may be something to do, at most for so long."""
        self._bell.wait(max(seconds, 0.0))
        self._bell.clear()

    def turn(self) -> float:
        """Do what is due; return for how many seconds nothing will be."""
        began = time.monotonic()
        self._take_hints(began)
        self._dispatch.harvest()
        self._scan(began)
        self._inbox.take(self._answering.answer)
        has_more = self._dispatch.leave_words()
        until = time.monotonic() + _SLICE
        while (tracked := self._next()) is not None:
            self._look(tracked)
            if time.monotonic() > until:
                break
        self._write_status()
        return 0.0 if tracked is not None or has_more else self._until_next()

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
        # The caller says how often; what the last one cost doesn't put it off.
        self._scanner.doubt(at_once=True)
        self._once, self._once_since = True, time.monotonic()
        has_begun = False
        try:
            while True:
                pause = self.turn()
                # Where staging couldn't be read it begins later, and takes what is there then.
                has_begun = has_begun or not self._scanner.is_in_doubt
                self._takes_new = not has_begun
                if (has_begun and not self._is_at_work()) or self._dispatch.is_stopped:
                    break
                self.wait(min(pause, _STATUS_INTERVAL))
            # What vanished meanwhile is no run of whom anything could be said. Where staging
            # couldn't be read, that is what is said, though it can be read by now.
            if self._scanner.scans:
                self._list()
        finally:
            self._once, self._takes_new = False, True
        self._write_status(force=True)
        return [
            *(status_of(each) for each in self._roster.runs.values()),
            *(junk_status(each) for each in self._scanner.junk.values()),
        ]

    def _is_at_work(self) -> bool:
        """Return whether a single scan has anything left to do or to wait for."""
        lanes = self._dispatch.lanes
        if lanes.flying or self._roster.agenda.next() is not None or self._scanner.is_sweeping:
            return True
        # What the backend holds up is for the next scan.
        return lanes.waiting() > 0 and not self._dispatch.breaker.is_open

    def _is_left(self, tracked: Tracked) -> bool:
        """Return whether a single scan has tried a run, and leaves it to the next one."""
        tried = tracked.looked_at >= self._once_since
        return self._once and tried and tracked.state is State.BLOCKED

    def standing(self, run: str) -> RunStatus | None:
        """Return where a run stands, or None if it hasn't been seen."""
        tracked = self._roster.runs.get(run)
        return status_of(tracked) if tracked is not None else None

    def drain(self, seconds: float) -> bool:
        """Begin nothing new, and wait for what is in flight; return whether all of it ended."""
        dispatch = self._dispatch
        dispatch.is_draining = True
        dispatch.lanes.cancel()
        dispatch.harvest()
        deadline = time.monotonic() + seconds
        while dispatch.lanes.flying and time.monotonic() < deadline and not dispatch.is_stopped:
            self.wait(min(deadline - time.monotonic(), _STATUS_INTERVAL))
            dispatch.harvest()
            self._board.stale = True
            self._write_status()
        if dispatch.lanes.flying:
            # Whoever stops waiting may end the process next.
            dispatch.keep_all_attempts()
        return not dispatch.lanes.flying

    def close(self) -> None:
        """End what is in flight, and let the threads go."""
        self.interrupt()
        self._dispatch.lanes.close()
        self._dispatch.harvest()
        self._write_status(force=True)

    # What came to our ears

    def _take_hints(self, clock: float) -> None:
        with self._hints_lock:
            hints, self._hints = self._hints, {}
        # Whatever they tell of has happened by now.
        now = time.monotonic()
        for folder, whole in hints.items():
            guid = parse_guid(folder) if folder is not None else None
            if folder is None:
                self._scanner.doubt()
                continue
            if guid is None:
                self._scanner.list_soon()
                continue
            tracked = self._roster.runs.get(guid)
            if tracked is None and self._takes_new and not self._scanner.is_junk(folder):
                # Whether it is a folder at all shows when it is looked at.
                tracked = self._track(guid, folder)
            if tracked is None or tracked.folder != folder:
                # Another spelling of a run that is there: a scan tells what that makes of both.
                self._scanner.list_soon()
                continue
            if whole:
                tracked.standing = machine.arrived(tracked.standing)
                tracked.rests_until = 0.0
            tracked.news_at = now
            self._has_news(tracked, clock)

    def _has_news(self, tracked: Tracked, clock: float) -> None:
        """See to it that a run is looked at, now or as soon as it may be."""
        tracked.is_stale = True
        when = max(clock, tracked.standing.not_before, tracked.rests_until)
        if tracked.flight is None and (tracked.due is None or when < tracked.due):
            self._roster.agenda.put(tracked, when)

    # Scanning

    def _scan(self, clock: float) -> None:
        scanner = self._scanner
        if scanner.polls(clock, self.watcher):
            for tracked in self._roster.open.values():
                # What waits for its turn is looked at when that comes.
                if not (tracked.is_queued or self._is_left(tracked)):
                    self._has_news(tracked, clock)
        sweeps = scanner.sweeps(clock, self.watcher)
        if sweeps:
            scanner.begin(clock)
        if (sweeps or scanner.lists(clock)) and self._list() and sweeps:
            scanner.sweep(self._roster.runs.values())

    def _list(self) -> bool:
        """See which runs there are, and what else; return whether that could be seen."""
        found = self._scanner.listing()
        self._board.stale = self._board.stale or self._scanner.has_news
        if found is None:
            # It may be an unmounted disk: nothing is forgotten, nothing is deleted.
            return False
        there = {each.guid: each.name for each in found if each.guid is not None}
        for guid in [guid for guid in self._roster.runs if guid not in there]:
            self._forget(guid)
        for guid, name in there.items() if self._takes_new else ():
            tracked = self._roster.runs.get(guid)
            if tracked is None or (tracked.folder != name and tracked.flight is None):
                self._has_news(self._track(guid, name), 0.0)
        return True

    def _track(self, guid: str, folder: str) -> Tracked:
        before = self._roster.runs.get(guid)
        if before is not None:
            self._drop(before)
        return self._roster.add(guid, folder)

    def _forget(self, guid: str) -> None:
        """Forget a run that is gone from staging, unless it is in flight."""
        tracked = self._roster.runs[guid]
        if tracked.flight is None:
            if not tracked.standing.is_gone:
                _log.info("run %s is gone from staging", guid, extra={"run": guid})
            self._dispatch.forget(tracked)
            self._drop(tracked)
            self._board.stale = True

    def _drop(self, tracked: Tracked) -> None:
        self._dispatch.lanes.leave(tracked)
        self._roster.remove(tracked)

    # Looking

    def _next(self) -> Tracked | None:
        """Return the next run to look at, or None if there is none.

        What is due comes first, then whose turn it is to be stored, then the rest of a sweep. The
        first sweep has every other look: who writes faster than it stores never puts it off.
        """
        clock = time.monotonic()
        self._sweeps_next = not (self._sweeps_next or self._scanner.has_scanned)
        if self._sweeps_next and (tracked := self._swept(clock)) is not None:
            return tracked
        if (tracked := self._roster.agenda.take(clock)) is not None:
            return tracked
        if (tracked := self._dispatch.next_turn()) is not None:
            tracked.has_turn = True
            return tracked
        return self._swept(clock)

    def _swept(self, clock: float) -> Tracked | None:
        """Return the next run of a sweep that may be looked at now, or None if there is none."""
        while (tracked := self._scanner.next()) is not None:
            if self._roster.runs.get(tracked.run) is not tracked or tracked.is_queued:
                continue
            if self._is_left(tracked):
                continue
            if tracked.flight is None and tracked.standing.not_before <= clock:
                return tracked
            self._has_news(tracked, clock)
        return None

    def _look(self, tracked: Tracked) -> None:
        its_turn, tracked.has_turn = tracked.has_turn, False
        seen, tracked.looked = tracked.looked, None
        began = time.monotonic()
        if tracked.is_stale or began - tracked.looked_at > _FRESH:
            seen = None
        tracked.is_stale = False
        try:
            if tracked.ignored:
                self._leave_alone(tracked)
            elif its_turn and seen is not None:
                self._dispatch.offer(tracked, seen, its_turn=True)
            else:
                network = self._scanner.network
                looked = look(self._staging, tracked, self._settings, network=network)
                self._obey(tracked, looked, its_turn=its_turn)
        except NotFound:
            self._vanished(tracked)
        except SourceChanged as error:
            reason = printable(error.message)
            self._become(tracked, machine.disturbed(tracked.standing, reason, began))
        except Exception as error:  # noqa: BLE001 - one bad run holds up no other
            self._dispatch.fail(tracked, error)
        tracked.looked_at = ended = time.monotonic()
        tracked.rests_until = ended + max(_REST, _REST_FACTOR * (ended - began))
        self._scanner.spent(ended - began)

    def _leave_alone(self, tracked: Tracked) -> None:
        """Keep a run as it is that a person wants ignored; what is stored of it stays stored."""
        if not tracked.standing.is_stored and tracked.state is not State.IGNORED:
            standing = machine.ignored(tracked.standing, tracked.ignored, time.monotonic())
            self._become(tracked, standing)

    def _obey(self, tracked: Tracked, looked: Looked, *, its_turn: bool) -> None:
        verdict, before = looked.verdict, tracked.standing
        if verdict.step is not Step.STORE:
            self._dispatch.lanes.leave(tracked)
        tracked.size = looked.observation.size()
        refused = looked.observation.refused
        standing = machine.looked(before, verdict, refused, time.monotonic())
        self._become(tracked, standing)
        if verdict.step is Step.STORE:
            self._dispatch.offer(tracked, looked, its_turn=its_turn)
        elif standing.is_stored:
            self._dispatch.stored(tracked, looked.observation)
        elif verdict.state in {State.BLOCKED, State.PARKED} and (before.state, before.reason) != (
            standing.state,
            standing.reason,
        ):
            self._dispatch.say_stuck(tracked, next_step(verdict.state))

    def _vanished(self, tracked: Tracked) -> None:
        """Leave a run that isn't there to a scan: it, or all of staging, is gone."""
        self._roster.agenda.put(tracked, None)
        self._scanner.list_soon()

    def _become(self, tracked: Tracked, standing: Standing) -> None:
        """Take note of where a run stands now, and of when it is looked at next."""
        before = tracked.standing
        self._roster.become(tracked, standing)
        is_news = before.state is not standing.state
        if is_news or before.reason != standing.reason:
            self._board.stale = True
        due = standing.due
        if tracked.is_stale and tracked.flight is None and standing.state is State.COMMITTED:
            # What changed meanwhile is looked at once more; otherwise only news bring a look.
            due = time.monotonic()
        if self._once and due is not None:
            network = self._scanner.network
            if not is_worth_waiting(tracked, due, self._settings, network=network):
                due = None
        self._roster.agenda.put(tracked, due)
        if is_news and standing.state in _TOLD:
            status = status_of(tracked)
            for listener in self._listeners:
                listener(status)

    # Telling

    def _write_status(self, *, force: bool = False) -> None:
        dispatch, breaker = self._dispatch, self._dispatch.breaker
        self._summary = Summary(
            runs=dict(self._roster.counts),
            junk=len(self._scanner.junk),
            queued=dispatch.lanes.waiting(),
            committed=dispatch.committed,
            failed=dispatch.failed,
            sent=dispatch.sent,
            scans=self._scanner.scans,
            scan_seconds=self._scanner.scan_seconds,
            backend=breaker.reason,
            backend_since=wall_time(breaker.since) if breaker.is_open else None,
            backend_next_try_at=wall_time(breaker.next_try) if breaker.is_open else None,
            oldest_waiting=self._board.oldest_waiting,
        )
        shown = chain(self._roster.open.values(), self._roster.partial.values())
        self._board.write(
            shown, self._scanner.junk.values(), self._watcher, self._summary, force=force
        )

    def _until_next(self) -> float:
        dues = [self._scanner.next_due(self.watcher)]
        if (due := self._roster.agenda.next()) is not None:
            dues.append(due)
        if (due := self._dispatch.next_try()) is not None:
            dues.append(due)
        if self._dispatch.lanes.flying:
            # Bytes move.
            self._board.stale = True
        if self._board.stale:
            dues.append(self._board.due)
        return min(max(min(dues) - time.monotonic(), 0.0), _IDLE)
