"""Deleting what was listed, and nothing else, from a run's folder that is aside in staging.

The list is on the disk before anything is deleted, so that a deletion that a crash has cut short
can go on. It is in staging, beside the folder, where others may write; so one counts only if it
is this user's, whole, and leads nowhere but into the folder that it was made for.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from modeldrop import files
from modeldrop.errors import ModeldropError, SourceChanged
from modeldrop.form import Part, Record
from modeldrop.intake import lease, walk
from modeldrop.intake.observation import SeenFile, Signature
from modeldrop.names import RECEIPT, printable, refuse_path
from modeldrop.structs import replace

_log = logging.getLogger(__name__)

_NAME: Final = re.compile(re.escape(walk.OWN_PREFIX) + r"deletion-([0-9a-f]{16})\.json")
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _Listed(Part):
    path: str
    signature: str


class _Deletion(Record):
    """`.modeldrop-deletion-<token>.json`: what may be deleted of the folder of that token."""

    kind: ClassVar[str] = "deletion"
    folder: str
    files: tuple[_Listed, ...]


def note(staging: Path, token: str, folder: str, seen: tuple[SeenFile, ...]) -> None:
    """Put the list of what may be deleted on the disk."""
    listed = tuple(_Listed(each.path, each.signature.spelled()) for each in seen)
    files.write_durable(_path(staging, token), _Deletion(folder, listed).to_bytes(), mode=0o600)


def noted(staging: Path, token: str, folder: str) -> tuple[SeenFile, ...] | None:
    """Return what may be deleted of a folder, or None if nothing may."""
    path = _path(staging, token)
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("%s is no list of what to delete: %s", printable(str(path)), error.strerror)
        return None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            _log.warning("%s is no file of this user, and is not used", printable(str(path)))
            return None
        with os.fdopen(fd, "rb", closefd=False) as file:
            deletion = _Deletion.from_bytes(file.read(), str(path))
        seen = tuple(SeenFile(each.path, _parse(each)) for each in deletion.files)
    except (ModeldropError, ValueError) as error:
        _log.warning("%s can't be understood: %s", printable(str(path)), printable(str(error)))
        return None
    finally:
        os.close(fd)
    return seen if deletion.folder == folder else None


def _parse(listed: _Listed) -> Signature:
    why = refuse_path(listed.path)
    if why:
        message = f"{listed.path}: {why}"
        raise ValueError(message)
    return Signature.parse(listed.signature)


def forget(staging: Path, token: str) -> None:
    """Take a list away: nothing may be deleted by it any more."""
    files.remove_durable(_path(staging, token))


def forget_others(staging: Path, tokens: Collection[str]) -> None:
    """Take away every list but those of these tokens: their folders are gone."""
    for entry in os.listdir(staging):
        found = _NAME.fullmatch(entry)
        if found and found[1] not in tokens:
            with contextlib.suppress(OSError):
                forget(staging, found[1])


def _path(staging: Path, token: str) -> Path:
    return staging / f"{walk.OWN_PREFIX}deletion-{token}.json"


def check_writable(staging: Path, folder: str) -> None:
    """Return if this user may remove what is in the folder and in those below it.

    Raises:
        PermissionError: in one of them it may not; `filename` is its path.
    """
    for below in _folders(staging, folder):
        with walk.opened(staging, folder, *below) as fd:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
                path = printable("/".join(below) or folder)
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def remove(staging: Path, folder: str, listed: tuple[SeenFile, ...]) -> None:
    """Remove the listed files from a folder, the receipt, and the folders that are empty then.

    A listed file that isn't there is no matter.

    Raises:
        SourceChanged: something else is in there, or one of them is something else by now.
        OSError: one of them can't be removed; `filename` is its path.
    """
    failed: OSError | SourceChanged | None = None
    inodes = Counter((each.signature.device, each.signature.inode) for each in listed)
    for seen in listed:
        linked = inodes[seen.signature.device, seen.signature.inode] > 1
        try:
            _remove_file(staging, folder, seen, linked=linked)
        except (OSError, SourceChanged) as error:
            failed = failed or error
    with walk.opened(staging, folder) as top:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(RECEIPT, dir_fd=top)
        for below in sorted(_folders(staging, folder), key=len, reverse=True):
            if below:
                # One that isn't empty shows in the end, with what is in it.
                with contextlib.suppress(OSError), walk.opened(staging, folder, *below[:-1]) as up:
                    os.rmdir(below[-1], dir_fd=up)
        left = sorted(os.listdir(top))
    if failed is not None:
        raise failed
    if left:
        message = f"the staged copy was deleted, but for {printable(left[0])}, which is new"
        raise SourceChanged(message, hint="nothing to do: it is looked at again by itself")


def _remove_file(staging: Path, folder: str, seen: SeenFile, *, linked: bool) -> None:
    *above, name = seen.path.split("/")
    with contextlib.ExitStack() as stack:
        try:
            up = stack.enter_context(walk.opened(staging, folder, *above))
            os.stat(name, dir_fd=up, follow_symlinks=False)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            _changed(seen)
        # Through no link, and no more than a look before it is known to be a file.
        fd = walk.open_file(staging, folder, seen.path)
        stack.callback(os.close, fd)
        held = os.fstat(fd)
        if not _is_same(Signature.of(held), seen.signature, linked=linked):
            _changed(seen)
        if lease.probe(fd) is lease.Writers.SOME:
            _changed(seen)
        _unlink(up, name, seen, held)


def _unlink(up: int, name: str, seen: SeenFile, held: os.stat_result) -> None:
    if not os.path.samestat(os.stat(name, dir_fd=up, follow_symlinks=False), held):
        _changed(seen)
    try:
        os.unlink(name, dir_fd=up)
    except OSError as error:
        error.filename = printable(seen.path)
        raise
    _log.debug("step: file removed")


def _is_same(found: Signature, listed: Signature, *, linked: bool) -> bool:
    # To remove one of several names of a file changes the ctime of all.
    return found == (replace(listed, ctime_ns=found.ctime_ns) if linked else listed)


def _changed(seen: SeenFile) -> NoReturn:
    message = f"{printable(seen.path)} changed while the staged copy was deleted, and is kept"
    raise SourceChanged(message, hint="nothing to do: it is looked at again by itself")


def _folders(staging: Path, folder: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of a folder and of each one below it, through no link."""
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        below = waiting.pop()
        with walk.opened(staging, folder, *below) as fd, os.scandir(fd) as entries:
            inner = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        yield below
        waiting.extend((*below, name) for name in inner)
