"""The fault proxy itself: what it does to a request is what the tests that use it rely on."""

from __future__ import annotations

import http.client
import http.server
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from support.proxy import (
    CUT_ANSWER,
    FAIL,
    FAIL_AFTERWARDS,
    FLIP_ANSWER,
    FLIP_REQUEST,
    LOSE_ANSWER,
    LOSE_REQUEST,
    NONE,
    REFUSE,
    SILENT,
    Fault,
    Proxy,
    Seen,
)
from support.waiting import comes_true


class _Memory(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent, by its path."""

    kept: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(self.kept[self.path])

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kept() -> dict[str, bytes]:
    """What the server behind the proxy was sent."""
    _Memory.kept = {}
    return _Memory.kept


@pytest.fixture
def server(kept: dict[str, bytes]) -> Iterator[int]:
    """The port of a server that keeps what it is sent."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Memory) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: int) -> Iterator[Proxy]:
    with Proxy(server) as made:
        yield made


def ask(port: int, method: str, path: str, body: bytes = b"", timeout: float = 20.0) -> bytes:
    """Send a request, and return what is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(answer.status)
    return data


def port_of(proxy: Proxy) -> int:
    return int(proxy.endpoint.rpartition(":")[2])


@pytest.mark.parametrize(
    ("fault", "error", "arrives"),
    [
        (LOSE_REQUEST, "", False),
        (LOSE_ANSWER, "", True),
        (FAIL, "500", False),
        (FAIL_AFTERWARDS, "500", True),
        (REFUSE, "503", False),
    ],
)
def test_scripted_fault_befalls_the_nth_request_alone(
    proxy: Proxy, kept: dict[str, bytes], fault: Fault, error: str, arrives: bool
) -> None:
    proxy.script("PUT", "/some", fault, nth=2)

    ask(port_of(proxy), "PUT", "/some-1", b"1")
    ask(port_of(proxy), "PUT", "/other", b"1")
    with pytest.raises((OSError, http.client.HTTPException)) as caught:
        ask(port_of(proxy), "PUT", "/some-2", b"2")
    ask(port_of(proxy), "PUT", "/some-3", b"3")

    assert error in str(caught.value)
    assert [each.fault for each in proxy.requests] == [NONE, NONE, fault, NONE]
    assert ("/some-2" in kept) == arrives


def test_bits_are_flipped_one_way_or_the_other_and_answers_cut(
    proxy: Proxy, kept: dict[str, bytes]
) -> None:
    port = port_of(proxy)
    proxy.script("PUT", "/sent", FLIP_REQUEST)
    proxy.script("GET", "/sent", FLIP_ANSWER, CUT_ANSWER, Fault(delay=0.2))

    ask(port, "PUT", "/sent", b"abcde")
    assert kept["/sent"] == b"abbde"

    assert ask(port, "GET", "/sent") == b"abcde"
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(port, "GET", "/sent")
    assert caught.value.partial == b"ab"
    begun = time.monotonic()
    assert ask(port, "GET", "/sent") == b"abbde"
    assert time.monotonic() - begun >= 0.2


def test_silence_lasts_until_the_client_has_had_enough(
    proxy: Proxy, kept: dict[str, bytes]
) -> None:
    proxy.script("PUT", "/", SILENT)

    with pytest.raises(TimeoutError):
        ask(port_of(proxy), "PUT", "/unheard", b"1", timeout=0.3)

    # It is sent on all the same, perhaps a moment after the client has gone.
    assert comes_true(lambda: kept.get("/unheard") == b"1")


def test_what_is_random_depends_on_the_seed_and_on_no_order() -> None:
    chances = {LOSE_REQUEST: 0.3, LOSE_ANSWER: 0.2}
    requests = [Seen("PUT", f"/{number % 10}") for number in range(200)]

    def faults(seed: int, asked: list[Seen]) -> list[tuple[str, Fault]]:
        with Proxy(1) as proxy:
            proxy.at_random(seed, chances)
            return sorted(((each.path, proxy.fault(each)) for each in asked), key=repr)

    there, back = faults(1, requests), faults(1, requests[::-1])
    assert there == back
    assert there != faults(2, requests)
    found = [fault for _, fault in there]
    assert 40 <= found.count(LOSE_REQUEST) <= 80
    assert 20 <= found.count(LOSE_ANSWER) <= 60


def test_a_proxy_that_ends_lets_go_of_whoever_waits(server: int, kept: dict[str, bytes]) -> None:
    kept["/x"] = b""
    failed = threading.Event()

    def wait(port: int) -> None:
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(port, "GET", "/x", timeout=60)
        failed.set()

    with Proxy(server) as proxy:
        proxy.script("GET", "/", SILENT)
        waiting = threading.Thread(target=wait, args=(port_of(proxy),))
        waiting.start()
        while not proxy.requests:
            time.sleep(0.01)
    assert failed.wait(10)
    waiting.join()
