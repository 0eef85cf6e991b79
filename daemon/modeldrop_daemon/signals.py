"""The signals of the service, taken by a thread of their own.

A Python signal handler runs in the main thread, between any two of its steps, and so maybe inside
of a lock that it would want itself; and not at all while the main thread is in a long call into C.
Hence the handlers here do nothing, and Python's wakeup pipe brings the number of the signal to a
thread, which may take locks as every thread may.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Hands each signal to a function while the context lasts. For the main thread alone."""

    def __init__(self, take: Callable[[int], None]) -> None:
        """Hand signals to `take`, which is called in another thread, one call at a time."""
        self._take = take
        self._before: dict[int, object] = {}
        self._reader, self._writer = -1, -1
        self._thread = threading.Thread(target=self._read, name="signals", daemon=True)

    def __enter__(self) -> Self:
        """Take the signals over."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        # A pipe that is full holds a signal of each kind already, and more say nothing new.
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in SIGNALS:
            self._before[number] = signal.signal(number, _nothing)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal.signal returned
        signal.set_wakeup_fd(-1)
        # The end of the pipe is the thread's.
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while numbers := os.read(self._reader, 64):
                for number in numbers:
                    if number in SIGNALS:
                        self._take(number)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Keep the signal's default action from happening."""
