"""Peers that are programs: each operation starts them, as a script would.

python -m bench.workers.commands FOLDER NUMBER cp|sha256sum|rclone|annex|git
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from bench.workers.talking import Work, answer, called


class Cp(Work):
    """`cp`, and `sync` of the copy and its folder."""

    def version(self) -> str:
        """See `Work`."""
        return called("cp", "--version", folder=self.folder).splitlines()[0].split()[-1]

    def begin(self) -> None:
        """See `Work`."""
        (self.folder / "out").mkdir()

    def store(self, path: str) -> str:
        """See `Work`."""
        target = f"out/{Path(path).name}"
        called("cp", path, target, folder=self.folder)
        called("sync", target, "out", folder=self.folder)
        return target


class Sha256sum(Cp):
    """The same, while another process hashes the source."""

    def store(self, path: str) -> str:
        """See `Work`."""
        with subprocess.Popen(["sha256sum", path], stdout=subprocess.PIPE) as hashing:
            target = super().store(path)
            hashing.communicate()
        if hashing.returncode:
            raise RuntimeError("sha256sum failed")
        return target


class Rclone(Work):
    """`rclone copyto` to another folder, which checks nothing after a local copy of its own."""

    def version(self) -> str:
        """See `Work`."""
        return called("rclone", "version", folder=self.folder).splitlines()[0].split("v")[-1]

    def store(self, path: str) -> str:
        """See `Work`."""
        target = f"out/{Path(path).name}"
        called("rclone", "--config", "", "copyto", path, target, folder=self.folder)
        return target


class Annex(Work):
    """`git-annex add`, and a commit."""

    def version(self) -> str:
        """See `Work`."""
        return called("git-annex", "version", "--raw", folder=self.folder)

    def begin(self) -> None:
        """See `Work`."""
        called("git", "init", "--quiet", folder=self.folder)
        called("git-annex", "init", "--quiet", "bench", folder=self.folder)

    def store(self, path: str) -> str:
        """See `Work`."""
        called("git-annex", "add", "--quiet", path, folder=self.folder)
        called("git", "commit", "--quiet", "--message", "a model", folder=self.folder)
        return str(Path(path).relative_to(self.folder))

    def run(self, paths: list[str]) -> None:
        """See `Work`; a commit is all that is registered."""
        for path in paths:
            self.store(path)


class GitTag(Work):
    """An annotated tag for each version, under the next number that is free."""

    _last = 0

    def version(self) -> str:
        """See `Work`."""
        return called("git", "--version", folder=self.folder).split()[-1]

    def begin(self) -> None:
        """See `Work`."""
        called("git", "init", "--quiet", folder=self.folder)
        commit = ("git", "commit", "--quiet", "--allow-empty", "--message", "a model")
        called(*commit, folder=self.folder)

    def register(self, count: int) -> dict[str, Any]:
        """See `Work`; a number that somebody else has taken is no failure."""
        return {"numbers": [self._next() for _ in range(count)], "failed": 0}

    def _next(self) -> int:
        while True:
            self._last += 1
            done = subprocess.run(
                ["git", "tag", "--annotate", "--message", uuid.uuid4().hex, f"churn/{self._last}"],
                cwd=self.folder,
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode == 0:
                return self._last
            if "already exists" not in done.stderr and "cannot lock" not in done.stderr:
                raise RuntimeError(done.stderr)


if __name__ == "__main__":
    answer(
        {"cp": Cp, "sha256sum": Sha256sum, "rclone": Rclone, "annex": Annex, "git": GitTag}[
            sys.argv[3]
        ]
    )
