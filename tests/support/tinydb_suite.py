"""TinyDB's own tests, run on the journal: `make tinydb` fetches them, and nothing of them is kept.

They run in a process and a folder of their own, from a copy in which `programs/tinydb_conftest.py`
stands in place of their `conftest.py`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TESTS: Final = Path(__file__).parents[1]
_VERSION: Final = importlib.metadata.version("tinydb")
_SUITE: Final = _TESTS.parent / ".venv" / "tinydb" / f"tinydb-{_VERSION}" / "tests"


@dataclass(frozen=True)
class Outcome:
    """What became of one test of the suite."""

    ours: bool
    """Whether it made a storage of ours."""
    failed: str | None
    """What it failed with, if it did."""


@dataclass(frozen=True)
class Exclusion:
    """Why some tests can't pass on a journal."""

    why: str
    shows: str
    """What each of them fails with: a regular expression."""
    tests: str
    """Their names, module by module."""

    def names(self) -> list[str]:
        """Return each test's name with its module's, as the suite runs them."""
        found = []
        for module, *names in map(str.split, self.tests.strip().splitlines()):
            found += [f"test_{module.rstrip(':')}.py::test_{name}" for name in names]
        return found


def is_missing() -> str | None:
    """Return how to get the tests of the TinyDB that is installed, if they aren't there."""
    if _SUITE.is_dir():
        return None
    return f"TinyDB {_VERSION}'s tests aren't there: `make tinydb` (TINYDB_VERSION in the Makefile)"


def run(folder: Path) -> dict[str, Outcome]:
    """Run the suite on the journal, in an empty folder, and return what became of each test."""
    shutil.copytree(_SUITE, folder / "tests", ignore=shutil.ignore_patterns("conftest.py"))
    shutil.copy(_TESTS / "support/programs/tinydb_conftest.py", folder / "tests/conftest.py")
    # So that this folder is where pytest begins, and our settings are not theirs.
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    temporary = folder / "temporary"
    temporary.mkdir()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(_TESTS), "TMPDIR": str(temporary)},
    )
    # Whether tests failed is no matter here; that they were all found and run is.
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    outcomes = json.loads((folder / "outcomes.json").read_text("utf-8"))
    return {name: Outcome(**outcome) for name, outcome in outcomes.items()}


def differences(outcomes: Mapping[str, Outcome], exclusions: tuple[Exclusion, ...]) -> list[str]:
    """Return in what the outcomes aren't what the exclusions say."""
    reasons = {name: exclusion for exclusion in exclusions for name in exclusion.names()}
    found = [f"{name} is listed, and there is no such test" for name in reasons.keys() - outcomes]
    for name, outcome in outcomes.items():
        reason = reasons.get(name)
        if outcome.failed is None:
            if reason:
                found.append(f"{name} is listed, and passes")
        elif reason is None:
            found.append(f"{name} isn't listed, and fails: {outcome.failed}")
        elif not re.search(reason.shows, outcome.failed):
            found.append(
                f"{name} fails with something else than {reason.shows!r}: {outcome.failed}"
            )
    return sorted(found)
