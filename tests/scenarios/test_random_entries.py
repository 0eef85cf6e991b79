"""Whatever is in staging: no crash, no hang, nothing read outside, every entry accounted for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeldrop import Repository
from support.entries import STORED, Batch, make_batch, unaccounted
from support.intake import content, make_home
from support.outside import AS_THE_MODES_SAY, Outside
from support.program import command, environment


def check(folder: Path, random: Random, count: int) -> Batch:
    """Put random entries into the staging of a new home, scan once, and account for each."""
    outside = Outside(folder / "outside")
    make_home(folder / "home").close()
    batch = make_batch(folder / "home/staging", outside, random, count)
    # For root's own scan no mode would lock anything.
    within = AS_THE_MODES_SAY if os.geteuid() == 0 and shutil.which("setpriv") else ()
    with outside.unread():
        done = subprocess.run(
            [*within, *command("--home", folder / "home", "scan", "--once", "--json")],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    # 3: something needs a person, as most batches do.
    assert done.returncode in {0, 3}, done.stderr
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    with Repository.open(folder / "home") as repository:
        stored = {
            each["run"]: content(repository, repository.runs_at_backend.committed(each["run"]))
            for each in told["runs"]
            if each["state"] in STORED
        }
    assert list(unaccounted(batch, told, stored)) == []
    return batch


@given(st.randoms(use_true_random=False), st.integers(1, 60))
# How many entries, and how odd they are, is what is drawn: that is large and slow as it is meant.
@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_random_entries_are_stored_or_reported_each(random: Random, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder), random, count)


@pytest.mark.slow
def test_ten_thousand_random_entries_are_stored_or_reported_each(tmp_path: Path) -> None:
    done = 0
    for seed in range(20):
        (tmp_path / str(seed)).mkdir()
        done += check(tmp_path / str(seed), Random(seed), 500).count

    assert done >= 10_000
