"""Deployments: which version is live at which target, each a sequence at the backend.

The deployment with the highest number says what is live, as far as it was made to the place that
the target has now. It pins its version by number and digest, and names who deployed it, when, why,
what was live before, and which copies stay.

Here deployments are read, and it is said what they mean to the rest of the store; `deploying` makes
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from modeldrop import counters, layout
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.deployment_records import Deployment
from modeldrop.errors import CounterDamaged, DeploymentNotFound, IntegrityError
from modeldrop.form import damaged
from modeldrop.home import Home
from modeldrop.home_records import DeploymentCounter
from modeldrop.journal import NewEntry
from modeldrop.ledger import Request
from modeldrop.names import check_experiment, check_target, is_alias, printable
from modeldrop.records import Version
from modeldrop.sequence import Sequence
from modeldrop.targets import Targets
from modeldrop.versions import Versions

DEPLOYED: Final = "deployed"
ROLLED_BACK: Final = "rolled-back"


class Deployments:
    """The deployments of a repository."""

    def __init__(self, home: Home, backend: Backend, versions: Versions, targets: Targets) -> None:
        """Read deployments at `backend`."""
        self._home = home
        self._backend = backend
        self._versions = versions
        self._targets = targets

    def targets_of(self, experiment: str) -> list[str]:
        """Return the names of all targets that an experiment was ever deployed to, by a listing."""
        folder = layout.deployed(experiment)
        found = patiently(lambda: list(self._backend.children(folder)))
        return sorted(name for name in found if is_alias(name))

    def numbers(self, experiment: str, target: str) -> list[int]:
        """Return the numbers of deployments by listing them: for those who check."""
        return self.sequence(experiment, target).numbers()

    def deployment(self, experiment: str, target: str, number: int) -> Deployment:
        """Return one deployment.

        Raises:
            DeploymentNotFound: there is no such deployment.
        """
        found = self.read(check_experiment(experiment), check_target(target), number)
        if found is None:
            what = f"{experiment}@{target}~{number}"
            message = f"there is no deployment {what} at {self._backend.url}"
            raise DeploymentNotFound(
                message, hint=f"`modeldrop deployments {experiment}@{target}` lists them"
            )
        return found

    def newest(self, experiment: str, target: str) -> Deployment | None:
        """Return the newest deployment to a target, wherever that was, or None."""
        sequence = self.sequence(check_experiment(experiment), check_target(target))
        try:
            seen = self.counter(experiment, target) or 0
        except (CounterDamaged, OSError):
            # Readers need no hint.
            seen = 0
        number = sequence.last(seen)
        found = self.read(experiment, target, number)
        if found is None and number:
            # The counter misled us: the backend has lost deployments, or was put back.
            found = self.read(experiment, target, sequence.last())
        return found

    def live(self, experiment: str, target: str) -> Deployment:
        """Return the deployment that is live at a target.

        Raises:
            TargetNotFound: there is no such target.
            DeploymentNotFound: nothing of the experiment was deployed to where the target is now.
        """
        check_experiment(experiment)
        place = self._targets.current(target)
        found = self.newest(experiment, target)
        if found is None or found.url != place.url:
            was = "" if found is None else f"; {found.reference} was at {found.url}"
            raise DeploymentNotFound(
                f"nothing of {experiment} is live at the target {target}, {place.url}{was}",
                hint=f"`modeldrop deploy {experiment} {target}` deploys its newest version",
            )
        return found

    def history(self, experiment: str, target: str) -> list[Deployment]:
        """Return all deployments to a target, oldest first.

        Raises:
            DeploymentNotFound: there was none.
        """
        newest = self.newest(experiment, target)
        if newest is None:
            raise DeploymentNotFound(
                f"nothing of {experiment} was ever deployed to a target {target}",
                hint="`modeldrop target list` lists the targets, `modeldrop deployments` what is "
                "live",
            )
        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            older = pool.map(
                lambda number: self.deployment(experiment, target, number),
                range(1, newest.deployment),
            )
            return [*older, newest]

    def all(
        self, experiments: Iterable[str], damaged: Callable[[IntegrityError], None] | None = None
    ) -> list[Deployment]:
        """Return what is live of some experiments at each target, by experiment and target.

        With `damaged`, what can't be read is told to it, and the others are returned.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        places = {each.target: each.url for each in self._targets.all(damaged)}

        def read(name: tuple[str, str]) -> Deployment | IntegrityError | None:
            try:
                return self.newest(*name)
            except IntegrityError as error:
                if damaged is None:
                    raise
                return error

        every = sorted(experiments) if places else []
        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            listed = pool.map(self.targets_of, every)
            names = [
                (experiment, target)
                for experiment, targets in zip(every, listed, strict=True)
                for target in targets
                if target in places
            ]
            found: list[Deployment] = []
            for each in pool.map(read, names):
                if isinstance(each, IntegrityError):
                    if damaged is not None:
                        damaged(each)
                elif each is not None and each.url == places[each.target]:
                    found.append(each)
        return found

    def version(self, deployment: Deployment) -> Version:
        """Return the version that a deployment made live.

        Raises:
            VersionNotFound: the version isn't there.
            IntegrityError: it has another digest than the deployment pins.
        """
        pinned = (deployment.version, deployment.sha256)
        return self._versions.pinned(deployment.reference, deployment.experiment, *pinned)

    def counter(self, experiment: str, target: str) -> int | None:
        """Return how far this home has seen the deployments, or None if it never looked.

        Raises:
            CounterDamaged: the counter can't be read.
        """
        return counters.seen(self._home, DeploymentCounter, f"{experiment}+{target}")

    # For those who deploy

    def bring_forward(self, experiment: str, target: str, number: int) -> None:
        """Move the counter up to a number that was seen in the sequence; never back."""
        counter = DeploymentCounter(experiment, target, number, self._home.repository)
        counters.bring_forward(self._home, counter)

    def parse(self, data: bytes, experiment: str, target: str, number: int) -> Deployment:
        """Return the deployment that these bytes hold, checked to be what was asked for.

        The folders that it names become links and are removed at the target, and who can write to
        the backend need not be trusted with that: each has to be a copy of the experiment's.
        """
        key = layout.numbered(layout.deployments(experiment, target), number)
        found = Deployment.from_bytes(data, f"{self._backend.url}/{key}")
        if (found.experiment, found.target, found.deployment) != (experiment, target, number):
            message = f"{self._backend.url}/{key} says that it is {found.reference}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        kept = [(each.copy, each.version) for each in found.kept]
        let_go = [(each.copy, each.version) for each in found.let_go]
        for copy, version in kept + let_go:
            if not layout.is_copy(copy, experiment, version):
                message = f"{printable(copy)!r} is no copy of {experiment}/{version}"
                raise damaged(f"{self._backend.url}/{key}", message)
        both = {copy for copy, _ in kept} & {copy for copy, _ in let_go}
        if both:
            message = f"{min(both)} is kept and to be removed"
            raise damaged(f"{self._backend.url}/{key}", message)
        return found

    def read(self, experiment: str, target: str, number: int) -> Deployment | None:
        """Return a deployment, or None if it is absent."""
        data = self.sequence(experiment, target).read(number)
        return None if data is None else self.parse(data, experiment, target, number)

    def sequence(self, experiment: str, target: str) -> Sequence:
        """Return the sequence of deployments to a target."""
        return Sequence(self._backend, layout.deployments(experiment, target))


def entry_of(deployment: Deployment, home: str, request: Request) -> NewEntry | None:
    """Return the entry that says that a home made a deployment; None if another one did."""
    if deployment.home != home:
        return None
    return NewEntry(
        kind=ROLLED_BACK if deployment.rolled_back else DEPLOYED,
        about=(deployment.reference, f"{deployment.experiment}/{deployment.version}"),
        request=request.id,
        user=request.user,
        details={
            "experiment": deployment.experiment,
            "target": deployment.target,
            "deployment": deployment.deployment,
            "version": deployment.version,
            "sha256": deployment.sha256,
            "before": deployment.before,
            "rolled_back": deployment.rolled_back,
            "url": deployment.url,
            "copy": deployment.copy,
            "deployed_by": deployment.deployed_by,
            "reason": deployment.reason,
        },
    )
