"""`verify` compares what the journals of all hosts say with what the backend holds, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.journal import Entry, NewEntry
from modeldrop.layout import numbered, retirements, revisions, versions
from modeldrop.names import new_guid
from modeldrop.records import Retirement, Version
from modeldrop.structs import replace
from support.sharing import host, note, rewritten, segments_of, store


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def ada(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    with host(tmp_path / "ada", str(backend)) as made:
        store(made, "of ada")
        made.push()
        yield made


@pytest.fixture
def bob(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    with host(tmp_path / "bob", str(backend)) as made:
        store(made, "of bob", "demand")
        made.push()
        yield made


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an entry expected as soon as its home has shared a later one."""
    monkeypatch.setattr("modeldrop.accounts._GRACE", 0.0)


def findings(repository: Repository) -> dict[str, str]:
    """Return what `verify` finds, by place."""
    return {each.where: each.what for each in repository.verify().findings}


def test_store_of_two_hosts_is_clean_whether_they_have_fetched_or_not(
    ada: Repository, bob: Repository, hurried: None
) -> None:
    assert findings(ada) == findings(bob) == {}
    assert ada.verify().checked["entries"] == 6
    ada.fetch()
    assert findings(ada) == {}


@pytest.mark.parametrize("what", ["version", "revision"])
def test_entry_of_another_host_without_its_record_is_named(
    ada: Repository, bob: Repository, backend: Path, what: str
) -> None:
    version = bob.versions("demand")[0]
    if what == "version":
        name, key = "demand/1", numbered(versions("demand"), 1)
    else:
        name, key = f"run:{version.run}~1", numbered(revisions(version.run), 1)
    (backend / key).unlink()

    said = findings(ada)[name]

    assert "the journal has it, and it is not at the backend" in said
    assert bob.home.host in said
    assert bob.home.id in said
    assert name in findings(bob)


def test_entry_with_another_digest_than_the_record_is_named(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    path = backend / numbered(versions("demand"), 1)
    record = Version.from_bytes(path.read_bytes(), "")
    other = ada.versions("churn")[0]
    path.write_bytes(
        replace(
            record, run=other.run, sha256=other.sha256, size=other.size, artifact=other.artifact
        ).to_bytes()
    )

    assert "another digest" in findings(ada)["demand/1"]
    del bob


def test_record_without_an_entry_of_its_home_is_named(
    ada: Repository, bob: Repository, backend: Path, hurried: None
) -> None:
    path = backend / numbered(versions("demand"), 1)
    record = Version.from_bytes(path.read_bytes(), "")
    (backend / numbered(versions("demand"), 2)).write_bytes(
        replace(record, version=2, owner=new_guid()).to_bytes()
    )

    for each in (ada, bob):
        assert findings(each) == {
            "demand/2": f"no entry of its home {bob.home.id} ({bob.home.host}) tells of it"
        }


def test_record_whose_entry_is_not_shared_yet_is_no_difference(
    ada: Repository, bob: Repository, hurried: None
) -> None:
    store(bob, "next", "demand")

    report = ada.verify()

    assert report.findings == []
    assert report.checked["not shared yet"] == 2
    bob.push()
    assert "not shared yet" not in ada.verify().checked


def test_own_record_that_is_still_on_its_way_to_the_journal_is_no_difference(
    ada: Repository, backend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = ada.journal.append
    seen: list[dict[str, str]] = []

    def look_first(*entries: NewEntry) -> tuple[Entry, ...]:
        with Repository.open(ada.home.paths.root) as other:
            seen.append(findings(other))
        return append(*entries)

    monkeypatch.setattr(ada.journal, "append", look_first)
    store(ada, "another")

    assert seen == [{}, {}]
    assert findings(ada) == {}
    # Without the intent it is one: nobody is about to tell of it.
    path = backend / numbered(versions("churn"), 2)
    record = Version.from_bytes(path.read_bytes(), "")
    (backend / numbered(versions("churn"), 3)).write_bytes(
        replace(record, version=3, owner=new_guid()).to_bytes()
    )
    assert set(findings(ada)) == {"churn/3"}


def test_home_that_has_shared_nothing_is_given_time(
    ada: Repository, tmp_path: Path, backend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host(tmp_path / "eve", str(backend)) as eve:
        store(eve, "of eve", "risk")
        assert findings(ada) == {}
        monkeypatch.setattr("modeldrop.accounts._GRACE", 0.0)
        assert set(findings(ada)) == {"risk/1", f"run:{eve.versions('risk')[0].run}~1"}


def test_past_that_all_have_read_can_not_be_changed_unseen(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    note(bob, "one")
    bob.push()
    note(bob, "two")
    bob.push()
    ada.fetch()
    path = segments_of(bob, backend)[0]
    whole = path.read_bytes()
    forged = rewritten(whole.splitlines(keepends=True), at=2, home=bob.home.id)
    path.write_bytes(forged)

    # The last segment is as it was: a look at that alone sees nothing.
    assert [each.trouble for each in ada.fetch()] == [None]
    for each in (ada, bob):
        assert "isn't what it was at line 2" in findings(each)[bob.home.id]
    path.write_bytes(whole)
    assert bob.home.id not in findings(ada)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_segment_that_is_missing_is_named_by_all_also_by_who_has_fetched_nothing(
    ada: Repository, bob: Repository, backend: Path, number: int
) -> None:
    for text in ("one", "two"):
        note(bob, text)
        bob.push()
    lines = [1, 4, 5]
    segments_of(bob, backend)[number].unlink()

    assert f"at line {lines[number]}" in findings(bob)[bob.home.id]
    if number < 2:
        assert f"at line {lines[number]}" in findings(ada)[bob.home.id]
    else:
        # What nobody has seen but its home, only its home can miss.
        assert bob.home.id not in findings(ada)


def test_copy_that_is_damaged_or_missing_is_named(ada: Repository, bob: Repository) -> None:
    ada.fetch()
    path = ada.home.paths.fetched_journal(bob.home.id)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"demand", b"demons"))
    assert "has it otherwise" in findings(ada)[bob.home.id]
    path.unlink()
    assert "at line 1" in findings(ada)[bob.home.id]
    path.write_bytes(data)
    ada.home.paths.fetched_head(bob.home.id).write_bytes(b"{}")
    assert "is damaged" in findings(ada)[bob.home.id]


def test_journal_that_goes_on_at_the_backend_is_named(ada: Repository, backend: Path) -> None:
    paths = ada.home.paths
    kept = {path: path.read_bytes() for path in (paths.journal, paths.head, paths.pushed)}
    note(ada, "later")
    ada.push()
    for path, data in kept.items():
        path.write_bytes(data)

    assert "goes on at the backend" in findings(ada)[ada.home.id]
    del backend


def test_entries_of_a_restored_home_count_for_what_it_was_before(
    ada: Repository, bob: Repository, hurried: None
) -> None:
    paths = ada.home.paths
    kept = {path: path.read_bytes() for path in (paths.journal, paths.head, paths.pushed)}
    note(ada, "a life that was lost")
    ada.push()
    for path, data in kept.items():
        path.write_bytes(data)
    with Repository.open(paths.root) as back:
        store(back, "after the restore")
        back.push(renew=True)
        # What the second life did under the old id nobody tells of, and that is said.
        lost = {each for each in findings(bob) if not each.startswith("run:x")}
        assert lost == {"churn/2", f"run:{back.versions('churn')[1].run}~1"}


def test_retirement_that_says_another_thing_than_its_entry_is_named(
    ada: Repository, backend: Path
) -> None:
    ada.retire("churn/1")
    ada.push()
    path = backend / numbered(retirements("churn", 1), 1)
    record = Retirement.from_bytes(path.read_bytes(), "")
    path.write_bytes(replace(record, retired=False).to_bytes())

    assert any("another digest than the backend" in what for what in findings(ada).values())


def test_retirement_of_another_digest_than_its_version_is_named(
    ada: Repository, backend: Path
) -> None:
    ada.retire("churn/1")
    path = backend / numbered(retirements("churn", 1), 1)
    record = Retirement.from_bytes(path.read_bytes(), "")
    path.write_bytes(replace(record, sha256="0" * 64).to_bytes())

    said = [each.what for each in ada.verify().findings]

    assert "churn/1 has another digest" in said
