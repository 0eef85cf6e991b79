"""Stores that MLflow itself made, in an environment of its own: `make mlflow`."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PYTHON: Final = Path(__file__).parents[2] / ".venv" / "mlflow" / "bin" / "python"
_PROGRAM: Final = Path(__file__).parent / "programs" / "mlflow_store.py"


@dataclass(frozen=True)
class MadeStore:
    """A store of MLflow, and what MLflow says of it."""

    kind: str
    root: Path
    says: Any

    @property
    def where(self) -> str:
        """What `modeldrop import mlflow` is given."""
        return str(self.root / ("mlruns" if self.kind == "folder" else "mlflow.db"))


def is_missing() -> str | None:
    """Return how to get MLflow, if it isn't there."""
    return None if _PYTHON.exists() else "MLflow isn't installed: `make mlflow`"


def make(kind: str, root: Path) -> MadeStore:
    """Have MLflow make a store: a `folder` or a `database`."""
    root.mkdir(parents=True)
    done = subprocess.run(
        [_PYTHON, _PROGRAM, kind, root],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "HOME": str(root), "LOGNAME": "ada", "USER": "ada"},
    )
    assert done.returncode == 0, done.stderr
    return MadeStore(kind, root, json.loads(done.stdout.splitlines()[-1]))
