"""What a training script does with modeldrop, as it is used: all is synced, hashed, recorded.

python -m bench.workers.ours FOLDER NUMBER upload|together
"""

from __future__ import annotations

import sys
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any

import modeldrop
from bench.workers.talking import Work, answer
from modeldrop import Repository
from modeldrop.intake import Engine


class Ours(Work):
    """A home and its local backend, through the library."""

    @cached_property
    def _repository(self) -> Repository:
        return Repository.open(self.folder / ".mlops")

    def version(self) -> str:
        """See `Work`."""
        return modeldrop.__version__

    def begin(self) -> None:
        """See `Work`; the run that `register` registers is there too."""
        Repository.init(self.folder / ".mlops")[0].close()
        model = self.folder / "model.bin"
        model.write_bytes(b"a model")
        run = str(uuid.uuid4())
        self._repository.upload(run, model)
        (self.folder / "run").write_text(run)

    def store(self, path: str) -> str:
        """See `Work`."""
        run = str(uuid.uuid4())
        self._repository.upload(run, path)
        return f".mlops/model-repository/{run}/*/{Path(path).name}"

    def run(self, paths: list[str]) -> None:
        """See `Work`."""
        for path in paths:
            run = str(uuid.uuid4())
            self._repository.upload(run, path)
            self._repository.register(run, "churn")

    def register(self, count: int) -> dict[str, Any]:
        """See `Work`."""
        run = (self.folder / "run").read_text()
        numbers = [
            self._repository.register(run, "churn", again=True).version.version
            for _ in range(count)
        ]
        return {"numbers": numbers, "failed": 0}


class Together(Ours):
    """The same with staging: runs are renamed into it, and one scan stores all that are there."""

    @cached_property
    def _engine(self) -> Engine:
        return self._repository.engine()

    def run(self, paths: list[str]) -> None:
        """See `Work`."""
        runs = [str(uuid.uuid4()) for _ in paths]
        aside = self.folder / "aside"
        aside.mkdir(exist_ok=True)
        for run, path in zip(runs, paths, strict=True):
            (aside / run).mkdir()
            Path(path).rename(aside / run / "model.bin")
            # Nobody sees how it arrives; this says that it is whole.
            (aside / run / "_SUCCESS").touch()
            (aside / run).rename(self._repository.home.staging / run)
        self._engine.scan_once()
        self._repository.register_all(runs, "churn")


if __name__ == "__main__":
    answer({"upload": Ours, "together": Together}[sys.argv[3]])
