"""What is printed with `--json` of what is dropped, and of what isn't stored yet."""

from __future__ import annotations

from typing import Annotated, TypedDict


class RefusedObject(TypedDict):
    """An entry that isn't stored."""

    path: Annotated[str, "relative to the run, or to staging; odd characters are escaped"]
    reason: Annotated[str, "why, in words"]


class NewRunObject(TypedDict):
    """`run new`: the run that was begun."""

    run: Annotated[str, "GUID of the run"]
    folder: Annotated[str, "path of its staging folder"]


class DropObject(TypedDict):
    """`drop`: the run that the files went into."""

    run: Annotated[str, "GUID of the run"]
    folder: Annotated[str, "path of its staging folder"]
    revision: Annotated[int | None, "the revision that holds them; null without `--wait`"]


class RunStatusObject(TypedDict):
    """A run in staging, as `status` and `scan` see it."""

    run: Annotated[str, "GUID of the run"]
    folder: Annotated[str, "path of its staging folder"]
    state: Annotated[
        str,
        "open, settling, uploading, verifying, committed, kept, moved, deleted, blocked, parked "
        "or ignored",
    ]
    reason: Annotated[str, "why it is in this state; may be empty"]
    since: Annotated[str, "when it came into this state"]
    next_try_at: Annotated[str | None, "when it is tried again, if it is blocked"]
    revision: Annotated[int | None, "its last revision that is stored; null if there is none"]
    sent: Annotated[int, "how many bytes are sent"]
    size: Annotated[int, "how many bytes it has"]
    rate: Annotated[int, "bytes of it that are being sent in a second; 0 if none are"]
    seconds_left: Annotated[int | None, "what the rest takes at this rate; null at rate 0"]
    refused: Annotated[list[RefusedObject], "what isn't stored, or why it isn't registered"]


class ScanObject(TypedDict):
    """`scan --once`: what it looked at."""

    runs: Annotated[list[RunStatusObject], "each run with the state that it has now"]
    junk: Annotated[list[RefusedObject], "what else is in staging"]


class ServiceObject(TypedDict):
    """The service of this home."""

    running: Annotated[bool, "whether it runs now"]
    pid: Annotated[int | None, "its process id"]
    started_at: Annotated[str | None, "since when it runs"]
    at: Annotated[str | None, "when it wrote its status last"]
    watcher: Annotated[str, "how it learns of changes; `none`: it scans"]
    overflows: Annotated[int, "how many times events were lost; each time all was scanned"]
    rebuilds: Annotated[int, "how many times its watch was built anew"]
    backend: Annotated[str, "why it waits for the backend; empty while that answers"]
    backend_since: Annotated[str | None, "since when it waits for the backend"]
    backend_next_try_at: Annotated[str | None, "when it tries the backend next"]
    queued: Annotated[int, "how many runs are complete and wait for their turn"]


class StatusObject(TypedDict):
    """`status`: the service, and what isn't stored yet; with `--watch` one on each line."""

    home: Annotated[str, "path of the home"]
    backend: Annotated[str, "URL of the backend"]
    staging: Annotated[str, "path of the staging folder"]
    service: Annotated[ServiceObject, "the service of this home"]
    committed: Annotated[int, "how many runs in staging are stored"]
    counts: Annotated[dict[str, int], "how many are in each state; states of none are left out"]
    runs: Annotated[list[RunStatusObject], "those that aren't, or not whole; 1000 at most"]
    junk: Annotated[list[RefusedObject], "what else is in staging"]


class AskedRunObject(TypedDict):
    """A run in staging of which something is asked."""

    run: Annotated[str, "GUID of the run"]
    state: Annotated[str | None, "its state before; null if it is stored, or too new to be known"]
    reason: Annotated[str, "why it was in this state; may be empty"]


class AskedObject(TypedDict):
    """`retry` and `ignore`: what the service is asked to do."""

    action: Annotated[str, "retry or ignore"]
    running: Annotated[bool, "whether a service runs; otherwise the next start or scan does it"]
    runs: Annotated[list[AskedRunObject], "of which runs"]
