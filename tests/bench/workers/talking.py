"""A worker does a peer's work when it is told to, and says how long that took.

It is run by whatever Python the peer is installed in, and so needs nothing but what comes with
Python. It reads a line of JSON, the name of a method of its `Work` and the arguments, and writes
one: `{"seconds": …, "told": …}`. What a peer prints goes to standard error. So ours and all peers
are warm, each operation can be measured in turn with those of the others, and nobody pays for
another's start.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Work:
    """What a worker can be asked to do; a peer has those methods that it can do something for."""

    def __init__(self, folder: Path, number: int) -> None:
        """Work in a folder that several workers may share, as the one with this number."""
        self.folder = folder
        self.number = number

    def version(self) -> str:
        """Return the version of what is measured."""
        raise NotImplementedError

    def begin(self) -> None:
        """Make the store or the registry; only one worker of a folder is asked to."""

    def store(self, path: str) -> str:
        """Keep a copy of a file in `in/`; return where, by a pattern below the folder."""
        raise NotImplementedError

    def run(self, paths: list[str]) -> None:
        """Store each file as a run of its own and register it, one after another."""
        raise NotImplementedError

    def register(self, count: int) -> dict[str, Any]:
        """Register so many versions of one model; return their numbers, and how many calls failed.

        Those whose answer has no number are numbered by what tells them apart.
        """
        raise NotImplementedError

    def peak(self) -> int:
        """Return the most bytes of memory that this process, or a program it started, has had."""
        status = Path("/proc/self/status").read_text()
        (own,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return 1024 * max(int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def called(*words: str, folder: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end; return what it printed."""
    done = subprocess.run(
        words,
        cwd=folder,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} exited {done.returncode}: {done.stderr}")
    return done.stdout.strip()


def answer(work: type[Work]) -> None:
    """Do what standard input says, until it ends; the arguments are the folder and the number."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    doing = work(Path(sys.argv[1]), int(sys.argv[2]))

    def say(what: object) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    say("ready")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        began = time.perf_counter()
        told = getattr(doing, name)(*arguments)
        say({"seconds": time.perf_counter() - began, "told": told})
