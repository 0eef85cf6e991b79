"""MLflow's folder `mlruns`: meta.yaml files, and one small file for each parameter, metric and tag.

<experiment>/meta.yaml, <experiment>/<run>/{meta.yaml,params/,metrics/,tags/,artifacts/}
<experiment>/models/<model>/{meta.yaml,artifacts/}       logged models, since MLflow 3
models/<name>/{meta.yaml,version-<N>/meta.yaml,aliases/,tags/}
.trash/<experiment>/                                     deleted experiments
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from modeldrop.errors import UsageError
from modeldrop.imports.mlflow import MODEL, RUN, VERSION
from modeldrop.imports.places import Place, Places
from modeldrop.imports.tables import Row
from modeldrop.intake import notation
from modeldrop.names import parse_guid, printable

_META: Final = "meta.yaml"
_MODELS: Final = "models"
_TRASH: Final = ".trash"
_VERSION: Final = "version-"
# How meta.yaml calls what the tables call otherwise.
_RUN_NAMES: Final = {"name": "run_name", "run_uuid": "run_id"}
_VERSION_NAMES: Final = {"creation_time": "creation_timestamp"}
_MODEL_NAMES: Final = {"creation_timestamp_ms": "creation_timestamp"}


class MlflowFolder:
    """A folder `mlruns`, open to be read."""

    def __init__(self, place: Place, places: Places) -> None:
        """Read a folder; artifacts are in `places`.

        Raises:
            UsageError: it is no folder of MLflow.
        """
        self.location = str(place.root)
        self.places = places
        self._place = place
        self._folders: dict[str, str] = {}
        if not (self._experiment_folders() or place.has_folder(_MODELS)):
            message = f"{printable(self.location)} holds no experiment of MLflow"
            raise UsageError(message, hint="name the folder `mlruns` itself, or the database")

    def experiments(self) -> Iterator[Row]:
        """Yield the experiments."""
        for folder in self._experiment_folders():
            meta = self._meta(folder)
            if meta is not None:
                yield {
                    "experiment_id": meta.get("experiment_id", folder.rpartition("/")[2]),
                    "name": meta.get("name"),
                    "lifecycle_stage": "deleted" if folder.startswith(_TRASH) else "active",
                }

    def runs(self) -> Iterator[Row]:
        """Yield the runs."""
        for experiment in self._experiment_folders():
            for run in self._place.folders(experiment):
                folder = f"{experiment}/{run}"
                meta = self._meta(folder) if parse_guid(run) else None
                if meta is None:
                    continue
                self._folders[run] = folder
                row = _row(meta, RUN, _RUN_NAMES)
                # Where it is says it, whatever the file does.
                row["run_uuid"], row["experiment_id"] = run, experiment.rpartition("/")[2]
                yield row

    def params(self, run: str) -> Iterator[Row]:
        """Yield a run's parameters."""
        return self._pairs(f"{self._folders[run]}/params")

    def metrics(self, run: str) -> Iterator[Row]:
        """Yield the last value of each of a run's metrics."""
        for key, text in self._place.texts(f"{self._folders[run]}/metrics").items():
            # Lines: time, value, step. The last is that of the highest step, then the latest.
            points: list[tuple[int, int, str]] = []
            for line in text.splitlines():
                parts = line.split(" ")
                try:
                    points.append((int(parts[2]) if parts[2:] else 0, int(parts[0]), parts[1]))
                    float(parts[1])
                except (ValueError, IndexError):
                    where = printable(f"{self._folders[run]}/metrics/{key}")
                    raise UsageError(f"{where} holds no values of a metric") from None
            if points:
                yield {"key": key, "value": max(points, key=lambda each: each[:2])[2]}

    def metric_values(self, run: str) -> int:
        """Return how many values a run's metrics have."""
        texts = self._place.texts(f"{self._folders[run]}/metrics")
        return sum(len(text.splitlines()) for text in texts.values())

    def tags(self, run: str) -> Iterator[Row]:
        """Yield a run's tags."""
        return self._pairs(f"{self._folders[run]}/tags")

    def logged_models(self) -> Iterator[Row]:
        """Yield the logged models."""
        for experiment in self._experiment_folders():
            for model in self._place.folders(f"{experiment}/{_MODELS}"):
                meta = self._meta(f"{experiment}/{_MODELS}/{model}")
                if meta is not None:
                    row = _row(meta, MODEL, _MODEL_NAMES)
                    row["model_id"], row["experiment_id"] = model, experiment.rpartition("/")[2]
                    yield row

    def registered_models(self) -> Iterator[Row]:
        """Yield the registered models."""
        for name in self._place.folders(_MODELS):
            if self._meta(f"{_MODELS}/{name}") is not None:
                yield {"name": name}

    def registered_model_tags(self, name: str) -> Iterator[Row]:
        """Yield a registered model's tags."""
        return self._pairs(f"{_MODELS}/{name}/tags")

    def versions(self, name: str) -> Iterator[Row]:
        """Yield a registered model's versions."""
        for folder in self._version_folders(name):
            meta = self._meta(f"{_MODELS}/{name}/{folder}")
            if meta is not None:
                row = _row(meta, VERSION, _VERSION_NAMES)
                row["version"] = folder.removeprefix(_VERSION)
                yield row

    def version_tags(self, name: str) -> Iterator[Row]:
        """Yield the tags of a registered model's versions."""
        for folder in self._version_folders(name):
            for row in self._pairs(f"{_MODELS}/{name}/{folder}/tags"):
                yield {"version": folder.removeprefix(_VERSION), **row}

    def aliases(self, name: str) -> Iterator[Row]:
        """Yield a registered model's aliases."""
        for alias, text in self._place.texts(f"{_MODELS}/{name}/aliases").items():
            yield {"alias": alias, "version": text.strip()}

    def _version_folders(self, name: str) -> list[str]:
        folders = self._place.folders(f"{_MODELS}/{name}")
        return [each for each in folders if each.startswith(_VERSION)]

    def _experiment_folders(self) -> list[str]:
        active = [each for each in self._place.folders() if each not in {_MODELS, _TRASH}]
        deleted = [f"{_TRASH}/{each}" for each in self._place.folders(_TRASH)]
        return [each for each in (*active, *deleted) if self._place.text(each, _META) is not None]

    def _pairs(self, folder: str) -> Iterator[Row]:
        for key, text in self._place.texts(folder).items():
            yield {"key": key, "value": text}

    def _meta(self, folder: str) -> Mapping[str, object] | None:
        text = self._place.text(folder, _META)
        if text is None:
            return None
        try:
            return notation.read(_META, text.encode())
        except notation.NotUnderstood as error:
            where = printable(f"{self.location}/{folder}/{_META}")
            message = f"{where} can't be understood: {error}"
            raise UsageError(message, hint="restore it, or move that folder away") from error


def _row(meta: Mapping[str, object], columns: tuple[str, ...], names: Mapping[str, str]) -> Row:
    return {each: meta.get(names.get(each, each)) for each in columns}
