"""Every command on a page of docs/guide/ is run, and prints what the page shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import mlflow

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "guide").glob("*.md"))
COG = ("-m", "cogapp", "-P", "-I", str(ROOT / "tests"), "-n", "UTF-8", "-U", "--verbosity=1")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_command_of_the_guide_does_what_the_page_shows(page: Path, required: bool) -> None:
    if "from support import mlflow" in page.read_text() and (missing := mlflow.is_missing()):
        if required:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    done = subprocess.run(
        [sys.executable, *COG, "--check", "--diff", str(page)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "$ modeldrop" in page.read_text() or "```python" in page.read_text()
