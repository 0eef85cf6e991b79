"""The service and the runs in staging, as `scan` and `status` show them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from modeldrop.home import Home
from modeldrop.intake import RunStatus, ServiceStatus
from modeldrop.intake.settling import State
from modeldrop.records import Refused
from modeldrop_cli.objects.dropping import RefusedObject, RunStatusObject, StatusObject
from modeldrop_cli.output import duration, size, when

STORED: Final = frozenset({"committed", "kept", "moved", "deleted"})
NOT_RUNNING: Final = "Start `modeldropd` to store what is dropped, or run `modeldrop scan --once`."


def is_junk(status: RunStatus) -> bool:
    """Return whether this is an entry of staging that is no run."""
    return not status.run


def run_object(status: RunStatus, staging: Path) -> RunStatusObject:
    """Return the JSON object of a run."""
    return {
        "run": status.run,
        "folder": str(staging / status.folder),
        "state": status.state,
        "reason": status.reason,
        "since": status.since,
        "next_try_at": status.next_try_at,
        "revision": status.revision,
        "sent": status.sent,
        "size": status.size,
        "rate": status.rate,
        "seconds_left": _seconds_left(status),
        "refused": [junk_object(each.path, each.reason) for each in status.refused],
    }


def status_object(home: Home, status: ServiceStatus) -> StatusObject:
    """Return the JSON object of the service and what isn't stored yet."""
    return {
        "home": str(home.paths.root),
        "backend": home.backend_url,
        "staging": str(home.staging),
        "service": {
            "running": status.pid is not None,
            "pid": status.pid,
            "started_at": status.started_at,
            "at": status.at,
            "watcher": status.watcher.state,
            "overflows": status.watcher.overflows,
            "rebuilds": status.watcher.rebuilds,
            "backend": status.backend,
            "backend_since": status.backend_since,
            "backend_next_try_at": status.backend_next_try_at,
            "queued": status.queued,
        },
        "committed": status.committed,
        "counts": dict(status.counts),
        "runs": [run_object(each, home.staging) for each in status.runs],
        "junk": [junk_object(each.path, each.reason) for each in status.junk],
    }


def status_fields(home: Home, status: ServiceStatus) -> dict[str, str]:
    """Return what is said of the service before its runs are listed; some of it may be empty."""
    total = sum(status.counts.values())
    queued = f"{status.queued} complete, waiting for their turn" if status.queued else ""
    return {
        "service": _service(status),
        "watcher": _watcher(status) if status.pid is not None else "",
        "home": str(home.paths.root),
        "backend": home.backend_url,
        "trouble": _trouble(status),
        "staging": str(home.staging),
        "stored": f"{status.committed} of {total} runs",
        "states": ", ".join(
            f"{status.counts[state.value]} {state.value}"
            for state in State
            if status.counts.get(state.value)
        ),
        "queued": queued,
    }


def hidden(status: ServiceStatus) -> int:
    """Return how many runs aren't stored and aren't named either, since there are too many."""
    named = sum(each.state not in STORED for each in status.runs)
    return max(sum(status.counts.values()) - status.committed - named, 0)


def _service(status: ServiceStatus) -> str:
    if status.pid is None:
        return "not running"
    # Neither is known at once when it starts.
    process = f", process {status.pid}" if status.pid else ""
    since = f", since {when(status.started_at)}" if status.started_at else ""
    return f"running{process}{since}"


def _watcher(status: ServiceStatus) -> str:
    watcher = status.watcher
    parts = [watcher.state]
    if watcher.overflows:
        parts.append(f"events lost {_times(watcher.overflows)}, each made good by a scan")
    if watcher.rebuilds:
        parts.append(f"built anew {_times(watcher.rebuilds)}")
    return "; ".join(parts)


def _trouble(status: ServiceStatus) -> str:
    if not status.backend:
        return ""
    since = f" since {when(status.backend_since)}" if status.backend_since else ""
    again = status.backend_next_try_at
    return f"waits for the backend{since}: {status.backend}" + (
        f"; next try {when(again)}" if again else ""
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def junk_object(path: str, reason: str) -> RefusedObject:
    """Return the JSON object of an entry that isn't stored."""
    return {"path": path, "reason": reason}


def run_rows(
    runs: Iterable[RunStatus], junk: Iterable[Refused] = ()
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of a listing: a line for each run, each refusal, all junk."""
    rows: list[tuple[str, ...]] = []
    for each in runs:
        name = each.folder if is_junk(each) else each.run
        rows.append((name, each.state, when(each.since), _reason(each)))
        rows += [(f"  {refused.path}", "refused", "", refused.reason) for refused in each.refused]
    rows += [(each.path, "junk", "", each.reason) for each in junk]
    return ("run", "state", "since", "reason"), rows


def _reason(status: RunStatus) -> str:
    parts = [status.reason] if status.reason else []
    if status.state == "uploading" and status.size:
        parts.append(f"{size(status.sent)} of {size(status.size)}")
        left = _seconds_left(status)
        if left is not None:
            parts.append(f"{size(status.rate)}/s, {duration(left)} left")
    if status.state in STORED and status.revision:
        parts.append(f"revision {status.revision}")
    if status.state == "blocked" and status.next_try_at:
        parts.append(f"next try {when(status.next_try_at)}")
    return "; ".join(parts)


def _seconds_left(status: RunStatus) -> int | None:
    if not status.rate:
        return None
    return math.ceil(max(status.size - status.sent, 0) / status.rate)
