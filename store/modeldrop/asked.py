"""What is to be registered, and by whom: as one process asks for it, or has another one do it."""

from __future__ import annotations

import time
from typing import Final, Protocol, Self

from modeldrop.errors import ModeldropError
from modeldrop.home import Home
from modeldrop.home_records import VersionWanted
from modeldrop.ledger import Request
from modeldrop.names import check_text
from modeldrop.records import Artifact, Registration, Revision, Version, registration_owner
from modeldrop.structs import Frozen, replace

# Until when what needn't be looked at again may be registered.
_ALWAYS: Final = 2**53


class Look(Protocol):
    """A look at what is to be registered, whether it is kept."""

    def look(self) -> float:
        """Look now, unless that was done; return until when that counts, by CLOCK_BOOTTIME.

        Raises:
            ArtifactCollected: it was let go.
        """
        ...

    def claimed(self) -> None:
        """Look again if it doesn't count any more, once the claim keeps the artifact.

        Raises:
            ArtifactCollected: it was let go.
        """
        ...


class Asked(Frozen):
    """What is to be registered, and by whom."""

    wanted: VersionWanted
    owner: str
    """The owner of the registration."""
    look: Look | None = None

    @classmethod
    def of(cls, wanted: VersionWanted, look: Look | None = None) -> Self:
        """Return what is asked for by what is wanted."""
        content = (wanted.experiment, wanted.run, wanted.artifact, wanted.sha256)
        return cls(wanted, registration_owner(*content, wanted.nonce), look)

    def claimed(self) -> None:
        """Be told that the claim keeps the artifact.

        Raises:
            ModeldropError: that came too late, or may have.
        """
        if self.look is not None:
            self.look.claimed()
        elif not _counts(self.wanted.until):
            message = f"whether run {self.wanted.run} is there was looked at too long ago"
            raise ModeldropError(message, hint="register it again")

    def as_errand(self) -> bytes:
        """Return what another process is to know.

        Raises:
            ArtifactCollected: see `Look.look`.
        """
        until = self.wanted.until if self.look is None else int(self.look.look())
        return replace(self.wanted, until=until).to_bytes()

    @property
    def request(self) -> Request:
        """Who asks."""
        return Request(self.wanted.request, self.wanted.user)

    def claim(self, starts_at: int, at: str) -> Registration:
        """Return the claim that says that its version stands at a number, or above."""
        return Registration(
            owner=self.owner,
            experiment=self.wanted.experiment,
            run=self.wanted.run,
            artifact=self.wanted.artifact,
            sha256=self.wanted.sha256,
            nonce=self.wanted.nonce,
            starts_at=starts_at,
            claimed_by=self.wanted.by,
            claimed_at=at,
        )

    def version(self, number: int, home: Home, at: str) -> Version:
        """Return the version under a number."""
        return Version(
            owner=self.owner,
            experiment=self.wanted.experiment,
            version=number,
            run=self.wanted.run,
            revision=self.wanted.revision,
            artifact=self.wanted.artifact,
            sha256=self.wanted.sha256,
            size=self.wanted.size,
            description=self.wanted.description,
            home=home.id,
            host=home.host,
            registered_by=self.wanted.by,
            registered_at=at,
        )


def asked(
    experiment: str,
    revision: Revision,
    artifact: Artifact,
    request: Request,
    *,
    by: str,
    description: str,
    again: bool = False,
    look: Look | None = None,
) -> Asked:
    """Return what to ask of `Registrar`.

    The caller has checked that revision and artifact are at the backend; `look` is how, if they
    were there for long enough to be let go meanwhile.

    Raises:
        InvalidName: the description or `by` is no text that can be stored.
    """
    check_text("description", description)
    check_text("name of who registers", by)
    wanted = VersionWanted(
        request=request.id,
        user=request.user,
        experiment=experiment,
        run=revision.run,
        revision=revision.revision,
        artifact=artifact.artifact,
        sha256=artifact.sha256,
        size=artifact.size,
        nonce=request.id if again else None,
        by=by,
        description=description,
        until=0 if look else _ALWAYS,
    )
    return Asked.of(wanted, look)


def _counts(until: int) -> bool:
    """Return whether a look still counts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) <= until
