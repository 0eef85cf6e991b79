"""The files of a local backend while they are written or read, and what its errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from modeldrop import disk, files
from modeldrop.errors import BackendError, BackendRefused, BackendUnreachable
from modeldrop.names import printable
from modeldrop.syncing import Syncing

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# What a mounted file server that went away answers.
_AWAY: Final = frozenset(
    {
        *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ENETDOWN, errno.ENETUNREACH),
    }
)

# What one call copies at most, so that a signal isn't kept waiting.
_PIECE: Final = 64 * 2**20
_PIECE_IN_MEMORY: Final = 2**20
# Two file systems of different kinds, and those that can't.
_NOT_BY_THE_KERNEL: Final = frozenset(
    {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}
)


class LocalWriter:
    """A file on its way into a folder, under a temporary name beside its final one."""

    # No digest goes along with what a disk is given; `proves_writes` says why it is believed.
    checked = False
    token = None

    def __init__(self, path: Path, named: Callable[[], None]) -> None:
        """Open the temporary file; its folder must be there.

        `named` makes the way to it last, once it has its name.
        """
        self._path = path
        self._named = named
        self._temp = files.temp_beside(path)
        self._sent = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._temp, flags, 0o644)
        self._syncing = Syncing(self._fd)

    def write(self, data: bytes | memoryview) -> int:
        """Write the next bytes."""
        with self._told():
            view = memoryview(data)
            while view:
                written = os.write(self._fd, view)
                self._wrote(written)
                view = view[written:]
        return len(data)

    def take(self, fd: int) -> None:
        """Write all that is left of another open file, by the kernel where that can be."""
        with self._told():
            try:
                while count := os.copy_file_range(fd, self._fd, _PIECE):
                    self._wrote(count)
            except OSError as error:
                if error.errno not in _NOT_BY_THE_KERNEL:
                    raise
        # What it has copied is behind both files' offsets.
        while data := os.read(fd, _PIECE_IN_MEMORY):
            self.write(data)

    def finish(self) -> None:
        """Check the count, sync, and give the file its name; an error leaves nothing behind."""
        try:
            with self._told():
                if os.fstat(self._fd).st_size != self._sent:
                    self._refuse("it isn't as long as what was written to it")
                self._syncing.finish()
                self._close()
                try:
                    linked = files.link_if_absent(self._temp, self._path)
                except files.NoExclusiveCreate:
                    # The key is unique: nobody else writes to it.
                    linked = not os.path.lexists(self._path)
                    if linked:
                        files.give_name(os.fspath(self._temp), os.fspath(self._path))
                if not linked:
                    self._refuse("it is there already")
                self._temp.unlink(missing_ok=True)
                disk.sync_folder(self._path.parent)
                self._named()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Drop the temporary file."""
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            self._temp.unlink(missing_ok=True)

    def leave(self) -> None:
        """Drop the temporary file."""
        self.abort()

    def _wrote(self, count: int) -> None:
        self._sent += count
        self._syncing.wrote(count)

    def _close(self) -> None:
        self._syncing.end()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _refuse(self, why: str) -> None:
        message = f"can't write {printable(str(self._path))}: {why}"
        raise BackendError(message, hint="`modeldrop verify` looks at the whole backend")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise told(error, "write", str(self._path)) from error


class LocalSource:
    """A stored file being read."""

    def __init__(self, path: str, fd: int) -> None:
        """Take over the open descriptor."""
        self._path = path
        self._fd = fd

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, and none at the end."""
        try:
            return os.read(self._fd, size)
        except OSError as error:
            raise told(error, "read", self._path) from error

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer, and return how many; none at the end."""
        try:
            return os.readv(self._fd, [view])
        except OSError as error:
            raise told(error, "read", self._path) from error

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def told(error: OSError, doing: str, path: str) -> BackendError:
    """Return what an operating system's error means for a backend."""
    place = printable(path)
    why = error.strerror or type(error).__name__
    message = f"can't {doing} {place}: {why}"
    detail: dict[str, object] = {"operation": doing, "place": path, "errno": error.errno}
    if error.errno in _FULL:
        hint = "make room on the disk, or raise the quota"
        return BackendError(message, hint=hint, detail=detail)
    if error.errno in _REFUSED:
        hint = "let this user read and write the backend's folder (`ls -ld` shows who may)"
        return BackendRefused(message, hint=hint, detail=detail)
    if error.errno in _AWAY:
        hint = "see whether the file server is there and mounted; doing it again is safe"
        return BackendUnreachable(message, hint=hint, detail=detail)
    hint = "doing it again is safe; `modeldrop verify` looks at what is stored"
    return BackendError(message, hint=hint, detail=detail)
