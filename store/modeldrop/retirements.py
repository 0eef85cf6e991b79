"""Retiring versions: saying that nobody is to use one any more, so that its bytes may go.

A version's retirements are a sequence: the newest record says whether it is retired. The version
itself stays as it is for ever, and so does its number. A while after it was retired, `gc` lets its
artifact go; until then it can be taken back.

What a crash leaves: an intent, which the next one who retires a version of the experiment settles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from modeldrop import layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import IntegrityError, VersionInUse, VersionRetired
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.ledger import Ledger, Request
from modeldrop.names import check_text
from modeldrop.records import Retirement, Version
from modeldrop.sequence import Sequence
from modeldrop.structs import Frozen
from modeldrop.versions import Versions

RETIRED: Final = "retired"
UNRETIRED: Final = "unretired"

_SEQUENCE: Final = re.compile(
    rf"{re.escape(layout.EXPERIMENTS)}/(?P<experiment>[^/]+)/retirements/(?P<version>[0-9]{{8,}})"
)


class Retired(Frozen):
    """The record that says whether a version is retired."""

    retirement: Retirement
    created: bool
    """Whether this call wrote it; False if it was so already."""


class Retirements:
    """Which versions at a backend are retired."""

    def __init__(self, home: Home, backend: Backend, journal: Journal, versions: Versions) -> None:
        """Read from and append at `backend`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._versions = versions
        self._intents = Intents(home.paths.intents)

    def versions_of(self, experiment: str) -> list[int]:
        """Return the numbers of the versions that ever were retired, by a listing."""
        folder = layout.retirements(experiment)
        found = patiently(lambda: list(self._backend.children(folder)))
        return sorted(int(name) for name in found if name.isdecimal())

    def numbers(self, experiment: str, version: int) -> list[int]:
        """Return the numbers of a version's retirements by listing them: for those who check."""
        return self._sequence(experiment, version).numbers()

    def record(self, experiment: str, version: int, number: int) -> Retirement:
        """Return one record.

        Raises:
            IntegrityError: it is missing, or isn't what was written.
        """
        sequence = self._sequence(experiment, version)
        data = sequence.read(number)
        if data is None:
            message = f"{self._backend.url}/{sequence.key(number)} is missing"
            raise IntegrityError(message, hint="restore it from a copy of the store")
        return self.parse(data, experiment, version, number)

    def newest(self, experiment: str, version: int) -> Retirement | None:
        """Return the record that holds now, or None if the version never was retired.

        Costs one look where it never was.
        """
        number = self._sequence(experiment, version).last()
        return self.record(experiment, version, number) if number else None

    def of(self, version: Version) -> Retirement | None:
        """Return the record by which a version is retired now, or None if it isn't."""
        found = self.newest(version.experiment, version.version)
        return found if found is not None and found.retired else None

    def refuse(self, version: Version, hint: str) -> None:
        """Return if a version isn't retired.

        Raises:
            VersionRetired: it is; the message says by whom, when and why.
        """
        found = self.of(version)
        if found is not None:
            message = f"{found.name} is retired: {told(found)}"
            raise VersionRetired(message, hint=hint, detail=facts(found))

    def say(
        self,
        version: Version,
        request: Request,
        *,
        retired: bool,
        by: str,
        reason: str,
        used: Callable[[], Iterable[str]] = tuple,
    ) -> Retired:
        """Say that a version is retired, or is not any more; return the record that says so.

        Idempotent. `used` tells what is on the version, and so keeps it from being retired.

        Raises:
            VersionInUse: something is on it; nothing was changed.
            InvalidName: a text can't be stored.
            Locked: another process of this host retires for longer than the time-out.
            OutcomeUnknown: it may have happened.
            BackendError: it did not happen, or the backend holds another repository now.
        """
        check_text("reason", reason)
        check_text("name of who retires it", by)
        experiment, number = version.experiment, version.version
        lock = self._home.paths.retirement_lock(experiment)
        with locks.hold(lock, what=f"the retirements of {experiment}"):
            # Before settling: what an empty mount point lacks was not undone.
            patiently(lambda: check_backend(self._home, self._backend))
            self._versions.confirm(version)
            sequence = self._sequence(experiment, number)
            meaning = _Meaning(self, experiment, number)
            ledger = Ledger(sequence, self._intents, self._journal, meaning)
            ledger.settle()
            last = self.newest(experiment, number)
            if last is not None and last.retired == retired:
                sequence.confirm(last.retirement)
                return Retired(last, created=False)
            if retired and (names := sorted(used())):
                raise VersionInUse(
                    f"{experiment}/{number} is in use: {', '.join(names)}",
                    hint="move or remove that first: `modeldrop promote`, `alias rm`, or `deploy`",
                    detail={"version": f"{experiment}/{number}", "used": list(names)},
                )
            if last is None and not retired:
                raise VersionRetired(
                    f"{experiment}/{number} was never retired",
                    hint="there is nothing to take back",
                )
            at = now()

            def make(number_of: int) -> bytes:
                return Retirement(
                    owner=request.id,
                    experiment=experiment,
                    version=number,
                    retirement=number_of,
                    retired=retired,
                    sha256=version.sha256,
                    reason=reason,
                    home=self._home.id,
                    host=self._home.host,
                    retired_by=by,
                    retired_at=at,
                ).to_bytes()

            def accept(number_of: int, data: bytes) -> bool:
                return self.parse(data, experiment, number, number_of).retired == retired

            first = (last.retirement if last else 0) + 1
            appended = ledger.append(make, request, owner=request.id, at=first, accept=accept)
            record = self.parse(appended.data, experiment, number, appended.number)
            return Retired(record, created=record.owner == request.id)

    def settle(self) -> None:
        """Finish what requests of this home have begun to retire and died."""
        for intent in self._intents.all():
            found = _SEQUENCE.fullmatch(intent.sequence)
            if found is None:
                continue
            experiment, number = found["experiment"], int(found["version"])
            lock = self._home.paths.retirement_lock(experiment)
            with locks.hold(lock, what=f"the retirements of {experiment}"):
                check_backend(self._home, self._backend)
                sequence = self._sequence(experiment, number)
                meaning = _Meaning(self, experiment, number)
                Ledger(sequence, self._intents, self._journal, meaning).settle()

    def parse(self, data: bytes, experiment: str, version: int, number: int) -> Retirement:
        """Return the record that these bytes hold, checked to be the one that was asked for."""
        where = f"{self._backend.url}/{self._sequence(experiment, version).key(number)}"
        found = Retirement.from_bytes(data, where)
        if (found.experiment, found.version, found.retirement) != (experiment, version, number):
            message = f"{where} says that it is {found.reference}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return found

    def home_id(self) -> str:
        """Return the id of the home that retires here."""
        return self._home.id

    def _sequence(self, experiment: str, version: int) -> Sequence:
        return Sequence(self._backend, layout.retirements(experiment, version))


def told(record: Retirement) -> str:
    """Return who retired a version or took that back, when and why, for people."""
    what = "retired" if record.retired else "took that back"
    why = f" ({record.reason})" if record.reason else ""
    return f"{record.retired_by}@{record.host} {what} it at {record.retired_at}{why}"


def facts(record: Retirement) -> dict[str, object]:
    """Return what a program may want to know of a retirement that stood in its way."""
    return {
        "experiment": record.experiment,
        "version": record.version,
        "reason": record.reason,
        "host": record.host,
        "retired_by": record.retired_by,
        "retired_at": record.retired_at,
    }


def entry_of(record: Retirement, home: str, request: Request) -> NewEntry | None:
    """Return the entry that says that a home made a record; None if another one made it."""
    if record.home != home:
        return None
    return NewEntry(
        kind=RETIRED if record.retired else UNRETIRED,
        about=(record.reference, record.name),
        request=request.id,
        user=request.user,
        details={
            "experiment": record.experiment,
            "version": record.version,
            "retirement": record.retirement,
            "sha256": record.sha256,
            "retired": record.retired,
            "retired_by": record.retired_by,
            "reason": record.reason,
        },
    )


class _Meaning:
    """What a version's retirements mean to the journal."""

    def __init__(self, retirements: Retirements, experiment: str, version: int) -> None:
        self._retirements = retirements
        self._name = (experiment, version)

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        record = self._retirements.parse(data, *self._name, number)
        return entry_of(record, self._retirements.home_id(), request)

    def settled(self, number: int, data: bytes) -> None:
        """Nothing follows a version's retirements."""
