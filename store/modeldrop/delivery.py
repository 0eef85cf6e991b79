"""What people do with deployment targets, on one open home."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import IntegrityError
from modeldrop.names import check_experiment
from modeldrop.rooms import Rooms

if TYPE_CHECKING:
    from modeldrop.deploying import Ask, Deployed, Deployer
    from modeldrop.deployment_records import Deployment, Target
    from modeldrop.interrupted import Interrupted, Settled
    from modeldrop.records import Version
    from modeldrop.targets import TargetSet

Progress = Callable[[int], None]


class Delivery(Rooms):
    """An open home, and what is deployed from it; the rest of the façade is `Repository`."""

    def add_target(  # noqa: PLR0913 - each gate has its name
        self,
        name: str,
        url: str | Path,
        *,
        production: bool = False,
        require_alias: str | None = None,
        require_verified: bool = False,
        confirm: bool = False,
        keep: int | None = None,
        reason: str = "",
        by: str | None = None,
    ) -> TargetSet:
        """Make a deployment target, or change its gates; return the record that says what it is.

        A target that is so already is left alone. `keep` copies of each experiment stay there, 3
        by default. One for production has a gate: where none is asked for, every byte of a version
        is read before it is deployed (`require_verified`).

        Raises:
            InvalidName: it is no name of a target.
            Conflict: an alias bears the name, the target is at another URL, or that place is
                another target's.
            ConfigError: nothing can be deployed to such a URL.
            BackendError: the place or the backend failed.
        """
        from modeldrop.targets import KEEP, Gates  # noqa: PLC0415 - not needed to register

        gates = Gates(
            production=production,
            require_alias=require_alias,
            require_verified=require_verified,
            confirm=confirm,
            keep=KEEP if keep is None else keep,
        )
        self._claim_home()
        return self.targets_at_backend.set(
            name, str(url), gates, self._request(), by=by or self.home.user, reason=reason
        )

    def remove_target(self, name: str, *, reason: str = "", by: str | None = None) -> TargetSet:
        """Remove a deployment target; what was deployed there stays there, and so does its history.

        Raises:
            TargetNotFound: there never was one of that name.
        """
        self._claim_home()
        return self.targets_at_backend.remove(
            name, self._request(), by=by or self.home.user, reason=reason
        )

    def targets(self, damaged: Callable[[IntegrityError], None] | None = None) -> list[Target]:
        """Return what each deployment target is, by name; `damaged` is as in `runs`.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        return self.targets_at_backend.all(damaged)

    def deploy(
        self,
        reference: str,
        target: str,
        *,
        reason: str = "",
        by: str | None = None,
        confirmed: bool = False,
        moved: Progress = lambda _: None,
    ) -> Deployed:
        """Have a version live at a target; return the deployment that says so.

        Its bytes are copied there and verified before anything is switched, and consumers find the
        old version or the new one. A version that is live there is left alone, so that repeating is
        safe. After a crash the next one who deploys there finishes or undoes what was begun.

        `moved` is told of each copied byte twice: when it is there, and when it is verified.

        Raises:
            TargetNotFound: there is no such target.
            VersionNotFound, AliasNotFound: there is no such version.
            VersionRetired: the version is retired; nothing was changed.
            GateClosed: a gate of the target doesn't let it through; nothing was changed.
            ArtifactDamaged: the stored bytes aren't what was recorded; nothing was changed.
            BackendError: the backend or the target failed.
        """
        version = self._references.version(reference)
        self.retirements_at_backend.refuse(version, "`modeldrop retire --undo` takes that back")
        ask = self._ask(by, reason, moved, confirmed=confirmed)
        return self._deployer().deploy(version, target, ask)

    def rollback(
        self,
        experiment: str,
        target: str,
        to: int | None = None,
        *,
        reason: str = "",
        by: str | None = None,
        confirmed: bool = False,
        moved: Progress = lambda _: None,
    ) -> Deployed:
        """Have the version live again that was live before, or the version `to`.

        Called again, it goes back one more. A copy that is still there is verified and used again.

        Raises:
            TargetNotFound: there is no such target.
            DeploymentNotFound: nothing is live there, nothing was before, or `to` never was.
            VersionRetired: the version that was live before is retired; nothing was changed.
            GateClosed: the target asks for a confirmation; nothing was changed.
        """

        def refuse(version: Version) -> None:
            hint = f"`modeldrop rollback {experiment} {target} --to N` goes back to another one"
            self.retirements_at_backend.refuse(version, hint)

        ask = self._ask(by, reason, moved, confirmed=confirmed)
        return self._deployer().roll_back(experiment, target, to, ask, refuse)

    def deployments(
        self,
        experiment: str | None = None,
        target: str | None = None,
        damaged: Callable[[IntegrityError], None] | None = None,
    ) -> list[Deployment]:
        """Return what is live at each target, by experiment and target; `damaged` is as in `runs`.

        With both `experiment` and `target`, return all deployments of that, oldest first, also
        those to where the target was before.

        Raises:
            DeploymentNotFound: nothing of the experiment was ever deployed to the target.
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        rooms = self.deployments_at_backend
        if experiment is not None and target is not None:
            return rooms.history(experiment, target)
        if experiment is not None:
            found = rooms.all([check_experiment(experiment)], damaged)
        else:
            found = rooms.all(self.versions_at_backend.experiments(), damaged)
        return [each for each in found if target in (None, each.target)]

    def settle_deployments(self) -> list[Settled]:
        """Finish or undo deployments that this home began and whose process died; return which.

        What another process is at, and what can't be reached now, is left for later.

        Raises:
            BackendError: the backend failed.
        """
        if not self._interrupted().places():
            return []
        self._claim_home()
        return self._interrupted().settle_all()

    def _live_at(
        self, version: Version, damaged: Callable[[IntegrityError], None] | None
    ) -> list[str]:
        """Return the names of the targets where a version is live."""
        found = self.deployments_at_backend.all([version.experiment], damaged)
        return [each.target for each in found if each.version == version.version]

    def _ask(self, by: str | None, reason: str, moved: Progress, *, confirmed: bool) -> Ask:
        from modeldrop.deploying import Ask  # noqa: PLC0415 - not needed to register

        return Ask(self._request(), by or self.home.user, reason, confirmed, moved)

    def _deployer(self) -> Deployer:
        from modeldrop.deploying import Deployer  # noqa: PLC0415 - not needed to register

        self._claim_home()
        return Deployer(
            self.home,
            self.backend,
            self.journal,
            self.runs_at_backend,
            self.aliases_at_backend,
            self.targets_at_backend,
            self.deployments_at_backend,
        )

    def _interrupted(self) -> Interrupted:
        from modeldrop.following import Following  # noqa: PLC0415 - not needed to register
        from modeldrop.interrupted import Interrupted  # noqa: PLC0415 - the same

        rooms = (self.targets_at_backend, self.deployments_at_backend)
        following = Following(self.home, self.runs_at_backend, *rooms)
        return Interrupted(self.home, self.backend, self.journal, *rooms, following)
