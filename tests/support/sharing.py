"""Hosts that share one backend, and what child processes do in the tests of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modeldrop import Repository
from modeldrop.backend import open_backend, probe
from modeldrop.home_records import PushedRecord
from modeldrop.journal.lines import Entry, NewEntry, parse, write
from modeldrop.journal.reading import EMPTY, head_of
from modeldrop.layout import journal_segments
from modeldrop.names import new_guid
from modeldrop.records import Head
from support.stores import model
from support.work import die_everywhere


def host(root: Path, backend: str) -> Repository:
    """Make the home of one more host on a backend."""
    return Repository.init(root, backend=backend)[0]


def store(repository: Repository, text: str, experiment: str = "churn") -> str:
    """Store a model and register it; return the version's reference."""
    path = model(repository.home.paths.root.parent / f"aside-{new_guid()}" / "model.bin", text)
    run = new_guid()
    repository.upload(run, path)
    version = repository.register(f"run:{run}", experiment).version
    return f"{version.experiment}/{version.version}"


def note(repository: Repository, *texts: str) -> None:
    """Have something in the journal that needs no backend."""
    repository.journal.append(
        *(NewEntry("committed", ("run:x~1",), text, {"note": text}, "ada") for text in texts)
    )


def seen(repository: Repository) -> list[tuple[str, int, str]]:
    """Return home, number and digest of every entry that `log` shows, in a fixed order."""
    return sorted((each.home, each.seq, each.sha256) for each in repository.log())


def segments_of(repository: Repository, backend: Path) -> list[Path]:
    """Return the sealed segments of a home on a local backend, in order."""
    return sorted((backend / journal_segments(repository.home.id)).glob("*.jsonl"))


def pushed(repository: Repository) -> PushedRecord:
    """Return how far a home says that its journal is shared."""
    path = repository.home.paths.pushed
    return PushedRecord.from_bytes(path.read_bytes(), str(path))


def rewritten(lines: Sequence[bytes], at: int, home: str) -> bytes:
    """Return a journal whose entry `at`, counted from 1, says something else, chain and all."""
    head: Head = EMPTY
    done: list[bytes] = []
    for number, line in enumerate(lines, 1):
        entry: Entry = parse(line, head.offset if number <= at else 0)
        again = line
        if number >= at:
            details = {**entry.details, "forged": True} if number == at else entry.details
            new = NewEntry(entry.kind, entry.about, entry.request, details, entry.user)
            again = write(new, after=head, home=home, host=entry.host)
        head = head_of(parse(again, head.offset))
        done.append(again)
    return b"".join(done)


# In processes of their own


def push(home: str) -> int:
    """Share a home's journal; return up to which entry it is shared."""
    with Repository.open(home) as repository:
        return repository.push().seq


def fetch(home: str) -> int:
    """Fetch the journals of the others; return how many entries were new."""
    with Repository.open(home) as repository:
        journals = repository.fetch()
        for each in journals:
            if each.trouble is not None:
                raise each.trouble
        return sum(each.entries for each in journals)


def clone(home: str, backend: str) -> int:
    """Make a home from a backend, or finish it; return how many entries its log has."""
    repository, _ = Repository.clone(Path(home), backend)
    with repository:
        return sum(1 for _ in repository.log())


def rebuild(home: str) -> None:
    """Make a home's journal again."""
    with Repository.open(home) as repository:
        repository.rebuild()


# Every point of a crash, in a process that has no threads


def push_and_die_everywhere(home: str, backend: str) -> int:
    """Die before each call in turn that changes a file system while a journal is shared."""

    def begin(number: int) -> Callable[[], object]:
        with Repository.open(home) as repository:
            note(repository, f"entry {number}")
            segments = Path(backend, journal_segments(repository.home.id))
            journal = repository.home.paths.journal

        def attempt() -> None:
            push(home)
            shared = b"".join(path.read_bytes() for path in sorted(segments.glob("*.jsonl")))
            assert shared == journal.read_bytes()

        return attempt

    return die_everywhere(begin)


def fetch_and_die_everywhere(home: str, other: str) -> int:
    """Die before each call in turn that changes a file system while a journal is fetched."""

    def begin(number: int) -> Callable[[], object]:
        with Repository.open(other) as repository:
            note(repository, f"entry {number}")
            repository.push()
            theirs, journal = repository.home.id, repository.home.paths.journal

        def attempt() -> None:
            fetch(home)
            with Repository.open(home) as repository:
                copy = repository.home.paths.fetched_journal(theirs)
            assert copy.read_bytes() == journal.read_bytes()

        return attempt

    return die_everywhere(begin)


def clone_and_die_everywhere(folder: str, backend: str, entries: int) -> int:
    """Die before each call in turn that changes a file system while a home is cloned.

    The race for create-if-absent is left out: a home that died in it has nothing yet.
    """
    verdict = probe.race(open_backend(backend, {}, None))
    probe.race = lambda *_, **__: verdict

    def begin(number: int) -> Callable[[], object]:
        def attempt() -> None:
            # A home that died before its first entry has none, as with `init`.
            assert clone(f"{folder}/{number}", backend) - entries in (0, 1)

        return attempt

    return die_everywhere(begin)


def rebuild_and_die_everywhere(home: str) -> int:
    """Die before each call in turn that changes a file system while a journal is rebuilt."""
    root = Path(home)
    names = ("journal.jsonl", "HEAD", "pushed.json")

    def begin(_: int) -> Callable[[], object]:
        for name in names:
            (root / name).unlink(missing_ok=True)

        def attempt() -> None:
            rebuild(home)
            with Repository.open(home) as repository:
                assert repository.verify().ok

        return attempt

    return die_everywhere(begin)
