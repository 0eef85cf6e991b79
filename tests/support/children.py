"""Child processes that run a function of `support`: real processes, started together.

A function is named by itself, so that it is checked as code, not kept in a string; its arguments
and what it returns are JSON. `python -m support.children` is the other side.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import modeldrop
from support import killing

_TIMEOUT: Final = 100.0
_READY: Final = "ready"


class Child:
    """A process that stands before the call of its function, until `go`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Use `started`."""
        self.process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def line(self) -> str:
        """Wait for the next line that it says, and return that without its newline."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def say(self, text: str = "") -> None:
        """Give it a line to read."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def result(self) -> Any:  # noqa: ANN401 - whatever JSON its function returned
        """Wait for its end, and return what its function returned."""
        said = self._rest()
        assert self.process.returncode == 0, f"exit code {self.process.returncode}"
        return json.loads(said.splitlines()[-1])

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(_TIMEOUT)

    def was_killed(self) -> bool:
        """Wait for its end, and say whether it was by SIGKILL."""
        self._rest()
        return self.process.returncode == -signal.SIGKILL

    def _rest(self) -> str:
        # Not `communicate`, which would miss what was read ahead of an earlier line.
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        said = self.process.stdout.read()
        self.process.wait(_TIMEOUT)
        return said


@contextlib.contextmanager
def started(
    function: Callable[..., object], *arguments: object, dies_at: str = ""
) -> Iterator[Child]:
    """Start a process that is about to call a function; with `dies_at`, it dies after that step.

    It is gone when the block ends, whatever happened there.
    """
    roots = (Path(modeldrop.__file__).parents[1], Path(__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH", "")
    search = os.pathsep.join([*map(str, roots), *filter(None, [inherited])])
    named = f"{function.__module__}:{function.__qualname__}"
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, named, json.dumps(arguments, default=str), dies_at],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    with process:
        child = Child(process)
        try:
            assert child.line() == _READY
            yield child
        finally:
            process.kill()


def run(function: Callable[..., object], *arguments: object) -> Any:  # noqa: ANN401 - JSON
    """Call a function in a process of its own, and return what it returned."""
    return together(function, [arguments])[0]


def together(function: Callable[..., object], arguments: Iterable[Sequence[object]]) -> list[Any]:
    """Call a function in as many processes as there are arguments, at the same time.

    None begins before all are ready.
    """
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(started(function, *each)) for each in arguments]
        for child in children:
            child.say()
        return [child.result() for child in children]


def dies(function: Callable[..., object], *arguments: object, at: str) -> bool:
    """Call a function in a process that dies after a step; say whether it did."""
    with started(function, *arguments, dies_at=at) as child:
        child.say()
        return child.was_killed()


def _main() -> None:
    named, arguments, dies_at = sys.argv[1:]
    module, _, name = named.partition(":")
    function = getattr(importlib.import_module(module), name)
    if dies_at:
        killing.at_step(dies_at)
    say(_READY)
    if sys.stdin.readline():
        say(json.dumps(function(*json.loads(arguments))))


def say(text: str) -> None:
    """Say a line to whoever started this process."""
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    _main()
