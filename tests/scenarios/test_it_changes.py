"""Scenarios 10-13: what changes while it is stored, or afterwards."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop import Repository
from support.gates import Gate
from support.program import as_process
from support.service import MakeHome
from support.waiting import comes_true

on_backends = pytest.mark.parametrize("backend", ["local", "s3"], indirect=True)

# Sent in several pieces, so that a transfer can be stopped between two.
BEFORE = b"before" * 1_000_000


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"and more")


def _truncate(path: Path) -> None:
    os.truncate(path, len(BEFORE) // 2)


def _rewrite(path: Path) -> None:
    times = path.stat()
    with path.open("r+b") as file:
        file.write(b"rewritten" * (len(BEFORE) // 9))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)


def _replace(path: Path) -> None:
    other = path.parents[1] / ".elsewhere"
    other.write_bytes(b"replaced" * 1_000_000)
    other.replace(path)


@pytest.mark.scenario(10)
@on_backends
@pytest.mark.parametrize(
    "change",
    [_append, _truncate, _rewrite, _replace],
    ids=["appended", "truncated", "rewritten", "replaced"],
)
def test_changed_during_the_upload_no_mixture_is_ever_committed(
    service_home: MakeHome, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    home = service_home()
    gate = Gate(tmp_path)
    home.start_ready(twist=gate.twist("bytes"))
    run = home.drop(BEFORE)
    path = home.staging / run / "model.bin"
    assert gate.is_reached()

    change(path)
    gate.open()

    assert home.is_committed(run)
    # The one and only revision has the final bytes; of the mixture there is none.
    assert home.stored(run) == path.read_bytes()
    assert home.revisions(run) == 1


@pytest.mark.scenario(11)
def test_five_edits_during_one_upload_make_one_more(service_home: MakeHome, tmp_path: Path) -> None:
    home = service_home()
    gate = Gate(tmp_path)
    home.start_ready(twist=gate.twist("bytes"))
    run = home.drop(BEFORE)
    assert gate.is_reached()

    for number in range(5):
        (home.staging / run / "model.bin").write_bytes(b"edit %d" % number)
    gate.open()

    assert home.is_committed(run)
    assert home.is_committed(home.drop(b"dropped later"))
    assert home.stored(run) == b"edit 4"
    assert gate.attempts(run) == 2
    assert home.revisions(run) == 1


@pytest.mark.scenario(12)
def test_file_that_vanishes_before_it_is_opened_leaves_the_rest_to_be_stored(
    service_home: MakeHome, tmp_path: Path
) -> None:
    home = service_home()
    gate = Gate(tmp_path)
    service = home.start_ready(twist=gate.twist("open"))
    run = home.drop(b"stays", "model.bin")
    (home.staging / run / "checkpoint.bin").write_bytes(b"vanishes")
    assert gate.is_reached()

    (home.staging / run / "checkpoint.bin").unlink()
    gate.open()

    assert home.is_committed(run)
    assert home.stored_files(run) == {"model.bin": b"stays"}
    assert home.revisions(run) == 1
    assert service.process.poll() is None


@pytest.mark.scenario(12)
def test_run_that_vanishes_before_it_is_opened_is_noted_and_the_others_go_on(
    service_home: MakeHome, tmp_path: Path
) -> None:
    home = service_home()
    gate = Gate(tmp_path)
    service = home.start_ready(twist=gate.twist("open"))
    run = home.drop(b"vanishes")
    assert gate.is_reached()

    (home.staging / run).rename(tmp_path / "gone")
    gate.open()

    assert service.logs(f"run {run} is gone from staging")
    assert home.is_committed(home.drop(b"dropped later"))
    assert home.revisions(run) == 0
    assert comes_true(lambda: not home.standing(run))


@pytest.mark.scenario(13)
@on_backends
def test_changed_after_the_commit_is_revision_2_and_what_pins_1_stays(
    service_home: MakeHome,
) -> None:
    home = service_home()
    home.start_ready()
    run = home.drop(b"one")
    assert home.is_committed(run)
    registered = as_process("--home", home.root, "register", run, "-e", "churn")
    assert registered.out.strip() == "churn/1", registered.err

    (home.staging / run / "model.bin").write_bytes(b"two")

    assert home.is_committed(run, revision=2)
    assert home.stored(run) == b"two"
    assert home.stored(run, revision=1) == b"one"
    with Repository.open(home.root) as repository:
        pulled = repository.pull("churn/1", home.folder / "pulled")
    assert pulled.read_bytes() == b"one"
