"""Workers: each a process that does a peer's work when it is asked to (`bench.workers.talking`)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from bench.copies import copy_as_another, is_copy
from bench.peers import Peer

_TESTS: Final = Path(__file__).parents[1]
# What makes programs greet, report home, or read what a person has set up.
_QUIET: Final = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@example.org",
    "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@example.org",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "BENTOML_DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "LOGNAME": "bench",
    "USER": "bench",
}


@dataclass(frozen=True)
class Told:
    """What a worker answered: how long it took, and what came of it."""

    seconds: float
    what: Any


def environment(folder: Path) -> dict[str, str]:
    """Return what a peer is run with: nothing of who measures, and a home in the folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MODELDROP_", "GIT_", "MLFLOW_", "DVC_", "BENTOML_", "PYTHON"))
    }
    own = {
        "HOME": str(folder),
        "BENTOML_HOME": str(folder / "bentoml"),
        "DVC_SITE_CACHE_DIR": str(folder / "dvc-site"),
        "PYTHONPATH": str(_TESTS),
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **_QUIET, **own, "PATH": path}


class Worker:
    """One process that works for a peer in a folder. Use it in a `with` statement."""

    def __init__(self, peer: Peer, folder: Path, number: int = 0) -> None:
        """Start it; it is ready when the first answer comes."""
        module, *how = peer.program
        self.peer = peer
        self.folder = folder
        folder.joinpath("in").mkdir(parents=True, exist_ok=True)
        self._log = folder / f"log-{number}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [peer.python, "-m", f"bench.workers.{module}", str(folder), str(number), *how],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        if self._line() != "ready":
            raise RuntimeError(f"{self.peer.name} talks when it isn't asked")
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def ask(self, task: str, *arguments: object) -> None:
        """Have it begin something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([task, *arguments]) + "\n")
        self._process.stdin.flush()

    def told(self) -> Told:
        """Wait for its answer.

        Raises:
            RuntimeError: it failed; its log says how.
        """
        answer = self._line()
        return Told(answer["seconds"], answer["told"])

    def does(self, task: str, *arguments: object) -> Told:
        """Have it do something, and wait for the answer."""
        self.ask(task, *arguments)
        return self.told()

    def stores(self, source: Path) -> float:
        """Have it store a file of other bytes than any before; return the seconds.

        That its bytes have landed is checked, and what is large is removed again.
        """
        path = self.folder / "in" / f"{uuid.uuid4().hex}.bin"
        mark = copy_as_another(source, path)
        told = self.does("store", str(path))
        (where,) = self.folder.glob(told.what)
        if not is_copy(where, source, mark):
            raise RuntimeError(f"{self.peer.name} has stored other bytes")
        self._forget(source.stat().st_size)
        return told.seconds

    def runs(self, count: int, size: int) -> float:
        """Have it store and register so many small runs; return the seconds for all of them."""
        paths = [self.folder / "in" / f"{uuid.uuid4().hex}.bin" for _ in range(count)]
        for path in paths:
            path.write_bytes(os.urandom(size))
        return self.does("run", list(map(str, paths))).seconds

    def _forget(self, size: int) -> None:
        """Remove files of a large size; removing many small ones slows the next ones down."""
        if size < 2**20:
            return
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                if path.is_symlink() or path.stat().st_size != size:
                    continue
                # git-annex takes the right to write from its folders.
                path.parent.chmod(0o755)
                path.unlink()

    def _line(self) -> Any:  # noqa: ANN401 - whatever JSON it says
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = self._log.read_text()[-2000:]
            raise RuntimeError(f"{self.peer.name} has failed:\n{said}")
        return json.loads(line)


@contextlib.contextmanager
def working(peers: Sequence[Peer], folder: Path) -> Iterator[dict[str, Worker]]:
    """Yield a worker of each peer, each in a folder of its own with a store that was begun."""
    with contextlib.ExitStack() as stack:
        started = [Worker(peer, folder / peer.key) for peer in peers]
        workers = {each.peer.key: stack.enter_context(each) for each in started}
        for worker in workers.values():
            worker.does("begin")
        yield workers
