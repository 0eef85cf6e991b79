"""Checking targets: their records, their deployments, and whether what is live there is right.

For `verify`, which says what it does with what is found. Nothing is changed. A place that can't be
reached from here is no damage; that it wasn't looked at is counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from modeldrop.deployment_records import Deployment, Target
from modeldrop.errors import (
    BackendError,
    Conflict,
    CounterDamaged,
    IntegrityError,
    ModeldropError,
    NotFound,
)
from modeldrop.placement import Place
from modeldrop.references import pinned
from modeldrop.rooms import Rooms
from modeldrop.structs import Frozen
from modeldrop.verify.report import Progress

Found = Callable[[str, str, str], None]
"""Is told the kind of what is off, where it is, and what is wrong with it."""
Count = Callable[[str], None]
"""Is told what was checked."""


class Inspection(Frozen):
    """What checks the targets of an open home."""

    rooms: Rooms
    deep: bool
    found: Found
    count: Count
    moved: Progress

    def targets(self) -> dict[str, Target]:
        """Check what the targets were and are, and return the records that are whole, by name."""
        targets, whole = self.rooms.targets_at_backend, {}
        for name in targets.names():
            for number in range(1, max(targets.numbers(name), default=0) + 1):
                with self._told("target", f"target:{name}~{number}"):
                    record = targets.record(name, number)
                    whole[record.reference] = record
                    self.count("target records")
        return whole

    def deployments(self, experiment: str) -> dict[str, Deployment]:
        """Check an experiment's deployments, and what is live of it at each target.

        Returns the records that are whole, by name.
        """
        deployments, whole = self.rooms.deployments_at_backend, dict[str, Deployment]()
        for name in deployments.targets_of(experiment):
            last = max(deployments.numbers(experiment, name), default=0)
            for number in range(1, last + 1):
                reference = f"{experiment}@{name}~{number}"
                with self._told("deployment", reference):
                    record = deployments.deployment(experiment, name, number)
                    whole[reference] = record
                    self.count("deployments")
                    self._record(record, whole.get(f"{experiment}@{name}~{number - 1}"))
            self._counter(experiment, name, last)
            newest = whole.get(f"{experiment}@{name}~{last}")
            if newest is not None:
                self._live(newest)
        return whole

    def _record(self, record: Deployment, below: Deployment | None) -> None:
        """Check what a deployment pins, and that it follows the one below, if that is whole."""
        self.rooms.deployments_at_backend.version(record)
        if below is None and record.deployment > 1:
            return
        same = below if below is not None and below.url == record.url else None
        if record.before != (same.version if same else None):
            self.found("deployment", record.reference, "another version was live before")
        allowed = {each.copy for each in (same.kept if same else ())}
        if any(each.copy not in allowed for each in record.kept[1:]):
            self.found("deployment", record.reference, "it keeps a copy that was let go before")

    def _counter(self, experiment: str, name: str, last: int) -> None:
        deployments = self.rooms.deployments_at_backend
        try:
            seen = deployments.counter(experiment, name)
        except CounterDamaged as error:
            self.found("home", f"{experiment}+{name}", error.message)
            return
        if seen is not None and seen > last:
            # It may have been deployed meanwhile: then a later listing has that, too.
            last = max(deployments.numbers(experiment, name), default=0)
        if seen is not None and seen > last:
            what = f"the counter says {seen}, and the backend has {last} deployments"
            self.found("deployment", f"{experiment}@{name}", what)

    def _live(self, deployment: Deployment) -> None:
        """Check that a place says that a deployment is live, and has its bytes."""
        rooms = self.rooms
        target = rooms.targets_at_backend.newest(deployment.target)
        if target is None or target.url != deployment.url:
            return
        try:
            opened = rooms.targets_at_backend.open(target)
        except (BackendError, Conflict):
            # Another machine's folder, say, which nobody here can look into.
            self.count("targets not reached")
            return
        place = Place(opened, rooms.home.repository)
        with self._told("target", deployment.reference):
            self._current(place, deployment)
            version = rooms.deployments_at_backend.version(deployment)
            revision = rooms.runs_at_backend.revision(version.run, version.revision)
            placed = place.placed(pinned(version, revision), deployment.copy)
            bad = place.damaged(placed, self.moved) if self.deep else place.missing(placed)
            keys = {file.path: file.key for file in placed.files}
            for path in bad:
                why = "isn't what was deployed" if self.deep else "is missing, or its size differs"
                self.found("target", deployment.reference, f"{place.url}/{keys[path]} {why}")
            self.count("live deployments")

    def _current(self, place: Place, deployment: Deployment) -> None:
        says = place.live(deployment.experiment)
        if says == deployment.copy:
            return
        # Somebody may have deployed meanwhile.
        newest = self.rooms.deployments_at_backend.newest(deployment.experiment, deployment.target)
        if newest is not None and newest.deployment != deployment.deployment:
            return
        what = "doesn't say what is live" if says is None else f"leads to {says}"
        self.found(
            "target",
            deployment.reference,
            f"what is current at {place.url}/{deployment.experiment} {what}, and "
            f"{deployment.copy} is live: `modeldrop deploy "
            f"{deployment.experiment}/{deployment.version} {deployment.target}` mends it",
        )

    @contextlib.contextmanager
    def _told(self, kind: str, where: str) -> Iterator[None]:
        try:
            yield
        except (IntegrityError, NotFound) as error:
            self.found(kind, where, error.message)
        except BackendError:
            raise
        except ModeldropError as error:
            self.found(kind, where, error.message)
