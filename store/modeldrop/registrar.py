"""Registering: gives an artifact the next version of an experiment.

It is idempotent by content. The owner of a registration is the digest of what is registered, and
its claim, `registrations/<owner>.json`, says from which number on a record with that owner may
stand: whoever registers the same again, on any host and at any time, reads upward from there.

Several new ones of an experiment go together where the backend lets waits be shared, at the price
of one: those of one caller, and those of other processes of this home that wait for the lock, which
hand what they want to its holder (`errands`). Whatever isn't new, or meets trouble, is registered
alone.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final

from modeldrop import counters, layout, locks
from modeldrop.admission import check_backend
from modeldrop.asked import Asked
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.batch import Batch, Pending
from modeldrop.crowd import Crowd
from modeldrop.errands import Errand, Errands, Handover
from modeldrop.errors import (
    BackendError,
    IntegrityError,
    ModeldropError,
    NewerFormat,
    OutcomeUnknown,
    RecordDamaged,
)
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.home_records import Counter, VersionWanted
from modeldrop.ledger import Ledger, Next
from modeldrop.records import (
    RegistrationDone,
    Version,
)
from modeldrop.structs import Frozen, Struct
from modeldrop.versions import Meaning, Versions, registered

_log = logging.getLogger(__name__)

# How many go together: as many records at most are read by who registers one of them again.
_MOST: Final = 64
# What the holder of the lock says of an errand that is to be done alone.
_ALONE: Final = b"-"


class Registered(Frozen):
    """The version that an artifact has."""

    version: Version
    created: bool
    """Whether this call registered it; False if it had been registered before."""


class _Ready(Struct):
    """An experiment that one holds the lock of."""

    meaning: Meaning
    ledger: Ledger
    newest: int


class Registrar:
    """Who registers at a backend, for one home."""

    def __init__(self, home: Home, backend: Backend, versions: Versions) -> None:
        """Register among `versions`, which are those of `backend`."""
        self._home = home
        self._backend = backend
        self._versions = versions
        self._registrations = versions.registrations
        self._crowds: dict[str, Crowd] = {}
        self._errands: dict[str, Errands] = {}

    def close(self) -> None:
        """Leave nothing that other processes of this home would look at."""
        for errands in self._errands.values():
            errands.close()

    def register(self, asked: Asked) -> Registered:
        """Give an artifact the next version of its experiment, or find the one that it has.

        The answer is the caller's own version, never merely the newest.

        Raises:
            Locked: another process of this host registers for longer than the time-out.
            CounterDamaged: the counter can't be read.
            BackendError: the backend holds another repository now, or failed.
            OutcomeUnknown: it may have happened; registering again finds out, unless it asked for
                one more version.
        """
        with _hinted(asked):
            found = self._with_others(asked) if self._shares_waits else None
            return found or self._alone(asked)

    def register_all(self, several: Sequence[Asked]) -> list[Registered]:
        """Do what `register` does for several of one experiment, in this order; quicker, if new.

        Raises:
            ModeldropError: as for `register`, of the first that fails. Those before it are done.
        """
        if not self._shares_waits:
            return [self.register(each) for each in several]
        found: list[Registered] = []
        while len(found) < len(several):
            rest = several[len(found) :]
            with _hinted(rest[0]), self._lock(rest[0]):
                ready = self._ready(rest[0])
                made = self._together(rest[:_MOST], ready)
                found += [Registered(each, created=True) for each in made] or [
                    self._one(rest[0], ready)
                ]
        return found

    @property
    def _shares_waits(self) -> bool:
        return self._backend.capabilities.shares_waits

    def _with_others(self, mine: Asked) -> Registered | None:
        """Register with what others wait for, or have it done by one of them.

        None if that one says that it is to be done alone.
        """
        experiment = mine.wanted.experiment
        errands = self._errands_of(experiment)
        handover = Handover(errands, mine.as_errand)
        path, what = self._home.paths.counter_lock(experiment), _named(experiment)
        hold = locks.hold_unless(path, what=what, served=handover.served, wait=handover.wait)
        held = False
        try:
            with hold as held:
                answer = handover.answer()
                # Answered, or nobody else has the lock: either way nobody is at it.
                handover.rest()
                if not held or answer is not None:
                    return self._told(mine, answer or _ALONE)
                ready = self._ready(mine)
                # Asked for as late as can be: then there are more of them.
                with errands.others() as others:
                    made = self._with(mine, others, ready)
                return Registered(made, created=True) if made else self._one(mine, ready)
        finally:
            handover.drop()
            if held:
                errands.wake()

    def _errands_of(self, experiment: str) -> Errands:
        folder = str(self._home.paths.errands / experiment)
        return self._errands.setdefault(experiment, Errands(folder))

    def _with(self, mine: Asked, others: Sequence[Errand], ready: _Ready) -> Version | None:
        """Register with these others, and tell them; None if one's own is nothing new."""
        theirs: list[tuple[Errand, Asked]] = []
        for errand in others[: _MOST - 1]:
            # One that can't be read is its owner's to do.
            with contextlib.suppress(RecordDamaged, NewerFormat):
                wanted = VersionWanted.from_bytes(errand.wanted, "an errand")
                if wanted.experiment == mine.wanted.experiment:
                    theirs.append((errand, Asked.of(wanted)))
        made = self._together([mine, *(each for _, each in theirs)], ready)
        if not made:
            return None
        for (errand, _), version in zip(theirs, made[1:], strict=False):
            errand.tell(str(version.version).encode("ascii"))
        # The row ended with it: it isn't new, or met trouble.
        if len(made) <= len(theirs):
            theirs[len(made) - 1][0].tell(_ALONE)
        return made[0]

    def _told(self, mine: Asked, answer: bytes) -> Registered | None:
        """Return the version that somebody else got for a request, read back."""
        if not answer.isdigit():
            return None
        found = self._versions.record(mine.wanted.experiment, int(answer))
        if isinstance(found, Version) and found.owner == mine.owner:
            return Registered(found, created=True)
        return None

    def _together(self, several: Sequence[Asked], ready: _Ready) -> list[Version]:
        """Register the first few of these, as far as they are new; return their versions.

        For the holder of the lock. Where there are none, the first is to be registered alone.
        """
        experiment = several[0].wanted.experiment
        # What comes first of all makes the folders.
        new = self._new(several) if ready.newest else []
        if not new:
            return []
        at = now()
        made = [each.version(ready.newest + 1 + n, self._home, at) for n, each in enumerate(new)]
        try:
            with Batch() as batch:
                return made[: self._append_together(ready.ledger, batch, new, made, at)]
        except OutcomeUnknown:
            raise
        except (OSError, BackendError) as error:
            _log.info("%s: not registered together: %s", experiment, error)
        # Some of it may be there.
        ready.ledger.settle()
        ready.newest = self._newest(experiment)
        return []

    def _append_together(
        self,
        ledger: Ledger,
        batch: Batch,
        new: Sequence[Asked],
        made: Sequence[Version],
        at: str,
    ) -> int:
        experiment, first = made[0].experiment, made[0].version
        for run, revision in {(version.run, version.revision) for version in made}:
            # What the versions will refer to.
            self._backend.confirm_in(batch, layout.numbered(layout.revisions(run), revision))
        claims: list[Pending] = []
        for each in new:
            # One number for all: whichever of them come to nothing, no number is left out.
            key = layout.registration(experiment, each.owner)
            claim = self._backend.create_among(batch, key, each.claim(first, at).to_bytes())
            claims += [claim] if claim else []
        counter = Counter(experiment, made[-1].version, self._home.repository)
        path = str(self._home.paths.counter(experiment))
        counted = batch.replace(path, counter.to_bytes())

        def admit() -> int:
            batch.give(claims)
            _log.debug("step: claimed")
            for count, (claim, each) in enumerate(zip(claims, new, strict=True)):
                try:
                    if not claim.created:
                        return count
                    each.claimed()
                except ModeldropError:
                    # It is told when it is registered alone.
                    return count
            return len(claims)

        def follow(number: int) -> None:
            if number == counter.version:
                # One that a power loss puts back is behind, as it may be.
                batch.give([counted], waits=False)
            else:
                self._versions.bring_forward(experiment, number)

        records = [
            Next(each.owner, version.to_bytes(), each.request, registered(version, each.request))
            for each, version in zip(new, made, strict=True)
        ]
        return ledger.append_together(
            records, batch, admit, follow, at=first, experiment=experiment
        )

    def _new(self, several: Sequence[Asked]) -> list[Asked]:
        """Return the first few of these that nobody has claimed."""
        new: dict[str, Asked] = {}
        for each in several:
            key = layout.registration(each.wanted.experiment, each.owner)
            if each.owner in new or self._backend.stat(key) is not None:
                break
            new[each.owner] = each
        return [*new.values()]

    def _alone(self, asked: Asked) -> Registered:
        self._crowds.setdefault(asked.wanted.experiment, Crowd()).wait()
        with self._lock(asked):
            return self._one(asked, self._ready(asked))

    def _one(self, asked: Asked, ready: _Ready) -> Registered:
        """Register one thing, whether it is new or not; for the holder of the lock."""
        its, experiment = asked.wanted, asked.wanted.experiment
        # What the version will refer to.
        self._backend.confirm(layout.numbered(layout.revisions(its.run), its.revision))
        newest, at = ready.newest, now()
        first = starts_at = self._registrations.claim(asked.claim(newest + 1, at))
        _log.debug("step: claimed")
        asked.claimed()
        if starts_at != newest + 1:
            # Claimed before: it may have its version already.
            found = self._look_up(asked, starts_at)
            if isinstance(found, Version):
                self._versions.confirm(found)
                self._versions.bring_forward(experiment, found.version)
                return Registered(found, created=False)
            starts_at = found
        ready.meaning.first = first

        def make(number: int) -> bytes:
            return asked.version(number, self._home, at).to_bytes()

        begun = time.monotonic()
        # With a nonce the owner is this request's alone, and others' numbers needn't be read.
        appended = ready.ledger.append(
            make, asked.request, owner=asked.owner, at=starts_at, shared=its.nonce is None
        )
        crowd = self._crowds.setdefault(experiment, Crowd())
        crowd.met(appended.conflicts, time.monotonic() - begun)
        version = self._versions.parse(appended.data, experiment, appended.number)
        return Registered(version, created=appended.created)

    def _ready(self, asked: Asked) -> _Ready:
        """Return an experiment as it is once what died is settled; for the holder of the lock."""
        # Before settling: what an empty mount point lacks was not undone.
        patiently(lambda: check_backend(self._home, self._backend))
        experiment = asked.wanted.experiment
        meaning = Meaning(self._versions, experiment)
        ledger = self._versions.ledger(meaning)
        ledger.settle()
        return _Ready(meaning, ledger, self._newest(experiment))

    @contextlib.contextmanager
    def _lock(self, asked: Asked) -> Iterator[None]:
        experiment = asked.wanted.experiment
        try:
            with locks.hold(self._home.paths.counter_lock(experiment), what=_named(experiment)):
                yield
        finally:
            self._errands_of(experiment).wake()

    def _newest(self, experiment: str) -> int:
        """Return the newest number; raise if what was seen of them is gone."""
        seen = self._versions.counter(experiment) or 0
        newest, there = self._versions.sequence(experiment).since(seen)
        if not there:
            path = self._home.paths.counter(experiment)
            what = f"{experiment}/{seen} was registered"
            raise counters.lost(path, what, self._backend.url)
        return newest

    def _look_up(self, asked: Asked, starts_at: int) -> Version | int:
        """Return the version of a registration that was claimed, or where to go on from."""
        experiment, owner = asked.wanted.experiment, asked.owner
        first = self._versions.record(experiment, starts_at)
        if first is None:
            return starts_at
        if first.owner == owner and isinstance(first, Version):
            return first
        key = layout.registration_done(experiment, owner)
        data = patiently(lambda: self._backend.read(key))
        if data is not None:
            done = RegistrationDone.from_bytes(data, f"{self._backend.url}/{key}")
            noted = self._versions.version(experiment, done.version)
            if noted.owner != owner:
                message = (
                    f"{self._backend.url}/{key} names {experiment}/{done.version}, "
                    "and that is another registration"
                )
                raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
            return noted
        found = self._versions.sequence(experiment).find(owner, starts_at + 1)
        if isinstance(found, int):
            return found
        version = self._versions.parse(found[1], experiment, found[0])
        self._registrations.note_done(version)
        return version


def _named(experiment: str) -> str:
    return f"the experiment {experiment}"


@contextlib.contextmanager
def _hinted(asked: Asked) -> Iterator[None]:
    """Have errors after which it may have happened say what is true of `--again`.

    What they say otherwise, that repeating is safe, holds only without it.
    """
    try:
        yield
    except ModeldropError as error:
        # The plain one is the journal's: the version may be given then.
        again = asked.wanted.nonce is not None
        if again and (isinstance(error, OutcomeUnknown) or type(error) is ModeldropError):
            error.hint = (
                f"see `modeldrop list {asked.wanted.experiment}` before you run it again: "
                "`--again` gives one more version each time, also if this one was given"
            )
        raise
