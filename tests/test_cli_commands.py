"""Each command: what a person sees, what `-q` and `--json` print, and what stays in between."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from modeldrop.layout import HomePaths
from modeldrop.locks import hold
from modeldrop.names import RECEIPT
from modeldrop_cli.objects.dropping import DropObject, NewRunObject, ScanObject, StatusObject
from modeldrop_cli.objects.failing import ErrorObject
from modeldrop_cli.objects.finding import ExperimentsObject, VersionsObject
from modeldrop_cli.objects.sharing import EntryObject
from modeldrop_cli.objects.starting import InitObject
from modeldrop_cli.objects.stored import (
    CopyObject,
    RegisteredObject,
    RevisionObject,
    RunObject,
    VersionObject,
)
from modeldrop_cli.objects.tending import VerifyObject
from modeldrop_cli.output import size, to_json, when
from support import reference
from support.program import Program, Ran, command, environment, in_process
from support.waiting import comes_true

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def home(run: Program, tmp_path: Path) -> Path:
    assert run("init").code == 0
    return tmp_path / ".mlops"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def guid(home: Path, run: Program, model: Path) -> str:
    """A run of the experiment churn that is stored."""
    return run("drop", "--wait", model, "-e", "churn").out.strip()


@pytest.fixture
def version(guid: str, run: Program) -> str:
    """The version of that run."""
    return run("register", guid).out.strip()


def settle_soon(home: Path) -> None:
    """Let runs without a marker be complete after a moment."""
    settings = "[service]\nquiet_time = 0.1\nquiet_time_without_lease = 0.1\n"
    (home / "config.toml").write_text(settings, "utf-8")


def documented(value: object, kind: type) -> bool:
    """Say whether printed JSON is what docs/json.md says, showing the differences if not."""
    assert reference.differences(value, kind) == []
    return True


def silent(told: Ran) -> bool:
    assert (told.code, told.err) == (0, "")
    return True


# init


def test_init_makes_a_home_like_git_and_says_what_it_made(run: Program, tmp_path: Path) -> None:
    told = run("init", "project")
    root = tmp_path / "project" / ".mlops"
    assert told.code == 0
    assert told.err.startswith("Made a home.\n")
    assert [line.split("  ")[0] for line in told.lines] == [
        *("home", "backend", "staging", "create if absent")
    ]
    assert str(root / "model-repository") in told.out
    assert told.out.endswith("holds\n")
    assert run("--home", root, "status").code == 0


def test_two_places_for_a_home_are_a_wrong_call(run: Program, tmp_path: Path) -> None:
    told = run("--home", tmp_path / "one", "init", tmp_path / "two")

    assert told.code == 2
    assert "both say where the home is to be" in told.err
    assert not (tmp_path / "two").exists()


def test_init_again_changes_nothing(run: Program, tmp_path: Path) -> None:
    first = run("init", "--json").json
    assert documented(first, InitObject)
    assert first["created"]
    assert first["create_if_absent_holds"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run("init").err.startswith("There is a home already; nothing was changed.\n")
    assert run("init", "--json").json == {**first, "created": False}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_init_takes_paths_from_where_it_was_called(
    run: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run("init", "project", "--backend", "store", "--staging", "drops", "--json").json
    assert made["backend"] == str(tmp_path / "store")
    assert made["staging"] == str(tmp_path / "drops")
    (tmp_path / "model.bin").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path / "project")
    guid = run("drop", "--wait", "../model.bin").out.strip()
    assert (tmp_path / "store" / guid).is_dir()
    assert run("init", "--backend", "../store").code == 0
    assert run("init", "--backend", "store").code == 11


def test_init_under_modeldrop_home_makes_that_home(
    run: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELDROP_HOME", str(tmp_path / "elsewhere"))
    assert run("init", "-q").out == f"{tmp_path / 'elsewhere'}\n"
    told = run("init", "project")
    assert "MODELDROP_HOME is set" in told.err
    assert (tmp_path / "project" / ".mlops" / "home.json").exists()


def test_init_passes_options_to_the_driver_as_what_they_are(
    run: Program, s3_url: str, tmp_path: Path
) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    options = ("--option", f"endpoint_url={endpoint}", "--option", "use_ssl=false")
    told = run("init", "--backend", s3_url, *options, "--json")
    assert told.code == 0, told.err
    assert told.json["backend"] == s3_url
    settings = (tmp_path / ".mlops" / "config.toml").read_text("utf-8")
    assert f'endpoint_url = "{endpoint}"' in settings
    assert "use_ssl = false" in settings


# run new, drop


def test_run_new_prints_the_guid_and_names_the_folder_on_stderr(run: Program, home: Path) -> None:
    told = run("run", "new", "-e", "churn")
    guid = told.out.strip()
    assert GUID.fullmatch(guid)
    folder = home / "staging" / guid
    assert folder.is_dir()
    assert str(folder) in told.err
    assert json.loads((folder / "run.json").read_text("utf-8"))["experiment"] == "churn"


def test_run_new_json_and_quiet(run: Program, home: Path) -> None:
    assert documented(run("run", "new", "--json").json, NewRunObject)
    quiet = run("run", "new", "-q")
    assert silent(quiet)
    assert GUID.fullmatch(quiet.out.strip())


def test_drop_prints_the_guid_and_leaves_the_rest_to_the_service(
    run: Program, home: Path, model: Path
) -> None:
    told = run("drop", model, "-e", "churn")
    guid = told.out.strip()
    assert (home / "staging" / guid / "model.bin").read_bytes() == b"weights"
    assert "`modeldrop status`" in told.err
    assert run("runs", "-q").out == ""
    dropped = run("drop", "--json", model).json
    assert documented(dropped, DropObject)
    assert dropped["revision"] is None


def test_drop_of_the_folder_that_holds_the_home_is_refused(run: Program, home: Path) -> None:
    told = run("drop", ".")
    assert told.code == 2
    assert "holds the staging folder" in told.err
    assert list((home / "staging").iterdir()) == []


def test_drop_refuses_what_a_program_is_writing(run: Program, home: Path, model: Path) -> None:
    with model.open("ab"):
        told = run("drop", model)
    if sys.platform == "linux":
        assert told.code == 2
        assert "is being written to" in told.err


def test_drop_ended_by_sigterm_cleans_up(home: Path, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as big:
        big.truncate(8 << 30)
    with subprocess.Popen(command("drop", "big"), env=environment(), stderr=subprocess.PIPE) as one:
        assert comes_true(lambda: any((home / "staging").glob(".modeldrop-drop-*/big")))
        one.terminate()
        assert one.stderr
        said = one.stderr.read()
    assert one.returncode == 128 + signal.SIGTERM
    assert said.startswith(b"Error: ended by SIGTERM\n")
    assert list((home / "staging").iterdir()) == []


def test_drop_with_wait_stores_it_and_needs_no_equals_sign(
    run: Program, home: Path, model: Path
) -> None:
    # What follows a bare `--wait` is a file, not a number of seconds.
    told = run("drop", "--wait", "model.bin")
    guid = told.out.strip()
    assert told.err == f"Stored as run:{guid}~1\n"
    assert run("runs", "-q").out == f"{guid}\n"
    more = run("drop", "--run", guid, "--wait=60", "--json", model).json
    assert documented(more, DropObject)
    assert more["revision"] == 1
    assert silent(run("drop", "--wait", "-q", model))


def test_drop_with_wait_tells_the_guid_even_when_the_time_runs_out(
    run: Program, home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.intake.memory.recall", lambda *_: None)
    told = run("drop", "--wait=0", model)
    assert told.code == 12
    assert GUID.fullmatch(told.out.strip())
    assert "isn't stored after 0 s" in told.err
    told = run("drop", "--wait=0", "--json", model)
    assert told.json["revision"] is None
    assert told.error["kind"] == "NotReady"
    assert told.error["detail"] == {"run": told.json["run"]}


def test_drop_with_wait_leaves_the_work_to_whoever_does_it_already(
    home: Path, model: Path, run: Program
) -> None:
    processes = [
        subprocess.Popen(
            command("drop", "--wait", model), env=environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert said == set(run("runs", "-q").lines)


# scan, status


def test_scan_stores_what_is_complete_and_says_so(run: Program, home: Path, model: Path) -> None:
    assert run("scan", "--once").err == "There is nothing in the staging folder.\n"
    guid = run("drop", model).out.strip()
    told = run("scan", "--once")
    assert told.code == 0
    assert re.search(rf"^{guid} +committed .* revision 1$", told.out, re.MULTILINE)
    assert run("scan", "--once", "-q").out == f"{guid}\n"
    assert documented(run("scan", "--once", "--json").json, ScanObject)


def test_scan_says_that_it_is_for_once(run: Program, home: Path) -> None:
    told = run("scan")
    assert told.code == 2
    assert "`modeldropd`" in told.err


def test_scan_leaves_the_work_to_a_service_that_runs(run: Program, home: Path) -> None:
    with hold(HomePaths(home).service_lock(), what="the service"):
        told = run("scan", "--once")
        assert told.code == 12
        assert f"process {os.getpid()} does this already" in told.err
        assert run("status", "--json").json["service"]["running"]


def test_status_names_every_run_that_is_not_stored_with_its_reason(
    run: Program, home: Path, model: Path, guid: str
) -> None:
    waiting = run("drop", model).out.strip()
    (home / "staging" / "wandb-run").mkdir()
    told = run("status")
    assert told.code == 0
    assert told.lines[0] == "service  not running"
    assert "stored   1 of 2 runs" in told.lines
    assert re.search(rf"^{waiting} +open ", told.out, re.MULTILINE)
    assert re.search(r"^wandb-run +junk ", told.out, re.MULTILINE)
    assert "`modeldrop scan --once`" in told.err
    assert run("status", "-q").out == f"{waiting}\n"
    whole = run("status", "--json").json
    assert documented(whole, StatusObject)
    assert (whole["committed"], whole["service"]["running"]) == (1, False)


def test_a_run_of_which_a_part_is_refused_is_counted_once(
    run: Program, home: Path, model: Path
) -> None:
    (guid,) = run("drop", model).lines
    (home / "staging" / guid / "link").symlink_to("model.bin")
    assert run("scan", "--once").code == 3
    told = run("status")
    assert "stored   1 of 1 runs" in told.lines
    assert re.search(r"^  link +refused ", told.out, re.MULTILINE)


def test_a_run_in_json_has_its_size_and_the_path_of_its_folder(
    run: Program, home: Path, model: Path
) -> None:
    guid = run("run", "new", "-q").out.strip()
    folder = home / "staging" / guid
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "link").symlink_to("model.bin")
    (folder / "_SUCCESS").touch()
    for call in (("scan", "--once"), ("scan", "--once"), ("status",)):
        (told,) = run(*call, "--json").json["runs"]
        assert (told["state"], told["size"], told["folder"]) == ("committed", 7, str(folder))


@pytest.mark.parametrize("experiment", [(), ("-e", "churn")])
@pytest.mark.parametrize("files", [("a",), ("a", "b")])
def test_what_the_receipt_says_to_do_next_works(
    experiment: tuple[str, ...], files: tuple[str, ...], run: Program, home: Path, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_text(name, "utf-8")
    guid = run("drop", "--wait", *files, *experiment).out.strip()
    receipt = json.loads((home / "staging" / guid / RECEIPT).read_bytes())
    program, *call = receipt["next"].split(" ")
    assert program == "modeldrop"
    assert ("EXPERIMENT" in call, "NAME" in call) == (not experiment, len(files) > 1)
    filled = {"EXPERIMENT": "churn", "NAME": "a"}
    assert run(*(filled.get(word, word) for word in call)).out == "churn/1\n"


# Waiting


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let who waits be told at once what for."""
    monkeypatch.setattr("modeldrop_cli.waiting._PATIENCE", 0.0)


def test_who_waits_is_told_once_for_each_reason_what_for(
    run: Program, home: Path, impatient: None
) -> None:
    guid = run("run", "new", "-q").out.strip()
    (home / "staging" / guid / "model.part").write_bytes(b"half")
    told = run("register", guid, "-e", "churn", "--wait=1.2")
    assert told.code == 12
    held_up = [line for line in told.err.splitlines() if "still waiting" in line]
    assert len(held_up) == 1
    assert f"Run {guid} is open: held open by the temporary model.part" in held_up[0]
    assert "1.2 s at most" in held_up[0]


def test_who_waits_is_told_even_before_the_service_has_looked(
    run: Program, home: Path, model: Path, impatient: None
) -> None:
    with hold(HomePaths(home).service_lock(), what="the service"):
        told = run("drop", model, "--wait=0.3")
    assert told.code == 12
    assert "is not looked at yet; still waiting" in told.err
    assert "isn't stored after 0.3 s; it is not looked at yet\n" in told.err


def test_a_wait_without_time_says_the_state_and_no_more(
    run: Program, home: Path, model: Path
) -> None:
    told = run("drop", "--wait=0", model)
    assert "isn't stored after 0 s; it is uploading\n" in told.err


def test_waiting_for_a_change_does_not_wait_for_the_next_revision_to_be_due(
    run: Program, home: Path
) -> None:
    settle_soon(home)
    guid = run("run", "new", "-q", "-e", "churn").out.strip()
    for number, content in enumerate((b"one", b"two"), 1):
        (home / "staging" / guid / "model.bin").write_bytes(content)
        assert run("register", guid, "--wait=30").out == f"churn/{number}\n"


def test_waiting_ends_even_if_the_home_can_remember_nothing(
    run: Program, home: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("modeldrop.intake.memory.write_quick", full)
    told = run("drop", "--wait=20", model)
    assert told.code == 0, told.err
    assert f"Stored as run:{told.out.strip()}~1\n" in told.err


# Reading


def test_runs_lists_the_newest_first(run: Program, guid: str, tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"other")
    newer = run("drop", "--wait", "other.bin").out.strip()
    told = run("runs")
    header, *rows = told.lines
    assert header.split() == ["RUN", "REVISION", "EXPERIMENT", "ARTIFACTS", "SIZE", "STORED", "BY"]
    assert [row.split()[0] for row in rows] == [newer, guid]
    assert run("runs", "-q").lines == [newer, guid]
    streamed = [json.loads(line) for line in run("runs", "--json").lines]
    assert [each["run"] for each in streamed] == [newer, guid]
    assert all(documented(each, RunObject) for each in streamed)
    assert [each["experiment"] for each in streamed] == [None, "churn"]


def test_an_empty_store_says_how_to_begin_on_stderr(run: Program, home: Path) -> None:
    for name, said in (("runs", "drops one"), ("list", "makes one")):
        told = run(name)
        assert (told.code, told.out) == (0, "")
        assert said in told.err
        assert silent(run(name, "-q"))
    assert run("runs", "--json").out == ""
    assert run("list", "--json").json == {"experiments": []}


def test_list_shows_experiments_and_their_versions(run: Program, guid: str, version: str) -> None:
    run("register", guid, "--again", "--description", "once more")
    assert [line.split()[0] for line in run("list").lines] == ["VERSION", "churn/2"]
    assert run("list", "-q").out == "churn\n"
    whole = run("list", "--json").json
    assert documented(whole, ExperimentsObject)
    told = run("list", "churn")
    assert [line.split()[0] for line in told.lines] == ["VERSION", "churn/2", "churn/1"]
    assert "once more" in told.out
    assert run("list", "churn", "-q").lines == ["churn/2", "churn/1"]
    whole = run("list", "churn", "--json").json
    assert documented(whole, VersionsObject)
    assert [each["version"] for each in whole["versions"]] == [2, 1]


def test_show_a_version(run: Program, guid: str, version: str) -> None:
    told = run("show", version)
    assert told.lines[:2] == ["version     churn/1", f"run         run:{guid}~1"]
    assert "\nFILE       SIZE  SHA256\nmodel.bin   7 B  " in told.out
    assert run("show", "churn", "-q").out == "churn/1\n"
    whole = run("show", "churn/1", "--json").json
    assert documented(whole, VersionObject)
    assert [each["path"] for each in whole["files"]] == ["model.bin"]


def test_show_a_run(run: Program, guid: str) -> None:
    for name in (guid, guid[:8], "run:@last", f"run:{guid}~1", f"{{{guid.upper()}}}"):
        told = run("show", name)
        assert told.lines[:2] == [f"run         {guid}", "revision    1"]
        assert run("show", name, "-q").out == f"run:{guid}~1\n"
        assert documented(run("show", name, "--json").json, RevisionObject)


def test_show_one_artifact_of_a_run(run: Program, home: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name, "utf-8")
    guid = run("drop", "--wait", "a", "b").out.strip()
    told = run("show", f"run:{guid}/a")
    assert "artifacts  a" in told.lines
    assert [line.split()[0] for line in told.lines[-2:]] == ["FILE", "a"]
    assert run("show", f"run:{guid}/a", "-q").out == f"run:{guid}~1/a\n"
    whole = run("show", f"run:{guid}/a", "--json").json
    assert documented(whole, RevisionObject)
    assert [each["artifact"] for each in whole["artifacts"]] == ["a"]
    assert run("show", f"run:{guid}/.", "-q").out == f"run:{guid}~1/.\n"
    assert len(run("show", f"run:{guid}/.", "--json").json["artifacts"]) == 2


def test_log_of_what_nobody_knows_says_so_on_stderr(run: Program, home: Path) -> None:
    told = run("log", "nothere")
    assert (told.code, told.out) == (0, "")
    assert told.err == "The journals that are here know nothing of nothere.\n"
    assert silent(run("log", "nothere", "-q"))


def test_what_is_damaged_hides_nothing_else(
    run: Program, home: Path, guid: str, version: str, tmp_path: Path
) -> None:
    (tmp_path / "other.bin").write_bytes(b"other")
    bad = run("drop", "--wait", "other.bin", "-e", "bad").out.strip()
    run("register", bad)
    run("register", guid, "--again")
    store = home / "model-repository"
    versions = store / ".modeldrop" / "experiments"
    for path in (
        store / bad / "revisions" / "00000001.json",
        versions / "bad" / "versions" / "00000001.json",
        versions / "churn" / "versions" / "00000001.json",
    ):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().replace(b'"size": ', b'"size": 1'))
    for call, shown in (
        (("runs",), [guid]),
        (("list",), ["churn"]),
        (("list", "churn"), ["churn/2"]),
        (("list", "bad"), []),
    ):
        told = run(*call, "-q")
        assert (told.code, told.lines) == (20, shown), call
        assert "00000001.json" in told.err
        told = run(*call, "--json")
        assert (told.code, bool(told.out)) == (20, True)
        told = run(*call)
        assert "There is no" not in told.err
        assert all(each in told.out for each in shown)


def test_log_of_one_revision_is_of_that_alone(run: Program, guid: str, model: Path) -> None:
    assert run("log", f"run:{guid}~1", "-q").lines != []
    assert run("log", f"run:{guid}~2", "-q").lines == []


def test_diff_of_two_runs_says_for_which_experiments_they_were(
    run: Program, guid: str, model: Path
) -> None:
    model.write_bytes(b"others")
    other = run("drop", "--wait", model, "-e", "fraud").out.strip()

    told = run("diff", guid, other, "--json").json

    assert {"name": "experiment", "a": "churn", "b": "fraud"} in told["changes"]


def test_scan_quietly_names_what_is_stored_and_nothing_else(
    run: Program, home: Path, model: Path
) -> None:
    settle_soon(home)
    refused = run("run", "new").out.strip()
    os.mkfifo(home / "staging" / refused / "pipe")
    good = run("drop", model).out.strip()

    told = run("scan", "--once", "-q")

    assert told.lines == [good]


def test_inspect_tells_what_a_person_should_know(run: Program, tmp_path: Path) -> None:
    index = {"weight_map": {"a": "../a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    told = run("inspect", "./model.safetensors.index.json")

    assert "warning: it names a shard outside of its folder" in told.out
    assert run("inspect", "./nothing.bin").code == 10


def test_log_tells_what_happened_newest_first(run: Program, guid: str, version: str) -> None:
    told = run("log")
    assert [line.split()[3] for line in told.lines] == ["registered", "committed", "home-created"]
    assert run("log", "-n", "1").lines == told.lines[:1]
    assert run("log", "churn").lines == told.lines[:1]
    assert run("log", f"run:{guid}").lines == told.lines[:2]
    assert run("log", "-q").lines == ["3", "2", "1"]
    streamed = [json.loads(line) for line in run("log", "--json").lines]
    assert [each["kind"] for each in streamed] == ["registered", "committed", "home-created"]
    assert all(documented(each, EntryObject) for each in streamed)


# register, pull, path


def test_register_prints_the_version_and_says_if_it_had_one(run: Program, guid: str) -> None:
    first = run("register", guid, "--by", "ann", "--description", "first")
    assert (first.code, first.out, first.err) == (0, "churn/1\n", "")
    again = run("register", guid[:8], "-e", "churn")
    assert (again.code, again.out) == (0, "churn/1\n")
    assert "registered before, by ann" in again.err
    assert silent(run("register", guid, "-q"))
    assert run("register", guid, "--again").out == "churn/2\n"
    assert run("register", guid, "-e", "other").out == "other/1\n"
    whole = run("register", guid, "--json").json
    assert documented(whole, RegisteredObject)
    assert (whole["version"], whole["created"]) == (1, False)
    assert (whole["registered_by"], whole["description"]) == ("ann", "first")


def test_register_takes_the_staging_folder_and_one_of_several_artifacts(
    run: Program, home: Path, tmp_path: Path
) -> None:
    for name in ("model.bin", "tokenizer.json"):
        (tmp_path / name).write_text(name, "utf-8")
    guid = run("drop", "--wait", "model.bin", "tokenizer.json", "-e", "churn").out.strip()
    folder = f"{home / 'staging' / guid}/"
    assert run("register", folder, "--artifact", "model.bin").out == "churn/1\n"
    assert run("register", f"run:{guid}/tokenizer.json").out == "churn/2\n"
    assert run("register", guid, "--artifact", ".").out == "churn/3\n"


def test_register_with_wait_does_the_work_itself(run: Program, home: Path, model: Path) -> None:
    guid = run("drop", model, "-e", "churn").out.strip()
    assert run("register", guid).code == 10
    assert run("register", guid[:8], "--wait=60").out == "churn/1\n"


def test_pull_prints_the_path_of_a_copy(run: Program, version: str, tmp_path: Path) -> None:
    told = run("pull", "churn", "-o", "out")
    assert (told.code, told.out, told.err) == (0, "out/model.bin\n", "")
    assert (tmp_path / "out" / "model.bin").read_bytes() == b"weights"
    whole = run("pull", "churn", "-o", "out", "--json").json
    assert documented(whole, CopyObject)
    path = str(tmp_path / "out" / "model.bin")
    assert whole == {"reference": "churn/1", "path": path, "signatures": []}
    assert run("pull", "churn/1", "-o", "out", "-q").out == told.out


def test_path_prints_the_path_of_the_cached_copy(run: Program, version: str, guid: str) -> None:
    told = run("path", version)
    path = Path(told.out.rstrip("\n"))
    assert path.read_bytes() == b"weights"
    assert run("path", f"run:{guid}", "-q").out == told.out
    whole = run("path", "run:@last", "--json").json
    assert documented(whole, CopyObject)
    exact = f"run:{guid}~1/model.bin"
    assert whole == {"reference": exact, "path": str(path), "signatures": []}


def test_a_path_is_printed_byte_by_byte_for_a_program(
    run: Program, version: str, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"caf\xe9\x1b")
    done = subprocess.run(
        command("pull", version, "-o", odd), env=environment(), capture_output=True, check=True
    )
    assert done.stdout == b"caf\xe9\x1b/model.bin\n"
    assert run("pull", version, "-o", odd, "--json").json["path"].endswith(r"caf\xe9\x1b/model.bin")


def test_pull_into_what_is_no_folder_is_refused(run: Program, version: str, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    for place in ("dangling", "dangling/below", "model.bin/below"):
        told = run("pull", version, "-o", place)
        assert (told.code, told.out) == (11, ""), told.err
    assert "leads nowhere" in run("pull", version, "-o", "dangling").err
    assert not (tmp_path / "nowhere").exists()


# verify


def test_verify_says_what_it_checked(run: Program, version: str) -> None:
    for arguments in ((), ("--deep",), (version,)):
        told = run("verify", *arguments)
        assert (told.code, told.out) == (0, "")
        assert "files: 1" in told.err
        assert silent(run("verify", *arguments, "-q"))
        whole = run("verify", *arguments, "--json").json
        assert documented(whole, VerifyObject)
        assert whole["ok"]


def test_verify_names_everything_that_is_damaged_and_exits_20(
    run: Program, home: Path, version: str, guid: str
) -> None:
    (stored,) = (home / "model-repository" / guid).glob("2*/model.bin")
    stored.chmod(0o600)
    stored.write_bytes(b"Weights")
    assert run("verify").code == 0
    place = f"run:{guid}~1/model.bin"
    told = run("verify", "--deep")
    assert told.code == 20
    assert place in told.out
    assert "Error: 1 thing is not as stored" in told.err
    told = run("verify", version)
    assert (told.code, "model.bin" in told.out) == (20, True)
    told = run("verify", "--deep", "-q")
    assert (told.code, told.out) == (20, f"{place}\n")
    told = run("verify", "--deep", "--json")
    assert told.code == 20
    assert documented(told.json, VerifyObject)
    assert documented(json.loads(told.err), ErrorObject)
    assert [each["where"] for each in told.json["findings"]] == [place]


@pytest.mark.parametrize("command", ["pull", "path"])
def test_a_damaged_object_is_named_exits_20_and_is_not_handed_out(
    run: Program, home: Path, version: str, guid: str, tmp_path: Path, command: str
) -> None:
    (stored,) = (home / "model-repository" / guid).glob("2*/model.bin")
    stored.chmod(0o600)
    stored.write_bytes(b"Weights")
    target = tmp_path / "serving"
    told = run(command, version, *(["-o", str(target)] if command == "pull" else []))
    assert (told.code, told.out) == (20, "")
    assert "Error: stored bytes are damaged or missing: model.bin" in told.err
    assert [each for each in target.rglob("*") if each.is_file()] == []
    assert [each for each in (home / "objects").rglob("model.bin*") if each.is_file()] == []


# Names that would drive a terminal


def test_control_characters_are_shown_escaped_everywhere(
    run: Program, home: Path, model: Path, guid: str
) -> None:
    evil = "\x1b]0;owned\x07"
    settle_soon(home)
    run("register", guid, "--by", evil, "--description", evil)
    (home / "staging" / f"{evil}junk").mkdir()
    (home / "staging" / os.fsdecode(b"\xff")).mkdir()
    bad = home / "staging" / "3f2b8c1e-0000-4000-8000-000000000000"
    bad.mkdir()
    (bad / f"{evil}.bin").symlink_to("model.bin")
    for arguments in (
        ["list"], ["list", "churn"], ["show", "churn"], ["log"], ["status"], ["scan", "--once"],
        ["show", evil], ["register", evil], ["drop", evil], [evil], ["list", evil],
        ["drop", "--run", evil, "x"], ["log", f"--{evil}"],
    ):  # fmt: skip
        for more in ([], ["--json"]):
            told = run(*arguments, *more)
            assert "\x1b" not in told.out + told.err
            assert "\x07" not in told.out + told.err
            assert "\udcff" not in told.out + told.err
    assert r"\x1b]0;owned\x07" in run("list").out
    assert r"\xff" in run("status").out
    assert json.loads(run("show", "churn", "--json").out)["description"] == evil


def test_json_has_no_lone_surrogate() -> None:
    lone, pair = os.fsdecode(b"a\xff"), "😀"
    assert json.loads(to_json({"a": [lone], lone: pair})) == {"a": [r"a\xff"], r"a\xff": pair}


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 60, "1024.0 PiB"),
    ],
)
def test_sizes_for_people(count: int, said: str) -> None:
    assert size(count) == said


def test_times_for_people_are_utc_to_the_second() -> None:
    assert when("2026-01-02T03:04:05.678901Z") == "2026-01-02 03:04:05Z"
    assert when(None) == ""
