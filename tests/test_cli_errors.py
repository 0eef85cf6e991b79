"""What goes wrong, with the words and the exit code that a person and a program get for it."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from modeldrop import errors, form, home_records
from modeldrop.backend import Backend, probe
from modeldrop.layout import HomePaths
from modeldrop.locks import hold
from modeldrop.structs import replace
from modeldrop_cli.main import COMMANDS
from support.program import Program, in_process
from support.servers import AzuriteServer, MotoServer

RUN: Final = "3f2b8c1e-0000-4000-8000-000000000000"
OTHER: Final = "4a5b6c7d-0000-4000-8000-000000000000"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def home(run: Program, tmp_path: Path) -> Path:
    """A home with a run of two artifacts, of which one is registered, and quick settling."""
    assert run("init").code == 0
    for name in ("model.bin", "other.bin"):
        (tmp_path / name).write_text(name, "utf-8")
    told = run("drop", "--wait", "--run", RUN, "model.bin", "other.bin")
    assert told.code == 0, told.err
    assert run("register", RUN, "-e", "churn", "--artifact", "model.bin").code == 0
    root = tmp_path / ".mlops"
    settings = "[service]\nquiet_time = 0.1\nquiet_time_without_lease = 0.1\n"
    (root / "config.toml").write_text(settings, "utf-8")
    return root


@dataclass(frozen=True)
class Case:
    """A call that fails: what is done before, the class of the error, and what is said."""

    name: str
    call: tuple[str, ...]
    kind: type[errors.ModeldropError]
    code: int
    error: str
    hint: str
    before: Callable[[Path], object] = lambda _: None


def _newer_home(home: Path) -> None:
    record = home / "home.json"
    fields = {**json.loads(record.read_bytes()), "format": 2, "needs": "modeldrop 7.0"}
    fields["record_sha256"] = hashlib.sha256(form.canonical(fields)).hexdigest()
    record.write_text(json.dumps(fields), "utf-8")


def _stage(home: Path, link: str) -> Path:
    folder = home / "staging" / OTHER
    folder.mkdir()
    (folder / "good.bin").write_bytes(b"good")
    (folder / link).symlink_to("/etc/hostname")
    (folder / "_SUCCESS").touch()
    return folder


def _damage_counter(home: Path) -> None:
    (home / "refs" / "churn").write_bytes(b"")


def _damage_journal(home: Path) -> None:
    journal = home / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"kind":"committed"', b'"kind":"Committed"'))


CASES: Final = (
    Case("run not there", ("register", OTHER, "-e", "churn"), errors.RunNotFound, 10,
         rf"run {OTHER} is not committed: not at .*model-repository, by the home .*\.mlops",
         "`modeldrop status` says what became of it, `modeldrop runs` lists the others"),
    Case("no run begins so", ("show", "run:beef"), errors.RunNotFound, 10,
         "no run begins with beef at .*", "`modeldrop runs` lists the runs"),
    Case("revision not there", ("show", f"{RUN}~7"), errors.RunNotFound, 10,
         f"run {RUN} has no revision 7 at .*", f"`modeldrop show run:{RUN}` shows its last one"),
    Case("artifact not there", ("register", RUN, "-e", "churn", "--artifact", "x"),
         errors.ArtifactNotFound, 10,
         f"run {RUN} has no artifact 'x'; it has model.bin, other.bin",
         "name one of these with `--artifact`"),
    Case("several artifacts and none named", ("register", RUN, "-e", "churn"),
         errors.AmbiguousArtifact, 2,
         f"run {RUN} has several artifacts: model.bin, other.bin",
         r"name one with `--artifact NAME`, or `--artifact \.` for the whole run"),
    Case("no name of a run", ("register", "churn"), errors.InvalidName, 2, "'churn' names no run",
         "write a GUID, its first 4 digits or more, `run:@last`, or the run's staging folder"),
    Case("several artifacts to pull", ("pull", f"run:{RUN}"), errors.AmbiguousArtifact, 2,
         f"run {RUN} has several artifacts: model.bin, other.bin",
         rf"write `run:{RUN}/NAME`, or `run:{RUN}/\.` for the whole run"),
    Case("no experiment", ("register", RUN, "--artifact", "model.bin"), errors.InvalidName, 2,
         f"run {RUN} names no experiment", "name it with `-e EXPERIMENT`"),
    Case("bad experiment name", ("register", RUN, "-e", "no good"), errors.InvalidName, 2,
         "'no good' is no valid experiment name", "use 1 to 100 of .*"),
    Case("bad experiment to list", ("list", "../x"), errors.InvalidName, 2,
         "'../x' is no valid experiment name", "use 1 to 100 of .*"),
    Case("bad experiment to drop", ("drop", "model.bin", "-e", "a/b"), errors.InvalidName, 2,
         "'a/b' is no valid experiment name", "use 1 to 100 of .*"),
    Case("bad reference", ("pull", "a b"), errors.InvalidName, 2,
         "'a b' names neither a version nor a run", "write `churn`, .*"),
    Case("bad guid", ("drop", "model.bin", "--run", "last"), errors.InvalidName, 2,
         "'last' is no run GUID", "a run GUID looks like .*: `modeldrop run new` makes one"),
    Case("experiment not there", ("pull", "fraud"), errors.VersionNotFound, 10,
         r"there is no experiment 'fraud' at .*, by the home .*\.mlops",
         "`modeldrop list` lists what there is"),
    Case("version not there", ("path", "churn/9"), errors.VersionNotFound, 10,
         "there is no version churn/9 at .*", "`modeldrop list` lists what there is"),
    Case("file not there", ("drop", "nothing.bin"), errors.DropRefused, 2,
         "there is no file or folder nothing.bin", "name files or folders that are there"),
    Case("home of a newer format", ("status",), errors.NewerFormat, 2,
         r".*home\.json is of format 2; this modeldrop reads up to 1",
         "use modeldrop 7.0 or later", _newer_home),
    Case("something else is there", ("pull", "churn"), errors.Conflict, 11,
         r".*model\.bin exists, and isn't what would be pulled", "move it away, or pull .*`-o DIR`",
         lambda home: (home.parent / "model.bin").write_bytes(b"else")),
    Case("another backend", ("init", "--backend", "elsewhere"), errors.Conflict, 11,
         r".*\.mlops is a home already: asked for backend .*elsewhere, and it has .*",
         "make another home in another folder, or leave this option out"),
    Case("unknown setting", ("status",), errors.ConfigError, 2,
         r".*config\.toml: unknown \[service\] setting 'quite_time'",
         r"did you mean 'quiet_time'\?",
         lambda home: (home / "config.toml").write_text("[service]\nquite_time = 1\n", "utf-8")),
    Case("counter damaged", ("register", RUN, "-e", "churn", "--artifact", "other.bin"),
         errors.CounterDamaged, 20, "the version counter of churn can.t be read: .* it is empty",
         "remove .*churn: the next version is counted at the backend, not from 1",
         _damage_counter),
    Case("journal damaged", ("log",), errors.JournalDamaged, 20, r".*journal\.jsonl.* byte \d+.*",
         ".+", _damage_journal),
    Case("something in staging is no run", ("scan", "--once"), errors.PartialFailure, 3,
         "1 of 2 in the staging folder not stored, or not whole",
         "`modeldrop status` shows each with its reason",
         lambda home: (home / "staging" / "wandb-run").mkdir()),
    Case("a symlink in a run", ("scan", "--once"), errors.PartialFailure, 3,
         "1 of 2 in the staging folder not stored, or not whole",
         "`modeldrop status` shows each with its reason", lambda home: _stage(home, "link.bin")),
    Case("not once", ("scan",), errors.UsageError, 2, ".* needs to be told so", ".*`modeldropd`.*"),
    Case("an option without a value", ("init", "--option", "key"), errors.UsageError, 2,
         "Invalid value for --option: 'key' has no value: write KEY=VALUE",
         "`modeldrop init --help`"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_bad_input_has_its_words_and_its_exit_code(
    case: Case, home: Path, run: Program
) -> None:
    case.before(home)
    told = run(*case.call)
    assert told.code == case.kind.exit_code == case.code, told.err
    first, second = told.err.splitlines()[-2:]
    assert re.fullmatch(f"Error: {case.error}", first)
    assert re.fullmatch(f"Try: {case.hint}", second)
    machine = run(*case.call, "--json")
    assert machine.code == case.code
    said = json.loads(machine.err.splitlines()[-1])["error"]
    assert said["kind"] == case.kind.__name__
    assert (said["exit_code"], f"Error: {said['message']}") == (case.code, first)
    assert f"Try: {said['hint']}" == second


def test_the_cases_are_of_every_exit_code_that_a_store_on_disk_can_give() -> None:
    assert {case.code for case in CASES} == {2, 3, 10, 11, 20}


def test_no_home(run: Program, tmp_path: Path) -> None:
    for call in (["status"], ["runs"], ["register", RUN], ["pull", "churn"], ["run", "new"]):
        told = run(*call)
        assert told.code == errors.HomeNotFound.exit_code == 10
        assert told.err == (
            f"Error: there is no home: no .mlops/ at or above {tmp_path}, "
            f"and no {os.environ['HOME']}/.mlops\n"
            "Try: `modeldrop init` makes one in the working folder\n"
        )


def test_programs_get_the_facts(home: Path, run: Program) -> None:
    told = run("register", RUN, "-e", "churn", "--json")
    assert told.error["detail"] == {"run": RUN, "artifacts": ["model.bin", "other.bin"]}


def test_a_folder_that_is_no_guid_is_named_with_the_reason(home: Path, run: Program) -> None:
    (home / "staging" / "wandb-run").mkdir()
    for call in (("scan", "--once"), ("status",)):
        assert re.search(r"^wandb-run +junk .*GUID", run(*call).out, re.MULTILINE)


def test_a_symlink_parks_its_artifact_and_registering_that_is_refused_by_name(
    home: Path, run: Program
) -> None:
    _stage(home, "link.bin")
    told = run("scan", "--once")
    assert re.search(rf"^{OTHER} +committed ", told.out, re.MULTILINE)
    assert re.search(r"^  link\.bin +refused .*symbolic link", told.out, re.MULTILINE)
    assert re.search(r"^link\.bin +.*symbolic link", run("show", OTHER).out, re.MULTILINE)
    refused = run("register", OTHER, "-e", "churn", "--artifact", "link.bin")
    assert refused.code == errors.ArtifactNotFound.exit_code
    assert "'link.bin' of run" in refused.err
    assert "symbolic link" in refused.err
    assert run("register", OTHER, "-e", "churn", "--artifact", "good.bin").code == 0


def test_waiting_for_a_run_that_can_t_be_stored_ends_and_says_why(home: Path, run: Program) -> None:
    (_stage(home, "link.bin") / "good.bin").unlink()
    told = run("register", OTHER, "-e", "churn", "--wait")
    assert told.code == errors.PartialFailure.exit_code
    assert f"Error: run {OTHER} can't be stored: " in told.err
    assert "symbolic link" in told.err
    assert str(home / "staging" / OTHER) in told.err


def test_waiting_does_not_take_what_the_service_said_before_for_its_answer(
    home: Path, run: Program
) -> None:
    folder = _stage(home, "link.bin")
    (folder / "good.bin").unlink()
    assert run("scan", "--once").code == 3
    (folder / "link.bin").unlink()
    with hold(HomePaths(home).service_lock(), what="the service"):
        told = run("drop", "--run", OTHER, "model.bin", "--wait=0.2")
    assert told.code == errors.NotReady.exit_code
    assert run("register", OTHER, "-e", "churn", "--wait").code == 0


def test_waiting_for_a_run_that_nobody_knows_ends_at_once(home: Path, run: Program) -> None:
    assert run("register", OTHER, "-e", "churn", "--wait").code == 10


# The backend


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "knows-this-secret")


def assert_no_home_was_made(tmp_path: Path) -> None:
    assert not (tmp_path / ".mlops" / "home.json").exists()


def test_init_on_a_backend_that_can_t_be_reached(
    credentials: None, run: Program, tmp_path: Path
) -> None:
    endpoint = "endpoint_url=http://127.0.0.1:9"
    told = run("init", "--backend", "s3://bucket", "--option", endpoint)
    assert told.code == errors.BackendUnreachable.exit_code == 30
    assert "no answer at http://127.0.0.1:9" in told.err
    assert "Try: check the network and the endpoint" in told.err
    assert_no_home_was_made(tmp_path)


def test_init_on_a_bucket_that_is_missing(s3_url: str, run: Program, tmp_path: Path) -> None:
    told = run("init", "--backend", f"{s3_url}-not", "--json")
    assert told.code == errors.BucketNotFound.exit_code == 30
    assert told.error["kind"] == "BucketNotFound"
    assert "make it with the store's own tools" in told.error["hint"]
    assert_no_home_was_made(tmp_path)


def test_init_on_a_backend_that_refuses_the_credentials(
    azurite: AzuriteServer, azure_url: str, run: Program, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    wrong = "c2VjcmV0LXRoYXQtaXMtd3Jvbmc="
    right = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        re.sub(r"AccountKey=[^;]*", f"AccountKey={wrong}", right),
    )
    told = run("init", "--backend", azure_url)
    assert told.code == errors.BackendRefused.exit_code == 30
    assert "refused" in told.err
    assert "AZURE_STORAGE_CONNECTION_STRING" in told.err
    assert wrong not in told.err
    assert_no_home_was_made(tmp_path)


def test_init_on_a_store_whose_create_if_absent_has_several_winners(
    run: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `test_probe` races a real server of this kind, which takes it half a minute.
    honest = probe.race

    def race(backend: Backend, *, single_writer: bool) -> home_records.Probe:
        verdict = honest(backend, single_writer=single_writer)
        return replace(verdict, holds=False, most_winners=3)

    monkeypatch.setattr(probe, "race", race)
    told = run("init")
    assert told.code == errors.ConditionNotHeld.exit_code == 30
    assert "--single-writer" in told.err
    assert_no_home_was_made(tmp_path)
    made = run("init", "--single-writer", "--json")
    assert made.code == 0, made.err
    assert (made.json["create_if_absent_holds"], made.json["single_writer"]) == (False, True)
    assert run("init").lines[-1] == "create if absent  does not hold: single writer"


def test_init_without_the_driver_names_what_to_install(
    run: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.backend.urls.importlib.util.find_spec", lambda _: None)
    told = run("init", "--backend", "gs://bucket")
    assert told.code == errors.DriverMissing.exit_code == 2
    assert told.err.startswith("Error: gs:// needs gcsfs, which isn't installed\n")
    assert "modeldrop[gcs]" in told.err
    assert_no_home_was_made(tmp_path)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("--backend", "s3://ann:hunter22@bucket"), "it holds a user's password"),
        (("--backend", "s3:bucket"), "without slashes"),
        (("--backend", "s3://bucket", "--option", "secret=hunter22"), "'secret' holds a secret"),
        (("--backend", "nosuch://bucket"), "nosuch"),
        (("--backend", "/etc/passwd"), "/etc/passwd is no folder"),
        (("--backend", "/etc/passwd/store"), "/etc/passwd is no folder"),
        (("--backend", "foo://bucket"), "did you mean s3://, az://, gs://, sftp://, file://?"),
        (("--backend", "webdev://host"), "did you mean webdav://, webdavs://?"),
    ],
)
def test_init_refuses_a_url_that_can_t_be_right_and_repeats_no_secret(
    call: tuple[str, ...], error: str, run: Program, tmp_path: Path
) -> None:
    told = run("init", *call)
    assert told.code == errors.ConfigError.exit_code == 2
    assert error in told.err
    assert "hunter22" not in told.err
    assert_no_home_was_made(tmp_path)


def test_a_store_that_is_gone_fails_reading_and_nothing_else(
    run: Program, moto: MotoServer, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("init", "--backend", s3_url).code == 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    from s3fs import S3FileSystem  # noqa: PLC0415 - half a second, for this test alone

    S3FileSystem.clear_instance_cache()
    told = run("runs")
    assert (told.code, told.out) == (30, "")
    # Dropping, and asking how it stands, needs no backend.
    (tmp_path / "model.bin").write_bytes(b"weights")
    guid = run("drop", "model.bin").out.strip()
    assert run("status", "-q").out == f"{guid}\n"


def test_a_bug_is_told_in_a_line_that_can_be_read(
    home: Path, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("x" * 100_000)

    monkeypatch.setattr("modeldrop.finding.Finding.experiments", fail)
    told = run("list")
    assert told.code == 1
    assert "this is a bug in modeldrop: RuntimeError: xxx" in told.err
    assert len(told.err) < 1000


def test_hints_name_commands_that_there_are() -> None:
    roots = (Path(errors.__file__).parent, Path(str(__import__("modeldrop_cli").__file__)).parent)
    named = {
        found
        for root in roots
        for path in root.rglob("*.py")
        for found in re.findall(r"`modeldrop ([a-z]+)", path.read_text("utf-8"))
    }
    assert named <= set(COMMANDS)
