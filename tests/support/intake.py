"""What the tests of the intake share: homes that don't wait long, engines, backends that meddle."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from modeldrop import Repository
from modeldrop.backend import Backend, open_backend
from modeldrop.backend.base import Capabilities, Writer
from modeldrop.intake import Engine, RunStatus, Storing, walk
from modeldrop.intake.agenda import Tracked
from modeldrop.intake.drops import Drop, Job, Outcome, Watch
from modeldrop.intake.flights import Flight
from modeldrop.ledger import Request
from modeldrop.names import RECEIPT, new_guid
from modeldrop.pulling import pull
from modeldrop.records import Artifact, Revision, StoredFile
from modeldrop.structs import replace
from support import killing

QUICK = {
    "quiet_time": 0.1,
    "quiet_time_without_lease": 0.2,
    "revision_interval": 0.1,
    "poll_interval": 0.05,
    "retry_first": 0.05,
    "retry_most": 0.2,
}
"""Settings of a service that nobody has to wait for."""

OnWrite = Callable[[str, bytes], bytes]
"""Takes the key and the bytes of each write to a backend, and returns those to write instead."""


def make_home(root: Path, backend: str = "", **service: object) -> Repository:
    """Make a home whose service is quick, and has these settings besides."""
    made, _ = Repository.init(root, backend=backend)
    made.close()
    lines = [f"{key} = {_toml(value)}" for key, value in (QUICK | service).items()]
    config = root / "config.toml"
    config.write_text(config.read_text() + "\n[service]\n" + "\n".join(lines) + "\n")
    return Repository.open(root)


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


@contextlib.contextmanager
def running(repository: Repository, watcher: str = "none") -> Iterator[Engine]:
    """Yield an engine that scans by itself, or, with a watcher, all but waits for hints."""
    engine = repository.engine()
    engine.watcher = watcher
    engine.recover()
    try:
        yield engine
    finally:
        engine.close()


def turns(engine: Engine, until: Callable[[], bool], timeout: float = 20.0) -> bool:
    """Turn the engine until a condition holds; say whether it did in time."""
    deadline = time.monotonic() + timeout
    while not until():
        if time.monotonic() > deadline:
            return False
        engine.wait(min(engine.turn(), 0.05))
    return True


def tracked(engine: Engine, run: str) -> Tracked:
    """Return what the engine knows of a run."""
    return engine._roster.runs[run]


def is_in(engine: Engine, run: str, state: str) -> bool:
    """Say whether the engine knows a run, and has it in that state."""
    return run in engine._roster.runs and tracked(engine, run).state.value == state


def scan(repository: Repository) -> dict[str, RunStatus]:
    """Scan once, and return where each run stands; junk by its name."""
    engine = repository.engine()
    try:
        return {each.run or each.folder: each for each in engine.scan_once()}
    finally:
        engine.close()


def revisions(repository: Repository, run: str) -> list[Revision]:
    """Return all revisions of a run."""
    runs = repository.runs_at_backend
    return [runs.revision(run, number) for number in range(1, runs.last(run) + 1)]


def uploads(repository: Repository, run: str) -> set[str]:
    """Return the ids of all uploads of a run that left anything at the backend."""
    keys = [each.key for each in repository.backend.walk(run)]
    return {key.split("/")[1] for key in keys} - {"revisions"}


def content(repository: Repository, revision: Revision) -> dict[str, bytes]:
    """Return the stored bytes of a revision, by the path in the run."""
    return {path: stored(repository.backend, file.key) for path, file in revision.files().items()}


def stored(backend: Backend, key: str) -> bytes:
    """Return the bytes under a key."""
    source = backend.source(key)
    assert source is not None
    with source:
        return b"".join(iter(lambda: source.read(1 << 20), b""))


class Meddling:
    """A real backend whose writes pass by somebody who sees them and may change them."""

    def __init__(self, backend: Backend, on_write: OnWrite, *, proves_writes: bool = False) -> None:
        self._backend = backend
        self._proves_writes = proves_writes
        self.on_write = on_write
        self.open_writers = 0
        self.most_writers = 0
        self.written: list[str] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the backend has
        return getattr(self._backend, name)

    @property
    def capabilities(self) -> Capabilities:
        # Every write passes by: what is written together doesn't.
        can = self._backend.capabilities
        return replace(can, proves_writes=self._proves_writes, shares_waits=False)

    def writer(self, key: str, size: int) -> _Writer:
        self.open_writers += 1
        self.most_writers = max(self.most_writers, self.open_writers)
        return _Writer(self, self._backend.writer(key, size), key)

    def as_backend(self) -> Backend:
        """Return itself, for those who look at types."""
        return cast("Backend", self)


class _Writer:
    # What it meddles with comes after whatever a store could check.
    checked = False
    token = None

    def __init__(self, backend: Meddling, writer: Writer, key: str) -> None:
        self._backend = backend
        self._writer = writer
        self._key = key

    def write(self, data: bytes | memoryview) -> int:
        self._writer.write(self._backend.on_write(self._key, bytes(data)))
        return len(data)

    def finish(self) -> None:
        self._writer.finish()
        self._backend.open_writers -= 1
        self._backend.written.append(self._key)

    def abort(self) -> None:
        self._writer.abort()
        self._backend.open_writers -= 1

    def leave(self) -> None:
        self.abort()


def meddle(repository: Repository, on_write: OnWrite) -> Meddling:
    """Put a meddler in front of the backend of a repository of which nothing was used yet."""
    settings = repository.home.config.backend
    real = open_backend(repository.home.backend_url, settings.options, repository.home.paths.root)
    backend = Meddling(real, on_write, proves_writes=real.capabilities.proves_writes)
    repository.__dict__["backend"] = backend
    return backend


def make_run(staging: Path, contents: dict[str, str | bytes], run: str | None = None) -> str:
    """Write files into a run's folder, one after the other, as a trainer does; return its GUID."""
    run = run or new_guid()
    for path, data in contents.items():
        place = staging / run / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data if isinstance(data, bytes) else data.encode())
    return run


def receipt(staging: Path, run: str) -> dict[str, Any]:
    """Return what a run's receipt says; nothing if there is none."""
    path = staging / run / RECEIPT
    found = json.loads(path.read_bytes()) if path.exists() else {}
    assert isinstance(found, dict)
    return found


def stored_revisions(repository: Repository, run: str) -> list[dict[str, bytes]]:
    """Return the content of all revisions of a run."""
    return [content(repository, each) for each in revisions(repository, run)]


def tracked_revision(engine: Engine, run: str) -> int | None:
    """Return the last revision of a run that the engine knows of."""
    return tracked(engine, run).revision if run in engine._roster.runs else None


def storing_by(repository: Repository, cls: type[Storing]) -> Storing:
    """Return what stores for a repository, each run by itself, of another class."""
    connections = repository.backend.capabilities.connections
    by_itself = type(cls.__name__, (cls,), {"shares_waits": False})
    rooms = (repository.runs_at_backend, repository.versions_at_backend, repository.transfer)
    made = by_itself(*rooms, connections)
    assert isinstance(made, cls)
    return made


@contextlib.contextmanager
def opened_files() -> Iterator[list[str]]:
    """Yield a list that gets the path of each file of a run that is opened to be stored."""
    opened: list[str] = []
    open_file = walk.open_file

    def noted(staging: Path, name: str, path: str, signature: walk.Signature | None = None) -> int:
        opened.append(path)
        return open_file(staging, name, path, signature)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(walk, "open_file", noted)
        yield opened


class Gate:
    """Holds every write to a backend up until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, _key: str, data: bytes) -> bytes:
        self.reached.set()
        assert self._open.wait(20)
        return data

    def open(self) -> None:
        """Let all writes pass from now on."""
        self._open.set()


# What child processes do; see `children`.


def scan_in_child(home: str) -> dict[str, Any]:
    """Scan once; return the states of the runs, and the peak memory of this process in MiB."""
    with Repository.open(home) as repository:
        states = {each.run or each.folder: each.state for each in scan(repository).values()}
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return {"states": states, "peak": int(peak[1]) / 1024}


def die_during_the_bytes(home: str, after: int) -> None:
    """Scan once, and die when so many bytes were sent."""
    moved = Flight.moved

    def mortal(self: Flight, size: int) -> None:
        moved(self, size)
        if self.sent >= after:
            killing.die()

    Flight.moved = mortal  # type: ignore[method-assign] # as a debugger would
    scan_in_child(home)


def die_pulling(url: str, key: str, sha256: str, size: int, target: str, at: int) -> None:
    """Pull a file, and die when so many bytes of it have arrived."""
    arrived = 0

    def moved(count: int) -> None:
        nonlocal arrived
        arrived += count
        if arrived >= at:
            killing.die()

    artifact = Artifact.of_file(StoredFile("model", sha256, size, key))
    pull(open_backend(url, {}, None), artifact, Path(target), moved)


def jobs_of(repository: Repository, runs: Iterable[str]) -> list[Job]:
    """Return what is to be done with runs that are complete as they are."""
    staging = repository.home.staging
    return [
        Job(
            Drop(
                staging=staging,
                name=run,
                run=run,
                observation=walk.observe(staging, run),
                observe=lambda run=run: walk.observe(staging, run),  # type: ignore[misc] # run=run
                marker=None,
            ),
            Request(new_guid(), "test"),
            Watch(),
        )
        for run in runs
    ]


def store_together(repository: Repository, runs: Iterable[str]) -> dict[str, Outcome | None]:
    """Store runs as one group, and return what became of each."""
    wanted = list(runs)
    storing = storing_by(repository, Storing)
    return dict(zip(wanted, storing.store_together(jobs_of(repository, wanted)), strict=True))


def store_together_in_child(home: str, runs: list[str]) -> list[str]:
    """Store runs as one group; return those that were stored so."""
    with Repository.open(home) as repository:
        found = store_together(repository, runs)
    return [run for run, outcome in found.items() if outcome is not None]


def store_together_and_die(home: str, runs: list[str], call: int) -> list[str]:
    """Store runs as one group, unless the process dies before that call to the file system."""
    with Repository.open(home) as repository:
        repository.journal.head()
        killing.before_call(call)
        store_together(repository, runs)
    return runs
