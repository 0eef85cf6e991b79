"""Collecting: a thread that has what may go collected, once a day, by a process of its own.

Purpose: nobody has to think of `modeldrop gc`, and nothing that a collection or the backend does or
fails to do there holds up the service. When it was done last is in `service/collected.json`, so
that a service that is often started again neither does it each time nor never.

Calling sequence: `begin` once the journal is the home's own; `stop` to begin nothing more, and to
end the process that runs; `close` waits for the thread.

What a crash leaves: some of it collected; the next service begins again.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

from modeldrop.errors import ModeldropError
from modeldrop.files import write_quick
from modeldrop.form import Record
from modeldrop.redaction import told
from modeldrop_daemon.collector import VERBOSE

_log = logging.getLogger(__name__)

_EVERY: Final = 86_400.0
# After the start, so that what a crash interrupted comes first; and not on every host at once.
_FIRST: Final = (60.0, 600.0)
# After a failure.
_AGAIN: Final = 3600.0
_END_TIME: Final = 1.0
# `-P`: whatever lies in the folder that the service was started in is not run.
_COLLECTOR: Final = (sys.executable, "-P", "-m", "modeldrop_daemon.collector")
# Whoever stops the service may have stopped that process a moment before.
_MOMENT: Final = 1.0


class _Last(Record):
    """`service/collected.json`: when it was done, in seconds since 1970."""

    kind: ClassVar[str] = "collected"
    at: int


class Collecting:
    """The thread of one service, and its process while that collects."""

    def __init__(self, root: Path, path: Path, secrets: Iterable[str] = ()) -> None:
        """Collect nothing yet in the home at `root`; `path` is where it is written down when.

        `secrets` are the names of environment variables that the process takes from the service
        manager itself: what it is given at its start is there to be seen in `/proc`.
        """
        self._root = root
        self._secrets = frozenset(secrets)
        self._path = path
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Collect once a day from now on."""
        self._thread = threading.Thread(target=self._work, name="collecting", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing any more, and end what runs."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                # As at a crash: the next one goes on.
                self._process.kill()

    def close(self) -> bool:
        """Stop, and return whether the thread has ended."""
        self.stop()
        if self._thread is None:
            return True
        self._thread.join(_END_TIME)
        return not self._thread.is_alive()

    def _work(self) -> None:
        pause = max(random.uniform(*_FIRST), self._left())  # noqa: S311 - jitter, no secret
        said = ""
        while not self._stopping.wait(pause):
            try:
                trouble = self._collect()
                if not trouble:
                    write_quick(self._path, _Last(int(time.time())).to_bytes())
            except Exception as error:  # noqa: BLE001 - a thread that died would collect nothing more
                trouble = told(error)
            if trouble and trouble != said and not self._stopping.wait(_MOMENT):
                _log.warning("what crashes left is not collected: %s", trouble)
            said, pause = trouble, _AGAIN if trouble else _EVERY

    def _collect(self) -> str:
        """Have it done by a process; return why it failed, empty if it didn't.

        The stdin of that is a pipe that says nothing, and ends with the service, however it ends.
        """
        verbose = [VERBOSE] if _log.isEnabledFor(logging.DEBUG) else []
        with self._lock:
            if self._stopping.is_set():
                return "the service ends"
            # Of a session of its own: Ctrl-C is for the service, which ends it then.
            self._process = subprocess.Popen(  # noqa: S603 - this program, and no shell
                [*_COLLECTOR, str(self._root), *verbose],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={name: os.environ[name] for name in os.environ.keys() - self._secrets},
                text=True,
                errors="replace",
                start_new_session=True,
            )
        with self._process as process:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            said = process.stdout.read()
        with self._lock:
            self._process = None
        if process.returncode == 0:
            return ""
        return said or f"the process that collects ended with {process.returncode}"

    def _left(self) -> float:
        """Return the seconds that are left of the day since the last time."""
        try:
            last = _Last.from_bytes(self._path.read_bytes(), str(self._path)).at
        except (OSError, ModeldropError):
            return 0.0
        since = time.time() - last
        # A clock that was set back makes it no younger than it is.
        return _EVERY - since if 0 <= since < _EVERY else 0.0
