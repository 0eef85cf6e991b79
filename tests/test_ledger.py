"""Killed anywhere between the intent and its removal: one record, one entry, nothing left open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from modeldrop import Repository, disk
from modeldrop.errors import JournalDamaged, ModeldropError, RecordDamaged
from modeldrop.files import TEMP_PREFIX
from modeldrop.journal import Entry, Journal, NewEntry
from modeldrop.names import new_guid
from support import work
from support.children import dies, run
from support.stores import make_home, model

APPENDING: Final = (
    "intent written",
    "record appended",
    "followers brought forward",
    "journal acknowledged",
    "intent removed",
)
COMMITTING: Final = ("ready", "bytes stored", *APPENDING, "committed")
REGISTERING: Final = ("claimed", *APPENDING)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    root = tmp_path / "home"
    make_home(root).close()
    return root


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return model(tmp_path / "drop" / "model.bin")


def kinds(repository: Repository) -> list[str]:
    """Return the kinds of what the journal says happened, oldest first."""
    return [entry.kind for entry in repository.log()][::-1]


@pytest.mark.parametrize("step", COMMITTING)
def test_killed_after_any_step_of_a_commit_leaves_one_revision_and_one_entry(
    home: Path, weights: Path, step: str
) -> None:
    guid = new_guid()

    assert dies(work.upload, home, guid, weights, at=step)
    with Repository.open(home) as repository:
        again = repository.upload(guid, weights)

        assert again.revision.revision == 1
        assert repository.runs_at_backend.last(guid) == 1
        assert kinds(repository) == ["home-created", "committed"]
        assert repository.runs_at_backend.open_intents() == []
        assert repository.verify(deep=True).ok
        # From the manifest on it had happened, and only its acknowledgement was missing.
        assert again.created == (step in {"ready", "bytes stored", "intent written"})


@pytest.mark.parametrize("step", REGISTERING)
def test_killed_after_any_step_of_a_registration_leaves_one_version_and_one_entry(
    home: Path, weights: Path, step: str
) -> None:
    guid = new_guid()
    with Repository.open(home) as repository:
        repository.upload(guid, weights)

    assert dies(work.register, home, guid, "killed", 1, "once", at=step)
    with Repository.open(home) as repository:
        again = repository.register(guid, "churn")

        assert again.version.version == 1
        assert [each.version for each in repository.versions("churn")] == [1]
        assert repository.versions_at_backend.counter("churn") == 1
        assert kinds(repository) == ["home-created", "committed", "registered"]
        assert repository.runs_at_backend.open_intents() == []
        assert repository.verify(deep=True).ok
        assert again.created == (step in {"claimed", "intent written"})


@pytest.mark.parametrize("step", ["record appended", "followers brought forward"])
def test_what_a_dead_registration_began_is_settled_by_the_next_one_of_another_run(
    home: Path, weights: Path, step: str
) -> None:
    with Repository.open(home) as repository:
        dead, alive = new_guid(), new_guid()
        for guid in (dead, alive):
            repository.upload(guid, weights)

        assert dies(work.register, home, dead, "dead", 1, "once", at=step)
        after = repository.register(alive, "churn")

        assert after.version.version == 2
        entries = [entry.about[0] for entry in repository.log() if entry.kind == "registered"]
        assert entries == ["churn/2", "churn/1"]
        assert repository.runs_at_backend.open_intents() == []


def test_settling_by_itself_is_enough_and_harmless_twice(home: Path, weights: Path) -> None:
    guid = new_guid()
    assert dies(work.upload, home, guid, weights, at="record appended")

    for _ in range(2):
        with Repository.open(home) as repository:
            repository.runs_at_backend.settle(guid)
            assert kinds(repository) == ["home-created", "committed"]
            assert repository.runs_at_backend.open_intents() == []


def test_what_is_found_to_have_happened_lasts_before_the_journal_says_so(
    home: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer died, perhaps before its name was on the disk."""
    guid = new_guid()
    assert dies(work.upload, home, guid, weights, at="record appended")
    synced: list[str] = []
    sync_folder, append = disk.sync_folder, Journal.append

    def note(folder: Path | str) -> None:
        synced.append(Path(folder).name)
        sync_folder(folder)

    def noted(self: Journal, *entries: NewEntry) -> tuple[Entry, ...]:
        synced.append("journal")
        return append(self, *entries)

    monkeypatch.setattr(disk, "sync_folder", note)
    monkeypatch.setattr(Journal, "append", noted)
    with Repository.open(home) as repository:
        repository.runs_at_backend.settle(guid)

    assert synced.index("revisions") < synced.index("journal")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["upload", "register"])
def test_killed_before_any_call_that_changes_a_file_system_loses_nothing_and_doubles_nothing(
    home: Path, weights: Path, what: str
) -> None:
    everywhere = (
        work.upload_and_die_everywhere if what == "upload" else work.register_and_die_everywhere
    )

    deaths = run(everywhere, home, weights)

    # Bytes, manifest, intent, journal, HEAD; temp files, syncs, links: far more than the steps.
    assert deaths > 20
    runs = deaths + 1
    with Repository.open(home) as repository:
        assert repository.runs_at_backend.open_intents() == []
        assert repository.verify(deep=True).ok
        assert kinds(repository).count("committed") == runs
        entries = [entry for entry in repository.log() if entry.kind != "home-created"]
        assert len({entry.about[0] for entry in entries}) == len(entries)
        assert {each.revision for each in repository.runs()} == {1}
        if what == "register":
            versions = repository.versions("churn")
            assert [each.version for each in versions] == list(range(1, runs + 1))
            assert len({each.run for each in versions}) == runs
            assert kinds(repository).count("registered") == runs
    leftovers = [each for each in home.rglob(f"{TEMP_PREFIX}*") if each.is_file()]
    # Each death leaves at most what it was at, and nothing reads that. A registration is at its
    # claim, its version and its counter together.
    assert len(leftovers) <= deaths * (3 if what == "register" else 1)


def test_entry_that_was_written_and_not_acknowledged_is_not_written_again(
    home: Path, weights: Path
) -> None:
    with Repository.open(home) as repository:
        guid = new_guid()
        head = repository.home.paths.head.read_bytes()
        assert dies(work.upload, home, guid, weights, at="journal acknowledged")
        # As if it had died just before HEAD was replaced.
        repository.home.paths.head.write_bytes(head)
        assert kinds(repository) == ["home-created"]

        repository.upload(guid, weights)

        assert kinds(repository) == ["home-created", "committed"]


def test_damaged_intent_is_reported_and_not_passed_over(home: Path, weights: Path) -> None:
    guid = new_guid()
    assert dies(work.upload, home, guid, weights, at="intent written")
    with Repository.open(home) as repository:
        [intent] = repository.home.paths.intents.iterdir()
        intent.write_bytes(intent.read_bytes()[:-20])

        with pytest.raises(RecordDamaged, match=intent.name):
            repository.upload(guid, weights)
        report = repository.verify()

        assert [(each.kind, intent.name in each.what) for each in report.findings] == [
            ("home", True)
        ]


@pytest.mark.usefixtures("waits_alone")
def test_journal_that_fails_keeps_the_intent_until_it_can_be_acknowledged(
    home: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fdatasync

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    guid = new_guid()
    with Repository.open(home) as repository:
        monkeypatch.setattr(os, "fdatasync", broken)
        with pytest.raises(ModeldropError, match="Input/output error"):
            repository.upload(guid, weights)
        monkeypatch.setattr(os, "fdatasync", real)
        assert len(repository.runs_at_backend.open_intents()) == 1

        # The same process goes on, without a restart.
        assert not repository.upload(guid, weights).created
        assert kinds(repository) == ["home-created", "committed"]
        assert repository.runs_at_backend.open_intents() == []


def test_nothing_is_appended_on_a_damaged_journal(home: Path, weights: Path) -> None:
    with Repository.open(home) as repository:
        repository.upload(stored := new_guid(), weights)
        journal = repository.home.paths.journal
        journal.write_bytes(journal.read_bytes().replace(b'"committed"', b'"Committed"'))

        with pytest.raises(JournalDamaged):
            repository.upload(guid := new_guid(), weights)
        with pytest.raises(JournalDamaged):
            repository.register(stored, "churn")

        assert repository.runs_at_backend.numbers(guid) == []
        assert repository.versions_at_backend.numbers("churn") == []
        assert repository.runs_at_backend.open_intents() == []
