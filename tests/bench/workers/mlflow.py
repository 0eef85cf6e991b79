"""MLflow, run by its own Python.

python -m bench.workers.mlflow FOLDER NUMBER sqlite|files
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import mlflow  # noqa: E402 - it warns when it is imported
from mlflow import MlflowClient  # noqa: E402 - the same

from bench.workers.talking import Work, answer  # noqa: E402 - after what may warn

_EXPERIMENT = "bench"
_MODEL = "churn"


class Mlflow(Work):
    """A tracking store and a registry in one place."""

    @cached_property
    def _client(self) -> MlflowClient:
        at = f"sqlite:///{self.folder}/mlflow.db" if sys.argv[3] == "sqlite" else ""
        at = at or (self.folder / "mlruns").as_uri()
        return MlflowClient(tracking_uri=at, registry_uri=at)

    @cached_property
    def _experiment(self) -> str:
        return str(self._client.get_experiment_by_name(_EXPERIMENT).experiment_id)

    @cached_property
    def _run(self) -> Any:  # noqa: ANN401 - mlflow has no types
        return self._client.search_runs([self._experiment], order_by=["start_time ASC"])[0].info

    def version(self) -> str:
        """See `Work`."""
        return str(mlflow.__version__)

    def begin(self) -> None:
        """See `Work`."""
        place = (self.folder / "artifacts").as_uri()
        experiment = self._client.create_experiment(_EXPERIMENT, artifact_location=place)
        self._client.create_registered_model(_MODEL)
        self._client.create_run(experiment)

    def store(self, path: str) -> str:
        """See `Work`."""
        info = self._client.create_run(self._experiment).info
        self._client.log_artifact(info.run_id, path)
        return f"artifacts/{info.run_id}/artifacts/{Path(path).name}"

    def run(self, paths: list[str]) -> None:
        """See `Work`."""
        for path in paths:
            info = self._client.create_run(self._experiment).info
            self._client.log_artifact(info.run_id, path)
            source = f"{info.artifact_uri}/{Path(path).name}"
            self._client.create_model_version(_MODEL, source, info.run_id)
            # Until then it counts as running, for everybody who looks.
            self._client.set_terminated(info.run_id)

    def register(self, count: int) -> dict[str, Any]:
        """See `Work`."""
        numbers = []
        for _ in range(count):
            # Whatever it raises where several register at once: the call has failed.
            with contextlib.suppress(Exception):
                made = self._client.create_model_version(
                    _MODEL, self._run.artifact_uri, self._run.run_id
                )
                numbers.append(int(made.version))
        return {"numbers": numbers, "failed": count - len(numbers)}


if __name__ == "__main__":
    answer(Mlflow)
