"""Runs that say `register = true`: they are registered once they are committed.

The wish is in the run's memory until it is fulfilled; a crash between the commit and the memory
leaves a run that is read once more, found to be stored, and registered then. Since registering the
same thing twice gives one version, nothing else has to be remembered.

It has a thread of its own: whoever holds the lock of an experiment for long holds up no upload.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable

from modeldrop.errors import (
    AmbiguousArtifact,
    Conflict,
    ModeldropError,
    NotFound,
    UsageError,
)
from modeldrop.home import Home
from modeldrop.intake import machine, memory, receipts
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.flights import REGISTER, Flight, Lanes
from modeldrop.intake.machine import Patience, Standing
from modeldrop.intake.observation import Observation
from modeldrop.intake.storing import Storing
from modeldrop.ledger import Request
from modeldrop.records import Refused
from modeldrop.redaction import told
from modeldrop.runs import Runs
from modeldrop.structs import replace

_log = logging.getLogger(__name__)


class Registering:
    """The wishes of one engine's runs. For the loop's thread."""

    def __init__(
        self,
        home: Home,
        runs: Runs,
        storing: Storing,
        lanes: Lanes,
        become: Callable[[Tracked, Standing], None],
    ) -> None:
        """Tell `become` each new standing."""
        self._home = home
        self._runs = runs
        self._storing = storing
        self._lanes = lanes
        self._become = become
        self._tries: dict[str, tuple[int, float]] = {}
        """How often it failed, and when it is tried again, of those that did."""

    def begin(self, tracked: Tracked, observation: Observation, patience: Patience) -> None:
        """Have a stored run registered that wishes it, unless that failed only just now."""
        run, wish, number = tracked.run, tracked.wish, tracked.standing.revision
        clock = time.monotonic()
        failures, due = self._tries.get(run, (0, 0.0))
        if failures and clock < due <= clock + patience.most:
            self._become(tracked, machine.kept_until(tracked.standing, due))
            return
        assert wish is not None  # noqa: S101 - the caller has looked
        flight = Flight(REGISTER, observation, probe=False)
        request = Request(str(uuid.uuid4()), self._home.user)
        staging, folder, paths = self._home.staging, tracked.folder, self._home.paths

        def work() -> None:
            revision = self._runs.revision(run, number)
            registered = self._storing.register(revision, wish, request)
            _log.debug("step: registered")
            version = registered.version
            said = {"run": run, "experiment": version.experiment, "version": version.version}
            how = "registered as" if registered.created else "registered already as"
            name = f"{version.experiment}/{version.version}"
            _log.info("run %s is %s %s", run, how, name, extra=said)
            receipts.committed(staging, folder, revision, self._runs.url, version)
            remembered = memory.recall(paths, run)
            if remembered is not None:
                try:
                    memory.remember(paths, replace(remembered, wish=None))
                except (OSError, ModeldropError) as error:
                    _log.warning("run %s is registered once more at the next start: %s", run, error)

        self._become(tracked, machine.registering(tracked.standing, clock))
        self._lanes.submit(tracked, flight, work)

    def ended(self, tracked: Tracked) -> None:
        """Take note that a run is registered."""
        tracked.wish = None
        self._tries.pop(tracked.run, None)
        self._become(tracked, machine.registered(tracked.standing, time.monotonic()))

    def failed(self, tracked: Tracked, error: Exception, patience: Patience) -> None:
        """Take note that a run could not be registered, and of when it is tried again."""
        assert tracked.wish is not None  # noqa: S101 - it is what was tried
        run, clock, said_in = tracked.run, time.monotonic(), tracked.wish.said_in
        reason = f"not registered: {told(error) or type(error).__name__}"
        if isinstance(error, AmbiguousArtifact):
            reason += f"; name one by `artifact` in {said_in}"
        due: float | None = None
        if isinstance(error, UsageError | NotFound | Conflict):
            # Trying again changes nothing before somebody changes the run; then it is stored anew.
            tracked.wish = None
            self._tries.pop(run, None)
        else:
            if not isinstance(error, ModeldropError | OSError):
                _log.error("run %s: unexpected error", run, exc_info=error)
            failures = self._tries.get(run, (0, 0.0))[0] + 1
            luck = random.random()  # noqa: S311 - jitter, no secret
            due = clock + patience.after(failures, luck)
            self._tries[run] = failures, due
        complaint = Refused(said_in, reason)
        if complaint != tracked.standing.unregistered:
            _log.warning("run %s is %s", run, reason, extra={"run": run})
        self._become(tracked, machine.unregistered(tracked.standing, complaint, clock, due))
