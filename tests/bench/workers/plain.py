"""What no registry stands behind: files, SQLite, and TinyDB as it comes.

python -m bench.workers.plain FOLDER NUMBER durable|sqlite|tinydb
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
import uuid
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.workers.talking import Work, answer

_CHUNK = 2**24


class Durable(Work):
    """A loop around the least that a durable copy takes: write, sync, rename, sync the folder."""

    def version(self) -> str:
        """See `Work`."""
        return platform.release()

    def store(self, path: str) -> str:
        """See `Work`."""
        self.folder.joinpath("out").mkdir(exist_ok=True)
        name = uuid.uuid4().hex
        part, final = (self.folder / "out" / each for each in (f"{name}.part", name))
        with open(path, "rb") as source, part.open("wb") as out:
            while os.copy_file_range(source.fileno(), out.fileno(), _CHUNK):
                pass
            os.fsync(out.fileno())
        part.rename(final)
        folder = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return f"out/{name}"

    def run(self, paths: list[str]) -> None:
        """See `Work`; nothing is registered."""
        for path in paths:
            self.store(path)


class Sqlite(Work):
    """A table of versions, each inserted in a transaction of its own that is synced."""

    @cached_property
    def _database(self) -> sqlite3.Connection:
        opened = sqlite3.connect(self.folder / "db", timeout=60, isolation_level=None)
        opened.execute("PRAGMA journal_mode = WAL")
        opened.execute("PRAGMA synchronous = FULL")
        return opened

    def version(self) -> str:
        """See `Work`."""
        return sqlite3.sqlite_version

    def begin(self) -> None:
        """See `Work`."""
        self._database.execute(
            "CREATE TABLE versions"
            " (experiment TEXT, number INTEGER, run TEXT, bytes BLOB, UNIQUE (experiment, number))"
        )

    def _insert(self, data: bytes | None) -> int:
        self._database.execute("BEGIN IMMEDIATE")
        (last,) = self._database.execute(
            "SELECT max(number) FROM versions WHERE experiment = 'churn'"
        ).fetchone()
        number = int(last or 0) + 1
        row = ("churn", number, uuid.uuid4().hex, data)
        self._database.execute("INSERT INTO versions VALUES (?, ?, ?, ?)", row)
        self._database.execute("COMMIT")
        return number

    def run(self, paths: list[str]) -> None:
        """See `Work`."""
        for path in paths:
            self._insert(Path(path).read_bytes())

    def register(self, count: int) -> dict[str, Any]:
        """See `Work`."""
        return {"numbers": [self._insert(None) for _ in range(count)], "failed": 0}


class TinyDb(Work):
    """One JSON file, to which a document is added for each run; it has no bytes."""

    def __init__(self, folder: Path, number: int) -> None:
        """See `Work`."""
        super().__init__(folder, number)
        from tinydb import TinyDB  # noqa: PLC0415 - the other two don't have its memory

        self._database = TinyDB(folder / "db.json")

    def version(self) -> str:
        """See `Work`."""
        return importlib.metadata.version("tinydb")

    def run(self, paths: list[str]) -> None:
        """See `Work`."""
        for path in paths:
            run = uuid.uuid4().hex
            self._database.insert({"experiment": "churn", "run": run, "path": path})


if __name__ == "__main__":
    answer({"durable": Durable, "sqlite": Sqlite, "tinydb": TinyDb}[sys.argv[3]])
