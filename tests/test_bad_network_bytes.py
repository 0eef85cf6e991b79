"""A network that flips a bit, cuts an answer or goes silent under the bytes of an upload.

Whatever it does: nothing is ever stored that isn't what was dropped, what can't be stored is said
in time and with the right exit code, and it is stored once the network is right again. Moto checks
no digest, so that what it stored has to be read back; rclone and Azurite check each request.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository
from modeldrop.backend import azure
from support.intake import content
from support.program import Program, in_process
from support.proxy import CUT_ANSWER, FLIP_ANSWER, FLIP_REQUEST, SILENT, Fault, Proxy
from support.service import Home

pytestmark = pytest.mark.scenario(48)

MIB: Final = 2**20
SMALL: Final = 1000
# Two parts.
LARGE: Final = 9 * MIB
# How long a client waits between two bytes here; it is half a minute for everybody else.
SHORT: Final = 1
# How often a request is made that gets no answer: for everybody else that is two minutes.
TRIES: Final = 4
# Some requests follow each other; then whoever asked is told.
SOON: Final = 30 * SHORT
ALWAYS: Final = 999
# What the key of bytes has after the run's GUID, which may begin with any digits.
AN_UPLOAD: Final = re.compile(r"/\d{8}T\d{6}Z-")


class Place:
    """A home, and a store behind a network that does as it is told."""

    def __init__(self, home: Home, proxy: Proxy, endpoint: str) -> None:
        self.home = home
        self.proxy = proxy
        self._endpoint = endpoint

    def befalls(self, method: str, fault: Fault, times: int = ALWAYS) -> None:
        """Have requests about the bytes of runs be met, and none about records."""
        self.proxy.script(method, AN_UPLOAD, *[fault] * times)

    def scan(self, run: Program) -> int:
        """Store what was dropped, once; return the exit code, which has to come soon."""
        begun, before = time.monotonic(), len(self.proxy.requests)
        code = run("--home", str(self.home.root), "scan", "--once").code
        assert time.monotonic() - begun < SOON
        unanswered = Counter(
            (each.method, each.path)
            for each in self.proxy.requests[before:]
            if each.fault is SILENT
        )
        assert max(unanswered.values(), default=0) <= TRIES
        return code

    def stores(self, run: Program) -> bool:
        """Return whether what was dropped comes to be stored; a busy machine is slow to answer."""
        return any(self.scan(run) == 0 for _ in range(3))

    def has(self, run: str) -> list[bytes]:
        """Return what the store has of each revision of a run, without the network between."""
        with self.direct(), Repository.open(self.home.root) as repository:
            runs = repository.runs_at_backend
            found = [runs.revision(run, number) for number in runs.numbers(run)]
            return [data for each in found for data in content(repository, each).values()]

    @contextlib.contextmanager
    def direct(self) -> Iterator[None]:
        """Have this process ask the store itself."""
        with pytest.MonkeyPatch.context() as patched:
            for name, value in os.environ.items():
                if self.proxy.endpoint in value:
                    patched.setenv(name, value.replace(self.proxy.endpoint, self._endpoint))
            yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture(scope="module")
def places(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], tuple[Place, dict[str, str]]]]:
    """Make a home at a store of each kind, for all tests; a race at a store takes its time."""
    made: dict[str, tuple[Place, dict[str, str]]] = {}
    with contextlib.ExitStack() as stack:

        def make(kind: str) -> tuple[Place, dict[str, str]]:
            if kind not in made:
                server: Any = request.getfixturevalue(kind)
                proxy = stack.enter_context(Proxy(server.port))
                env = {
                    name: value.replace(server.endpoint, proxy.endpoint)
                    for name, value in server.env.items()
                }
                url = server.make_container() if kind == "azurite" else server.make_bucket()
                folder = tmp_path_factory.mktemp(kind)
                with pytest.MonkeyPatch.context() as patched:
                    for name, value in server.env.items():
                        patched.setenv(name, value)
                    # By hand, where only one home may write, which this one is.
                    single = kind == "rclone_s3"
                    Repository.init(folder / ".mlops", backend=url, single_writer=single)[0].close()
                    home = Home(folder, url, retry_most=0.3)
                stack.callback(home.close)
                with (home.root / "config.toml").open("a") as file:
                    if kind != "azurite":
                        file.write(f"[backend.options.config_kwargs]\nread_timeout = {SHORT}\n")
                made[kind] = Place(home, proxy, server.endpoint), env
            return made[kind]

        yield make


@pytest.fixture
def place(
    kind: str,
    places: Callable[[str], tuple[Place, dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """A home at a store of a kind, whose network is as a test has it."""
    found, env = places(kind)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(azure, "_LIMITS", {**azure._LIMITS, "read_timeout": SHORT})
    yield found
    found.proxy.quiet()


NAMES: Final = {FLIP_REQUEST: "flipped", FLIP_ANSWER: "answer flipped", SILENT: "silent"}
# Each has to fail for as long as it lasts: bytes that arrive as others, or are read back as others,
# and a store that never answers. A large file has a beginning and an end besides its parts.
CASES: Final = (
    ("moto", SMALL, "PUT", FLIP_REQUEST),
    ("moto", SMALL, "PUT", SILENT),
    ("moto", SMALL, "GET", FLIP_ANSWER),
    ("moto", SMALL, "GET", SILENT),
    ("moto", LARGE, "PUT", FLIP_REQUEST),
    ("moto", LARGE, "PUT", SILENT),
    ("moto", LARGE, "GET", FLIP_ANSWER),
    ("moto", LARGE, "POST", FLIP_REQUEST),
    ("rclone_s3", SMALL, "PUT", SILENT),
    ("rclone_s3", LARGE, "PUT", FLIP_REQUEST),
    ("rclone_s3", LARGE, "PUT", SILENT),
    ("rclone_s3", LARGE, "POST", SILENT),
    ("azurite", SMALL, "PUT", FLIP_REQUEST),
    ("azurite", SMALL, "PUT", SILENT),
    ("azurite", LARGE, "PUT", FLIP_REQUEST),
    ("azurite", LARGE, "PUT", SILENT),
)


@pytest.mark.parametrize(
    ("kind", "size", "method", "fault"),
    [
        pytest.param(
            *case,
            id=f"{case[0]}-{case[1]}-{case[2]} {NAMES[case[3]]}",
            marks=[pytest.mark.slow] if case[3] is SILENT else [],
        )
        for case in CASES
    ],
)
def test_what_the_network_spoils_is_blocked_in_time_and_stored_once_it_is_right_again(
    place: Place, size: int, method: str, fault: Fault, run: Program
) -> None:
    data = os.urandom(size)
    guid = place.home.drop_whole(data)
    place.befalls(method, fault)

    assert place.scan(run) == 3
    assert place.has(guid) == []

    place.proxy.quiet()
    assert place.stores(run)
    assert place.has(guid) == [data]


@pytest.mark.parametrize("fault", [CUT_ANSWER, FLIP_ANSWER], ids=["cut", "flipped"])
@pytest.mark.parametrize("kind", ["moto", "rclone_s3", "azurite"])
def test_an_answer_that_is_spoilt_is_an_error_or_no_matter_and_never_other_bytes(
    place: Place, fault: Fault, run: Program
) -> None:
    data = os.urandom(LARGE)
    guid = place.home.drop_whole(data)
    for method in ("GET", "POST", "PUT"):
        place.befalls(method, fault)

    # Most of them have no body that could be spoilt, and what breaks off is taken up.
    code = place.scan(run)
    assert code in {0, 3}
    assert place.has(guid) == ([data] if code == 0 else [])

    place.proxy.quiet()
    assert place.stores(run)
    assert place.has(guid) == [data]


@pytest.mark.parametrize("kind", ["moto", "rclone_s3", "azurite"])
def test_what_is_hit_once_is_sent_again_and_stored_right(place: Place, run: Program) -> None:
    data = os.urandom(LARGE)
    guid = place.home.drop_whole(data)
    for fault in (FLIP_REQUEST, SILENT, CUT_ANSWER):
        place.befalls("PUT", fault, times=1)
    # As people do who see that it was blocked.
    assert place.stores(run)
    assert place.has(guid) == [data]


@pytest.mark.parametrize("kind", ["moto", "azurite"])
def test_who_waits_for_a_drop_is_told_in_time_and_has_it_once_the_network_is_right(
    place: Place, run: Program, tmp_path: Path
) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(data := os.urandom(SMALL))
    place.befalls("PUT", FLIP_REQUEST)
    begun = time.monotonic()
    call = ("--home", str(place.home.root))

    told = run(*call, "drop", "--wait=1.5", "--json", model)

    assert told.code == 12
    assert told.error["kind"] == "NotReady"
    assert time.monotonic() - begun < SOON
    guid = max(place.home.staging.iterdir(), key=lambda each: each.stat().st_ctime_ns).name
    assert place.has(guid) == []
    place.proxy.quiet()
    assert run(*call, "register", guid, "-e", "churn", "--wait=30").code == 0
    assert place.has(guid) == [data]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["moto", "rclone_s3", "azurite"])
def test_the_service_keeps_at_it_through_every_fault_and_stores_it_right(place: Place) -> None:
    twist = f"""
from modeldrop.backend import azure
azure._LIMITS = {{**azure._LIMITS, "read_timeout": {SHORT}}}
"""
    # For as long as it lasts nothing is stored; each of them hits what is sent and what is read.
    place.befalls("PUT", FLIP_REQUEST, times=4)
    # Of three that are sent at once, one at least has no answer as often as it is sent.
    place.befalls("PUT", SILENT, times=3 * TRIES)
    place.befalls("GET", CUT_ANSWER, times=4)
    service = place.home.start_ready(twist=twist)
    data = {size: os.urandom(size) for size in (SMALL, LARGE)}

    runs = {size: place.home.drop_whole(each) for size, each in data.items()}

    for size, guid in runs.items():
        assert place.home.is_committed(guid, timeout=90), service.log
        assert place.has(guid) == [data[size]]
    assert "is waited for" in service.log
    assert service.stop() == 0
