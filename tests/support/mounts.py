"""A disk of a process's own: in memory, small, full, or read-only, by mounts that nobody else sees.

For processes that were started by `command`: in a namespace of mounts, and of users unless they
are root's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# linux/mount.h
_READ_ONLY: Final = 1
_AGAIN: Final = 32
_BIND: Final = 4096
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# More than any case needs.
_PAGES: Final = 16_384
_INODES: Final = 16_384

_libc: Final = ctypes.CDLL(None, use_errno=True)


def command() -> list[str]:
    """Return what starts another command where it may mount."""
    return (
        ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    )


def lacking() -> str:
    """Return why nothing can be mounted here, if so."""
    if shutil.which("unshare") is None:
        return "unshare, of Debian's util-linux, isn't there"
    tried = subprocess.run(
        [*command(), "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return f"nothing can be mounted here: {tried.stderr.strip()}" if tried.returncode else ""


def mount_memory(folder: Path) -> None:
    """Have a folder be a file system in memory, with room enough."""
    _mount("tmpfs", folder, "tmpfs", 0, _options(_PAGES, _INODES))


def leave_room(folder: Path, *, pages: int | None = None, inodes: int | None = None) -> None:
    """Leave so much room, or so many inodes, in a file system in memory, beside what it holds."""
    found = os.statvfs(folder)
    most_pages = _PAGES if pages is None else found.f_blocks - found.f_bfree + pages
    most_inodes = _INODES if inodes is None else found.f_files - found.f_ffree + inodes
    _mount("tmpfs", folder, "tmpfs", _AGAIN, _options(most_pages, most_inodes))


def leave_all(folder: Path) -> None:
    """Have it have room enough again."""
    _mount("tmpfs", folder, "tmpfs", _AGAIN, _options(_PAGES, _INODES))


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Have a folder, and what is in it, be read-only in the body."""
    _mount(str(folder), folder, "", _BIND, "")
    try:
        _mount("", folder, "", _BIND | _AGAIN | _READ_ONLY, "")
        yield
    finally:
        if _libc.umount2(os.fsencode(folder), 0):
            raise OSError(ctypes.get_errno(), "umount", str(folder))


def _options(pages: int, inodes: int) -> str:
    return f"size={pages * _PAGE},nr_inodes={inodes}"


def _mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    given = (source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    if _libc.mount(*given):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(target))
