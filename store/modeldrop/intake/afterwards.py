"""What becomes of the staged copy of a run that is stored: it is moved to `done/`, or deleted.

Never anything but the committed state. The folder is renamed first, so that nobody finds it under
its run's name any more, and only then compared with what was committed: a change after that, by a
program that has it open, is seen by the lease. What differs is renamed back.

A deletion goes through two names in staging, which no scan looks at:

    .modeldrop-leaving-<folder>     being compared; after a crash it is whole, and goes back
    .modeldrop-deleting-<folder>    compared; after a crash the deletion goes on

What may be deleted is listed in `.modeldrop-deleting-<folder>.json` before the second name is
given, file by file, with its signature. What isn't in that list is never deleted.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from modeldrop import files
from modeldrop.errors import Conflict, SourceChanged
from modeldrop.intake import lease, walk
from modeldrop.intake.observation import SeenFile, Signature
from modeldrop.names import RECEIPT, printable

_log = logging.getLogger(__name__)

_LEAVING: Final = f"{walk.OWN_PREFIX}leaving-"
_DELETING: Final = f"{walk.OWN_PREFIX}deleting-"
_LIST: Final = ".json"


def move(staging: Path, name: str, signature: str, revision: int) -> Path:
    """Move a run's folder to `done/` in staging, if it is what was committed; return its place.

    Where a folder of that name is there already, of an earlier revision, it gets its own number.

    Raises:
        SourceChanged: it isn't what was committed, or somebody writes to it; it stays.
        Conflict: `done` is no folder, or both places are taken; it stays.
        OSError: it can't be moved; it stays.
    """
    done = staging / walk.DONE
    with contextlib.suppress(FileExistsError):
        done.mkdir()
        files.sync_folder(staging)
    if not stat.S_ISDIR(done.lstat().st_mode):
        message = f"{printable(str(done))} is no folder, and staged copies are to be moved there"
        raise Conflict(message, hint="rename it, or set `afterwards` to `keep`")
    for place in (done / name, done / f"{name}~{revision}"):
        try:
            files.rename_if_absent(staging / name, place)
        except FileExistsError:
            continue
        _log.debug("step: moved")
        try:
            _check(done, place.name, signature)
        except BaseException:
            _put_back(place, staging / name)
            raise
        return place
    message = f"{printable(name)} is in {printable(str(done))} already"
    raise Conflict(message, hint="empty that folder; the copy in staging stays until then")


def delete(staging: Path, name: str, signature: str, verify: Callable[[], None]) -> None:
    """Delete a run's folder from staging, if it is what was committed and stored bytes are right.

    `verify` raises unless they are.

    Raises:
        SourceChanged: it isn't what was committed, or somebody writes to it; it stays.
        OSError: it can't be deleted; what is left of it is deleted by `recover`.
    """
    _observed(staging, name, signature)
    verify()
    leaving, deleting = staging / f"{_LEAVING}{name}", staging / f"{_DELETING}{name}"
    files.rename_if_absent(staging / name, leaving)
    _log.debug("step: leaving")
    try:
        listed = _check(staging, leaving.name, signature)
    except BaseException:
        _put_back(leaving, staging / name)
        raise
    files.write_durable(_list_of(deleting), _spell(listed))
    _log.debug("step: listed")
    files.rename_if_absent(leaving, deleting)
    _log.debug("step: condemned")
    _finish(deleting, staging / name, listed)


def recover(staging: Path) -> None:
    """Finish or undo what a crash has left; nothing to be afraid of, so it never fails."""
    with contextlib.suppress(OSError):
        for entry in sorted(os.listdir(staging)):
            path = staging / entry
            with contextlib.suppress(OSError, ValueError):
                if entry.startswith(_LEAVING):
                    _put_back(path, staging / entry.removeprefix(_LEAVING))
                elif entry.startswith(_DELETING) and not entry.endswith(_LIST):
                    listed = _parse(_list_of(path).read_bytes())
                    _finish(path, staging / entry.removeprefix(_DELETING), listed)
        # A list whose folder never got the name, or is gone.
        for path in staging.glob(f"{_DELETING}*{_LIST}"):
            if not path.with_name(path.name.removesuffix(_LIST)).exists():
                files.remove_durable(path)


def _check(above: Path, name: str, signature: str) -> tuple[SeenFile, ...]:
    """Return the files of a folder that is what was committed, and that nobody writes to.

    Raises:
        SourceChanged: it isn't.
    """
    seen = _observed(above, name, signature)
    if lease.probe_files(above, name, seen) is lease.Writers.SOME:
        message = f"{printable(name)} stays in staging: a program has a file of it open"
        raise SourceChanged(message, hint="nothing to do: it is looked at again by itself")
    return seen


def _observed(above: Path, name: str, signature: str) -> tuple[SeenFile, ...]:
    seen = walk.observe(above, name)
    if seen.signature() != signature or seen.unreadable or seen.refused or seen.temporary:
        message = f"{printable(name)} stays in staging: it isn't what was committed any more"
        raise SourceChanged(message, hint="nothing to do: it is looked at again by itself")
    return seen.everything()


def _put_back(place: Path, home: Path) -> None:
    try:
        files.rename_if_absent(place, home)
    except FileExistsError:
        shown = printable(str(place))
        _log.error("%s stays there: another folder has its name by now", shown)


def _finish(folder: Path, home: Path, listed: tuple[SeenFile, ...]) -> None:
    """Delete the listed files and then the folder; what is left of it gets its name back."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for seen in listed:
            with contextlib.suppress(OSError):
                _unlink(fd, seen)
        with contextlib.suppress(OSError):
            os.unlink(RECEIPT, dir_fd=fd)
        for _, folders, _, above in os.fwalk(".", topdown=False, dir_fd=fd):
            for name in folders:
                # One with something in it stays, and so does a link.
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=above)
    finally:
        os.close(fd)
    _log.debug("step: emptied")
    try:
        folder.rmdir()
        files.sync_folder(folder.parent)
    except OSError:
        _log.warning("%s has something new in it, and stays", printable(str(home)))
        _put_back(folder, home)
    files.remove_durable(_list_of(folder))


def _unlink(run: int, seen: SeenFile) -> None:
    """Remove a file if it is what was listed still."""
    *folders, name = seen.path.split("/")
    with _below(run, folders) as above:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) and Signature.of(found) == seen.signature:
            os.unlink(name, dir_fd=above)


@contextlib.contextmanager
def _below(run: int, folders: list[str]) -> Iterator[int]:
    fd = os.dup(run)
    try:
        for folder in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            deeper = os.open(folder, flags, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


def _list_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LIST)


def _spell(listed: tuple[SeenFile, ...]) -> bytes:
    rows = [[each.path, *_numbers(each.signature)] for each in listed]
    return json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _numbers(signature: Signature) -> tuple[int, ...]:
    return (
        signature.device,
        signature.inode,
        signature.size,
        signature.mtime_ns,
        signature.ctime_ns,
    )


def _parse(data: bytes) -> tuple[SeenFile, ...]:
    rows = json.loads(data.decode("utf-8", "surrogateescape"))
    return tuple(SeenFile(path, Signature(*numbers)) for path, *numbers in rows)
