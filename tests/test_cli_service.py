"""What a person asks of the service and sees of it: retry, ignore, status, and status live."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from modeldrop_cli.objects.dropping import AskedObject, RunStatusObject, StatusObject
from modeldrop_cli.output import duration
from support import reference
from support.program import Program, as_process, command, environment, in_process
from support.service import Home, Service
from support.waiting import comes_true

# A digest that the bytes don't have: such a run is parked as it is.
WRONG = f"{'0' * 64}  model.bin\n"
NOBODY = "3f2b8c1e-0000-4000-8000-000000000000"

# A service that sends so little at a time that a transfer can be watched.
SLOW_TRANSFER = {"bandwidth": 200_000}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    try:
        yield home
    finally:
        home.close()


@pytest.fixture
def service(home: Home) -> Service:
    return home.start_ready()


def drop_parked(home: Home) -> str:
    """Drop a run that can't be stored as it is; return its GUID."""
    run = str(uuid.uuid4())
    aside = home.folder / run
    aside.mkdir()
    (aside / "model.bin").write_bytes(b"weights")
    (aside / "_SUCCESS").write_text(WRONG)
    aside.rename(home.staging / run)
    return run


def comes_to_be(run: Program, guid: str, state: str) -> bool:
    """Say whether `status` comes to show a run in a state."""

    def shown() -> bool:
        runs = run("status", "--json").json["runs"]
        return any((each["run"], each["state"]) == (guid, state) for each in runs)

    return comes_true(shown)


def documented(value: object, kind: type) -> bool:
    """Say whether printed JSON is what docs/json.md says, showing the differences if not."""
    assert reference.differences(value, kind) == []
    return True


# retry, ignore


def test_a_retry_has_the_service_try_a_parked_run_again_as_it_is(
    run: Program, home: Home, service: Service
) -> None:
    guid = drop_parked(home)
    assert comes_to_be(run, guid, "parked")
    parked_at = run("status", "--json").json["runs"][0]["since"]
    told = run("retry", guid)
    assert (told.code, told.out) == (0, f"{guid}\n")
    assert "The service does it within a second" in told.err
    assert "nothing holds it up" not in told.err

    def is_parked_anew() -> bool:
        (shown,) = run("status", "--json").json["runs"]
        return bool(shown["state"] == "parked" and shown["since"] > parked_at)

    assert comes_true(is_parked_anew)


def test_a_retry_ends_the_wait_for_a_backend_that_is_back(run: Program, home: Home) -> None:
    home.configure(retry_first=600.0, retry_most=600.0)
    home.start_ready()
    store = home.root / "model-repository"
    store.rename(home.folder / "unmounted")
    guid = home.drop_whole(b"weights")
    assert comes_to_be(run, guid, "blocked")
    (home.folder / "unmounted").rename(store)
    assert run("retry", guid[:8]).code == 0
    assert home.is_committed(guid)


def test_an_ignored_run_is_left_alone_until_a_retry(
    run: Program, home: Home, service: Service
) -> None:
    guid = drop_parked(home)
    assert comes_to_be(run, guid, "parked")
    told = run("ignore", guid, "--json")
    assert documented(told.json, AskedObject)
    assert told.json["action"] == "ignore"
    assert told.json["running"] is True
    assert [(each["run"], each["state"]) for each in told.json["runs"]] == [(guid, "parked")]
    assert comes_to_be(run, guid, "ignored")
    (home.staging / guid / "_SUCCESS").unlink()
    (home.staging / guid / "more.bin").write_bytes(b"more")
    other = home.drop_whole(b"other")
    assert home.is_committed(other)
    assert home.revisions(guid) == 0
    assert run("retry", home.staging / guid).code == 0
    assert home.is_committed(guid)


def test_retry_all_is_about_those_that_are_stuck(
    run: Program, home: Home, service: Service
) -> None:
    assert run("retry", "--all").err == "No run is blocked, parked or ignored.\n"
    stored = home.drop_whole(b"weights")
    parked, ignored = drop_parked(home), drop_parked(home)
    assert home.is_committed(stored)
    assert run("ignore", ignored, "-q").out == f"{ignored}\n"
    assert comes_to_be(run, parked, "parked")
    assert comes_to_be(run, ignored, "ignored")
    told = run("retry", "--all", "-q")
    assert (told.code, told.err) == (0, "")
    assert told.lines == sorted([parked, ignored])
    assert comes_to_be(run, ignored, "parked")


def test_without_a_service_the_next_scan_does_what_was_asked(run: Program, home: Home) -> None:
    guid = home.drop_whole(b"weights")
    told = run("ignore", guid)
    assert (told.code, told.out) == (0, f"{guid}\n")
    assert "`modeldropd`, or `modeldrop scan --once`" in told.err
    assert run("ignore", guid, "--json").json["running"] is False
    assert run("scan", "--once").code == 0
    assert home.revisions(guid) == 0
    assert run("retry", "--all", "-q").out == f"{guid}\n"
    assert run("scan", "--once").code == 0
    assert home.revisions(guid) == 1


def test_what_is_parked_or_ignored_is_found_without_a_status_file(run: Program, home: Home) -> None:
    guids = sorted([drop_parked(home), home.drop_whole(b"weights")])
    run("ignore", *guids)
    run("scan", "--once")
    home.status.unlink()
    assert run("retry", "--all", "-q").lines == guids


def test_a_retry_of_a_run_that_nothing_holds_up_says_so_and_does_no_harm(
    run: Program, home: Home, service: Service
) -> None:
    guid = home.drop_whole(b"weights")
    assert home.is_committed(guid)
    told = run("retry", guid, f"run:{guid}")
    assert (told.code, told.out) == (0, f"{guid}\n")
    assert "nothing holds it up" in told.err
    requests = home.root / "service/requests"
    assert comes_true(lambda: not list(requests.iterdir()))
    later = home.drop_whole(b"later")
    assert home.is_committed(later)
    assert (home.revisions(guid), home.uploads(guid)) == (1, 1)


@pytest.mark.parametrize("name", ["retry", "ignore"])
def test_a_run_that_isnt_in_staging_is_not_found_and_nothing_is_asked(
    run: Program, home: Home, name: str
) -> None:
    guid = home.drop_whole(b"weights")
    told = run(name, guid, NOBODY)
    assert (told.code, told.out) == (10, "")
    assert f"run {NOBODY} isn't in {home.staging}" in told.err
    assert "Try: `modeldrop status`" in told.err
    assert not (home.root / "service/requests").exists()


def test_a_beginning_that_two_runs_have_names_both(run: Program, home: Home) -> None:
    twins = [NOBODY, f"{NOBODY[:-1]}1"]
    for each in twins:
        (home.staging / each).mkdir()
    told = run("retry", NOBODY[:6], "--json")
    assert (told.code, told.error["hint"]) == (10, "give more digits")
    assert told.error["detail"]["runs"] == twins
    assert run("retry", twins[1][:36], "-q").out == f"{twins[1]}\n"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("retry",), "name the runs, or say --all"),
        (("retry", NOBODY, "--all"), "--all goes without named runs"),
        (("retry", "nonsense"), "'nonsense' names no run"),
        (("ignore", f"{NOBODY}~2"), "a run is asked for whole"),
        (("ignore", f"{NOBODY}/model.bin"), "a run is asked for whole"),
        (("ignore",), "Missing argument"),
        (("status", "--interval", "2"), "--interval is for --watch"),
        (("status", "--watch", "--json", "--interval", "0"), "can't be kept"),
        (("status", "--watch", "--json", "--interval", "nan"), "can't be kept"),
        (("status", "--watch", "-q"), "--watch goes without -q"),
        (("status", "--watch"), "--watch needs a terminal, or --json"),
    ],
)
def test_a_call_that_cant_be_meant_is_told_so(
    run: Program, home: Home, call: tuple[str, ...], said: str
) -> None:
    told = run(*call)
    assert (told.code, told.out) == (2, "")
    assert said in told.err
    assert "Try: " in told.err or told.error["hint"]


# status


def test_status_says_why_the_backend_is_waited_for_and_when_it_is_tried(
    run: Program, home: Home
) -> None:
    home.configure(retry_first=600.0, retry_most=600.0)
    home.start_ready()
    (home.root / "model-repository").rename(home.folder / "unmounted")
    guid = home.drop_whole(b"weights")
    assert comes_to_be(run, guid, "blocked")
    whole = run("status", "--json").json
    assert documented(whole, StatusObject)
    service = whole["service"]
    assert service["backend"]
    assert service["backend_since"] < service["backend_next_try_at"]
    assert whole["counts"]["blocked"] == 1
    told = run("status")
    assert re.search(
        r"^trouble  waits for the backend since .*; next try 2", told.out, re.MULTILINE
    )
    assert re.search(rf"^{guid} +blocked .*; next try 2", told.out, re.MULTILINE)
    assert "states   1 blocked" in told.lines
    assert told.err == ""


def test_status_counts_the_runs_of_each_state(run: Program, home: Home, service: Service) -> None:
    stored, parked = home.drop_whole(b"weights"), drop_parked(home)
    assert home.is_committed(stored)
    assert comes_to_be(run, parked, "parked")
    assert comes_true(lambda: run("status", "--json").json["committed"] == 1)
    assert run("status", "--json").json["counts"] == {"committed": 1, "parked": 1}
    assert {"stored   1 of 2 runs", "states   1 committed, 1 parked"} <= set(run("status").lines)
    assert service.stop() == 0
    assert run("status", "--json").json["counts"] == {"committed": 1, "parked": 1}


def test_status_shows_the_rate_of_a_transfer_and_what_is_left(run: Program, home: Home) -> None:
    home.configure(**SLOW_TRANSFER)
    home.start_ready()
    guid = home.drop_whole(bytes(20_000_000))

    def moving() -> dict[str, Any] | None:
        runs = run("status", "--json").json["runs"]
        return next((each for each in runs if each["rate"] and each["sent"]), None)

    assert comes_true(lambda: moving() is not None)
    shown = moving()
    assert shown is not None
    assert documented(shown, RunStatusObject)
    left = (shown["size"] - shown["sent"]) / shown["rate"]
    assert (shown["state"], shown["size"]) == ("uploading", 20_000_000)
    assert 0 <= shown["seconds_left"] - left <= 1
    assert re.search(
        rf"^{guid} +uploading .* [\d.]+ [KM]iB of 19\.1 MiB; [\d.]+ KiB/s, .* left$",
        run("status").out,
        re.MULTILINE,
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 0 min"), (11_100, "3 h 5 min")],
)
def test_a_duration_is_said_as_people_count(seconds: int, said: str) -> None:
    assert duration(seconds) == said


# status --watch


class Watching:
    """`status --watch` as a process, and what it wrote so far."""

    def __init__(self, *arguments: str, terminal: bool = False, **env: str) -> None:
        """Start it, on a pipe or a terminal."""
        reading, writing = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.process = subprocess.Popen(
            command("status", "--watch", "--interval", "0.05", *arguments),
            env=environment(**{"TERM": "xterm-256color", **env}),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(writing)
        self._reading = reading
        self.said = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        # A terminal whose other end is closed is an error on Linux.
        with contextlib.suppress(OSError):
            while chunk := os.read(self._reading, 65536):
                self.said += chunk

    def shows(self, text: str) -> bool:
        """Say whether it comes to show this."""
        return comes_true(lambda: text in self.said.decode("utf-8", "replace"))

    @property
    def objects(self) -> list[Any]:
        """The JSON objects of the lines that are whole."""
        return [json.loads(line) for line in self.said.split(b"\n")[:-1]]

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Send it a signal; return its exit code and what it said on stderr."""
        self.process.send_signal(number)
        return self.close()

    def close(self) -> tuple[int, str]:
        """Wait until it has ended; return its exit code and what it said on stderr."""
        said = self.process.communicate(timeout=20)[1]
        self._thread.join()
        os.close(self._reading)
        return self.process.returncode, said


def test_watching_on_a_pipe_prints_an_object_at_each_change(home: Home) -> None:
    watching = Watching("--json")
    try:
        assert comes_true(lambda: len(watching.objects) == 1)
        assert not watching.objects[0]["service"]["running"]
        service = home.start_ready()
        guid = home.drop_whole(b"weights")
        assert comes_true(lambda: watching.objects[-1]["committed"] == 1)
        service.signal(signal.SIGKILL)
        service.wait()
        # A service that was killed says nothing more, and is gone all the same.
        assert comes_true(lambda: not watching.objects[-1]["service"]["running"])
    finally:
        code, said = watching.end(signal.SIGINT)
    assert code == 130
    assert '"exit_code": 130' in said
    found = watching.objects
    assert all(documented(each, StatusObject) for each in found)
    assert all(before != after for before, after in pairwise(found))
    assert home.is_committed(guid)


def test_watching_prints_nothing_while_nothing_changes(home: Home, service: Service) -> None:
    watching = Watching("--json")
    try:
        assert comes_true(lambda: len(watching.objects) == 1)
        before = home.status.stat().st_mtime_ns
        guid = home.drop_whole(b"weights")
        assert home.is_committed(guid)
        assert comes_true(lambda: watching.objects[-1]["committed"] == 1)
        assert before != home.status.stat().st_mtime_ns
        times = [each["service"]["at"] for each in watching.objects]
    finally:
        watching.end(signal.SIGINT)
    # It looks twenty times a second; the service says something once a second at most.
    assert len(times) == len(set(times))


def test_watching_ends_when_its_reader_does_though_nothing_changes(home: Home) -> None:
    process = subprocess.Popen(
        command("status", "--watch", "--json", "--interval", "600"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stderr:
        assert process.stdout.readline().startswith(b"{")
        process.stdout.close()
        assert (process.wait(20), process.stderr.read()) == (141, b"")


def test_watching_on_a_terminal_shows_what_becomes_of_a_run(home: Home, service: Service) -> None:
    watching = Watching(terminal=True)
    try:
        assert watching.shows("running, process")
        guid = drop_parked(home)
        assert watching.shows(guid)
        assert watching.shows("1 parked")
    finally:
        code, said = watching.end(signal.SIGINT)
    assert code == 130
    assert "interrupted" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_watching_leaves_the_terminal_as_it_was(
    home: Home, number: signal.Signals, code: int
) -> None:
    watching = Watching(terminal=True)
    try:
        assert watching.shows("not running")
        assert watching.shows("modeldrop scan --once")
    finally:
        ended, _ = watching.end(number)
    assert ended == code
    # The other screen is left, and the cursor shown again.
    assert b"\x1b[?1049h" in watching.said
    assert watching.said.rfind(b"\x1b[?1049l") > watching.said.rfind(b"\x1b[?1049h")
    assert watching.said.rfind(b"\x1b[?25h") > watching.said.rfind(b"\x1b[?25l")


def test_a_terminal_that_shows_nothing_live_is_refused(home: Home) -> None:
    watching = Watching(terminal=True, TERM="dumb")
    code, said = watching.close()
    assert code == 2
    assert "Try: `modeldrop status` once" in said


def test_watching_without_a_home_is_told_so(tmp_path: Path) -> None:
    assert as_process("status", "--watch", "--json").code == 10
