"""What has arrived of a pull that is under way, or that came to no end.

Purpose: a pull that was killed, or lost its network, goes on where it ended. What arrives is put
together in a hidden folder beside the target, which docs/format.md specifies: named by the
artifact's digest, so that whoever pulls the same there finds it.

Calling sequence: `with gather(target, artifact) as unfinished:` takes such a folder and locks it;
`content` is renamed to the target when all of it is verified; `clean` removes what nobody needs.

What others see: two pulls of the same artifact to the same folder never share one: the second
takes, or makes, another. What a crash leaves: the folder, unlocked. What its notes say may be more
than is on the disk after a power loss, so nothing in it is believed before it was hashed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modeldrop import files, locks
from modeldrop.errors import ArtifactDamaged, BackendError, Conflict, Interrupted, Locked
from modeldrop.records import Artifact

PREFIX: Final = ".modeldrop-pull-"
KEPT_SECONDS: Final = 14 * 24 * 3600.0
"""How long what came to no end is kept, where other things are pulled to the same folder."""

_LOCK: Final = "lock"
_CONTENT: Final = "content"
_ARRIVED: Final = "arrived"
_NOTE: Final = re.compile(rb"([0-9]{1,9}) ([0-9]{1,18}) ([0-9]{1,18})")
# Who finds so many taken has other worries than to go on.
_MOST: Final = 100

Interval = tuple[int, int]
"""Bytes from the first to before the second."""


class Unfinished:
    """A folder of one pull, held by this one."""

    def __init__(self, folder: Path) -> None:
        """Take a folder that nobody else is at."""
        self.folder = folder
        self.content = folder / _CONTENT
        _let_go_of_what_was_given(self.content)
        self.fresh = not os.path.lexists(self.content)
        """Whether nothing has arrived before."""
        self._notes = -1
        self._known: dict[int, list[Interval]] = {} if self.fresh else _read(folder / _ARRIVED)

    def arrived(self, number: int) -> list[Interval]:
        """Return what has arrived of a large file, in order, as far as the notes can be believed.

        `number` is its place among the artifact's files.
        """
        merged: list[Interval] = []
        for start, end in sorted(self._known.get(number, ())):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def note(self, number: int, start: int, end: int) -> None:
        """Note that bytes of a large file were written; for any number of threads."""
        os.write(self._notes_file(), b"%d %d %d\n" % (number, start, end))

    def forget(self, number: int) -> None:
        """Take back all that was noted of a file, whose bytes are wrong."""
        self._known.pop(number, None)
        # A line that reaches nowhere: what stands before it counts no more.
        self.note(number, 0, 0)

    def close(self) -> None:
        """Close the notes."""
        if self._notes >= 0:
            os.close(self._notes)
            self._notes = -1

    def _notes_file(self) -> int:
        if self._notes < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._notes = os.open(self.folder / _ARRIVED, flags, 0o644)
        return self._notes


@contextlib.contextmanager
def gather(target: Path, artifact: Artifact) -> Iterator[Unfinished]:
    """Yield a folder beside `target` for what arrives of an artifact, with what arrived before.

    It stays for the next pull where the body ends by a failure of the backend or an interruption;
    otherwise it is gone.
    """
    with contextlib.ExitStack() as held:
        unfinished = Unfinished(_take(target, artifact.sha256, held))
        try:
            yield unfinished
        except BaseException as error:
            unfinished.close()
            if not _is_worth_keeping(error, unfinished):
                _remove(unfinished.folder)
            elif isinstance(error, BackendError):
                goes_on = "the same pull goes on with what has arrived"
                error.hint = f"{error.hint}; {goes_on}" if error.hint else goes_on
            raise
        unfinished.close()
        _remove(unfinished.folder)


def clean(folder: Path, sha256: str) -> None:
    """Remove what other pulls have left in a folder: of an artifact that is there now, or old."""
    before = time.time() - KEPT_SECONDS
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if not name.startswith(PREFIX):
                continue
            left = folder / name
            ours = name.startswith(f"{PREFIX}{sha256}-")
            with contextlib.suppress(OSError, Locked):
                if _is_private(left) and (ours or left.lstat().st_mtime < before):
                    with locks.hold(left / _LOCK, what=name, timeout=0):
                        _remove(left)


def _take(target: Path, sha256: str, held: contextlib.ExitStack) -> Path:
    """Return a folder that only this user can write to, locked until `held` ends."""
    for number in range(1, _MOST + 1):
        folder = target.parent / f"{PREFIX}{sha256}-{number}"
        made = _made(folder)
        if not made and not _is_private(folder):
            continue
        try:
            if _is_private(folder):
                held.enter_context(locks.hold(folder / _LOCK, what="the pull", timeout=0))
                # The one before may have removed it while this one waited.
                if _is_private(folder):
                    # How old it is counts from the last pull that was at it.
                    os.utime(folder)
                    return folder
        except Locked:
            continue
        except OSError:
            pass
        # A file system without modes or locks: nobody could tell who else is at it.
        if made:
            _remove(folder)
        break
    alone = files.temp_beside(target)
    alone.mkdir(0o700)
    return alone


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        return False
    return True


def _is_private(folder: Path) -> bool:
    """Return whether it is a folder that nobody else can have put anything into."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not writable


def _is_worth_keeping(error: BaseException, unfinished: Unfinished) -> bool:
    if isinstance(error, ArtifactDamaged | Conflict) or unfinished.folder.name.startswith(
        files.TEMP_PREFIX
    ):
        return False
    # A full disk isn't left full of what nobody sees.
    interrupted = isinstance(error, BackendError | Interrupted) or not isinstance(error, Exception)
    return interrupted and _holds_bytes(unfinished.content)


def _holds_bytes(content: Path) -> bool:
    if content.is_dir():
        return any(each.stat().st_size for each in content.rglob("*") if each.is_file())
    return content.is_file() and content.stat().st_size > 0


def _remove(folder: Path) -> None:
    """Remove a folder of which the lock is held; that goes last, since others may wait for it."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            path = folder / name
            if name != _LOCK:
                shutil.rmtree(path) if _is_folder(path) else path.unlink()
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _let_go_of_what_was_given(content: Path) -> None:
    """Remove the name of a file that has its final one, too: whoever has that may change the file.

    A pull that dies between the two leaves both.
    """
    with contextlib.suppress(FileNotFoundError):
        found = content.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            content.unlink()


def _read(notes: Path) -> dict[int, list[Interval]]:
    """Return what notes say of each file; a line that is none says nothing."""
    known: dict[int, list[Interval]] = {}
    try:
        fd = os.open(notes, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return known
    with open(fd, "rb") as opened:
        for line in opened:
            found = _NOTE.fullmatch(line.rstrip(b"\n"))
            if found is None:
                continue
            number, start, end = (int(each) for each in found.groups())
            if end == 0:
                known.pop(number, None)
            elif start < end:
                known.setdefault(number, []).append((start, end))
    return known
