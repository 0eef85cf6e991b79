"""Connections to one HTTP server, and one request and its answer on each of them.

Plain `http.client`: a request costs a third of what it costs through urllib3 and botocore, which
for a thousand small files is most of the time. Proxies are beyond it.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult

from botocore.exceptions import HTTPClientError

if TYPE_CHECKING:
    import ssl

_PIECE: Final = 1 << 18


class Connections:
    """Connections to one server, each used by one thread at a time and then by another."""

    def __init__(self, address: SplitResult, settings: Any, tls: ssl.SSLContext | None) -> None:  # noqa: ANN401 - botocore's own
        self._address = address
        self._settings = settings
        self._tls = tls
        self._idle: list[http.client.HTTPConnection] = []
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

        No silence may be longer than `seconds`, or than the settings say.

        Raises:
            HTTPClientError: there was none.
            ValueError: a header can't be sent as it is.
        """
        connection = self._free()
        try:
            most = self._settings.read_timeout
            connection.sock.settimeout(most if seconds is None else min(most, seconds))
            connection.request(method, path, body or None, headers)
            return Answer(self, connection, connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise HTTPClientError(error=error) from error
        except ValueError:
            connection.close()
            # The original shows the header, which may be a token with a line's end at its end.
            message = "a header can't be sent: do the credentials contain a line's end?"
            raise ValueError(message) from None
        except BaseException:
            connection.close()
            raise

    def give_back(self, connection: http.client.HTTPConnection) -> None:
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

    def _free(self) -> http.client.HTTPConnection:
        while self._idle:
            with contextlib.suppress(IndexError):
                connection = self._idle.pop()
                # To be read from where nothing was asked for is the other side's end.
                if connection.sock and not select.select([connection.sock], [], [], 0)[0]:
                    return connection
                connection.close()
        host, port, most = self._address.hostname, self._address.port, self._settings
        made = (
            http.client.HTTPConnection(str(host), port, timeout=most.connect_timeout)
            if self._tls is None
            else http.client.HTTPSConnection(
                str(host), port, timeout=most.connect_timeout, context=self._tls
            )
        )
        try:
            made.connect()
        except OSError as error:
            made.close()
            raise HTTPClientError(error=error) from error
        return made


class Answer:
    """An answer, and the connection that it comes on."""

    def __init__(
        self,
        connections: Connections,
        connection: http.client.HTTPConnection,
        answer: http.client.HTTPResponse,
    ) -> None:
        self._connections = connections
        self._connection = connection
        self._answer = answer
        self.status = answer.status
        self.headers = answer.headers

    def read(self, size: int | None = None) -> bytes:
        """Return the next bytes, at most `size`, or all that are left.

        Raises:
            HTTPClientError: it broke off, which at some places looks like the end.
        """
        try:
            return self._answer.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise HTTPClientError(error=error) from error

    def whole(self, seconds: float) -> bytes:
        """Return all of the answer, and let the connection serve the next request.

        Raises:
            HTTPClientError: it broke off, or hasn't come to its end after so long.
        """
        until = time.monotonic() + seconds
        parts = []
        try:
            while data := self._answer.read1(_PIECE):
                parts.append(data)
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                # It is gone where the server closes it after this answer.
                if self._connection.sock is not None:
                    self._connection.sock.settimeout(left)
        except (OSError, http.client.HTTPException) as error:
            self.drop()
            raise HTTPClientError(error=error) from error
        self.finish()
        return b"".join(parts)

    def text(self) -> str:
        """Return the rest as text, and let the connection serve the next request."""
        try:
            return self.read().decode("utf-8", "replace")
        finally:
            self.finish()

    def finish(self) -> None:
        """Let the connection serve the next request, if all has come and the server agrees."""
        # Where nothing more is to come, reading notices that it is the end.
        if not self._answer.isclosed() and self._answer.length:
            self.drop()
            return
        self._answer.close()
        if self._connection.sock is not None:
            self._connections.give_back(self._connection)

    def drop(self) -> None:
        """Close the connection, with what is still to come."""
        self._answer.close()
        self._connection.close()
