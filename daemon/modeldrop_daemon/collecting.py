"""Collecting: a thread that has what may go collected, once a day.

Purpose: nobody has to think of `modeldrop gc`, and nothing that the backend does or fails to do
there holds up the service. When it was done last is in `service/collected.json`, so that a service
that is often started again neither does it each time nor never.

Calling sequence: `begin` once the journal is the home's own; `close` waits for no request.

What a crash leaves: some of it collected; the next service begins again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Final

from modeldrop.errors import ModeldropError
from modeldrop.files import write_quick
from modeldrop.form import Record
from modeldrop.gc import FILE, MARK, UPLOAD, Collected
from modeldrop.redaction import told

_log = logging.getLogger(__name__)

_EVERY: Final = 86_400.0
# After the start, so that what a crash interrupted comes first; and not on every host at once.
_FIRST: Final = (60.0, 600.0)
# After a failure.
_AGAIN: Final = 3600.0
_END_TIME: Final = 1.0


class _Last(Record):
    """`service/collected.json`: when it was done, in seconds since 1970."""

    kind: ClassVar[str] = "collected"
    at: int


class Collecting:
    """The thread of one service."""

    def __init__(self, path: Path) -> None:
        """Collect nothing yet; `path` is where it is written down when it was done."""
        self._path = path
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, collect: Callable[[], Sequence[Collected]]) -> None:
        """Call this once a day from now on."""
        self._thread = threading.Thread(
            target=self._work, args=(collect,), name="collecting", daemon=True
        )
        self._thread.start()

    def close(self) -> bool:
        """Begin nothing any more; return whether the thread has ended."""
        self._stopping.set()
        if self._thread is None:
            return True
        self._thread.join(_END_TIME)
        return not self._thread.is_alive()

    def _work(self, collect: Callable[[], Sequence[Collected]]) -> None:
        pause = max(random.uniform(*_FIRST), self._left())  # noqa: S311 - jitter, no secret
        said = ""
        while not self._stopping.wait(pause):
            try:
                self._tell(collect())
                write_quick(self._path, _Last(int(time.time())).to_bytes())
            except Exception as error:  # noqa: BLE001 - a thread that died would collect nothing more
                if told(error) != said and not self._stopping.is_set():
                    _log.warning("what crashes left is not collected: %s", told(error))
                said, pause = told(error), _AGAIN
            else:
                said, pause = "", _EVERY

    def _left(self) -> float:
        """Return the seconds that are left of the day since the last time."""
        try:
            last = _Last.from_bytes(self._path.read_bytes(), str(self._path)).at
        except (OSError, ModeldropError):
            return 0.0
        since = time.time() - last
        # A clock that was set back makes it no younger than it is.
        return _EVERY - since if 0 <= since < _EVERY else 0.0

    @staticmethod
    def _tell(found: Sequence[Collected]) -> None:
        for each in found:
            if each.trouble:
                _log.warning("%s stays: %s", each.where, each.trouble)
            elif each.kind in {UPLOAD, FILE}:
                _log.info("collected the unfinished %s %s", each.kind, each.where)
            else:
                what = "marked, to be collected:" if each.kind == MARK else "collected"
                _log.info("%s %s", what, each.where)
