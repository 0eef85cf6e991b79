"""Work in a child that is forked from a process with all of the program loaded."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_ENDED_BADLY: Final = 99
# linux/prctl.h
_SET_DEATH_SIGNAL: Final = 1

_libc: Final = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended, and what it said."""

    code: int
    """Its exit code; of one that was killed, the negative signal."""
    out: str
    err: str

    @property
    def last_words(self) -> str:
        """What it said on stderr, in one line."""
        return " | ".join(self.err.strip().split("\n"))[-700:]


class Child:
    """A child at work."""

    def __init__(self, pid: int, out: int, err: int) -> None:
        """Know its process id, and where what it says can be read."""
        self.pid = pid
        self._out, self._err = out, err
        self._ended: Ended | None = None

    def ended(self) -> Ended:
        """Wait until it has ended, and return how."""
        if self._ended is None:
            # What it says is short: it is in the pipes until somebody reads.
            _, status = os.waitpid(self.pid, 0)
            out, err = (_all_of(fd) for fd in (self._out, self._err))
            self._ended = Ended(os.waitstatus_to_exitcode(status), out, err)
        return self._ended


def _all_of(fd: int) -> str:
    with open(fd, "rb") as file:
        return file.read().decode("utf-8", "replace")


def run(work: Callable[[], int]) -> Ended:
    """Have a child work, and return how it ended: with the code that the work returns."""
    with forked(work) as child:
        return child.ended()


@contextlib.contextmanager
def forked(work: Callable[[], int]) -> Iterator[Child]:
    """Yield a child that works; at the end of the body, it has ended."""
    (out, out_in), (err, err_in) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        code = _ENDED_BADLY
        try:
            # Whoever asks for this process's parent to be killed wants nothing to go on.
            _libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
            os.dup2(out_in, 1)
            os.dup2(err_in, 2)
            for fd in (out, err, out_in, err_in):
                os.close(fd)
            code = work()
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001 - whatever it is, it ends here, and is told
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    os.close(out_in)
    os.close(err_in)
    child = Child(pid, out, err)
    try:
        yield child
    finally:
        child.ended()
