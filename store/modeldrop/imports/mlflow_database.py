"""MLflow's tracking database, of any version of its schema.

A column or a table that an older MLflow didn't have is as if nothing were said there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modeldrop.imports.mlflow import MODEL, RUN, VERSION
from modeldrop.imports.places import Places
from modeldrop.imports.tables import Row, Tables, require

_NEEDED: Final = ("experiments", "runs")


class MlflowDatabase:
    """An open database of MLflow."""

    def __init__(self, tables: Tables, location: str, places: Places) -> None:
        """Read these tables; artifacts are in `places`.

        Raises:
            UsageError: it is no database of MLflow.
        """
        require(tables, _NEEDED, location)
        self.location = location
        self.places = places
        self._tables = tables

    def experiments(self) -> Iterator[Row]:
        """Yield the experiments."""
        return self._tables.rows("experiments", ("experiment_id", "name", "lifecycle_stage"))

    def runs(self) -> Iterator[Row]:
        """Yield the runs."""
        return self._tables.rows("runs", RUN)

    def params(self, run: str) -> Iterator[Row]:
        """Yield a run's parameters."""
        return self._tables.rows("params", ("key", "value"), ("run_uuid", run))

    def metrics(self, run: str) -> Iterator[Row]:
        """Yield the last value of each of a run's metrics."""
        columns = ("key", "value", "is_nan")
        if self._tables.has("latest_metrics"):
            return self._tables.rows("latest_metrics", columns, ("run_uuid", run))
        every = self._tables.rows("metrics", (*columns, "step", "timestamp"), ("run_uuid", run))
        last = {
            row["key"]: row
            for row in sorted(every, key=lambda row: (row["step"] or 0, row["timestamp"] or 0))
        }
        return iter(last.values())

    def metric_values(self, run: str) -> int:
        """Return how many values a run's metrics have."""
        return sum(1 for _ in self._tables.rows("metrics", ("key",), ("run_uuid", run)))

    def tags(self, run: str) -> Iterator[Row]:
        """Yield a run's tags."""
        return self._tables.rows("tags", ("key", "value"), ("run_uuid", run))

    def logged_models(self) -> Iterator[Row]:
        """Yield the logged models."""
        return self._tables.rows("logged_models", MODEL)

    def registered_models(self) -> Iterator[Row]:
        """Yield the registered models."""
        return self._tables.rows("registered_models", ("name",))

    def registered_model_tags(self, name: str) -> Iterator[Row]:
        """Yield a registered model's tags."""
        return self._tables.rows("registered_model_tags", ("key", "value"), ("name", name))

    def versions(self, name: str) -> Iterator[Row]:
        """Yield a registered model's versions."""
        return self._tables.rows("model_versions", VERSION, ("name", name))

    def version_tags(self, name: str) -> Iterator[Row]:
        """Yield the tags of a registered model's versions."""
        return self._tables.rows("model_version_tags", ("version", "key", "value"), ("name", name))

    def aliases(self, name: str) -> Iterator[Row]:
        """Yield a registered model's aliases."""
        return self._tables.rows("registered_model_aliases", ("alias", "version"), ("name", name))
