"""What the service manager shows of the service: one line, made from the engine's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from modeldrop.intake import Summary
from modeldrop.names import printable

# What is shown, in the order of what a person looks for; what is stored is one number. Each with
# the states that it counts.
_SHOWN: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("stored", ("committed", "kept", "moved", "deleted")),
    ("uploading", ("uploading", "verifying")),
    ("settling", ("open", "settling")),
    ("blocked", ("blocked",)),
    ("parked", ("parked",)),
    ("ignored", ("ignored",)),
)


def status_line(summary: Summary, staging: Path, watcher: str) -> str:
    """Return what the service is at: `watching /srv/staging (events): 12 stored, 1 parked`.

    Counts of zero are left out, but for what is stored. A backend that is waited for is said
    first among them, since everything else waits with it.
    """
    counts = [
        (name, sum(summary.runs.get(state, 0) for state in states)) for name, states in _SHOWN
    ]
    said = [f"{count} {name}" for name, count in counts if count or name == "stored"]
    if summary.queued:
        said.append(f"{summary.queued} queued")
    if summary.junk:
        said.append(f"{summary.junk} junk")
    if summary.backend:
        said.insert(0, f"waiting for the backend: {summary.backend}")
    return f"watching {printable(str(staging))} ({printable(watcher)}): " + ", ".join(said)
