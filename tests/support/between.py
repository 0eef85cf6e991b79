"""Another thread in the middle of what this one does: at the place where a lock keeps it out."""

from __future__ import annotations

import threading
from collections.abc import Callable

# With its lock the other thread waits for as long, and then until this one is done; without, it is
# done at once.
_MOMENT = 0.5
_TIMEOUT = 30.0


class Between:
    """Has another thread begin at a place, once, and gives it a moment there."""

    def __init__(self, work: Callable[[], object]) -> None:
        """Have it do `work`."""
        self._work = work
        self._thread: threading.Thread | None = None
        self.failed: list[BaseException] = []
        """What it ended by, if it failed."""

    def __call__(self) -> None:
        """Have it begin, if it hasn't yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run)
            self._thread.start()
            self._thread.join(_MOMENT)

    def end(self) -> None:
        """Wait for its end; it has begun by then."""
        assert self._thread is not None
        self._thread.join(_TIMEOUT)
        assert not self._thread.is_alive()
        assert self.failed == []

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self.failed.append(error)
