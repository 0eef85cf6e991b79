"""What one look at a run saw: its files by their signatures, and what stands in the way."""

from __future__ import annotations

import hashlib
import os
from typing import Self

from modeldrop.names import printable
from modeldrop.records import Refused
from modeldrop.structs import Frozen, replace


class Signature(Frozen):
    """Which bytes a file has, as far as that can be known without reading them.

    The ctime is what `touch -d` and `cp -p` can't set back: it gives away a rewrite of the same
    size whose mtime was restored.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the signature in a file's status."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the signature that `spelled` has spelled; raise ValueError if it is none."""
        device, inode, size, mtime_ns, ctime_ns = (int(part) for part in text.split(" "))
        return cls(device, inode, size, mtime_ns, ctime_ns)

    def spelled(self) -> str:
        """Return it as a text, for a record: its numbers are too large for JSON's."""
        return f"{self.device} {self.inode} {self.size} {self.mtime_ns} {self.ctime_ns}"


class SeenFile(Frozen):
    """A regular file of a run: its path relative to the run, with `/`, and its signature."""

    path: str
    signature: Signature


class Observation(Frozen):
    """What one look at a run folder found; every tuple is sorted by the bytes of its paths.

    `files` is what would be stored. `temporary` holds the run open. `refused` is never stored and
    needs a person, `unreadable` could not be looked at this time. Paths in `refused` and
    `unreadable` are printable, the others are as they are on the disk.
    """

    files: tuple[SeenFile, ...] = ()
    refused: tuple[Refused, ...] = ()
    temporary: tuple[str, ...] = ()
    marker: SeenFile | None = None
    run_files: tuple[SeenFile, ...] = ()
    """The files by which the run declares something of itself: `run.toml` and the like."""
    unreadable: tuple[Refused, ...] = ()
    crowded: bool = False
    """Whether there was more than was to be looked at."""

    def everything(self) -> tuple[SeenFile, ...]:
        """Return every regular file that was seen, those that are never stored included."""
        own = self.run_files if self.marker is None else (*self.run_files, self.marker)
        return self.files + own

    def size(self) -> int:
        """Return how many bytes there are to store."""
        return sum(file.signature.size for file in self.files)

    def with_unreadable(self, path: str, reason: str) -> Self:
        """Return the same observation, and one more entry that could not be read."""
        return replace(
            self, unreadable=(*self.unreadable, Refused(printable(path), printable(reason)))
        )

    def signature(self) -> str:
        """Return one digest of all that matters to "did anything change".

        The receipt isn't in it, or writing one would look like a change; nor are the mtimes of
        folders, for the same reason. What is unreadable isn't either: it blocks the run by
        itself, and shows when it can be read.
        """
        whole = hashlib.sha256()
        for kind, seen in (
            ("file", self.files),
            ("run", self.run_files),
            ("marker", (self.marker,) if self.marker else ()),
        ):
            for file in seen:
                sign = file.signature
                # No path has a control character, so every line can be read one way only.
                whole.update(
                    f"{kind}\0{file.path}\0{sign.device} {sign.inode} {sign.size} "
                    f"{sign.mtime_ns} {sign.ctime_ns}\n".encode()
                )
        for refused in self.refused:
            whole.update(f"refused\0{refused.path}\0{refused.reason}\n".encode())
        if self.crowded:
            whole.update(b"crowded\n")
        for path in self.temporary:
            whole.update(f"temporary\0{path}\n".encode())
        return whole.hexdigest()


def artifact_of(path: str) -> str:
    """Return the artifact that a path of a run belongs to: its top-level name."""
    return path.partition("/")[0]
