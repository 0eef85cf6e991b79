"""Durable writes that wait for the disk together.

Purpose: what belongs to many small runs is written at the price of one. A file by itself waits
twice, for its bytes and for its name. A batch waits twice as well, however many files it has.

Calling sequence: `create` and `replace` put each file down under a temporary name, `extend` writes
to one that has its name; `finish` waits for all the bytes, gives the names in the order of the
calls, and waits for all the names. Where another file follows whose name is to come after those,
`give_names` leaves the last wait to that one's first. `close` drops what has no name yet. For one
thread.

What readers see: nothing before `finish`, then one whole file after the other. What a crash
leaves: temporary files, and any number of whole files, the earlier ones before the later ones
only as far as this process came. So what gets its name together may not refer to each other.

When the disk fails, `finish` raises: some files may have their names, and which of them last is
unknown. As after any failed sync nothing is tried again with them: their readers are told by a
record that is written later, or look for themselves.

Several files on one file system wait by a single call for all of it, `syncfs`. That also waits
for what other programs have written there. So where much of that is under way, and where the file
system or the kernel can't be relied on for it, each file is waited for alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Collection, Sequence
from typing import Final, Self

from modeldrop import files

# How many are waited for by one call. One call for two costs as much as one for each.
_MANY: Final = 3
# How many bytes of anybody's a wait may take along for each file or folder that is waited for: to
# wait for that one alone takes about as long as to write so much.
_MOST_UNWRITTEN: Final = 2**20
# For how many seconds it is good enough to know how much there is; the kernel adds it up.
_KNOWN_FOR: Final = 0.2
_UNWRITTEN: Final = (b"Dirty:", b"Writeback:")


class Pending:
    """A file that gets its name when its batch is finished."""

    __slots__ = ("created", "exclusive", "path", "temp")

    def __init__(self, path: str, temp: str, *, exclusive: bool) -> None:
        """Be written under a temporary name."""
        self.path = path
        self.temp = temp
        self.exclusive = exclusive
        self.created = False
        """Whether the batch gave it its name; a file that had that already is left as it was."""


class Batch:
    """Files that are written together; may be filled and finished again and again."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pending: list[Pending] = []
        self._extended: list[tuple[int, int]] = []
        self._folders: dict[str, int] = {}
        self._names: list[tuple[int, str | int]] = []
        self._disks: dict[int, int] = {}
        # One name for all: to ask for another costs as much as to make a file.
        self._name = secrets.token_hex(8)
        self._count = 0

    def create(self, path: str, data: bytes, mode: int = 0o644) -> Pending:
        """Have a file created with `data` if it is absent then.

        Raises:
            FileNotFoundError: its folder is missing.
        """
        return self._add(path, data, mode, exclusive=True)

    def replace(self, path: str, data: bytes, mode: int = 0o644) -> Pending:
        """Have a file replaced by `data`; readers see the old file or the new one."""
        return self._add(path, data, mode, exclusive=False)

    def extend(self, fd: int, data: bytes, offset: int) -> None:
        """Write to an open file at an offset, and have that waited for before a name is given.

        The caller keeps the file open, and opened it before it wrote what is relied on.

        Raises:
            OSError: not all of it was written.
        """
        device = os.fstat(fd).st_dev
        if device not in self._disks:
            self._disks[device] = os.dup(fd)
        files.write_at(fd, data, offset)
        self._extended.append((device, fd))

    def folder(self, path: str) -> None:
        """Have a folder's entries waited for as well: of one that was made on the way to a file."""
        if path not in self._folders:
            self._folders[path] = self._disk_of(path)

    def give_names(self) -> None:
        """Make the bytes of every file last, and give the names, which don't last yet.

        They do once the next names are given, or the batch is finished: to wait for them then
        costs nothing more.

        Raises:
            As `finish` does.
        """
        unsynced: list[tuple[int, str | int]] = [*self._names, *self._extended]
        folders = self._folders
        unsynced += [(folders[os.path.dirname(each.path)], each.temp) for each in self._pending]
        self._wait(unsynced)
        self._names = [(device, folder) for folder, device in folders.items()]
        self._folders = {}
        while self._pending:
            _give_name(self._pending[0])
            del self._pending[0]
        self._extended = []

    def finish(self) -> None:
        """Make every file of the batch last, whole and under its name; the batch is empty then.

        Raises:
            NoExclusiveCreate: the file system can't create a file only if it is absent.
            OSError: the disk failed, or a folder is gone; some files may have their names.
        """
        self.give_names()
        self._wait(self._names)
        self._names = []

    def drop(self, unwanted: Collection[Pending]) -> None:
        """Leave files out again that have no name yet."""
        for each in unwanted:
            _remove(each)
        self._pending = [each for each in self._pending if each not in unwanted]

    def keep_names(self) -> None:
        """Wait for the names that were given, and for the folders that were made, after a failure.

        For those who go on by themselves with what the batch has left.

        Raises:
            OSError: whether they last is unknown.
        """
        folders = [(device, folder) for folder, device in self._folders.items()]
        self._wait([*self._names, *folders])

    def close(self) -> None:
        """Drop what has no name yet."""
        for each in self._pending:
            _remove(each)
        for disk in self._disks.values():
            os.close(disk)
        self._disks.clear()
        self._pending, self._extended, self._folders, self._names = [], [], {}, []

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _add(self, path: str, data: bytes, mode: int, *, exclusive: bool) -> Pending:
        folder = os.path.dirname(path)
        self.folder(folder)
        self._count += 1
        temp = f"{folder}/{files.TEMP_PREFIX}{self._name}-{self._count}"
        pending = Pending(path, temp, exclusive=exclusive)
        try:
            files.write_temp(temp, data, mode, sync=False)
        except BaseException:
            _remove(pending)
            raise
        self._pending.append(pending)
        return pending

    def _disk_of(self, folder: str) -> int:
        """Return the device of a folder; from now on it is told which writes to it fail."""
        device = os.stat(folder).st_dev
        if device not in self._disks:
            self._disks[device] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return device

    def _wait(self, unsynced: Sequence[tuple[int, str | int]]) -> None:
        """Wait until files and folders are on the disk: each by its device, and its path or fd."""
        for device, disk in self._disks.items():
            mine = [each for its, each in unsynced if its == device]
            if go_together(disk, len(mine)):
                files.sync_whole(disk)
                continue
            for each in mine:
                if isinstance(each, int):
                    files.sync_data(each)
                else:
                    files.sync_path(each)


def go_together(disk: int, count: int) -> bool:
    """Return whether so many files and folders of one file system are waited for by one call."""
    if count < _MANY or _unwritten() > count * _MOST_UNWRITTEN:
        return False
    # Asked last: it loads a library.
    return files.syncs_whole(disk)


def _remove(pending: Pending) -> None:
    with contextlib.suppress(OSError):
        os.unlink(pending.temp)


def _give_name(pending: Pending) -> None:
    if pending.exclusive:
        pending.created = files.link_if_absent(pending.temp, pending.path)
        # It is gone where there are no hard links.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pending.temp)
    else:
        files.give_name(pending.temp, pending.path)
        pending.created = True


_unwritten_at: tuple[float, int] = (float("-inf"), 0)


def _unwritten() -> int:
    """Return how many bytes this machine has yet to write to its disks, whoever wrote them."""
    global _unwritten_at  # noqa: PLW0603 - one machine
    when, size = _unwritten_at
    now = time.monotonic()
    if now - when > _KNOWN_FOR:
        size = _read_unwritten()
        _unwritten_at = now, size
    return size


def _read_unwritten() -> int:
    try:
        fd = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # Who can't tell waits for its own files alone.
        return sys.maxsize
    try:
        lines = os.read(fd, 1 << 14).splitlines()
    finally:
        os.close(fd)
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(_UNWRITTEN))
