"""From a folder that somebody is still writing to, to a committed revision.

`walk` looks at a run without opening what it finds, `lease` asks the kernel for writers, `marker`
and `declared` read the two small files by which a run speaks for itself, and `settling` judges
from all of that whether the run is complete. `storing` sends it and commits it, `memory` lets a
restart read nothing again, `receipts` and `status` tell people, and `engine` is the loop around
them all. `dropping` puts files into staging whole, `staged` finds the run that a person names, and
`requests` are what that person may ask for.
"""

from __future__ import annotations

from modeldrop.intake.cleaning import Cleaned, clean
from modeldrop.intake.dropping import drop, new_run
from modeldrop.intake.engine import Engine
from modeldrop.intake.lease import is_network
from modeldrop.intake.lease import prepare as prepare_leases
from modeldrop.intake.requests import IGNORE, RETRY, ask
from modeldrop.intake.staged import STUCK, staged_run, stuck_runs
from modeldrop.intake.status import RunStatus, ServiceStatus, WatcherStatus, read_status
from modeldrop.intake.storing import Storing, upload_path
from modeldrop.intake.summary import Summary

__all__ = [
    "IGNORE",
    "RETRY",
    "STUCK",
    "Cleaned",
    "Engine",
    "RunStatus",
    "ServiceStatus",
    "Storing",
    "Summary",
    "WatcherStatus",
    "ask",
    "clean",
    "drop",
    "is_network",
    "new_run",
    "prepare_leases",
    "read_status",
    "staged_run",
    "stuck_runs",
    "upload_path",
]
