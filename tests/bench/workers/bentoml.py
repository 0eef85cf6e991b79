"""BentoML, run by its own Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import bentoml

from bench.workers.talking import Work, answer


class Bentoml(Work):
    """The model store of a BENTOML_HOME; saving gives a version, which is random."""

    def version(self) -> str:
        """See `Work`."""
        return str(bentoml.__version__)

    def store(self, path: str) -> str:
        """See `Work`."""
        with bentoml.models.create("churn") as model:
            shutil.copy(path, model.path)
        return f"bentoml/models/churn/{model.tag.version}/{Path(path).name}"

    def run(self, paths: list[str]) -> None:
        """See `Work`."""
        for path in paths:
            self.store(path)


if __name__ == "__main__":
    answer(Bentoml)
