"""HTTP as object stores speak it, and as they shouldn't: an answer is right, or it is none."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

import pytest

from modeldrop.backend import http1
from modeldrop.backend.connections import Answer, Connections, Limits, NoAnswer

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HEADERS: Final = {"host": "here"}


class Scripted:
    """A server that answers the nth request of a connection with the nth of some pieces.

    After the last of them it ends the connection.
    """

    def __init__(self, *connections: Sequence[bytes], pause: float = 0) -> None:
        self.seen: list[bytes] = []
        self.closed = 0
        self._scripts = list(connections)
        self._pause = pause
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.address = urlsplit(f"http://127.0.0.1:{self._listening.getsockname()[1]}")

    def _accept(self) -> None:
        for script in self._scripts:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connected, script))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connected: socket.socket, script: Sequence[bytes]) -> None:
        with connected, contextlib.suppress(OSError):
            for answer in script:
                asked = b""
                while b"\r\n\r\n" not in asked:
                    more = connected.recv(1 << 16)
                    if not more:
                        return
                    asked += more
                self.seen.append(asked)
                if not self._pause:
                    connected.sendall(answer)
                    continue
                for byte in answer:
                    connected.sendall(bytes([byte]))
                    if self._stop.wait(self._pause):
                        return
        self.closed += 1

    def close(self) -> None:
        self._stop.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for each in self._threads:
            each.join()


Serve = Callable[..., tuple[Scripted, Connections]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a scripted server, and returns it with connections to it."""
    with contextlib.ExitStack() as stack:

        def start(*script: Sequence[bytes], pause: float = 0, read: float = 10) -> object:
            server = Scripted(*script, pause=pause)
            stack.callback(server.close)
            connections = Connections(server.address, Limits(5, read), None)
            stack.callback(connections.close)
            return server, connections

        yield start  # type: ignore[misc] # as its name says


def get(connections: Connections, method: str = "GET", body: bytes = b"") -> Answer:
    return connections.send(method, "/key", HEADERS, body)


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 200 OK\ncontent-length:5\n\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
            b"2;a=b\r\nhe\r\n03\r\nllo\r\n0\r\nTrailer: x\r\n\r\n"
        ),
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_an_answer_is_read_whole_and_its_connection_used_again(answer: bytes, serve: Serve) -> None:
    server, connections = serve([answer, OK])
    assert [get(connections).text() for _ in range(2)] == ["hello", "hello"]
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
)
def test_a_connection_that_ends_with_its_answer_isnt_used_again(
    answer: bytes, serve: Serve
) -> None:
    _, connections = serve([answer], [OK])
    assert [get(connections).text() for _ in range(2)] == ["hello", "hello"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
def test_nothing_follows_where_nothing_can(method: str, answer: bytes, serve: Serve) -> None:
    _, connections = serve([answer, OK])
    assert get(connections, method).text() == ""
    assert get(connections).text() == "hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n" + b"X: %s\r\n" % (b"x" * 999) * 99 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 999,
    ],
)
def test_what_is_no_whole_answer_is_none(answer: bytes, serve: Serve) -> None:
    server, connections = serve([answer])
    with pytest.raises(NoAnswer):
        get(connections).text()
    assert len(server.seen) == 1


def test_a_connection_that_has_ended_meanwhile_isnt_used(serve: Serve) -> None:
    server, connections = serve([OK], [OK])
    assert get(connections).text() == "hello"
    until = time.monotonic() + 10
    while not server.closed and time.monotonic() < until:
        time.sleep(0.01)
    assert get(connections).text() == "hello"


@pytest.mark.parametrize("answer", [OK[:20], OK[:-1]], ids=["head", "body"])
def test_silence_ends_after_as_long_as_it_may_last(answer: bytes, serve: Serve) -> None:
    # The second answer never comes, since the request for it doesn't.
    _, connections = serve([answer, b""], read=0.3)
    began = time.monotonic()
    with pytest.raises(NoAnswer):
        get(connections).text()
    assert 0.2 < time.monotonic() - began < 5


def test_an_answer_that_never_comes_to_its_end_isnt_waited_for(serve: Serve) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b"x" * 999
    _, connections = serve([answer], pause=0.01)
    began = time.monotonic()
    answered = get(connections)
    with pytest.raises(NoAnswer):
        answered.whole(0.3)
    assert time.monotonic() - began < 5


def test_a_request_is_sent_as_it_is_given(serve: Serve) -> None:
    server, connections = serve([OK, OK])
    get(connections, "PUT", b"weights").text()
    get(connections, "POST").text()
    put, post = server.seen
    assert put.startswith(b"PUT /key HTTP/1.1\r\n")
    assert put.endswith(b"\r\ncontent-length: 7\r\n\r\nweights")
    assert b"\r\nhost: here\r\n" in put
    assert post.endswith(b"\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parametrize("value", ["canary\r\nx: y", "canary\n", "canary\r", "can\0ary", "canäry"])
def test_a_header_that_would_be_two_is_sent_to_nobody_and_shown_to_nobody(value: str) -> None:
    with pytest.raises(ValueError, match="line's end") as caught:
        http1.request("GET", "/key", {"x-amz-security-token": value}, 0)
    assert "can" not in str(caught.value).replace("can't", "")


def test_a_body_goes_into_the_buffers_of_whoever_reads_it(serve: Serve) -> None:
    body = bytes(range(256)) * 4096
    _, connections = serve([b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body])
    answer = get(connections)
    buffer, found = memoryview(bytearray(100_000)), bytearray()
    while count := answer.read_into(buffer):
        found += buffer[:count]
    answer.finish()
    assert found == body
