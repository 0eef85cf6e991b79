"""Durable writes that wait for the disk together.

Purpose: what belongs to many small runs is written at the price of one. A file by itself waits
twice, for its bytes and for its name. A batch waits twice as well, however many files it has.

Calling sequence: `replace` and `create` put a file down under a temporary name, `create_within` in
a temporary folder that is to appear whole, with all that was put into it; `extend` writes to a file
that has its name, and `write` to a new one that may be torn; `confirm` takes a folder along.
`finish` waits for all the bytes, gives the names in the order of the calls, and waits for all the
names. Where something is to be looked at in between, `sync` is the first of these waits alone;
where some names have to last before others are given, `give` is the rest for those. `close` drops
what has no name yet, and what was written and not waited for. For one thread.

What readers see: of what has a temporary name, nothing before `finish`, then one whole file or
folder after the other. What a crash leaves: temporary files, any part of what was written, and any
number of whole files and folders, the earlier ones before the later ones only as far as this
process came. So what gets its name together may not refer to each other, but within one folder.

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
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from typing import Final, Self

from modeldrop import disk, files

# How many are waited for by one call. For two, it takes two thirds of the time of one for each; but
# who would have to load a library for it, as a command does that writes one record, waits for more.
_MANY: Final = 3
_FEW: Final = 2
# How many bytes of anybody's a wait may take along for each file or folder that is waited for: to
# wait for that one alone takes about as long as to write so much. With few, less is saved.
_MOST_UNWRITTEN: Final = 2**20
_MOST_UNWRITTEN_OF_FEW: Final = 2**18
# For how many seconds it is good enough to know how much there is; the kernel adds it up.
_KNOWN_FOR: Final = 0.2
_UNWRITTEN: Final = (b"Dirty:", b"Writeback:")
_FOLDER_MODE: Final = 0o755


class Pending:
    """A file that gets its name, or lasts under it, with its batch."""

    __slots__ = ("created", "path", "replaces", "temp")

    def __init__(self, path: str, temp: str, *, replaces: bool = True) -> None:
        """Be written under a temporary name, or under its own."""
        self.path = path
        self.temp = temp
        """Where it is until it has its name."""
        self.replaces = replaces
        """Whether it takes the place of a file of its name; if not, that one keeps it out."""
        self.created = False
        """Whether it has its name by this batch; a folder that had it already is left as it was."""


class _Tree:
    """A folder that gets its name when all that it holds lasts."""

    __slots__ = ("folders", "members", "path", "temp")

    def __init__(self, path: str, temp: str) -> None:
        self.path = path
        self.temp = temp
        self.folders: set[str] = set()
        self.members: list[Pending] = []


class Batch:
    """Files that are written together; may be filled and finished again and again."""

    def __init__(self) -> None:
        """Begin with none."""
        self._pending: list[Pending] = []
        self._written: list[Pending] = []
        self._trees: dict[str, _Tree] = {}
        # Of all these the ones whose bytes don't last yet.
        self._unsynced: list[Pending] = []
        self._extended: list[tuple[int, int]] = []
        # Folders with entries that are to last with them.
        self._folders: dict[str, int] = {}
        self._devices: dict[str, int] = {}
        self._disks: dict[int, int] = {}
        # One name for all: to ask for another costs as much as to make a file.
        self._name = secrets.token_hex(8)
        self._count = 0

    def create_within(self, tree: str, path: str, data: bytes, mode: int = 0o644) -> Pending | None:
        """Have a file created in a folder that appears whole, with all that is put into it so.

        None if there is a folder `tree` already, or where the file system can't rename without
        replacing; then nothing was done.

        Raises:
            FileNotFoundError: the folder above `tree` is missing.
        """
        begun = self._trees.get(tree)
        if begun is None:
            above = os.path.dirname(tree)
            if os.path.lexists(tree) or not files.renames_if_absent(above):
                return None
            self._device_of(above)
            begun = self._trees[tree] = _Tree(tree, self._temp_in(above))
        pending = Pending(path, begun.temp + path[len(tree) :])
        try:
            self._make_within(begun, os.path.dirname(pending.temp))
            files.write_temp(pending.temp, data, mode, sync=False)
        except BaseException:
            # Without it the folder isn't whole.
            self._drop_tree(begun)
            raise
        begun.members.append(pending)
        self._unsynced.append(pending)
        return pending

    def _make_within(self, tree: _Tree, folder: str) -> None:
        if folder in tree.folders:
            return
        if folder != tree.temp:
            self._make_within(tree, os.path.dirname(folder))
        os.mkdir(folder, _FOLDER_MODE)
        tree.folders.add(folder)
        self._folders[folder] = self._device_of(folder)

    def replace(self, path: str, data: bytes, mode: int = 0o644) -> Pending:
        """Have a file replaced by `data`; readers see the old file or the new one."""
        return self._put_down(path, data, mode, replaces=True)

    def create(self, path: str, data: bytes, mode: int = 0o644) -> Pending:
        """Have a file created if there is none of its name then; `created` tells.

        Raises:
            FileNotFoundError: its folder is missing.
        """
        return self._put_down(path, data, mode, replaces=False)

    def _put_down(self, path: str, data: bytes, mode: int, *, replaces: bool) -> Pending:
        folder = os.path.dirname(path)
        self._device_of(folder)
        temp = self._temp_in(folder)
        pending = Pending(path, temp, replaces=replaces)
        try:
            files.write_temp(temp, data, mode, sync=False)
        except BaseException:
            _remove(pending)
            raise
        self._pending.append(pending)
        self._unsynced.append(pending)
        return pending

    def write(self, path: str, data: bytes, mode: int = 0o644) -> Pending:
        """Write a new file under its own name, for readers who know a part of it from the whole.

        Until it is waited for, a crash leaves any part of it, and that is what they see.

        Raises:
            FileExistsError: it is there already.
            FileNotFoundError: its folder is missing.
        """
        folder = os.path.dirname(path)
        self._folders[folder] = self._device_of(folder)
        written = Pending(path, path)
        try:
            files.write_temp(path, data, mode, sync=False)
        except FileExistsError:
            raise
        except BaseException:
            _remove(written)
            raise
        written.created = True
        self._written.append(written)
        self._unsynced.append(written)
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

    def confirm(self, *folders: str) -> None:
        """Have the names in folders last that are there already, whoever gave them.

        Raises:
            FileNotFoundError: one is missing.
        """
        for each in folders:
            self._folders[each] = self._device_of(each)

    def sync(self) -> None:
        """Make all bytes last, and what was written under its own name; gives no name.

        Raises:
            OSError: the disk failed; nothing that was written since the last wait may be relied on.
        """
        unsynced: list[tuple[int, str | int]] = [*self._extended]
        unsynced += [(device, folder) for folder, device in self._folders.items()]
        for each in self._unsynced:
            unsynced.append((self._devices[os.path.dirname(each.temp)], each.temp))
        self._wait(unsynced)
        self._unsynced, self._written, self._extended, self._folders = [], [], [], {}

    def finish(self) -> None:
        """Make every file of the batch last, whole and under its name; the batch is empty then.

        Raises:
            OSError: the disk failed, or a folder is gone; some files may have their names.
        """
        self.sync()
        self._give(self._pending, waits=True, trees=True)

    def give(self, those: Sequence[Pending], *, waits: bool = True) -> None:
        """Make these files of the batch last under their names, given in this order, after `sync`.

        The first one that is only to be created, and whose name is taken, is the last that is
        tried. Without `waits`, a power loss may take the names away again, any of them.

        Raises:
            OSError: as for `finish`.
        """
        self._give(those, waits=waits, trees=False)

    def _give(self, those: Sequence[Pending], *, waits: bool, trees: bool) -> None:
        named: dict[str, int] = {}
        # The last files of these names are freed with us, not by the rename: to free one takes
        # many times as long, and who looks for the new one needn't wait for that.
        replaced: list[int] = []
        try:
            for each in [*those]:
                if each.replaces:
                    replaced += _opened(each.path)
                    files.give_name(each.temp, each.path)
                elif files.link_if_absent(each.temp, each.path):
                    _remove(each)
                else:
                    # Whoever created it may not have come so far as to make it last.
                    self._note_named(each.path, named)
                    break
                each.created = True
                self._note_named(each.path, named)
                self._pending.remove(each)
            if trees:
                self._name_trees(named)
            if waits:
                self._wait([(device, folder) for folder, device in named.items()])
        finally:
            for fd in replaced:
                os.close(fd)

    def _name_trees(self, named: dict[str, int]) -> None:
        for tree in [*self._trees.values()]:
            # Another one's folder keeps ours from its name; it goes when this is closed.
            if files.rename_if_free(tree.temp, tree.path):
                for each in tree.members:
                    each.created = True
                self._note_named(tree.path, named)
                del self._trees[tree.path]

    def _note_named(self, path: str, named: dict[str, int]) -> None:
        folder = os.path.dirname(path)
        named[folder] = self._devices[folder]

    def drop(self, unwanted: Collection[Pending]) -> None:
        """Leave files out again that have no name yet, or weren't waited for.

        With one of a folder that appears whole, all of that folder.
        """
        dropped = frozenset(unwanted)
        for tree in [*self._trees.values()]:
            if not dropped.isdisjoint(tree.members):
                self._drop_tree(tree)
        for each in dropped:
            _remove(each)
        self._pending = [each for each in self._pending if each not in dropped]
        self._unsynced = [each for each in self._unsynced if each not in dropped]
        self._written = [each for each in self._written if each not in dropped]

    def _drop_tree(self, tree: _Tree) -> None:
        del self._trees[tree.path]
        shutil.rmtree(tree.temp, ignore_errors=True)
        for folder in tree.folders:
            self._folders.pop(folder, None)
        self._unsynced = [each for each in self._unsynced if each not in tree.members]

    def close(self) -> None:
        """Drop what has no name yet, and what was written and not waited for."""
        self.drop([*self._pending, *self._written])
        for tree in [*self._trees.values()]:
            self._drop_tree(tree)
        for root in self._disks.values():
            os.close(root)
        self._disks.clear()
        self._extended, self._folders = [], {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _temp_in(self, folder: str) -> str:
        self._count += 1
        return f"{folder}/{files.TEMP_PREFIX}{self._name}-{self._count}"

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
        for device, root in self._disks.items():
            mine = [each for its, each in unsynced if its == device]
            if go_together(root, len(mine)):
                disk.sync_whole(root)
                continue
            for each in mine:
                if isinstance(each, int):
                    disk.sync_data(each)
                else:
                    disk.sync_path(each)


def go_together(root: int, count: int) -> bool:
    """Return whether so many files and folders of one file system are waited for by one call.

    `root` is any open file on it.
    """
    if count >= _MANY:
        most = _MOST_UNWRITTEN
    elif count >= _FEW and disk.has_library():
        most = _MOST_UNWRITTEN_OF_FEW
    else:
        return False
    if _unwritten() > count * most:
        return False
    # Asked last: it loads a library.
    return disk.syncs_whole(root)


def _opened(path: str) -> list[int]:
    """Return the file at a path, open, if there is one."""
    try:
        return [os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)]
    except OSError:
        return []


def _remove(pending: Pending) -> None:
    with contextlib.suppress(OSError):
        os.unlink(pending.temp)


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
