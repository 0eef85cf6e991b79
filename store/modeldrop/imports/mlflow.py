"""MLflow: what its tracking store and its registry say, whichever of its stores holds it.

A registered model is an experiment here, since versions count under it. A run's own experiment is
the name of its MLflow experiment. A run's artifacts are the entries of its artifact folder; a
logged model (MLflow 3 keeps those beside the runs) is an artifact of the run that logged it. A
version of a registered model is the artifact that its source leads to.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from modeldrop.errors import ModeldropError
from modeldrop.imports.elsewhere import (
    Content,
    Described,
    ExperimentThere,
    Left,
    RunThere,
    TargetThere,
    VersionThere,
    from_milliseconds,
)
from modeldrop.imports.places import Outside, Place, Places, hide_userinfo
from modeldrop.imports.tables import Row
from modeldrop.names import WHOLE_RUN, parse_guid, printable, refuse_path
from modeldrop.structs import Frozen, replace

# Rows, whichever store they are from: named as the columns of MLflow's tables are.
RUN: Final = (
    *("run_uuid", "experiment_id", "name", "user_id", "start_time", "end_time"),
    *("lifecycle_stage", "artifact_uri", "status", "source_version"),
)
VERSION: Final = (
    *("name", "version", "creation_time", "description", "user_id", "current_stage"),
    *("source", "run_id", "storage_location"),
)
MODEL: Final = (
    *("model_id", "experiment_id", "name", "artifact_location", "creation_timestamp_ms"),
    *("lifecycle_stage", "source_run_id"),
)

_DELETED: Final = "deleted"
_VERSION_DELETED: Final = "Deleted_Internal"
_STAGES: Final = ("Production", "Staging")
# What stands for files of a disk, in contrast to `s3:` and the like.
_LOCAL: Final = ("/", "file:", "mlflow-artifacts:")
_PROMPT: Final = "mlflow.prompt.is_prompt"
# Long, and nothing but what the store says elsewhere.
_PASSED_OVER: Final = frozenset({"mlflow.log-model.history"})


class Store(Protocol):
    """One of MLflow's stores, open to be read."""

    location: str
    places: Places
    """The folders in which artifacts may be."""

    def experiments(self) -> Iterator[Row]:
        """Yield the experiments: experiment_id, name, lifecycle_stage."""
        ...

    def runs(self) -> Iterator[Row]:
        """Yield the runs, as `RUN` names it."""
        ...

    def params(self, run: str) -> Iterator[Row]:
        """Yield a run's parameters: key, value."""
        ...

    def metrics(self, run: str) -> Iterator[Row]:
        """Yield a run's metrics, the last value of each: key, value, is_nan."""
        ...

    def metric_values(self, run: str) -> int:
        """Return how many values a run's metrics have, all together."""
        ...

    def tags(self, run: str) -> Iterator[Row]:
        """Yield a run's tags: key, value."""
        ...

    def logged_models(self) -> Iterator[Row]:
        """Yield the logged models, as `MODEL` names it."""
        ...

    def registered_models(self) -> Iterator[Row]:
        """Yield the registered models: name."""
        ...

    def registered_model_tags(self, name: str) -> Iterator[Row]:
        """Yield a registered model's tags: key, value."""
        ...

    def versions(self, name: str) -> Iterator[Row]:
        """Yield a registered model's versions, as `VERSION` names it, deleted ones too."""
        ...

    def version_tags(self, name: str) -> Iterator[Row]:
        """Yield the tags of a registered model's versions: version, key, value."""
        ...

    def aliases(self, name: str) -> Iterator[Row]:
        """Yield a registered model's aliases: alias, version."""
        ...


class _Logged(Frozen):
    """A logged model, and where it is to be an artifact."""

    model: str
    run: str
    artifact: str
    location: str
    standard: str


class _Folder(Frozen):
    """A run's artifact folder, by what the store says and by the standard layout."""

    uri: str
    standard: tuple[str, ...]


class Mlflow:
    """An MLflow store as a source of an import."""

    source = "mlflow"
    called = "MLflow"

    def __init__(self, store: Store) -> None:
        """Read from this store."""
        self._store = store
        self.location = store.location
        self._left: list[Left] = []
        self._earlier = 0
        self._experiments = {
            str(row["experiment_id"]): (str(row["name"]), row["lifecycle_stage"] == _DELETED)
            for row in store.experiments()
        }
        self._models = {
            str(row["name"]): list(store.versions(str(row["name"])))
            for row in store.registered_models()
        }
        # A deleted run is carried over all the same where a version is of it.
        self._wanted = {
            run
            for rows in self._models.values()
            for row in rows
            if row["current_stage"] != _VERSION_DELETED
            for run in (parse_guid(str(row["run_id"] or "")),)
            if run is not None
        }
        self._folders: dict[str, _Folder] = {}
        self._logged: dict[str, _Logged] = {}
        self._logged_by_run: dict[str, list[_Logged]] = defaultdict(list)
        self._runs = self._read_runs()
        self._read_logged_models()

    def runs(self) -> Iterator[RunThere]:
        """Return the runs, those without a model too."""
        for guid, row in self._runs.items():
            name, _ = self._experiments.get(str(row["experiment_id"]), (None, False))
            run = str(row["run_uuid"])
            yield RunThere(
                run=guid,
                name=run,
                experiment=name,
                by=str(row["user_id"]) if row["user_id"] else None,
                at=from_milliseconds(row["end_time"]) or from_milliseconds(row["start_time"]),
                content=partial(self._content, guid),
                described=partial(self._described, row),
            )
        for guid, models in self._logged_by_run.items():
            if guid not in self._runs:
                # Logged outside of every run.
                yield RunThere(
                    run=guid,
                    name=models[0].model,
                    experiment=None,
                    by=None,
                    at=None,
                    content=partial(self._content, guid),
                )

    def experiments(self) -> Iterator[ExperimentThere]:
        """Return the registered models."""
        for name, rows in sorted(self._models.items()):
            registered = {str(row["key"]): row for row in self._store.registered_model_tags(name)}
            if _PROMPT in registered:
                self._leave("prompt", name, "it is a prompt, and no model")
                continue
            tags = sum(1 for _ in self._store.version_tags(name)) + len(registered)
            if tags:
                self._leave("tags", name, f"{tags} tags of the registered model and its versions")
            versions = self._versions(name, rows)
            if not versions:
                continue
            yield ExperimentThere(name, tuple(versions), self._aliases(name, rows))

    def targets(self) -> Iterator[TargetThere]:
        """Return nothing: MLflow has none."""
        return iter(())

    def left(self) -> Iterator[Left]:
        """Return what has no place here."""
        yield from self._left
        if self._earlier:
            reason = "the last value of each metric is kept"
            yield Left("metrics", f"{self._earlier} earlier values", reason)

    # Runs

    def _read_runs(self) -> dict[str, Row]:
        found: dict[str, Row] = {}
        deleted = 0
        for row in self._store.runs():
            guid = parse_guid(str(row["run_uuid"]))
            if guid is None:
                self._leave("run", str(row["run_uuid"]), "its id is no GUID")
                continue
            _, gone = self._experiments.get(str(row["experiment_id"]), (None, False))
            if (gone or row["lifecycle_stage"] == _DELETED) and guid not in self._wanted:
                deleted += 1
                continue
            found[guid] = row
            run, experiment = str(row["run_uuid"]), str(row["experiment_id"])
            self._folders[guid] = _Folder(
                str(row["artifact_uri"] or ""),
                (
                    f"{experiment}/{run}/artifacts",
                    f".trash/{experiment}/{run}/artifacts",
                ),
            )
        if deleted:
            self._leave("run", f"{deleted} runs", "they are deleted there")
        return found

    def _read_logged_models(self) -> None:
        rows = [row for row in self._store.logged_models() if row["lifecycle_stage"] != _DELETED]
        rows.sort(key=lambda row: (_whole(row["creation_timestamp_ms"]), str(row["model_id"])))
        taken: set[tuple[str, str]] = set()
        for row in rows:
            model = str(row["model_id"])
            run = parse_guid(str(row["source_run_id"] or "")) or parse_guid(
                model.removeprefix("m-")
            )
            if run is None:
                self._leave("logged model", model, "neither its run nor its own id is a GUID")
                continue
            if run not in self._runs and row["source_run_id"]:
                continue  # of a run that is deleted
            artifact = str(row["name"] or model)
            if refuse_path(artifact) or "/" in artifact or (run, artifact) in taken:
                artifact = model
            taken.add((run, artifact))
            standard = f"{row['experiment_id']}/models/{model}/artifacts"
            logged = _Logged(model, run, artifact, str(row["artifact_location"] or ""), standard)
            self._logged[model] = logged
            self._logged_by_run[run].append(logged)

    def _content(self, run: str) -> Content:
        found = Content(())
        folder = self._folders.get(run)
        if folder is not None:
            with suppress(_Absent):
                place, path = self._find(folder.uri, folder.standard)
                found = place.content(path)
        names = {each.path.partition("/")[0] for each in found.files}
        for logged in self._logged_by_run.get(run, ()):
            with suppress(_Absent):
                place, path = self._find(logged.location, (logged.standard,))
                artifact = self._artifact_of(logged, names)
                more = place.content(path, under=artifact)
                found = Content(found.files + more.files, found.refused + more.refused)
        return found

    def _find(self, uri: str, standard: Sequence[str]) -> tuple[Place, str]:
        """Return where a folder of artifacts is.

        Raises:
            Outside: in none of the folders that were named.
            _Absent: in one of them, and it isn't there: nothing was logged, or it is gone.
        """
        try:
            place, path = self._store.places.find(uri, standard)
        except Outside as error:
            # Of a run that logged no file there is no folder, wherever its experiment's are by now.
            top = standard[0].partition("/")[0]
            if uri.startswith(_LOCAL) and self._store.places.has(top):
                raise _Absent(error.message) from error
            raise
        if not place.has_folder(path):
            raise _Absent(f"there is no folder {printable(path)!r} in {printable(str(place.root))}")
        return place, path

    @staticmethod
    def _artifact_of(logged: _Logged, names: set[str]) -> str:
        """Return the artifact that a logged model is, where the run's own have these names."""
        return logged.model if logged.artifact in names else logged.artifact

    def _described(self, row: Row) -> Described:
        run = str(row["run_uuid"])
        tags = {
            str(each["key"]): str(each["value"] if each["value"] is not None else "")
            for each in self._store.tags(run)
            if each["key"] not in _PASSED_OVER
        }
        commit = tags.pop("mlflow.source.git.commit", None) or row["source_version"]
        parent = parse_guid(tags.get("mlflow.parentRunId", ""))
        if row["name"]:
            tags.setdefault("mlflow.runName", str(row["name"]))
        metrics = list(self._store.metrics(run))
        self._earlier += self._store.metric_values(run) - len(metrics)
        return Described(
            params={str(each["key"]): str(each["value"]) for each in self._store.params(run)},
            metrics={str(each["key"]): _number(each) for each in metrics},
            tags=tags,
            parent=parent,
            commit=str(commit) if commit else None,
        )

    # Versions

    def _versions(self, name: str, rows: list[Row]) -> list[VersionThere]:
        found: dict[int, VersionThere] = {}
        for row in rows:
            number = _whole(row["version"])
            if number < 1:
                self._leave("version", f"{name}/{row['version']}", "that is no number of a version")
                continue
            version = VersionThere(
                number=number,
                name=f"{name}/{number}",
                by=str(row["user_id"]) if row["user_id"] else None,
                at=from_milliseconds(row["creation_time"]),
                description=str(row["description"] or ""),
            )
            if row["current_stage"] == _VERSION_DELETED:
                found[number] = replace(version, gone="it was deleted at MLflow")
                continue
            try:
                run, path = self._source_of(row)
            except ModeldropError as error:
                found[number] = replace(version, unreachable=error.message)
                continue
            artifact, _, deeper = path.partition("/")
            if deeper:
                reason = f"its source is {path}, and the whole of {artifact} is pinned"
                self._leave("version", version.name, printable(reason))
            found[number] = replace(version, run=run, artifact=artifact or WHOLE_RUN)
        return [found[number] for number in sorted(found)]

    def _source_of(self, row: Row) -> tuple[str, str]:
        """Return the run that a version is of, and the path of its source among the artifacts.

        Raises:
            Outside: its source leads to no run and no logged model.
        """
        sources = [str(row[key]) for key in ("source", "storage_location") if row[key]]
        for source in sources:
            logged = self._logged.get(source.removeprefix("models:/").partition("/")[0])
            if source.startswith("models:/") and logged is not None:
                return self._logged_artifact(logged)
            if source.startswith("runs:/"):
                run, _, below = source.removeprefix("runs:/").partition("/")
                guid = parse_guid(run) or ""
                if guid in self._runs:
                    return guid, below
        for source in sources:
            for logged in self._logged.values():
                if _below(source, logged.location) is not None:
                    return self._logged_artifact(logged)
            own = parse_guid(str(row["run_id"] or "")) or ""
            for guid in (own, *self._folders) if own in self._folders else self._folders:
                inside = _below(source, self._folders[guid].uri)
                if inside is not None:
                    return guid, inside
        shown = printable(hide_userinfo(sources[0])) if sources else "nothing"
        message = f"its source, {shown}, is in no run and no logged model that is here"
        raise Outside(message, hint="`--artifacts DIR` says where the artifacts are")

    def _logged_artifact(self, logged: _Logged) -> tuple[str, str]:
        folder = self._folders.get(logged.run)
        names: set[str] = set()
        if folder is not None:
            with suppress(ModeldropError):
                place, path = self._find(folder.uri, folder.standard)
                names = {*place.folders(path), *place.files(path)}
        return logged.run, self._artifact_of(logged, names)

    def _aliases(self, name: str, rows: list[Row]) -> dict[str, int]:
        found: dict[str, int] = {}
        for stage in _STAGES:
            numbers = sorted(
                _whole(row["version"]) for row in rows if row["current_stage"] == stage
            )
            if numbers:
                found[stage.lower()] = numbers[-1]
            for number in numbers[:-1]:
                reason = f"its stage is {stage}, as that of the newer {name}/{numbers[-1]}"
                self._leave("stage", f"{name}/{number}", reason)
        for row in rows:
            if row["current_stage"] == "Archived":
                reason = "its stage is Archived: no alias says that"
                self._leave("stage", f"{name}/{row['version']}", reason)
        for row in self._store.aliases(name):
            found[str(row["alias"])] = _whole(row["version"])
        return found

    def _leave(self, kind: str, name: str, reason: str) -> None:
        left = Left(kind, printable(name), reason)
        if left not in self._left:
            self._left.append(left)


class _Absent(Outside):
    """A folder of artifacts that isn't there: MLflow makes it with the first artifact."""


def _below(source: str, folder: str) -> str | None:
    """Return what of a source is below a folder, by their spelling; None if it is elsewhere."""
    top = folder.rstrip("/")
    if not top:
        return None
    if source.rstrip("/") == top:
        return ""
    below = source.rstrip("/").removeprefix(f"{top}/")
    return below if below != source.rstrip("/") and refuse_path(below) is None else None


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    return 0


def _number(row: Row) -> float:
    value = row["value"]
    if row.get("is_nan"):
        return math.nan
    return float(value) if isinstance(value, int | float | str) else math.nan
