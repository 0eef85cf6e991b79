"""What the engine is at, in numbers: for the status file, the metrics and the service manager."""

from __future__ import annotations

from collections.abc import Mapping

from modeldrop.intake.settling import State
from modeldrop.structs import Frozen, field


def no_runs() -> dict[str, int]:
    """Return a count of zero for every state."""
    return {state.value: 0 for state in State}


class Summary(Frozen):
    """One moment of an engine; it never changes, so any thread may read it."""

    runs: Mapping[str, int] = field(default_factory=no_runs)
    """How many runs are in each state; every state is a key."""
    junk: int = 0
    """Entries of staging that are no run."""
    queued: int = 0
    """Runs that are complete and wait for their turn."""
    committed: int = 0
    """Revisions committed since the start."""
    failed: int = 0
    """Attempts that failed since the start."""
    sent: int = 0
    """Bytes sent to the backend since the start."""
    scans: int = 0
    """Full scans since the start."""
    scan_seconds: float = 0.0
    """What the last one took."""
    backend: str = ""
    """Why the backend is waited for; empty while it answers."""
    backend_since: str | None = None
    """Since when it is waited for: UTC, RFC 3339."""
    backend_next_try_at: str | None = None
    """When it is tried next."""
    oldest_waiting: float = 0.0
    """For how many seconds the run has been waiting that waits longest, of those not stored."""
