"""Moving an alias: compare-and-set on its sequence, at the price of a registration.

What is expected is held against the move just below the number that is created, again at each
number that is tried. So of all who expect the same version at once, one succeeds, and the others
are told who it was. Without an expectation everybody's move lands, in one order for all.

The lock of the alias's counter lets one process of this host move it at a time; across hosts the
sequence decides. A crash leaves an intent, which the next one who moves the alias settles.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from modeldrop import counters, locks
from modeldrop.admission import check_backend
from modeldrop.aliases import Aliases, Meaning, facts, told
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import AliasMoved, BackendError, Conflict, OutcomeUnknown
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.journal import Journal
from modeldrop.ledger import Ledger, Request
from modeldrop.names import check_alias, check_experiment, check_text
from modeldrop.records import AliasMove, Version
from modeldrop.sequence import Sequence
from modeldrop.structs import Frozen, Struct
from modeldrop.versions import Versions


class Moved(Frozen):
    """The move that says where an alias is, or that it is on no version any more."""

    move: AliasMove
    created: bool
    """Whether this call made the move; False if the alias was there already."""


class Promotion:
    """What moves the aliases at a backend."""

    def __init__(
        self,
        home: Home,
        backend: Backend,
        journal: Journal,
        versions: Versions,
        aliases: Aliases,
    ) -> None:
        """Move `aliases` between `versions`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._versions = versions
        self._aliases = aliases
        self._intents = Intents(home.paths.intents)

    def place(
        self,
        experiment: str,
        alias: str,
        version: Version | None,
        request: Request,
        *,
        by: str,
        reason: str = "",
        expect: int | None = None,
    ) -> Moved:
        """Put an alias on a version, or on none to remove it; return the move that says so.

        An alias that is there already is left alone, whatever is expected, so that repeating is
        safe. Otherwise, with `expect`, it has to be on the version of that number, or on none
        if that is 0. After a crash the next one who moves this alias finds out what was done.

        Raises:
            AliasMoved: it is on another version than was expected; nothing was changed.
            AliasNotFound: it is to be removed, and there never was such an alias.
            Conflict: a target bears its name.
            InvalidName: it is no valid alias, or a text can't be stored.
            Locked: another process of this host moves it for longer than the time-out.
            CounterDamaged: the counter can't be read.
            BackendError: the backend holds another repository now, or failed.
            OutcomeUnknown: it may have happened.
        """
        check_experiment(experiment)
        check_alias(alias)
        check_text("reason", reason)
        check_text("name of who moves it", by)
        name = f"{experiment}@{alias}"
        with (
            locks.hold(self._home.paths.counter_lock(name), what=f"the alias {name}"),
            _hinted(name),
        ):
            # Before settling: what an empty mount point lacks was not undone.
            patiently(lambda: check_backend(self._home, self._backend))
            if version is not None:
                # What the move will refer to.
                self._versions.confirm(version)
            sequence = self._aliases.sequence(experiment, alias)
            meaning = Meaning(self._home, self._aliases, experiment, alias)
            ledger = Ledger(sequence, self._intents, self._journal, meaning)
            ledger.settle()
            last = self._last(experiment, alias, sequence)
            if last is None and version is None:
                raise self._aliases.not_found(f"alias {name}", experiment)
            attempt = _Attempt(name, version, expect, last)
            if last is not None and attempt.is_over:
                sequence.confirm(last.move)
                meaning.settled(last.move, b"")
                return attempt.answer(last)

            def make(number: int) -> bytes:
                before = attempt.below(number, self._backend.url)
                return AliasMove(
                    owner=request.id,
                    experiment=experiment,
                    alias=alias,
                    move=number,
                    version=version.version if version else None,
                    sha256=version.sha256 if version else None,
                    before=before,
                    reason=reason,
                    home=self._home.id,
                    host=self._home.host,
                    moved_by=by,
                    moved_at=at,
                ).to_bytes()

            def accept(number: int, data: bytes) -> bool:
                attempt.last = self._aliases.parse(data, experiment, alias, number)
                return attempt.is_over

            attempt.check()
            if version is not None and (last is None or last.version is None):
                self._refuse_target(experiment, alias)
            at = now()
            first = (last.move if last else 0) + 1
            appended = ledger.append(make, request, owner=request.id, at=first, accept=accept)
            move = self._aliases.parse(appended.data, experiment, alias, appended.number)
            if move.owner == request.id:
                return Moved(move, created=True)
            return attempt.answer(move)

    def _refuse_target(self, experiment: str, alias: str) -> None:
        """Raise if a target bears the name of an alias that is on no version yet."""
        from modeldrop.targets import bears  # noqa: PLC0415 - not for an alias that is moved

        found = bears(self._backend, alias)
        if found is not None:
            raise Conflict(
                f"{alias} is a target, and can't be an alias of {experiment} as well",
                hint=f"name the alias otherwise; `modeldrop deploy {experiment} {alias}` deploys "
                "to the target",
                detail={"target": alias},
            )

    def _last(self, experiment: str, alias: str, sequence: Sequence) -> AliasMove | None:
        """Return the newest move, as a writer has to know it."""
        seen = self._aliases.counter(experiment, alias) or 0
        newest, there = sequence.since(seen)
        if not there:
            path = self._home.paths.counter(f"{experiment}@{alias}")
            what = f"{experiment}@{alias}~{seen} was made"
            raise counters.lost(path, what, self._backend.url)
        return self._aliases.read(experiment, alias, newest)


class _Attempt(Struct):
    """What an alias is to be, held against the newest move that is known."""

    name: str
    version: Version | None
    expect: int | None
    last: AliasMove | None

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be appended after the newest move."""
        return self._is_there() or self._is_elsewhere()

    def answer(self, move: AliasMove) -> Moved:
        """Return the newest move if the alias is where it is to be.

        Raises:
            AliasMoved: it isn't where it was expected.
        """
        self.last = move
        self.check()
        return Moved(move, created=False)

    def check(self) -> None:
        """Raise if the alias is neither where it is to be nor where it was expected.

        Raises:
            AliasMoved: so it is; the message names who moved it there.
        """
        if self._is_there() or not self._is_elsewhere():
            return
        expected = f"on {self._spelled(self.expect)}"
        if self.last is None:
            message = f"{self.name} was expected {expected}, and there is no such alias yet"
            hint = "without `--expect`, or with `--expect 0`, it is made"
            raise AliasMoved(message, hint=hint, detail={"expected": self.expect, "version": None})
        where = self._spelled(self.last.version)
        raise AliasMoved(
            f"{self.name} is on {where}, and was expected {expected}: {told(self.last)}",
            hint=f"see `modeldrop alias history {self.name}`; `--expect {self.last.version or 0}` "
            "moves it from where it is",
            detail={"expected": self.expect, **facts(self.last)},
        )

    def below(self, number: int, url: str) -> int | None:
        """Return the version that the alias is on before the move of this number.

        Raises:
            BackendError: the move before this one isn't the newest that is known, which was held
                against what is expected.
        """
        known = self.last.move if self.last else 0
        if number != known + 1:
            message = f"{url} says that {self.name}~{number - 1} is there, and doesn't show it"
            raise BackendError(message, hint="run the same command again; nothing was changed")
        return self.last.version if self.last else None

    def _is_there(self) -> bool:
        if self.last is None:
            return False
        wanted = (self.version.version, self.version.sha256) if self.version else (None, None)
        return (self.last.version, self.last.sha256) == wanted

    def _is_elsewhere(self) -> bool:
        on = self.last.version if self.last else None
        return self.expect is not None and (on or 0) != self.expect

    def _spelled(self, version: int | None) -> str:
        return f"{self.name.partition('@')[0]}/{version}" if version else "no version"


@contextlib.contextmanager
def _hinted(name: str) -> Iterator[None]:
    """Have an unknown outcome say what is true of moving an alias again."""
    try:
        yield
    except OutcomeUnknown as error:
        error.hint = (
            f"run the same command again: it finds out, and leaves {name} alone if it is there; "
            "`--expect` keeps it from undoing what somebody else does meanwhile"
        )
        raise
