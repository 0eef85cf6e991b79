"""A local backend that fails as a store behind a bad network does, and hosts that share it.

What comes next of each request is told beforehand, in `faults`; `meanwhile` has something else done
in the middle of it all, such as another host's request. Nothing waits: neither for the disk nor
between two tries.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest

from modeldrop import Repository, disk, layout
from modeldrop.backend.base import Capabilities, Stored
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import BackendError, BackendUnreachable
from modeldrop.form import NEEDS, now
from modeldrop.home import make_home
from modeldrop.home_records import Probe
from modeldrop.names import new_guid
from modeldrop.records import RepositoryRecord
from modeldrop.settings import BackendSettings, Config
from modeldrop.structs import replace
from support.stores import set_backend

_T = TypeVar("_T")

FAULTS: Final = ("", "lost", "answer lost", "500", "500 after", "503", "retried")
"""What may come of a request: it never arrived, or its answer never did; the store answers with an
error, before it has done it or after; the client has asked twice, and tells what came of the second
time."""


class Lossy(LocalBackend):
    """Fails as it is told."""

    def __init__(self, root: Path, *, lists: bool = False) -> None:
        """`lists` says that a listing by prefix is one request, as in an object store."""
        super().__init__(root)
        self._lists = lists
        self.faults: list[str] = []
        """What comes of the next requests; of all others, nothing bad."""
        self.faults_of_creating: list[str] = []
        """The same for those that create something, which are no others then."""
        self.meanwhile: tuple[int, Callable[[], object]] | None = None
        """What is done once before a request: 0 is the next one."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, lists_by_prefix=self._lists)

    def read(self, key: str) -> bytes | None:
        return self._ask(lambda: super(Lossy, self).read(key))

    def stat(self, key: str) -> Stored | None:
        return self._ask(lambda: super(Lossy, self).stat(key))

    def create(self, key: str, data: bytes) -> bool:
        faults = self.faults_of_creating or self.faults
        return self._ask(lambda: super(Lossy, self).create(key, data), faults)

    def children(self, folder: str, prefix: str = "") -> Iterator[str]:
        return iter(self._ask(lambda: list(super(Lossy, self).children(folder, prefix))))

    def _ask(self, do: Callable[[], _T], faults: list[str] | None = None) -> _T:
        if self.meanwhile is not None:
            left, then = self.meanwhile
            self.meanwhile = (left - 1, then) if left else None
            if not left:
                then()
        faults = self.faults if faults is None else faults
        fault = faults.pop(0) if faults else ""
        if fault == "lost":
            raise BackendUnreachable("the request was lost")
        if fault == "503":
            raise BackendUnreachable("503 Slow Down")
        if fault == "500":
            raise BackendError("500 Internal Server Error")
        answer = do()
        if fault == "answer lost":
            raise BackendUnreachable("the answer was lost")
        if fault == "500 after":
            raise BackendError("500 Internal Server Error")
        return do() if fault == "retried" else answer


def unhurried(patch: pytest.MonkeyPatch) -> None:
    """Have nobody wait for the disk, or between two tries: power stays on, and time is precious."""
    for name in ("fsync", "fdatasync"):
        patch.setattr(os, name, lambda _: None)
    patch.setattr(disk, "sync_whole", lambda _: None)
    for name in ("sequence._PAUSE_FIRST", "sequence._PAUSE_MOST", "patience._PAUSE_FIRST"):
        module = "backend." * name.startswith("patience") + name
        patch.setattr(f"modeldrop.{module}", 0.0)
    patch.setattr("modeldrop.sequence.random.uniform", lambda *_: 0.0)


def begin_store(root: Path) -> str:
    """Begin a repository in a new folder; return its id."""
    record = RepositoryRecord(new_guid(), now(), "ada", NEEDS)
    root.mkdir()
    assert LocalBackend(root).create(layout.FORMAT_KEY, record.to_bytes())
    return record.repository


def join(home: Path, store: Path, repository: str) -> None:
    """Make a home on a store, as `init` does, without the race."""
    url = str(store)
    verdict = Probe(
        url=LocalBackend(store).url,
        endpoint=None,
        holds=True,
        single_writer=False,
        racers=16,
        rounds=5,
        most_winners=1,
        probed_at=now(),
        probed_with="modeldrop 0",
    )
    make_home(home, Config(backend=BackendSettings(url=url)), repository, verdict)


@contextlib.contextmanager
def quiet(backend: Lossy) -> Iterator[None]:
    """Have all go well for a while: for those who look at what is so."""
    before = backend.faults, backend.faults_of_creating, backend.meanwhile
    backend.faults, backend.faults_of_creating, backend.meanwhile = [], [], None
    try:
        yield
    finally:
        backend.faults, backend.faults_of_creating, backend.meanwhile = before


def open_host(home: Path, backend: Lossy) -> Repository:
    """Open a home as a new process does, on this backend."""
    opened = Repository.open(home)
    set_backend(opened, backend)
    return opened
