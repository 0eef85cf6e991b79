"""What processes that wait for a lock ask of the one that holds it.

Purpose: whoever holds a lock does what others wait to do, as a group, at the price of one.

Calling sequence: who finds the lock held writes down what it wants with `join`, and waits for
either of two: an `answer`, or the lock. Who gets the lock goes through `others`, does what they
want as far as it can, and says so by `tell`. What isn't answered its owner does itself. At last
each one calls `leave`.

On disk: `errands/<experiment>/<request>` of the home, two lines, the second one the answer. None of
it lasts, nor needs to: what was done is told by what it is about. The owner keeps the file locked,
flock(2), so that nobody does what a process wanted that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Errand:
    """What one waiting process wants, in its own hands or in those of the lock's holder."""

    def __init__(self, path: str, fd: int, wanted: bytes) -> None:
        """Stand for an open file."""
        self._path = path
        self._fd = fd
        self.wanted = wanted
        """What it wants, a line."""

    def answer(self) -> bytes | None:
        """Return what the holder said, or None as long as that is nothing."""
        said = os.pread(self._fd, 64, len(self.wanted))
        return said[:-1] if said.endswith(b"\n") else None

    def tell(self, answer: bytes) -> None:
        """Say what became of it, in one short line without its end."""
        # Who can't be told does it again, and finds it done.
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, answer + b"\n", len(self.wanted))

    def leave(self) -> None:
        """Want it no more, whether it is done or not."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        os.close(self._fd)

    def close(self) -> None:
        """Let go of it, for its holder."""
        os.close(self._fd)


class Errands:
    """The errands of those who wait for one lock."""

    def __init__(self, folder: str) -> None:
        """Keep them in a folder, which is made when it is needed."""
        self._folder = folder

    def join(self, request: str, wanted: bytes) -> Errand:
        """Ask the holder for something, by one line.

        Raises:
            OSError: it can't be written down.
        """
        path = os.path.join(self._folder, request)
        try:
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
        mine = Errand(path, fd, wanted)
        try:
            # Before it is written: what can be read is wanted by somebody who lives.
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.pwrite(fd, wanted, 0)
        except BaseException:
            mine.leave()
            raise
        return mine

    @contextlib.contextmanager
    def others(self, mine: str) -> Iterator[list[Errand]]:
        """Open what all but one's own request want, for the holder of the lock.

        What the dead left is removed.
        """
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            names = []
        with contextlib.ExitStack() as stack:
            found = []
            for name in sorted(names):
                errand = self._open(name) if name != mine else None
                if errand is not None:
                    stack.callback(errand.close)
                    found.append(errand)
            yield found

    def _open(self, name: str) -> Errand | None:
        path = os.path.join(self._folder, name)
        try:
            fd = os.open(path, _FLAGS)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            wanted, end, said = os.pread(fd, 1 << 16, 0).partition(b"\n")
            if end and not said:
                return Errand(path, fd, wanted + end)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        os.close(fd)
        return None
