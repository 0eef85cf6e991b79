"""MLOps.NET: its SQLite file, and the folder `model-repository` beside it.

The tables are those of its EF Core model: Experiment, Run, RunArtifact, RegisteredModel, Metric,
HyperParameter, DeploymentTarget, Deployment, and later ones. GUIDs are texts in either case, times
are texts in UTC. A run's model is `<run>.zip` in the folder.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from modeldrop.errors import ModeldropError
from modeldrop.imports.elsewhere import (
    Content,
    DeploymentThere,
    Described,
    ExperimentThere,
    File,
    Left,
    RunThere,
    TargetThere,
    VersionThere,
    from_text,
)
from modeldrop.imports.places import Place
from modeldrop.imports.tables import Row, Tables, open_sqlite, require
from modeldrop.names import is_artifact_name, parse_guid, printable
from modeldrop.records import Refused

_NEEDED: Final = ("Experiment", "Run")
_MODELS: Final = "model-repository"
# What has no place here: each table with the words for its rows.
_NO_PLACE: Final[Mapping[str, str]] = {
    "ConfusionMatrix": "confusion matrices have no place here",
    "DataSchema": "schemas of data have no place here",
    "DataDistribution": "distributions of data have no place here",
    "ModelSchema": "schemas of models have no place here",
}

Value = TypeVar("Value")


class MlopsNet:
    """A database of MLOps.NET with its folder of models, open to be read."""

    source = "mlopsnet"
    called = "MLOps.NET"

    def __init__(self, database: Path, folder: Path) -> None:
        """Read a SQLite file, and the models in a folder.

        Raises:
            NotFound: one of them isn't there.
            UsageError: the file is no database of MLOps.NET.
            IntegrityError: it is damaged.
        """
        self.location = str(database.absolute())
        place = Place(folder)
        # The folder above it, that it was told to use, is as good.
        self._place = Place(place.root / _MODELS) if place.has_folder(_MODELS) else place
        self._tables = open_sqlite(database)
        try:
            require(self._tables, _NEEDED, printable(str(database)))
            self._left: list[Left] = []
            self._names = {
                guid: str(row["ExperimentName"])
                for guid, row in self._by_guid("Experiment", "ExperimentId", "ExperimentName")
            }
            self._artifacts = _grouped(self._tables, "RunArtifact", "Name", "RunArtifactId")
        except BaseException:
            self._tables.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._tables.close()

    def runs(self) -> Iterator[RunThere]:
        """Return the runs."""
        metrics = _grouped(self._tables, "Metric", "MetricName", "Value")
        params = _grouped(self._tables, "HyperParameter", "ParameterName", "Value")
        packages = _grouped(self._tables, "PackageDependency", "Name", "Version")
        hashes = _grouped(self._tables, "Data", "DataHash")
        for guid, row in self._by_guid(
            "Run", "RunId", "RunDate", "ExperimentId", "TrainingTime", "GitCommitHash"
        ):

            def described(guid: str = guid, row: Row = row) -> Described:
                tags = {
                    name: str(value)
                    for name, value in (
                        ("mlopsnet.training_time", row["TrainingTime"]),
                        ("mlopsnet.data_hash", _last(hashes[guid], "DataHash")),
                    )
                    if value
                }
                return Described(
                    params=_pairs(params[guid], "ParameterName", "Value", str),
                    metrics=_pairs(metrics[guid], "MetricName", "Value", _number),
                    tags=tags,
                    commit=str(row["GitCommitHash"]) if row["GitCommitHash"] else None,
                    packages=_pairs(packages[guid], "Name", "Version", str),
                )

            yield RunThere(
                run=guid,
                name=guid,
                experiment=self._names.get(_guid(row["ExperimentId"]) or ""),
                by=None,
                at=from_text(row["RunDate"]),
                content=partial(self._content, guid),
                described=described,
            )

    def experiments(self) -> Iterator[ExperimentThere]:
        """Return the experiments that have versions."""
        artifacts = {
            _guid(row["RunArtifactId"]): str(row["Name"])
            for rows in self._artifacts.values()
            for row in rows
        }
        found: dict[str, list[tuple[str, Row]]] = defaultdict(list)
        columns = ("RunArtifactId", "ExperimentId", "RunId", "RegisteredDate", "RegisteredBy")
        for guid, row in self._by_guid(
            "RegisteredModel", "RegisteredModelId", *columns, "Description", "Version"
        ):
            found[_guid(row["ExperimentId"]) or ""].append((guid, row))
        for experiment, rows in sorted(found.items()):
            name = self._names.get(experiment)
            if name is None:
                for guid, _ in rows:
                    self._leave("version", guid, "its experiment isn't in the database")
                continue
            # Two that were registered at the same moment may have one number. It is the earlier's.
            rows.sort(key=lambda each: (str(each[1]["RegisteredDate"]), each[0]))
            taken: dict[int, VersionThere] = {}
            for guid, row in rows:
                number = row["Version"]
                if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                    self._leave("version", guid, f"{number!r} is no number of a version")
                    continue
                run = _guid(row["RunId"])
                if number in taken:
                    reason = (
                        f"{name}/{number} was given twice, and the earlier one keeps it; "
                        f"`modeldrop register run:{run}` gives this one a number of its own"
                    )
                    self._leave("version", guid, reason)
                    continue
                taken[number] = VersionThere(
                    number=number,
                    name=guid,
                    run=run,
                    artifact=artifacts.get(_guid(row["RunArtifactId"])),
                    by=str(row["RegisteredBy"]) if row["RegisteredBy"] else None,
                    at=from_text(row["RegisteredDate"]),
                    description=str(row["Description"] or ""),
                )
            yield ExperimentThere(name, tuple(taken[number] for number in sorted(taken)))

    def targets(self) -> Iterator[TargetThere]:
        """Return the deployment targets, which have no URL there."""
        models = {
            guid: (self._names.get(_guid(row["ExperimentId"]) or "", "?"), row["Version"])
            for guid, row in self._by_guid(
                "RegisteredModel", "RegisteredModelId", "ExperimentId", "Version"
            )
        }
        deployments: dict[str, list[DeploymentThere]] = defaultdict(list)
        for guid, row in self._by_guid(
            "Deployment",
            "DeploymentId",
            *("DeploymentTargetId", "RegisteredModelId"),
            *("DeploymentDate", "DeployedBy", "DeploymentUri"),
        ):
            model = _guid(row["RegisteredModelId"]) or ""
            experiment, number = models.get(model, ("", None))
            if not isinstance(number, int):
                self._leave("deployment", guid, "what was deployed isn't in the database")
                continue
            deployments[_guid(row["DeploymentTargetId"]) or ""].append(
                DeploymentThere(
                    experiment=experiment,
                    number=number,
                    version=model,
                    by=str(row["DeployedBy"]) if row["DeployedBy"] else None,
                    at=from_text(row["DeploymentDate"]),
                    place=str(row["DeploymentUri"] or ""),
                )
            )
        for guid, row in self._by_guid(
            "DeploymentTarget", "DeploymentTargetId", "Name", "IsProduction"
        ):
            found = sorted(deployments.pop(guid, ()), key=lambda each: each.at or "")
            yield TargetThere(str(row["Name"] or guid), bool(row["IsProduction"]), tuple(found))
        for lost in deployments.values():
            for each in lost:
                what = f"{each.experiment}/{each.number}"
                self._leave("deployment", what, f"{each.told}; its target isn't in the database")

    def left(self) -> Iterator[Left]:
        """Return what has no place here."""
        yield from self._left
        for table, reason in _NO_PLACE.items():
            count = sum(1 for _ in self._tables.rows(table, (f"{table}Id", "RunId", "DataId")))
            if count:
                yield Left(table, f"{count} rows", reason)

    def _content(self, run: str) -> Content:
        files: list[File] = []
        refused: list[Refused] = []
        for name in sorted({str(row["Name"]) for row in self._artifacts[run]}):
            try:
                found = self._place.file(name)
            except (ModeldropError, OSError) as error:
                refused.append(Refused(printable(name), str(error)))
                continue
            if found is None:
                refused.append(Refused(printable(name), "it isn't in the folder any more"))
            elif not is_artifact_name(name):
                refused.append(Refused(name, "its name has a meaning of its own in a run"))
            else:
                files.append(found)
        return Content(tuple(files), tuple(refused))

    def _by_guid(self, table: str, key: str, *columns: str) -> Iterator[tuple[str, Row]]:
        """Yield the rows of a table by their GUID; those without one are told of once."""
        for row in self._tables.rows(table, (key, *columns)):
            guid = _guid(row[key])
            if guid is None:
                self._leave(table, str(row[key]), "its id is no GUID")
            else:
                yield guid, row

    def _leave(self, kind: str, name: str, reason: str) -> None:
        left = Left(kind, printable(name), reason)
        if left not in self._left:
            self._left.append(left)


def _grouped(tables: Tables, table: str, *columns: str) -> Mapping[str, list[Row]]:
    """Return the rows of a table by the run that they are of."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in tables.rows(table, ("RunId", *columns)):
        guid = _guid(row["RunId"])
        if guid is not None:
            found[guid].append(row)
    return found


def _pairs(
    rows: list[Row], name: str, value: str, read: Callable[[object], Value | None]
) -> dict[str, Value]:
    found = ((str(row[name]), read(row[value])) for row in rows if row[name] is not None)
    return {key: each for key, each in found if each is not None}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _last(rows: list[Row], column: str) -> object:
    return rows[-1][column] if rows else None


def _guid(value: object) -> str | None:
    return parse_guid(value) if isinstance(value, str) else None
