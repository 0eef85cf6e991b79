"""A home on a local backend, a model to store, and local backends whose answers get lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.backend.base import Capabilities, Stored
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import BackendError, BackendUnreachable
from modeldrop.intake import drop
from modeldrop.structs import replace

RUN = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"


def make_home(root: Path, backend: Path | None = None) -> Repository:
    """Make a home; its backend is in it unless another one is given."""
    repository, made = Repository.init(root, backend=str(backend or ""))
    assert made
    return repository


def model(path: Path, text: str = "weights") -> Path:
    """Write a file that plays a trained model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def commit(repository: Repository, contents: dict[str, str], run: str = RUN) -> None:
    """Put files into a run of the staging folder, and have them stored."""
    aside = repository.home.paths.root.parent / "aside"
    for path, text in contents.items():
        model(aside / path, text)
    tops = sorted({path.split("/")[0] for path in contents})
    drop(repository.home.staging, [aside / top for top in tops], run=run)
    engine = repository.engine()
    engine.scan_once()
    engine.close()


def set_backend(repository: Repository, backend: LocalBackend) -> None:
    """Have an open repository, of which nothing was used yet, use this backend."""
    repository.__dict__["backend"] = backend


def unmount(root: Path) -> Path:
    """Leave an empty mount point where a local backend was; return where its folder is now."""
    away = root.with_name(f"{root.name}-away")
    root.rename(away)
    root.mkdir()
    return away


class Counting(LocalBackend):
    """Counts what it is asked."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: Counter[str] = Counter()

    def stat(self, key: str) -> Stored | None:
        self.asked["stat"] += 1
        return super().stat(key)

    def read(self, key: str) -> bytes | None:
        self.asked["read"] += 1
        return super().read(key)

    def create(self, key: str, data: bytes) -> bool:
        self.asked["create"] += 1
        return super().create(key, data)

    def children(self, folder: str, prefix: str = "") -> Iterator[str]:
        self.asked["children"] += 1
        return super().children(folder, prefix)


class Listing(Counting):
    """Says that a listing by prefix is one request, as an object store does."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, lists_by_prefix=True)


class Faulty(Counting):
    """Fails as it is told: what comes next to `create`, and whether it can be read."""

    def __init__(self, root: Path, *faults: str, only: str = "/") -> None:
        """`faults` come one a `create` of a key that has `only` in it, and then no more."""
        super().__init__(root)
        self.faults = list(faults)
        self.sent: list[tuple[str, bytes]] = []
        self.refuses: BackendError | None = None
        self.unreadable: BackendError | None = None
        self._only = only

    def read(self, key: str) -> bytes | None:
        if self._only in key:
            self._fail(self.refuses or self.unreadable)
        return super().read(key)

    def create(self, key: str, data: bytes) -> bool:
        if self._only not in key:
            return super().create(key, data)
        self.sent.append((key, data))
        self._fail(self.refuses)
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "lost":
            raise BackendUnreachable("the request was lost")
        created = super().create(key, data)
        if fault == "dropped":
            raise BackendUnreachable("the answer was lost")
        if fault == "error":
            raise BackendError("500 Internal Server Error")
        return created and fault != "exists"

    @staticmethod
    def _fail(error: BackendError | None) -> None:
        if error is not None:
            raise error


def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a sequence try again at once, not after the pauses that a real store deserves."""
    monkeypatch.setattr("modeldrop.sequence._PAUSE_FIRST", 0.001)
    monkeypatch.setattr("modeldrop.sequence._PAUSE_MOST", 0.002)
