"""A small world that has one of everything that is written down, and how it is put back.

Two homes on one local backend, a target, and all that a home keeps for itself. It stays where it
was made, since a home that was copied takes a new id: what was changed in it is put back in place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modeldrop import Repository
from modeldrop.intake import drop
from support import children, sharing, work
from support.intake import make_home
from support.letting import collect
from support.stores import RUN, commit, model

WAITING: Final = "7d44cd5e-0f3c-4c09-a4bb-7b6a2e0e5d11"
"""A run that is stored and has no version of churn."""
STAGED: Final = "9d0f3c52-2b61-4a0e-8c77-5e1a6b3d9f04"
"""A run that was dropped and isn't stored yet."""
PENDING: Final = "pending"
"""An experiment in which a registration died before it was acknowledged."""
TARGET: Final = "production"


@dataclass(frozen=True)
class World:
    """Where everything is."""

    root: Path

    @property
    def home(self) -> Path:
        """The home that is asked."""
        return self.root / "mine"

    @property
    def other(self) -> Path:
        """The home of another host."""
        return self.root / "other"

    @property
    def store(self) -> Path:
        """The backend of both."""
        return self.root / "store"

    @property
    def serving(self) -> Path:
        """The target."""
        return self.root / "serving"

    @property
    def pulled(self) -> Path:
        """Where copies are pulled to; empty between questions."""
        return self.root / "pulled"

    def open(self) -> Repository:
        """Open the home that is asked, as a process of its own would."""
        return Repository.open(self.home)


def build(root: Path) -> World:
    """Make the world below a folder that is there and empty."""
    for _ in steps(root):
        pass
    return World(root)


def steps(root: Path) -> Iterator[str]:
    """Make the world step by step; yield what was done after each."""
    world = World(root)
    world.pulled.mkdir()
    mine = make_home(world.home, str(world.store))
    other = make_home(world.other, str(world.store))
    with mine, other:
        yield "made"
        commit(mine, {"model.bin": "weights", "folder/a": "aaa", "folder/sub/b": "bbb"})
        yield "stored"
        for name in ("model.bin", "folder"):
            mine.register(RUN, "churn", name, description="first")
            yield f"registered {name}"
        sharing.store(other, "of the other host")
        other.push()
        # What began the index is older than the fetch, so that of both the fetch is told.
        mine.finding.search("experiment=churn")
        mine.fetch()
        yield "fetched"
        for number in (1, 2):
            mine.promote(f"churn/{number}", "champion", reason="better")
            yield f"promoted {number}"
        mine.add_target(TARGET, world.serving)
        for number in (1, 2):
            mine.deploy(f"churn/{number}", TARGET)
            yield f"deployed {number}"
        mine.retire("churn/3", reason="trained on the wrong data")
        collect(mine, 20)
        yield "retired"
        mine.push()
        yield "pushed"
        # Of this the copy here has nothing yet.
        other.upload(WAITING, model(root / "aside-waiting" / "model.bin", "waiting"))
        other.push()
        mine.path("churn/1")
        mine.finding.search("experiment=churn")
        mine.promote("churn/2", "spare")
        drop(mine.home.staging, [model(root / "aside-staged" / "model.bin", "staged")], run=STAGED)
        yield "promoted to spare"
    died = children.dies(
        *(work.register, world.home, WAITING, "killed", 1, "once", PENDING), at="record appended"
    )
    assert died, "the registration was to die before its entry"


@dataclass(frozen=True)
class _Seen:
    """A file as it was; `data` is where its link leads to, if it is one."""

    data: bytes | str
    mode: int
    times: tuple[int, int]
    known_by: tuple[int, int, int, int]
    """Inode, size, and both times at which it changed: the same, and nobody wrote to it."""


class Snapshot:
    """The files below some folders as they were, to be compared and put back."""

    def __init__(self, *folders: Path) -> None:
        """Remember what is there now."""
        self._tops = [os.fspath(each) for each in folders]
        self._folders, found = self._there()
        self._files = {path: _seen(path, status) for path, status in found.items()}

    def changed(self) -> dict[Path, str]:
        """Return what isn't as it was: `new`, `gone` or `changed`, by the file's path."""
        _, found = self._there()
        told = {Path(path): "gone" for path in self._files.keys() - found.keys()}
        for path, status in found.items():
            was = self._files.get(path)
            if was is None:
                told[Path(path)] = "new"
            elif _known_by(status) != was.known_by and _content(path) != was.data:
                told[Path(path)] = "changed"
        return told

    def put_back(self, *only: Path) -> None:
        """Have everything as it was, or these files: bytes, modes and times, folders in place."""
        if only:
            for each in only:
                self._put_file(str(each), each.exists() or each.is_symlink())
            return
        folders, found = self._there()
        for path in found.keys() - self._files.keys():
            os.unlink(path)
        for folder in sorted(folders - self._folders, reverse=True):
            os.rmdir(folder)
        for folder in sorted(self._folders - folders):
            os.mkdir(folder)
        for path, was in self._files.items():
            status = found.get(path)
            if status is None or _known_by(status) != was.known_by:
                self._put_file(path, status is not None)

    def _put_file(self, path: str, there: bool) -> None:
        was = self._files[path]
        if there and (os.path.islink(path) or not os.access(path, os.W_OK)):
            os.unlink(path)
        if isinstance(was.data, str):
            os.symlink(was.data, path)
        else:
            # In place: what knows its inode goes on with it.
            with open(path, "wb") as file:
                file.write(was.data)
            os.chmod(path, was.mode & 0o7777)
            os.utime(path, ns=was.times)
        self._files[path] = _seen(path, os.lstat(path))

    def _there(self) -> tuple[set[str], dict[str, os.stat_result]]:
        """Return the folders, and the files with what they look like."""
        folders, files = set[str](), dict[str, os.stat_result]()
        waiting = list(self._tops)
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for each in entries:
                    if each.is_dir(follow_symlinks=False):
                        waiting.append(each.path)
                        folders.add(each.path)
                    else:
                        files[each.path] = each.stat(follow_symlinks=False)
        return folders, files


def _seen(path: str, status: os.stat_result) -> _Seen:
    times = (status.st_atime_ns, status.st_mtime_ns)
    return _Seen(_content(path), status.st_mode, times, _known_by(status))


def _content(path: str) -> bytes | str:
    if os.path.islink(path):
        return os.readlink(path)
    with open(path, "rb") as file:
        return file.read()


def _known_by(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
