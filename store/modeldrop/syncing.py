"""A disk that is kept at it while much is written, so that little is left to wait for at the end.

That bytes are on their way (`disk.send_off`) has a disk with a cache of its own, as a virtual
machine is given one, take them, and write them down only once somebody waits. So a thread waits
while the next ones are written: of what comes as fast as the disk writes, a tenth is left then.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Final, Self

from modeldrop import disk

# So many bytes are written between two waits, each of which costs the file system an entry in its
# own journal.
_APART: Final = 16 * 2**20


class Syncing:
    """An open file, or the whole file system that it is on, waited for while it is written.

    with Syncing(fd) as syncing:
        syncing.wrote(os.write(fd, data))
        syncing.finish()
    """

    def __init__(self, fd: int, *, whole: bool = False) -> None:
        """Wait for nothing yet; the file stays open for as long as the context does.

        `whole` is all of its file system, as `disk.sync_whole` says.
        """
        self._fd = fd
        self._whole = whole
        self._news = threading.Condition()
        self._unsynced = 0
        self._is_over = False
        self._failed: OSError | None = None
        self._thread: threading.Thread | None = None

    def wrote(self, size: int) -> None:
        """Take note that so many bytes more were written; may be called from several threads."""
        with self._news:
            self._unsynced += size
            if self._unsynced < _APART or self._is_over:
                return
            if self._thread is None:
                self._begin()
            self._news.notify()

    def finish(self) -> None:
        """Return once all that was written is on the disk.

        Raises:
            OSError: how much is on the disk is unknown, also where the next sync finds no fault: an
                error is told once.
        """
        self.end()
        if self._failed is not None:
            raise self._failed
        if self._whole:
            disk.sync_whole(self._fd)
        else:
            disk.sync_file(self._fd)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the file."""
        self.end()

    def end(self) -> None:
        """Let go of the file; nothing is waited for any more."""
        with self._news:
            self._is_over = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join()

    def _begin(self) -> None:
        # Whoever forgets one holds up nothing: a process that ends doesn't wait for it.
        thread = threading.Thread(target=self._work, name="sync", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # A process that gets no more threads waits for all of it at the end.
            self._is_over = True
        else:
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._news:
                while self._unsynced < _APART and not self._is_over:
                    self._news.wait()
                if self._is_over:
                    return
                self._unsynced = 0
            try:
                if self._whole:
                    disk.sync_whole(self._fd)
                else:
                    disk.sync_data(self._fd)
            except OSError as failed:
                self._failed = failed
                return
