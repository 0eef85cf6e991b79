"""What `run new` and `drop` say of a run: by their options, and what they find out themselves."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

from modeldrop import Repository, captured
from modeldrop.capture import digest_of_path
from modeldrop.errors import DropRefused, NotFound, UsageError
from modeldrop.home import user_name
from modeldrop.intake import drop, new_run
from modeldrop.metadata import Code, Dataset, Environment, Metadata
from modeldrop_cli.objects.stored import RevisionObject, VersionObject
from support import reference
from support.intake import make_run, stored
from support.program import Program, in_process

SHA = "ab" * 32
SECRET = "hunter2-canary"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit, whose remote has a secret in its URL."""
    tree = tmp_path / "tree"
    tree.mkdir()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    git(tree, "init", "-q", "-b", "trunk")
    git(tree, "remote", "add", "origin", f"https://ada:{SECRET}@example.invalid/x.git")
    (tree / "train.py").write_text("print()\n")
    git(tree, "add", "train.py")
    git(tree, "commit", "-q", "-m", "first")
    return tree


def git(tree: Path, *arguments: str) -> str:
    who = ("-c", "user.name=ada", "-c", "user.email=ada@example.invalid")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=tree, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_commit_is_captured_with_its_branch_and_whether_it_is_what_ran(tree: Path) -> None:
    head = git(tree, "rev-parse", "HEAD")
    clean = {"commit": head, "dirty": False, "branch": "trunk"}
    assert captured(folder=tree)["code"] == clean
    # The model itself is mostly written into the tree, and changes nothing of the code.
    (tree / "model.onnx").write_text("weights")
    assert captured(folder=tree)["code"] == clean
    (tree / "below").mkdir()
    assert captured(folder=tree / "below")["code"] == clean
    for change in ("modified", "staged"):
        (tree / "train.py").write_text(change)
        if change == "staged":
            git(tree, "add", "train.py")
        assert captured(folder=tree)["code"] == {**clean, "dirty": True}
    git(tree, "commit", "-q", "-m", "second")
    git(tree, "checkout", "-q", "--detach")
    now = git(tree, "rev-parse", "HEAD")
    assert captured(folder=tree)["code"] == {"commit": now, "dirty": False, "branch": None}


def test_without_a_commit_a_repository_or_git_there_is_no_code(
    tmp_path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "plain").mkdir()
    assert "code" not in captured(folder=tmp_path / "plain")
    git(tmp_path / "plain", "init", "-q")
    assert "code" not in captured(folder=tmp_path / "plain")
    assert "code" in captured(folder=tree)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "code" not in captured(folder=tree)
    # What hangs, or fails, is not there either.
    fake = tmp_path / "git"
    for script in ("exit 1", "exec sleep 60"):
        fake.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setattr("modeldrop.capture._PATIENCE", 0.5)
        assert "code" not in captured(folder=tree)


def test_settings_of_the_tree_start_no_program(tree: Path, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    hook.chmod(0o755)
    git(tree, "config", "core.fsmonitor", str(hook))
    git(tree, "status")
    assert (tmp_path / "started").exists()
    (tmp_path / "started").unlink()
    assert "code" in captured(folder=tree)
    assert not (tmp_path / "started").exists()


def test_where_it_runs_is_captured_and_packages_when_asked_for(tree: Path) -> None:
    found = captured(folder=tree)["environment"]
    assert isinstance(found, dict)
    assert found == {
        "host": os.uname().nodename,
        "user": user_name(),
        "python": platform.python_version(),
        "platform": found["platform"],
    }
    assert str(found["platform"]).startswith("linux-")
    whole = captured(folder=tree, packages=True)["environment"]
    assert isinstance(whole, dict)
    packages = whole["packages"]
    assert isinstance(packages, dict)
    assert {"click", "fsspec", "modeldrop"} <= {str(name).lower() for name in packages}
    assert all(isinstance(version, str) for version in packages.values())


def test_no_secret_is_captured(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    # A package that was installed from an address with a password in it.
    site = tmp_path / "site" / "private-1.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: private\nVersion: 1.0\n")
    (site / "direct_url.json").write_text(
        json.dumps({"url": f"https://u:{SECRET}@example.invalid/private.git", "vcs_info": {}})
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = json.dumps(captured(folder=tree, packages=True))
    assert '"private": "1.0"' in found
    assert SECRET not in found
    assert str(tmp_path) not in found


# Data sets


def test_a_data_set_has_the_digest_of_its_file_or_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "part").mkdir(parents=True)
    (data / "part" / "b c").write_text("2")
    (data / "a").write_text("1")
    script = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    told = subprocess.run(
        ["sh", "-c", script], cwd=data, check=True, capture_output=True, text=True
    )
    assert digest_of_path(data) == told.stdout.split()[0]
    assert digest_of_path(data / "a") == hashlib.sha256(b"1").hexdigest()
    (tmp_path / "latest").symlink_to(data / "a")
    assert digest_of_path(tmp_path / "latest") == hashlib.sha256(b"1").hexdigest()
    with pytest.raises(NotFound):
        digest_of_path(tmp_path / "nowhere")
    (data / "link").symlink_to("a")
    with pytest.raises(UsageError, match="link"):
        digest_of_path(data)
    (data / "link").unlink()
    os.mkfifo(data / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        digest_of_path(data)
    with pytest.raises(UsageError, match="neither"):
        digest_of_path(data / "pipe")


# Joined with what the run says already


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    (tmp_path / "staging").mkdir()
    (tmp_path / "model").write_text("weights")
    return tmp_path / "staging"


def test_a_drop_into_a_run_loses_nothing_that_its_file_says(staging: Path, tmp_path: Path) -> None:
    own = {
        "experiment": "churn",
        "notes": {"mine": [1.5]},
        "metrics": {"auc": 0.5, "f1": 0.8},
        "datasets": [{"name": "train", "sha256": SHA}],
        "code": {"commit": "1" * 40},
        "environment": {"host": "first"},
    }
    run = make_run(staging, {"run.json": json.dumps(own), "old": "1"})
    said = Metadata(
        metrics={"auc": "0.9"},
        datasets=(Dataset("test", "0" * 64),),
        code=Code("2" * 40, dirty=True, branch=None),
        environment=Environment(host="second", packages={"numpy": "2.0"}),
    )
    drop(staging, [tmp_path / "model"], run=run, metadata=said, register=True)
    assert json.loads((staging / run / "run.json").read_text()) == {
        **own,
        "register": True,
        "metrics": {"auc": "0.9", "f1": 0.8},
        "datasets": {"train": SHA, "test": "0" * 64},
        "code": {"commit": "1" * 40, "dirty": True, "branch": None},
        "environment": {"host": "first", "packages": {"numpy": "2.0"}},
    }
    assert (staging / run / "old").exists()


def test_a_run_file_that_cannot_be_understood_is_never_replaced(
    staging: Path, tmp_path: Path
) -> None:
    run = make_run(staging, {"run.json": '{"metrics": {"auc": 0.9}'})
    with pytest.raises(DropRefused, match=r"run\.json to which nothing can be added: it is no"):
        drop(staging, [tmp_path / "model"], run=run, metadata=Metadata(tags={"a": ""}))
    assert {each.name for each in (staging / run).iterdir()} == {"run.json"}
    drop(staging, [tmp_path / "model"], run=run)
    assert (staging / run / "run.json").read_text() == '{"metrics": {"auc": 0.9}'


def test_nothing_said_leaves_no_file(staging: Path, tmp_path: Path) -> None:
    run = drop(staging, [tmp_path / "model"])
    assert {each.name for each in (staging / run).iterdir()} == {"model", "_SUCCESS"}
    assert [*(staging / new_run(staging)).iterdir()] == []


# On the command line


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def model(run: Program, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in a tree that has a home."""
    monkeypatch.chdir(tree)
    assert run("init").code == 0
    (tree / "model.onnx").write_text("weights")
    return tree / "model.onnx"


OPTIONS = (
    *("--param", "depth=6", "--param", "lr=0.050", "--param", "opt.name=adam", "--param", "x="),
    *("--metric", "auc=0.912", "--metric", "loss=nan", "--direction", "auc=max"),
    *("--tag", "team=retention", "--tag", "baseline", "--tag", "eq=a=b"),
    *("--dataset", "train=train.py", "--dataset", f"test=sha256:{SHA}"),
    *("--parent", "3F2B8C1E5D7A4C0B9A610F6E2D4B7A90"),
)


def test_what_the_options_say_is_kept_and_shown(run: Program, model: Path, tree: Path) -> None:
    guid = run("drop", model, "-e", "churn", "--wait", "-q", "--packages", *OPTIONS).out.strip()
    assert run("register", guid).code == 0
    whole = run("show", "churn/1", "--json").json
    assert reference.differences(whole, VersionObject) == []
    metadata = whole["metadata"]
    assert metadata["params"] == {"depth": 6, "lr": "0.05", "opt.name": "adam", "x": ""}
    assert metadata["metrics"] == {"auc": "0.912", "loss": "nan"}
    assert metadata["directions"] == {"auc": "max"}
    assert metadata["tags"] == {"team": "retention", "baseline": "", "eq": "a=b"}
    assert metadata["datasets"] == [
        {"name": "test", "sha256": SHA},
        {"name": "train", "sha256": hashlib.sha256(b"print()\n").hexdigest()},
    ]
    assert metadata["parent"] == "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
    assert metadata["code"] == {
        "commit": git(tree, "rev-parse", "HEAD"),
        "dirty": False,
        "branch": "trunk",
    }
    assert metadata["environment"]["python"] == platform.python_version()
    assert "click" in metadata["environment"]["packages"]
    of_run = run("show", guid, "--json").json
    assert reference.differences(of_run, RevisionObject) == []
    assert of_run["metadata"] == metadata
    shown = run("show", "churn/1").out
    for line in (
        "metrics     auc 0.912 (max), loss nan",
        "params      depth 6, lr 0.05, opt.name adam, x ",
        "tags        baseline, eq=a=b, team=retention",
        "parent      run:3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90",
        f"code        {metadata['code']['commit'][:12]} on trunk",
    ):
        assert line.rstrip() in [each.rstrip() for each in shown.splitlines()], shown
    with Repository.open(tree / ".mlops") as repository:
        for each in repository.backend.walk(""):
            data = stored(repository.backend, each.key)
            assert SECRET.encode() not in data
    assert SECRET not in (tree / ".mlops" / "journal.jsonl").read_text()


def test_run_new_says_what_is_known_and_the_script_adds_the_rest(run: Program, model: Path) -> None:
    folder = Path(run("run", "new", "-e", "churn", "--param", "depth=6", "--json").json["folder"])
    (folder / "run.toml").write_text("[metrics]\nauc = 0.9\n")
    (folder / "model.onnx").write_text("weights")
    (folder / "_SUCCESS").touch()
    assert run("scan", "--once").code == 0
    metadata = run("show", "run:@last", "--json").json["metadata"]
    assert (metadata["params"], metadata["metrics"]) == ({"depth": 6}, {"auc": "0.9"})
    assert metadata["code"]["branch"] == "trunk"
    assert metadata["environment"]["host"] == os.uname().nodename


def test_nothing_is_captured_where_it_is_not_wanted(run: Program, model: Path) -> None:
    folder = Path(run("drop", model, "--no-capture", "--json").json["folder"])
    assert {each.name for each in folder.iterdir()} == {"model.onnx", "_SUCCESS"}
    folder = Path(run("run", "new", "--no-capture", "--json").json["folder"])
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize(
    ("options", "why", "code"),
    [
        (("--param", f"={SECRET}"), "--param has no name and value", 2),
        (("--param", SECRET), "--param has no name and value", 2),
        (("--param", "a=1", "--param", "a=2"), "--param names 'a' twice", 2),
        (("--metric", f"auc={SECRET}"), "the metric 'auc' is no number", 2),
        (("--direction", "auc=up"), "the direction of 'auc' is neither", 2),
        (("--dataset", "train=nowhere"), "there is no file or folder nowhere", 10),
        (("--parent", "3f2b"), "the parent is no run's GUID", 2),
        (("--tag", "a\x1bb=1"), r"the tag 'a\\x1bb' has a control character", 2),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_without_its_value_and_nothing_is_dropped(
    run: Program, model: Path, tree: Path, options: tuple[str, ...], why: str, code: int
) -> None:
    told = run("drop", model, *options)
    assert told.code == code
    assert why in told.err
    assert SECRET not in told.err
    assert [*(tree / ".mlops" / "staging").iterdir()] == []
