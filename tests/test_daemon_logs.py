"""What the service says, to whom, and what its errors become."""

import io
import json
import logging
import os
import pty
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modeldrop.gc import ARTIFACT, MARK, STORE, UPLOAD, Collected
from modeldrop_daemon import logs
from modeldrop_daemon.collector import tell
from modeldrop_daemon.main import main
from support.service import Home

OURS = logging.getLogger("modeldrop.intake.test")


def said(environ: dict[str, str] | None = None, *, verbose: bool = False) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(stream, environ or {}, verbose=verbose)
    return stream


def test_programs_get_one_json_object_a_line() -> None:
    stream = said()

    OURS.warning("run %s is blocked: %s", "x", "line\nfeed \x1b]0;title\x07")

    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", found.pop("at"))
    assert found == {
        "level": "warning",
        "logger": "modeldrop.intake.test",
        "message": r"run x is blocked: line\nfeed \x1b]0;title\x07",
    }


def test_what_a_message_is_about_are_fields_for_programs() -> None:
    stream = said()

    about = {"run": "x\x1b[2J", "revision": 2, "bytes": 10, "seconds": 0.25, "other": "not told"}
    OURS.info("committed", extra=about)

    found = json.loads(stream.getvalue())
    assert found["run"] == r"x\x1b[2J"
    assert (found["revision"], found["bytes"], found["seconds"]) == (2, 10, 0.25)
    assert found.keys() == {
        "at",
        "level",
        "logger",
        "message",
        "run",
        "revision",
        "bytes",
        "seconds",
    }


def test_fields_are_documented() -> None:
    page = (Path(__file__).parents[1] / "docs/operations.md").read_text()

    documented = re.findall(r"^\| `(\w+)` \| ", page.partition("## Read the logs")[2], re.MULTILINE)

    assert documented[: len(logs.FIELDS)] == list(logs.FIELDS)


def test_quiet_service_logs_nothing_at_info(tmp_path: Path) -> None:
    home = Home(tmp_path, poll_interval=0.05)
    try:
        service = home.start_ready("--watcher", "none")
        # It is looked at again and again until it has been quiet for long enough.
        run = home.drop(b"model")
        assert home.is_committed(run)
        assert service.stop() == 0

        lines = [json.loads(line) for line in service.log.splitlines()]
    finally:
        home.close()
    told = [each for each in lines if each["level"] != "debug"]
    (committed,) = (each for each in told if each.get("run") == run)
    assert committed["message"] == f"committed run:{run}~1"
    assert committed["bytes"] == len(b"model")
    assert committed["seconds"] >= 0
    # Up, the run, and the end: no line for a look.
    assert len(told) == 4


def test_journald_gets_a_level_before_each_line(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        logs.set_up(stream, {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, verbose=True)

        OURS.debug("step")
        OURS.info("committed")
        OURS.error("failed", exc_info=ValueError("line\nfeed"))

        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines == [
        "<7>step",
        "<6>committed",
        "<3>failed",
        "<3>ValueError: line",
        "<3>feed",
    ]


def test_journal_of_somebody_elses_is_not_ours() -> None:
    # What is inherited from a service's environment says nothing about this stream.
    stream = said({"JOURNAL_STREAM": "8:1"})

    OURS.info("committed")

    assert stream.getvalue().startswith("{")


def test_people_on_a_terminal_get_plain_lines() -> None:
    main_end, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stream, os.fdopen(main_end, "rb", buffering=0) as screen:
        logs.set_up(stream, {}, verbose=False)

        OURS.info("committed run:x~1")
        OURS.warning("name \x1b[2J")
        OURS.debug("step")
        stream.flush()

        shown = [screen.readline().decode().rstrip() for _ in range(2)]
    assert re.fullmatch(r"\d\d:\d\d:\d\d committed run:x~1", shown[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning: name \\x1b\[2J", shown[1])


def test_other_loggers_are_not_heard(capsys: pytest.CaptureFixture[str]) -> None:
    stream = said(verbose=True)

    # It writes what signs its requests.
    logging.getLogger("botocore.auth").warning("Authorization: secret")

    assert stream.getvalue() == ""
    assert "secret" not in capsys.readouterr().err


def test_thread_that_ends_with_an_error_says_so() -> None:
    stream = said()

    def fail() -> None:
        raise ValueError("of this thread")

    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()

    found = json.loads(stream.getvalue())
    assert found["message"] == "the thread worker ended"
    assert "ValueError: of this thread" in found["trace"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--nonsense"], 2, "No such option"),
        (["--watcher", "maybe"], 2, "maybe"),
        (["extra"], 2, "unexpected extra argument"),
        (["--home", "nowhere"], 10, "is no home"),
        ([], 10, "there is no home"),
    ],
)
def test_wrong_call_is_told_with_what_to_do(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code

    err = capsys.readouterr().err
    assert err.startswith("Error: ")
    assert message in err
    assert "\nTry: " in err


def test_damaged_settings_keep_the_service_from_starting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path, quite_time=5)

    assert main(["--home", str(home.root)]) == 2

    assert "did you mean 'quiet_time'" in capsys.readouterr().err


def test_bug_is_told_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeldrop.repository import Repository  # noqa: PLC0415 - see above

    def fail(home: Path | None) -> None:
        raise ZeroDivisionError("line\nfeed \x1b[2J")

    monkeypatch.setattr(Repository, "open", fail)

    assert main([]) == 1

    err = capsys.readouterr().err
    assert "this is a bug in modeldrop: ZeroDivisionError: line feed \\x1b[2J" in err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_need_no_home(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([option]) == 0

    assert "modeldropd" in capsys.readouterr().out


def test_what_is_collected_marked_or_stays_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "modeldrop_daemon")
    at = datetime.now(UTC)

    tell(
        [
            Collected(UPLOAD, "s3://b/upload", at, None),
            Collected(MARK, "run:a~1/model", at, 5),
            Collected(ARTIFACT, "run:b~1/model", at, 5),
            Collected(STORE, "s3://b", at, None, "a version is missing"),
        ]
    )

    assert [each.getMessage() for each in caplog.records] == [
        "collected the unfinished upload s3://b/upload",
        "marked, to be collected: run:a~1/model",
        "collected run:b~1/model",
        "s3://b stays: a version is missing",
    ]
