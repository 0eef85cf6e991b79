"""A small store on which faults are tried, what is done to it, and what has to be true afterwards.

A store is made once for each process that tries faults (`faultforge`), and put back as it was
before each case: a home is bound to its folder's inode, so that a copy would be another home.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from modeldrop import Repository, gc
from modeldrop.journal import NewEntry
from modeldrop.names import new_guid
from modeldrop_cli.failing import report
from modeldrop_cli.main import main
from support import deploying, letting
from support.intake import make_home, make_run, stored_revisions
from support.sharing import store
from support.stores import model

WEIGHTS: Final = b"weights " * 40
NO_SPACE: Final = errno.ENOSPC
_GIVEN_UP: Final = "20260101T000000Z-00112233445566ff"
_TEMPORARY: Final = ".tmp-00112233445566ff"
_LATER: Final = timedelta(days=40)
_ABOUT: Final = ("a fault",)


@dataclass(frozen=True, slots=True)
class Store:
    """Where a store is, and what is in it to begin with."""

    root: Path
    unregistered: str
    """A run of which nothing is registered."""
    staged: tuple[str, ...]
    """Runs that wait in staging, not stored yet."""
    changed: str
    """A run that is stored, and got another file in staging since."""
    superseded: str
    """A run of which revisions may go, and are marked."""

    @property
    def home(self) -> Path:
        """The home; its backend and its staging folder are in it."""
        return self.root / "home"

    @property
    def backend(self) -> Path:
        """The backend, a folder."""
        return self.home / "model-repository"

    @property
    def out(self) -> Path:
        """Where copies are pulled to."""
        return self.root / "out"

    def left_behind(self) -> tuple[Path, ...]:
        """Return what a crash left long ago."""
        return (
            self.home / _TEMPORARY,
            self.backend / self.unregistered / _TEMPORARY,
            self.backend / self.unregistered / _GIVEN_UP,
        )


def make(root: Path) -> Store:
    """Make a store in an empty folder: versions, an alias, a deployment, and something to do."""
    # Room is what some faults take away.
    with make_home(root / "home", reserve=0) as repository:
        staging = repository.home.staging
        for text in ("one", "two"):
            store(repository, text)
        repository.promote("churn/1", "champion")
        repository.add_target(deploying.TARGET, str(root / "serving"))
        repository.deploy("churn/1", deploying.TARGET)
        superseded, unregistered = new_guid(), new_guid()
        for number in range(5):
            path = model(root / "aside" / "model.bin", f"revision {number}")
            repository.upload(superseded, path)
        repository.upload(unregistered, path)
        store(repository, "old", "old")
        repository.retire("old/1")
        changed = make_run(staging, {"model.bin": WEIGHTS})
        repository.upload(changed, staging / changed / "model.bin")
        make_run(staging, {"more.bin": b"more", "_SUCCESS": b""}, changed)
        staged = tuple(
            make_run(staging, {"model.bin": WEIGHTS + str(n).encode(), "_SUCCESS": b""})
            for n in range(3)
        )
        letting.collect(repository, days=20)
        repository.push()
        made = Store(root, unregistered, staged, changed, superseded)
    temporary, unnamed, given_up = made.left_behind()
    temporary.write_bytes(b"torn")
    unnamed.write_bytes(b"torn")
    given_up.mkdir()
    (given_up / "model.bin").write_bytes(b"never named")
    made.out.mkdir()
    for aside in root.glob("aside*"):
        shutil.rmtree(aside)
    return made


# What is done to it


@dataclass(frozen=True, slots=True)
class Operation:
    """What is done to a store, and how to see that it was."""

    arguments: Callable[[Store], list[str]]
    """The arguments of the program; for the journal, which no command appends to, none."""
    missing: Callable[[Store, Repository], Iterator[str]]
    """Yields what isn't as it should be once it is done."""


def begin(store: Store, operation: str) -> int:
    """Do an operation in this process as the program does, and return its exit code."""
    gc._clock = lambda _: letting.after(_LATER.days)  # type: ignore[assignment] # without its name
    gc._now = lambda: datetime.now(UTC) + _LATER
    arguments = OPERATIONS[operation].arguments(store)
    code = main(["--home", str(store.home), *arguments]) if arguments else _append(store)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _append(store: Store) -> int:
    """Append to the journal; print the numbers of what was acknowledged."""
    try:
        with Repository.open(store.home) as repository:
            for text in ("first", "second"):
                entry = NewEntry("noted", _ABOUT, new_guid(), {"note": text}, "ada")
                [written] = repository.journal.append(entry)
                print(written.seq, text, flush=True)
    except Exception as error:  # noqa: BLE001 - told as the program tells it
        return report(error, [])
    return 0


def _registered(store: Store, repository: Repository) -> Iterator[str]:
    found = [each.run for each in repository.versions("churn")]
    if found[2:] != [store.unregistered]:
        yield f"not registered once, as version 3: {found}"


def _promoted(_: Store, repository: Repository) -> Iterator[str]:
    moves = [each.version for each in repository.alias_moves("churn@champion")]
    if moves != [1, 2]:
        yield f"the alias moved so: {moves}"


def _deployed(_: Store, repository: Repository) -> Iterator[str]:
    if deploying.served(repository) != 2:
        yield f"version {deploying.served(repository)} is served"
    found = [each.version for each in repository.deployments("churn", deploying.TARGET)]
    if found != [1, 2]:
        yield f"these were deployed: {found}"


def _pulled(store: Store, _: Repository) -> Iterator[str]:
    found = {path.name: path.read_bytes() for path in store.out.rglob("*") if path.is_file()}
    if found != {"model.bin": b"two"}:
        yield f"pulled: {found}"


def _scanned(store: Store, repository: Repository) -> Iterator[str]:
    for number, run in enumerate(store.staged):
        found = stored_revisions(repository, run)
        if found != [{"model.bin": WEIGHTS + str(number).encode()}]:
            yield f"stored of a new run: {found}"
    found = stored_revisions(repository, store.changed)
    first = {"model.bin": WEIGHTS}
    if found != [first, {**first, "more.bin": b"more"}]:
        yield f"stored of a changed run: {found}"


def _collected(store: Store, repository: Repository) -> Iterator[str]:
    for path in store.left_behind():
        # A folder with nothing in it is nothing to a store.
        if path.is_file() or any(path.rglob("*")):
            yield f"{path} is still there"
    for number in (1, 2, 3, 4, 5):
        manifest = repository.runs_at_backend.revision(store.superseded, number)
        keys = [file.key for file in manifest.files().values()]
        is_there = all((store.backend / key).exists() for key in keys)
        if is_there != (number > 2):
            yield f"the bytes of revision {number} are {'' if is_there else 'not '}there"


def _appended(_: Store, repository: Repository) -> Iterator[str]:
    found = [note for _, note in _noted(repository)]
    # Each try is a request of its own, and may have come to an end before or not.
    if found[-2:] != ["first", "second"]:
        yield f"the journal has {found}"


def _noted(repository: Repository) -> list[tuple[int, str]]:
    """Return number and text of what was appended to the journal alone, in order."""
    entries = [each for each in repository.journal.entries() if each.about == _ABOUT]
    return [(each.seq, str(each.details["note"])) for each in entries]


OPERATIONS: Final = {
    "journal append": Operation(lambda _: [], _appended),
    "register": Operation(
        lambda store: ["register", f"run:{store.unregistered}", "-e", "churn"], _registered
    ),
    "promote": Operation(lambda _: ["promote", "churn/2", "champion"], _promoted),
    "deploy": Operation(lambda _: ["deploy", "churn/2", deploying.TARGET], _deployed),
    "pull": Operation(lambda store: ["pull", "churn/2", "-o", str(store.out)], _pulled),
    "scan": Operation(lambda _: ["scan", "--once"], _scanned),
    "gc": Operation(lambda _: ["gc"], _collected),
}


# What has to be true afterwards


def judge(store: Store, operation: str, *, acknowledged: bool, said: str) -> Iterator[str]:
    """Yield which promises are broken, once an operation ended in whatever way.

    `acknowledged` is whether it ended well, and then it has to be done. It is done again, as
    whoever was told nothing would do; then it is done once, and all is in order.
    """
    done = OPERATIONS[operation].missing
    if acknowledged:
        yield from _wrong("acknowledged, but", store, done)
    if operation == "journal append":
        yield from _lost(store, said)
    code = begin(store, operation)
    if code:
        yield f"done again, it ends with {code}"
    code = main(["--home", str(store.home), "verify", "--deep"])
    if code:
        yield f"verify ends with {code}"
    yield from _wrong("at the end", store, done)
    yield from _wrong("at the end", store, _disorder)


def _wrong(
    when: str, store: Store, look: Callable[[Store, Repository], Iterator[str]]
) -> Iterator[str]:
    with Repository.open(store.home) as repository:
        for each in look(store, repository):
            yield f"{when} {each}"


def _lost(store: Store, said: str) -> Iterator[str]:
    """Yield which acknowledged entries the journal doesn't have."""
    with Repository.open(store.home) as repository:
        there = _noted(repository)
    for line in said.splitlines():
        seq, text = line.split()
        if (int(seq), text) not in there:
            yield f"entry {line} was acknowledged, and isn't there"


def _disorder(store: Store, repository: Repository) -> Iterator[str]:
    numbers = [each.version for each in repository.versions("churn")]
    if numbers != [*range(1, len(numbers) + 1)]:
        yield f"the versions are {numbers}"
    pinned = Counter((each.run, each.sha256) for each in repository.versions("churn"))
    if any(count > 1 for count in pinned.values()):
        yield f"one thing has several numbers: {pinned}"
    if repository.runs_at_backend.open_intents():
        yield f"intents are open: {repository.runs_at_backend.open_intents()}"
    if settled := repository.settle_deployments():
        yield f"deployments were still open: {settled}"
    told = Counter((each.kind, each.about) for each in repository.log() if each.about != _ABOUT)
    if twice := [each for each, count in told.items() if count > 1]:
        yield f"told more than once: {twice}"
    if deploying.served(repository) is None:
        yield "nothing is served"
    begun = [path for path in store.out.iterdir() if path.name.startswith(".")]
    if begun:
        yield f"left of a pull: {begun}"


# As it was before


class Snapshot:
    """A folder with all that is in it, to be put back as it was."""

    def __init__(self, root: Path) -> None:
        """Remember what is there."""
        self._root = str(root)
        self._files = {path: _content(path) for path in _below(self._root)}
        self._signatures = {path: _signature(path) for path in self._files}

    def restore(self) -> None:
        """Put back what was changed, and remove what was added; folders stay the same folders."""
        there = [*_below(self._root)]
        for path in reversed(there):
            kept = self._files.get(path)
            mode = os.lstat(path).st_mode
            if kept is None or stat.S_IFMT(kept[0]) != stat.S_IFMT(mode):
                (os.rmdir if stat.S_ISDIR(mode) else os.unlink)(path)
        for path, (mode, data) in self._files.items():
            if not os.path.lexists(path) or self._signatures[path] != _signature(path):
                _put(path, mode, data)
                self._signatures[path] = _signature(path)


def _below(folder: str) -> Iterator[str]:
    """Yield all that is below a folder, each folder before what is in it."""
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    for entry in entries:
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)


def _content(path: str) -> tuple[int, bytes]:
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        return mode, b""
    if stat.S_ISLNK(mode):
        return mode, os.fsencode(os.readlink(path))
    with open(path, "rb") as file:
        return mode, file.read()


def _signature(path: str) -> tuple[int, ...]:
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode):
        return (found.st_mode,)
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_nlink


def _put(path: str, mode: int, data: bytes) -> None:
    if stat.S_ISDIR(mode):
        if not os.path.isdir(path):
            os.mkdir(path)
        os.chmod(path, stat.S_IMODE(mode))
        return
    if os.path.lexists(path):
        os.unlink(path)
    if stat.S_ISLNK(mode):
        os.symlink(os.fsdecode(data), path)
        return
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, stat.S_IMODE(mode))


def _main(what: str, store: str, operation: str) -> int:
    """Do an operation, or judge one that was acknowledged, in a process of its own."""
    there = Store(**json.loads(store))
    there = replace(there, root=Path(there.root), staged=tuple(there.staged))
    if what == "begin":
        return begin(there, operation)
    print(json.dumps([*judge(there, operation, acknowledged=True, said="")]))
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
