"""A process that tries faults: all of the program is loaded in it, and nothing of it used.

So a case, in a process forked from it, costs some milliseconds where a new one costs a hundred.
`Forge` starts it and asks; `main` answers, by the methods of `Cases`. Requests and answers are
lines of JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final, Self

from modeldrop import batch
from support import faultstore, forked, mounts
from support.faultcases import Cases, Tally
from support.program import SOURCES

_MOUNTED: Final = "mounted"


class Forge:
    """The process, asked by tests; use it in a `with` statement."""

    def __init__(self, *, mounted: bool = False) -> None:
        """Start it; `mounted` has its store on a file system of its own."""
        # In memory, where there is a folder for that: what a lost sync does isn't asked here.
        memory = "/dev/shm"  # noqa: S108 - a new folder in it
        self._folder = Path(
            tempfile.mkdtemp(prefix="faults-", dir=memory if os.access(memory, os.W_OK) else None)
        )
        # What is killed leaves no data of coverage, and what has no room no whole one. Settings of
        # whoever tests are none of the store's.
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COVERAGE_", "MODELDROP_"))
        }
        path = os.pathsep.join([*SOURCES, str(Path(__file__).parents[1])])
        how = [_MOUNTED] if mounted else []
        self._process = subprocess.Popen(
            [
                *(mounts.command() if mounted else []),
                *(sys.executable, "-m", "support.faultforge", str(self._folder), *how),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**inherited, "PYTHONPATH": path, "HOME": str(self._folder)},
        )

    def ask(self, what: str, *of: object) -> Any:  # noqa: ANN401 - whatever JSON can say
        """Return what a method of its `Cases` returns.

        Raises:
            AssertionError: it raised; the message is its trace.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, of]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that tries faults has ended"
        told = json.loads(answer)
        assert "error" not in told, told["error"]
        return told["answer"]

    def tally(self, what: str, *of: object) -> Tally:
        """Return the tally that a method of its `Cases` returns."""
        told = self.ask(what, *of)
        return Tally(Counter(told["cases"]), Counter(told["failed"]), told["told"])

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and remove its store."""
        self._process.communicate(timeout=60)
        shutil.rmtree(self._folder, ignore_errors=True)


def main(folder: str, how: str = "") -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    # What is printed by chance is no answer.
    os.dup2(2, 1)
    root = Path(folder) / "store"
    root.mkdir()
    if how == _MOUNTED:
        mounts.mount_memory(root)
    # Whether files wait for the disk together depends on what else the machine has to write, and
    # what is tried at each call is to be the same each time.
    batch.go_together = lambda *_: False
    cases = Cases(root)
    _load(cases)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        what, of = json.loads(line)
        try:
            answer = getattr(cases, what)(*of)
            told = {"answer": vars(answer) if isinstance(answer, Tally) else answer}
        except Exception:  # noqa: BLE001 - told to whoever asked
            told = {"error": traceback.format_exc()}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


def _load(cases: Cases) -> None:
    """Import what operations import when they are done, which each child would do anew."""
    for operation in faultstore.OPERATIONS:

        def names(operation: str = operation) -> int:
            faultstore.begin(cases.store, operation)
            list(faultstore.judge(cases.store, operation, acknowledged=False, said=""))
            print(json.dumps(sorted(sys.modules)))
            return 0

        ended = forked.run(names)
        assert ended.code == 0, ended.err
        for name in json.loads(ended.out.splitlines()[-1]):
            if name != "__main__":
                importlib.import_module(name)
        cases.snapshot.restore()


if __name__ == "__main__":
    main(*sys.argv[1:])
