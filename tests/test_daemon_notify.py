"""sd_notify(3), against a socket that a service manager would listen at."""

import os
import socket
import tempfile
import uuid
from collections.abc import Iterator

import pytest

from modeldrop_daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    # A socket's path has at most 108 bytes, which the folders of tests exceed.
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        is_path = request.param == "path"
        listener.bind(f"{folder}/notify" if is_path else f"\0modeldrop-{uuid.uuid4().hex}")
        listener.settimeout(5)
        yield listener


def notifier_for(manager: socket.socket, **environ: str) -> Notifier:
    name = manager.getsockname()
    spelled = f"@{name[1:].decode()}" if isinstance(name, bytes) else name
    return Notifier.from_environment({"NOTIFY_SOCKET": spelled, **environ})


def test_what_is_said_arrives_as_assignments(manager: socket.socket) -> None:
    notifier = notifier_for(manager, WATCHDOG_USEC="2000000")

    notifier.ready("watching")
    notifier.status("busy")
    notifier.alive()
    notifier.extend(1.5)
    notifier.stopping("bye")

    assert [manager.recv(4096) for _ in range(5)] == [
        b"READY=1\nSTATUS=watching",
        b"STATUS=busy",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=1500000",
        b"STOPPING=1\nSTATUS=bye",
    ]


def test_status_that_is_no_news_is_not_sent(manager: socket.socket) -> None:
    notifier = notifier_for(manager)

    notifier.ready("watching")
    notifier.status("watching")
    notifier.status("busy")

    assert manager.recv(4096) == b"READY=1\nSTATUS=watching"
    assert manager.recv(4096) == b"STATUS=busy"


def test_name_in_a_status_makes_no_assignment_of_its_own(manager: socket.socket) -> None:
    notifier = notifier_for(manager)

    notifier.status("watching /a\nWATCHDOG=trigger\x1b]0;title\x07/\udcff")

    assert manager.recv(4096) == b"STATUS=watching /a\\nWATCHDOG=trigger\\x1b]0;title\\x07/\\xff"


def test_children_do_not_speak_in_the_services_name(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "A": "b"}

    Notifier.from_environment(environ)

    assert environ == {"A": "b"}


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_for_the_process_that_it_names(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier.from_environment(dict(environ)).watchdog == seconds


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "vsock:2:1234", "@gone"])
def test_manager_that_is_not_there_is_no_error(address: str | None) -> None:
    Notifier(address).ready("watching")


def test_manager_that_does_not_listen_holds_nobody_up(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop_daemon.notify._SEND_TIMEOUT", 0.001)
    notifier = notifier_for(manager)

    # More than any queue of a datagram socket holds.
    for number in range(600):
        notifier.status(f"{number}")

    assert manager.recv(4096) == b"STATUS=0"
