"""What is said of versions and may change: aliases, whether they are retired, where they are live.

Each is the newest record of a sequence: a journal tells of it, or it is asked of the backend.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from modeldrop.aliases import ALIAS_REMOVED, PROMOTED
from modeldrop.deployment_records import Deployment, Target
from modeldrop.deployments import DEPLOYED, ROLLED_BACK
from modeldrop.finding import tables
from modeldrop.journal import Entry
from modeldrop.records import AliasMove, Retirement
from modeldrop.retirements import RETIRED, UNRETIRED
from modeldrop.structs import Struct, field
from modeldrop.targets import TARGET_REMOVED, TARGET_SET

_MOVES: Final = frozenset({PROMOTED, ALIAS_REMOVED})
_RETIREMENTS: Final = frozenset({RETIRED, UNRETIRED})
_DEPLOYMENTS: Final = frozenset({DEPLOYED, ROLLED_BACK})
_TARGETS: Final = frozenset({TARGET_SET, TARGET_REMOVED})


class Standing(Struct):
    """Records of these sequences, as the index keeps them."""

    moves: list[tuple[str, str, int, int | None]] = field(default_factory=list)
    retirements: list[tuple[str, int, int, bool]] = field(default_factory=list)
    deployments: list[tuple[str, str, int, int, str]] = field(default_factory=list)
    targets: list[tuple[str, int, str | None]] = field(default_factory=list)

    def hear(self, entry: Entry) -> None:
        """Take up what an entry tells of them, if it does."""
        match entry.details:
            case {
                "experiment": str(name),
                "alias": str(alias),
                "move": int(number),
                "version": int() | None as on,
            } if entry.kind in _MOVES:
                self.moves.append((name, alias, number, on))
            case {
                "experiment": str(name),
                "version": int(version),
                "retirement": int(number),
                "retired": bool(retired),
            } if entry.kind in _RETIREMENTS:
                self.retirements.append((name, version, number, retired))
            case {
                "experiment": str(name),
                "target": str(target),
                "deployment": int(number),
                "version": int(version),
                "url": str(url),
            } if entry.kind in _DEPLOYMENTS:
                self.deployments.append((name, target, number, version, url))
            case {
                "target": str(target),
                "change": int(number),
                "url": str() | None as place,
            } if entry.kind in _TARGETS:
                self.targets.append((target, number, place))

    @classmethod
    def of(
        cls,
        moves: Iterable[AliasMove] = (),
        retirements: Iterable[Retirement] = (),
        deployments: Iterable[Deployment] = (),
        targets: Iterable[Target] = (),
    ) -> Standing:
        """Return what these records say."""
        return cls(
            [(each.experiment, each.alias, each.move, each.version) for each in moves],
            [
                (each.experiment, each.version, each.retirement, each.retired)
                for each in retirements
            ],
            [
                (each.experiment, each.target, each.deployment, each.version, each.url)
                for each in deployments
            ],
            [(each.target, each.change, each.url) for each in targets],
        )

    def keep(self, db: sqlite3.Connection) -> None:
        """Put it into the index, unless as much is known there."""
        tables.note_newest(db, "aliases", ("move", "version"), self.moves)
        tables.note_newest(db, "retirements", ("retirement", "retired"), self.retirements)
        tables.note_newest(db, "live", ("deployment", "version", "url"), self.deployments)
        tables.note_newest(db, "targets", ("change", "url"), self.targets)

    def is_known(self, db: sqlite3.Connection) -> bool:
        """Return whether all of it is in the index."""
        tables_of = (
            ("aliases", self.moves),
            ("retirements", self.retirements),
            ("live", self.deployments),
            ("targets", self.targets),
        )
        return all(
            set(rows) <= set(db.execute(f"SELECT * FROM {table}"))  # noqa: S608 - names from above
            for table, rows in tables_of
            if rows
        )
