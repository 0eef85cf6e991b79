"""Secrets in what is written: by their values, in each form, and by what they look like."""

from __future__ import annotations

import base64
import logging
import os
import pty
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest

from modeldrop import redaction
from modeldrop.errors import BackendError
from modeldrop_cli import verbose
from modeldrop_daemon import logs
from support.canaries import Canary, Watch


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Canary:
    made = Canary("secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(made))
    return made


def forms(canary: Canary) -> list[str]:
    value = str(canary)
    return [
        value,
        quote(value),
        quote(value, safe=""),
        base64.b64encode(value.encode()).decode(),
        repr({"it": value}),
    ]


def test_a_canary_is_seen_in_every_form_and_nothing_else_is(canary: Canary) -> None:
    for text in [*forms(canary), base64.b64encode(f"user:{canary}".encode()).decode()]:
        with pytest.raises(AssertionError, match="log shows secret"):
            Watch([canary]).check("log", f"before {text} after")
    Watch([canary]).check("log", "wJa/bPxRfiCYz nothing of it")


def test_a_known_secret_is_hidden_in_every_form(canary: Canary) -> None:
    for text in forms(canary):
        shown = redaction.hide(f"before {text} after")
        Watch([canary]).check(text, shown)
        assert shown.startswith("before ")
        assert shown.endswith(" after")


def test_a_secret_that_a_client_found_elsewhere_is_hidden_once_it_is_told() -> None:
    found = Canary("of a profile")
    assert redaction.hide(f"it is {found}") == f"it is {found}"
    redaction.remember(str(found), None, "", "short")
    assert redaction.hide(f"it is {found}, in short") == "it is [hidden], in short"


def test_parts_of_a_connection_string_and_a_signature_are_hidden_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key, signature = Canary("key"), Canary("signature")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=acc;AccountKey={key};X=1")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?sv=2024&sig={quote(str(signature), safe='')}")
    shown = redaction.hide(f"acc: {key} and {signature} and {quote(str(signature), safe='')}")
    assert shown == "acc: [hidden] and [hidden] and [hidden]"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", "minioadmin"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("AWS_PROFILE", "production"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/key.json"),
        ("TOKENIZERS_PARALLELISM", "weights"),
    ],
)
def test_what_is_no_secret_is_not_hidden(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert redaction.hide(f"it says {value}") == f"it says {value}"


def test_a_path_in_an_error_of_ours_stays_readable() -> None:
    path = "/home/Ada/projects/models/checkpoints/experiments/weights"
    assert path in redaction.told(BackendError(f"can't read {path}"))
    assert path in redaction.told(FileNotFoundError(2, "No such file", path))


def fail(text: str) -> None:
    raise RuntimeError(f"while {text}\nand {text}") from OSError(5, text)


def raised(text: str) -> BaseException:
    with pytest.raises(RuntimeError) as caught:
        fail(text)
    return caught.value


def test_a_trace_shows_where_it_came_from_and_no_secret(canary: Canary) -> None:
    unknown = Canary("unknown to us")
    text = f"GET https://b/k?X-Amz-Signature={unknown}: {unknown}: {canary}"
    error = raised(text)
    with pytest.raises(AssertionError):
        Watch([unknown]).check("Python's own", "".join(traceback.format_exception(error)))

    lines = redaction.trace(error)

    Watch([canary, unknown]).check("trace", "\n".join(lines))
    assert any(Path(__file__).name in line and "in fail" in line for line in lines)
    assert any(line.startswith("RuntimeError: while GET https://b/k?[hidden]") for line in lines)


def log_all(canary: Canary) -> None:
    ours = logging.getLogger("modeldrop_daemon")
    ours.debug("a step with %s", canary)
    ours.error("failed with %s", canary, exc_info=raised(str(canary)), extra={"run": str(canary)})
    for name in ("botocore.auth", "azure.core.pipeline.policies.http_logging_policy", "asyncio"):
        logging.getLogger(name).error("Authorization: %s", canary)


@pytest.mark.parametrize("form", ["programs", "journal", "people"])
def test_the_service_logs_no_secret_in_any_form(form: str, canary: Canary, tmp_path: Path) -> None:
    if form == "people":
        screen, terminal = pty.openpty()
        with os.fdopen(terminal, "w") as stream:
            logs.set_up(stream, {}, verbose=True)
            log_all(canary)
            stream.flush()
            said = os.read(screen, 65536).decode()
        os.close(screen)
    else:
        with (tmp_path / "log").open("w+") as stream:
            found = os.fstat(stream.fileno())
            journal = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
            logs.set_up(stream, journal if form == "journal" else {}, verbose=True)
            log_all(canary)
            stream.seek(0)
            said = stream.read()
    assert "RuntimeError" in said
    assert "a step with" in said
    Watch([canary]).check(form, said)


def test_the_program_logs_no_secret(canary: Canary, capsys: pytest.CaptureFixture[str]) -> None:
    verbose.set_up(2)
    logging.getLogger("modeldrop").error("with %s", canary, exc_info=raised(str(canary)))
    said = capsys.readouterr().err
    assert "RuntimeError" in said
    Watch([canary]).check("stderr", said)


def test_an_error_in_a_destructor_is_told_by_the_services_log(
    canary: Canary, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w+") as stream:
        logs.set_up(stream, {}, verbose=True)

        class Failing:
            def __del__(self) -> None:
                raise ValueError(f"GET https://b/k?sig={canary}")

        Failing()
        stream.seek(0)
        said = stream.read()
    assert "an object ended with an error" in said
    Watch([canary]).check("log", said)
