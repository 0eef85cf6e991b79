"""Versions of experiments: the file-locked counter in front of the sequence, and registering.

The sequence at the backend is the truth. The counter, `refs/<experiment>` of the home, says how
far this home has seen it, so that a registration needs no search; its lock lets one process of
this host append at a time, so that no conflict ever happens here. Across hosts the sequence
decides.

Registering is idempotent by content. The owner of a registration is the digest of what is
registered, and its claim, `registrations/<owner>.json`, says from which number on a record with
that owner may stand: whoever registers the same again, on any host and at any time, reads upward
from there.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from modeldrop import counters, layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.crowd import Crowd
from modeldrop.errors import (
    CounterDamaged,
    IntegrityError,
    ModeldropError,
    OutcomeUnknown,
    VersionNotFound,
    VersionVacant,
)
from modeldrop.form import damaged, now
from modeldrop.home import Home
from modeldrop.home_records import Counter
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.ledger import Ledger, Request
from modeldrop.names import check_experiment, check_text, is_experiment, printable
from modeldrop.records import (
    Artifact,
    Registration,
    RegistrationDone,
    Revision,
    VacantVersion,
    Version,
    registration_owner,
)
from modeldrop.registrations import Registrations
from modeldrop.sequence import Sequence

_log = logging.getLogger(__name__)

REGISTERED: Final = "registered"
LEFT_VACANT: Final = "left-vacant"

# How a vacant version's bytes begin to tell that they are one; in a text the quotes are escaped.
_VACANT: Final = b'"kind": "vacant-version"'


@dataclass(frozen=True, slots=True)
class Registered:
    """The version that an artifact has."""

    version: Version
    created: bool
    """Whether this call registered it; False if it had been registered before."""


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
        self._crowds: dict[str, Crowd] = {}

    def experiments(self) -> Iterator[str]:
        """Yield the names of the experiments at the backend, in no particular order."""
        for name in self._backend.children(layout.EXPERIMENTS):
            if is_experiment(name):
                yield name

    def last(self, experiment: str) -> int:
        """Return the newest version's number at the backend, 0 if there is none."""
        return self._sequence(experiment).last(self._seen(experiment))

    def reach(self, experiment: str, seen: int) -> int:
        """Return the newest version's number at the backend, going on from one that was read.

        Where that one isn't there any more, the backend was put back to an earlier state, and its
        versions are counted anew.
        """
        sequence = self._sequence(experiment)
        newest, there = sequence.since(seen)
        return newest if there else sequence.last()

    def numbers(self, experiment: str) -> list[int]:
        """Return the numbers of the versions by listing them: for those who check."""
        return self._sequence(experiment).numbers()

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
            number = self._sequence(experiment).last()
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
        self._sequence(version.experiment).confirm(version.version)

    def register(
        self,
        experiment: str,
        revision: Revision,
        artifact: Artifact,
        request: Request,
        *,
        by: str,
        description: str,
        again: bool = False,
        claimed: Callable[[], None] = lambda: None,
    ) -> Registered:
        """Give an artifact the next version of an experiment, or find the one that it has.

        The caller has checked that revision and artifact are at the backend. The answer is the
        caller's own version, never merely the newest. `claimed` is called once the claim keeps the
        artifact from being let go, to raise if that came too late.

        Raises:
            Locked: another process of this host registers for longer than the time-out.
            CounterDamaged: the counter can't be read.
            InvalidName: the description or `by` is no text that can be stored.
            BackendError: the backend holds another repository now, or failed.
            OutcomeUnknown: it may have happened; registering again finds out, unless `again`.
        """
        check_text("description", description)
        check_text("name of who registers", by)
        nonce = request.id if again else None
        owner = registration_owner(
            experiment, revision.run, artifact.artifact, artifact.sha256, nonce
        )
        what = f"the experiment {experiment}"
        crowd = self._crowds.setdefault(experiment, Crowd())
        crowd.wait()
        with (
            locks.hold(self._home.paths.counter_lock(experiment), what=what),
            _hinted(experiment, again=again),
        ):
            # Before settling: what an empty mount point lacks was not undone.
            patiently(lambda: check_backend(self._home, self._backend))
            # What the version will refer to.
            self._backend.confirm(
                layout.numbered(layout.revisions(revision.run), revision.revision)
            )
            sequence = self._sequence(experiment)
            meaning = Meaning(self, experiment)
            ledger = self.ledger(meaning)
            ledger.settle()
            seen = self.counter(experiment) or 0
            newest, there = sequence.since(seen)
            if not there:
                path = self._home.paths.counter(experiment)
                what = f"{experiment}/{seen} was registered"
                raise counters.lost(path, what, self._backend.url)
            claim = Registration(
                owner=owner,
                experiment=experiment,
                run=revision.run,
                artifact=artifact.artifact,
                sha256=artifact.sha256,
                nonce=nonce,
                starts_at=newest + 1,
                claimed_by=by,
                claimed_at=now(),
            )
            first = starts_at = self.registrations.claim(claim)
            _log.debug("step: claimed")
            claimed()
            if starts_at != claim.starts_at:
                # Claimed before: it may have its version already.
                found = self._look_up(experiment, owner, starts_at, sequence)
                if isinstance(found, Version):
                    sequence.confirm(found.version)
                    self.bring_forward(experiment, found.version)
                    return Registered(found, created=False)
                starts_at = found
            meaning.first = first

            def make(number: int) -> bytes:
                return Version(
                    owner=owner,
                    experiment=experiment,
                    version=number,
                    run=revision.run,
                    revision=revision.revision,
                    artifact=artifact.artifact,
                    sha256=artifact.sha256,
                    size=artifact.size,
                    description=description,
                    home=self._home.id,
                    host=self._home.host,
                    registered_by=by,
                    registered_at=claim.claimed_at,
                ).to_bytes()

            begun = time.monotonic()
            # With a nonce the owner is this request's alone, and others' numbers needn't be read.
            appended = ledger.append(make, request, owner=owner, at=starts_at, shared=not again)
            crowd.met(appended.conflicts, time.monotonic() - begun)
            version = self.parse(appended.data, experiment, appended.number)
            return Registered(version, created=appended.created)

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
        sequence = self._sequence(meaning.experiment)
        return Ledger(sequence, self._intents, self._journal, meaning)

    def _look_up(
        self, experiment: str, owner: str, starts_at: int, sequence: Sequence
    ) -> Version | int:
        """Return the version of a registration that was claimed, or where to go on from."""
        first = self._read(experiment, starts_at)
        if first is None:
            return starts_at
        if first.owner == owner and isinstance(first, Version):
            return first
        key = layout.registration_done(experiment, owner)
        data = patiently(lambda: self._backend.read(key))
        if data is not None:
            done = RegistrationDone.from_bytes(data, f"{self._backend.url}/{key}")
            noted = self.version(experiment, done.version)
            if noted.owner != owner:
                message = (
                    f"{self._backend.url}/{key} names {experiment}/{done.version}, "
                    "and that is another registration"
                )
                raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
            return noted
        found = sequence.find(owner, starts_at + 1)
        if isinstance(found, int):
            return found
        version = self.parse(found[1], experiment, found[0])
        self.registrations.note_done(version)
        return version

    def _seen(self, experiment: str) -> int:
        """Return the counter as a hint for readers, who need none."""
        try:
            return self.counter(experiment) or 0
        except (CounterDamaged, OSError):
            return 0

    def _sequence(self, experiment: str) -> Sequence:
        return Sequence(self._backend, layout.versions(experiment))

    def _read(self, experiment: str, number: int) -> Version | VacantVersion | None:
        data = self._sequence(experiment).read(number)
        return None if data is None else self.parse_any(data, experiment, number)


@contextlib.contextmanager
def _hinted(experiment: str, *, again: bool) -> Iterator[None]:
    """Have errors after which it may have happened say what is true of `--again`.

    What they say otherwise, that repeating is safe, holds only without it.
    """
    try:
        yield
    except ModeldropError as error:
        # The plain one is the journal's: the version may be given then.
        if again and (isinstance(error, OutcomeUnknown) or type(error) is ModeldropError):
            error.hint = (
                f"see `modeldrop list {experiment}` before you run it again: `--again` gives one "
                "more version each time, also if this one was given"
            )
        raise


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
        return NewEntry(
            kind=REGISTERED,
            about=(f"{version.experiment}/{number}", f"run:{version.run}~{version.revision}"),
            request=request.id,
            user=request.user,
            details={
                "experiment": version.experiment,
                "version": number,
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

    def settled(self, number: int, data: bytes) -> None:
        """Bring the counter forward, and note what the registration came to."""
        version = self._versions.parse_any(data, self.experiment, number)
        self._versions.bring_forward(self.experiment, number)
        if number != self.first and isinstance(version, Version):
            self._versions.registrations.note_done(version)


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
