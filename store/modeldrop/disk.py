"""Waiting until something is on the disk, and having it on its way there.

Nobody else calls `os.fsync` or `os.fdatasync`. After an error how much is on the disk is unknown,
and a sync is never tried again: the kernel forgets the pages that failed, so that the next one
would find no fault.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ctypes

# The file systems whose syncfs() waits for everything and tells of all that failed, by the numbers
# of linux/magic.h: ext4, xfs, btrfs. Not overlayfs, which forgets the failures of the one below it,
# nor f2fs, whose own are lost, nor FUSE, which asks nobody.
_SYNCED_WHOLE: Final = frozenset({0xEF53, 0x58465342, 0x9123683E})
# Since 5.8 syncfs() tells of data that was lost, since 5.17 of a file system's log that was, too.
_SYNCFS_TELLS: Final = (5, 17)


def sync_data(fd: int) -> None:
    """Wait until the bytes of an open file are on the disk, and its size.

    Raises:
        OSError: how much is on the disk is unknown, and the sync mustn't be tried again: the
            kernel forgets the failed pages.
    """
    os.fdatasync(fd)


def sync_file(fd: int) -> None:
    """Wait until an open file is on the disk, its size and times included."""
    os.fsync(fd)


def sync_folder(path: Path | str) -> None:
    """Wait until a folder's entries are on the disk."""
    # What has nothing above it by name is in the working folder.
    fd = os.open(path or os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_path(path: str) -> None:
    """Wait until a file or folder is on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(path: Path) -> None:
    """Wait until a folder and everything in it is on the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            sync_path(os.path.join(folder, name))
        sync_folder(Path(folder))


def sync_whole(fd: int) -> None:
    """Wait until all that was written to the file system of an open file is on the disk.

    Tells of every write to it that failed since `fd` was opened, whoever made it; so it has to be
    open before what is relied on is written, and `syncs_whole` has to be true of it.

    Raises:
        OSError: some write failed; which one is unknown.
    """
    import ctypes  # noqa: PLC0415 - a command that writes one record doesn't need it

    if libc().syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        # It gave up after an error, and has nothing to wait for any more.
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def syncs_whole(fd: int) -> bool:
    """Return whether `sync_whole` of this file system is as good as the sync of each file."""
    if sys.platform != "linux" or _kernel() < _SYNCFS_TELLS:
        return False
    import ctypes  # noqa: PLC0415 - as above

    # The type is the first word of struct statfs, which has some 120 bytes. Where it isn't, no
    # type is recognised.
    found = (ctypes.c_ulong * 64)()
    return libc().fstatfs(fd, found) == 0 and found[0] in _SYNCED_WHOLE


def has_library() -> bool:
    """Return whether the library that `sync_whole` needs is loaded already."""
    return libc.cache_info().currsize > 0


def send_off(fd: int) -> None:
    """Have the kernel begin to write an open file to the disk, without waiting for it.

    It does so when it is told that nobody needs it in memory any more; what is on its way stays
    there all the same. Linux has a call that says just that, which Python lacks.
    """
    # A file system that knows no such advice is told nothing.
    with contextlib.suppress(OSError):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@functools.cache
def libc() -> ctypes.CDLL:
    """Return the library of the system's calls, for those that Python lacks."""
    import ctypes  # noqa: PLC0415 - as above

    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _kernel() -> tuple[int, ...]:
    numbers = os.uname().release.split(".")[:2]
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)
