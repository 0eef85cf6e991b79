"""What is let go, as people meet it: retiring a version, taking that back, and being told of it.

Neither retiring nor taking back is a lock. A move of an alias to a version that is just being
retired keeps its bytes, since an alias pins whatever it is on. A version that is taken back while
it is just being collected either keeps its bytes or stays retired: of the two records that say so,
only one is ever created.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from modeldrop.backend.patience import patiently
from modeldrop.collection import Look, collected
from modeldrop.errors import ArtifactCollected, ArtifactDamaged
from modeldrop.ledger import Request
from modeldrop.records import Artifact, Collection, Retirement, Revision, Version
from modeldrop.references import Resolved
from modeldrop.retirements import Retired, told
from modeldrop.revisions import Shown
from modeldrop.rooms import Rooms


class Wanted:
    """An artifact that is about to be registered, kept from being let go meanwhile."""

    def __init__(self, rooms: Rooms) -> None:
        """Begin before anything of the run is looked at."""
        self._rooms = rooms
        self._look = Look()
        self._found: tuple[Shown, Artifact] | None = None
        self._looked = False

    def require(self, shown: Shown, artifact: Artifact) -> None:
        """Make sure that the bytes of an artifact are there, and are meant to be.

        Raises:
            ArtifactCollected: they were let go.
            ArtifactDamaged: some of them are missing otherwise.
        """
        self._found = shown, artifact
        self._looked = shown.collections is not None
        if shown.collections:
            self._keep(shown.collections)
        if unseen := shown.unseen(artifact):
            with explained(self._rooms, Resolved(shown.revision, None, None), artifact):
                patiently(lambda: self._rooms.transfer.require(unseen))

    def claimed(self) -> None:
        """Look once more, where that wasn't just done: from the claim on the artifact is pinned.

        Raises:
            ArtifactCollected: it was let go.
        """
        assert self._found is not None  # noqa: S101 - nothing is claimed before it is required
        if not self._looked or self._look.is_over:
            self._keep()

    def look(self) -> float:
        """Look now, unless that was done; return until when `claimed` has nothing to look at.

        By CLOCK_BOOTTIME.

        Raises:
            ArtifactCollected: it was let go.
        """
        assert self._found is not None  # noqa: S101 - as above
        if not self._looked:
            self._keep()
            self._looked = True
        return self._look.until

    def _keep(self, seen: int = 0) -> None:
        assert self._found is not None  # noqa: S101 - as above
        shown, artifact = self._found
        _keep(self._rooms, shown.revision, artifact.artifact, seen)


def _keep(rooms: Rooms, revision: Revision, artifact: str, seen: int = 0) -> None:
    collections = rooms.runs_at_backend.collections
    collections.keep(revision, artifact, rooms.home.user, seen)


def retire(rooms: Rooms, version: Version, *, by: str, reason: str) -> Retired:
    """Retire a version, if nothing is on it.

    Raises:
        VersionInUse: an alias is on it, or it is live at a target; nothing was changed.
        ModeldropError: as for `Retirements.say`.
    """

    def used() -> Iterator[str]:
        for move in rooms.aliases_at_backend.all([version.experiment]):
            if move.version == version.version:
                yield move.name
        for deployment in rooms.deployments_at_backend.all([version.experiment]):
            if deployment.version == version.version:
                yield f"{version.experiment}@{deployment.target}"

    return rooms.retirements_at_backend.say(
        version, _request(rooms), retired=True, by=by, reason=reason, used=used
    )


def take_back(rooms: Rooms, version: Version, *, by: str, reason: str) -> Retired:
    """Have a version retired no more, if its bytes are there.

    Raises:
        ArtifactCollected: they were let go.
        VersionRetired: it never was retired.
        ModeldropError: as for `Retirements.say`.
    """

    def say(*, retired: bool) -> Retired:
        return rooms.retirements_at_backend.say(
            version, _request(rooms), retired=retired, by=by, reason=reason
        )

    revision = rooms.runs_at_backend.revision(version.run, version.revision)
    _keep(rooms, revision, version.artifact)
    said = say(retired=False)
    try:
        # It may have been marked since, by somebody who had read that it is retired.
        _keep(rooms, revision, version.artifact)
    except ArtifactCollected:
        say(retired=True)
        raise
    return said


def departure(
    rooms: Rooms, version: Version, revision: Revision
) -> tuple[Retirement | None, Collection | None]:
    """Return what retired a version and what collected its bytes, as far as anything did."""
    retirement = rooms.retirements_at_backend.of(version)
    if retirement is None:
        return None, None
    state = rooms.runs_at_backend.collections.state(version.run)
    return retirement, state.record(revision, version.artifact)


@contextlib.contextmanager
def explained(rooms: Rooms, found: Resolved, artifact: Artifact) -> Iterator[None]:
    """Have bytes that are missing because they were let go be told of as that.

    Raises:
        ArtifactCollected: so they are.
    """
    try:
        yield
    except ArtifactDamaged:
        explain(rooms, found, artifact)
        raise


def explain(rooms: Rooms, found: Resolved, artifact: Artifact) -> None:
    """Return if an artifact that was found wasn't let go.

    Raises:
        ArtifactCollected: it was; the message says who retired it, too.
    """
    state = rooms.runs_at_backend.collections.state(found.revision.run)
    record = state.record(found.revision, artifact.artifact)
    if record is not None:
        retired = rooms.retirements_at_backend.of(found.version) if found.version else None
        name = found.name if found.version else f"{found.name}/{artifact.artifact}"
        raise collected(record, name, told(retired) if retired else "")


def _request(rooms: Rooms) -> Request:
    return Request(str(uuid.uuid4()), rooms.home.user)
