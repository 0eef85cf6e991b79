"""Many small objects at a time, by one thread that waits for all of its connections at once.

Threads that wait for an answer each spend more on their turns at the interpreter than on the
answers. Here one of them asks on every connection, and works on what has come while the server
works on what was asked next.

It is there to be quick with what goes as it should. Whatever doesn't, be it one object or all of
them, is left out, and its connection not used again: whoever reads it by itself is told why, and
tries again as often as is worth while.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final

from modeldrop.backend import http1
from modeldrop.backend.http1 import BadAnswer, Head

# How many connections there are at most, and how many objects are worth one.
_LINES: Final = 16
_EACH: Final = 4
# Who says nothing for so long isn't waited for here, and how often that is looked at.
_SILENCE: Final = 5.0
_LOOK: Final = 0.5
_ROOM_FOR_HEAD: Final = 1 << 14
_OK: Final = 200

Take = Callable[[int, memoryview], None]
"""Called with the number of an object, and all of its bytes, which are gone when it returns."""


def gather(
    connect: Callable[[], socket.socket],
    silence: float,
    request: Callable[[int], bytes],
    sizes: Sequence[int],
    take: Take,
) -> None:
    """Bring what can be brought of objects of which the sizes are known, in any order.

    `request` returns what asks for an object; `connect` is called in several threads. No answer is
    waited for longer than `silence`. What `take` raises ends it; nothing else is ever raised.
    """
    count = min(_LINES, -(-len(sizes) // _EACH))
    pool = ThreadPoolExecutor(count, thread_name_prefix="connect")
    connecting = [pool.submit(connect) for _ in range(count)]
    pool.shutdown(wait=False)
    gathering = _Gathering(min(silence, _SILENCE), request, sizes, take)
    try:
        gathering.run(set(connecting))
    finally:
        gathering.close()
        for each in connecting:
            each.add_done_callback(_close)


def _close(connecting: Future[socket.socket]) -> None:
    # Those that were used are closed already.
    if connecting.exception() is None:
        connecting.result().close()


class _Line:
    """A connection, and the answer that comes on it."""

    __slots__ = ("buffer", "end", "head", "number", "since", "socket", "start", "view")

    def __init__(self, connected: socket.socket, room: int) -> None:
        self.socket = connected
        self.buffer = bytearray(room)
        self.view = memoryview(self.buffer)
        self.number = -1
        # What has come of the answer, where its body begins, and what its head says.
        self.end = self.start = 0
        self.head: Head | None = None
        self.since = 0.0


class _Gathering:
    def __init__(
        self, silence: float, request: Callable[[int], bytes], sizes: Sequence[int], take: Take
    ) -> None:
        self._silence = silence
        self._request = request
        self._sizes = sizes
        self._take = take
        self._unasked = iter(range(len(sizes)))
        self._room = _ROOM_FOR_HEAD + max(sizes, default=0)
        self._lines: dict[int, _Line] = {}
        self._poll = select.epoll()
        self._now = 0.0

    def run(self, connecting: set[Future[socket.socket]]) -> None:
        """Return when all has come that will."""
        looked = 0.0
        while connecting or self._lines:
            arrived = {each for each in connecting if each.done()}
            if not self._lines and not arrived:
                arrived = wait(connecting, return_when=FIRST_COMPLETED).done
            self._now = time.monotonic()
            for each in arrived:
                self._join(each)
            connecting -= arrived
            ready = self._poll.poll(_LOOK) if self._lines else ()
            self._now = time.monotonic()
            for fd, _ in ready:
                self._read(self._lines[fd])
            if self._now - looked > _LOOK:
                looked = self._now
                for line in [*self._lines.values()]:
                    if self._now - line.since > self._silence:
                        self._drop(line)

    def close(self) -> None:
        """Close what is still open."""
        for line in [*self._lines.values()]:
            self._drop(line)
        self._poll.close()

    def _join(self, connecting: Future[socket.socket]) -> None:
        if connecting.exception() is not None:
            return
        line = _Line(connecting.result(), self._room)
        line.socket.settimeout(0)
        self._lines[line.socket.fileno()] = line
        self._poll.register(line.socket.fileno(), select.EPOLLIN)
        self._ask(line)

    def _ask(self, line: _Line) -> None:
        """Ask for the next object, or close the connection if there is none."""
        number = next(self._unasked, None)
        if number is None:
            self._drop(line)
            return
        line.number, line.end, line.start, line.head = number, 0, 0, None
        line.since = self._now
        try:
            asked = self._request(number)
            whole = line.socket.send(asked) == len(asked)
        except Exception:  # noqa: BLE001 - keys that can't be had, say: that is told elsewhere
            whole = False
        # Nothing was under way: who can't take a request is in trouble.
        if not whole:
            self._drop(line)

    def _drop(self, line: _Line) -> None:
        self._poll.unregister(line.socket.fileno())
        del self._lines[line.socket.fileno()]
        line.socket.close()

    def _read(self, line: _Line) -> None:
        try:
            whole = self._is_whole(line)
        except (OSError, BadAnswer):
            self._drop(line)
            return
        if not whole or line.head is None:
            return
        number, end = line.number, line.start + self._sizes[line.number]
        body = line.view[line.start : end]
        # The next answer is read after this one was taken, so that it can't get in the way.
        if line.head.keeps_open and line.end == end:
            self._ask(line)
        else:
            self._drop(line)
        self._take(number, body)

    def _is_whole(self, line: _Line) -> bool:
        """Read what has come, and return whether that is all of an answer."""
        try:
            # What TLS has decrypted isn't waited for once more.
            while not self._is_complete(line):
                count = line.socket.recv_into(line.view[line.end :])
                if not count:
                    message = "the answer was cut short"
                    raise BadAnswer(message)
                line.end += count
                line.since = self._now
        except BlockingIOError:
            return False
        except OSError as error:
            if type(error).__name__ != "SSLWantReadError":
                raise
            return False
        return True

    def _is_complete(self, line: _Line) -> bool:
        size = self._sizes[line.number]
        if line.head is None:
            end = http1.end_of_head(line.buffer, 0, line.end)
            if end < 0:
                return False
            head = http1.head(line.buffer[:end])
            if head.status != _OK or head.chunked or head.size("GET") != size:
                message = "the answer isn't what was asked for"
                raise BadAnswer(message)
            line.head, line.start = head, end
        return line.end - line.start >= size
