"""What the index answers: versions and runs, with what was said of the runs that they came from."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from modeldrop.errors import IntegrityError
from modeldrop.finding.conditions import RETIRED, RUNS, VERSIONS, Condition, Sort, Unit, ordered
from modeldrop.finding.facts import text_of
from modeldrop.form import Fields
from modeldrop.names import WHOLE_RUN
from modeldrop.structs import Frozen, replace

_VERSION: Final = (
    "v.experiment, v.version, v.run, v.revision, v.artifact, v.sha256, v.size, v.host, "
    "v.registered_by, v.registered_at, v.description, r.metadata, r.formats, "
    f"{VERSIONS.texts[RETIRED]} = 'true'"
)
_RUN: Final = (
    "r.run, r.revision, r.experiment, r.size, r.host, r.committed_by, r.committed_at, r.artifacts, "
    "r.metadata, r.formats"
)
ALL: Final = Condition("1", [])


class FoundVersion(Frozen):
    """A version, as its record has it, and what its run's manifest says."""

    experiment: str
    version: int
    run: str
    revision: int
    artifact: str
    sha256: str
    size: int
    host: str
    registered_by: str
    registered_at: str
    description: str
    metadata_json: str | None
    formats_json: str | None
    retired: bool
    aliases: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    """Where it is live."""

    @property
    def reference(self) -> str:
        """What it is named by: `churn/3`."""
        return f"{self.experiment}/{self.version}"

    def metadata(self) -> Fields:
        """Return what is known of its run: parameters, metrics, tags …; without the packages."""
        return _object(self.metadata_json)

    def formats(self) -> list[str]:
        """Return which kinds of files its artifact has."""
        kinds = _formats(self.formats_json)
        return sorted({kind for artifact, kind, _ in kinds if self._has(artifact)})

    def runs_code(self) -> bool:
        """Return whether a file of its artifact runs code when it is loaded, as far as is known."""
        kinds = _formats(self.formats_json)
        return any(runs_code for artifact, _, runs_code in kinds if self._has(artifact))

    def _has(self, artifact: str) -> bool:
        return self.artifact in {artifact, WHOLE_RUN}


class FoundRun(Frozen):
    """A run by its last revision, as far as it is known here."""

    run: str
    revision: int
    experiment: str | None
    size: int
    host: str
    committed_by: str
    committed_at: str
    artifacts_json: str
    metadata_json: str | None
    formats_json: str | None

    @property
    def reference(self) -> str:
        """What it is named by: `run:<guid>~1`."""
        return f"run:{self.run}~{self.revision}"

    def artifacts(self) -> list[Fields]:
        """Return its artifacts: name, type, digest and size of each."""
        found = _parsed(self.artifacts_json)
        if not isinstance(found, list) or not all(map(_is_artifact, found)):
            raise _damaged()
        return found

    def metadata(self) -> Fields:
        """Return what is known of it: parameters, metrics, tags …; without the packages."""
        return _object(self.metadata_json)

    def formats(self) -> list[str]:
        """Return which kinds of files it has."""
        return sorted({kind for _, kind, _ in _formats(self.formats_json)})

    def runs_code(self) -> bool:
        """Return whether a file of it runs code when it is loaded, as far as is known."""
        return any(runs_code for _, _, runs_code in _formats(self.formats_json))


def value(metadata: Fields, name: str) -> str:
    """Return what metadata has under a field such as `metrics.auc`, as text; empty if nothing."""
    group, _, rest = name.partition(".")
    found = metadata.get(group)
    if rest:
        return text_of(found.get(rest)) if isinstance(found, dict) else ""
    if isinstance(found, list):  # data sets
        return ", ".join(text_of(each.get("name")) for each in found if isinstance(each, dict))
    return text_of(found)


def versions(
    db: sqlite3.Connection, where: Condition, sort: Sort | None = None, most: int | None = None
) -> list[FoundVersion]:
    """Return the versions that a condition holds for, without their aliases and targets."""
    return [
        FoundVersion(*(*row[:-1], bool(row[-1])))
        for row in _rows(db, VERSIONS, _VERSION, where, sort, most)
    ]


def runs(
    db: sqlite3.Connection, where: Condition, sort: Sort | None = None, most: int | None = None
) -> list[FoundRun]:
    """Return the runs that a condition holds for."""
    return [FoundRun(*row) for row in _rows(db, RUNS, _RUN, where, sort, most)]


def with_names(
    found: Iterable[FoundVersion],
    aliases: Iterable[tuple[str, str, int | None]],
    targets: Iterable[tuple[str, str, int | None]],
) -> list[FoundVersion]:
    """Return versions with aliases and targets, each given as experiment, name and version."""
    on, at = _by_version(aliases), _by_version(targets)
    names = [(each, (each.experiment, each.version)) for each in found]
    return [
        replace(each, aliases=tuple(on.get(name, ())), targets=tuple(at.get(name, ())))
        if name in on or name in at
        else each
        for each, name in names
    ]


def _by_version(
    names: Iterable[tuple[str, str, int | None]],
) -> dict[tuple[str, int | None], list[str]]:
    found: dict[tuple[str, int | None], list[str]] = {}
    for experiment, name, version in sorted(names, key=lambda each: each[:2]):
        found.setdefault((experiment, version), []).append(name)
    return found


def _rows(
    db: sqlite3.Connection,
    unit: Unit,
    columns: str,
    where: Condition,
    sort: Sort | None,
    most: int | None,
) -> Iterable[tuple[Any, ...]]:
    tables, values, order = ordered(unit, sort)
    # What is put in comes from `conditions` alone; what people wrote goes into question marks.
    ask = f"SELECT {columns} FROM {tables} WHERE {unit.always} AND {where.sql} ORDER BY {order} LIMIT ?"  # noqa: E501, S608 - see above
    return db.execute(ask, [*values, *where.values, -1 if most is None else most])


def _object(text: str | None) -> Fields:
    found = _parsed(text) if text else {}
    if not isinstance(found, dict):
        raise _damaged()
    return found


def _is_artifact(found: object) -> bool:
    return isinstance(found, dict) and found.keys() >= {"artifact", "type", "sha256", "size"}


def _parsed(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text)
    except ValueError as error:
        raise _damaged() from error


def _damaged() -> IntegrityError:
    # SQLite has no checksums, so a text of the index may be what nobody has written.
    message = "what lists and searches answer from is damaged"
    return IntegrityError(message, hint="remove the folder `index` of the home: it is made again")


def _formats(text: str | None) -> list[tuple[str, str, bool]]:
    """Return artifact, kind and whether it runs code, of what was recognised."""
    try:
        return [(artifact, kind, runs_code) for artifact, kind, runs_code in _parsed(text or "[]")]
    except (ValueError, TypeError) as error:
        raise _damaged() from error
