"""A folder of this machine, or of a file server that it has mounted, as a backend.

Whatever has its final name is whole and on the disk: a record is written aside, synced and linked
to its name, which one of any number of processes can do; so are the bytes. A crash leaves a
temporary file at worst, which no listing shows. A folder that becomes empty is removed, so that,
as in an object store, a folder is there while something is in it.

The root itself isn't made again when it is gone: an unmounted disk would look like an empty store.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from modeldrop import disk, files, layout, locks
from modeldrop.backend.base import Backend, Capabilities, Stored, Unfinished, check_key
from modeldrop.backend.local_files import LocalSource, LocalWriter, told
from modeldrop.batch import Batch, Pending
from modeldrop.errors import BackendError, BucketNotFound
from modeldrop.names import printable

_CHUNK: Final = 4 * 2**20
_CONNECTIONS: Final = 4
# What most records fit into, read at once.
_RECORD: Final = 1 << 16
# Another process may remove a folder as empty just before we put something into it.
_ATTEMPTS: Final = 20

_ABSENT: Final = (FileNotFoundError, NotADirectoryError)

_T = TypeVar("_T")


# Asked all the time, and there are two.
@functools.cache
def _capabilities(*, exclusive: bool) -> Capabilities:
    return Capabilities(
        exclusive_create=exclusive,
        lists_by_prefix=False,
        # The count was checked and fsync succeeded; a disk that lies isn't promised for.
        proves_writes=True,
        connections=_CONNECTIONS,
        chunk_size=_CHUNK,
        leads=True,
        replaces=True,
        shares_waits=exclusive,
        # Nobody goes on with a temporary file.
        gives_up_after=timedelta(days=1),
    )


class LocalBackend:
    """The backend that is a folder."""

    def __init__(self, root: Path) -> None:
        """Take an absolute path; nothing is read or made yet."""
        self._root = root
        self._text = str(root)
        self._exclusive = True

    @property
    def url(self) -> str:
        """The folder's path."""
        return self._text

    @property
    def endpoint(self) -> str | None:
        """None: it is this machine."""
        return None

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; `exclusive_create` turns false if the file system is found without."""
        return _capabilities(exclusive=self._exclusive)

    def prepare(self) -> None:
        """Make the folder, durably."""
        with self._told("make", self._text):
            files.make_folders(self._root)

    def read(self, key: str) -> bytes | None:
        """Return a small record, or None if it is absent."""
        path = self._path(key)
        with self._told("read", path):
            fd = self._open(path)
            if fd is None:
                return None
            try:
                parts: list[bytes] = []
                while part := os.read(fd, _RECORD):
                    parts.append(part)
                return b"".join(parts)
            finally:
                os.close(fd)

    def create(self, key: str, data: bytes) -> bool:
        """Create a small record if it is absent: whole, durable, and by one process only."""
        path = self._path(key)
        with self._told("create", path):
            made: list[str] = []
            try:
                is_first = self._in_folder(path, lambda: files.create_durable(path, data), made)
            except files.NoExclusiveCreate:
                # Good enough for one writer; `init` asks the capability and demands that.
                self._exclusive = False
                is_first = not os.path.lexists(path)
                if is_first:
                    files.write_durable(Path(path), data)
            self._sync(made)
            return is_first

    def confirm(self, key: str) -> None:
        """Wait until a record's name and the way to it are on the disk; its bytes came before."""
        path = self._path(key)
        with self._told("look at", path):
            for folder in [*self._above(path), os.path.dirname(path)]:
                disk.sync_folder(folder)

    def create_in(self, batch: Batch, key: str, data: bytes) -> Pending | None:
        """Have a file or record created with all else of a folder of the root, if that is absent.

        None if there is such a folder, or where it can't be made to appear at once.
        """
        path = self._path(key)
        with self._told("create", path):
            try:
                return batch.create_within(f"{self._text}/{key.partition('/')[0]}", path, data)
            except FileNotFoundError:
                self._check_root()
                raise

    def create_among(self, batch: Batch, key: str, data: bytes) -> Pending | None:
        """Have a record created with a batch, if it is absent, in a folder that is there."""
        path = self._path(key)
        with self._told("create", path):
            return batch.create(path, data)

    def confirm_in(self, batch: Batch, key: str) -> None:
        """Have a record's name and the way to it last with a batch."""
        path = self._path(key)
        with self._told("look at", path):
            batch.confirm(*self._above(path), os.path.dirname(path))

    def stat(self, key: str) -> Stored | None:
        """Return the size of a stored file, or None if it is absent."""
        path = self._path(key)
        with self._told("look at", path):
            try:
                found = os.stat(path)
            except _ABSENT:
                self._check_root()
                return None
            return Stored(key, found.st_size) if stat.S_ISREG(found.st_mode) else None

    def writer(self, key: str, size: int) -> LocalWriter:
        """Begin a file beside its final name."""
        del size
        path = self._path(key)
        with self._told("write", path):
            made: list[str] = []
            return self._in_folder(
                path, lambda: LocalWriter(Path(path), functools.partial(self._sync, made)), made
            )

    def resume(self, key: str, size: int, token: str) -> None:
        """Return None: a copy on a disk is as quick as finding out what is there of it."""
        del key, size, token

    def source(self, key: str, start: int = 0) -> LocalSource | None:
        """Open a stored file to read it from `start` on, or return None if it is absent."""
        path = self._path(key)
        with self._told("read", path):
            fd = self._open(path)
            if fd is None:
                return None
            if start:
                os.lseek(fd, start, os.SEEK_SET)
            return LocalSource(path, fd)

    def children(self, folder: str, prefix: str = "") -> Iterator[str]:
        """Yield the names directly in a folder that begin with `prefix`."""
        path = self._path(folder) if folder else self._text
        with self._told("list", path):
            try:
                names = os.listdir(path)
            except _ABSENT:
                self._check_root()
                return
        for name in names:
            if name.startswith(prefix) and not name.startswith(files.TEMP_PREFIX):
                yield name

    def walk(self, folder: str) -> Iterator[Stored]:
        """Yield every stored file in a folder and below."""
        folders = [folder]
        while folders:
            at = folders.pop()
            path = self._path(at) if at else self._text
            found: list[Stored] = []
            with self._told("list", path):
                try:
                    with os.scandir(path) as entries:
                        for entry in entries:
                            key = f"{at}/{entry.name}" if at else entry.name
                            if entry.name.startswith(files.TEMP_PREFIX):
                                continue
                            if entry.is_dir(follow_symlinks=False):
                                folders.append(key)
                            elif entry.is_file():
                                # Removed since it was listed: not there any more.
                                with contextlib.suppress(FileNotFoundError):
                                    found.append(Stored(key, entry.stat().st_size))
                except _ABSENT:
                    self._check_root()
            yield from found

    def delete(self, key: str) -> None:
        """Delete a file, if it is there, and the folders that it leaves empty; durably."""
        path = self._path(key)
        with self._told("delete", path):
            try:
                os.unlink(path)
            except (*_ABSENT, IsADirectoryError):
                self._check_root()
                return
            self._remove_empty(Path(path).parent)

    def take(self, source: Backend, source_key: str, key: str, size: int) -> bool:
        """Copy a file that this machine can open, by the kernel, which shares blocks if it can."""
        origin = source.local_path(source_key)
        fd = None if origin is None else self._opened(str(origin))
        if fd is None:
            return False
        try:
            writer = self.writer(key, size)
            try:
                writer.take(fd)
                writer.finish()
            except BaseException:
                writer.abort()
                raise
        finally:
            os.close(fd)
        return True

    def replace(self, key: str, data: bytes) -> None:
        """Replace a record by renaming another one over it."""
        path = self._path(key)
        with self._told("write", path):
            made: list[str] = []
            self._in_folder(path, lambda: files.write_durable(Path(path), data), made)
            self._sync(made)

    def lead(self, key: str, to: str) -> None:
        """Have a symbolic link lead to a folder, by renaming another one over it."""
        path = self._path(key)
        with self._told("switch", path):
            files.lead_to(path, to)

    def led(self, key: str) -> str | None:
        """Return where a symbolic link leads to.

        Raises:
            BackendError: what is there is no link.
        """
        path = self._path(key)
        with self._told("read", path):
            try:
                return os.readlink(path)
            except _ABSENT:
                self._check_root()
                return None
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        message = f"{printable(path)} is no symbolic link"
        raise BackendError(message, hint="move it away: it is to lead to what is live")

    @contextlib.contextmanager
    def turn(self, key: str, what: str) -> Iterator[None]:
        """Hold a lock file; the folder that it is in is there."""
        path = self._path(key)
        with contextlib.ExitStack() as stack:
            with self._told("lock", path):
                stack.enter_context(locks.hold(Path(path), what=what))
            yield

    def clear(self, folder: str) -> None:
        """Remove a folder, and those above it that this leaves empty; durably."""
        path = self._path(folder)
        with self._told("delete", path):
            try:
                shutil.rmtree(path)
            except _ABSENT:
                self._check_root()
                return
            self._remove_empty(Path(path).parent)

    def _opened(self, path: str) -> int | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            # Whoever reads it by its own backend is told why.
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and those above it if they are empty, and make that last."""
        with contextlib.suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent
        # Where a folder was removed by somebody else meanwhile, its parent is as good: the name is
        # gone with it.
        while folder != self._root and not folder.is_dir():
            folder = folder.parent
        with contextlib.suppress(FileNotFoundError):
            disk.sync_folder(folder)

    def end_unfinished(self, before: datetime, *, dry_run: bool = False) -> list[Unfinished]:
        """Remove the temporary files and folders that nobody has written to since a time."""
        ended = []
        for key in self._temporary():
            path = self._path(key)
            found = files.last_touched(path)
            if found is None:
                continue
            touched = datetime.fromtimestamp(found[0], UTC)
            if touched < before:
                if not dry_run:
                    self._remove_temp(key, path)
                ended.append(Unfinished(key, touched, found[1]))
        return ended

    def _remove_temp(self, key: str, path: str) -> None:
        with self._told("delete", path):
            if os.path.isdir(path):
                files.remove_temp(path)
                return
        # With the folders that it leaves empty.
        self.delete(key)

    def _temporary(self) -> Iterator[str]:
        """Yield the keys of what has a temporary name of ours, in folders of ours."""
        folders = [""]
        while folders:
            at = folders.pop()
            path = self._path(at) if at else self._text
            found: list[str] = []
            with self._told("list", path), contextlib.suppress(*_ABSENT), os.scandir(path) as all_:
                for entry in all_:
                    key = f"{at}/{entry.name}" if at else entry.name
                    if files.is_temp_name(entry.name):
                        found.append(key)
                    # At the root there may be anybody's.
                    elif entry.is_dir(follow_symlinks=False) and (
                        at or entry.name == layout.META or layout.is_run_folder(entry.name)
                    ):
                        folders.append(key)
            yield from found

    def now(self) -> None:
        """Return None: it is this machine's clock."""

    def local_path(self, key: str) -> Path | None:
        """Return where a stored file is."""
        return Path(self._path(key))

    def free(self) -> int | None:
        """Return how many bytes the disk has left for this user; a quota isn't seen."""
        with self._told("look at", self._text):
            try:
                found = os.statvfs(self._text)
            except _ABSENT:
                self._check_root()
                raise
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def _path(self, key: str) -> str:
        return f"{self._text}/{check_key(key)}"

    def _open(self, path: str) -> int | None:
        try:
            # Without O_NONBLOCK, a FIFO that somebody put there would hold us for ever.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except _ABSENT:
            self._check_root()
            return None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        return fd

    def _sync(self, made: list[str]) -> None:
        """Make the folders last that were made on the way to a file, once that file does."""
        for folder in made:
            # What was removed meanwhile holds nothing of ours.
            with contextlib.suppress(FileNotFoundError):
                disk.sync_folder(folder)

    def _in_folder(self, path: str, action: Callable[[], _T], made: list[str]) -> _T:
        """Do what needs the path's folder, and make that first if it is missing.

        The folders that are to be synced afterwards are added to `made`.
        """
        for _ in range(_ATTEMPTS):
            try:
                return action()
            except FileNotFoundError:
                self._check_root()
                with contextlib.suppress(FileNotFoundError):
                    if files.begin_folders(os.path.dirname(path)):
                        # All the way: who made the folders above may not have come so far.
                        made[:] = self._above(path)
        return action()

    def _above(self, path: str) -> list[str]:
        """Return the folders from the root down to the one that a path's own folder is in."""
        folders = []
        folder = os.path.dirname(path)
        while len(folder) > len(self._text):
            folder = os.path.dirname(folder)
            folders.append(folder)
        return folders[::-1]

    def _check_root(self) -> None:
        """Raise `BucketNotFound` unless the root is there: then what wasn't found is absent."""
        if not os.path.isdir(self._text):
            message = f"the backend's folder {printable(self._text)} doesn't exist"
            raise BucketNotFound(
                message,
                hint="mount it, if it is on another disk; `modeldrop init` makes a new one",
                detail={"place": self._text},
            )

    @contextlib.contextmanager
    def _told(self, doing: str, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise told(error, doing, path) from error
