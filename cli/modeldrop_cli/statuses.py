"""Runs in staging, as `scan` and `status` show them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from modeldrop.intake import RunStatus
from modeldrop.records import Refused
from modeldrop_cli.objects import RefusedObject, RunStatusObject
from modeldrop_cli.output import size, when

STORED: Final = frozenset({"committed", "kept", "moved", "deleted"})


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
        "refused": [junk_object(each.path, each.reason) for each in status.refused],
    }


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
    if status.state in STORED and status.revision:
        parts.append(f"revision {status.revision}")
    if status.state == "blocked" and status.next_try_at:
        parts.append(f"next try {when(status.next_try_at)}")
    return "; ".join(parts)
