"""The state machine of a run: its states, and what brings it from one to another.

    open → settling → uploading → verifying → committed → kept | moved | deleted
    blocked: tried again by itself        parked: needs a person        ignored: left alone

Pure functions over what was seen and a clock, without I/O: each takes a `Standing` and returns the
one that follows. `settling` judges whether a run is complete, `TRANSITIONS` is all that may happen,
and the engine obeys. Times are of one monotonic clock, in seconds.

Two things end every function: the run has a time at which it is looked at next (`due`), or only
news brings a look: a hint, a scan, a turn that comes up, a person. A run that waits for its turn
or for the backend is in the queue, which is no less certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modeldrop.intake.observation import Observation
from modeldrop.intake.settling import History, State, Step, Verdict
from modeldrop.records import Refused
from modeldrop.structs import Frozen, replace

# Which state may follow which; that one follows itself, with another reason, goes without saying.
_BEFORE: Final = frozenset({State.OPEN, State.SETTLING, State.BLOCKED, State.PARKED})
_AFTER: Final = frozenset({State.COMMITTED, State.KEPT})
_GONE: Final = frozenset({State.MOVED, State.DELETED})
TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    **dict.fromkeys(_BEFORE, _BEFORE | {State.UPLOADING, State.COMMITTED, State.IGNORED}),
    State.UPLOADING: _BEFORE | {State.VERIFYING, State.COMMITTED, State.IGNORED},
    State.VERIFYING: _BEFORE | {State.COMMITTED, State.IGNORED},
    # What is changed later is looked at as if it were new; its past stays committed.
    **dict.fromkeys(_AFTER, _BEFORE | _AFTER | _GONE | {State.UPLOADING, State.IGNORED}),
    # The folder is gone; one that comes in its place begins anew.
    **dict.fromkeys(_GONE, frozenset({State.OPEN})),
    State.IGNORED: frozenset({State.OPEN}),
}

# How soon a run is looked at again when something changed under the look itself.
_SOON: Final = 0.2
# Doubling further than this would only overflow.
_MOST_DOUBLINGS: Final = 30

QUEUED: Final = "complete; waits for its turn"
REGISTERING: Final = "being registered"


class Standing(Frozen):
    """Where a run stands, and when it is looked at next."""

    history: History
    state: State = State.OPEN
    reason: str = "not looked at yet"
    since: float = 0.0
    """When it took its state."""
    due: float | None = None
    """When it is looked at next; None: at news only."""
    not_before: float = 0.0
    """Hints and scans bring no look before this: something else is waited for."""
    failures: int = 0
    """How many attempts in a row failed."""
    changes: int = 0
    """How many times in a row it changed while it was stored."""
    parked: str | None = None
    """The signature of what can't be stored; only another one brings the run back."""
    revision: int = 0
    """Its last revision that is known to exist."""
    refused: tuple[Refused, ...] = ()
    """What of it isn't stored, and why."""
    unregistered: Refused | None = None
    """Why it isn't registered, though it says that it is to be."""

    @property
    def complaints(self) -> tuple[Refused, ...]:
        """Whatever is not with it as it says of itself, and why."""
        return self.refused if self.unregistered is None else (*self.refused, self.unregistered)

    @property
    def is_stored(self) -> bool:
        """Whether all of it that can be stored is."""
        return self.state in _AFTER | _GONE

    def is_at_rest(self, reason: str, refused: tuple[Refused, ...]) -> bool:
        """Return whether it is committed for this reason, with this refused, and nothing is due."""
        return (
            self.state is State.COMMITTED
            and self.due is None
            and self.reason == reason
            and self.refused == refused
        )

    @property
    def is_gone(self) -> bool:
        """Whether its folder isn't there any more, by our own doing."""
        return self.state in _GONE


class Patience(Frozen):
    """How long failures are waited out: seconds before the first retry, and at most."""

    first: float = 1.0
    most: float = 300.0

    def after(self, failures: int, luck: float) -> float:
        """Return how long to wait after so many failures in a row.

        `luck`, of 0 to 1, spreads those that failed together over half of that time.
        """
        most = doubled(self.first, failures, self.most)
        return most * (1 + luck) / 2


def doubled(first: float, times: int, most: float) -> float:
    """Return a pause that is doubled each time, and capped."""
    pause: float = first * 2 ** min(max(times - 1, 0), _MOST_DOUBLINGS)
    return min(pause, most)


def looked(
    standing: Standing, verdict: Verdict, refused: tuple[Refused, ...], now: float
) -> Standing:
    """Return the standing after a look; where its step is to store, the run waits for its turn.

    `refused` is what the look saw that can't be stored.
    """
    history = verdict.history
    if verdict.step is Step.STORE:
        return _become(standing, State.SETTLING, QUEUED, now, history=history)
    if verdict.state is State.COMMITTED:
        refused = standing.refused or refused
        if standing.history is history and standing.is_at_rest(verdict.reason, refused):
            # Nearly every look of a sweep.
            return standing
        if standing.state is State.KEPT:
            return replace(standing, history=history, refused=refused, due=None)
    else:
        refused = standing.refused
    due = None if verdict.wake_after is None else now + verdict.wake_after
    return _become(
        standing, verdict.state, verdict.reason, now, due, history=history, refused=refused
    )


def arrived(standing: Standing) -> Standing:
    """Return the standing after a hint that the run was just moved into staging in one piece."""
    return replace(standing, history=standing.history.arrived_whole(), not_before=0.0)


def disturbed(standing: Standing, reason: str, now: float) -> Standing:
    """Return the standing after something changed under the look itself."""
    return _become(standing, State.SETTLING, reason, now, now + _SOON)


def begun(standing: Standing, now: float) -> Standing:
    """Return the standing of a run whose bytes are being sent."""
    return _become(standing, State.UPLOADING, "", now)


def verifying(standing: Standing, now: float) -> Standing:
    """Return the standing of a run all of whose bytes are at the backend."""
    return _become(standing, State.VERIFYING, "", now)


def committed(
    standing: Standing,
    observation: Observation,
    revision: int,
    refused: tuple[Refused, ...],
    now: float,
) -> Standing:
    """Return the standing after this observation became, or was found to be, a revision."""
    return _become(
        standing,
        State.COMMITTED,
        "",
        now,
        history=standing.history.committed_with(observation, now),
        failures=0,
        changes=0,
        not_before=0.0,
        parked=None,
        revision=revision,
        refused=refused,
        unregistered=None,
    )


def changed(standing: Standing, reason: str, quiet_time: float, now: float) -> Standing:
    """Return the standing after the run changed while it was stored: its quiet begins anew."""
    changes = standing.changes + 1
    due = now + doubled(_SOON, changes, max(quiet_time, _SOON))
    return _become(standing, State.SETTLING, reason, now, due, changes=changes, not_before=due)


def recognised(standing: Standing, history: History, revision: int, now: float) -> Standing:
    """Return the standing of a run that was found to be stored as it was before it changed.

    `history` has that commit in it, by which the run is judged once more.
    """
    reason = f"changed since revision {revision} was stored"
    return _become(standing, State.SETTLING, reason, now, now, history=history, revision=revision)


def failed(
    standing: Standing, reason: str, patience: Patience, luck: float, now: float
) -> Standing:
    """Return the standing after an attempt failed for a reason that may pass by itself."""
    failures = standing.failures + 1
    due = now + patience.after(failures, luck)
    return _become(standing, State.BLOCKED, reason, now, due, failures=failures, not_before=due)


def waits_for_backend(standing: Standing, reason: str, now: float) -> Standing:
    """Return the standing of a run in the queue while the backend is away."""
    return _become(standing, State.BLOCKED, reason, now, not_before=0.0)


def refused(standing: Standing, reason: str, signature: str | None, now: float) -> Standing:
    """Return the standing of a run that can't be stored until a person changes something in it."""
    return _become(
        standing, State.PARKED, reason, now, parked=signature, failures=0, not_before=0.0
    )


def interrupted(standing: Standing, now: float) -> Standing:
    """Return the standing of a run whose attempt the service's own end cut off."""
    return _become(standing, State.OPEN, "the service stopped before it was stored", now)


def kept_until(standing: Standing, due: float) -> Standing:
    """Return the standing of a stored run whose staged copy is looked at again then."""
    return replace(standing, due=due)


def stays(standing: Standing, reason: str, patience: Patience, luck: float, now: float) -> Standing:
    """Return the standing of a stored run whose staged copy could not be moved or deleted now."""
    failures = standing.failures + 1
    due = now + patience.after(failures, luck)
    return _become(standing, State.COMMITTED, reason, now, due, failures=failures)


def registering(standing: Standing, now: float) -> Standing:
    """Return the standing of a stored run that is being registered."""
    return _become(standing, standing.state, REGISTERING, now)


def registered(standing: Standing, now: float) -> Standing:
    """Return the standing of a stored run that was registered."""
    return _become(standing, standing.state, "", now, unregistered=None)


def unregistered(
    standing: Standing, complaint: Refused, now: float, due: float | None = None
) -> Standing:
    """Return the standing of a stored run that could not be registered, and when it is tried."""
    return _become(standing, standing.state, "", now, due, unregistered=complaint)


def settled(standing: Standing, state: State, reason: str, now: float) -> Standing:
    """Return the standing of a stored run whose staged copy was moved, deleted, or is to stay."""
    return _become(standing, state, reason, now)


def ignored(standing: Standing, reason: str, now: float) -> Standing:
    """Return the standing of a run that a person wants left alone."""
    return _become(standing, State.IGNORED, reason, now, failures=0, changes=0, not_before=0.0)


def retried(standing: Standing, now: float) -> Standing:
    """Return the standing of a run that a person wants tried again, now."""
    return _become(
        standing,
        State.OPEN,
        "to be tried again",
        now,
        now,
        failures=0,
        changes=0,
        not_before=0.0,
        parked=None,
    )


def _become(
    standing: Standing,
    state: State,
    reason: str,
    now: float,
    due: float | None = None,
    **changes: Any,  # noqa: ANN401 - fields of a standing, of which `replace` knows the names
) -> Standing:
    since = standing.since if standing.state is state else now
    # Once for all of it: a hundred thousand runs change their state a few times each.
    return replace(standing, state=state, reason=reason, since=since, due=due, **changes)
