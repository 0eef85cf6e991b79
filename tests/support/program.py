"""The program `modeldrop` in a test: in this process, or as a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop_cli.main import main

SOURCES: Final = tuple(str(Path(__file__).parents[2] / root) for root in ("store", "cli", "daemon"))
"""Where the packages are, whether they are installed or not."""


@dataclass(frozen=True)
class Ran:
    """What came of one run of the program."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines on stdout."""
        return self.out.splitlines()

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was printed
        """The one JSON value on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:  # noqa: ANN401 - a JSON object
        """The error that was told as JSON on stderr."""
        return json.loads(self.err)["error"]


Program = Callable[..., Ran]


def in_process(capsys: pytest.CaptureFixture[str]) -> Program:
    """Return what runs the program in this process, through its entry point."""

    def run(*arguments: str | os.PathLike[str]) -> Ran:
        capsys.readouterr()
        code = main([os.fspath(each) for each in arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


def command(*arguments: str | os.PathLike[str], options: tuple[str, ...] = ()) -> list[str]:
    """Return the command of a process that runs the program."""
    return [
        sys.executable,
        *options,
        "-m",
        "modeldrop_cli",
        *(os.fspath(each) for each in arguments),
    ]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of such a process."""
    path = os.pathsep.join([*SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])
    # Unbuffered output fails at other places than the output that people have.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "PYTHONPATH": path, **more}


def as_process(
    *arguments: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
) -> Ran:
    """Run the program as a process of its own, with `options` for Python."""
    done = subprocess.run(
        command(*arguments, options=options),
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
