"""Deployments whose process died: what they had noted, and how they are finished or undone.

A note in the home says which copy a deployment was about to make. It is made before the first byte
and goes when the deployment is at its end, so one that is found under the lock of the counter is a
dead process's. Where the sequence has its record, it is finished; otherwise its copy is removed.

A record may appear late, where a request was on its way when its process died. So where it may have
been sent, the copy that it names stays for an hour.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from modeldrop import files, layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.deployment_records import Deploying
from modeldrop.deployments import Deployments
from modeldrop.errors import BackendError, Conflict, Locked
from modeldrop.following import Following
from modeldrop.form import moment, now
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.journal import Journal
from modeldrop.ledger import Ledger
from modeldrop.placement import Place
from modeldrop.sequence import Sequence
from modeldrop.structs import Frozen, replace
from modeldrop.targets import Targets

_log = logging.getLogger(__name__)

# S3 and Azure refuse what was signed more than fifteen minutes ago.
_LATE: Final = timedelta(hours=1)

FINISHED: Final = "finished"
UNDONE: Final = "undone"


class Settled(Frozen):
    """What became of a deployment whose process had died."""

    experiment: str
    target: str
    outcome: str
    """`FINISHED` or `UNDONE`."""
    begun_at: str
    what: str
    """For people: which deployment it was, and what was done."""


class Interrupted:
    """The deployments of a home that came to no end."""

    def __init__(
        self,
        home: Home,
        backend: Backend,
        journal: Journal,
        targets: Targets,
        deployments: Deployments,
        following: Following,
    ) -> None:
        """Look after those of `home`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._targets = targets
        self._deployments = deployments
        self._following = following
        self._intents = Intents(home.paths.intents)

    def places(self) -> list[tuple[str, str]]:
        """Return the experiments and targets of what is begun and not at its end, or has died."""
        places = {(each.experiment, each.target) for each in self._notes()}
        for intent in self._intents.all():
            place = layout.place_of_deployments(intent.sequence)
            if place is not None:
                places.add(place)
        return sorted(places)

    def settle_all(self) -> list[Settled]:
        """Finish or undo what this home began and what died; return what it was.

        What another process is at just now is left to that, and so is a place that isn't to be
        reached now.

        Raises:
            BackendError: the backend failed.
        """
        patiently(lambda: check_backend(self._home, self._backend))
        found: list[Settled] = []
        for experiment, name in self.places():
            lock = self._home.paths.counter_lock(f"{experiment}+{name}")
            try:
                with locks.hold(lock, what=f"the deployments {experiment}@{name}", timeout=0):
                    found += self.settle(experiment, name)
            except Locked:
                continue
            except (BackendError, Conflict) as error:
                _log.warning("%s@%s can't be settled yet: %s", experiment, name, error)
        return found

    def settle(self, experiment: str, name: str) -> list[Settled]:
        """Do so at one place, whose lock the caller holds.

        Raises:
            BackendError: the backend or the target failed; the next one goes on.
        """
        sequence = self._deployments.sequence(experiment, name)
        begun = {each.request: each for each in self._intents.of(sequence.folder)}
        notes = [
            each for each in self._notes() if (each.experiment, each.target) == (experiment, name)
        ]
        fresh = {each.request for each in notes if each.settled_at is None}
        for number, note in enumerate(notes):
            if note.request in begun and note.request in fresh:
                # Before its intent goes, which alone says that the record may have been sent.
                notes[number] = replace(note, settled_at=now())
                self.note(notes[number])
        if begun:
            meaning = self._following.meaning(experiment, name, None)
            Ledger(sequence, self._intents, self._journal, meaning).settle()
        found = []
        for note in notes:
            deployment = self._finish(note, sequence)
            if deployment is None:
                self._undo(note)
            if note.request in fresh or deployment is not None:
                found.append(_told(note.experiment, name, note.begun_at, deployment, note.version))
        noted = {each.request for each in notes}
        for intent in begun.values():
            if intent.request not in noted:
                there = sequence.find(intent.owner, intent.starts_at)
                deployment = there[0] if isinstance(there, tuple) else None
                found.append(_told(experiment, name, intent.begun_at, deployment, None))
        for each in found:
            _log.info("%s", each.what)
        return found

    def note(self, note: Deploying) -> None:
        """Write down what is about to be copied where; it survives a crash from here on."""
        files.make_folders(self._home.paths.deploying)
        files.write_durable(self._home.paths.deployment_note(note.request), note.to_bytes())

    def forget(self, note: Deploying) -> None:
        """Remove a note, of which nothing is left to do.

        Not durably: one that a power loss brings back is settled again, to the same end.
        """
        self._home.paths.deployment_note(note.request).unlink(missing_ok=True)

    def undo(self, note: Deploying, place: Place) -> None:
        """Remove a copy that no deployment names, and its note.

        Raises:
            BackendError: the place failed; whoever settles the note goes on.
        """
        place.remove(note.copy)
        self.forget(note)

    def _finish(self, note: Deploying, sequence: Sequence) -> int | None:
        """Bring forward what follows the deployment of a note, if there is one; return which."""
        there = sequence.find(note.request, note.starts_at)
        if not isinstance(there, tuple):
            return None
        number, data = there
        parsed = self._deployments.parse(data, note.experiment, note.target, number)
        self._following.follow(parsed)
        self.forget(note)
        return number

    def _undo(self, note: Deploying) -> None:
        if note.settled_at is not None and age(note.settled_at, note.request) < _LATE:
            return
        try:
            opened = self._targets.open_url(note.target, note.url)
        except (BackendError, Conflict) as error:
            # Another disk is mounted there, say; a new deployment needn't wait for it.
            _log.warning("%s/%s can't be removed yet: %s", note.url, note.copy, error)
            return
        self.undo(note, Place(opened, self._home.repository))

    def _notes(self) -> list[Deploying]:
        """Return the notes of this home, oldest first."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._home.paths.deploying.iterdir():
                if not path.name.startswith(files.TEMP_PREFIX):
                    # One that goes meanwhile is that of another place.
                    with contextlib.suppress(FileNotFoundError):
                        found.append(Deploying.from_bytes(path.read_bytes(), str(path)))
        return sorted(found, key=lambda each: (each.begun_at, each.request))


def age(at: str, where: str) -> timedelta:
    """Return how long ago a time was, by this host's clock; `where` names the record that has it.

    Raises:
        RecordDamaged: it is no time.
    """
    return datetime.now(UTC) - moment(at, where)


def _told(
    experiment: str, name: str, begun_at: str, deployment: int | None, version: int | None
) -> Settled:
    if deployment is not None:
        what = f"{experiment}@{name}~{deployment}, which was interrupted, is finished"
        return Settled(experiment, name, FINISHED, begun_at, what)
    which = f"{experiment}/{version}" if version else experiment
    what = f"a deployment of {which} to {name} that was interrupted is undone"
    return Settled(experiment, name, UNDONE, begun_at, what)
