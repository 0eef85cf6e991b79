"""`import` and `export` on the command line: what they print, and their exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from modeldrop_cli.objects.sharing import ExportObject, ImportObject
from support import reference
from support.mlopsnet import usual
from support.program import Program, in_process


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def home(run: Program, tmp_path: Path) -> Path:
    assert run("init").code == 0
    return tmp_path / ".mlops"


def test_import_tells_what_came_of_it(run: Program, home: Path, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    what = ("import", "mlopsnet", made.database, made.folder)
    planned = run(*what, "--dry-run")
    assert planned.code == 0
    assert "WOULD BE IMPORTED" in planned.out
    done = run(*what, "--json")
    assert done.code == 0
    assert reference.differences(done.json, ImportObject) == []
    assert done.json["versions"] == {"created": 3, "there": 0}
    assert {each["kind"] for each in done.json["left"]} >= {"deployment", "target"}
    assert run(*what, "-q").out == ""
    shown = run("show", "churn/3")
    assert "mlopsnet" in shown.out
    assert str(made.database) in shown.out
    assert run("show", "churn/3", "--json").json["origin"]["source"] == "mlopsnet"
    assert run("list", "churn", "-q").lines == ["churn/3", "churn/2", "churn/1"]
    assert run("log", "churn/3").code == 0


def test_a_target_with_a_url_is_made_and_served(run: Program, home: Path, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    what = ("import", "mlopsnet", made.database, made.folder)
    assert run(*what, "--target", "production").code == 2
    assert run(*what, "--target", "staging=live").code == 2
    done = run(*what, "--target", "production=live=1", "--json")
    assert done.code == 0
    assert reference.differences(done.json, ImportObject) == []
    assert done.json["targets"] == done.json["deployments"] == {"created": 1, "there": 0}
    assert (tmp_path / "live=1" / "churn" / "current").exists()
    assert run("show", "churn@production", "--json").json["version"] == 3


def test_what_waits_exits_3_and_says_what_to_do(run: Program, home: Path, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    (made.folder / f"{made.runs[1]}.zip").unlink()
    done = run("import", "mlopsnet", made.database, made.folder)
    assert done.code == 3
    assert "--leave-vacant" in done.err
    again = run("import", "mlopsnet", made.database, made.folder, "--leave-vacant")
    assert again.code == 0
    vacant = run("show", "churn/2")
    assert vacant.code == 10
    assert "churn/2 is vacant: its bytes could not be had" in vacant.err


def test_what_is_something_else_here_exits_11(run: Program, home: Path, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    (tmp_path / "model.bin").write_bytes(b"mine")
    guid = run("drop", "--wait", "model.bin", "-e", "churn").out.strip()
    run("register", guid)
    done = run("import", "mlopsnet", made.database, made.folder)
    assert done.code == 11
    assert "--name OLD=NEW" in done.err
    assert run("import", "mlopsnet", made.database, made.folder, "--name", "churn=net").code == 0
    assert run("import", "mlopsnet", made.database, made.folder, "--name", "churn").code == 2


def test_export_and_import_of_a_bundle(run: Program, home: Path, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    run("import", "mlopsnet", made.database, made.folder)
    done = run("export", "churn", "--history", "-o", "churn.bundle", "--json")
    assert done.code == 0
    assert reference.differences(done.json, ExportObject) == []
    assert done.json["versions"] == ["churn/1", "churn/2", "churn/3"]
    assert run("export", "churn", "-o", "churn.bundle").code == 11
    assert run("export", "churn", "-o", "churn.bundle", "--force").code == 0
    assert run("export", "nothing", "-o", "other.bundle").code == 10
    run("export", "churn", "--history", "-o", "churn.bundle", "--force")
    brought = run("import", "bundle", "churn.bundle", "--json")
    assert (brought.code, brought.json["versions"]) == (0, {"created": 0, "there": 3})


def test_mlflow_is_found_by_its_own_variable(
    run: Program, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run("import", "mlflow").code == 2
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///nowhere.db")
    done = run("import", "mlflow")
    assert done.code == 10
    assert "nowhere.db" in done.err
