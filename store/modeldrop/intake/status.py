"""What the intake says of itself: a status file, replaced whole, for people and programs."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Final

from modeldrop import locks
from modeldrop.errors import IntegrityError, NotFound
from modeldrop.files import write_quick
from modeldrop.form import Part, Record
from modeldrop.home import Home
from modeldrop.intake import memory, walk
from modeldrop.intake.settling import State
from modeldrop.intake.summary import Summary
from modeldrop.names import printable
from modeldrop.records import Refused
from modeldrop.structs import Frozen, replace

# What is done; everything else is shown until it is.
DONE: frozenset[str] = frozenset(
    {State.COMMITTED.value, State.KEPT.value, State.MOVED.value, State.DELETED.value}
)

# How many runs the status file names; its counts are whole.
MOST_SHOWN: Final = 1000

# What holds as it was said when the service ended; nothing settles or moves without it.
_LASTING: frozenset[str] = frozenset(
    {State.OPEN.value, State.BLOCKED.value, State.PARKED.value, State.IGNORED.value}
)


class RunStatus(Part):
    """Where one run stands. Times are UTC, RFC 3339; sizes in bytes."""

    run: str
    folder: str
    state: str
    reason: str
    since: str
    next_try_at: str | None
    revision: int | None
    sent: int
    size: int
    rate: int
    """Bytes a second that are being sent of it, over the last few seconds."""
    refused: tuple[Refused, ...]

    @property
    def needs_attention(self) -> bool:
        """Whether it is parked or blocked, or a part of it was refused."""
        return self.state in (State.PARKED.value, State.BLOCKED.value) or bool(self.refused)


class _Count(Part):
    state: str
    runs: int


class _StatusRecord(Record):
    """`service/status.json`."""

    kind: ClassVar[str] = "status"
    indent: ClassVar[int | None] = None
    at: str
    started_at: str
    watcher: str
    overflows: int
    rebuilds: int
    backend: str
    backend_since: str | None
    backend_next_try_at: str | None
    queued: int
    counts: tuple[_Count, ...]
    runs: tuple[RunStatus, ...]
    junk: tuple[Refused, ...]


_NOTHING_SAID: Final = _StatusRecord("", "", "none", 0, 0, "", None, None, 0, (), (), ())


class WatcherStatus(Frozen):
    """How the service learns of changes, and what went wrong with that since its start."""

    state: str = "none"
    """`events`, `none`, or how staging is scanned instead, and why."""
    overflows: int = 0
    """How many times the kernel dropped events, each of which a full scan made good."""
    rebuilds: int = 0
    """How many times the watch was built anew."""


class ServiceStatus(Frozen):
    """The service, and the runs in staging that need something still."""

    pid: int | None
    """The service's process id; None if it isn't running, 0 if it hasn't said yet."""
    started_at: str | None
    at: str | None
    watcher: WatcherStatus
    backend: str
    """Why the backend is waited for; empty while it answers."""
    backend_since: str | None
    backend_next_try_at: str | None
    queued: int
    """Runs that are complete and wait for their turn."""
    counts: Mapping[str, int]
    """How many runs are in each state; of a state that isn't named there is none."""
    runs: tuple[RunStatus, ...]
    """Those that aren't stored, or not whole; at most `MOST_SHOWN`, the most urgent first."""
    junk: tuple[Refused, ...]

    @property
    def committed(self) -> int:
        """How many runs in staging are stored."""
        return sum(self.counts.get(state, 0) for state in DONE)


def write_status(
    home: Home,
    *,
    at: str,
    started_at: str,
    watcher: WatcherStatus,
    summary: Summary,
    runs: tuple[RunStatus, ...],
    junk: tuple[Refused, ...],
) -> None:
    """Replace the status file; that it can't be written is no error of the service's."""
    record = _StatusRecord(
        at=at,
        started_at=started_at,
        watcher=watcher.state,
        overflows=watcher.overflows,
        rebuilds=watcher.rebuilds,
        backend=summary.backend,
        backend_since=summary.backend_since,
        backend_next_try_at=summary.backend_next_try_at,
        queued=summary.queued,
        counts=tuple(_Count(state, runs) for state, runs in summary.runs.items() if runs),
        runs=runs,
        junk=junk,
    )
    with contextlib.suppress(OSError):
        write_quick(home.paths.status(), record.to_bytes())


def read_status(home: Home) -> ServiceStatus:
    """Return what the service said last, or what is in staging where none is running."""
    pid = locks.holder(home.paths.service_lock())
    path = home.paths.status()
    try:
        said = _StatusRecord.from_bytes(path.read_bytes(), str(path))
    except (OSError, IntegrityError):
        said = _NOTHING_SAID
    if pid is None:
        return _without_service(home, said)
    return ServiceStatus(
        pid=pid,
        started_at=said.started_at,
        at=said.at,
        watcher=WatcherStatus(said.watcher, said.overflows, said.rebuilds),
        backend=said.backend,
        backend_since=said.backend_since,
        backend_next_try_at=said.backend_next_try_at,
        queued=said.queued,
        counts={each.state: each.runs for each in said.counts},
        runs=said.runs,
        junk=said.junk,
    )


def _without_service(home: Home, said: _StatusRecord) -> ServiceStatus:
    known = {each.run: each for each in said.runs}
    runs: list[RunStatus] = []
    junk: list[Refused] = []
    counts: Counter[str] = Counter()
    try:
        found = list(walk.runs(home.staging))
    except (NotFound, OSError) as error:
        found = []
        shown = printable(str(home.staging))
        junk.append(Refused(shown, printable(f"staging can't be read: {error}")))
    for each in found:
        if each.guid is None:
            junk.append(Refused(printable(each.name), each.reason or ""))
            continue
        before = known.get(each.guid)
        remembered = memory.recall(home.paths, each.guid)
        if remembered and _is_as_remembered(home, each.name, remembered.signature):
            counts[State.COMMITTED.value] += 1
            if before is not None and before.refused:
                runs.append(replace(before, state=State.COMMITTED.value, next_try_at=None))
            elif remembered.wish is not None:
                runs.append(_unregistered(each.guid, printable(each.name), said.at, remembered))
            continue
        if before is not None and before.state in _LASTING:
            runs.append(replace(before, next_try_at=None))
        else:
            runs.append(_waiting(each.guid, printable(each.name), said.at, remembered))
        counts[runs[-1].state] += 1
    return ServiceStatus(
        pid=None,
        started_at=None,
        at=said.at or None,
        watcher=WatcherStatus(),
        backend="",
        backend_since=None,
        backend_next_try_at=None,
        queued=0,
        counts=counts,
        runs=tuple(sorted(runs, key=_urgency)[:MOST_SHOWN]),
        junk=tuple(junk),
    )


def _urgency(status: RunStatus) -> int:
    """Return what sorts those that need somebody before those that go on by themselves."""
    return not status.needs_attention


def _waiting(guid: str, folder: str, at: str, remembered: memory.RunMemory | None) -> RunStatus:
    return RunStatus(
        run=guid,
        folder=folder,
        state=State.OPEN.value,
        reason="no service is running to store it",
        since=at,
        next_try_at=None,
        revision=remembered.revision if remembered else None,
        sent=0,
        size=remembered.size if remembered else 0,
        rate=0,
        refused=(),
    )


def _unregistered(guid: str, folder: str, at: str, remembered: memory.RunMemory) -> RunStatus:
    assert remembered.wish is not None  # noqa: S101 - the caller has looked
    reason = "not registered: no service is running to do it"
    return replace(
        _waiting(guid, folder, at, remembered),
        state=State.COMMITTED.value,
        reason="",
        sent=remembered.size,
        refused=(Refused(remembered.wish.said_in, reason),),
    )


def _is_as_remembered(home: Home, name: str, signature: str) -> bool:
    with contextlib.suppress(NotFound, OSError):
        return walk.observe(home.staging, name).signature() == signature
    return False
