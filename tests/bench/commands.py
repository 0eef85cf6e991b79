"""What commands and registrations cost, also in a home that has seen much."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Figure, in_turns, program
from modeldrop import Repository, layout
from modeldrop.intake import drop
from modeldrop.journal import Journal, NewEntry
from modeldrop.layout import HomePaths
from modeldrop.records import Version

ENTRIES = 100_000
VERSIONS = 10_000
TENTH = 10
# Warm, one takes milliseconds, and the disk makes some of them take twice as long.
_WARM = 100


def home_with_run(folder: Path) -> tuple[Repository, str]:
    """Return a new home below `folder`, and a run that is committed there."""
    repository, _ = Repository.init(folder / ".mlops")
    model = folder / "model.bin"
    model.write_bytes(os.urandom(1000))
    run = drop(repository.home.staging, [model])
    engine = repository.engine()
    engine.scan_once()
    engine.close()
    return repository, run


def fill_journal(journal: Journal, entries: int) -> None:
    """Bring a journal to a number of entries, in commits of a thousand."""

    def entry(number: int) -> NewEntry:
        return NewEntry(
            kind="committed",
            about=(f"run:{uuid.uuid4()}~1",),
            request=str(uuid.uuid4()),
            user="bench",
            details={"run": str(uuid.uuid4()), "revision": 1, "number": number},
        )

    head = journal.head()
    for first in range(head.seq if head else 0, entries, 1000):
        journal.append(*(entry(number) for number in range(first, min(first + 1000, entries))))


def fill_versions(repository: Repository, run: str, experiment: str, count: int) -> None:
    """Put versions at the backend, as many hosts over many years would have."""
    first = repository.register(run, experiment).version
    root = repository.home.paths.model_repository
    for number in range(2, count + 1):
        fields = {**first.as_json(), "version": number, "owner": uuid.uuid4().hex}
        record = Version.from_json(fields, "bench")
        path = root / layout.numbered(layout.versions(experiment), number)
        path.write_bytes(record.to_bytes())
    repository.versions_at_backend.bring_forward(experiment, count)


def commands(folder: Path, rounds: int) -> Iterator[Figure]:
    """What a command costs before it does anything, and what a registration costs."""
    repository, run = home_with_run(folder)
    python = ["python", "-c"]
    bare, both, shown, registered = in_turns(
        rounds,
        lambda: program([*python, "import click"], folder),
        lambda: program([*python, "import click, fsspec"], folder),
        lambda: program(["modeldrop", "--help"], folder),
        lambda: program(["modeldrop", "register", run, "-e", f"e{uuid.uuid4().hex[:8]}"], folder),
    )
    repository.close()
    yield Figure("modeldrop --help", shown, bare, 1.6, "python -c 'import click'")
    yield Figure("modeldrop register, cold, local", registered, both, 1.5, "import click, fsspec")


def growth(folder: Path, rounds: int) -> Iterator[Figure]:
    """What an append and a registration cost in a home that has seen much."""
    small, small_run = home_with_run(_made(folder / "small"))
    tenth, tenth_run = home_with_run(_made(folder / "tenth"))
    large, large_run = home_with_run(_made(folder / "large"))
    fill_versions(large, large_run, "churn", VERSIONS)
    fill_versions(tenth, tenth_run, "churn", TENTH)
    fill_journal(large.journal, ENTRIES)
    empty = HomePaths(_made(folder / "empty"))
    for each in empty.folders():
        each.mkdir(parents=True, exist_ok=True)

    def append(journal: Journal) -> None:
        request = str(uuid.uuid4())
        journal.append(NewEntry("committed", ("run:bench~1",), request, {}, "bench"))

    few = Journal(empty, small.home.id, "bench")
    at_few, at_many = in_turns(200, lambda: append(few), lambda: append(large.journal))
    yield Figure(f"journal append at {ENTRIES:,} entries", at_many, at_few, 1.5, "an empty one's")
    first, later, uncounted = in_turns(
        rounds,
        lambda: program(
            ["modeldrop", "register", small_run, "-e", f"e{uuid.uuid4().hex[:8]}"],
            folder / "small",
        ),
        lambda: program(
            ["modeldrop", "register", large_run, "-e", "churn", "--again"], folder / "large"
        ),
        lambda: _register_uncounted(large, large_run, folder / "large"),
    )
    name = f"cold register at {VERSIONS:,} versions"
    yield Figure(name, later, first, 1.5, "the first one")
    yield Figure(f"{name}, no counter", uncounted, first, 1.5, "the first one")
    at_ten, at_thousands = in_turns(
        _WARM,
        lambda: tenth.register(tenth_run, "churn", again=True),
        lambda: large.register(large_run, "churn", again=True),
    )
    name = f"register at {VERSIONS:,} versions, warm"
    yield Figure(name, at_thousands, at_ten, 1.3, f"the {TENTH}th version")


def _register_uncounted(repository: Repository, run: str, folder: Path) -> None:
    repository.home.paths.counter("churn").unlink()
    program(["modeldrop", "register", run, "-e", "churn", "--again"], folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
