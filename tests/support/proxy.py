"""An HTTP proxy of the test's own before an object store: it counts, holds back, fails.

with Proxy(moto.port) as proxy:
    env = {"AWS_ENDPOINT_URL": proxy.endpoint}
    proxy.script("PUT", "/versions/", LOSE_ANSWER, REFUSE, nth=2)  # its second and third PUT
    proxy.at_random(7, {LOSE_REQUEST: 0.15, LOSE_ANSWER: 0.15})
    ...
    assert proxy.count("PUT", "/model.bin") == 1

What is scripted comes first, then what is random. `answers` and `before` are for what no script
says: an answer for as long as something lasts, a gate.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import http.server
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

_CODES: Final = {
    403: "AccessDenied",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}
_OWN_TO_A_CONNECTION: Final = frozenset({"connection", "keep-alive", "transfer-encoding"})
_TIMEOUT: Final = 60.0
# How much of a body is taken at a time.
_PIECE: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one request, in this order; by default, nothing that should not."""

    delay: float = 0.0
    """Seconds before anything is done with it."""
    flips_request: bool = False
    """Whether a bit of its body is turned over on the way to the server."""
    reaches: bool = True
    """Whether the server gets it at all."""
    silent: bool = False
    """Whether nothing is ever answered, on a connection that stays open."""
    loses: bool = False
    """Whether the connection breaks off where the answer should come."""
    status: int | None = None
    """What is answered instead of what the server says."""
    flips_answer: bool = False
    """Whether a bit of the answer's body is turned over."""
    cuts: bool = False
    """Whether the answer breaks off in the middle of its body."""


LOSE_REQUEST: Final = Fault(reaches=False, loses=True)
LOSE_ANSWER: Final = Fault(loses=True)
REFUSE: Final = Fault(reaches=False, status=503)
REFUSE_AFTERWARDS: Final = Fault(status=503)
FAIL: Final = Fault(reaches=False, status=500)
FAIL_AFTERWARDS: Final = Fault(status=500)
FLIP_REQUEST: Final = Fault(flips_request=True)
FLIP_ANSWER: Final = Fault(flips_answer=True)
CUT_ANSWER: Final = Fault(cuts=True)
SILENT: Final = Fault(silent=True)
"""The server does what it was asked, and nobody hears of it."""
NONE: Final = Fault()


@dataclass(slots=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str
    size: int = 0
    at: float = field(default_factory=time.monotonic)
    status: int | None = None
    """What was answered; None as long as nothing was."""
    fault: Fault = NONE
    """What befell it."""


class Proxy:
    """Leads to the server at a port, unless it is told otherwise."""

    def __init__(self, port: int) -> None:
        """Lead to this port of 127.0.0.1."""
        self._port = port
        self.requests: list[Seen] = []
        self.connections: list[float] = []
        """When each connection came that was refused while `away`."""
        self.away = False
        """Whether to break every connection off, as soon as it is made or used."""
        self.answers: Callable[[Seen], int | None] = lambda _: None
        """Returns the status to refuse a request with, or None to let it pass."""
        self.before: Callable[[Seen], None] = lambda _: None
        """Called before a request is passed on, in a thread of its connection; may wait."""
        self.rate: float | None = None
        """How many bytes of bodies it takes in a second, from all connections together."""
        self.taken = Counter[str]()
        """How many bytes of bodies came to a path, those of requests that broke off included."""
        self._free_at = 0.0
        self._faults: Callable[[Seen], Fault] = lambda _: NONE
        self._deciding = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """Where on 127.0.0.1 it is, for another proxy before it."""
        return int(self._server.server_address[1])

    def script(
        self, method: str, path: str | re.Pattern[str], *faults: Fault, nth: int = 1
    ) -> None:
        """Have these befall the nth request of a method with `path` in it, and those after it."""
        left, seen_before = list(faults), 0
        wanted = path if isinstance(path, re.Pattern) else re.compile(re.escape(path))
        otherwise = self._faults

        def fault(seen: Seen) -> Fault:
            nonlocal seen_before
            if seen.method != method or not wanted.search(seen.path) or not left:
                return otherwise(seen)
            seen_before += 1
            return left.pop(0) if seen_before >= nth else otherwise(seen)

        self._faults = fault

    def at_random(self, seed: int, chances: Mapping[Fault, float], path: str = "") -> None:
        """Have faults befall requests with `path` in them, with these chances.

        What befalls the nth request of a method and a path depends on the seed alone, not on which
        of several clients was quicker.
        """
        times = Counter[tuple[str, str]]()
        otherwise = self._faults
        kinds, weights = [*chances, NONE], [*chances.values(), 1 - sum(chances.values())]

        def fault(seen: Seen) -> Fault:
            if path not in seen.path:
                return otherwise(seen)
            what = (seen.method, seen.path)
            times[what] += 1
            dice = random.Random(f"{seed} {what} {times[what]}")
            return dice.choices(kinds, weights)[0]

        self._faults = fault

    def quiet(self) -> None:
        """Have no more faults."""
        self._faults = lambda _: NONE

    def fault(self, seen: Seen) -> Fault:
        """Return what is to become of a request."""
        with self._deciding:
            return self._faults(seen)

    def count(self, method: str, end: str = "", status: int | None = None) -> int:
        """Return how many requests came of a method and an end of the path, or were answered so."""
        return sum(
            each.method == method
            and each.path.partition("?")[0].endswith(end)
            and (status is None or each.status == status)
            for each in list(self.requests)
        )

    def take(self, path: str, size: int) -> None:
        """Count bytes of a body, and wait until the next ones may be taken."""
        with self._deciding:
            self.taken[path.partition("?")[0]] += size
            now = time.monotonic()
            if self.rate is not None:
                self._free_at = max(self._free_at, now) + size / self.rate
        # Whoever sent them doesn't notice while the kernel has room for more.
        self._closing.wait(max(self._free_at - now, 0))

    def hold(self, gate: threading.Event, longest: float = float("inf")) -> None:
        """Wait for a gate, for some seconds, or for the end of the proxy."""
        until = time.monotonic() + longest
        while not gate.wait(min(0.05, max(until - time.monotonic(), 0))):
            if self._closing.is_set() or time.monotonic() >= until:
                return

    def hold_while_open(self, connection: socket.socket) -> None:
        """Wait until the other side has closed a connection, or the proxy ends."""
        connection.settimeout(0.05)
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def pass_on(
        self, seen: Seen, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return what the server answers: status, headers and body."""
        self.before(seen)
        server = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        with contextlib.closing(server), self._turn(seen, headers):
            server.request(seen.method, seen.path, body, headers)
            answer = server.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _turn(
        self, seen: Seen, headers: dict[str, str]
    ) -> contextlib.AbstractContextManager[object]:
        """Let conditional requests for one path reach the server one after another.

        Moto looks and then writes: under load, two that come at once may both win.
        """
        if not any(name.lower() == "if-none-match" for name in headers):
            return contextlib.nullcontext()
        with self._deciding:
            return self._turns.setdefault(seen.path, threading.Lock())


class Checking(Proxy):
    """Refuses bytes that aren't what their digest says, as S3 does and moto doesn't."""

    def pass_on(
        self, seen: Seen, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        said = {name.lower(): value for name, value in headers.items()}.get("content-md5")
        if (
            said is not None
            and base64.b64decode(said) != hashlib.md5(body, usedforsecurity=False).digest()
        ):
            return 400, [], b"<Error><Code>BadDigest</Code><Message>staged</Message></Error>"
        return super().pass_on(seen, headers, body)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def verify_request(self, request: object, client_address: object) -> bool:
        """Break a connection off while the server plays dead."""
        del client_address
        if not self.proxy.away:
            return True
        self.proxy.connections.append(time.monotonic())
        assert isinstance(request, socket.socket)
        _reset(request)
        return False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the other side was killed, or has given up, as the test wants it."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # type: ignore[mutable-override] # the one that makes it

    def _serve(self) -> None:
        proxy = self.server.proxy
        body = self._body()
        seen = Seen(self.command, self.path, len(body))
        proxy.requests.append(seen)
        if proxy.away:
            _reset(self.connection)
            self.close_connection = True
            return
        fault = seen.fault = proxy.fault(seen)
        if fault.delay:
            proxy.hold(threading.Event(), fault.delay)
        status = proxy.answers(seen)
        if status is None and not fault.reaches:
            status = fault.status
        if status is not None:
            seen.status = status
            self._refuse(status)
            return
        if not fault.reaches:
            self._give_up(fault)
            return
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _OWN_TO_A_CONNECTION | {"expect", "content-length"}
        }
        sent = _flipped(body) if fault.flips_request else body
        found, answered, data = proxy.pass_on(seen, headers, sent)
        if fault.loses or fault.silent:
            self._give_up(fault)
        elif fault.status is not None:
            seen.status = fault.status
            self._refuse(fault.status)
        else:
            self._answer(found, answered, _flipped(data) if fault.flips_answer else data, fault)
            seen.status = found

    def _give_up(self, fault: Fault) -> None:
        if fault.silent:
            # Until the client has had enough, or the proxy ends.
            self.server.proxy.hold_while_open(self.connection)
        _reset(self.connection)
        self.close_connection = True

    def _refuse(self, status: int) -> None:
        self._answer(status, [("Content-Type", "application/xml")], _refusal(status))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self._read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self._read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self.rfile.read(min(size - len(data), _PIECE))
            if not piece:
                # The rest would come with the next request, and what is short be stored as whole.
                raise ConnectionResetError
            data += piece
            self.server.proxy.take(self.path, len(piece))
        return bytes(data)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault = NONE
    ) -> None:
        self.send_response_only(status)
        size = str(len(data))
        for name, value in headers:
            if name.lower() == "content-length":
                # Of a HEAD it is the object's, and nothing follows.
                size = value if self.command == "HEAD" else size
            elif name.lower() not in _OWN_TO_A_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if fault.cuts else data)
        if fault.cuts:
            self.close_connection = True


def _reset(connection: socket.socket) -> None:
    """Break a connection off as a machine does where nobody listens any more."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _flipped(data: bytes) -> bytes:
    """Return the same bytes with the last bit of the one in the middle turned over."""
    middle = len(data) // 2
    return (
        data[:middle] + bytes(byte ^ 1 for byte in data[middle : middle + 1]) + data[middle + 1 :]
    )


def _refusal(status: int) -> bytes:
    return f"<Error><Code>{_CODES[status]}</Code><Message>staged</Message></Error>".encode()
