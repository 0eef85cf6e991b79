"""Letting go of what is stored and nothing pins: it is marked, and collected a day later.

Candidates are superseded revisions, runs of which nothing is registered, and versions that were
retired. They are marked by a record that every host reads before it refers to them, and only what
was marked a day ago, and may go still, is collected; its bytes are deleted once the journal has
acknowledged that. Bytes that no manifest ever named go two weeks after their upload began.

Any number of hosts may collect at a time. What a crash leaves is settled by the next collection of
this home, and bytes that are left are deleted by the next one of any.

The order of all this is that of docs/format.md, "Letting go".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Final

from modeldrop import layout, pins
from modeldrop.collection import Part, State, state_of
from modeldrop.errors import BackendRefused, IntegrityError, NotFound
from modeldrop.form import moment
from modeldrop.parallel import in_turn
from modeldrop.pins import Pins, Sequences
from modeldrop.records import COLLECTED, KEPT, MARKED, Artifact, LetGo, Revision
from modeldrop.settings import GcSettings
from modeldrop.structs import Frozen

_log = logging.getLogger(__name__)

# How long a mark is to be seen before what it marks may go, and how old bytes have to be that no
# manifest names; `Runs.commit` and registrations count on both.
_MARKED_FOR: Final = timedelta(days=1)
_UNNAMED_FOR: Final = timedelta(days=14)
# Of most runs nothing was ever said: they share this.
_UNSAID: Final = State()


class Clock(Frozen):
    """The present, by the clock of this host and that of the backend, which may differ."""

    earliest: datetime
    latest: datetime


class Gone(Frozen):
    """Something that was marked, collected or deleted, or would be."""

    state: str
    """`MARKED` or `COLLECTED`; empty for bytes that no manifest names, or a crash left."""
    where: str
    """The artifact's reference, or the key of the bytes."""
    at: datetime
    """When it was committed, or its upload began."""
    size: int
    trouble: str = ""
    """Why it is still there; empty if it isn't."""


class _Listed(Frozen):
    """What one listing shows of a run."""

    files: dict[str, int]
    """The size of the bytes under each key."""
    manifests: dict[int, int]
    """The size of the manifest of each revision."""


class _Seen(Frozen):
    """What was seen of a run before what pins was read; there is one for each run of the store."""

    run: str
    state: State
    packed: str
    """What its listing shows, as text, which takes a third of the memory."""

    def listed(self) -> _Listed:
        files, manifests = json.loads(self.packed)
        return _Listed(
            {f"{self.run}/{below}": size for below, size in files.items()}, dict(manifests)
        )


def let_go(sequences: Sequences, clock: Clock, *, dry_run: bool) -> Iterator[Gone]:
    """Mark and collect what may go, and yield it; runs that can't be read are left alone.

    Raises:
        IntegrityError: what is pinned can't be known, so nothing goes.
        BackendError: the backend failed; what was collected before stays so.
    """
    if not dry_run:
        sequences.runs.collections.settle()
        sequences.retirements.settle()
    settings = sequences.home.config.gc
    threads = sequences.backend.capabilities.connections
    with ThreadPoolExecutor(threads, thread_name_prefix="collect") as pool:
        # In this order: marks, then what pins, then manifests.
        runs = sorted(sequences.runs.guids())
        looked = in_turn(pool, threads, _look(sequences), runs)
        seen = [each for each in looked if each is not None]
        there = (name for each in seen for name in _names(each))
        retired_before = clock.earliest - timedelta(seconds=settings.retired_after)
        pinned = pins.read(sequences, there, retired_before)
        _log.debug("step: pins read")
        judged = in_turn(pool, threads, _judge(sequences, pinned, settings, clock), seen)
        # Of another run's bytes no manifest should speak; one that does keeps them.
        candidates, foreign = [], set[str]()
        for each, (is_candidate, keys) in zip(seen, judged, strict=True):
            foreign |= keys
            if is_candidate:
                candidates.append(each)
    for each in candidates:
        yield from _Run(sequences, each, pinned, clock, foreign).collect(dry_run=dry_run)


def _names(seen: _Seen) -> Iterator[str]:
    yield from (f"run:{seen.run}~{number}" for number in seen.listed().manifests)
    yield from (f"run:{seen.run}#{number}" for number in range(1, seen.state.last + 1))


def _look(sequences: Sequences) -> Callable[[str], _Seen | None]:
    def look(run: str) -> _Seen | None:
        files: dict[str, int] = {}
        manifests: dict[int, int] = {}
        collections = []
        for each in sequences.backend.walk(run):
            number = layout.number_of(each.key)
            folder = each.key.rpartition("/")[0]
            if number and folder == layout.revisions(run):
                manifests[number] = each.size
            elif number and folder == layout.collections(run):
                collections.append(number)
            elif layout.upload_began(each.key):
                files[each.key.removeprefix(f"{run}/")] = each.size
        try:
            records = [sequences.runs.collections.record(run, each) for each in sorted(collections)]
        except IntegrityError as error:
            _log.warning("nothing of run %s is collected: %s", run, error)
            return None
        state = state_of(records) if records else _UNSAID
        return _Seen(run, state, json.dumps([files, list(manifests.items())]))

    return look


def _judge(
    sequences: Sequences, pinned: Pins, settings: GcSettings, clock: Clock
) -> Callable[[_Seen], tuple[bool, set[str]]]:
    """Return what tells whether a run has anything to collect, and which others' keys it has."""

    def judge(seen: _Seen) -> tuple[bool, set[str]]:
        listed = seen.listed()
        revisions = _read(sequences, seen.run, listed.manifests)
        if revisions is None:
            return False, set()
        foreign = {
            file.key
            for revision in revisions.values()
            for artifact in revision.artifacts
            for file in artifact.files
            if not file.key.startswith(f"{seen.run}/")
        }
        plan = _plan(seen.state, listed.files, revisions, pinned, settings, clock)
        return bool(plan.says or plan.deletes), foreign

    return judge


def _read(
    sequences: Sequences, run: str, manifests: Mapping[int, int]
) -> dict[int, Revision] | None:
    """Return the revisions of a run, or None if one of them can't be read."""
    if sorted(manifests) != list(range(1, len(manifests) + 1)):
        _log.warning("nothing of run %s is collected: revisions of it are missing", run)
        return None
    try:
        return {
            number: sequences.runs.manifest(run, number, size)
            for number, size in sorted(manifests.items())
        }
    except (IntegrityError, NotFound) as error:
        _log.warning("nothing of run %s is collected: %s", run, error)
        return None


class _Plan(Frozen):
    """What is to be said of a run's parts, and which keys are to be deleted after that."""

    says: Mapping[str, tuple[LetGo, ...]]
    deletes: tuple[str, ...]


def _plan(
    known: State,
    files: Mapping[str, int],
    revisions: Mapping[int, Revision],
    pinned: Pins,
    settings: GcSettings,
    clock: Clock,
) -> _Plan:
    may_go = _may_go(revisions, pinned, settings, clock)
    says: dict[str, list[LetGo]] = {}
    gone: set[Part] = set()
    for number, revision in revisions.items():
        for artifact in revision.artifacts:
            part = (number, artifact.artifact)
            state, why = known.of(*part), may_go.get(part)
            becomes = _becomes(state, why, known, part, clock)
            if COLLECTED in {state, becomes}:
                gone.add(part)
            if becomes:
                says.setdefault(becomes, []).append(LetGo(*part, why or "it is in use again"))
    named: dict[str, bool] = {}
    for number, revision in revisions.items():
        for artifact in revision.artifacts:
            for file in artifact.files:
                stays = (number, artifact.artifact) not in gone
                named[file.key] = named.get(file.key, False) or stays
    old = layout.upload_at(clock.earliest - _UNNAMED_FOR)
    deletes = [
        key
        for key in sorted(files)
        if (not named[key] if key in named else layout.upload_of(key) < old)
    ]
    return _Plan({state: tuple(parts) for state, parts in says.items()}, tuple(deletes))


def _becomes(state: str, why: str | None, known: State, part: Part, clock: Clock) -> str:
    """Return what is to be said of a part; empty if that is nothing."""
    if state == MARKED:
        if why is None:
            return KEPT
        record = (known.parts or {})[part]
        marked_at = moment(record.recorded_at, record.reference)
        return COLLECTED if marked_at < clock.earliest - _MARKED_FOR else ""
    return MARKED if why is not None and state != COLLECTED else ""


def _may_go(
    revisions: Mapping[int, Revision], pinned: Pins, settings: GcSettings, clock: Clock
) -> dict[Part, str]:
    """Return the parts of a run that nothing pins and that are to go, each with the reason."""
    if not revisions:
        return {}
    last = revisions[max(revisions)]
    whole_run = (
        settings.unregistered_after > 0
        and not pinned.any_of(last.run)
        and moment(last.written_at, f"run:{last.run}~{last.revision}")
        < clock.earliest - timedelta(seconds=settings.unregistered_after)
    )
    found: dict[Part, str] = {}
    for number, revision in revisions.items():
        for artifact in revision.artifacts:
            if pinned.holds(revision, artifact):
                continue
            retired = pinned.retired_by(revision, artifact)
            why = (
                (f"{retired} was retired" if retired else "")
                or ("nothing of its run is registered" if whole_run else "")
                or ("it is superseded" if number <= last.revision - settings.keep_revisions else "")
            )
            if why:
                found[number, artifact.artifact] = why
    return found


class _Run:
    """Collecting of one run."""

    def __init__(
        self,
        sequences: Sequences,
        seen: _Seen,
        pinned: Pins,
        clock: Clock,
        foreign: set[str],
    ) -> None:
        self._sequences = sequences
        self._run, self._state = seen.run, seen.state
        self._listed = seen.listed()
        self._pinned = pinned
        self._clock = clock
        self._foreign = foreign

    def collect(self, *, dry_run: bool) -> Iterator[Gone]:
        run, sequences = self._run, self._sequences
        # A revision that is new since it was listed may name what it took over.
        manifests = {**dict.fromkeys(sequences.runs.numbers(run), -1), **self._listed.manifests}
        revisions = _read(sequences, run, manifests)
        if revisions is None:
            return
        settings = sequences.home.config.gc
        files = self._listed.files
        plan = _plan(self._state, files, revisions, self._pinned, settings, self._clock)
        below = self._state.last
        for state in (KEPT, COLLECTED, MARKED):
            parts = plan.says.get(state, ())
            if not parts:
                continue
            if not dry_run:
                at = f"{self._clock.latest:%Y-%m-%dT%H:%M:%S.%fZ}"
                record = sequences.runs.collections.append(
                    run, state, parts, sequences.home.user, below=below, at=at
                )
                if record is None:
                    # Somebody else says something of this run just now: the next time.
                    return
                below = record.collection
            if state != KEPT:
                yield from self._told(state, parts, revisions)
        yield from self._delete(plan, revisions, dry_run=dry_run)

    def _told(
        self, state: str, parts: tuple[LetGo, ...], revisions: Mapping[int, Revision]
    ) -> Iterator[Gone]:
        for part in parts:
            revision = revisions[part.revision]
            artifact = _artifact(revision, part.artifact)
            name = f"run:{revision.run}~{revision.revision}"
            where, at = f"{name}/{artifact.artifact}", moment(revision.written_at, name)
            yield Gone(state, where, at, artifact.size)

    def _delete(
        self, plan: _Plan, revisions: Mapping[int, Revision], *, dry_run: bool
    ) -> Iterator[Gone]:
        # Told of by the artifacts that they are of.
        told = {
            file.key
            for part in plan.says.get(COLLECTED, ())
            for file in _artifact(revisions[part.revision], part.artifact).files
        }
        for key in plan.deletes:
            if key in self._foreign:
                continue
            trouble = ""
            try:
                if not dry_run:
                    self._sequences.backend.delete(key)
            except BackendRefused as error:
                trouble = error.message
            _log.debug("step: key deleted")
            if key not in told or trouble:
                began = layout.upload_began(key) or datetime.min.replace(tzinfo=UTC)
                yield Gone("", key, began, self._listed.files[key], trouble)


def _artifact(revision: Revision, name: str) -> Artifact:
    return next(each for each in revision.artifacts if each.artifact == name)
