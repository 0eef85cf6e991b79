"""An HTTP proxy of the test's own before an object store: it counts, holds back, refuses.

with Proxy(moto.port) as proxy:
    env = {"AWS_ENDPOINT_URL": proxy.endpoint}
    proxy.answers = lambda request: 503 if request.method == "PUT" else None
    ...
    assert proxy.count("PUT", "/model.bin") == 1
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

_CODES: Final = {403: "AccessDenied", 429: "TooManyRequests", 503: "SlowDown"}
_OWN_TO_A_CONNECTION: Final = frozenset({"connection", "keep-alive", "transfer-encoding"})
_TIMEOUT: Final = 60.0


@dataclass(slots=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str
    size: int = 0
    at: float = field(default_factory=time.monotonic)
    status: int | None = None
    """What was answered; None as long as nothing was."""


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
        self._closing = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def count(self, method: str, end: str = "", status: int | None = None) -> int:
        """Return how many requests came of a method and an end of the path, or were answered so."""
        return sum(
            each.method == method
            and each.path.partition("?")[0].endswith(end)
            and (status is None or each.status == status)
            for each in list(self.requests)
        )

    def hold(self, gate: threading.Event) -> None:
        """Wait for a gate, or for the end of the proxy."""
        while not gate.wait(0.05) and not self._closing.is_set():
            pass

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
        with contextlib.closing(server):
            server.request(seen.method, seen.path, body, headers)
            answer = server.getresponse()
            return answer.status, answer.getheaders(), answer.read()


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
        status = proxy.answers(seen)
        if status is not None:
            seen.status = status
            self._answer(status, [("Content-Type", "application/xml")], _refusal(status))
            return
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in _OWN_TO_A_CONNECTION | {"expect", "content-length"}
        }
        found, answered, data = proxy.pass_on(seen, headers, body)
        self._answer(found, answered, data)
        seen.status = found

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
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
            self.wfile.write(data)


def _reset(connection: socket.socket) -> None:
    """Break a connection off as a machine does where nobody listens any more."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _refusal(status: int) -> bytes:
    return f"<Error><Code>{_CODES[status]}</Code><Message>staged</Message></Error>".encode()
