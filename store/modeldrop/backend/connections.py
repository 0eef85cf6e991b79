"""Connections to one HTTP server, and one request and its answer on each of them.

Proxies are beyond it. The body of an answer is read into buffers of whoever wants it, so that a
gigabyte doesn't need new memory for each piece of it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult

from modeldrop.backend import http1
from modeldrop.backend.http1 import BadAnswer, Head
from modeldrop.structs import Frozen

if TYPE_CHECKING:
    import ssl

PORTS: Final = {"http": 80, "https": 443}
# What comes with a head, and the whole of a small answer.
_BUFFER: Final = 1 << 17
_PIECE: Final = 1 << 16
_MOST_LINE: Final = 1 << 10
_MOST_TRAILERS: Final = 100
_ENDLESS: Final = "the head of the answer has no end"


class NoAnswer(Exception):
    """There was no answer, or it broke off."""


class Limits(Frozen):
    """How many seconds it may take to connect, and how many may pass between two bytes."""

    connect: float
    read: float


class Connections:
    """Connections to one server, each used by one thread at a time and then by another."""

    def __init__(self, address: SplitResult, limits: Limits, tls: ssl.SSLContext | None) -> None:
        self._host = str(address.hostname)
        self._port = address.port or PORTS[address.scheme]
        self._limits = limits
        self._tls = tls
        self._idle: list[_Connection] = []
        self._closed = False

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | memoryview,
        seconds: float | None = None,
    ) -> Answer:
        """Send a request, and return its answer as soon as it begins.

        No silence may be longer than `seconds`, or than the limits say.

        Raises:
            NoAnswer: there was none.
            ValueError: a header can't be sent as it is.
        """
        head = http1.request(method, path, headers, len(body))
        connection = self._free()
        try:
            most = self._limits.read
            connection.wait_at_most(most if seconds is None else min(most, seconds))
            connection.send(head, body)
            return Answer(self, connection, connection.head(), method)
        except (OSError, BadAnswer) as error:
            connection.close()
            raise _no_answer(error) from error
        except BaseException:
            connection.close()
            raise

    def connected(self) -> socket.socket:
        """Return a connection for the caller to use and to close.

        Raises:
            OSError: there is none to be had.
        """
        while self._idle:
            with contextlib.suppress(IndexError):
                connection = self._idle.pop()
                if connection.is_quiet():
                    return connection.detach()
                connection.close()
        return self._connect()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request."""
        self._idle.append(connection)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close those that nobody uses, and each of the others once it is given back."""
        self._closed = True
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def _free(self) -> _Connection:
        while self._idle:
            with contextlib.suppress(IndexError):
                connection = self._idle.pop()
                if connection.is_quiet():
                    return connection
                connection.close()
        try:
            return _Connection(self._connect())
        except OSError as error:
            raise _no_answer(error) from error

    def _connect(self) -> socket.socket:
        made = socket.create_connection((self._host, self._port), self._limits.connect)
        try:
            # A request isn't held back until the one before it was acknowledged.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return made
            return self._tls.wrap_socket(made, server_hostname=self._host)
        except BaseException:
            made.close()
            raise


class _Connection:
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._seconds = connected.gettimeout()
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        # What has come and nobody has read.
        self._at = 0
        self._end = 0
        self.closed = False

    def detach(self) -> socket.socket:
        """Give up the connection to somebody else; it may only be done while it is quiet."""
        self.closed = True
        return self._socket

    def wait_at_most(self, seconds: float) -> None:
        """Have no single wait take longer."""
        if seconds != self._seconds:
            self._socket.settimeout(seconds)
            self._seconds = seconds

    def is_quiet(self) -> bool:
        """Return whether nothing came where nothing was asked for: the other side's end."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return self._at == self._end and not waiting.poll(0)

    def send(self, head: bytes, body: bytes | memoryview) -> None:
        if len(body) <= _PIECE:
            self._socket.sendall(b"".join((head, body)))
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)

    def head(self) -> Head:
        """Return the head of the answer."""
        while True:
            end = http1.end_of_head(self._buffer, self._at, self._end)
            if end < 0:
                self._more(http1.MOST_HEAD)
                continue
            if end - self._at > http1.MOST_HEAD:
                raise BadAnswer(_ENDLESS)
            found = http1.head(self._buffer[self._at : end])
            self._at = end
            if found.is_last:
                return found

    def line(self) -> bytes:
        """Return the next line with its end."""
        while (end := self._buffer.find(b"\n", self._at, self._end)) < 0:
            self._more(_MOST_LINE)
        line, self._at = bytes(self._view[self._at : end + 1]), end + 1
        return line

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer, and return how many; none where the other side ends."""
        held = self._end - self._at
        if not held:
            return self._socket.recv_into(view)
        count = min(held, len(view))
        view[:count] = self._view[self._at : self._at + count]
        self._at += count
        return count

    def _more(self, most: int) -> None:
        held = self._end - self._at
        if held >= most:
            raise BadAnswer(_ENDLESS)
        if self._at:
            self._view[:held] = bytes(self._view[self._at : self._end])
            self._at, self._end = 0, held
        count = self._socket.recv_into(self._view[held:])
        if not count:
            message = "the connection ended before the answer"
            raise BadAnswer(message)
        self._end += count

    def close(self) -> None:
        self.closed = True
        self._socket.close()


class Answer:
    """An answer, and the connection that it comes on."""

    def __init__(
        self, connections: Connections, connection: _Connection, head: Head, method: str
    ) -> None:
        self._connections = connections
        self._connection = connection
        self.status = head.status
        self.headers = head.headers
        """By their names in lower case."""
        self._chunked = head.chunked
        size = head.size(method)
        bodiless = size == 0
        if self._chunked and method != "HEAD":
            size = 0
        # Of the body, or of the chunk that is being read; None is all until the end.
        self._left = size
        self._keeps_open = head.keeps_open and size is not None
        self._done = bodiless
        self._begun = False

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer, and return how many; none at the end of the answer.

        Raises:
            NoAnswer: it broke off.
        """
        try:
            return self._read_into(view)
        except (OSError, BadAnswer) as error:
            self.drop()
            raise _no_answer(error) from error

    def whole(self, seconds: float) -> bytes:
        """Return all of the answer, and let the connection serve the next request.

        Raises:
            NoAnswer: it broke off, or hasn't come to its end after so long.
        """
        until = time.monotonic() + seconds
        parts = []
        piece = memoryview(bytearray(min(_PIECE, self._left or _PIECE)))
        while count := self.read_into(piece):
            parts.append(bytes(piece[:count]))
            left = until - time.monotonic()
            if left <= 0:
                self.drop()
                message = f"the answer hasn't come to its end in {seconds:.0f} s"
                raise NoAnswer(message)
            self._connection.wait_at_most(left)
        self.finish()
        return b"".join(parts)

    def text(self) -> str:
        """Return the rest as text, and let the connection serve the next request.

        Raises:
            NoAnswer: it broke off.
        """
        parts = []
        piece = memoryview(bytearray(_PIECE))
        while count := self.read_into(piece):
            parts.append(bytes(piece[:count]))
        self.finish()
        return b"".join(parts).decode("utf-8", "replace")

    def finish(self) -> None:
        """Let the connection serve the next request, if all has come and the server agrees."""
        if self._connection.closed:
            return
        if self._done and self._keeps_open:
            self._connections.give_back(self._connection)
        else:
            self.drop()

    def drop(self) -> None:
        """Close the connection, with what is still to come."""
        self._connection.close()

    def _read_into(self, view: memoryview) -> int:
        if self._done:
            return 0
        if self._left is None:
            count = self._connection.read_into(view)
            self._done = not count
            return count
        if not self._left and not self._next_chunk():
            return 0
        count = self._connection.read_into(view[: self._left])
        if not count:
            message = "the answer was cut short"
            raise BadAnswer(message)
        self._left -= count
        self._done = not self._left and not self._chunked
        return count

    def _next_chunk(self) -> bool:
        if self._begun and self._connection.line().strip():
            message = "a chunk of the answer is longer than it says"
            raise BadAnswer(message)
        self._begun = True
        self._left = http1.chunk_size(self._connection.line())
        if self._left:
            return True
        # Nothing that stands behind the last one is of interest.
        for _ in range(_MOST_TRAILERS):
            if not self._connection.line().strip():
                self._done = True
                return False
        raise BadAnswer(_ENDLESS)


def _no_answer(error: Exception) -> NoAnswer:
    # What is wrong with an answer says it all; the other side's refusals have a class each.
    name = "" if isinstance(error, BadAnswer) else f"{type(error).__name__}: "
    return NoAnswer(f"{name}{error}")
