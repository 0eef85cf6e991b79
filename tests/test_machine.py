"""The state machine, over random histories: nothing early, nothing forgotten, nothing changed.

A world without a file system: what a run holds, who writes to it, what time it is. Whatever happens
there, the machine is driven as the engine drives it, and every promise is checked at every step
against a plain model of what is true.
"""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from modeldrop.intake import machine, settling
from modeldrop.intake.lease import Writers
from modeldrop.intake.machine import Patience, Standing
from modeldrop.intake.marker import Marker
from modeldrop.intake.observation import Observation, SeenFile, Signature
from modeldrop.intake.settling import History, State, Step, Verdict, judge
from modeldrop.records import Refused
from modeldrop.structs import replace

SETTINGS: Final = settling.Settings(
    quiet_time=5.0, quiet_time_without_lease=30.0, revision_interval=60.0
)
PATIENCE: Final = Patience(first=1.0, most=300.0)
NAMES: Final = ("model.bin", "weights/shard-1", "weights/shard-2")


class World(RuleBasedStateMachine):
    """One run in staging, its writers, and the service that looks at it now and then."""

    def __init__(self) -> None:
        """Begin with an empty folder."""
        super().__init__()
        self.now = 1000.0
        self.tick = 1
        self.files: dict[str, Signature] = {}
        self.temporary = False
        self.marker: Signature | None = None
        self.writer = False
        self.written: dict[int, float] = {}
        self.standing = Standing(History(), since=self.now)
        self.sending: Observation | None = None
        self.revisions: list[Observation] = []
        self.queued = False
        self.news = False

    @initialize()
    def begin(self) -> None:
        """Have the first look made at once, as a scan does."""
        self.standing = replace(self.standing, due=self.now)

    # What people and programs do

    def _touch(self) -> Signature:
        self.tick += 1
        self.written[self.tick] = self.now
        self.news = True
        return Signature(1, self.tick, self.tick, self.tick, self.tick)

    @rule(name=st.sampled_from(NAMES))
    def write(self, name: str) -> None:
        """Write a file, or rewrite it."""
        self.files[name] = self._touch()

    @rule(name=st.sampled_from(NAMES))
    def create_empty(self, name: str) -> None:
        """Create a file whose bytes may come later."""
        self.files[name] = replace(self._touch(), size=0)

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.files.pop(name, None) is not None:
            self.news = True

    @rule()
    def open_for_writing(self) -> None:
        """Open a file and write nothing yet."""
        self.writer = self.news = True

    @precondition(lambda self: self.writer)
    @rule(writes=st.booleans())
    def close(self, writes: bool) -> None:
        """Close it, after a last write or without one."""
        if writes and self.files:
            self.files[next(iter(self.files))] = self._touch()
        self.writer, self.news = False, True

    @rule(there=st.booleans())
    def leave_temporary(self, there: bool) -> None:
        """Make a temporary file, or take it away."""
        if there != self.temporary:
            self.temporary = there
            self.news = True

    @rule()
    def mark(self) -> None:
        """Say that it is complete."""
        self.marker = self._touch()

    # What the service meets

    @rule(seconds=st.sampled_from([0.05, 0.5, 2.0, 6.0, 31.0, 100.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass; what falls due meanwhile is looked at when its time comes."""
        until = self.now + seconds
        while self.standing.due is not None and self.standing.due <= until:
            self.now = max(self.now, self.standing.due)
            self.look()
        self.now = until

    @rule()
    def hint(self) -> None:
        """Be told by an event, a poll or a sweep that there may be news."""
        if self.now >= self.standing.not_before:
            self.look()

    @precondition(lambda self: self.queued)
    @rule()
    def turn_comes(self) -> None:
        """Have a thread free: it is looked at once more, and begun if it is complete still."""
        self.queued = False
        verdict = self.look()
        if verdict is not None and verdict.step is Step.STORE:
            self.queued = False
            self._set(machine.begun(self.standing, self.now))
            self.sending = self.observe()

    @precondition(lambda self: self.sending is not None)
    @rule(fate=st.sampled_from(["stored", "failed", "refused", "interrupted"]))
    def flight_ends(self, fate: str) -> None:
        """Have the transfer end; what changed meanwhile is never committed."""
        sent, self.sending = self.sending, None
        assert sent is not None
        if fate == "failed":
            self._set(machine.failed(self.standing, "away", PATIENCE, 0.5, self.now))
        elif fate == "refused":
            self._set(machine.refused(self.standing, "no", sent.signature(), self.now))
        elif fate == "interrupted":
            self._set(machine.interrupted(self.standing, self.now))
            self.restart()
        elif sent.signature() != self.observe().signature():
            self._set(machine.changed(self.standing, "changed", SETTINGS.quiet_time, self.now))
        else:
            self._set(machine.verifying(self.standing, self.now))
            revision = len(self.revisions) + 1
            self.revisions.append(sent)
            self._set(machine.committed(self.standing, sent, revision, (), self.now))

    @rule()
    def restart(self) -> None:
        """End the service and start it again: only what was committed is remembered."""
        if self.sending is None:
            history = self.standing.history
            kept = History(
                committed=history.committed,
                committed_marker=history.committed_marker,
                committed_at=history.committed_at,
            )
            self.queued = False
            self.standing = Standing(
                kept, since=self.now, due=self.now, revision=self.standing.revision
            )

    @precondition(lambda self: self.standing.state in {State.BLOCKED, State.PARKED, State.IGNORED})
    @rule()
    def ask_for_a_retry(self) -> None:
        """Have a person ask for it."""
        self._set(machine.retried(self.standing, self.now))

    @precondition(lambda self: self.sending is None and not self.standing.is_stored)
    @rule()
    def ask_to_ignore(self) -> None:
        """Have a person ask for it, and think better of it."""
        self.queued = False
        self._set(machine.ignored(self.standing, "asked", self.now))
        assert self.standing.due is None
        self._set(machine.retried(self.standing, self.now))

    # The engine, in small

    def observe(self) -> Observation:
        """Return what a walk would see now."""
        marker = SeenFile("_SUCCESS", self.marker) if self.marker else None
        files = tuple(SeenFile(name, self.files[name]) for name in sorted(self.files))
        return Observation(
            files=files, marker=marker, temporary=("x.tmp",) if self.temporary else ()
        )

    def look(self) -> Verdict | None:
        """Look as the engine does, unless it is in flight."""
        if self.sending is not None:
            return None
        self.news = False
        seen = self.observe()
        if self.standing.parked is not None and self.standing.parked == seen.signature():
            self.standing = replace(self.standing, due=None)
            return None
        marker = None
        if seen.marker is not None and settling.has_news(self.standing.history, seen):
            marker = Marker((), {})
        verdict = judge(self.standing.history, seen, None, self.now, SETTINGS, marker=marker)
        if verdict.step is Step.PROBE:
            writers = Writers.SOME if self.writer else Writers.NONE
            verdict = judge(verdict.history, seen, writers, self.now, SETTINGS, marker=marker)
        if verdict.step is Step.STORE:
            self.check_complete(seen)
        self._set(machine.looked(self.standing, verdict, (), self.now))
        self.queued = verdict.step is Step.STORE
        return verdict

    def check_complete(self, seen: Observation) -> None:
        """Nothing is stored before it is complete."""
        assert not self.writer
        assert not self.temporary
        assert seen.files
        history = self.standing.history
        is_marked = seen.marker is not None and seen.marker.signature != history.committed_marker
        if not is_marked:
            # What came and went between two looks is nothing that anybody could have seen.
            quiet = self.now - max(self.written[file.signature.inode] for file in seen.files)
            is_empty = any(file.signature.size == 0 for file in seen.files)
            assert quiet >= SETTINGS.quiet_time
            assert quiet >= SETTINGS.quiet_time_without_lease or not is_empty

    def _set(self, standing: Standing) -> None:
        before, after = self.standing.state, standing.state
        if before is not after:
            assert after in machine.TRANSITIONS[before], f"{before} -> {after}"
        self.standing = standing

    # What holds always

    @invariant()
    def nothing_complete_is_forgotten(self) -> None:
        """If nobody touches it any more, it comes to be stored, by what is due alone.

        News may be needed where only news can change anything: a writer that closes, a temporary
        file that goes, a folder that is empty.
        """
        if self.sending is not None or self.temporary or self.writer or not self.files:
            return
        standing, now = self.standing, self.now
        if standing.parked is not None and standing.parked == self.observe().signature():
            return
        if standing.history.committed == self.observe().signature():
            return
        saved = (self.standing, self.now, self.queued, self.news)
        # An event or a poll tells of what happened last; from there on it has to go by itself.
        if not self.queued and self.news:
            self.now = max(self.now, standing.not_before)
            self.look()
        for _ in range(50):
            if self.queued:
                break
            assert self.standing.due is not None, self.standing
            self.now = max(self.now, self.standing.due)
            self.look()
        assert self.queued, self.standing
        assert self.now - now <= max(SETTINGS.revision_interval, PATIENCE.most) + 120
        self.standing, self.now, self.queued, self.news = saved

    @invariant()
    def nothing_committed_is_changed(self) -> None:
        """Each revision is one observation, and the last one is what the history says."""
        if self.revisions:
            last = self.revisions[-1].signature()
            assert self.standing.history.committed == last
            assert self.standing.revision == len(self.revisions)
        for before, after in zip(self.revisions, self.revisions[1:], strict=False):
            assert before.signature() != after.signature()


World.TestCase.settings = settings(max_examples=400, stateful_step_count=80)
TestWorld = pytest.mark.filterwarnings("ignore")(World.TestCase)


def test_every_state_has_a_way_on_and_every_way_leads_to_a_state() -> None:
    assert machine.TRANSITIONS.keys() == set(State)
    assert all(machine.TRANSITIONS[state] for state in State)


def test_a_look_at_a_stored_run_that_shows_nothing_new_makes_no_new_standing() -> None:
    file = SeenFile("model.bin", Signature(1, 2, 3, 4, 5))
    seen = Observation(files=(file,))

    def look(standing: Standing, now: float, *refused: Refused) -> Standing:
        verdict = judge(standing.history, seen, None, now, SETTINGS)
        return machine.looked(standing, verdict, refused, now)

    stored = machine.committed(Standing(History()), seen, 1, (), 10.0)
    known = look(stored, 20.0)
    assert known.state is State.COMMITTED
    # A sweep looks at all that is stored, and what is the same object costs nothing further.
    assert look(known, 30.0) is known
    told = look(known, 40.0, Refused("a\nb", "its name has a control character"))
    assert told.refused
    assert look(machine.kept_until(known, 50.0), 45.0).due is None


@pytest.mark.parametrize("times", [1, 2, 5, 9, 10_000])
def test_pauses_double_are_spread_over_half_of_it_and_capped(times: int) -> None:
    most = min(1.0 * 2.0 ** (times - 1) if times < 64 else 300.0, 300.0)
    assert PATIENCE.after(times, 0.0) == most / 2
    assert PATIENCE.after(times, 1.0) == most
