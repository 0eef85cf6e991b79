"""One look at a run: what is in it, who writes to it, what it says, and what that comes to."""

from __future__ import annotations

import functools
import time
from pathlib import Path

from modeldrop.intake import lease, marker, walk
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.marker import Marker
from modeldrop.intake.observation import Observation
from modeldrop.intake.settling import History, Settings, State, Step, Verdict, has_news, judge
from modeldrop.records import Refused
from modeldrop.settings import ServiceSettings
from modeldrop.structs import Frozen


class Looked(Frozen):
    """What was seen, where the run stands, and what its marker says if that still matters."""

    observation: Observation
    verdict: Verdict
    marker: Marker | None


def look(staging: Path, tracked: Tracked, settings: ServiceSettings, *, network: bool) -> Looked:
    """Look at a run; nothing of what is known of it is changed.

    Raises:
        NotFound: the run, or staging, isn't there.
        SourceChanged: something changed under the look.
        OSError: something of it can't be read, or this process is out of descriptors.
    """
    seen = walk.observe(staging, tracked.folder, _entries(settings))
    before = tracked.standing
    if before.parked is not None and before.parked == seen.signature():
        parked = Verdict(State.PARKED, Step.WAIT, before.reason, None, before.history)
        return Looked(seen, parked, None)
    said: Marker | Refused | None = None
    # An older marker lists what was complete then; its digests aren't those of a change.
    if seen.marker is not None and has_news(before.history, seen):
        said = marker.read(staging, tracked.folder, seen.marker)

    def ask(history: History, seen: Observation, writers: lease.Writers | None) -> Verdict:
        return judge(
            history,
            seen,
            writers,
            time.monotonic(),
            _as_judged_by(settings),
            marker=said,
            network=network,
        )

    verdict = ask(before.history, seen, None)
    if verdict.step is Step.PROBE:
        try:
            writers = lease.probe_files(staging, tracked.folder, seen.everything())
        except PermissionError as error:
            why = error.strerror or str(error)
            blocked = seen.with_unreadable(error.filename or ".", why)
            verdict = ask(verdict.history, blocked, None)
        else:
            verdict = ask(verdict.history, seen, writers)
    return Looked(seen, verdict, said if isinstance(said, Marker) else None)


def _entries(settings: ServiceSettings) -> int:
    """Return how many entries are looked at of a run: files, and folders and others as many."""
    return 2 * settings.most_files + 1


# Asked at each look, and hardly ever of other settings.
@functools.lru_cache(maxsize=4)
def _as_judged_by(settings: ServiceSettings) -> Settings:
    return Settings(
        quiet_time=settings.quiet_time,
        quiet_time_without_lease=settings.quiet_time_without_lease,
        quiet_time_network=settings.quiet_time_network,
        revision_interval=settings.revision_interval,
        complete="marker" if settings.complete == "marker" else "quiet",
        most_files=settings.most_files,
        most_bytes=settings.most_bytes,
    )


def next_step(state: State) -> str:
    """Return what a person may do about a run that a look found blocked or parked."""
    if state is State.BLOCKED:
        return "nothing to do: it is tried again by itself once it can be read"
    return "replace or remove what is named; the service looks at it again by itself"
