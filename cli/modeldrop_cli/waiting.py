"""`--wait`: until what is in a run's staging folder is stored, whoever stores it.

Whoever holds the service's lock stores. While that is the service, or another command that waits,
this one looks every now and then; when nobody holds it, this one does the work itself.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Final

from modeldrop import intake, locks, spelling
from modeldrop.errors import Locked, NotFound, NotReady, PartialFailure
from modeldrop.form import now
from modeldrop.intake import machine, memory, walk
from modeldrop.names import printable
from modeldrop.structs import replace
from modeldrop_cli.statuses import STORED

if TYPE_CHECKING:
    from modeldrop.home import Home
    from modeldrop.intake import RunStatus
    from modeldrop.repository import Repository
    from modeldrop_cli.output import Output

# More than 0, as settings have to be.
_NO_INTERVAL: Final = 1e-3
# Often enough that nobody notices, seldom enough that a day of it costs nothing.
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
# The engine is asked again after this at the latest, so that the time limit holds.
_TURN: Final = 0.5
# Who waits for longer is told what for.
_PATIENCE: Final = 2.0
# What counts up or down in a reason, so that it is the same reason a second later.
_COUNTS: Final = re.compile(r"[0-9]+( (s|min|h|days)\b)?")
# How long what the service said before is taken for old news: it has to see the drop first.
_OLD_NEWS: Final = 5.0


def wait_for(repository: Repository, run: str, seconds: float, output: Output) -> int:
    """Wait until a run's staging folder is stored as it is; return the revision that holds it.

    A run that has left staging counts as stored if it is at the backend.

    Raises:
        RunNotFound: it is neither in staging nor at the backend.
        PartialFailure: it is parked: a person has to change something first.
        NotReady: the time ran out.
    """
    return _Waiting(repository, run, seconds, output).result()


def staged_run(home: Home, text: str) -> str | None:
    """Return the GUID of the run in staging that a reference names, or None if none does."""
    named = spelling.parse_run(text).run
    found = [each.guid for each in _in_staging(home) if each.guid and each.guid.startswith(named)]
    return found[0] if len(found) == 1 else None


def _in_staging(home: Home) -> list[walk.Found]:
    try:
        return list(walk.runs(home.staging))
    except NotFound:
        return []


class _Waiting:
    """One wait for one run."""

    def __init__(self, repository: Repository, run: str, seconds: float, output: Output) -> None:
        self._repository = repository
        self._home = repository.home
        self._run = run
        self._seconds = seconds
        self._began = time.monotonic()
        self._began_at = now()
        self._output = output
        self._told: set[str] = set()

    def result(self) -> int:
        pause = _FIRST_PAUSE
        while True:
            revision = self._stored()
            if revision is not None:
                return revision
            try:
                with locks.hold(
                    self._home.paths.service_lock(), what="the service's work", timeout=0
                ):
                    return self._store()
            except Locked as error:
                if isinstance(error, NotReady):
                    raise
            self._look()
            time.sleep(min(pause, max(self._left(), 0.0)))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _store(self) -> int:
        """Do the work of the service until the run is stored."""
        engine = self._repository.engine()
        # Who waits wants it stored as it is now, not when the next revision would be due.
        engine.reload(replace(self._home.config.service, revision_interval=_NO_INTERVAL))
        try:
            engine.recover()
            while True:
                idle = engine.turn()
                # The engine knows it even where nothing can be remembered in the home.
                status = engine.standing(self._run)
                # What is under way would be cut off by the end of the engine.
                busy = status is not None and status.reason == machine.REGISTERING
                if status is not None and status.state in STORED and not busy and status.revision:
                    return status.revision
                if status is None:
                    revision = self._stored()
                    if revision is not None:
                        return revision
                self._judge(status)
                engine.wait(max(min(idle, _TURN, self._left()), 0.0))
        finally:
            engine.close()

    def _left(self) -> float:
        return self._seconds - (time.monotonic() - self._began)

    def _stored(self) -> int | None:
        """Return the revision that holds the run's folder as it is now, or None if none does."""
        folder = next((e.name for e in _in_staging(self._home) if e.guid == self._run), None)
        if folder is None:
            return self._repository.runs_at_backend.committed(self._run).revision
        remembered = memory.recall(self._home.paths, self._run)
        if remembered is None:
            return None
        try:
            seen = walk.observe(self._home.staging, folder).signature()
        except NotFound:
            return None
        return remembered.revision if seen == remembered.signature else None

    def _look(self) -> None:
        """Judge by what whoever stores says in the status file."""
        said = intake.read_status(self._home)
        status = next((each for each in said.runs if each.run == self._run), None)
        fresh = (said.at or "") > self._began_at or time.monotonic() - self._began > _OLD_NEWS
        self._judge(status if fresh else None)

    def _judge(self, status: RunStatus | None) -> None:
        """Say what holds it up; give up if nothing but a person can help, or the time is over."""
        if status is not None and status.state == "parked":
            raise PartialFailure(
                f"run {self._run} can't be stored: {printable(status.reason)}",
                hint=f"mend it in {self._home.staging / status.folder}, and run it again",
                detail={"run": self._run, "refused": [each.as_json() for each in status.refused]},
            )
        state = _spelled(status)
        if self._left() <= 0:
            raise NotReady(
                f"run {self._run} isn't stored after {self._seconds:g} s; it is {state}",
                hint="`modeldrop status` shows what becomes of it; it stays in staging",
                detail={"run": self._run},
            )
        reason = _COUNTS.sub("", state)
        if time.monotonic() - self._began >= _PATIENCE and reason not in self._told:
            self._told.add(reason)
            limit = "" if math.isinf(self._seconds) else f", {self._seconds:g} s at most"
            self._output.say(f"Run {self._run} is {state}; still waiting{limit}.")


def _spelled(status: RunStatus | None) -> str:
    if status is None:
        return "not looked at yet"
    return f"{status.state}: {status.reason}" if status.reason else status.state
