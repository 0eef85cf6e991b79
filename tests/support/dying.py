"""A process that dies, played inside this one, and a disk that forgets what wasn't waited for.

`dying` has everything that changes a file system raise `Died` from a chosen call on: what is on
the disk then is what a process that was killed there leaves, and no handler for errors can tidy up.
What is in memory is for the test to throw away. `killing` does it for real.

`Disk` plays a loss of power: of a folder it knows what was waited for, and `lose` puts that back,
with whatever part of the rest luck has written.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modeldrop import batch, disk
from support.killing import interpose


class Died(BaseException):
    """A process that ends: no handler for errors gets to see it."""


class Mortal:
    """A process that dies, or has died."""

    def __init__(self, after: int | None, instead: Callable[[], object] | None) -> None:
        """See `dying`."""
        self._left = after
        self._instead = instead
        self.is_dead = False
        """Whether it came so far; some thread of it may have met that, and told nobody."""

    def step(self) -> None:
        """Be about to change a file system."""
        if self._left is None:
            return
        self._left -= 1
        if self._left >= 0:
            return
        if self._instead is None:
            self.is_dead = True
            raise Died
        self._left = None
        self._instead()


@contextlib.contextmanager
def dying(after: int | None, instead: Callable[[], object] | None = None) -> Iterator[Mortal]:
    """Have this process die before a call that changes a file system; 0 is the first one.

    None lets it live. `instead` is done once at that call, and the process lives.
    """
    mortal = Mortal(after, instead)
    with pytest.MonkeyPatch.context() as patch:
        if after is not None:
            interpose(mortal.step, patch.setattr)
        yield mortal


class Disk:
    """What of a folder lasts by now; everything that is in it when it is made does."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        """Have every wait for the disk noted here, for as long as `patch` holds."""
        self._root = root
        self._names: dict[int, dict[str, int]] = {}
        self._bytes: dict[int, bytes] = {}
        # Bytes that the kernel holds for written, and that a failed wait has lost.
        self._forgotten: dict[int, set[int]] = {}
        # Open, so that no other file gets its number.
        self._pinned: dict[int, int] = {}
        self._fails_in: int | None = None
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, self._wait)
        patch.setattr(disk, "sync_whole", self._wait_whole)
        # Not by how much the machine has to write, and what it has loaded: that differs each time.
        patch.setattr(batch, "go_together", lambda *_: False)
        for name in ("pwrite", "write"):
            patch.setattr(os, name, self._writing(getattr(os, name), at_offset=name == "pwrite"))
        self._note_all()

    @contextlib.contextmanager
    def failing(self, after: int | None) -> Iterator[None]:
        """Have the wait of this number fail; 0 is the next one, None is none of them."""
        self._fails_in = after
        try:
            yield
        finally:
            self._fails_in = None

    def close(self) -> None:
        """Let go of what is held open."""
        for fd in self._pinned.values():
            os.close(fd)
        self._pinned.clear()

    def lose(self, luck: random.Random) -> None:
        """Lose power: what was waited for is there, and of the rest what luck has written."""
        kept: dict[Path, bytes | None] = {}
        self._keep(self._root, self._root.stat().st_ino, luck, kept)
        for each in self._root.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        for path, data in kept.items():
            path.mkdir() if data is None else path.write_bytes(data)
        self.close()
        for known in (self._names, self._bytes, self._forgotten):
            known.clear()
        self._note_all()

    def _keep(
        self, folder: Path, number: int, luck: random.Random, kept: dict[Path, bytes | None]
    ) -> None:
        there = {each.name: each.stat().st_ino for each in folder.iterdir()}
        lasting = self._names.get(number, {})
        for name in sorted({*there, *lasting}):
            now, before = there.get(name), lasting.get(name)
            chosen = now if now == before or luck.random() < 0.5 else before
            if chosen is None:
                continue
            path = folder / name
            if chosen == now and path.is_dir():
                kept[path] = None
                self._keep(path, chosen, luck, kept)
            else:
                kept[path] = self._content(chosen, path if chosen == now else None, luck)

    def _content(self, number: int, path: Path | None, luck: random.Random) -> bytes:
        lasting = self._lasting(number)
        if path is not None:
            now = path.read_bytes()
        else:
            fd = self._pinned[number]
            now = os.pread(fd, os.fstat(fd).st_size, 0)
        if now == lasting:
            return now
        written = luck.randint(0, len(now))
        return luck.choice(
            [
                lasting,
                now,
                now[:written] + lasting[written:],
                now[:written] + lasting.ljust(len(now), b"\0")[written:],
            ]
        )

    def _lasting(self, number: int) -> bytes:
        return self._bytes.get(number, b"")

    def _wait(self, fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if self._root not in (path, *path.parents):
            return
        self._fail_if_told(fd)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self._note_names(path)
        else:
            self._note_bytes(Path(f"/proc/self/fd/{fd}"))

    def _wait_whole(self, fd: int) -> None:
        self._fail_if_told(fd)
        self._note_all()

    def _fail_if_told(self, fd: int) -> None:
        if self._fails_in is None:
            return
        self._fails_in -= 1
        if self._fails_in >= 0:
            return
        self._fails_in = None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            now = Path(f"/proc/self/fd/{fd}").read_bytes()
            lasting = self._lasting(status.st_ino)
            lost = {at for at, byte in enumerate(now) if lasting[at : at + 1] != bytes([byte])}
            self._forgotten[status.st_ino] = lost
            self._pin(Path(f"/proc/self/fd/{fd}"), status.st_ino)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _writing(self, real: Callable[..., int], *, at_offset: bool) -> Callable[..., int]:
        def write(fd: int, data: bytes | memoryview, *offset: int) -> int:
            number = os.fstat(fd).st_ino
            begins = 0
            if number in self._forgotten:
                begins = offset[0] if at_offset else os.lseek(fd, 0, os.SEEK_CUR)
            done = real(fd, data, *offset)
            if number in self._forgotten:
                self._forgotten[number] -= set(range(begins, begins + done))
            return done

        return write

    def _note_all(self) -> None:
        for folder, _, names in os.walk(self._root):
            self._note_names(Path(folder))
            for name in names:
                self._note_bytes(Path(folder, name))

    def _note_names(self, folder: Path) -> None:
        number = folder.stat().st_ino
        self._pin(folder, number)
        self._names[number] = {each.name: each.stat().st_ino for each in folder.iterdir()}
        for each in folder.iterdir():
            self._pin(each, each.stat().st_ino)

    def _note_bytes(self, path: Path) -> None:
        number = path.stat().st_ino
        self._pin(path, number)
        now, lasting = bytearray(path.read_bytes()), self._lasting(number)
        for at in self._forgotten.get(number, ()):
            if at < len(now):
                now[at] = lasting[at] if at < len(lasting) else 0
        self._bytes[number] = bytes(now)

    def _pin(self, path: Path, number: int) -> None:
        if number not in self._pinned:
            self._pinned[number] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
