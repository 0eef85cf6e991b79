"""What people ask of the service about one run: `retry` it now, or `ignore` it from now on.

A request is a file in `service/requests/` of the home, so that it needs no running service and
survives a crash. The service takes it within a second, otherwise the next scan or start does; it is
removed once the answer to it is on the disk.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from modeldrop.errors import IntegrityError
from modeldrop.files import TEMP_PREFIX, make_folders, write_durable
from modeldrop.form import Record, now
from modeldrop.home import Home
from modeldrop.layout import HomePaths

_log = logging.getLogger(__name__)

RETRY: Final = "retry"
IGNORE: Final = "ignore"

# No file system's clock that a home is on ticks more slowly, in nanoseconds.
_TICK: Final = 10**9


class RunRequest(Record):
    """`service/requests/<id>.json`: `action` is `retry` or `ignore`."""

    kind: ClassVar[str] = "run-request"
    action: str
    run: str
    asked_by: str
    asked_at: str


def ask(home: Home, action: str, run: str) -> None:
    """Put a request down, durably; `run` is a canonical GUID."""
    record = RunRequest(action, run, home.user, now())
    folder = home.paths.requests()
    make_folders(folder)
    write_durable(folder / f"{uuid.uuid4()}.json", record.to_bytes())


class Inbox:
    """The requests of a home, as the engine takes them."""

    def __init__(self, paths: HomePaths) -> None:
        """Look at nothing yet."""
        self._folder = paths.requests()
        self._seen: int | None = None

    def take(self, answer: Callable[[RunRequest], None]) -> None:
        """Have every new request answered, oldest first; without one it costs a stat.

        A request that can't be understood is dropped, and said.
        """
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            return
        if changed == self._seen:
            return
        # Before it is read: what comes in meanwhile changes the folder once more. Within one tick
        # of the file system's clock it can't be told, so what has just changed is read again.
        self._seen = changed if time.time_ns() - changed > _TICK else None
        found = [(path, _read(path)) for path in self._paths()]
        for path, request in sorted(found, key=lambda each: each[1].asked_at if each[1] else ""):
            if request is not None:
                answer(request)
            with contextlib.suppress(OSError):
                path.unlink()

    def _paths(self) -> list[Path]:
        try:
            return [
                each for each in self._folder.iterdir() if not each.name.startswith(TEMP_PREFIX)
            ]
        except OSError:
            return []


def _read(path: Path) -> RunRequest | None:
    try:
        return RunRequest.from_bytes(path.read_bytes(), str(path))
    except (OSError, IntegrityError) as error:
        _log.warning("a request can't be understood, and is dropped: %s", error)
        return None
