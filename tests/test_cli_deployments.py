"""`target`, `deploy`, `rollback`, `deployments`, and `show` of what is live."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop_cli.main import main
from support import deploying
from support.children import dies
from support.deploying import store_folder
from support.program import command, environment
from support.sharing import host


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A home in the working folder with three versions."""
    with host(tmp_path / ".mlops", "") as made:
        for number in (1, 2, 3):
            store_folder(made, f"version {number}")
        yield made


def test_from_a_target_to_a_rollback(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["target", "add", "production", "serving", "--production"]) == 0
    said = capsys.readouterr()
    assert said.out == "production\n"
    assert "--require-verified" in said.err
    assert main(["target", "list"]) == 0
    assert str(tmp_path / "serving") in capsys.readouterr().out

    for number in (1, 2):
        assert main(["deploy", f"churn/{number}", "production", "--reason", "new"]) == 0
    said = capsys.readouterr()
    assert said.out == "churn@production~1\nchurn@production~2\n"
    assert "before it was churn/1" in said.err
    assert main(["show", "churn@production"]) == 0
    shown = capsys.readouterr().out
    assert "churn/2" in shown
    assert "live at" in shown
    assert main(["rollback", "churn", "production", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["rolled_back"], told["copied"]) == (1, True, False)
    assert main(["deployments", "churn@production", "-q"]) == 0
    assert capsys.readouterr().out == "".join(f"churn@production~{n}\n" for n in (3, 2, 1))
    assert main(["deployments"]) == 0
    assert "churn@production~3" in capsys.readouterr().out
    assert main(["log", "churn@production", "-q"]) == 0
    assert main(["verify", "--deep"]) == 0
    assert repository.deployments("churn")[0].version == 1


def test_gate_that_refuses_exits_with_11_and_says_what_to_do(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["target", "add", "production", "serving", "--confirm"]) == 0
    assert main(["deploy", "churn/1", "production"]) == 11
    assert "--yes" in capsys.readouterr().err
    assert main(["deploy", "churn/1", "production", "--yes"]) == 0
    assert main(["target", "add", "churned", "elsewhere", "--require-alias", "champion"]) == 0
    assert main(["deploy", "churn/1", "churned", "--json"]) == 11
    error = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert error["error"]["kind"] == "GateClosed"
    assert error["error"]["detail"]["gate"] == "require-alias"
    assert repository.deployments("churn", "production")[-1].version == 1


def test_names_of_aliases_and_targets_exclude_each_other(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["target", "add", "production", "serving"]) == 0
    assert main(["promote", "churn/1", "production"]) == 11
    assert main(["promote", "churn/1", "champion"]) == 0
    assert main(["target", "add", "champion", "other"]) == 11
    capsys.readouterr()
    assert main(["target", "rm", "production"]) == 0
    assert main(["show", "churn@production"]) == 10
    assert main(["deploy", "churn/1", "production"]) == 10


@pytest.mark.parametrize(
    ("step", "outcome"), [("copy verified", "undone"), ("record appended", "finished")]
)
def test_next_command_settles_what_died_and_says_so(
    repository: Repository, capsys: pytest.CaptureFixture[str], step: str, outcome: str
) -> None:
    assert main(["target", "add", deploying.TARGET, "serving"]) == 0
    root = repository.home.paths.root
    assert dies(deploying.deploy, root, "churn/1", "ann", at=step)
    capsys.readouterr()

    assert main(["deployments"]) == 0

    said = capsys.readouterr()
    assert outcome in said.err
    assert ("churn@production~1" in said.out) == (outcome == "finished")


def deployed_on_a_terminal(answer: bytes, target: str) -> tuple[int, bytes]:
    """Deploy as a person does who is asked; return the exit code and what was asked."""
    leading, following = pty.openpty()
    os.write(leading, answer)
    with subprocess.Popen(
        command("deploy", "churn/1", target),
        env=environment(),
        stdin=following,
        stdout=subprocess.DEVNULL,
        stderr=following,
    ) as process:
        code = process.wait(60)
    os.set_blocking(leading, False)
    said = os.read(leading, 65536)
    os.close(following)
    os.close(leading)
    return code, said


def test_person_is_asked_before_a_deployment_that_wants_to_be_confirmed(
    repository: Repository, tmp_path: Path
) -> None:
    repository.add_target("production", tmp_path / "serving", confirm=True)
    repository.add_target("trial", tmp_path / "trial")

    code, said = deployed_on_a_terminal(b"n\n", "production")
    assert (code, repository.deployments("churn")) == (11, [])
    assert b"to production?" in said
    code, said = deployed_on_a_terminal(b"y\n", "production")
    assert (code, repository.deployments("churn")[0].version) == (0, 1)
    # Whoever needs no confirmation isn't asked for one.
    code, said = deployed_on_a_terminal(b"", "trial")
    assert code == 0
    assert b"?" not in said
