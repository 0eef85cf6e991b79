"""Storing what is complete, and what becomes of it: turns, threads, failures, the staged copy.

The engine offers runs that are complete; each is begun at once or waits for its turn. Trouble is
told apart here, from the backend's own errors: of the backend, which holds up all (`breaker`); of
the run, which passes by itself (blocked) or needs a person (parked); or a change, which is none.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import partial
from typing import Final

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
from modeldrop.intake import afterwards, machine, memory, receipts, spent, together, walk
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.attempts import Attempts
from modeldrop.intake.breaker import Breaker
from modeldrop.intake.drops import Drop, Job, Outcome, Watch
from modeldrop.intake.flights import REGISTER, Flight, Lanes
from modeldrop.intake.looking import Looked
from modeldrop.intake.machine import Patience, Standing
from modeldrop.intake.memory import RunMemory
from modeldrop.intake.observation import Observation
from modeldrop.intake.registering import Registering
from modeldrop.intake.room import Room
from modeldrop.intake.settling import State, has_news
from modeldrop.intake.spent import MarkerSpent
from modeldrop.intake.standings import Standings
from modeldrop.intake.storing import Storing
from modeldrop.intake.throttle import Throttle
from modeldrop.ledger import Request
from modeldrop.names import parse_guid
from modeldrop.redaction import told
from modeldrop.runs import Runs
from modeldrop.settings import FormatSettings, ServiceSettings

_log = logging.getLogger(__name__)

# How often it is written down what of a long upload is at the backend already.
_NOTE_INTERVAL: Final = 5.0
# Of how many runs that wait for their turn what was seen is kept.
_KEPT: Final = 256
# How many receipts are left at a time.
_WORDS: Final = 50

Become = Callable[[Tracked, Standing], None]


class Dispatch:
    """The lanes of one engine, and what comes out of them. For the loop's thread."""

    def __init__(
        self,
        home: Home,
        runs: Runs,
        storing: Storing,
        become: Become,
        vanished: Callable[[Tracked], None],
        landed: Callable[[], None],
    ) -> None:
        """Tell `become` each new standing, `vanished` whose folder is gone, `landed` each end.

        `landed` is called by any thread, the others by the one that calls.
        """
        self._home = home
        self._staging = home.staging
        self._runs = runs
        self._storing = storing
        self._become = become
        self._vanished = vanished
        self._settings = home.config.service
        self._stopped = threading.Event()
        self._throttle = Throttle(self._settings.bandwidth)
        self.lanes = Lanes(
            self._settings.parallel_small,
            self._settings.parallel,
            landed,
            self._store_together if storing.shares_waits else None,
        )
        self.breaker = Breaker(self._patience(), random.random)
        self.standings = Standings(home.paths)
        self._room = Room(home, storing)
        self._registering = Registering(home, runs, storing, self.lanes, become)
        self._untold: deque[Tracked] = deque()
        self.is_draining = False
        self.committed = 0
        """Revisions committed since the start."""
        self.failed = 0
        """Attempts that failed since the start."""
        self._sent = 0

    @property
    def sent(self) -> int:
        """Bytes sent since the start."""
        return self._sent + sum(
            each.flight.sent for each in self.lanes.flying.values() if each.flight is not None
        )

    @property
    def is_stopped(self) -> bool:
        """Whether it was interrupted."""
        return self._stopped.is_set()

    def reload(self, settings: ServiceSettings, formats: FormatSettings | None = None) -> None:
        """Use other settings from now on."""
        self._settings = settings
        if formats is not None:
            self._storing.formats = formats
        self._throttle.set(settings.bandwidth)
        self.breaker.patience = self._patience()

    def interrupt(self) -> None:
        """Make what is in flight end at once, with nothing committed; from any thread."""
        self._stopped.set()

    def recover(self) -> None:
        """Settle what requests of a process that died had begun; see `Engine.recover`."""
        afterwards.recover(self._staging)
        for run in {intent.sequence.partition("/")[0] for intent in self._runs.open_intents()}:
            if parse_guid(run) is None:
                continue
            try:
                self._runs.settle(run)
            except IntegrityError as error:
                _log.error("what was begun for run %s is not settled: %s", run, error)
            except Locked as error:
                # Each of the others may wait as long for the same process.
                _log.error("what was begun is settled by the next commits: %s", error)
                break

    # Beginning

    def offer(self, tracked: Tracked, looked: Looked, *, its_turn: bool) -> None:
        """Store a run that is complete: at once, or when its turn comes."""
        clock = time.monotonic()
        allowed = self.breaker.allows(clock, probing=self.lanes.probing)
        if self.is_draining or not allowed or not (its_turn or self.lanes.has_room(tracked.size)):
            # Of the first few it is kept what was seen: most likely it holds when their turn comes.
            tracked.looked = looked if self.lanes.waiting() < _KEPT else None
            self.lanes.queue(tracked)
            if self.breaker.is_open:
                self._wait_for_backend(tracked)
            return
        short = self._room.lacks(tracked.size, self._settings.reserve)
        if short is not None:
            self._block(tracked, short, "make room; it is tried again by itself")
            return
        self._begin(tracked, looked)

    def next_turn(self) -> Tracked | None:
        """Return a run whose turn has come, to be looked at and offered once more."""
        if self.is_draining:
            return None
        if not self.breaker.allows(time.monotonic(), probing=self.lanes.probing):
            return None
        return self.lanes.take()

    def next_try(self) -> float | None:
        """Return when the queue may go on by itself, or None if it waits for what is in flight."""
        if self.is_draining or not self.lanes.waiting():
            return None
        return self.breaker.next_try if self.breaker.is_open and not self.lanes.probing else None

    def _wait_for_backend(self, tracked: Tracked) -> None:
        reason = self.breaker.reason
        if tracked.state is not State.BLOCKED:
            self._untold.append(tracked)
        standing = machine.waits_for_backend(tracked.standing, reason, time.monotonic())
        self._become(tracked, standing)

    def leave_words(self) -> bool:
        """Leave receipts in some runs that wait for the backend; return whether there are more.

        There may be very many all at once, and the loop has other things to do.
        """
        for _ in range(min(len(self._untold), _WORDS)):
            tracked = self._untold.popleft()
            if tracked.state is State.BLOCKED and self.breaker.is_open:
                self._leave_word(tracked, self.breaker.step)
        return bool(self._untold)

    def _begin(self, tracked: Tracked, looked: Looked) -> None:
        observation, folder, run = looked.observation, tracked.folder, tracked.run
        remembered = memory.recall(self._home.paths, run) if tracked.revision else None
        is_new = tracked.attempts is None and not tracked.revision
        notes = self._home.paths.begun_uploads(run)
        tracked.attempts = tracked.attempts or Attempts(notes=notes)
        flight = Flight("store", observation, probe=self.breaker.is_open)
        drop = Drop(
            staging=self._staging,
            name=folder,
            run=run,
            observation=observation,
            observe=lambda: walk.observe(self._staging, folder),
            marker=looked.marker,
            known=remembered.known() if remembered else None,
            seen=remembered.revision if remembered else 0,
            spent=spent.recall(self._home.paths, run)
            if has_news(tracked.standing.history, observation)
            else None,
            attempts=tracked.attempts,
        )

        def moved(size: int) -> None:
            flight.moved(size)
            self._throttle.take(size, self._check_stop)

        def verifying() -> None:
            flight.verifying = True

        def committing(upload: str) -> None:
            spent.note(self._home.paths, run, upload, observation)

        watch = Watch(moved, flight.found, verifying, committing, self._check_stop)
        request = Request(str(uuid.uuid4()), self._home.user)
        self._become(tracked, machine.begun(tracked.standing, flight.began))
        job = Job(drop, request, watch)
        self.lanes.submit(
            tracked,
            flight,
            lambda: self._store(job),
            # The bandwidth would be shared out before the first of a group is committed.
            job
            if is_new and not self._settings.bandwidth and together.is_simple(observation)
            else None,
        )

    def _store(self, job: Job) -> Outcome:
        """Store a drop and leave word of it; in a thread of a lane."""
        outcome = self._storing.store(job.drop, job.request, job.watch)
        self._note_stored(job.drop, outcome)
        return outcome

    def _store_together(self, jobs: Sequence[Job]) -> list[Outcome | None]:
        """Store drops side by side and leave word of each; in a thread of a lane."""
        outcomes = self._storing.store_together(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome is not None:
                try:
                    self._note_stored(job.drop, outcome)
                except Exception:  # noqa: BLE001 - one bad run holds up no other
                    _log.exception("run %s is stored, and has no receipt", job.drop.run)
        return outcomes

    def _note_stored(self, drop: Drop, outcome: Outcome) -> None:
        """Leave a receipt of what is stored, and remember it."""
        revision = outcome.committed.revision
        # Before the memory: what is remembered is never looked at again to see whether it has one.
        receipts.committed(drop.staging, drop.name, revision, self._runs.url)
        _log.debug("step: receipt left")
        try:
            found = RunMemory.of(revision, drop.observation, outcome.files, outcome.wish)
            memory.remember(self._home.paths, found)
            if found.marker is not None:
                spent.forget(self._home.paths, drop.run)
        except (OSError, ModeldropError) as error:
            name = f"run:{drop.run}~{revision.revision}"
            _log.warning("%s is read again after the next start: %s", name, error)
        _log.debug("step: remembered")

    def _check_stop(self) -> None:
        if self._stopped.is_set():
            message = "stopped while it was stored"
            raise Interrupted(message, hint="it is stored after the next start")

    def forget(self, tracked: Tracked) -> None:
        """Keep nothing of a run that is gone from staging, but that it is to be ignored."""
        self.standings.drop(tracked)
        spent.forget(self._home.paths, tracked.run)

    # The staged copy

    def stored(self, tracked: Tracked, observation: Observation) -> None:
        """See to a run that is stored as it is: register it, keep, move or delete its copy."""
        if tracked.wish is not None and not self.is_draining and tracked.flight is None:
            self._registering.begin(tracked, observation, self._patience())
        kind, standing, clock = self._settings.afterwards, tracked.standing, time.monotonic()
        if kind == "keep" or self.is_draining or tracked.flight or tracked.wish:
            return
        if standing.complaints:
            reason = "a part of it isn't stored or registered, so its copy stays"
            self._become(tracked, machine.settled(standing, State.KEPT, reason, clock))
            return
        due = max((standing.history.committed_at or clock) + self._settings.delete_after, clock)
        if kind == "delete" and due > clock:
            self._become(tracked, machine.kept_until(standing, due))
            return
        flight = Flight(kind, observation, probe=False)
        name, signature = tracked.folder, observation.signature()
        run, revision = tracked.run, standing.revision

        def work() -> None:
            if kind == "move":
                afterwards.move(self._staging, name, signature, revision)
            else:
                check = partial(self._storing.verify, run, revision, flight.found, self._check_stop)
                afterwards.delete(self._staging, name, signature, check)

        self.lanes.submit(tracked, flight, work)

    # What comes of it

    def harvest(self) -> None:
        """Take note of what has ended, and write down how far the rest is, now and then."""
        for tracked, flight in self.lanes.harvest():
            self._sent += flight.sent
            assert flight.task is not None  # noqa: S101 - it has ended, so it began
            try:
                result = flight.task.result()
            except (Interrupted, CancelledError):
                if flight.kind == "store":
                    self._keep_attempts(tracked)
                    clock = time.monotonic()
                    self._become(tracked, machine.interrupted(tracked.standing, clock))
            except Exception as error:  # noqa: BLE001 - one bad run holds up no other
                if flight.kind == "store":
                    self.fail(tracked, error, flight)
                elif flight.kind == REGISTER:
                    self._registering.failed(tracked, error, self._patience())
                    self.stored(tracked, flight.observation)
                else:
                    self._stays(tracked, flight, error)
            else:
                self._ended(tracked, flight, result)
        self._note_progress()

    def _note_progress(self) -> None:
        clock = time.monotonic()
        for tracked in self.lanes.flying.values():
            flight_now = tracked.flight
            if flight_now is None or flight_now.kind != "store":
                continue
            if flight_now.verifying and tracked.state is State.UPLOADING:
                self._become(tracked, machine.verifying(tracked.standing, clock))
            if clock - flight_now.noted_at > _NOTE_INTERVAL:
                flight_now.noted_at = clock
                self._keep_attempts(tracked)

    def keep_all_attempts(self) -> None:
        """Write down what of the runs in flight is at the backend already."""
        for tracked in self.lanes.flying.values():
            self._keep_attempts(tracked)

    def _keep_attempts(self, tracked: Tracked) -> None:
        sent = tracked.attempts.files() if tracked.attempts else ()
        if sent:
            self.standings.keep(tracked, tracked.reason, sent=sent)

    def _ended(self, tracked: Tracked, flight: Flight, result: object) -> None:
        if isinstance(result, Outcome):
            self._committed(tracked, flight, result)
            self.stored(tracked, flight.observation)
            return
        if flight.kind == REGISTER:
            self._registering.ended(tracked)
            self.stored(tracked, flight.observation)
            return
        state = State.MOVED if flight.kind == "move" else State.DELETED
        said = {"run": tracked.run, "state": state.value}
        _log.info("the staged copy of run %s is %s", tracked.run, state.value, extra=said)
        self._become(tracked, machine.settled(tracked.standing, state, "", time.monotonic()))
        self._vanished(tracked)

    def _stays(self, tracked: Tracked, flight: Flight, error: Exception) -> None:
        """Decide what becomes of a stored run whose staged copy could not be moved or deleted."""
        clock, reason = time.monotonic(), told(error)
        if isinstance(error, IntegrityError) and not isinstance(error, SourceChanged):
            # The staged copy is the one that is whole.
            signature = flight.observation.signature()
            self._stick(
                tracked, machine.refused(tracked.standing, reason, signature, clock), error.hint
            )
            return
        if not isinstance(error, SourceChanged | NotFound):
            _log.warning("the staged copy of run %s stays: %s", tracked.run, reason)
        luck = random.random()  # noqa: S311 - jitter, no secret
        self._become(
            tracked, machine.stays(tracked.standing, reason, self._patience(), luck, clock)
        )

    def _committed(self, tracked: Tracked, flight: Flight, outcome: Outcome) -> None:
        observation, revision = flight.observation, outcome.committed.revision
        name = f"run:{tracked.run}~{revision.revision}"
        created = outcome.committed.created
        self.committed += created
        if self.breaker.is_open:
            _log.info("the backend answers again")
        self.breaker.succeeded()
        tracked.attempts = None
        self.standings.drop(tracked)
        tracked.wish = outcome.wish
        if tracked.news_at < outcome.seen_at and not tracked.standing.history.arriving:
            # The last look of those who stored it saw what the hints told of.
            tracked.is_stale = False
        clock = time.monotonic()
        standing = machine.committed(
            tracked.standing, observation, revision.revision, outcome.refused, clock
        )
        said = {
            "run": tracked.run,
            "revision": revision.revision,
            "bytes": observation.size(),
            "seconds": round(clock - flight.began, 3),
        }
        _log.info("committed %s" if created else "%s was stored already", name, extra=said)
        self._become(tracked, standing)

    def fail(self, tracked: Tracked, error: Exception, flight: Flight | None = None) -> None:
        """Decide what becomes of a run that could not be looked at or stored."""
        clock, standing = time.monotonic(), tracked.standing
        reason = told(error) or type(error).__name__
        if isinstance(error, MarkerSpent):
            history = error.spent.history(standing.history, clock)
            self._become(tracked, machine.recognised(standing, history, error.revision, clock))
            return
        if isinstance(error, SourceChanged):
            quiet = self._settings.quiet_time
            self._become(tracked, machine.changed(standing, reason, quiet, clock))
            return
        if isinstance(error, NotFound) and not isinstance(error, RunNotFound):
            self._vanished(tracked)
            return
        if isinstance(error, DropRefused):
            signature = flight.observation.signature() if flight else None
            self._stick(tracked, machine.refused(standing, reason, signature, clock), error.hint)
            self.standings.keep(tracked, reason, parked=signature)
            return
        self.failed += 1
        self._keep_attempts(tracked)
        probe, was_open = flight is None or flight.probe, self.breaker.is_open
        step = "it is tried again by itself"
        if isinstance(error, ModeldropError):
            step = f"{error.hint}; {step}" if error.hint else step
        if self.breaker.failed(tracked.run, error, reason, step, clock, probe=probe):
            if not was_open:
                _log.error("the backend is waited for: %s", reason)
                for waiting in self.lanes.queued():
                    self._wait_for_backend(waiting)
            self.lanes.queue(tracked)
            self._wait_for_backend(tracked)
            return
        if not isinstance(error, ModeldropError | OSError):
            _log.error("run %s: unexpected error", tracked.run, exc_info=error)
        self._block(tracked, reason, step)

    def _block(self, tracked: Tracked, reason: str, step: str) -> None:
        clock = time.monotonic()
        standing = machine.failed(
            tracked.standing,
            reason,
            self._patience(),
            random.random(),  # noqa: S311 - jitter, no secret
            clock,
        )
        self._stick(tracked, standing, step)

    def _stick(self, tracked: Tracked, standing: Standing, step: str) -> None:
        is_news = (standing.state, standing.reason) != (tracked.state, tracked.reason)
        self._become(tracked, standing)
        if is_news:
            self.say_stuck(tracked, step)

    def say_stuck(self, tracked: Tracked, step: str) -> None:
        """Tell people that a run is blocked or parked, and what to do."""
        state, reason = tracked.state.value, tracked.reason
        said = {"run": tracked.run, "state": state}
        _log.warning("run %s is %s: %s", tracked.run, state, reason, extra=said)
        self._leave_word(tracked, step)

    def _leave_word(self, tracked: Tracked, step: str) -> None:
        state, reason = tracked.state.value, tracked.reason
        receipts.stuck(self._staging, tracked.folder, tracked.run, state, reason, step)

    def _patience(self) -> Patience:
        return Patience(self._settings.retry_first, self._settings.retry_most)
