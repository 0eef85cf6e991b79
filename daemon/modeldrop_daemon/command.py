"""Running a command of the user's: no shell, an end in sight, and only the end of what it says.

Its input is a file in memory, so nothing waits for a command that doesn't read. Its output is read
as it comes and all but the last of it dropped, so that it neither blocks nor fills anything. It is
the leader of a process group of its own, which is ended whole. Processes that it leaves behind on
purpose, by going to the background, are not waited for.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from modeldrop.structs import Frozen

# How much of what a command says is kept, from its end.
_KEPT: Final = 2048
_READ: Final = 65536
# How often it is asked whether the command's time is up.
_SLICE: Final = 0.1
# Between the request to end and the end.
_GRACE: Final = 0.5


class Ended(Frozen):
    """How a command ended."""

    code: int | None
    """Its exit code, negative for a signal; None if it could not be started."""
    was_ended: bool
    """Whether its time was up."""
    output: str
    """The end of what it wrote to stdout."""
    errors: str
    """The end of what it wrote to stderr, or why it could not be started."""


def run_command(
    words: Sequence[str],
    data: bytes,
    *,
    cwd: Path,
    environ: Mapping[str, str],
    until: Callable[[], float],
) -> Ended:
    """Run a command with `data` on its stdin; return how it ended.

    `until` says by the monotonic clock when its time is up, and is asked again and again.
    """
    source = os.memfd_create("input", os.MFD_CLOEXEC)
    try:
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        process = subprocess.Popen(  # noqa: S603 - the owner's own setting, and no shell
            list(words),
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=dict(environ),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Ended(None, was_ended=False, output="", errors=str(error))
    finally:
        os.close(source)
    with process, contextlib.closing(_Watched(process)) as watched:
        was_ended = not watched.ends(until)
        if was_ended:
            _signal(process, signal.SIGTERM)
            watched.ends(_in(_GRACE))
            # While its leader isn't waited for, the group's number is nobody else's.
            _signal(process, signal.SIGKILL)
            watched.ends(lambda: float("inf"))
        watched.read_rest()
        code = process.wait()
        return Ended(code, was_ended, *watched.said())


def _in(seconds: float) -> Callable[[], float]:
    when = time.monotonic() + seconds
    return lambda: when


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _Watched:
    """A process and its two outputs, until it ends. It is not waited for here."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - both are pipes
        assert process.stderr is not None  # noqa: S101 - see above
        self._outputs = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        self._end = os.pidfd_open(process.pid)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._end, selectors.EVENT_READ)
        for fd in self._outputs:
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)

    def close(self) -> None:
        self._selector.close()
        os.close(self._end)

    def ends(self, until: Callable[[], float]) -> bool:
        """Return whether it ends in its time; read what it says meanwhile."""
        while (left := until() - time.monotonic()) > 0:
            ready = {key.fd for key, _ in self._selector.select(min(left, _SLICE))}
            for fd in ready & self._outputs.keys():
                self._read(fd)
            if self._end in ready:
                return True
        return False

    def read_rest(self) -> None:
        """Read what is there still; what left it behind and speaks on is not listened to."""
        for fd in list(self._outputs):
            for _ in range(16):
                if not self._read(fd):
                    break

    def said(self) -> tuple[str, str]:
        output, errors = (
            each.decode("utf-8", "replace").strip() for each in self._outputs.values()
        )
        return output, errors

    def _read(self, fd: int) -> bool:
        """Read a piece of what it says; return whether there may be more."""
        try:
            piece = os.read(fd, _READ)
        except BlockingIOError:
            return False
        self._outputs[fd] = (self._outputs[fd] + piece)[-_KEPT:]
        if not piece:
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)
        return bool(piece)
