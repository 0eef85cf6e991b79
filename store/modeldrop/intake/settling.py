"""Is this run complete? A judgement over observations and a clock, without I/O.

    open → settling → uploading → verifying → committed → kept | moved | deleted
    blocked: tried again by itself        parked: needs a person
    ignored: a person wants it left alone

Call `judge` at each look, with the `History` that the last verdict came with, and obey its step:

    WAIT    nothing to do now; look again after `wake_after` seconds, or when something changes
    PROBE   complete unless somebody writes: ask the lease, and judge again with its answer
    STORE   complete: store what was observed, then note it by `History.committed_with`

What makes a run complete, of which the first two are its *proof* and need no quiet:

- a `_SUCCESS` that is newer than the last commit, once all that it lists is there;
- the run folder arrived whole, by one rename, and is as it was then;
- nothing changed for the quiet time, by this process's own observation. What the mtimes say is
  not asked: `cp -p` sets them back, and clocks differ.

No proof and no quiet stores what a program has open for writing, and temporary files hold a run
open whatever else is true. The quiet time is longer where writers can't be seen, and where a file
is empty: it was created, and its bytes may still come.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Self

from modeldrop.intake.lease import Writers
from modeldrop.intake.marker import Marker
from modeldrop.intake.observation import Observation, Signature
from modeldrop.names import MARKER, printable
from modeldrop.records import Refused
from modeldrop.structs import Frozen, Struct, replace

# From here on a reason says for how long the run has been changing.
_A_WHILE: Final = 60.0
# While somebody writes, look again after a tenth of the time that nothing else moved, within these.
_SOONEST_LOOK: Final = 1.0
_LATEST_LOOK: Final = 10.0
# A sum of floats may end just short of the quiet time: without a least wait, that is a busy loop.
_TICK: Final = 0.01


class State(enum.Enum):
    """Where a run is on its way, as `status` shows it."""

    OPEN = "open"
    SETTLING = "settling"
    UPLOADING = "uploading"
    VERIFYING = "verifying"
    COMMITTED = "committed"
    KEPT = "kept"
    MOVED = "moved"
    DELETED = "deleted"
    BLOCKED = "blocked"
    PARKED = "parked"
    IGNORED = "ignored"


class Step(enum.Enum):
    """What to do after a judgement."""

    WAIT = "wait"
    PROBE = "probe"
    STORE = "store"


class Settings(Frozen):
    """When a run counts as complete; times in seconds.

    `complete` is "quiet" or "marker": then a `_SUCCESS` or an arrival in one piece is all that
    completes a run. `config` checks it. A run with more than `most_files` or `most_bytes` is
    parked; 0 is no limit.
    """

    quiet_time: float = 5.0
    quiet_time_without_lease: float = 30.0
    quiet_time_network: float = 120.0
    revision_interval: float = 600.0
    complete: str = "quiet"
    most_files: int = 100_000
    most_bytes: int = 0


class History(Frozen):
    """What is remembered of one run between two looks; times are of one monotonic clock.

    `since` is when the quiet began: when the signature changed last, or when a writer was found
    to be gone. `changing_since` is when the changes began that no quiet has ended yet. `whole` is
    the signature with which the run arrived whole. After a restart of the service only the three
    fields of the last commit are worth keeping: the quiet time simply begins anew.
    """

    signature: str | None = None
    since: float = 0.0
    changing_since: float | None = None
    writer: bool = False
    arriving: bool = False
    whole: str | None = None
    committed: str | None = None
    committed_marker: Signature | None = None
    committed_at: float | None = None

    def arrived_whole(self) -> Self:
        """Return the history after a hint that the run was just moved into staging in one piece.

        The next observation is taken for what arrived, and any change of it ends the proof.
        """
        return replace(self, arriving=True)

    def committed_with(self, observation: Observation, now: float) -> Self:
        """Return the history after this observation was stored, or found to be stored already."""
        return replace(
            self,
            whole=None,
            changing_since=None,
            committed=observation.signature(),
            committed_marker=observation.marker.signature if observation.marker else None,
            committed_at=now,
        )


class Verdict(Frozen):
    """What a look came to: where the run stands and why, what to do, when to look again.

    `reason` is printable and fit for `status`. `wake_after` is in seconds; None means that only a
    change, or the next scan of everything, brings news.
    """

    state: State
    step: Step
    reason: str
    wake_after: float | None
    history: History


def has_news(history: History, observation: Observation) -> bool:
    """Return whether the run has a marker that it hadn't at its last commit, so that it matters."""
    marker = observation.marker
    return marker is not None and marker.signature != history.committed_marker


def judge(
    history: History,
    observation: Observation,
    writers: Writers | None,
    now: float,
    settings: Settings,
    *,
    marker: Marker | Refused | None = None,
    network: bool = False,
) -> Verdict:
    """Return where a run stands.

    `writers` is None until the verdict before asked for a probe. `marker` is what `marker.read`
    made of the observed marker; it is needed where `has_news`, and None if it could not be read.
    `network` is `lease.is_network` of the run: nobody is probed there.
    """
    if network:
        writers = Writers.UNKNOWN
    history = _seen(history, observation, writers, now)
    case = _Case(history, observation, writers, now, settings, marker, network)
    for rule in _RULES:
        verdict = rule(case)
        if verdict is not None:
            return verdict
    return _complete(case)


def _seen(
    history: History, observation: Observation, writers: Writers | None, now: float
) -> History:
    """Return the history with this look in it."""
    changing, committed = history.changing_since, history.committed_at
    if max(history.since, changing or now, committed or now) > now:
        # It was kept over a reboot, and is ahead of the clock.
        history = replace(
            history,
            since=min(history.since, now),
            changing_since=None if changing is None else min(changing, now),
            committed_at=None if committed is None else min(committed, now),
        )
    signature = observation.signature()
    if signature != history.signature:
        began = now if history.changing_since is None else history.changing_since
        history = replace(history, signature=signature, since=now, changing_since=began)
    if history.arriving:
        history = replace(history, arriving=False, whole=signature)
    elif history.whole not in {None, signature}:
        history = replace(history, whole=None)
    if history.writer and writers not in {None, Writers.SOME}:
        # It left at a time that nobody knows, and may come back as soon: quiet begins now.
        history = replace(history, writer=False, since=now)
    return history


class _Case(Struct):
    """One run at one look, and what the rules below ask about it."""

    history: History
    observation: Observation
    writers: Writers | None
    now: float
    settings: Settings
    marker: Marker | Refused | None
    network: bool

    @property
    def has_news(self) -> bool:
        return has_news(self.history, self.observation)

    @property
    def is_proven(self) -> bool:
        """Whether the run is complete by its own word; holds once `_marker_speaks` has passed."""
        return self.has_news or self.history.whole == self.history.signature

    @property
    def quiet_for(self) -> float:
        return self.now - self.history.since

    @property
    def quiet_needed(self) -> float:
        needed = self.settings.quiet_time
        empty = any(file.signature.size == 0 for file in self.observation.files)
        if empty or self.writers is Writers.UNKNOWN:
            needed = max(needed, self.settings.quiet_time_without_lease)
        if self.network:
            needed = max(needed, self.settings.quiet_time_network)
        return needed

    @property
    def is_quiet(self) -> bool:
        return self.quiet_for >= self.quiet_needed

    @property
    def quiet_left(self) -> float:
        return max(self.quiet_needed - self.quiet_for, _TICK)

    def verdict(
        self,
        state: State,
        reason: str,
        wake_after: float | None = None,
        step: Step = Step.WAIT,
    ) -> Verdict:
        return Verdict(state, step, reason, wake_after, self.history)


def _unreadable(case: _Case) -> Verdict | None:
    found = case.observation.unreadable
    if not found:
        return None
    reason = f"{found[0].path} can't be read: {found[0].reason}{_and_more(len(found))}"
    # A permission that comes back further up changes nothing that is seen here.
    return case.verdict(State.BLOCKED, reason, case.settings.quiet_time_without_lease)


def _stored_already(case: _Case) -> Verdict | None:
    if case.history.signature != case.history.committed:
        return None
    return case.verdict(State.COMMITTED, "stored as it is")


def _held_open(case: _Case) -> Verdict | None:
    found = case.observation.temporary
    if not found:
        return None
    reason = f"held open by the temporary {printable(found[0])}{_and_more(len(found))}"
    return case.verdict(State.OPEN, reason)


def _nothing_to_store(case: _Case) -> Verdict | None:
    if case.observation.files:
        return None
    refused = case.observation.refused
    if not refused:
        return case.verdict(State.OPEN, "nothing to store yet")
    reason = (
        f"nothing in it can be stored: {refused[0].path}: {refused[0].reason}"
        f"{_and_more(len(refused))}"
    )
    return _parked_once_quiet(case, reason)


def _too_much(case: _Case) -> Verdict | None:
    settings, files = case.settings, case.observation.files
    if case.observation.crowded or (settings.most_files and len(files) > settings.most_files):
        reason = f"it holds more than {settings.most_files} files, the most that one run may hold"
    elif settings.most_bytes and case.observation.size() > settings.most_bytes:
        size, most = case.observation.size(), settings.most_bytes
        reason = f"it holds {size} bytes, of {most} that one run may hold"
    else:
        return None
    return _parked_once_quiet(case, reason)


def _marker_speaks(case: _Case) -> Verdict | None:
    """Judge by a marker that is newer than the last commit, unless it says "complete"."""
    if not case.has_news:
        return None
    if case.marker is None:
        return case.verdict(State.SETTLING, f"{MARKER} could not be read yet", _SOONEST_LOOK)
    if isinstance(case.marker, Refused):
        return _parked_once_quiet(case, f"{MARKER} can't be understood: {case.marker.reason}")
    missing = case.marker.check(case.observation)
    if not missing:
        return None
    reason = (
        f"{len(missing)} of {len(case.marker.paths)} that {MARKER} lists "
        f"{'is' if len(missing) == 1 else 'are'} not there: {_some(missing)}"
    )
    return case.verdict(State.OPEN, reason)


def _waits_for_marker(case: _Case) -> Verdict | None:
    if case.is_proven or case.settings.complete != "marker":
        return None
    again = "a new " if case.observation.marker is not None else ""
    return case.verdict(State.OPEN, f'waits for {again}{MARKER} (complete = "marker")')


def _too_soon_for_a_revision(case: _Case) -> Verdict | None:
    if case.is_proven or case.history.committed is None or case.history.committed_at is None:
        return None
    left = case.history.committed_at + case.settings.revision_interval - case.now
    if left <= 0:
        return None
    reason = f"changed since it was stored; the next revision is due in {_spell(left)}"
    return case.verdict(State.SETTLING, reason, max(left, case.quiet_left))


def _not_quiet(case: _Case) -> Verdict | None:
    if case.is_proven:
        return None
    if case.is_quiet:
        case.history = replace(case.history, changing_since=None)
        return None
    needed = _spell(case.quiet_needed)
    began = case.history.changing_since
    if began is not None and case.now - began >= _A_WHILE:
        # The ctime is the one time that programs can't set.
        newest = max(case.observation.everything(), key=lambda file: file.signature.ctime_ns)
        reason = (
            f"it has been changing for {_spell(case.now - began)}, never quiet for {needed}; "
            f"{printable(newest.path)} changed last"
        )
    else:
        reason = f"unchanged for {_spell(case.quiet_for)} of the {needed} that it takes"
    return case.verdict(State.SETTLING, reason, case.quiet_left)


def _complete(case: _Case) -> Verdict:
    """Judge a run that is complete unless somebody writes to it."""
    if case.writers is None:
        return case.verdict(State.SETTLING, "complete unless somebody writes", 0.0, Step.PROBE)
    if case.writers is Writers.SOME:
        case.history = replace(case.history, writer=True)
        reason = "a program has one of its files open for writing"
        if case.quiet_for >= _A_WHILE:
            reason += f"; nothing else has moved for {_spell(case.quiet_for)}"
        soon = min(max(case.quiet_for / 10, _SOONEST_LOOK), _LATEST_LOOK)
        return case.verdict(State.SETTLING, reason, soon)
    return case.verdict(State.SETTLING, "complete, to be stored", 0.0, Step.STORE)


def _parked_once_quiet(case: _Case, reason: str) -> Verdict:
    # Not at once: whoever is still writing it may have it right in a second.
    if case.is_quiet:
        return case.verdict(State.PARKED, reason)
    return case.verdict(State.SETTLING, reason, case.quiet_left)


# In this order; the first that has a verdict decides, and `_complete` where none has.
_RULES: Final[tuple[Callable[[_Case], Verdict | None], ...]] = (
    _unreadable,
    _stored_already,
    _held_open,
    _too_much,
    _nothing_to_store,
    _marker_speaks,
    _waits_for_marker,
    _too_soon_for_a_revision,
    _not_quiet,
)


def _and_more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _some(paths: tuple[str, ...]) -> str:
    shown = ", ".join(printable(path) for path in paths[:3])
    return f"{shown}, …" if len(paths) > 3 else shown  # noqa: PLR2004 - three name the kind


def _spell(seconds: float) -> str:
    """Return a time for people, in the largest unit of which there are two or more."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
