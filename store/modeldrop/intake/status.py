"""What the intake says of itself: a status file, replaced whole, for people and programs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import ClassVar

from modeldrop import locks
from modeldrop.errors import IntegrityError, NotFound
from modeldrop.files import write_quick
from modeldrop.home import Home
from modeldrop.intake import memory, walk
from modeldrop.intake.settling import State
from modeldrop.names import printable
from modeldrop.records import Part, Record, Refused, parts_of

# What is done; everything else is shown until it is.
DONE: frozenset[str] = frozenset(
    {State.COMMITTED.value, State.KEPT.value, State.MOVED.value, State.DELETED.value}
)

# What holds as it was said when the service ended; nothing settles or moves without it.
_LASTING: frozenset[str] = frozenset({State.OPEN.value, State.BLOCKED.value, State.PARKED.value})


@dataclass(frozen=True, slots=True)
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
    refused: tuple[Refused, ...] = parts_of(Refused)

    @property
    def needs_attention(self) -> bool:
        """Whether it is parked or blocked, or a part of it was refused."""
        return self.state in (State.PARKED.value, State.BLOCKED.value) or bool(self.refused)


@dataclass(frozen=True, slots=True)
class _StatusRecord(Record):
    """`service/status.json`."""

    kind: ClassVar[str] = "status"
    at: str
    started_at: str
    watcher: str
    committed: int
    runs: tuple[RunStatus, ...] = parts_of(RunStatus)
    junk: tuple[Refused, ...] = parts_of(Refused)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The service, and every run in staging that needs something still."""

    pid: int | None
    """The service's process id; None if it isn't running, 0 if it hasn't said yet."""
    started_at: str | None
    at: str | None
    watcher: str
    committed: int
    runs: tuple[RunStatus, ...]
    junk: tuple[Refused, ...]


def write_status(
    home: Home,
    *,
    at: str,
    started_at: str,
    watcher: str,
    committed: int,
    runs: tuple[RunStatus, ...],
    junk: tuple[Refused, ...],
) -> None:
    """Replace the status file; that it can't be written is no error of the service's."""
    record = _StatusRecord(at, started_at, watcher, committed, runs, junk)
    with contextlib.suppress(OSError):
        write_quick(home.paths.status(), record.to_bytes())


def read_status(home: Home) -> ServiceStatus:
    """Return what the service said last, or what is in staging where none is running."""
    pid = locks.holder(home.paths.service_lock())
    path = home.paths.status()
    try:
        said = _StatusRecord.from_bytes(path.read_bytes(), str(path))
    except (OSError, IntegrityError):
        said = _StatusRecord("", "", "none", 0, (), ())
    if pid is not None:
        return ServiceStatus(
            pid, said.started_at, said.at, said.watcher, said.committed, said.runs, said.junk
        )
    return _without_service(home, said)


def _without_service(home: Home, said: _StatusRecord) -> ServiceStatus:
    known = {each.run: each for each in said.runs}
    runs: list[RunStatus] = []
    junk: list[Refused] = []
    committed = 0
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
            committed += 1
            if before is not None and before.refused:
                runs.append(replace(before, state=State.COMMITTED.value, next_try_at=None))
        elif before is not None and before.state in _LASTING:
            runs.append(replace(before, next_try_at=None))
        else:
            runs.append(_waiting(each.guid, printable(each.name), said.at, remembered))
    return ServiceStatus(None, None, said.at or None, "none", committed, tuple(runs), tuple(junk))


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
        refused=(),
    )


def _is_as_remembered(home: Home, name: str, signature: str) -> bool:
    with contextlib.suppress(NotFound, OSError):
        return walk.observe(home.staging, name).signature() == signature
    return False
