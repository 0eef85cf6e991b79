"""What child processes do in the tests of the store; see `children`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from modeldrop import Repository, disk, files, locks
from modeldrop import batch as batches
from modeldrop.backend.local import LocalBackend
from modeldrop.batch import Batch
from modeldrop.errors import AliasMoved, AliasNotFound
from modeldrop.form import seal
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.intake import afterwards, walk
from modeldrop.names import new_guid
from modeldrop.sequence import Sequence
from support import killing
from support.intake import make_run
from support.waiting import comes_true

# files and locks


def create(path: str, text: str) -> bool:
    """Create a file if it is absent."""
    return files.create_durable(Path(path), text.encode())


def rename(source: str, target: str) -> bool:
    """Rename a file or folder if the target is free."""
    try:
        files.rename_if_absent(Path(source), Path(target))
    except FileExistsError:
        return False
    return True


def hold(path: str) -> None:
    """Take a lock, say so, and hold it until a line is read."""
    with locks.hold(Path(path), what="the thing"):
        os.write(1, b"held\n")
        sys.stdin.readline()


def write_and_die(path: str, call: int, how: str) -> str:
    """Write a file, unless the process dies before that call to the file system."""
    killing.before_call(call)
    if how == "create":
        files.create_durable(Path(path), b"new" * 1000)
    else:
        files.write_durable(Path(path), b"new" * 1000)
    return "lived"


def batch_and_die(folder: str, call: int, how: str) -> str:
    """Write a file and two folders by a batch, unless the process dies before that call."""
    disk.syncs_whole = lambda fd: how == "together"  # noqa: ARG005 - by the kind of disk
    batches._unwritten = lambda: 0
    batches._MANY = 2  # type: ignore[misc] # as in a larger batch
    killing.before_call(call)
    with Batch() as batch:
        batch.replace(f"{folder}/0", b"data" * 1000)
        for number in (1, 2):
            for name in ("a/bytes", "b/record"):
                batch.create_within(
                    f"{folder}/{number}", f"{folder}/{number}/{name}", b"data" * 1000
                )
        batch.finish()
    return "lived"


# sequences


def record_of(who: str, owner: str, number: int) -> bytes:
    """Return a record of a sequence that says whose it is."""
    return seal("version", {"owner": owner, "version": number, "who": who})


def append(root: str, folder: str, who: str, times: int, owner: str = "") -> list[int]:
    """Append to a sequence without any lock; return the numbers that were told."""
    sequence = Sequence(LocalBackend(Path(root)), folder)
    told = []
    for _ in range(times):
        mine = owner or new_guid()

        def make(number: int, mine: str = mine) -> bytes:
            return record_of(who, mine, number)

        appended = sequence.append(
            make, owner=mine, at=1 if owner else sequence.last() + 1, shared=bool(owner)
        )
        if json.loads(appended.data)["who"] == who:
            told.append(appended.number)
    return told


# runs and versions


def upload(home: str, run: str, path: str) -> list[object]:
    """Store a file or folder as an artifact of a run."""
    with Repository.open(home) as repository:
        committed = repository.upload(run, path)
        return [committed.revision.revision, committed.created]


def register(
    home: str, run: str, who: str, times: int, how: str = "again", experiment: str = "churn"
) -> list[list[object]]:
    """Register a run; return each version that was told, whether it is new, and its description."""
    with Repository.open(home) as repository:
        told: list[list[object]] = []
        for time in range(times):
            said = f"{who}, {time}"
            answer = repository.register(run, experiment, description=said, again=how == "again")
            told.append([answer.version.version, answer.created, said])
        return told


def register_each(
    home: str, run: str, who: str, artifacts: list[str], experiment: str = "churn"
) -> list[list[object]]:
    """Register some artifacts of a run, one after another; return what `register` returns."""
    with Repository.open(home) as repository:
        told: list[list[object]] = []
        for artifact in artifacts:
            said = f"{who}, {artifact}"
            answer = repository.register(run, experiment, artifact, description=said)
            told.append([answer.version.version, answer.created, said])
        return told


def register_unguarded(
    home: str, run: str, who: str, racers: int, without: str
) -> list[list[object]]:
    """Register a run without the lock of the counter, or without the lock and the condition.

    All racers have chosen their number before the first of them writes it.
    """
    locks.hold = _no_lock
    locks.hold_unless = _no_lock  # type: ignore[assignment] # so each does it alone
    met = Path(home).parent / "met"
    met.mkdir(exist_ok=True)
    real = LocalBackend.create

    def create_together(backend: LocalBackend, key: str, data: bytes) -> bool:
        if "/versions/" in key and not (met / who).exists():
            (met / who).touch()
            assert comes_true(lambda: len(list(met.iterdir())) == racers)
        if without == "lock" or "/versions/" not in key:
            return real(backend, key, data)
        path = Path(backend.url) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_durable(path, data)
        return True

    LocalBackend.create = create_together  # type: ignore[method-assign, assignment] # this is the experiment
    return register(home, run, who, 1)


# aliases


def promote(home: str, who: str, version: int, times: int) -> list[list[object]]:
    """Put churn@champion on a version; return each move, whether it is new, and its reason."""
    with Repository.open(home) as repository:
        told: list[list[object]] = []
        for time in range(times):
            said = f"{who}, {time}"
            moved = repository.promote(f"churn/{version}", "champion", reason=said)
            told.append([moved.move.move, moved.created, said])
        return told


def promote_in_rounds(
    home: str, racer: int, racers: int, rounds: int, met: str
) -> list[list[object]]:
    """Have all racers move churn@champion at once, each to a version of its own, in each round.

    All expect it where they saw it before the first of them moved it. Returns for each round
    whether this one moved it, and who was said to have.
    """
    me = f"racer {racer}"
    with Repository.open(home) as repository:
        told: list[list[object]] = []
        for number in range(rounds):
            try:
                on = repository.resolve("churn@champion").version
            except AliasNotFound:
                on = None
            expect = on.version if on else 0
            _meet(Path(met) / f"{number}-before", me, racers)
            # Of so many racers and one version more, no two go the same way, and none stays.
            version = (expect + racer) % (racers + 1) + 1
            try:
                repository.promote(f"churn/{version}", "champion", expect=expect, by=me)
                told.append([True, me])
            except AliasMoved as error:
                told.append([False, error.detail["moved_by"]])
            _meet(Path(met) / f"{number}-after", me, racers)
        return told


def promote_unguarded(
    home: str, racer: int, racers: int, rounds: int, met: str
) -> list[list[object]]:
    """Do what `promote_in_rounds` does without the lock and the condition.

    All racers have chosen their number before the first of them writes it.
    """
    locks.hold = _no_lock
    real = LocalBackend.create

    def overwrite_together(backend: LocalBackend, key: str, data: bytes) -> bool:
        if "/aliases/" not in key:
            return real(backend, key, data)
        _meet(Path(met) / key.replace("/", "-"), str(racer), racers)
        path = Path(backend.url) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_durable(path, data)
        return True

    LocalBackend.create = overwrite_together  # type: ignore[method-assign, assignment] # this is the experiment
    return promote_in_rounds(home, racer, racers, rounds, met)


def _meet(place: Path, who: str, count: int) -> None:
    """Wait until so many have come to a place."""
    place.mkdir(parents=True, exist_ok=True)
    (place / who).touch()
    assert comes_true(lambda: len(list(place.iterdir())) == count, 90)


def promote_and_die_everywhere(home: str) -> int:
    """Die before each call in turn that changes a file system while an alias is moved."""

    def begin(number: int) -> Callable[[], object]:
        return lambda: promote(home, "anybody", number % 3 + 1, 1)

    return die_everywhere(begin)


def claim_and_die_everywhere(home: str) -> int:
    """Die before each call in turn that changes a file system while a home takes a new id."""

    def begin(number: int) -> Callable[[], object]:
        with Repository.open(home) as repository:
            repository.home.disown(repository.home.id)

        def attempt() -> None:
            # Reading comes before whatever goes on with the claim.
            with Repository.open(home) as repository:
                list(repository.log())
                repository.ready_to_write()
                # Its line may be there twice: one that was written and not acknowledged is adopted.
                assert {each.kind for each in repository.log()} == {"home-copied"}

        return attempt

    return die_everywhere(begin)


@contextlib.contextmanager
def _no_lock(path: Path, *, what: str, timeout: float = 0, **_: object) -> Iterator[None]:
    del path, what, timeout
    yield


# every point of a crash


def upload_and_die_everywhere(home: str, model: str) -> int:
    """Die before each call in turn that changes a file system while a run is stored.

    After each death, another process stores the same again. Returns how many deaths there were.
    """

    def begin(number: int) -> Callable[[], object]:
        run = _nth_run(number)
        return lambda: upload(home, run, model)

    return die_everywhere(begin)


def register_and_die_everywhere(home: str, model: str) -> int:
    """Die before each call in turn that changes a file system while a run is registered."""

    def begin(number: int) -> Callable[[], object]:
        run = _nth_run(number)
        _in_fork(lambda: upload(home, run, model))
        return lambda: register(home, run, "anybody", 1, "once")

    return die_everywhere(begin)


def _nth_run(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def die_everywhere(begin: Callable[[int], Callable[[], object]]) -> int:
    """Die before each call in turn that changes a file system, of what `begin` returns.

    After each death the same is done once more, and has to succeed. Returns how many there were.
    """
    deaths = 0
    while True:
        attempt = begin(deaths)

        def mortal(call: int = deaths, attempt: Callable[[], object] = attempt) -> None:
            killing.before_call(call)
            attempt()

        lived = _in_fork(mortal)
        assert _in_fork(attempt), "what was begun can't be done again"
        if lived:
            return deaths
        deaths += 1


def _in_fork(action: Callable[[], object]) -> bool:
    """Do it in a fork of this process, which has no threads; return whether it lived."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        finally:
            # Whatever it was; Python would go on as a second parent.
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "it failed, see above"
    return os.WIFEXITED(status)


def move_staged(staging: str, run: str) -> None:
    """Move the staged copy of a run that is stored as it is."""
    place = Path(staging)
    afterwards.move(place, run, walk.observe(place, run).signature(), 1)


def delete_staged(staging: str, run: str) -> None:
    """Delete the staged copy of a run that is stored as it is."""
    place = Path(staging)
    afterwards.delete(place, run, walk.observe(place, run).signature(), lambda: None)


def delete_and_die_everywhere(staging: str) -> list[str]:
    """Die before each call in turn that changes a file system while a staged copy is deleted.

    Returns what each start after that found: a run that was whole, or gone.
    """
    place, found = Path(staging), list[str]()
    while True:
        run = make_run(place, {"model": "1", "w/a": "2", "w/b/c": "3"})
        os.link(place / run / "model", place / run / "w/again")
        signature = walk.observe(place, run).signature()

        def mortal(run: str = run, signature: str = signature) -> None:
            killing.before_call(len(found))
            afterwards.delete(place, run, signature, lambda: None)

        lived = _in_fork(mortal)
        assert _in_fork(lambda: afterwards.recover(place))
        left = [each.name for each in place.iterdir() if not each.name.startswith(".tmp-")]
        if left:
            assert left == [run]
            assert walk.observe(place, run).signature() == signature
            shutil.rmtree(place / run)
        found.append("whole" if left else "gone")
        if lived:
            return found


# coming from elsewhere


def import_mlopsnet(
    home: str | Path, database: str | Path, folder: str | Path, production: str | None = None
) -> bool:
    """Import a store of MLOps.NET, with a URL for its target; return whether all of it is here."""
    targets = {"production": production} if production else {}
    with Repository.open(home) as repository, opening.mlopsnet(Path(database), Path(folder)) as net:
        return carry(repository, net, Options(targets=targets)).complete


def import_mlflow(home: str, where: str) -> bool:
    """Import a store of MLflow; return whether all of it is here."""
    with Repository.open(home) as repository, opening.mlflow(where) as source:
        return carry(repository, source, Options()).complete


def import_bundle(home: str, path: str) -> bool:
    """Import a bundle; return whether all of it is here."""
    with Repository.open(home) as repository, opening.bundle(Path(path)) as source:
        return carry(repository, source, Options()).complete
