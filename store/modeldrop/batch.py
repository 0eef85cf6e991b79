"""Durable writes that wait for the disk together.

Purpose: what belongs to many small runs is written at the price of one. A file by itself waits
twice, for its bytes and for its name. A batch waits twice as well, however many files it has.

Calling sequence: `create` and `replace` put each file down under a temporary name, `extend` writes
to one that has its name, and `write` to a new one that may be torn; `finish` waits for all the
bytes, gives the names in the order of the calls, and waits for all the names. Where a name is to
come after others last, `give_names` gives those, `sync` waits for them, and `finish` gives the
rest. `close` drops what has no name yet, and what was written and not waited for. For one thread.

What readers see: of what has a temporary name, nothing before `finish`, then one whole file after
the other. What a crash leaves: temporary files, any part of what was written, and any number of
whole files, the earlier ones before the later ones only as far as this process came. So what gets
its name together may not refer to each other.

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
    """A file that gets its name, or lasts under it, with its batch."""

    __slots__ = ("created", "exclusive", "lasts", "path", "temp")

    def __init__(self, path: str, temp: str, *, exclusive: bool) -> None:
        """Be written under a temporary name, or under its own."""
        self.path = path
        self.temp = temp
        self.exclusive = exclusive
        self.created = False
        """Whether the batch gave it its name; a file that had that already is left as it was."""
        self.lasts = False
        """Whether that was waited for, too."""


class Batch:
    """Files that are written together; may be filled and finished again and again."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pending: list[Pending] = []
        # Of these the ones whose bytes don't last yet; those under their own names; and those whose
        # names don't last yet.
        self._unsynced: list[Pending] = []
        self._written: list[Pending] = []
        self._given: list[Pending] = []
        self._extended: list[tuple[int, int]] = []
        # Folders with entries that are to last before the next name is given, and those with names
        # that were given.
        self._folders: dict[str, int] = {}
        self._named: dict[str, int] = {}
        self._devices: dict[str, int] = {}
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

    def write(self, path: str, data: bytes, mode: int = 0o644) -> Pending:
        """Write a new file under its own name, for readers who know a part of it from the whole.

        Until it is waited for, a crash leaves any part of it, and that is what they see.

        Raises:
            FileExistsError: it is there already.
            FileNotFoundError: its folder is missing.
        """
        self.folder(os.path.dirname(path))
        written = Pending(path, path, exclusive=True)
        try:
            files.write_temp(path, data, mode, sync=False)
        except FileExistsError:
            raise
        except BaseException:
            _remove(written)
            raise
        written.created = True
        self._written.append(written)
        return written

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
        self._folders[path] = self._device_of(path)

    def sync(self) -> None:
        """Make all bytes last, and all names that were given so far; gives no name.

        Raises:
            OSError: the disk failed; nothing that was written since the last wait may be relied on.
        """
        folders = self._named | self._folders
        unsynced: list[tuple[int, str | int]] = [*self._extended]
        unsynced += [(device, folder) for folder, device in folders.items()]
        for each in [*self._written, *self._unsynced]:
            unsynced.append((self._devices[os.path.dirname(each.path)], each.temp))
        self._wait(unsynced)
        self._unsynced, self._extended, self._folders = [], [], {}
        self._last()

    def give_names(self, *, but: Collection[Pending] = ()) -> None:
        """Make the bytes of every file last, and give the names, which don't last yet.

        They do once the next names are given, or the batch is synced or finished: to wait for
        them with the next bytes costs nothing more. Those in `but` get theirs the next time.

        Raises:
            As `finish` does.
        """
        self.sync()
        later = frozenset(but)
        waiting = [each for each in self._pending if each in later]
        self._pending = [each for each in self._pending if each not in later]
        try:
            while self._pending:
                each = self._pending[0]
                _give_name(each)
                folder = os.path.dirname(each.path)
                self._named[folder] = self._devices[folder]
                self._given.append(self._pending.pop(0))
        finally:
            self._pending += waiting

    def finish(self) -> None:
        """Make every file of the batch last, whole and under its name; the batch is empty then.

        Raises:
            NoExclusiveCreate: the file system can't create a file only if it is absent.
            OSError: the disk failed, or a folder is gone; some files may have their names.
        """
        self.give_names()
        self._wait([(device, folder) for folder, device in self._named.items()])
        self._last()

    def _last(self) -> None:
        for each in [*self._written, *self._given]:
            each.lasts = True
        self._written, self._given, self._named = [], [], {}

    def drop(self, unwanted: Collection[Pending]) -> None:
        """Leave files out again that have no name yet, or weren't waited for."""
        for each in unwanted:
            _remove(each)
        self._pending = [each for each in self._pending if each not in unwanted]
        self._unsynced = [each for each in self._unsynced if each not in unwanted]
        self._written = [each for each in self._written if each not in unwanted]

    def close(self) -> None:
        """Drop what has no name yet, and what was written and not waited for."""
        self.drop([*self._pending, *self._written])
        for disk in self._disks.values():
            os.close(disk)
        self._disks.clear()
        self._extended, self._folders, self._named = [], {}, {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _add(self, path: str, data: bytes, mode: int, *, exclusive: bool) -> Pending:
        folder = os.path.dirname(path)
        self._device_of(folder)
        self._count += 1
        temp = f"{folder}/{files.TEMP_PREFIX}{self._name}-{self._count}"
        pending = Pending(path, temp, exclusive=exclusive)
        try:
            files.write_temp(temp, data, mode, sync=False)
        except BaseException:
            _remove(pending)
            raise
        self._pending.append(pending)
        self._unsynced.append(pending)
        return pending

    def _device_of(self, folder: str) -> int:
        """Return the device of a folder; from now on it is told which writes to it fail."""
        device = self._devices.get(folder)
        if device is None:
            device = self._devices[folder] = os.stat(folder).st_dev
            if device not in self._disks:
                self._disks[device] = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return device

    def _wait(self, unsynced: Sequence[tuple[int, str | int]]) -> None:
        """Wait until files and folders are on the disk: each by its device, and its path or fd."""
        for device, disk in self._disks.items():
            mine = [each for its, each in unsynced if its == device]
            if _go_together(disk, len(mine)):
                files.sync_whole(disk)
                continue
            for each in mine:
                if isinstance(each, int):
                    files.sync_data(each)
                else:
                    files.sync_path(each)


def _go_together(disk: int, count: int) -> bool:
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
