"""What becomes of the staged copy of a run that is stored: it is moved to `done/`, or deleted.

Never anything but the committed state. The folder is looked at under its own name, so that a run
that somebody works on isn't touched. Then it is renamed aside, to a name that no scan looks at and
no program knows, and looked at once more there. What differs goes back.

    .modeldrop-leaving-<token>-<folder>     after a crash it goes back under its own name,
    .modeldrop-deletion-<token>.json        unless this is there: then the deletion goes on

The second one, in `removal`, lists what may be deleted, file by file, with its signature. It is on
the disk before anything is deleted. Whatever isn't in the list, or isn't any more what is listed
there, is never deleted, and goes back.

Whoever is at work has the lock (flock) of the run's folder, as a drop into it has. A program that
has the folder itself open, as its working folder, may go on in there unseen: what it adds or
changes is kept, whatever it does, but for a file that it replaces between the last look at that
file and its removal, which are two calls to the system apart.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

from modeldrop import disk, files
from modeldrop.errors import Conflict, ModeldropError, NotFound, SourceChanged
from modeldrop.intake import lease, removal, walk
from modeldrop.intake.observation import SeenFile
from modeldrop.names import printable

_log = logging.getLogger(__name__)

_LEAVING: Final = f"{walk.OWN_PREFIX}leaving-"
_ASIDE: Final = re.compile(re.escape(_LEAVING) + r"([0-9a-f]{16})-(.+)", re.DOTALL)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_HINT: Final = "nothing to do: it is looked at again by itself"


def move(staging: Path, name: str, signature: str, revision: int) -> Path:
    """Move a run's folder to `done/` in staging, if it is what was committed; return its place.

    That is `done/<name>`; where it is taken, `done/<name>~<revision>`, and then `…~<revision>.2`,
    `.3` and so on. After a crash it is in `done/`, or goes back by `recover`, whole.

    Raises:
        SourceChanged: it isn't what was committed, or somebody writes to it; it stays.
        NotFound: it isn't there.
        Conflict: `done` is no folder, or is another file system; it stays.
        OSError: it can't be moved; it stays.
    """
    with walk.opened(staging) as root, _done(staging, root) as done, _claimed(root, name):
        _check(staging, name, name, signature)
        with _aside(root, name) as aside:
            _check(staging, aside, name, signature)
            place = _move_into(done, root, aside, f"{name}~{revision}", name)
        _log.debug("step: moved")
    return staging / walk.DONE / place


def delete(staging: Path, name: str, signature: str, verify: Callable[[], None]) -> None:
    """Delete a run's folder from staging, if it is what was committed and stored bytes are right.

    `verify` raises unless they are. After a crash it goes back whole by `recover`, or the rest of
    it is deleted, too.

    Raises:
        SourceChanged: it isn't what was committed, or somebody writes to it; what differs stays,
            and so does all the rest, unless it came to light when some of it was deleted already.
        NotFound: it isn't there.
        OSError: it can't be deleted, and stays.
    """
    with walk.opened(staging) as root, _claimed(root, name):
        _check(staging, name, name, signature)
        verify()
        with _aside(root, name) as aside:
            listed = _check(staging, aside, name, signature)
            removal.check_writable(staging, aside)
            removal.note(staging, _token(aside), name, listed)
            _log.debug("step: listed")
            _remove(staging, root, aside, listed)


def recover(staging: Path) -> None:
    """Undo or finish what a crash has left, for the start; what it can't is said in the log."""
    with contextlib.suppress(NotFound), walk.opened(staging) as root:
        for entry in sorted(os.listdir(root)):
            found = _ASIDE.fullmatch(entry)
            try:
                if found is not None:
                    _recover(staging, root, entry, found[2])
            except BlockingIOError:
                continue  # another process is at work on it
            except (ModeldropError, OSError) as error:
                _log.error("what a crash left, %s: %s", printable(entry), printable(str(error)))
        standing = {found[1] for entry in os.listdir(root) if (found := _ASIDE.fullmatch(entry))}
        removal.forget_others(staging, standing)


def _recover(staging: Path, root: int, aside: str, name: str) -> None:
    with _claimed(root, aside):
        listed = removal.noted(staging, _token(aside), name)
        if listed is None:
            files.move_if_absent(root, aside, root, name)
            _log.info("the staged copy %s has its name again", printable(name))
            return
        with _going_back(root, aside, name):
            _remove(staging, root, aside, listed)
        _log.info("the staged copy %s is deleted, as a crash had left that undone", printable(name))


def _remove(staging: Path, root: int, aside: str, listed: tuple[SeenFile, ...]) -> None:
    """Delete the listed files, and the folders with nothing else in them.

    Raises:
        SourceChanged: there is something else.
        OSError: some of it can't be deleted.
    """
    try:
        removal.remove(staging, aside, listed)
        _log.debug("step: emptied")
        os.rmdir(aside, dir_fd=root)
    finally:
        # First this, then the list: without the list, what is in there would come back.
        disk.sync_file(root)
        removal.forget(staging, _token(aside))


def _check(staging: Path, folder: str, name: str, signature: str) -> tuple[SeenFile, ...]:
    """Return the files of a folder that is what was committed, and that nobody writes to.

    Raises:
        SourceChanged: it isn't, or somebody does.
    """
    seen = walk.observe(staging, folder)
    if seen.signature() != signature:
        _stays(name, "it isn't what was committed any more")
    for kind, entries in (
        ("can't be read", tuple(each.path for each in seen.unreadable)),
        ("is not stored", tuple(each.path for each in seen.refused)),
        ("is temporary", tuple(printable(path) for path in seen.temporary)),
    ):
        if entries:
            _stays(name, f"{entries[0]} {kind}")
    every = seen.everything()
    if lease.probe_files(staging, folder, every) is lease.Writers.SOME:
        _stays(name, "a program has a file of it open for writing")
    return every


def _stays(name: str, why: str) -> NoReturn:
    message = f"the staged copy {printable(name)} stays: {why}"
    raise SourceChanged(message, hint=_HINT)


@contextlib.contextmanager
def _claimed(root: int, name: str) -> Iterator[None]:
    """Hold the lock of a run's folder, which goes with it wherever it is renamed to.

    Raises:
        SourceChanged: a drop is at work in it.
        NotFound: it isn't there.
    """
    try:
        fd = os.open(name, _FOLDER, dir_fd=root)
    except FileNotFoundError:
        message = f"the staged copy {printable(name)} isn't there any more"
        raise NotFound(message, hint=_HINT) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _ASIDE.fullmatch(name):
                raise
            _stays(name, "something is being dropped into it")
        except OSError as error:
            # Not every file system can: NFS, for one, locks nothing that is open to be read.
            _log.debug("%s can't be locked: %s", printable(name), error)
        yield
    finally:
        with contextlib.suppress(OSError):
            # A child that was forked meanwhile has the descriptor, too.
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


@contextlib.contextmanager
def _aside(root: int, name: str) -> Iterator[str]:
    """Have a run's folder aside, under the name that is yielded; it goes back if the body fails."""
    aside = f"{_LEAVING}{secrets.token_hex(8)}-{name}"
    with _going_back(root, aside, name):
        files.move_if_absent(root, name, root, aside)
        _log.debug("step: leaving")
        yield aside


@contextlib.contextmanager
def _going_back(root: int, aside: str, name: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        try:
            files.move_if_absent(root, aside, root, name)
        except FileNotFoundError:
            pass  # it never left, or all of it is deleted
        except FileExistsError as taken:
            shown = printable(aside)
            _log.error("%s stays in staging: another folder has its name by now", shown)
            if not isinstance(error, Exception):
                raise error from taken
            message = f"{printable(str(error))}; it is in {shown}, since its name was taken"
            hint = "compare that folder with the new one, and move into that what is missing"
            raise SourceChanged(message, hint=hint) from error
        raise


def _token(aside: str) -> str:
    found = _ASIDE.fullmatch(aside)
    assert found is not None  # noqa: S101 - `_aside` has made it, or `recover` has matched it
    return found[1]


@contextlib.contextmanager
def _done(staging: Path, root: int) -> Iterator[int]:
    """Yield the descriptor of the folder `done`, made if it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(walk.DONE, dir_fd=root)
        disk.sync_file(root)
    try:
        fd = os.open(walk.DONE, _FOLDER, dir_fd=root)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            raise
        message = f"{printable(str(staging / walk.DONE))} is a link, or no folder"
        hint = "rename it, or set `afterwards` to `keep`: committed runs are to be moved there"
        raise Conflict(message, hint=hint) from error
    try:
        yield fd
    finally:
        os.close(fd)


def _move_into(done: int, root: int, aside: str, numbered: str, name: str) -> str:
    """Give a folder the first name that is free in `done`, and return that."""
    number = 1
    place = name
    while True:
        try:
            files.move_if_absent(root, aside, done, place)
        except FileExistsError:
            place = numbered if number == 1 else f"{numbered}.{number}"
            number += 1
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            message = (
                f"{walk.DONE} in staging is another file system, so nothing can be moved there"
            )
            hint = "unmount it, or set `afterwards` to `keep`"
            raise Conflict(message, hint=hint) from error
        else:
            return place
