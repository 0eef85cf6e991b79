"""Reading what stands in folders that the user named, and nothing else.

A path that a database or a file names is data: it is taken for components below a folder that
the user named, opened from handle to handle, and through no link. What leads elsewhere is refused
with a reason, before anything of it is opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from modeldrop.errors import NotFound, UsageError
from modeldrop.imports.elsewhere import Content, File, Opened
from modeldrop.intake import walk
from modeldrop.intake.observation import SeenFile, Signature
from modeldrop.names import is_artifact_name, printable, refuse_path
from modeldrop.records import Refused

# As many entries as one folder of files may have.
_MOST: Final = 1_000_000
# Files that say something, in contrast to those that are carried over.
_SMALL: Final = 4 * 2**20


class Outside(UsageError):
    """A path that leads out of the folders that were named; nothing of it was read."""


class Place:
    """A folder that the user named."""

    def __init__(self, root: Path) -> None:
        """Read below `root`; a link may lead to it, none inside of it is followed.

        Raises:
            NotFound: there is no such folder.
        """
        if not root.is_dir():
            message = f"there is no folder {printable(str(root))}"
            raise NotFound(message, hint="name the folder that holds the files")
        self.root = root.resolve()
        # A database may name it by either.
        self._names_of_root = {str(self.root), str(root.absolute())}

    def below_root(self, path: str) -> str | None:
        """Return the path below this folder of an absolute path, by its text alone, if it is."""
        for top in sorted(self._names_of_root):
            below = path.removeprefix(f"{top.rstrip('/')}/").rstrip("/")
            if below != path.rstrip("/") and refuse_path(below) is None:
                return below
        return None

    def folders(self, path: str = "") -> list[str]:
        """Return the names of the folders in a folder, sorted; none if it isn't there."""
        return self._names(path, folders=True)

    def files(self, path: str = "") -> list[str]:
        """Return the names of the regular files in a folder, sorted; none if it isn't there."""
        return self._names(path, folders=False)

    def has_folder(self, path: str) -> bool:
        """Return whether there is a folder, reached through no link."""
        try:
            with walk.opened(self.root, *path.split("/")):
                return True
        except (OSError, UsageError):
            return False

    def text(self, folder: str, name: str) -> str | None:
        """Return what a small file says, or None if it isn't there.

        Raises:
            UsageError: it is too large to be one, or no UTF-8.
            OSError: it can't be read.
        """
        try:
            with walk.opened(self.root, *folder.split("/")) as fd:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        where = printable(f"{folder}/{name}")
        if not stat.S_ISREG(status.st_mode) or status.st_size > _SMALL:
            raise UsageError(f"{where} is no regular file of at most {_SMALL} bytes")
        seen = SeenFile(name, Signature.of(status))
        data = walk.read_small(self.root, folder, seen)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UsageError(f"{where} is no UTF-8") from error

    def texts(self, path: str) -> dict[str, str]:
        """Return what every small file below a folder says, by its path in it.

        What is no regular file is passed over.

        Raises:
            UsageError: one is too large, or no UTF-8.
        """
        if not self.has_folder(path):
            return {}
        found: dict[str, str] = {}
        for seen in self._observe(path)[0]:
            folder, _, name = f"{path}/{seen.path}".rpartition("/")
            text = self.text(folder, name)
            if text is not None:
                found[seen.path] = text
        return found

    def content(self, path: str, under: str = "") -> Content:
        """Return the files of a folder as those of a run, or of its artifact `under`.

        Raises:
            UsageError: there are too many.
            PermissionError: something in it can't be read by this user.
        """
        seen, refused = self._observe(path)
        kept: list[File] = []
        for each in seen:
            if not under and not is_artifact_name(each.path.partition("/")[0]):
                reason = "its name has a meaning of its own in a run"
                refused.append(Refused(printable(each.path), reason))
            else:
                kept.append(self._file(path, each, f"{under}/{each.path}" if under else each.path))
        if under:
            refused = [Refused(f"{under}/{each.path}", each.reason) for each in refused]
        return Content(tuple(kept), tuple(refused))

    def file(self, name: str) -> File | None:
        """Return a file at the top, by its name in any case; None if it isn't there.

        Raises:
            Outside: it is no name, or no regular file.
            OSError: it can't be looked at.
        """
        if refuse_path(name) or "/" in name:
            raise Outside(f"{printable(name)!r} leads out of {printable(str(self.root))}")
        with walk.opened(self.root) as fd:
            # Exactly first: where case counts, two may differ in it alone.
            every = os.listdir(fd)
            near = sorted(each for each in every if each.lower() == name.lower())
            found = name if name in near else next(iter(near), None)
            if found is None:
                return None
            status = os.stat(found, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise Outside(f"{printable(found)!r} is no regular file, and no link is followed")
        return self._file("", SeenFile(found, Signature.of(status)), name)

    def _names(self, path: str, *, folders: bool) -> list[str]:
        parts = path.split("/") if path else []
        try:
            with walk.opened(self.root, *parts) as fd, os.scandir(fd) as entries:
                return sorted(
                    each.name
                    for each in entries
                    if (each.is_dir if folders else each.is_file)(follow_symlinks=False)
                )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _observe(self, path: str) -> tuple[Sequence[SeenFile], list[Refused]]:
        seen = walk.observe(self.root, path, _MOST)
        if seen.crowded:
            raise UsageError(f"there are more than {_MOST} entries in {printable(path)!r}")
        if seen.unreadable:
            first = seen.unreadable[0]
            raise PermissionError(0, first.reason, first.path)
        temporary = [Refused(printable(each), "it is a temporary file") for each in seen.temporary]
        return seen.everything(), [*seen.refused, *temporary]

    def _file(self, folder: str, seen: SeenFile, path: str) -> File:
        opener = partial(self._open, folder, seen)
        return File(path, seen.signature.size, opener)

    def _open(self, folder: str, seen: SeenFile) -> AbstractContextManager[Opened]:
        return _opened(self.root, folder, seen)


@contextlib.contextmanager
def _opened(root: Path, folder: str, seen: SeenFile) -> Iterator[Opened]:
    # The root's own name stands for no folder below it.
    top, name = (root, folder) if folder else (root.parent, root.name)
    fd = walk.open_file(top, name, seen.path, seen.signature)
    try:
        yield Opened(fd, None, lambda: walk.check_unchanged(fd, seen.path, seen.signature))
    finally:
        os.close(fd)


class Places:
    """The folders that the user named, for paths that a database names."""

    def __init__(self, places: Sequence[Place]) -> None:
        """Look below these, in this order."""
        self._places = tuple(places)

    def has(self, path: str) -> bool:
        """Return whether one of the places has a folder of this path."""
        return refuse_path(path) is None and any(each.has_folder(path) for each in self._places)

    def find(self, uri: str, standard: Sequence[str]) -> tuple[Place, str]:
        """Return the place and path in it of a folder that `uri` names.

        Where that is elsewhere, since all was moved or is served, it is looked for where it
        stands by the standard layout.

        Raises:
            Outside: it is in none of the folders; the message says where it would be.
        """
        asked = local_path(uri)
        if asked is not None:
            for place in self._places:
                below = place.below_root(asked)
                if below is not None:
                    return place, below
        for place in self._places:
            for path in standard:
                if refuse_path(path) is None and place.has_folder(path):
                    return place, path
        named = ", ".join(printable(str(each.root)) for each in self._places)
        shown = printable(hide_userinfo(uri))
        raise Outside(f"{shown!r} is outside of {named or 'every folder that was named'}")


def local_path(uri: str) -> str | None:
    """Return the absolute path that a path or a `file:` URI names; None if it is neither."""
    if uri.startswith("/"):
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return unquote(parts.path)
    return None


def hide_userinfo(uri: str) -> str:
    """Return a URI without user, password and query, which may hold secrets."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.partition("?")[0]
    if not parts.scheme or not parts.netloc:
        return uri.partition("?")[0]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
