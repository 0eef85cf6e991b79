"""What a process does to a folder, recorded call by call, as a crash would have to undo it.

Recorded is what the product asks of the system: the functions of `os`, files that are opened to be
written, and the two calls of the C library that `files` makes. So a wait for the disk that is left
out in the product is missing here, too. Nothing is really waited for: that costs time, and what is
on the disk is decided by `powerloss`.

What is done is recorded by what it is done to, a file or folder with a number of its own (a node),
and not by its path: a rename doesn't lose what was written before. At the end the recording is
compared with the folder; whoever writes past the recorder is found so.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import functools
import io
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import modeldrop
from modeldrop import batch, disk, files

if TYPE_CHECKING:
    import ctypes

AnyPath = str | os.PathLike[str]

Site = tuple[str, int]
"""A module's path in the repository, and a line."""

_ROOT: Final = str(Path(modeldrop.__file__).parents[2])
_OURS: Final = tuple(f"{_ROOT}/{each}/" for each in ("store", "daemon", "cli"))


@dataclass(slots=True)
class Node:
    """A file, folder or symbolic link as it was made."""

    kind: str
    """`file`, `folder` or `link`."""
    mode: int
    data: bytes = b""
    """What a file of the beginning held, or where a link leads."""
    mtime: int = 0
    entries: dict[str, int] = field(default_factory=dict)
    """What a folder of the beginning held."""


@dataclass(frozen=True, slots=True)
class Linked:
    """A node got a name."""

    folder: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Unlinked:
    """A node lost a name."""

    folder: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Renamed:
    """A node got another name, in place of whatever had that."""

    folder: int
    name: str
    to_folder: int
    to_name: str
    node: int


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes were written to a file."""

    node: int
    offset: int
    data: bytes
    mtime: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """A file got another size."""

    node: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """Somebody waited for a node, or with None for all; where, innermost first."""

    node: int | None
    sites: tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """The caller was told something."""

    what: Any


Event = Linked | Unlinked | Renamed | Wrote | Truncated | Synced | Said


@dataclass(slots=True)
class Recording:
    """A folder as it was, and what was done to it; node 0 is the folder itself."""

    nodes: dict[int, Node]
    events: list[Event]
    begun: int = 0
    """From which event on it was recorded what is told: before that, a process was killed."""

    def told(self, at: int) -> list[Any]:
        """Return what the caller was told before an event."""
        return [each.what for each in self.events[self.begun : at] if isinstance(each, Said)]


class Killed(BaseException):
    """The recorded process is dead; nothing that it tries still happens."""


class Recorder:
    """Records this process, once `install` was called."""

    def __init__(self, root: Path) -> None:
        """Begin with what is in a folder now."""
        self._root = root
        self._lock = threading.RLock()
        self._known: dict[tuple[int, int], int] = {}
        self._held: list[int] = []
        self.nodes: dict[int, Node] = {}
        self.events: list[Event] = []
        self.left: int | None = None
        """How many more waits for the disk there are before this process is killed; None for all.
        """
        self.dead = False
        self._real = {name: getattr(os, name) for name in dir(os)}
        self._take_in(os.fspath(root))
        self.begun = 0

    def recording(self) -> Recording:
        """Return what was recorded."""
        return Recording(self.nodes, self.events, self.begun)

    def say(self, what: object) -> None:
        """Note that the caller was told something."""
        with self._lock:
            self._step()
            self.events.append(Said(what))

    # Nodes

    def _take_in(self, path: str) -> int:
        """Know what is at a path from now on, with all that is in it."""
        found = self._real["lstat"](path)
        number = self._know(path, found)
        node = self.nodes[number]
        if node.kind == "folder":
            node.entries = {
                name: self._take_in(f"{path}/{name}") for name in sorted(os.listdir(path))
            }
        elif node.kind == "file":
            node.data, node.mtime = Path(path).read_bytes(), found.st_mtime_ns
        return number

    def _know(self, path: str, found: os.stat_result, dir_fd: int | None = None) -> int:
        """Give what was just made a number, and keep its inode from being given again."""
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        self._held.append(self._real["open"](path, flags, dir_fd=dir_fd))
        number = len(self.nodes)
        self._known[found.st_dev, found.st_ino] = number
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISDIR(found.st_mode):
            self.nodes[number] = Node("folder", mode)
        elif stat.S_ISLNK(found.st_mode):
            to = os.fsencode(os.readlink(path, dir_fd=dir_fd))
            self.nodes[number] = Node("link", mode, to)
        else:
            self.nodes[number] = Node("file", mode, mtime=found.st_mtime_ns)
        return number

    def _at(self, path: AnyPath, dir_fd: int | None) -> tuple[int, str] | None:
        """Return the folder that a path is in, and its name there; None if that isn't ours."""
        folder, name = os.path.split(os.fspath(path).rstrip("/"))
        try:
            if folder or dir_fd is None:
                found = self._real["stat"](folder or ".", dir_fd=dir_fd)
            else:
                found = self._real["fstat"](dir_fd)
        except OSError:
            return None
        number = self._known.get((found.st_dev, found.st_ino))
        return None if number is None else (number, name)

    def _node(self, found: os.stat_result) -> int | None:
        return self._known.get((found.st_dev, found.st_ino))

    def _step(self) -> None:
        if self.dead:
            raise Killed

    def _step_to_wait(self) -> None:
        if self.left is not None:
            self.left -= 1
            # What a crash may take is most just before somebody waits.
            self.dead = self.left < 0
        self._step()

    # Calls

    def install(self, *, whole: bool) -> None:
        """Record from now on; `whole` says whether all of the file system is waited for at once."""
        for name in ("open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "link"):
            setattr(os, name, self._wrapped(getattr(self, f"_{name}")))
        for name in ("symlink", "unlink", "rename", "mkdir", "copy_file_range", "sendfile"):
            setattr(os, name, self._wrapped(getattr(self, f"_{name}")))
        os.remove, os.rmdir, os.replace = (
            self._wrapped(self._unlink),
            self._wrapped(functools.partial(self._unlink, by="rmdir")),
            self._wrapped(functools.partial(self._rename, by="replace")),
        )
        for name in ("writev", "pwritev", "truncate", "sync", "posix_fallocate", "mknod", "mkfifo"):
            setattr(os, name, functools.partial(_unknown, name))
        builtins.open = io.open = self._open_file  # type: ignore[assignment] # as open() in all that is used
        library: Any = _Library(self, disk.libc())
        disk.libc = functools.cache(lambda: library)
        disk.libc()
        disk.syncs_whole = lambda fd: whole  # noqa: ARG005 - whatever the disk
        batch._read_unwritten = lambda: 0

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def locked(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the call takes
            with self._lock:
                return call(*arguments, **named)

        return locked

    def _open(
        self,
        path: AnyPath,
        flags: int,
        mode: int = 0o777,
        *,
        dir_fd: int | None = None,
    ) -> int:
        real = self._real["open"]
        if not flags & (os.O_CREAT | os.O_TRUNC):
            return int(real(path, flags, mode, dir_fd=dir_fd))
        at = self._at(path, dir_fd)
        if at is None:
            return int(real(path, flags, mode, dir_fd=dir_fd))
        self._step()
        try:
            self._real["stat"](path, dir_fd=dir_fd, follow_symlinks=False)
            was_there = True
        except FileNotFoundError:
            was_there = False
        fd = int(real(path, flags, mode, dir_fd=dir_fd))
        found = self._real["fstat"](fd)
        if not was_there:
            self.events.append(Linked(*at, self._know(os.fspath(path), found, dir_fd)))
        elif flags & os.O_TRUNC and (node := self._node(found)) is not None:
            self.events.append(Truncated(node, 0))
        return fd

    def _write(self, fd: int, data: bytes | memoryview, /) -> int:
        at = self._place(fd)
        return self._put(self._real["write"], (fd, data), fd, data, at)

    def _pwrite(self, fd: int, data: bytes | memoryview, offset: int, /) -> int:
        return self._put(self._real["pwrite"], (fd, data, offset), fd, data, offset)

    def _put(
        self,
        call: Callable[..., int],
        arguments: tuple[Any, ...],
        fd: int,
        data: bytes | memoryview,
        at: int,
    ) -> int:
        node = self._node(self._real["fstat"](fd))
        if node is None:
            return call(*arguments)
        self._step()
        count = call(*arguments)
        mtime = self._real["fstat"](fd).st_mtime_ns
        self.events.append(Wrote(node, at, bytes(memoryview(data)[:count]), mtime))
        return count

    def _place(self, fd: int) -> int:
        """Return where the next write to a file goes; -1 where that means nothing."""
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
                return int(self._real["fstat"](fd).st_size)
            return int(self._real["lseek"](fd, 0, os.SEEK_CUR))
        except OSError:
            return -1

    def _copy_file_range(self, src: int, dst: int, count: int) -> int:
        return self._copied(dst, lambda: self._real["copy_file_range"](src, dst, count))

    def _sendfile(self, out: int, src: int, offset: int, count: int) -> int:
        return self._copied(out, lambda: self._real["sendfile"](out, src, offset, count))

    def _copied(self, fd: int, call: Callable[[], int]) -> int:
        node = self._node(self._real["fstat"](fd))
        at = self._place(fd)
        if node is not None:
            self._step()
        count = call()
        if node is not None and count:
            # It may be open for nothing but writing.
            reader = self._real["open"](f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(reader, count, at)
            finally:
                os.close(reader)
            self.events.append(Wrote(node, at, data, self._real["fstat"](fd).st_mtime_ns))
        return count

    def _ftruncate(self, fd: int, size: int) -> None:
        node = self._node(self._real["fstat"](fd))
        if node is not None:
            self._step()
            self.events.append(Truncated(node, size))
        self._real["ftruncate"](fd, size)

    def _fsync(self, fd: int) -> None:
        node = self._node(self._real["fstat"](fd))
        if node is not None:
            self._step_to_wait()
            self.events.append(Synced(node, _sites()))

    _fdatasync = _fsync

    def sync_whole(self) -> None:
        """Record that all is waited for."""
        with self._lock:
            self._step_to_wait()
            self.events.append(Synced(None, _sites()))

    def _link(self, src: AnyPath, dst: AnyPath) -> None:
        at = self._at(dst, None)
        if at is None:
            self._real["link"](src, dst)
            return
        self._step()
        self._real["link"](src, dst)
        self.events.append(Linked(*at, self._known_at(dst)))

    def _symlink(self, to: AnyPath, path: AnyPath) -> None:
        at = self._at(path, None)
        if at is not None:
            self._step()
        self._real["symlink"](to, path)
        if at is not None:
            found = self._real["lstat"](path)
            self.events.append(Linked(*at, self._know(os.fspath(path), found)))

    def _mkdir(self, path: AnyPath, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        at = self._at(path, dir_fd)
        if at is not None:
            self._step()
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        if at is not None:
            found = self._real["stat"](path, dir_fd=dir_fd, follow_symlinks=False)
            self.events.append(Linked(*at, self._know(os.fspath(path), found, dir_fd)))

    def _unlink(self, path: AnyPath, *, dir_fd: int | None = None, by: str = "unlink") -> None:
        at = self._at(path, dir_fd)
        if at is None:
            self._real[by](path, dir_fd=dir_fd)
            return
        self._step()
        node = self._known_at(path, dir_fd)
        self._real[by](path, dir_fd=dir_fd)
        self.events.append(Unlinked(*at, node))

    def _rename(
        self,
        src: AnyPath,
        dst: AnyPath,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        by: str = "rename",
    ) -> None:
        def call() -> None:
            self._real[by](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        self.renamed(src, dst, src_dir_fd, dst_dir_fd, call)

    def renamed(
        self,
        src: AnyPath,
        dst: AnyPath,
        src_dir_fd: int | None,
        dst_dir_fd: int | None,
        call: Callable[[], object],
    ) -> None:
        """Record a rename that `call` makes."""
        with self._lock:
            before, after = self._at(src, src_dir_fd), self._at(dst, dst_dir_fd)
            if before is None or after is None:
                assert before is after is None, f"{dst} comes from elsewhere"
                call()
                return
            self._step()
            node = self._known_at(src, src_dir_fd)
            call()
            self.events.append(Renamed(*before, *after, node))

    def _known_at(self, path: AnyPath, dir_fd: int | None = None) -> int:
        """Return what is at a path; -1 if that is nothing, for the call to say so."""
        try:
            found = self._real["stat"](path, dir_fd=dir_fd, follow_symlinks=False)
        except OSError:
            return -1
        return self._known[found.st_dev, found.st_ino]

    def _open_file(  # what builtins.open takes
        self,
        file: AnyPath | int,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
    ) -> IO[Any]:
        if not set(mode) & set("wax+") or isinstance(file, int):
            return _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _File(self, file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        assert "+" not in mode, "it isn't known here what is read and written in turn"
        buffered = io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline)


class _File(io.FileIO):
    """A file that is written to through the recorder."""

    def __init__(self, recorder: Recorder, path: AnyPath, mode: str) -> None:
        self._recorder = recorder

        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o666)

        super().__init__(path, mode, opener=opener)

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        return os.write(self.fileno(), data)

    def truncate(self, size: int | None = None, /) -> int:
        size = self.tell() if size is None else size
        os.ftruncate(self.fileno(), size)
        return size


_OPEN: Final = builtins.open


class _Library:
    """What `files` uses of the C library."""

    def __init__(self, recorder: Recorder, real: ctypes.CDLL) -> None:
        self._recorder = recorder
        self._real = real

    def renameat2(self, source: int, old: bytes, target: int, new: bytes, flags: int) -> int:
        answered = 0

        def call() -> None:
            nonlocal answered
            answered = self._real.renameat2(source, old, target, new, flags)
            if answered:
                raise _Refused

        first, second = (None if each == files._AT_FDCWD else each for each in (source, target))
        with contextlib.suppress(_Refused):
            self._recorder.renamed(os.fsdecode(old), os.fsdecode(new), first, second, call)
        return answered

    def syncfs(self, fd: int) -> int:
        assert fd >= 0
        self._recorder.sync_whole()
        return 0


class _Refused(Exception):
    pass


def _unknown(name: str, *_: object, **__: object) -> None:
    message = f"os.{name} is called, and what a crash makes of that isn't known here"
    raise AssertionError(message)


def _sites() -> tuple[Site, ...]:
    """Return the lines of the product that lead to where this is called, innermost first."""
    return tuple(_lines())


def _lines() -> Iterator[Site]:
    frame = sys._getframe(2)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_OURS):
            yield path[len(_ROOT) + 1 :], frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment] # it ends with None
