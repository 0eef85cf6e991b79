"""The safe walk: what is in staging, seen without opening a file and without leaving staging.

Every folder is opened relative to the descriptor of the one above it and never through a symbolic
link, so whoever swaps a folder for a link during the walk gains nothing: the open fails. Files
are only stat'ed, from the folder's descriptor. Special files are never opened. Three descriptors
are open at most, however deep and wide the run is, and there is no recursion.

A walk is no snapshot: what changes meanwhile may be seen as it was before or after. That is why
nothing is concluded from one `Observation`, only from its `signature()` staying equal.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from modeldrop.errors import InvalidName, NotFound, SourceChanged
from modeldrop.files import TEMP_PREFIX
from modeldrop.intake.observation import Observation, SeenFile, Signature, artifact_of
from modeldrop.intake.temporary import temporary
from modeldrop.names import MARKER, RECEIPT, RUN_FILES, parse_guid, printable, refuse_component
from modeldrop.records import Refused
from modeldrop.structs import Frozen, replace

__all__ = [
    "DEEPEST",
    "DONE",
    "OWN_PREFIX",
    "Found",
    "Observation",
    "SeenFile",
    "Signature",
    "artifact_of",
    "check_unchanged",
    "observe",
    "open_file",
    "opened",
    "read_small",
    "runs",
]

# The folder in staging that committed runs are moved to.
DONE: Final = "done"
# What modeldrop puts into staging for itself: canaries, runs that are put together aside.
OWN_PREFIX: Final = ".modeldrop-"
# Folders in folders. No model is that deep, and a folder costs as many opens as it is deep.
DEEPEST: Final = 100

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# It isn't there any more, or is something else by now: Linux answers ENOTDIR or ELOOP for a link,
# ENXIO for a socket, NFS answers ESTALE for what another client removed.
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE})
# Trouble of this process, which says nothing about the entry.
_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_KINDS: Final[tuple[tuple[int, str], ...]] = (
    (stat.S_IFLNK, "a symbolic link"),
    (stat.S_IFIFO, "a FIFO"),
    (stat.S_IFSOCK, "a socket"),
    (stat.S_IFCHR, "a device"),
    (stat.S_IFBLK, "a device"),
    (stat.S_IFREG, "a file"),
    (stat.S_IFDIR, "a folder"),
)


class Found(Frozen):
    """A top-level entry of staging: a run folder, or junk with the reason why it is no run.

    `name` is as on the disk, to be opened, and may need `names.printable` to be shown.
    """

    name: str
    guid: str | None
    reason: str | None
    folder: bool


def runs(staging: Path) -> Iterator[Found]:
    """Return what stands at the top of staging, sorted by name: run folders, and junk.

    Two spellings of one GUID are both junk, since nobody can say which of them is the run.
    `done/` and modeldrop's own files are passed over.

    Raises:
        NotFound: staging isn't there, or is no folder.
        OSError: staging can't be read.
    """
    found: list[Found] = []
    with _staging(staging) as root, os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.startswith((TEMP_PREFIX, OWN_PREFIX)):
                found.extend(_classify(entry))
    spellings: dict[str, list[str]] = {}
    for each in found:
        if each.guid is not None:
            spellings.setdefault(each.guid, []).append(each.name)
    return iter(
        sorted(
            (
                each
                if each.guid is None or len(spellings[each.guid]) == 1
                else _spelled_twice(each, spellings[each.guid])
                for each in found
            ),
            key=lambda each: os.fsencode(each.name),
        )
    )


def _classify(entry: os.DirEntry[str]) -> Iterator[Found]:
    """Yield what a top-level entry is, or nothing if it is gone or none of our business."""
    try:
        # The type comes with the listing on most file systems; a folder needs no stat.
        folder = entry.is_dir(follow_symlinks=False)
        kind = "a folder" if folder else _kind(entry.stat(follow_symlinks=False).st_mode)
    except OSError as error:
        if error.errno in _OURS:
            raise
        if error.errno not in _GONE:
            yield Found(entry.name, None, f"it can't be looked at: {_why(error)}", folder=False)
        return
    if not folder:
        yield Found(entry.name, None, f"it is {kind}, not a run folder", folder=False)
    elif entry.name != DONE:
        guid = parse_guid(entry.name)
        reason = None if guid else refuse_component(entry.name) or "its name is no run GUID"
        yield Found(entry.name, guid, reason, folder=True)


def _spelled_twice(found: Found, names: list[str]) -> Found:
    others = ", ".join(printable(name) for name in sorted(names) if name != found.name)
    return replace(found, guid=None, reason=f"it is another spelling of the GUID of {others}")


def observe(staging: Path, name: str, most: int | None = None) -> Observation:
    """Return what is in the run folder `name` of staging now, which may be deeper: `a/b`.

    Entries that vanish between their listing and their stat are just not there. One entry more
    than `most` ends the look: a run may hold more than fits into memory.

    Raises:
        NotFound: staging or the run folder isn't there, or is no folder any more.
        InvalidName: `name` is no name of a single entry.
        OSError: this process is out of descriptors or memory.
    """
    walk = _Walk(most)
    try:
        with _inside(staging, _components(name)) as run:
            walk.run(run)
    except OSError as error:
        if error.errno in _OURS:
            raise
        if error.errno in _GONE:
            raise _no_run(staging, name) from error
        walk.unreadable.append(Refused(".", _why(error)))
    return walk.observation()


class _Walk:
    """A walk under way: the folders that are still to be listed, and what was seen so far."""

    def __init__(self, most: int | None) -> None:
        self._left = most
        self.crowded = False
        self.files: list[SeenFile] = []
        self.refused: list[Refused] = []
        self.temporary: list[str] = []
        self.marker: SeenFile | None = None
        self.run_files: list[SeenFile] = []
        self.unreadable: list[Refused] = []
        self._folders: list[tuple[str, ...]] = [()]

    def run(self, run: int) -> None:
        """List every folder below the descriptor of the run."""
        while self._folders:
            folder = self._folders.pop()
            try:
                # Opened from the run's descriptor each time, so that a deep tree holds no more
                # descriptors than a flat one.
                with _below(run, folder) as fd, os.scandir(fd) as entries:
                    for entry in entries:
                        self._look_at(folder, entry)
                        if self._left is not None:
                            self._left -= 1
                            if self._left < 0:
                                self.crowded = True
                                return
            except OSError as error:
                self._missed("/".join(folder) or ".", error)

    def observation(self) -> Observation:
        """Return what was seen, sorted."""

        # UTF-8 sorts as its code points do, so comparing text compares the bytes of the path.
        def by_path(found: SeenFile | Refused) -> str:
            return found.path

        return Observation(
            files=tuple(sorted(self.files, key=by_path)),
            refused=tuple(sorted(self.refused, key=by_path)),
            temporary=tuple(sorted(self.temporary)),
            marker=self.marker,
            run_files=tuple(sorted(self.run_files, key=by_path)),
            unreadable=tuple(sorted(self.unreadable, key=by_path)),
            crowded=self.crowded,
        )

    def _look_at(self, folder: tuple[str, ...], entry: os.DirEntry[str]) -> None:
        name = entry.name
        if not folder and name == RECEIPT:
            return
        path = "/".join((*folder, name))
        bad_name = refuse_component(name)
        if bad_name is not None:
            # Not stat'ed: whatever it is, it can't be stored.
            self._refuse(path, bad_name)
            return
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            self._missed(path, error)
            return
        is_folder = stat.S_ISDIR(status.st_mode)
        if not is_folder and not stat.S_ISREG(status.st_mode):
            self._refuse(path, f"it is {_kind(status.st_mode)}")
        elif temporary(name) is not None:
            self.temporary.append(path)
        elif is_folder:
            self._descend((*folder, name))
        else:
            self._file(SeenFile(path, Signature.of(status)))

    def _descend(self, folder: tuple[str, ...]) -> None:
        if len(folder) == 1 and (folder[0] == MARKER or folder[0] in RUN_FILES):
            self._refuse(folder[0], "it is a folder, and must be a file")
        elif len(folder) > DEEPEST:
            self._refuse("/".join(folder), f"it is nested more than {DEEPEST} folders deep")
        else:
            self._folders.append(folder)

    def _file(self, seen: SeenFile) -> None:
        if seen.path == MARKER:
            self.marker = seen
        elif seen.path in RUN_FILES:
            self.run_files.append(seen)
        else:
            self.files.append(seen)

    def _refuse(self, path: str, reason: str) -> None:
        self.refused.append(Refused(printable(path), reason))

    def _missed(self, path: str, error: OSError) -> None:
        if error.errno in _OURS:
            raise error
        if error.errno not in _GONE:
            self.unreadable.append(Refused(printable(path), _why(error)))


def open_file(staging: Path, name: str, path: str, signature: Signature | None = None) -> int:
    """Return a descriptor to read a file of a run from; the caller closes it.

    It is a regular file in the run folder, reached through no link, and has `signature` if one
    is given.

    Raises:
        SourceChanged: it isn't there any more, or isn't what it was.
        PermissionError: it or a folder above it can't be read by this user; `filename` is `path`.
        InvalidName: `name` or `path` would lead somewhere else.
        OSError: it can't be opened for another reason.
    """
    *folders, last = _components(path)
    try:
        with _inside(staging, [*_components(name), *folders]) as folder:
            # Looked at before it is opened: to open a device may already set it to work.
            status = os.stat(last, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                _changed(path, f"it is {_kind(status.st_mode)} by now")
            fd = os.open(last, _FILE, dir_fd=folder)
    except NotFound as error:
        raise _source_changed(path, "staging is gone") from error
    except BlockingIOError as error:
        # Another program has a lease on it and must give that up first: a writer, as a rule.
        raise _source_changed(path, "another program holds it") from error
    except OSError as error:
        if error.errno in _GONE:
            raise _source_changed(path, "it isn't there any more") from error
        # The error knows the last component alone.
        error.filename = path
        raise
    try:
        check_unchanged(fd, path, signature)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def opened(staging: Path, *folders: str) -> Iterator[int]:
    """Yield the descriptor of staging, or of a folder in it that is reached through no link.

    Raises:
        NotFound: staging isn't there.
        InvalidName: one of the names would lead somewhere else.
        OSError: a folder isn't there, is something else, or can't be opened.
    """
    with _inside(staging, [_component(name) for name in folders]) as fd:
        yield fd


def check_unchanged(fd: int, path: str, signature: Signature | None) -> None:
    """Return if the open file is regular and has the signature still.

    Raises:
        SourceChanged: it has not.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        _changed(path, f"it is {_kind(status.st_mode)} by now")
    if signature is not None and Signature.of(status) != signature:
        _changed(path, "it was written to or replaced")


def read_small(staging: Path, name: str, seen: SeenFile) -> bytes:
    """Return the bytes of a file that was seen; the caller has checked that its size is small.

    Raises:
        SourceChanged: it changed since it was seen, or while it was read.
        PermissionError: it can't be read by this user.
        OSError: it can't be read for another reason.
    """
    fd = open_file(staging, name, seen.path, seen.signature)
    try:
        parts: list[bytes] = []
        missing = seen.signature.size
        while missing and (part := os.read(fd, missing)):
            parts.append(part)
            missing -= len(part)
        check_unchanged(fd, seen.path, seen.signature)
    finally:
        os.close(fd)
    return b"".join(parts)


@contextlib.contextmanager
def _staging(staging: Path) -> Iterator[int]:
    try:
        # The one place where a link is followed: the path of staging is the user's own setting.
        fd = os.open(staging, _FOLDER & ~os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        message = f"the staging folder {printable(str(staging))!r} isn't there"
        raise NotFound(
            message,
            hint="make the folder, or set another one: `staging` in config.toml",
            detail={"staging": printable(str(staging))},
        ) from error
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _inside(staging: Path, folders: Sequence[str]) -> Iterator[int]:
    """Yield the descriptor of staging, or of a folder in it that is reached through no link.

    Raises:
        NotFound: staging isn't there.
    """
    if not folders:
        with _staging(staging) as root:
            yield root
        return
    try:
        # Links may lead to staging, and none inside of it: O_NOFOLLOW is about the last name.
        fd = os.open(os.path.join(staging, folders[0]), _FOLDER)
    except OSError:
        with _staging(staging):
            raise
    try:
        with _below(fd, folders[1:]) as folder:
            yield folder
    finally:
        os.close(fd)


@contextlib.contextmanager
def _below(top: int, folders: Sequence[str]) -> Iterator[int]:
    """Yield the descriptor of a folder below `top`, opened one component after the other."""
    fd = top
    try:
        for folder in folders:
            deeper = os.open(folder, _FOLDER, dir_fd=fd)
            if fd != top:
                os.close(fd)
            fd = deeper
        yield fd
    finally:
        if fd != top:
            os.close(fd)


def _components(path: str) -> list[str]:
    return [_component(part) for part in path.split("/")]


def _component(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        message = f"{printable(name)!r} is no name of an entry in a folder"
        raise InvalidName(message)
    return name


def _kind(mode: int) -> str:
    return dict(_KINDS).get(stat.S_IFMT(mode), "neither file nor folder")


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "unknown error"


def _no_run(staging: Path, name: str) -> NotFound:
    where = printable(str(staging))
    return NotFound(
        f"there is no run folder {printable(name)!r} in {where!r}",
        hint="`modeldrop status` shows what is in staging",
        detail={"staging": where, "name": printable(name)},
    )


def _source_changed(path: str, why: str) -> SourceChanged:
    shown = printable(path)
    return SourceChanged(
        f"{shown!r} changed: {why}",
        hint="nothing was stored of it; it is stored once it stays as it is",
        detail={"path": shown},
    )


def _changed(path: str, why: str) -> NoReturn:
    raise _source_changed(path, why)
