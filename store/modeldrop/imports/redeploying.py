"""Deploying here what is live at the targets of another place, where it is said where they are.

A target there has a name, and no place that could be taken over. So what was deployed there last is
deployed here, from the bytes that were imported, as any deployment is: copied, verified, switched,
by whoever imports, with what is known of the one there as the reason. The gates of a target hold.
What was ever deployed to a target here is left alone, and so is a target that is here.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from modeldrop.deploying import Ask, Deployer
from modeldrop.deployment_records import Target
from modeldrop.errors import Conflict, ModeldropError, UsageError, VersionRetired
from modeldrop.following import Following
from modeldrop.imports.bringing import Progress
from modeldrop.imports.elsewhere import DeploymentThere, Left, TargetThere
from modeldrop.imports.naming import nearest
from modeldrop.imports.report import Report
from modeldrop.interrupted import Interrupted
from modeldrop.ledger import Request
from modeldrop.names import check_target, is_alias, printable
from modeldrop.records import Version
from modeldrop.rooms import Rooms
from modeldrop.structs import Struct, field
from modeldrop.targets import Gates, told


class Here(Struct):
    """What the versions of another place are here, by their names there."""

    versions: dict[str, Version | None] = field(default_factory=dict)
    """Those that are here; None stands for one that would be, in a dry run."""
    awaited: dict[str, str] = field(default_factory=dict)
    """The experiments here of all that are to be here, be they here already or not."""


def check_targets(there: Iterable[TargetThere], chosen: Mapping[str, str]) -> None:
    """Return if all targets whose URLs were chosen are there.

    Raises:
        UsageError: one is not.
    """
    names = {each.name for each in there}
    for name in sorted(chosen.keys() - names):
        listed = ", ".join(sorted(map(printable, names))) or "none at all"
        message = f"there is no target {printable(name)} at that place; there is {listed}"
        raise UsageError(message, hint="`--target NAME=URL` takes the name that it has there")


class Redeploying:
    """What brings targets, and what is live at them."""

    def __init__(
        self,
        rooms: Rooms,
        report: Report,
        here: Here,
        called: str,
        by: str,
        moved: Progress,
        *,
        dry_run: bool,
    ) -> None:
        """Count in `report` what is brought from the place that is `called` so."""
        self._rooms = rooms
        self._report = report
        self._here = here
        self._called = called
        self._by = by
        self._moved = moved
        self._dry_run = dry_run

    def settle(self) -> None:
        """Finish or undo what an import before this one was deploying when it died."""
        if self._dry_run:
            return
        rooms = self._rooms
        places = (rooms.targets_at_backend, rooms.deployments_at_backend)
        following = Following(rooms.home, rooms.runs_at_backend, *places)
        interrupted = Interrupted(rooms.home, rooms.backend, rooms.journal, *places, following)
        if interrupted.places():
            interrupted.settle_all()

    def target(self, there: TargetThere, url: str | None) -> None:
        """Bring a target, and what was deployed to it last; or tell of it, without a URL."""
        name = printable(there.name)
        if url is None:
            kind = "a production target" if there.production else "a target"
            reason = f"it is {kind} without a URL there: `--target NAME=URL` gives it one here"
            self._report.left.append(Left("target", name, reason))
            for each in there.deployments:
                self._leave(there, each, "what is there isn't known here")
            return
        last = {each.experiment: each for each in there.deployments}
        for each in there.deployments:
            if last[each.experiment] is not each:
                self._leave(there, each, "only what was deployed last is deployed here")
        try:
            here = self._set(there, url)
        except Conflict as error:
            self._report.conflicts.append(Left("target", name, f"{error.message}; {error.hint}"))
        except ModeldropError as error:
            self._report.waiting.append(Left("target", name, error.message))
        else:
            if here is not None:
                for _, each in sorted(last.items()):
                    self._deploy(there, each, here)

    def _set(self, there: TargetThere, url: str) -> str | None:
        """Have a target here; return its name, or None if it was removed here."""
        targets = self._rooms.targets_at_backend
        name = check_target(there.name if is_alias(there.name) else nearest(there.name))
        if name != there.name:
            self._report.renamed[there.name] = name
        newest = targets.newest(name)
        if newest is not None and newest.url is None:
            reason = f"it was a target here, and stays removed: {told(newest)}"
            self._report.left.append(Left("target", name, reason))
            return None
        if not self._dry_run:
            gates = Gates(production=there.production) if newest is None else _gates(newest)
            reason = f"imported from {self._called}"
            targets.set(name, url, gates, self._request(), by=self._by, reason=reason)
        if newest is not None and there.production and not newest.production:
            reason = "it is no production target here, and stays as it is"
            self._report.left.append(Left("target", name, reason))
        self._report.count("targets", created=newest is None)
        return name

    def _deploy(self, there: TargetThere, deployment: DeploymentThere, target: str) -> None:
        """Deploy what was deployed there last, unless something of it was here ever."""
        experiment = self._here.awaited.get(deployment.version)
        if experiment is None:
            self._leave(there, deployment, "that version isn't here, and won't be")
            return
        name = f"{experiment}/{deployment.number} on {target}"
        newest = self._rooms.deployments_at_backend.newest(experiment, target)
        if newest is not None:
            if newest.version != deployment.number:
                live = f"{experiment}/{newest.version}"
                reason = f"{live} was deployed here, and that stays as it is"
                self._report.left.append(Left("deployment", name, reason))
            self._report.count("deployments", created=False)
        elif deployment.version not in self._here.versions:
            reason = f"{experiment}/{deployment.number} isn't here"
            self._report.waiting.append(Left("deployment", name, reason))
        else:
            version = self._here.versions[deployment.version]
            try:
                if version is not None:
                    self._rooms.retirements_at_backend.refuse(version, "")
                if version is not None and not self._dry_run:
                    why = printable(f"imported from {self._called}: {deployment.told}")
                    ask = Ask(self._request(), self._by, why, confirmed=False, moved=self._moved)
                    self._deployer().deploy(version, target, ask)
            except VersionRetired as error:
                self._report.left.append(Left("deployment", name, error.message))
            except ModeldropError as error:
                reason = f"{error.message}; {error.hint}" if error.hint else error.message
                self._report.waiting.append(Left("deployment", name, reason))
            else:
                self._report.count("deployments", created=True)

    def _deployer(self) -> Deployer:
        rooms = self._rooms
        return Deployer(
            rooms.home,
            rooms.backend,
            rooms.journal,
            rooms.runs_at_backend,
            rooms.aliases_at_backend,
            rooms.targets_at_backend,
            rooms.deployments_at_backend,
        )

    def _leave(self, there: TargetThere, deployment: DeploymentThere, why: str) -> None:
        name = f"{deployment.experiment}/{deployment.number} on {there.name}"
        reason = f"{deployment.told}; {why}"
        self._report.left.append(Left("deployment", printable(name), printable(reason)))

    def _request(self) -> Request:
        return Request(str(uuid.uuid4()), self._rooms.home.user)


def _gates(target: Target) -> Gates:
    """Return the gates that a target has."""
    return Gates(
        production=target.production,
        require_alias=target.require_alias,
        require_verified=target.require_verified,
        confirm=target.confirm,
        keep=target.keep,
    )
