"""Tools of Debian's: the machine's, or what `make test-faults` has put into `.venv/debian`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_OURS: Final = Path(__file__).parents[2] / ".venv" / "debian" / "usr"
_ARCHITECTURE: Final = f"{os.uname().machine}-linux-gnu"


def program(name: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(name) or shutil.which(name, path=str(_OURS / "bin"))


def library(name: str) -> Path | None:
    """Return the path of a library, by its own below the folder of libraries; or None."""
    folders = [Path("/usr") / "lib" / _ARCHITECTURE, _OURS / "lib" / _ARCHITECTURE]
    return next((each for folder in folders if (each := folder / name).exists()), None)


def start(program: str) -> list[str]:
    """Return what a program is started by: one that was fetched finds its libraries beside it."""
    if not program.startswith(str(_OURS)):
        return [program]
    return ["env", f"LD_LIBRARY_PATH={_OURS / 'lib' / _ARCHITECTURE}", program]


def trouble(command: list[str]) -> str:
    """Return why a command doesn't do what it should, if so."""
    tried = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return f"{command[0]}: {tried.stderr.strip()}" if tried.returncode else ""
