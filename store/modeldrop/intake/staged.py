"""Which run in staging a person means, and which of them need one."""

from __future__ import annotations

from typing import Final

from modeldrop.errors import InvalidName, NotFound
from modeldrop.home import Home
from modeldrop.intake import walk
from modeldrop.intake.settling import State
from modeldrop.intake.standings import Standings
from modeldrop.intake.status import ServiceStatus
from modeldrop.names import printable
from modeldrop.spelling import parse_run

STUCK: Final = frozenset({State.BLOCKED.value, State.PARKED.value, State.IGNORED.value})
"""The states that a retry ends."""


def staged_run(home: Home, text: str) -> str:
    """Return the GUID of the run in staging that is named.

    `text` is a GUID, the beginning of one that no other run in staging has, or the path of the
    run's staging folder.

    Raises:
        InvalidName: it names no run, or more or less than a whole one.
        NotFound: no run in staging is meant, or more than one; or there is no staging.
    """
    parsed = parse_run(text)
    shown = printable(text)
    if parsed.revision is not None or parsed.artifact is not None:
        message = f"{shown!r} names a part of a run, and a run is asked for whole"
        raise InvalidName(message, hint=f"`{parsed.run}`")
    where = printable(str(home.staging))
    found = [guid for guid in _guids(home) if guid.startswith(parsed.run)]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"{shown} is the beginning of {len(found)} runs: {', '.join(found[:4])}"
        raise NotFound(message, hint="give more digits", detail={"runs": found})
    raise NotFound(
        f"run {shown} isn't in {where}",
        hint="`modeldrop status` lists what isn't stored, `modeldrop runs` what is",
        detail={"run": shown, "staging": where},
    )


def stuck_runs(home: Home, status: ServiceStatus) -> list[str]:
    """Return the GUIDs of the runs in staging that are blocked, parked or ignored, sorted.

    Those that `status` names, and those that are written down as parked or ignored: a status
    file names only so many.

    Raises:
        NotFound: there is no staging.
    """
    stuck = {each.run for each in status.runs if each.state in STUCK}
    standings = Standings(home.paths)
    for guid in standings.runs() - stuck:
        kept = standings.recall(guid)
        if kept is not None and (kept.ignored or kept.parked is not None):
            stuck.add(guid)
    return sorted(stuck.intersection(_guids(home)))


def _guids(home: Home) -> list[str]:
    return [each.guid for each in walk.runs(home.staging) if each.guid is not None]
