"""Passes bytes on between clients and a server, so many a second, and counts what comes down."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from types import TracebackType
from typing import Final, Self

_CHUNK: Final = 1 << 20


class Relay:
    """Leads to the server at a port of this machine."""

    def __init__(self, port: int, rate: float = float("inf")) -> None:
        """Pass on `rate` bytes a second, of all connections together."""
        self.down = 0
        """How many bytes the server has sent."""
        self._port = port
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._closing = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def endpoint(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            for connection in self._open:
                _end(connection)
        for each in self._threads:
            each.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            with self._lock:
                self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                each = threading.Thread(target=self._pump, args=(source, target, source is server))
                self._threads.append(each)
                each.start()

    def _pump(self, source: socket.socket, target: socket.socket, down: bool) -> None:
        # Until either side has closed its connection.
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if down:
                    self._wait(len(data))
                target.sendall(data)
        with self._lock:
            for each in (source, target):
                _end(each)
            self._open.remove(source)
            source.close()

    def _wait(self, size: int) -> None:
        with self._lock:
            self.down += size
            self._free_at = max(self._free_at, time.monotonic()) + size / self._rate
            pause = self._free_at - time.monotonic()
        self._closing.wait(max(pause, 0))


def _end(connection: socket.socket) -> None:
    """Have whoever reads from a connection or writes to it see its end."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
