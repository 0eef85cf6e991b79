"""DVC and GTO, run by the Python that both are installed in.

python -m bench.workers.dvc FOLDER NUMBER dvc|gto
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
from functools import cached_property
from typing import Any

from bench.workers.talking import Work, answer, called

_COMMITS = 400


class Dvc(Work):
    """A file is added, and pushed to a remote that is another folder."""

    @cached_property
    def _repo(self) -> Any:  # noqa: ANN401 - dvc has no types
        from dvc.repo import Repo  # noqa: PLC0415 - GTO is measured without it

        return Repo(str(self.folder))

    def version(self) -> str:
        """See `Work`."""
        return importlib.metadata.version("dvc")

    def begin(self) -> None:
        """See `Work`."""
        from dvc.repo import Repo  # noqa: PLC0415 - the same

        called("git", "init", "--quiet", folder=self.folder)
        Repo.init(str(self.folder)).close()
        with self._repo.config.edit() as settings:
            settings["remote"]["store"] = {"url": str(self.folder / "remote")}
            settings["core"]["remote"] = "store"
        self._repo.close()
        del self._repo

    def store(self, path: str) -> str:
        """See `Work`."""
        (stage,) = self._repo.add(path)
        self._repo.push([f"{path}.dvc"])
        md5 = stage.outs[0].hash_info.value
        return f"remote/files/md5/{md5[:2]}/{md5[2:]}"

    def run(self, paths: list[str]) -> None:
        """See `Work`; what is registered is a file beside each, for git."""
        for path in paths:
            self.store(path)


class Gto(Work):
    """Each version is a tag on a commit of its own."""

    def version(self) -> str:
        """See `Work`."""
        return importlib.metadata.version("gto")

    def begin(self) -> None:
        """See `Work`; it registers a commit once only, so that there have to be many."""
        called("git", "init", "--quiet", folder=self.folder)
        for _ in range(_COMMITS):
            commit = ("git", "commit", "--quiet", "--allow-empty", "--message", "a model")
            called(*commit, folder=self.folder)

    @cached_property
    def _commits(self) -> list[str]:
        """The commits that are this worker's to register."""
        return called("git", "rev-list", "--all", folder=self.folder).split()[self.number :: 16]

    def register(self, count: int) -> dict[str, Any]:
        """See `Work`."""
        from gto.api import register  # noqa: PLC0415 - DVC is measured without it

        numbers = []
        for _ in range(count):
            # Whatever it raises where several register at once: the call has failed.
            with contextlib.suppress(Exception):
                made = register(str(self.folder), "churn", self._commits.pop())
                numbers.append(str(made.version))
        return {"numbers": numbers, "failed": count - len(numbers)}


if __name__ == "__main__":
    answer({"dvc": Dvc, "gto": Gto}[sys.argv[3]])
