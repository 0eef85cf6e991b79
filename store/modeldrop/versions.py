"""Versions of experiments: the sequence at the backend, and the file-locked counter before it.

The sequence at the backend is the truth. The counter, `refs/<experiment>` of the home, says how
far this home has seen it, so that a registration needs no search; its lock lets one process of
this host append at a time, so that no conflict ever happens here. Across hosts the sequence
decides.

Who gives an artifact its version is `registrar`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from modeldrop import counters, layout
from modeldrop.backend.base import Backend
from modeldrop.errors import (
    CounterDamaged,
    IntegrityError,
    VersionNotFound,
    VersionVacant,
)
from modeldrop.form import damaged
from modeldrop.home import Home
from modeldrop.home_records import Counter
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.ledger import Ledger, Request
from modeldrop.names import check_experiment, is_experiment, printable
from modeldrop.records import (
    Registration,
    VacantVersion,
    Version,
)
from modeldrop.registrations import Registrations
from modeldrop.sequence import Sequence

_log = logging.getLogger(__name__)

REGISTERED: Final = "registered"
LEFT_VACANT: Final = "left-vacant"

# How a vacant version's bytes begin to tell that they are one; in a text the quotes are escaped.
_VACANT: Final = b'"kind": "vacant-version"'


class Versions:
    """The versions at a backend."""

    def __init__(self, home: Home, backend: Backend, journal: Journal) -> None:
        """Read from and register at `backend`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._intents = Intents(home.paths.intents)
        self.registrations = Registrations(backend)
        """What registrations write beside the versions."""

    def experiments(self) -> Iterator[str]:
        """Yield the names of the experiments at the backend, in no particular order."""
        for name in self._backend.children(layout.EXPERIMENTS):
            if is_experiment(name):
                yield name

    def last(self, experiment: str) -> int:
        """Return the newest version's number at the backend, 0 if there is none."""
        return self.sequence(experiment).last(self._seen(experiment))

    def reach(self, experiment: str, seen: int) -> int:
        """Return the newest version's number at the backend, going on from one that was read.

        Where that one isn't there any more, the backend was put back to an earlier state, and its
        versions are counted anew.
        """
        sequence = self.sequence(experiment)
        newest, there = sequence.since(seen)
        return newest if there else sequence.last()

    def numbers(self, experiment: str) -> list[int]:
        """Return the numbers of the versions by listing them: for those who check."""
        return self.sequence(experiment).numbers()

    def version(self, experiment: str, number: int | None = None) -> Version:
        """Return a version, the newest one by default.

        Raises:
            InvalidName: it is no valid experiment name.
            VersionNotFound: there is no such version.
        """
        check_experiment(experiment)
        newest = number is None
        number = self.last(experiment) if number is None else number
        found = self._read(experiment, number)
        if found is None and newest and number:
            # The counter misled us: the backend has lost versions, or was put back.
            number = self.sequence(experiment).last()
            found = self._read(experiment, number)
        vacant = found
        while newest and isinstance(found, VacantVersion):
            number -= 1
            found = self._read(experiment, number)
        found = found or vacant
        if isinstance(found, VacantVersion):
            raise VersionVacant(
                f"{experiment}/{found.version} is vacant: {found.reason}",
                hint=f"`modeldrop list {experiment}` lists the versions that there are",
                detail={"experiment": experiment, "version": found.version},
            )
        if found is None:
            what = f"version {experiment}/{number}" if number else f"experiment {experiment!r}"
            message = (
                f"there is no {what} at {self._backend.url}, by the home {self._home.paths.root}"
            )
            raise VersionNotFound(message, hint="`modeldrop list` lists what there is")
        return found

    def all(self, experiment: str) -> list[Version]:
        """Return the experiment's versions, oldest first; vacant numbers are passed over.

        Raises:
            InvalidName: it is no valid experiment name.
            VersionNotFound: there are none.
        """
        newest = self.version(experiment)

        def read(number: int) -> Version | None:
            with contextlib.suppress(VersionVacant):
                return self.version(experiment, number)
            return None

        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            older = pool.map(read, range(1, newest.version))
            return [*(each for each in older if each is not None), newest]

    def pinned(self, by: str, experiment: str, number: int, sha256: str | None) -> Version:
        """Return a version that a record pins, named by `by`.

        Raises:
            VersionNotFound: the version isn't there.
            IntegrityError: it has another digest than is pinned.
        """
        version = self.version(experiment, number)
        if version.sha256 != sha256:
            pins = f"{by} pins {sha256} as {experiment}/{number}"
            message = f"{pins}, and that is {version.sha256} now"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return version

    def record(self, experiment: str, number: int) -> Version | VacantVersion | None:
        """Return what bears a number: a version, or that it is vacant; None if nothing does."""
        return self._read(check_experiment(experiment), number)

    def confirm(self, version: Version | VacantVersion) -> None:
        """Make sure that a version that was read lasts; see `Backend.confirm`."""
        self.sequence(version.experiment).confirm(version.version)

    def counter(self, experiment: str) -> int | None:
        """Return how far this home has seen the versions, or None if it never looked.

        Raises:
            CounterDamaged: the counter can't be read.
        """
        return counters.seen(self._home, Counter, experiment)

    def bring_forward(self, experiment: str, number: int) -> None:
        """Move the counter up to a number that was seen in the sequence; never back."""
        counters.bring_forward(self._home, Counter(experiment, number, self._home.repository))

    def claims(self, experiment: str, known: Container[str]) -> list[Registration]:
        """Return the claims of an experiment but those of known owners: what is under way, or died.

        Raises:
            IntegrityError: one isn't what was written.
        """
        return self.registrations.claims(experiment, known)

    def parse(self, data: bytes, experiment: str, number: int) -> Version:
        """Return the version that these bytes hold, checked to be the one that was asked for."""
        found = self.parse_any(data, experiment, number)
        if isinstance(found, VacantVersion):
            message = f"{experiment}/{number} is vacant, and was to be a version: {found.reason}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return found

    def parse_any(self, data: bytes, experiment: str, number: int) -> Version | VacantVersion:
        """Return what these bytes hold: a version, or that its number is vacant; checked so."""
        where = f"{self._backend.url}/{layout.numbered(layout.versions(experiment), number)}"
        found: Version | VacantVersion
        # A version's own bytes say so; whatever else they are, its class says what is wrong.
        if _VACANT in data:
            found = VacantVersion.from_bytes(data, where)
        else:
            found = Version.from_bytes(data, where)
        if (found.experiment, found.version) != (experiment, number):
            message = f"{where} says that it is {found.experiment}/{found.version}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        # A whole run is pulled under this name.
        if isinstance(found, Version) and not layout.is_run_folder(found.run):
            raise damaged(where, f"{printable(found.run)!r} is no run")
        return found

    def entry(self, version: Version | VacantVersion, request: Request) -> NewEntry | None:
        """Return the entry that says that this home made such a record; None if it didn't."""
        meaning = Meaning(self, version.experiment)
        return meaning.entry(version.version, version.to_bytes(), request)

    def home_id(self) -> str:
        """Return the id of the home that registers here."""
        return self._home.id

    def ledger(self, meaning: Meaning) -> Ledger:
        """Return what appends to the experiment of `meaning`, for the holder of its lock."""
        sequence = self.sequence(meaning.experiment)
        return Ledger(sequence, self._intents, self._journal, meaning)

    def _seen(self, experiment: str) -> int:
        """Return the counter as a hint for readers, who need none."""
        try:
            return self.counter(experiment) or 0
        except (CounterDamaged, OSError):
            return 0

    def sequence(self, experiment: str) -> Sequence:
        """Return the sequence of an experiment's versions."""
        return Sequence(self._backend, layout.versions(experiment))

    def _read(self, experiment: str, number: int) -> Version | VacantVersion | None:
        data = self.sequence(experiment).read(number)
        return None if data is None else self.parse_any(data, experiment, number)


class Meaning:
    """What an experiment's records mean to the counter, to registrations and to the journal."""

    def __init__(self, versions: Versions, experiment: str) -> None:
        """Say it of this experiment."""
        self._versions = versions
        self.experiment = experiment
        self.first: int | None = None
        """The number that the claim names, where that is known."""

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        """Return the entry that says that this home made a record; None if it didn't."""
        version = self._versions.parse_any(data, self.experiment, number)
        if version.home != self._versions.home_id():
            return None
        if isinstance(version, VacantVersion):
            return _left_vacant(version, request)
        return registered(version, request)

    def settled(self, number: int, data: bytes) -> None:
        """Bring the counter forward, and note what the registration came to."""
        version = self._versions.parse_any(data, self.experiment, number)
        self._versions.bring_forward(self.experiment, number)
        if number != self.first and isinstance(version, Version):
            self._versions.registrations.note_done(version)


def registered(version: Version, request: Request) -> NewEntry:
    """Return the entry that says that this home registered a version."""
    return NewEntry(
        kind=REGISTERED,
        about=(
            f"{version.experiment}/{version.version}",
            f"run:{version.run}~{version.revision}",
        ),
        request=request.id,
        user=request.user,
        details={
            "experiment": version.experiment,
            "version": version.version,
            "run": version.run,
            "revision": version.revision,
            "artifact": version.artifact,
            "sha256": version.sha256,
            "size": version.size,
            "registered_by": version.registered_by,
            "description": version.description,
            **({"origin": version.origin.as_json()} if version.origin else {}),
        },
    )


def _left_vacant(vacant: VacantVersion, request: Request) -> NewEntry:
    return NewEntry(
        kind=LEFT_VACANT,
        about=(f"{vacant.experiment}/{vacant.version}",),
        request=request.id,
        user=request.user,
        details={
            "experiment": vacant.experiment,
            "version": vacant.version,
            "reason": vacant.reason,
            **({"origin": vacant.origin.as_json()} if vacant.origin else {}),
        },
    )
