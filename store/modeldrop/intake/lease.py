"""Is anybody writing? The kernel's answer, by asking for a read lease and giving it back.

Linux refuses a read lease (EAGAIN) while any process has the file open for writing or mapped
writable and shared, on this machine. Every other refusal means that it can't tell: the lease
needs the file's owner or CAP_LEASE, and a local file system. On a network file system or FUSE the
kernel knows of its own writers only, so nobody is asked there.

A lease is held for microseconds. A program that opens the file for writing just then waits until
it is given back, which it doesn't notice (with O_NONBLOCK it gets EWOULDBLOCK). The kernel tells
the holder by SIGIO, whose default action ends the process: hence `prepare`.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from modeldrop.intake.observation import SeenFile
from modeldrop.intake.walk import open_file

_MOUNTINFO: Final = Path("/proc/self/mountinfo")

# File systems whose writers may sit on another machine, or outside of this kernel's sight.
_NETWORK: Final = frozenset(
    {
        *("9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2"),
        *("glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs"),
        *("prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs"),
    }
)
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


class Writers(enum.Enum):
    """Whether anybody on this machine has a file open for writing."""

    NONE = "none"
    SOME = "some"
    UNKNOWN = "unknown"


def prepare() -> None:
    """Ignore SIGIO in this process; call it once, from the main thread, before `probe`.

    Raises:
        ValueError: this isn't the main thread.
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def probe(fd: int) -> Writers:
    """Return whether anybody has this file open for writing or mapped writable and shared.

    The descriptor must be open for reading only: one that can write is itself a writer.
    """
    if sys.platform != "linux":
        return Writers.UNKNOWN
    # A writer that opens the file during the lease would end this process.
    if signal.getsignal(signal.SIGIO) is signal.SIG_DFL:
        return Writers.UNKNOWN
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return Writers.SOME
    except OSError:
        return Writers.UNKNOWN
    # Should this ever fail, the caller's close gives the lease back.
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return Writers.NONE


def probe_files(staging: Path, name: str, files: Iterable[SeenFile]) -> Writers:
    """Return whether anybody writes to any of these files of a run.

    SOME as soon as one has a writer; otherwise UNKNOWN if that could not be told of one. Those
    that changed last are asked first: the writer is most likely there.

    Raises:
        SourceChanged: one of them changed since it was seen.
        PermissionError: one of them can't be read by this user.
        OSError: one of them can't be opened for another reason.
    """
    answer = Writers.NONE
    for seen in sorted(files, key=lambda file: file.signature.ctime_ns, reverse=True):
        fd = open_file(staging, name, seen.path, seen.signature)
        try:
            one = probe(fd)
        finally:
            os.close(fd)
        if one is Writers.SOME:
            return one
        if one is Writers.UNKNOWN:
            answer = one
    return answer


def is_network(path: Path) -> bool:
    """Return whether a path is on a network file system or FUSE, where no lease can be trusted.

    False where that can't be told, as outside of Linux: the lease answers UNKNOWN there anyway.

    Raises:
        OSError: there is nothing at the path.
    """
    device = path.stat().st_dev
    try:
        mounts = _MOUNTINFO.read_bytes()
    except OSError:
        return False
    kind = file_system(os.fsencode(path.resolve()), device, mounts)
    return kind is not None and is_network_type(kind)


def is_network_type(kind: str) -> bool:
    """Return whether a type of file system, as mount(8) names it, is a network's or FUSE's."""
    # fuseblk is a local disk, yet its writers are as unknown to the lease as those of sshfs.
    return kind in _NETWORK or kind.startswith("fuse")


def file_system(path: bytes, device: int, mountinfo: bytes) -> str | None:
    """Return the type of the file system that holds an absolute path, or None if unknown.

    `mountinfo` is as in proc_pid_mountinfo(5). The device decides; where it stands in no line
    (a btrfs subvolume has a device of its own), the longest mount point above the path does.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    longest, nearest = -1, None
    for mount_device, point, kind in _mounts(mountinfo):
        if mount_device == number:
            return kind
        above = point.rstrip(b"/")
        # A later mount hides an earlier one at the same point.
        if (path == above or path.startswith(above + b"/")) and len(above) >= longest:
            longest, nearest = len(above), kind
    return nearest


def _mounts(mountinfo: bytes) -> Iterator[tuple[str, bytes, str]]:
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(b" - ")
        fields, kinds = before.split(b" "), after.split(b" ")
        if dash and len(fields) > 4:  # noqa: PLR2004 - the mount point is the fifth field
            point = _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), fields[4])
            yield fields[2].decode("ascii", "replace"), point, kinds[0].decode("ascii", "replace")
