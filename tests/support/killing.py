"""Ending this very process by SIGKILL at a chosen point: what a crash leaves is then real.

Two ways to choose the point. `at_step` waits for a log message such as `step: record appended`,
which the code says at DEBUG after each step that a crash may follow. `before_call` counts the
calls that change the file system, half of a write being one, so that a test can go through all of
them: 0, 1, 2 … until the process lives.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from typing import Final, NoReturn

from modeldrop import disk, files

_CHANGING: Final = (
    *("pwrite", "fsync", "fdatasync", "ftruncate"),
    *("replace", "rename", "link", "unlink", "mkdir", "rmdir"),
)


def die() -> NoReturn:
    """End this process now, as a power cut would: no handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL leaves nobody to say so")


def at_step(step: str, *, time: int = 1, logger: str = "modeldrop") -> None:
    """Die when the code says that it has done this step, for the `time`th time.

    `step` is what comes after `step: ` in the message of any module below `logger`.
    """
    heard = logging.getLogger(logger)
    heard.addHandler(_Killer(step, time))
    heard.setLevel(logging.DEBUG)


class _Killer(logging.Handler):
    def __init__(self, step: str, time: int) -> None:
        super().__init__(logging.DEBUG)
        self._message = f"step: {step}"
        self._left = time

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() != self._message:
            return
        self._left -= 1
        if self._left == 0:
            die()


def before_call(number: int) -> None:
    """Die before the call of this number that changes a file system; 0 is the next one."""
    left = number

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            die()

    interpose(step, setattr)


def interpose(step: Callable[[], None], put: Callable[[object, str, object], None]) -> None:
    """Have `step` called before each call that changes a file system, half of a write being one.

    `put` is `setattr`, or one that somebody undoes.
    """

    def mortal(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            step()
            return real(*arguments, **named)

        return call

    for name in _CHANGING:
        put(os, name, mortal(getattr(os, name)))
    for room, name in ((disk, "sync_whole"), (files, "rename_if_free")):
        put(room, name, mortal(getattr(room, name)))

    write = os.write

    def write_in_halves(fd: int, data: bytes | memoryview, /) -> int:
        view = memoryview(data)
        half = len(view) // 2
        step()
        # A short count is no excuse: whoever calls goes on with the rest, or has a bug.
        done = write(fd, view[:half]) if half else 0
        step()
        return done + write(fd, view[done:])

    put(os, "write", write_in_halves)
