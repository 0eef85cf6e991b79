"""Aliases: movable names on versions, each a sequence of moves at the backend.

The move with the highest number says where the alias is; to remove an alias is a move as well, so
whatever was said of it stays. A move pins its version by number and digest, and names the version
that the alias was on before, who moved it, when and why.

Here aliases are read, and it is said what a move means to the rest of the store; `promotion` makes
the moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from modeldrop import counters, layout
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import AliasNotFound, CounterDamaged, IntegrityError
from modeldrop.home import Home
from modeldrop.home_records import MoveCounter
from modeldrop.journal import NewEntry
from modeldrop.ledger import Request
from modeldrop.names import check_alias, check_experiment, is_alias
from modeldrop.records import AliasMove, Version
from modeldrop.sequence import Sequence
from modeldrop.versions import Versions

PROMOTED: Final = "promoted"
ALIAS_REMOVED: Final = "alias-removed"


class Aliases:
    """The aliases at a backend."""

    def __init__(self, home: Home, backend: Backend, versions: Versions) -> None:
        """Read aliases at `backend`; `versions` are those that they are on."""
        self._home = home
        self._backend = backend
        self._versions = versions

    def names(self, experiment: str) -> list[str]:
        """Return the names of all aliases that an experiment ever had, by a listing."""
        folder = layout.aliases(experiment)
        found = patiently(lambda: list(self._backend.children(folder)))
        return sorted(name for name in found if is_alias(name))

    def numbers(self, experiment: str, alias: str) -> list[int]:
        """Return the numbers of an alias's moves by listing them: for those who check."""
        return self.sequence(experiment, alias).numbers()

    def move(self, experiment: str, alias: str, number: int) -> AliasMove:
        """Return one move of an alias.

        Raises:
            InvalidName: it is no valid name of an experiment or an alias.
            AliasNotFound: there is no such move.
        """
        found = self.read(check_experiment(experiment), check_alias(alias), number)
        if found is None:
            raise self.not_found(f"move {experiment}@{alias}~{number}", experiment)
        return found

    def newest(self, experiment: str, alias: str) -> AliasMove:
        """Return the move that holds now; it may be the one that removed the alias.

        Raises:
            InvalidName: it is no valid name of an experiment or an alias.
            AliasNotFound: there never was such an alias.
        """
        found = self._newest(check_experiment(experiment), check_alias(alias))
        if found is None:
            raise self.not_found(f"alias {experiment}@{alias}", experiment)
        return found

    def current(self, experiment: str, alias: str) -> AliasMove:
        """Return the move that put an alias where it is.

        Raises:
            InvalidName: it is no valid name of an experiment or an alias.
            AliasNotFound: there is no such alias, or it was removed.
        """
        found = self.newest(experiment, alias)
        if found.version is None:
            raise AliasNotFound(
                f"there is no alias {found.name} any more: {told(found)}",
                hint=f"`modeldrop alias history {found.name}` shows where it was",
                detail=facts(found),
            )
        return found

    def moves(self, experiment: str, alias: str) -> list[AliasMove]:
        """Return all moves of an alias, oldest first.

        Raises:
            InvalidName: it is no valid name of an experiment or an alias.
            AliasNotFound: there never was such an alias.
        """
        newest = self.newest(experiment, alias)
        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            numbers = range(1, newest.move)
            older = pool.map(lambda number: self.move(experiment, alias, number), numbers)
            return [*older, newest]

    def all(
        self, experiments: Iterable[str], damaged: Callable[[IntegrityError], None] | None = None
    ) -> list[AliasMove]:
        """Return the move that put each alias of some experiments where it is, by name.

        With `damaged`, what can't be read is told to it, and the others are returned.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """

        def read(name: tuple[str, str]) -> AliasMove | IntegrityError | None:
            try:
                return self._newest(*name)
            except IntegrityError as error:
                if damaged is None:
                    raise
                return error

        every = sorted(experiments)
        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            listed = pool.map(self.names, every)
            names = [
                (experiment, alias)
                for experiment, aliases in zip(every, listed, strict=True)
                for alias in aliases
            ]
            found: list[AliasMove] = []
            for each in pool.map(read, names):
                if isinstance(each, IntegrityError):
                    if damaged is not None:
                        damaged(each)
                elif each is not None and each.version is not None:
                    found.append(each)
        return found

    def version(self, move: AliasMove) -> Version:
        """Return the version that a move put its alias on.

        Raises:
            AliasNotFound: the move removed the alias.
            VersionNotFound: the version isn't there.
            IntegrityError: it has another digest than the move pins.
        """
        if move.version is None:
            raise AliasNotFound(
                f"{move.reference} is on no version: {told(move)}",
                hint=f"`modeldrop alias history {move.name}` shows where it was",
                detail=facts(move),
            )
        return self._versions.pinned(move.reference, move.experiment, move.version, move.sha256)

    def counter(self, experiment: str, alias: str) -> int | None:
        """Return how far this home has seen an alias's moves, or None if it never looked.

        Raises:
            CounterDamaged: the counter can't be read.
        """
        return counters.seen(self._home, MoveCounter, f"{experiment}@{alias}")

    # For those who move them

    def bring_forward(self, experiment: str, alias: str, number: int) -> None:
        """Move the counter up to a number that was seen in the sequence; never back."""
        counter = MoveCounter(experiment, alias, number, self._home.repository)
        counters.bring_forward(self._home, counter)

    def parse(self, data: bytes, experiment: str, alias: str, number: int) -> AliasMove:
        """Return the move that these bytes hold, checked to be the one that was asked for."""
        key = layout.numbered(layout.moves(experiment, alias), number)
        move = AliasMove.from_bytes(data, f"{self._backend.url}/{key}")
        if (move.experiment, move.alias, move.move) != (experiment, alias, number):
            message = f"{self._backend.url}/{key} says that it is {move.reference}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return move

    def read(self, experiment: str, alias: str, number: int) -> AliasMove | None:
        """Return a move, or None if it is absent."""
        data = self.sequence(experiment, alias).read(number)
        return None if data is None else self.parse(data, experiment, alias, number)

    def sequence(self, experiment: str, alias: str) -> Sequence:
        """Return the sequence of an alias's moves."""
        return Sequence(self._backend, layout.moves(experiment, alias))

    def not_found(self, what: str, experiment: str) -> AliasNotFound:
        """Return the error for an alias, or a move of one, that isn't there."""
        return AliasNotFound(
            f"there is no {what} at {self._backend.url}, by the home {self._home.paths.root}",
            hint=f"`modeldrop alias list {experiment}` lists the aliases of {experiment}",
        )

    def _newest(self, experiment: str, alias: str) -> AliasMove | None:
        sequence = self.sequence(experiment, alias)
        try:
            seen = self.counter(experiment, alias) or 0
        except (CounterDamaged, OSError):
            # Readers need no hint.
            seen = 0
        number = sequence.last(seen)
        found = self.read(experiment, alias, number)
        if found is None and number:
            # The counter misled us: the backend has lost moves, or was put back.
            found = self.read(experiment, alias, sequence.last())
        return found


def told(move: AliasMove) -> str:
    """Return who moved or removed an alias, when and why, for people."""
    what = "moved" if move.version else "removed"
    why = f" ({move.reason})" if move.reason else ""
    return f"{move.moved_by}@{move.host} {what} it at {move.moved_at}{why}"


def facts(move: AliasMove) -> dict[str, object]:
    """Return what a program may want to know of a move that stood in its way."""
    return {
        "experiment": move.experiment,
        "alias": move.alias,
        "move": move.move,
        "version": move.version,
        "reason": move.reason,
        "host": move.host,
        "moved_by": move.moved_by,
        "moved_at": move.moved_at,
    }


class Meaning:
    """What an alias's moves mean to its counter and to the journal."""

    def __init__(self, home: Home, aliases: Aliases, experiment: str, alias: str) -> None:
        """Say it of this alias, in the journal of `home`."""
        self._home = home
        self._aliases = aliases
        self._experiment = experiment
        self._alias = alias

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        """Return the entry that says that this home made a move; None if it didn't."""
        move = self._aliases.parse(data, self._experiment, self._alias, number)
        return entry_of(move, self._home.id, request)

    def settled(self, number: int, data: bytes) -> None:
        """Bring the counter forward."""
        del data
        self._aliases.bring_forward(self._experiment, self._alias, number)


def entry_of(move: AliasMove, home: str, request: Request) -> NewEntry | None:
    """Return the entry that says that a home made a move; None if another one made it."""
    if move.home != home:
        return None
    # Removed, it is about the version that it was on.
    on = move.version or move.before
    return NewEntry(
        kind=PROMOTED if move.version else ALIAS_REMOVED,
        about=(move.reference, f"{move.experiment}/{on}"),
        request=request.id,
        user=request.user,
        details={
            "experiment": move.experiment,
            "alias": move.alias,
            "move": move.move,
            "version": move.version,
            "sha256": move.sha256,
            "before": move.before,
            "moved_by": move.moved_by,
            "reason": move.reason,
        },
    )
