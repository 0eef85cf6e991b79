"""What follows a deployment: `current` at its target, the counter in the home, the journal."""

from __future__ import annotations

from modeldrop.deployment_records import Deployment
from modeldrop.deployments import Deployments, entry_of
from modeldrop.errors import BackendError, Locked
from modeldrop.home import Home
from modeldrop.journal import NewEntry
from modeldrop.ledger import Request
from modeldrop.placement import Place
from modeldrop.records import Artifact, Version
from modeldrop.references import pinned
from modeldrop.runs import Runs
from modeldrop.targets import Targets


class Following:
    """Brings forward what follows the deployments of one repository."""

    def __init__(self, home: Home, runs: Runs, targets: Targets, deployments: Deployments) -> None:
        """Follow `deployments`."""
        self._home = home
        self._runs = runs
        self._targets = targets
        self._deployments = deployments
        # What is deployed now and what was: versions never change.
        self._artifacts: dict[tuple[str, int, str], Artifact] = {}

    def artifact(self, version: Version) -> Artifact:
        """Return the artifact that a version pins.

        Raises:
            IntegrityError: the manifest names other bytes than the version.
        """
        name = (version.experiment, version.version, version.sha256)
        if name not in self._artifacts:
            revision = self._runs.revision(version.run, version.revision)
            self._artifacts[name] = pinned(version, revision)
        return self._artifacts[name]

    def switch(self, place: Place, experiment: str, name: str) -> bool:
        """Have `current` at a place say what the sequence says; return whether it was changed."""
        return place.bring_forward(
            experiment,
            lambda: self._deployments.newest(experiment, name),
            self._described,
        )

    def _described(self, deployment: Deployment) -> Artifact:
        name = (deployment.experiment, deployment.version, deployment.sha256)
        known = self._artifacts.get(name)
        return known or self.artifact(self._deployments.version(deployment))

    def follow(self, deployment: Deployment) -> None:
        """Bring forward what follows a deployment that was found in the sequence."""
        target = self._targets.newest(deployment.target)
        # What was deployed to where the target isn't any more is live nowhere that counts.
        if target is not None and target.url == deployment.url:
            place = Place(self._targets.open(target), self._home.repository)
            self.switch(place, deployment.experiment, deployment.target)
        self._deployments.bring_forward(
            deployment.experiment, deployment.target, deployment.deployment
        )

    def meaning(self, experiment: str, name: str, place: Place | None) -> Meaning:
        """Return what the deployments to a target mean; `place` is where it is, if it is open."""
        return Meaning(self, self._deployments, self._home.id, (experiment, name), place)


class Meaning:
    """What the deployments of an experiment to a target mean to the rest of the store."""

    def __init__(
        self,
        following: Following,
        deployments: Deployments,
        home: str,
        name: tuple[str, str],
        place: Place | None,
    ) -> None:
        """Use `Following.meaning`."""
        self._following = following
        self._deployments = deployments
        self._home = home
        self._name = name
        self._place = place

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        """Return the entry that says that this home made a deployment; None if it didn't."""
        return entry_of(self._deployments.parse(data, *self._name, number), self._home, request)

    def settled(self, number: int, data: bytes) -> None:
        """Switch `current`, and bring the counter forward.

        Raises:
            BackendError, Locked: it is live by the sequence, and `current` may be behind.
        """
        deployment = self._deployments.parse(data, *self._name, number)
        if self._place is None:
            self._following.follow(deployment)
            return
        try:
            self._following.switch(self._place, *self._name)
        except (BackendError, Locked) as error:
            error.message = (
                f"{deployment.reference} is recorded, and what is current at {self._place.url} "
                f"may be behind: {error.message}"
            )
            error.hint = f"`modeldrop deployments` finishes it, once that is mended: {error.hint}"
            raise
        self._deployments.bring_forward(*self._name, number)
