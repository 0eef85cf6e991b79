"""System calls of a child process, held up one by one by its parent: to count, to fail, to kill at.

Linux's seccomp has the kernel ask the parent about each call of the chosen kinds before it does
anything (`SECCOMP_RET_USER_NOTIF`, seccomp_unotify(2)). So it doesn't matter who makes the call:
Python, a library, a thread. It needs no root and no tool, and costs some 50 µs a call, where
ptrace has to stop the process at each call of any kind.

The child says `listen(channel)` when it is about to begin; the parent has made the channel before
it forked, and follows with `supervise`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

_NUMBERS: Final = {
    "x86_64": {
        "write": 1,
        "pwrite64": 18,
        "writev": 20,
        "pwritev": 296,
        "pwritev2": 328,
        "copy_file_range": 326,
        "sendfile": 40,
        "fsync": 74,
        "fdatasync": 75,
        "syncfs": 306,
        "rename": 82,
        "renameat": 264,
        "renameat2": 316,
        "link": 86,
        "linkat": 265,
        "unlink": 87,
        "unlinkat": 263,
        "rmdir": 84,
        "ftruncate": 77,
        "open": 2,
        "openat": 257,
        "mkdir": 83,
        "mkdirat": 258,
        "symlink": 88,
        "symlinkat": 266,
        "seccomp": 317,
        "pidfd_getfd": 438,
    },
    "aarch64": {
        "write": 64,
        "pwrite64": 68,
        "writev": 66,
        "pwritev": 70,
        "pwritev2": 287,
        "copy_file_range": 285,
        "sendfile": 71,
        "fsync": 82,
        "fdatasync": 83,
        "syncfs": 267,
        "renameat": 38,
        "renameat2": 276,
        "linkat": 37,
        "unlinkat": 35,
        "ftruncate": 46,
        "openat": 56,
        "mkdirat": 34,
        "symlinkat": 36,
        "seccomp": 277,
        "pidfd_getfd": 438,
    },
}
_HERE: Final = _NUMBERS.get(platform.machine(), {})

KINDS: Final = {
    "write": ("write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range", "sendfile"),
    "fsync": ("fsync",),
    "fdatasync": ("fdatasync",),
    "syncfs": ("syncfs",),
    "rename": ("rename", "renameat", "renameat2"),
    "link": ("link", "linkat"),
    "symlink": ("symlink", "symlinkat"),
    "unlink": ("unlink", "unlinkat", "rmdir"),
    "ftruncate": ("ftruncate",),
    "mkdir": ("mkdir", "mkdirat"),
    "open": ("open", "openat"),
}
"""The kinds of calls, and the system's calls that are of each."""

_KIND_OF: Final = {name: kind for kind, names in KINDS.items() for name in names}
_NAME_OF: Final = {number: name for name, number in _HERE.items() if name in _KIND_OF}

# Which argument says what a call is about: a file descriptor, or a path, mostly beside the
# descriptor of a folder. Of two paths it is the one that changes.
_DESCRIPTOR: Final = {"copy_file_range": 2}
_PATH: Final = {
    "open": (None, 0),
    "mkdir": (None, 0),
    "unlink": (None, 0),
    "rmdir": (None, 0),
    "rename": (None, 1),
    "link": (None, 1),
    "symlink": (None, 1),
    "openat": (0, 1),
    "mkdirat": (0, 1),
    "unlinkat": (0, 1),
    "renameat": (2, 3),
    "renameat2": (2, 3),
    "linkat": (2, 3),
    "symlinkat": (1, 2),
}
_FLAGS_OF_OPEN: Final = {"open": 1, "openat": 2}

# linux/seccomp.h, linux/filter.h and linux/prctl.h
_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 8
_ALLOW: Final = 0x7FFF0000
_ASK: Final = 0x7FC00000
_LOAD: Final = 0x20
_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_NOTIFICATION: Final = struct.Struct("=QIIiIQ6Q")
_ANSWER: Final = struct.Struct("=QqiI")
_RECEIVE: Final = 0xC0000000 | _NOTIFICATION.size << 16 | 0x2100
_SEND: Final = 0xC0000000 | _ANSWER.size << 16 | 0x2101
_STANDS: Final = 0x40000000 | 8 << 16 | 0x2102
_GO_ON: Final = 1

_AT_FDCWD: Final = -100 & 0xFFFFFFFF
_PAGE: Final = 4096

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Unavailable(OSError):
    """This machine's kernel, or what this process runs in, doesn't let calls be held up."""


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that is held up."""

    name: str
    """As the system calls it: `renameat2`."""
    kind: str
    """One of `KINDS`."""
    path: str
    """What it is about; for `rename` and `link`, the new name."""
    creates: bool
    """Whether it may make a file: `open` with O_CREAT."""
    size: int
    """For `write`, how many bytes; otherwise 0."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls a call: it fails with an error, ends the process, or does only a part."""

    error: int = 0
    """The error that it answers, without having done anything."""
    kills: bool = False
    """Whether the process is killed; before the call, or, of one that is cut, after its half."""
    cuts: bool = False
    """Whether only the first half of what is to be written is."""


@dataclass(slots=True)
class Seen:
    """What came of a child."""

    calls: list[Call] = field(default_factory=list)
    """Those that the fault could have befallen, in order."""
    met: Call | None = None
    """The one that it befell."""


def listen(channel: socket.socket) -> None:
    """Have all calls from here on held up for the parent; in the child.

    Raises:
        Unavailable: the kernel doesn't let this be.
    """
    program = _program(list(_NAME_OF))
    lines = (ctypes.c_uint64 * len(program))(*program)

    # struct sock_fprog
    given = ctypes.create_string_buffer(struct.pack("=H6xQ", len(program), ctypes.addressof(lines)))
    if not _HERE or _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise Unavailable(ctypes.get_errno(), f"no seccomp on {platform.machine()}")
    listener = _libc.syscall(_HERE["seccomp"], _SET_MODE_FILTER, _NEW_LISTENER, given)
    if listener < 0:
        raise Unavailable(ctypes.get_errno(), "the kernel holds up no calls for a parent")
    socket.send_fds(channel, [b"."], [listener])
    os.close(listener)


def _program(numbers: Collection[int]) -> list[int]:
    """Return the filter: the parent is asked about these calls, and all others are let pass."""
    lines = [(_LOAD, 0, 0, 0)]
    for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
        lines.append((_IF_EQUAL, left, 0, number))
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ASK)]
    return [int.from_bytes(struct.pack("=HBBI", *line), "little") for line in lines]


def supervise(
    child: int,
    channel: socket.socket,
    wanted: Callable[[Call], bool],
    fault: Fault,
    number: int,
) -> Seen:
    """Follow a child to its end; of the wanted calls the one of this number gets the fault.

    They are counted from 1; with 0 none gets it. Returns once no process is left that could make a
    call; the caller waits for the child.
    """
    _, listeners, _, _ = socket.recv_fds(channel, 1, 1)
    if not listeners:
        raise Unavailable(0, "the child couldn't begin to listen")
    [listener] = listeners
    seen = Seen()
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    try:
        while True:
            [(_, event)] = poll.poll()
            if not event & select.POLLIN:
                return seen
            try:
                asked = _NOTIFICATION.unpack(
                    fcntl.ioctl(listener, _RECEIVE, bytes(_NOTIFICATION.size))
                )
            except (FileNotFoundError, InterruptedError):
                continue  # whoever asked was killed meanwhile
            id_, thread, _, at, _, _, *arguments = asked
            held = _Held(child, thread, _NAME_OF[at], arguments)
            try:
                call = held.call()
            except OSError:
                if _stands(listener, id_):
                    raise
                continue  # the same, while its memory was looked at
            value, error, flags = 0, 0, _GO_ON
            if wanted(call):
                seen.calls.append(call)
                if len(seen.calls) == number:
                    seen.met = call
                    value, error, flags = held.befall(fault)
            try:
                fcntl.ioctl(listener, _SEND, _ANSWER.pack(id_, value, -error, flags))
            except FileNotFoundError:
                continue  # the same
    finally:
        os.close(listener)


def _stands(listener: int, id_: int) -> bool:
    """Return whether a call still waits for the answer."""
    try:
        fcntl.ioctl(listener, _STANDS, struct.pack("=Q", id_))
    except FileNotFoundError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Held:
    """A call while the kernel waits for the answer."""

    child: int
    thread: int
    name: str
    arguments: list[int]

    def call(self) -> Call:
        kind = _KIND_OF[self.name]
        flags = self.arguments[_FLAGS_OF_OPEN[self.name]] if kind == "open" else 0
        return Call(self.name, kind, self._path(), bool(flags & os.O_CREAT), self._size(kind))

    def _size(self, kind: str) -> int:
        if kind != "write":
            return 0
        if self.name in {"write", "pwrite64"}:
            return self.arguments[2]
        # With offsets of its own it is left whole: those are in the child's memory.
        plain = self.name == "copy_file_range" and not self.arguments[1] and not self.arguments[3]
        return self.arguments[4] if plain else 1

    def _path(self) -> str:
        if self.name not in _PATH:
            return self._descriptor(self.arguments[_DESCRIPTOR.get(self.name, 0)])
        folder, path = _PATH[self.name]
        name = self._text(self.arguments[path])
        if name.startswith("/"):
            return name
        at = _AT_FDCWD if folder is None else self.arguments[folder] & 0xFFFFFFFF
        above = os.readlink(f"/proc/{self.thread}/cwd") if at == _AT_FDCWD else self._descriptor(at)
        return f"{above}/{name}"

    def _descriptor(self, number: int) -> str:
        try:
            return os.readlink(f"/proc/{self.thread}/fd/{number & 0xFFFFFFFF}")
        except OSError:
            return ""

    def _text(self, address: int) -> str:
        # Not over the end of a page at once: the next one may not be there.
        found = b""
        while b"\0" not in found and len(found) < _PAGE:
            at = address + len(found)
            found += self._memory(at, _PAGE - at % _PAGE)
        return os.fsdecode(found.split(b"\0")[0])

    def _memory(self, address: int, size: int) -> bytes:
        fd = os.open(f"/proc/{self.thread}/mem", os.O_RDONLY)
        try:
            data = os.pread(fd, size, address)
        finally:
            os.close(fd)
        if not data:  # the memory of a process that has ended
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), self.thread)
        return data

    def befall(self, fault: Fault) -> tuple[int, int, int]:
        """Do what the fault says; return the value, the error and the flags of the answer."""
        done = self._half() if fault.cuts else 0
        if fault.kills:
            os.kill(self.child, signal.SIGKILL)
        return done, fault.error, 0

    def _half(self) -> int:
        """Write the first half of what the call was to write; return how much that is."""
        pidfd = os.pidfd_open(self.child)
        taken = [pidfd]
        try:

            def theirs(argument: int) -> int:
                fd: int = _libc.syscall(_HERE["pidfd_getfd"], pidfd, self.arguments[argument], 0)
                if fd < 0:
                    raise OSError(ctypes.get_errno(), "pidfd_getfd")
                taken.append(fd)
                return fd

            if self.name == "copy_file_range":
                return os.copy_file_range(theirs(0), theirs(2), self.arguments[4] // 2)
            data = self._memory(self.arguments[1], self.arguments[2] // 2)
            if self.name == "write":
                return os.write(theirs(0), data)
            return os.pwrite(theirs(0), data, self.arguments[3])
        finally:
            for fd in taken:
                os.close(fd)
