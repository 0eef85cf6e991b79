"""What stands at a target: copies of versions, and the `current` that says which of them is live.

A copy is made under an id of its own, which nobody looks at before a deployment names it; it is
read back and hashed there. `current` follows the sequence of deployments: it is brought forward to
what that says now, and whoever has written it reads the sequence again. So what a reader finds is
one whole copy at any moment, and the right one once those who write have ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from modeldrop import layout
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.copies import check_names
from modeldrop.deployment_records import Current, Deployment
from modeldrop.errors import BackendError, IntegrityError, NewerFormat
from modeldrop.names import WHOLE_RUN
from modeldrop.parallel import Progress, in_parallel
from modeldrop.records import Artifact, StoredFile
from modeldrop.structs import replace
from modeldrop.transfer import Transfer, damage

_log = logging.getLogger(__name__)

_CHUNK: Final = 512 * 1024
# How often `current` is written again because the sequence moved, before that is called a failure.
_ATTEMPTS: Final = 50

Newest = Callable[[], Deployment | None]
"""Reads the sequence of deployments, and returns the newest one."""


class Place:
    """The place of a target, with its copies. For any number of threads."""

    def __init__(self, backend: Backend, repository: str) -> None:
        """Use `Targets.open`, which sees that it is the target's."""
        self._backend = backend
        self._repository = repository

    @property
    def url(self) -> str:
        """Where it is."""
        return self._backend.url

    # Copies

    def placed(self, artifact: Artifact, copy: str) -> Artifact:
        """Return an artifact with the keys that its files have in a copy here."""
        check_names(artifact)
        # Readers of a folder look for names; those of a store are told keys.
        spelled = str if self._backend.capabilities.leads else layout.encode_path
        top = "" if artifact.artifact == WHOLE_RUN else f"{artifact.artifact}/"

        def at(file: StoredFile) -> StoredFile:
            path = file.path if artifact.type == "file" else f"{top}{file.path}"
            return replace(file, key=f"{copy}/{spelled(path)}")

        return replace(artifact, files=tuple(at(file) for file in artifact.files))

    def bring(self, source: Backend, artifact: Artifact, copy: str, moved: Progress) -> None:
        """Copy an artifact to here; it is durable and verified when this returns.

        `moved` is told of each byte twice: once it is here, and once it is verified.

        Raises:
            ArtifactDamaged: what is stored isn't what was recorded.
            BackendError: the place or the backend failed, or has something else than was sent.
        """
        placed = self.placed(artifact, copy)
        origins = {file.path: file.key for file in artifact.files}

        def one(file: StoredFile, moved: Progress) -> bool:
            origin = origins[file.path]
            if self._backend.take(source, origin, file.key, file.size):
                moved(file.size)
                return True
            return _stream(source, origin, self._backend, file, moved)

        threads = min(source.capabilities.connections, self._backend.capabilities.connections)
        missing = [
            file.path for file, there in in_parallel(threads, one, placed.files, moved) if not there
        ]
        if missing:
            raise damage(artifact, missing, source.url)
        _log.debug("step: copy written")
        wrong = self.damaged(placed, moved)
        if not wrong:
            return
        # The copy is what is stored, or it isn't what was sent.
        bad = Transfer(source).damaged(artifact)
        if bad:
            raise damage(artifact, bad, source.url)
        message = f"{self.url}/{copy} holds other bytes than were sent: {', '.join(wrong)}"
        raise BackendError(message, hint="deploy again; if this stays, check the target's store")

    def damaged(self, placed: Artifact, moved: Progress = lambda _: None) -> list[str]:
        """Return the paths of a copy's files that aren't what was recorded; reads every byte."""
        return Transfer(self._backend).damaged(placed, moved)

    def missing(self, placed: Artifact) -> list[str]:
        """Return the paths of a copy's files that aren't there with their size."""
        return Transfer(self._backend).missing(placed)

    def remove(self, copy: str) -> None:
        """Remove a copy; it need not be there.

        Raises:
            BackendError: the place failed; some of the copy may be there still.
        """
        self._backend.clear(copy)

    # What is live

    def live(self, experiment: str) -> str | None:
        """Return the copy that `current` leads to, or None if there is no `current`.

        Raises:
            RecordDamaged: it can't be read.
            BackendError: the place failed, or something else stands there.
        """
        if self._backend.capabilities.leads:
            to = self._backend.led(layout.current_link(experiment))
            return None if to is None else f"{experiment}/{to}"
        found = self._current(experiment)
        return None if found is None else found.copy

    def bring_forward(
        self, experiment: str, newest: Newest, described: Callable[[Deployment], Artifact]
    ) -> bool:
        """Have `current` say what the sequence says; return whether it had to be changed.

        It lasts when this returns, whoever has written it. `described` gives the artifact that a
        deployment made live, as the registry has it.

        Raises:
            BackendError: the place failed; `current` may be behind.
            Locked: another process of this machine is at it for too long.
        """
        changed = False
        for _ in range(_ATTEMPTS):
            with self._backend.turn(layout.current_lock(experiment), f"{experiment}'s current"):
                wanted = newest()
                if wanted is None or wanted.url != self.url:
                    return changed
                changed |= self._switch(wanted, described)
            _log.debug("step: current switched")
            again = newest()
            # Read back, since in a store another writer may have been in between.
            if again is not None and self._is(again):
                return changed
        message = f"what is current at {self.url}/{experiment} doesn't come to rest"
        raise BackendError(
            message, hint="others deploy all the time: deploy again once they are done"
        )

    def _switch(self, wanted: Deployment, described: Callable[[Deployment], Artifact]) -> bool:
        """Write `current` unless it says so, or more; return whether it was written."""
        experiment = wanted.experiment
        if self._backend.capabilities.leads:
            if self.live(experiment) == wanted.copy:
                # Whoever wrote it may have died before it was on the disk.
                self._backend.confirm(layout.current_link(experiment))
                return False
            to = wanted.copy.removeprefix(f"{experiment}/")
            self._backend.lead(layout.current_link(experiment), to)
            return True
        there = self._current(experiment)
        if there is not None and there.deployment >= wanted.deployment:
            # Somebody was quicker; the sequence has it by now.
            return False
        artifact = self.placed(described(wanted), wanted.copy)
        record = Current(
            repository=self._repository,
            target=wanted.target,
            experiment=experiment,
            deployment=wanted.deployment,
            version=wanted.version,
            copy=wanted.copy,
            artifact=artifact.artifact,
            type=artifact.type,
            sha256=artifact.sha256,
            size=artifact.size,
            deployed_at=wanted.deployed_at,
            files=artifact.files,
        )
        self._backend.replace(layout.current_record(experiment), record.to_bytes())
        return True

    def _is(self, wanted: Deployment) -> bool:
        """Return whether `current` says that a deployment is live."""
        if wanted.url != self.url:
            return True
        if self._backend.capabilities.leads:
            return self.live(wanted.experiment) == wanted.copy
        found = self._current(wanted.experiment)
        return found is not None and found.deployment == wanted.deployment

    def _current(self, experiment: str) -> Current | None:
        key = layout.current_record(experiment)
        data = patiently(lambda: self._backend.read(key))
        if data is None:
            return None
        try:
            found = Current.from_bytes(data, f"{self.url}/{key}")
        except NewerFormat:
            raise
        except IntegrityError:
            # It is made again from the sequence; `verify` says that it was damaged.
            _log.warning("%s/%s is damaged", self.url, key)
            return None
        return found if found.repository == self._repository else None


def _stream(
    source: Backend, origin: str, target: Backend, file: StoredFile, moved: Progress
) -> bool:
    """Send a file from one backend to another by way of this machine; False if it is absent."""
    opened = source.source(origin)
    if opened is None:
        return False
    with opened:
        writer = target.writer(file.key, file.size)
        try:
            while data := opened.read(_CHUNK):
                writer.write(data)
                moved(len(data))
            writer.finish()
        except BaseException:
            writer.abort()
            raise
    return True
