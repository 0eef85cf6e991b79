"""The program as a whole: its help, what it imports, its streams, its ends."""

import logging
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from modeldrop import __version__, errors
from modeldrop_cli import verbose
from modeldrop_cli.command import EXITS, Command
from modeldrop_cli.main import COMMANDS, SECTIONS, cli, main
from support import reference
from support.program import Program, as_process, command, environment, in_process
from support.waiting import comes_true

EVERY = dict(reference.commands())
LEAVES = {name: each for name, each in EVERY.items() if not isinstance(each, click.Group)}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def home(run: Program, tmp_path: Path) -> Path:
    assert run("init").code == 0
    return tmp_path / ".mlops"


def modules_imported_by(*arguments: str) -> set[str]:
    told = as_process(*arguments, options=("-X", "importtime"))
    assert told.code == 0, told.err
    return {
        line.rpartition("|")[2].strip()
        for line in told.err.splitlines()
        if line.startswith("import time:")
    }


def foreign(modules: set[str], names: set[str]) -> set[str]:
    return {each for each in modules if each.partition(".")[0] in names}


# What it costs


def test_help_imports_nothing_but_click_and_the_table() -> None:
    modules = modules_imported_by("--help")
    ours = {each for each in modules if each.startswith("modeldrop")}
    # `-m` imports the package first; the entry point imports `main` alone.
    assert ours <= {"modeldrop_cli", "modeldrop_cli.main"}
    assert not foreign(modules, {"rich", "fsspec", "tinydb", "s3fs", "adlfs", "logging"})


def test_a_cold_register_imports_no_client_no_table_and_no_history(
    home: Path, run: Program, tmp_path: Path
) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    guid = run("drop", "--wait", "model.bin", "-e", "churn").out.strip()
    modules = modules_imported_by("register", guid)
    assert "modeldrop.versions" in modules
    assert not foreign(modules, {"rich", "fsspec", "tinydb", "s3fs", "adlfs", "asyncio"})
    assert not modules & {"modeldrop.verify", "modeldrop.cache", "modeldrop_cli.objects"}


_AS_THE_PROGRAM = """
import atexit, gc, importlib.metadata, sys

atexit.register(lambda: print(gc.get_threshold()[0], gc.get_freeze_count() > 0))
sys.argv = ["modeldrop", "list"]
(program,) = importlib.metadata.entry_points(group="console_scripts", name="modeldrop")
sys.exit(program.load()())
"""


def test_the_program_does_not_look_for_circles_of_what_it_loads(home: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _AS_THE_PROGRAM],
        env=environment(MODELDROP_HOME=str(home)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1] == "50000 True"


# The help


def test_table_says_of_each_command_what_its_own_help_says() -> None:
    assert {name: EVERY[name].get_short_help_str(200) for name in COMMANDS} == COMMANDS


def test_help_is_ordered_by_what_a_person_wants_to_do(run: Program) -> None:
    said = run("--help").out
    places = [said.index(f"\n{section}:\n") for section in SECTIONS]
    assert places == sorted(places)
    for name, text in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", said, re.MULTILINE)


@pytest.mark.parametrize("name", LEAVES)
def test_help_of_each_command_ends_with_examples_and_exit_codes(name: str, run: Program) -> None:
    said = run(*name.split(), "--help").out
    examples, _, codes = said.partition("\nExamples:\n")[2].partition("\nExit codes:\n")
    assert f"$ modeldrop {name}" in examples or f"(modeldrop {name}" in examples
    assert re.fullmatch(r"(  \d+ +\S.*\n|    .*\n)+", codes)


def test_exit_codes_in_help_are_those_that_errors_have() -> None:
    known = {0, *(each.exit_code for each in _subclasses(errors.ModeldropError))}
    assert set(EXITS) == known
    for name, each in LEAVES.items():
        assert isinstance(each, Command), name
        assert set(each.exits) <= known, name


def _subclasses(cls: type[errors.ModeldropError]) -> set[type[errors.ModeldropError]]:
    return {cls, *(below for each in cls.__subclasses__() for below in _subclasses(each))}


@pytest.mark.parametrize("name", [name for name in LEAVES if name != "completion"])
def test_each_command_has_json_and_quiet(name: str) -> None:
    options = {option for each in LEAVES[name].params for option in each.opts}
    assert {"--json", "-q", "--quiet"} <= options


def test_version_is_the_library_s(run: Program) -> None:
    assert run("--version").out == f"modeldrop {__version__}\n"


def test_without_a_command_the_help_goes_to_stderr_and_it_fails(run: Program) -> None:
    told = run()
    assert (told.code, told.out) == (2, "")
    assert "Usage: modeldrop" in told.err


# How it fails


def test_wrong_calls_say_what_and_what_to_try(run: Program) -> None:
    for arguments, error, hint in (
        (["lst"], "No such command 'lst'. Did you mean 'list'?", "`modeldrop --help`"),
        (["show"], "Missing argument 'REF'.", "`modeldrop show --help`"),
        (["run", "nwe"], "No such command 'nwe'.", "`modeldrop run --help`"),
        (["list", "--jsn"], "No such option '--jsn'.", "`modeldrop list --help`"),
        (["status", "--home", "x"], "No such option '--home'.", "goes before the command"),
        (["drop", "--wait=soon", "x"], "'soon' is not a valid float", "`modeldrop drop --help`"),
    ):
        told = run(*arguments)
        assert (told.code, told.out) == (2, "")
        first, second = told.err.splitlines()
        assert first.startswith("Error: ")
        assert error in first
        assert second.startswith("Try: ")
        assert hint in second


def test_a_wrong_call_with_json_is_told_as_json(run: Program) -> None:
    told = run("show", "--json")
    assert (told.code, told.out) == (2, "")
    assert told.error == {
        "kind": "UsageError",
        "message": "Missing argument 'REF'.",
        "hint": "`modeldrop show --help`",
        "exit_code": 2,
        "detail": {},
    }


def test_a_bug_is_called_one_and_shows_its_traceback_only_when_asked(
    run: Program, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        message = "a\nsurprise"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("modeldrop.finding.Finding.experiments", broken)
    told = run("list")
    assert told.code == 1
    assert told.err.startswith("Error: this is a bug in modeldrop: ZeroDivisionError: a surprise\n")
    assert "Traceback" not in told.err
    assert "Traceback" in run("--debug", "list").err
    monkeypatch.setenv("MODELDROP_DEBUG", "1")
    assert "Traceback" in run("list").err


def test_what_the_system_refuses_is_no_bug(run: Program, home: Path, tmp_path: Path) -> None:
    staging = home / "staging"
    staging.rmdir()
    staging.write_bytes(b"")
    told = run("run", "new")
    assert told.code == 1
    assert str(staging) in told.err
    assert "a bug" not in told.err


def test_interrupted_exits_130(run: Program, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("modeldrop.finding.Finding.experiments", interrupted)
    told = run("list")
    assert (told.code, told.out) == (130, "")
    assert told.err.startswith("Error: interrupted\n")


def test_a_reader_that_goes_ends_it_quietly(home: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            command("log"), env=environment(), stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
@pytest.mark.parametrize("arguments", [["log"], ["--help"], ["show", "--help"]])
def test_output_that_cannot_be_written_is_an_error(home: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(*arguments), env=environment(), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: No space left on device")


# Home


def test_home_option_and_environment_name_the_home(
    run: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert run("--home", one, "init", "-q").out == f"{one}\n"
    monkeypatch.setenv("MODELDROP_HOME", str(other))
    assert run("init", "-q").out == f"{other}\n"
    assert run("status", "--json").json["home"] == str(other)
    assert run("--home", one, "status", "--json").json["home"] == str(one)


def test_verbose_tells_on_stderr_what_is_done(home: Path, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    told = as_process("-v", "drop", "--wait", "model.bin")
    assert "INFO modeldrop.intake" in told.err
    assert len(told.lines) == 1


def test_verbose_lets_no_library_of_a_store_speak(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # botocore writes whole requests to its logger, signatures and session tokens included.
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-in-a-coal-mine")
    (tmp_path / "model.bin").write_bytes(b"weights")

    for arguments in (["init", "--backend", s3_url], ["drop", "--wait", "model.bin"], ["runs"]):
        told = as_process("-vv", *arguments)
        assert told.code == 0, told.err
        assert "canary" not in told.err
        assert "botocore" not in told.err
        if "drop" in arguments:
            assert "DEBUG modeldrop.intake" in told.err


def test_verbose_writes_lines_that_drive_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise ValueError("\x1b[31m")

    verbose.set_up(1)
    try:
        fail()
    except ValueError:
        logging.getLogger("modeldrop.test").exception("\x1b]0;owned\x07")
    logging.getLogger("modeldrop.test").debug("step")

    said = capsys.readouterr().err
    assert r"ERROR modeldrop.test: \x1b]0;owned\x07" in said
    assert r"ValueError: \x1b[31m" in said
    assert "\x1b" not in said
    assert "step" not in said


# A terminal


def on_a_terminal(*arguments: str, **env: str) -> str:
    """Return what the program writes to a terminal of 120 columns."""
    leading, following = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        env=environment(TERM="xterm-256color", COLUMNS="120", **env),
        stdin=subprocess.DEVNULL,
        stdout=following,
        stderr=following,
    )
    os.close(following)
    said = b""
    # The other end closes when the process ends, which Linux tells as an error.
    while True:
        try:
            chunk = os.read(leading, 4096)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
    os.close(leading)
    process.wait()
    return said.decode("utf-8")


def test_a_terminal_gets_a_table_and_colours_unless_refused(
    home: Path, run: Program, tmp_path: Path
) -> None:
    (tmp_path / "[bold]m.bin").write_bytes(b"weights")
    guid = run("drop", "--wait", "[bold]m.bin", "-e", "churn").out.strip()
    run("register", guid)
    coloured = on_a_terminal("list")
    assert "\x1b[" in coloured
    assert "─" in coloured
    assert "churn/1" in coloured
    plain = on_a_terminal("list", NO_COLOR="1")
    assert "\x1b[3" not in plain
    # What is in a name is never markup.
    assert "[bold]m.bin" in plain


def test_a_terminal_gets_progress_on_stderr_where_it_takes_a_while(
    home: Path, run: Program, tmp_path: Path
) -> None:
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(20 << 20)
    guid = run("drop", "--wait", "large.bin").out.strip()
    said = on_a_terminal("pull", guid, "-o", "out")
    assert "20.0/20.0 MiB" in said
    assert said.splitlines()[-1].endswith("out/large.bin")
    assert (tmp_path / "out" / "large.bin").stat().st_size == 20 << 20
    assert "MiB" not in on_a_terminal("pull", guid, "-o", "other", "-q")
    assert "MiB" not in as_process("pull", guid, "-o", "third").err
    assert "files: 1" in on_a_terminal("verify", "--deep")


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_the_program(shell: str, run: Program) -> None:
    told = run("completion", shell)
    assert told.code == 0
    assert f"_MODELDROP_COMPLETE={shell}_complete" in told.out


def test_completion_tells_a_person_where_to_put_it(tmp_path: Path) -> None:
    assert "To use it from now on" in on_a_terminal("completion", "bash")
    assert as_process("completion", "bash").err == ""


def complete(words: str, **more: str) -> list[str]:
    """Return what bash would be offered for the last word."""
    told = as_process(
        env={
            "_MODELDROP_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
            **more,
        }
    )
    assert (told.code, told.err) == (0, "")
    return [line.partition(",")[2] for line in told.lines if line]


def test_completes_commands_options_experiments_and_runs(
    home: Path, run: Program, tmp_path: Path
) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    guid = run("drop", "--wait", "model.bin", "-e", "churn").out.strip()
    run("register", guid)
    assert complete("modeldrop re") == ["retry", "register", "retire", "rebuild"]
    assert "--home" in complete("modeldrop --")
    assert "--artifact" in complete("modeldrop register --")
    assert complete("modeldrop list ch") == ["churn"]
    assert complete("modeldrop pull ch") == ["churn"]
    assert complete(f"modeldrop show {guid[:5]}") == [guid]
    assert complete("modeldrop register ") == [guid]
    run("promote", "churn", "champion")
    assert complete("modeldrop pull ch") == ["churn", "churn@champion"]
    assert complete("modeldrop alias rm ch") == ["churn@champion"]
    assert complete("modeldrop promote churn/1 ch") == ["champion"]
    assert complete("modeldrop list ch") == ["churn"]


def test_completing_without_a_home_or_with_a_broken_one_offers_nothing(tmp_path: Path) -> None:
    assert complete("modeldrop list ") == complete("modeldrop register ") == []
    broken = tmp_path / ".mlops"
    broken.mkdir()
    (broken / "home.json").write_bytes(b"\xff")
    assert complete("modeldrop list ") == []


def test_each_command_runs_from_its_entry_point(run: Program) -> None:
    for name in LEAVES:
        assert run(*name.split(), "-h").code == 0


def test_main_reads_the_program_s_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["modeldrop", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("modeldrop ")
    assert cli.name == "modeldrop"


def test_wait_stops_at_control_c(home: Path, tmp_path: Path) -> None:
    folder = home / "staging" / "3f2b8c1e-0000-4000-8000-000000000000"
    folder.mkdir()
    (folder / "model.part").write_bytes(b"half")
    process = subprocess.Popen(
        command("register", folder.name, "-e", "churn", "--wait"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert comes_true((home / "service" / "status.json").exists)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("Error: interrupted\n")
