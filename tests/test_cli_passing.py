"""MODELDROP_BACKEND alone: a job without a home stores, registers and pulls all the same."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from modeldrop import Repository
from support.program import Program, in_process

BACKEND = "MODELDROP_BACKEND"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty backend."""
    if request.param == "local":
        return str(tmp_path / "backend")
    found: str = request.getfixturevalue("s3_url")
    return found


@pytest.fixture
def modeldrop(capsys: pytest.CaptureFixture[str]) -> Program:
    """The program."""
    return in_process(capsys)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> Path:
    """The folder of a job with a model, with temporary files beside it."""
    monkeypatch.setenv(BACKEND, url)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    folder = tmp_path / "job"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "model.onnx").write_bytes(b"a model")
    return folder


def test_a_job_without_a_home_stores_registers_and_pulls_and_leaves_no_home(
    modeldrop: Program, job: Path, url: str, tmp_path: Path
) -> None:
    run = modeldrop("drop", "model.onnx", "-e", "churn").out.strip()
    assert modeldrop("register", run, "--by", "ci").out == "churn/1\n"
    modeldrop("promote", "churn/1", "candidate")
    modeldrop("pull", "churn@candidate", "-o", "serving")
    assert (job / "serving" / "model.onnx").read_bytes() == b"a model"
    assert modeldrop("verify", "--deep").code == 0
    assert sorted(os.listdir(job)) == ["model.onnx", "serving"]
    assert not any(each.name.startswith("modeldrop-") for each in (tmp_path / "tmp").iterdir())


def test_what_a_job_did_is_in_the_history_of_all_hosts(
    modeldrop: Program, job: Path, url: str, tmp_path: Path
) -> None:
    run = modeldrop("drop", "model.onnx", "-e", "churn").out.strip()
    modeldrop("register", run, "--by", "ci")
    with Repository.clone(tmp_path / "other" / ".mlops", url)[0] as other:
        kinds = [entry.kind for entry in other.log()]
    assert kinds.count("committed") == kinds.count("registered") == 1


def test_a_command_that_leaves_something_in_its_home_needs_one(
    modeldrop: Program, job: Path
) -> None:
    for command in (("run", "new"), ("status",), ("scan", "--once")):
        told = modeldrop(*command)
        assert told.code == 10
        assert "there is no home" in told.err


def test_a_home_with_another_backend_is_not_taken_for_it(
    modeldrop: Program, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(BACKEND)
    modeldrop("init")
    monkeypatch.setenv(BACKEND, "s3://models/team")
    told = modeldrop("list")
    assert told.code == 2
    assert "s3://models/team" in told.err
    assert str(job / ".mlops") in told.err
    # Who names the home means it.
    monkeypatch.setenv("MODELDROP_HOME", str(job / ".mlops"))
    assert modeldrop("list").code == 0


def test_a_backend_that_cannot_be_used_leaves_no_home_behind(
    modeldrop: Program, job: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(BACKEND, str(tmp_path / "file" / "backend"))
    assert modeldrop("list").code == 2
    assert not any(each.name.startswith("modeldrop-") for each in (tmp_path / "tmp").iterdir())
