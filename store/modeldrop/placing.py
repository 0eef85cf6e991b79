"""Giving a version the number that it has elsewhere, or leaving that number vacant.

What `versions` gives is the next number, whichever that is; here it is that one number or none.
The lock, the claim, the intent and the journal are as for a registration, so whoever registers the
same artifact later is told the imported version, and a crash is settled by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modeldrop import layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import Conflict
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.ledger import Request
from modeldrop.names import check_experiment, check_text
from modeldrop.records import (
    Artifact,
    Origin,
    Registration,
    Revision,
    VacantVersion,
    Version,
    registration_owner,
    vacant_owner,
)
from modeldrop.structs import Frozen
from modeldrop.versions import Meaning, Versions

_ANOTHER_NAME: Final = "import it under another name: `--name OLD=NEW`"


class Given(Frozen):
    """A number that was given elsewhere, and what was said with it."""

    experiment: str
    number: int
    by: str
    at: str
    description: str
    origin: Origin
    again: bool = False
    """Whether the same artifact has an earlier number of the experiment already."""


class Placing:
    """What puts imported versions at a backend, each under its own number."""

    def __init__(self, home: Home, backend: Backend, versions: Versions) -> None:
        """Place among `versions`."""
        self._home = home
        self._backend = backend
        self._versions = versions

    def version(
        self,
        given: Given,
        revision: Revision,
        artifact: Artifact,
        request: Request,
        keep: Callable[[], None],
    ) -> Version:
        """Give an artifact this number; return its version. Idempotent, also after a crash.

        `keep` makes sure, just before it is claimed, that the artifact isn't let go.

        Raises:
            ArtifactCollected: `keep` says that it was.
            Conflict: the number is taken, or the one below it isn't there.
            InvalidName: the description or `by` is no text that can be stored.
            OutcomeUnknown: it may have happened; the next import finds out.
            BackendError: it did not happen.
        """
        check_text("description", given.description)
        check_text("name of who registered", given.by)
        experiment, number, origin = given.experiment, given.number, given.origin
        nonce = f"import/{number}" if given.again else None
        owner = registration_owner(
            experiment, revision.run, artifact.artifact, artifact.sha256, nonce
        )
        claim = Registration(
            owner=owner,
            experiment=experiment,
            run=revision.run,
            artifact=artifact.artifact,
            sha256=artifact.sha256,
            nonce=nonce,
            starts_at=number,
            claimed_by=origin.imported_by,
            claimed_at=now(),
        )
        version = Version(
            owner=owner,
            experiment=experiment,
            version=number,
            run=revision.run,
            revision=revision.revision,
            artifact=artifact.artifact,
            sha256=artifact.sha256,
            size=artifact.size,
            description=given.description,
            home=self._home.id,
            host=self._home.host,
            registered_by=given.by,
            registered_at=given.at,
            origin=origin,
        )
        placed = self._place(version, claim, request, keep)
        if isinstance(placed, VacantVersion):
            raise _taken(version, placed)
        return placed

    def vacant(
        self, number: int, experiment: str, reason: str, origin: Origin, request: Request
    ) -> VacantVersion:
        """Leave this number vacant for ever; return the record that says so. Idempotent.

        Raises:
            Conflict: the number is taken, or the one below it isn't there.
            OutcomeUnknown: it may have happened; the next import finds out.
            BackendError: it did not happen.
        """
        vacant = VacantVersion(
            owner=vacant_owner(experiment, number),
            experiment=experiment,
            version=number,
            reason=check_text("reason", reason),
            home=self._home.id,
            host=self._home.host,
            left_by=origin.imported_by,
            left_at=now(),
            origin=origin,
        )
        placed = self._place(vacant, None, request, lambda: None)
        if isinstance(placed, Version):
            raise _taken(vacant, placed)
        return placed

    def _place(
        self,
        wanted: Version | VacantVersion,
        claim: Registration | None,
        request: Request,
        keep: Callable[[], None],
    ) -> Version | VacantVersion:
        experiment, number = check_experiment(wanted.experiment), wanted.version
        what = f"the experiment {experiment}"
        with locks.hold(self._home.paths.counter_lock(experiment), what=what):
            # Before settling: what an empty mount point lacks was not undone.
            patiently(lambda: check_backend(self._home, self._backend))
            if isinstance(wanted, Version):
                # What the version will refer to.
                folder = layout.revisions(wanted.run)
                self._backend.confirm(layout.numbered(folder, wanted.revision))
            meaning = Meaning(self._versions, experiment)
            ledger = self._versions.ledger(meaning)
            ledger.settle()
            there = self._versions.record(experiment, number)
            if there is not None:
                if there.owner != wanted.owner:
                    raise _taken(wanted, there)
                self._versions.confirm(there)
                self._versions.bring_forward(experiment, number)
                return there
            if number > 1 and self._versions.record(experiment, number - 1) is None:
                message = f"{experiment}/{number} can't be imported: {number - 1} isn't there"
                raise Conflict(message, hint="run the same import again")
            if claim is not None:
                keep()
                meaning.first = self._versions.registrations.claim(claim)
            appended = ledger.append(
                lambda _: wanted.to_bytes(),
                request,
                owner=wanted.owner,
                at=number,
                shared=True,
                # Whoever took the number: the next one is none that was asked for.
                accept=lambda *_: True,
            )
        placed = self._versions.parse_any(appended.data, experiment, appended.number)
        if placed.owner != wanted.owner:
            raise _taken(wanted, placed)
        return placed


def _taken(wanted: Version | VacantVersion, there: Version | VacantVersion) -> Conflict:
    name = f"{wanted.experiment}/{wanted.version}"
    return Conflict(
        f"{name} is taken here: {told(there)}",
        hint=_ANOTHER_NAME,
        detail={"experiment": wanted.experiment, "version": wanted.version},
    )


def told(there: Version | VacantVersion) -> str:
    """Return what a number means here, for people."""
    if isinstance(there, VacantVersion):
        return f"it was left vacant by {there.left_by}@{there.host} at {there.left_at}"
    return (
        f"it is {there.artifact} of run {there.run}, registered by {there.registered_by} at "
        f"{there.registered_at}"
    )
