"""What processes that wait for a lock ask of the one that holds it.

Purpose: whoever holds a lock does what others wait to do, as a group, at the price of one.

Calling sequence: a `Handover` is `served` by whoever holds the lock, or gets the lock. Who has the
lock goes through `others`, does what they want as far as it can, and says so by `tell`; once the
lock is free it wakes all of them by `wake`. What isn't answered its owner does itself. Then that
calls `rest`, or `drop` where the holder may be at it still.

On disk: a file in `errands/<experiment>/` of the home, which begins with a line, what is wanted,
and then the answer, a short line as well; zeros stand for neither. Beside it is a FIFO, its bell:
its owner sleeps until somebody writes to it, since to look again and again costs more than all
else that an owner does. The owner uses both again and again: to make and remove a file costs as
much as what is wanted. None of it lasts, nor needs to: what was done is told by what it is about.
The owner keeps the file locked, flock(2), so that nobody does what a process wanted that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import select
import time
from collections.abc import Callable, Iterator
from typing import Final

_log = logging.getLogger(__name__)

_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# As long as an answer may be, with its end.
_ANSWER: Final = 32
# More than any line is.
_MOST: Final = 1 << 16
_BELL: Final = ".bell"
# For how long an owner sleeps if nobody rings: the holder may have died, or know of no errands.
_PATIENCE: Final = 0.02
# In which who was told is back: a twentieth of what a group takes, and a third more go with it.
_MOMENT: Final = 0.0005


class Errand:
    """What one waiting process wants, in its own hands or in those of the lock's holder."""

    def __init__(self, path: str, fd: int, wanted: bytes = b"") -> None:
        """Stand for an open file."""
        self._path = path
        self._fd = fd
        self._bell = -1
        self.wanted = wanted
        """What it wants, a line."""

    @property
    def bell(self) -> str:
        """What to ring so that its owner looks at it."""
        return self._path + _BELL

    def hang_bell(self) -> None:
        """Be woken from now on; for its owner.

        Raises:
            OSError: there can be no such file.
        """
        os.mkfifo(self.bell)
        # To write as well: who only reads is told all the time that nobody writes any more.
        self._bell = os.open(self.bell, _FLAGS)

    def wait(self) -> None:
        """Sleep until somebody rings, but not for long; for its owner."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if poll.poll(_PATIENCE * 1000):
            os.read(self._bell, _MOST)

    def want(self, wanted: bytes) -> None:
        """Want something, by one line; for its owner."""
        self.wanted = wanted
        os.pwrite(self._fd, wanted + bytes(_ANSWER), 0)

    def want_nothing(self) -> None:
        """Want nothing any more; for its owner."""
        os.pwrite(self._fd, b"\0", 0)

    def answer(self) -> bytes | None:
        """Return what the holder said, or None as long as that is nothing."""
        said, end, _ = os.pread(self._fd, _ANSWER, len(self.wanted)).partition(b"\n")
        return said if end else None

    def tell(self, answer: bytes) -> None:
        """Say what became of it, in less than 32 bytes."""
        # Who can't be told does it again, and finds it done.
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, answer + b"\n", len(self.wanted))

    def remove(self) -> None:
        """Leave nothing of it; for its owner."""
        _unlink(self._path)
        os.close(self._fd)
        if self._bell >= 0:
            os.close(self._bell)

    def close(self) -> None:
        """Let go of it, for its holder."""
        os.close(self._fd)


class Errands:
    """The errands of those who wait for one lock; threads may share them."""

    def __init__(self, folder: str) -> None:
        """Keep them in a folder, which is made when it is needed."""
        self._folder = folder
        self._resting: list[Errand] = []
        self._has_company = False

    def join(self, wanted: bytes) -> Errand:
        """Ask the holder for something, by one line.

        Raises:
            OSError: it can't be written down.
        """
        self._has_company = True
        # By one call: another thread may take the last one right after a look.
        try:
            mine = self._resting.pop()
        except IndexError:
            mine = self._new()
        try:
            mine.want(wanted)
        except BaseException:
            mine.remove()
            raise
        return mine

    def _new(self) -> Errand:
        path = os.path.join(self._folder, secrets.token_hex(8))
        try:
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
        mine = Errand(path, fd)
        try:
            # Before it is written: what can be read is wanted by somebody who lives.
            fcntl.flock(fd, fcntl.LOCK_EX)
            mine.hang_bell()
        except BaseException:
            mine.remove()
            raise
        return mine

    def rest(self, mine: Errand) -> None:
        """Want nothing for now: it was answered, or the lock is one's own."""
        mine.want_nothing()
        self._resting.append(mine)

    def drop(self, mine: Errand) -> None:
        """Want it no more, though the holder may be about to do it."""
        mine.remove()

    def close(self) -> None:
        """Leave none of those that rest."""
        while self._resting:
            self._resting.pop().remove()

    @contextlib.contextmanager
    def others(self) -> Iterator[list[Errand]]:
        """Open what is wanted and not answered, for the holder of the lock, who wants nothing.

        What the dead left is removed. Where there were some the last time, it waits a moment for
        those who were told then to be back.
        """
        if self._has_company:
            time.sleep(_MOMENT)
        with contextlib.ExitStack() as stack:
            found = []
            for name in sorted(self._names()):
                errand = None if name.endswith(_BELL) else self._open(name)
                if errand is not None:
                    stack.callback(errand.close)
                    found.append(errand)
            self._has_company = bool(found)
            yield found

    def wake(self) -> None:
        """Have all look what they were told, and whether the lock is free; for who held it."""
        for name in self._names():
            if name.endswith(_BELL):
                _ring(os.path.join(self._folder, name))

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder)
        except FileNotFoundError:
            return []

    def _open(self, name: str) -> Errand | None:
        path = os.path.join(self._folder, name)
        try:
            fd = os.open(path, _FLAGS)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            wanted, end, rest = os.pread(fd, _MOST, 0).partition(b"\n")
            if end and not wanted.startswith(b"\0") and not rest[:1].strip(b"\0"):
                return Errand(path, fd, wanted + end)
        else:
            _unlink(path)
        os.close(fd)
        return None


def _ring(bell: str) -> None:
    # Who can't be woken looks by itself before long.
    with contextlib.suppress(OSError):
        fd = os.open(bell, _FLAGS & ~os.O_RDWR | os.O_WRONLY)
        try:
            os.write(fd, b"\n")
        finally:
            os.close(fd)


def _unlink(path: str) -> None:
    # The bell first: one without an errand would stay for ever.
    for each in (path + _BELL, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(each)


class Handover:
    """What one caller wants of the lock's holder, if it finds the lock held."""

    def __init__(self, errands: Errands, wanted: Callable[[], bytes]) -> None:
        """Ask `wanted` for the line when it is needed; what it raises, `served` does."""
        self._errands = errands
        self._wanted = wanted
        self._tried = False
        self._errand: Errand | None = None

    def served(self) -> bool:
        """Hand it over, the first time; return whether it is answered."""
        if not self._tried:
            self._tried = True
            wanted = self._wanted()
            try:
                self._errand = self._errands.join(wanted)
            except OSError as error:
                # It waits for its own turn then.
                _log.info("an errand can't be written down: %s", error)
        return self.answer() is not None

    def wait(self, seconds: float) -> None:
        """Wait for the holder, or for so long where it knows nothing of this."""
        if self._errand:
            self._errand.wait()
        else:
            time.sleep(seconds)

    def answer(self) -> bytes | None:
        """Return what the holder said, or None as long as that is nothing."""
        return self._errand.answer() if self._errand else None

    def rest(self) -> None:
        """Want nothing any more: it was answered, or the lock is one's own."""
        if self._errand:
            self._errands.rest(self._errand)
            self._errand = None

    def drop(self) -> None:
        """Want it no more, unless it rests, though the holder may be about to do it."""
        if self._errand:
            self._errands.drop(self._errand)
            self._errand = None
