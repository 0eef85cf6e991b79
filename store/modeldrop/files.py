"""The durable write, and the few other calls that change a file system for good.

Nobody else calls `os.replace`, `os.link` or `os.rename`. What is written here is whole or absent
under its final name, after a crash as well: temp file in the same folder, write, check the count,
fsync, rename or link, fsync the folder. Temp files start with `.tmp-`; a crash may leave one
behind, and nothing ever reads it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from typing import Final

from modeldrop import disk

TEMP_PREFIX: Final = ".tmp-"
_TEMP_NAME: Final = re.compile(r"\.tmp-[0-9a-f]{16}(-[0-9]+)?")

# Linux's renameat2(): from linux/fs.h and fcntl.h.
_RENAME_NOREPLACE: Final = 1
_AT_FDCWD: Final = -100

# From how many bytes on it pays to have a file on its way while the next one is written.
_SENT_OFF: Final = 2**15

# What link() answers where a file system has no hard links.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class NoExclusiveCreate(OSError):
    """This file system can't create a file only if it is absent, and whole at once."""


def temp_beside(path: Path) -> Path:
    """Return a new temporary name in the same folder as `path`."""
    return Path(temp_name(os.fspath(path)))


def temp_name(path: str) -> str:
    """Return what `temp_beside` does, as text."""
    return os.path.join(os.path.dirname(path), f"{TEMP_PREFIX}{secrets.token_hex(8)}")


def is_temp_name(name: str) -> bool:
    """Return whether a name is a temporary one that was given here or by a batch."""
    return _TEMP_NAME.fullmatch(name) is not None


def last_touched(path: str) -> tuple[float, int] | None:
    """Return when a file, or anything in a folder, was written last, and how many bytes there are.

    None if it is gone, or changes just now. Links are not followed.
    """
    every = [path]
    for folder, folders, names in os.walk(path):
        every += [os.path.join(folder, name) for name in (*folders, *names)]
    try:
        found = [os.lstat(each) for each in every]
    except OSError:
        return None
    sizes = (each.st_size for each in found if not stat.S_ISDIR(each.st_mode))
    return max(each.st_mtime for each in found), sum(sizes)


def remove_temp(path: str) -> None:
    """Remove a temporary file, or a temporary folder with all that is in it, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def write_durable(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the file by `data`: readers see the old file or the new one, after a crash too."""
    _replace(os.fspath(path), data, mode, sync=True)
    disk.sync_folder(os.path.dirname(path))


def write_quick(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the file by `data` without waiting for the disk: for what can be made again.

    Readers see the old file or the new one; after a power loss it may be empty or gone.
    """
    _replace(os.fspath(path), data, mode, sync=False)


def write_between(above: int, folder: int, name: str, data: bytes, mode: int = 0o644) -> None:
    """Replace a file in an open folder, as `write_quick` does; the temporary one is in `above`."""
    temp = f"{TEMP_PREFIX}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(temp, flags, mode, dir_fd=above)
    try:
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)
        os.replace(temp, name, src_dir_fd=above, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp, dir_fd=above)
        raise


def create_durable(path: Path | str, data: bytes, mode: int = 0o644) -> bool:
    """Create the file with `data` if it is absent; return whether this call created it.

    One winner among any number of processes, and never a part of `data` under the name. Either
    way the name lasts: whoever created it may not have come so far.

    Raises:
        NoExclusiveCreate: the file system has neither hard links nor rename without replace.
    """
    name = os.fspath(path)
    temp = temp_name(name)
    try:
        write_temp(temp, data, mode, sync=True)
        created = link_if_absent(temp, name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
    disk.sync_folder(os.path.dirname(name))
    return created


def link_if_absent(temp: Path | str, path: Path | str) -> bool:
    """Give a whole, synced file its final name if that is free; the caller syncs the folder.

    The temporary name may be gone afterwards, or not: where there are no hard links, the file is
    renamed without replacing.

    Raises:
        NoExclusiveCreate: the file system can do neither.
    """
    try:
        os.link(temp, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            return _rename_if_absent(temp, path)
        raise
    return True


def _rename_if_absent(
    temp: Path | str, path: Path | str, source: int = _AT_FDCWD, target: int = _AT_FDCWD
) -> bool:
    import ctypes  # noqa: PLC0415 - needed for folders, and on vfat, exfat and a few others

    try:
        renameat2 = disk.libc().renameat2
    except AttributeError:
        raise NoExclusiveCreate(errno.ENOSYS, "the system has no rename without replace") from None
    names = (source, os.fsencode(temp), target, os.fsencode(path))
    if renameat2(*names, _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in _NO_LINKS or code == errno.EINVAL:
        raise NoExclusiveCreate(code, "the file system has no exclusive create")
    raise OSError(code, os.strerror(code), str(path))


def give_name(temp: str, path: str) -> None:
    """Rename a whole, synced file, replacing one at `path`; the caller syncs the folder."""
    os.replace(temp, path)


def lead_to(path: str, to: str) -> None:
    """Have a symbolic link at `path` lead to `to`, in one step for all readers; durably.

    Raises:
        OSError: there is a folder at `path`, or it can't be written to.
    """
    temp = temp_name(path)
    os.symlink(to, temp)
    try:
        give_name(temp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
        raise
    disk.sync_folder(os.path.dirname(path))


def rename(source: Path, target: Path) -> None:
    """Rename what is whole and synced, replacing a file at `target`, and make that last."""
    os.replace(source, target)
    disk.sync_folder(target.parent)
    if source.parent != target.parent:
        disk.sync_folder(source.parent)


def rename_if_absent(source: Path, target: Path) -> None:
    """Give what is whole and synced its final name if that is free, and make that last.

    Raises:
        FileExistsError: there is something at `target`.
    """
    is_folder = source.is_dir()
    try:
        # A folder has no links; a plain rename would replace an empty one that just appeared.
        free = _rename_if_absent(source, target) if is_folder else link_if_absent(source, target)
    except NoExclusiveCreate:
        free = not os.path.lexists(target)
        if free:
            os.rename(source, target)
    if not free:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if source.parent != target.parent:
        # Before its old name goes: otherwise a power loss could take both.
        disk.sync_folder(target.parent)
    if not is_folder:
        source.unlink(missing_ok=True)
    disk.sync_folder(source.parent)


def rename_if_free(temp: str, path: str) -> bool:
    """Give a folder that lasts its final name if that is free; the caller syncs the folder above.

    Raises:
        NoExclusiveCreate: the file system can't; `renames_if_absent` tells that before.
    """
    return _rename_if_absent(temp, path)


@functools.lru_cache(maxsize=64)
def renames_if_absent(folder: str) -> bool:
    """Return whether a folder's file system can rename a folder without replacing; by trying.

    Raises:
        OSError: nothing can be made in it.
    """
    first, second = (f"{folder}/{TEMP_PREFIX}{secrets.token_hex(8)}" for _ in range(2))
    os.mkdir(first)
    try:
        return _rename_if_absent(first, second)
    except NoExclusiveCreate:
        return False
    finally:
        for each in (first, second):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(each)


def move_if_absent(source: int, name: str, target: int, new_name: str) -> None:
    """Move a folder from one open folder to another if the new name is free, and make that last.

    No path is walked, so nobody can lead it elsewhere by a link.

    Raises:
        FileExistsError: there is something of the new name.
        OSError: it can't be moved; EXDEV says that the other folder is another file system.
    """
    try:
        free = _rename_if_absent(name, new_name, source, target)
    except NoExclusiveCreate:
        free = not _is_there(target, new_name)
        if free:
            os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    if not free:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
    disk.sync_file(target)
    if source != target:
        disk.sync_file(source)


def _is_there(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write `data` at `offset` of an open file, for the caller to wait for the disk.

    Raises:
        OSError: the write failed; how much is in the file is unknown.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def truncate_durable(fd: int, size: int) -> None:
    """Cut an open file at `size` and make that last."""
    os.ftruncate(fd, size)
    disk.sync_file(fd)


def remove_durable(path: Path) -> None:
    """Remove a file, if it is there, and make that last."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        disk.sync_folder(path.parent)


def make_folders(path: Path | str, mode: int = 0o755) -> None:
    """Make a folder and those above it that are missing, each of them durable."""
    for folder in begin_folders(path, mode):
        disk.sync_folder(folder)


def begin_folders(path: Path | str, mode: int = 0o755) -> list[str]:
    """Make a folder and those above it that are missing; return what is to be synced to last.

    For those who put something into it first: on most file systems its sync takes the folders
    above along, and theirs then cost nothing. In the order in which they are to be synced.
    """
    name, missing = os.fspath(path), []
    unsynced: list[str] = []
    while True:
        try:
            # Another process may be quicker, and its folder is as good; a file there is not.
            os.mkdir(name, mode)
        except (FileNotFoundError, NotADirectoryError):
            missing.append(name)
            name = os.path.dirname(name)
            continue
        except FileExistsError:
            if not os.path.isdir(name):
                raise
            # Who made it may not have synced it yet.
            made = bool(missing)
        else:
            made = True
        if made:
            unsynced.insert(0, os.path.dirname(name))
        if not missing:
            return unsynced
        name = missing.pop()


def others_can_write(path: Path) -> bool:
    """Return whether somebody else than the owner may write to a file or folder."""
    return bool(path.stat().st_mode & stat.S_IWOTH)


def _replace(path: str, data: bytes, mode: int, *, sync: bool) -> None:
    temp = temp_name(path)
    try:
        write_temp(temp, data, mode, sync=sync)
        give_name(temp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
        raise


def write_temp(
    temp: str, data: bytes | memoryview, mode: int, *, sync: bool, send: bool = True
) -> None:
    """Write a new file, mostly under a temporary name, which the caller gives its final one.

    Without `sync` nothing may rely on it before somebody has waited for the disk. What is large
    enough to be worth a call is on its way there by then, if it is to be sent.
    """
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        _write_all(fd, data)
        if sync:
            disk.sync_file(fd)
        elif send and len(data) >= _SENT_OFF:
            disk.send_off(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
