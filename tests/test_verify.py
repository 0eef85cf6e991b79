"""Damage is found and named, and damaged bytes never get a final name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import (
    ArtifactDamaged,
    BackendUnreachable,
    BucketNotFound,
    IntegrityError,
    RecordDamaged,
)
from modeldrop.form import Fields, seal
from modeldrop.layout import FORMAT_KEY, numbered, revisions, versions
from modeldrop.names import new_guid
from modeldrop.records import Revision
from support.stores import RUN, Faulty, commit, make_home, model, set_backend

CONTENTS = {"model.bin": "weights", "folder/a": "aaa", "folder/sub/b": "bbb"}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home", tmp_path / "store") as made:
        commit(made, CONTENTS)
        for name in ("model.bin", "folder"):
            made.register(RUN, "churn", name)
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def flip(path: Path, at: int = 1) -> None:
    """Change one byte of a file, and neither its size nor its time."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def stored(repository: Repository, store: Path, path: str) -> Path:
    """Return where the bytes of a run's file are."""
    return store / repository.runs_at_backend.committed(RUN).files()[path].key


def edit(path: Path, **changes: object) -> None:
    """Change a record, and give it the right digest for what it says then."""
    found: Fields = {**json.loads(path.read_bytes()), **changes}  # type: ignore[dict-item] # what tests give is JSON
    kind = str(found["kind"])
    path.write_bytes(seal(kind, {k: v for k, v in found.items() if k not in {"kind", "format"}}))


def findings(repository: Repository, *, deep: bool = False) -> dict[str, str]:
    """Return what a check of the whole store finds: what is off, by where."""
    return {each.where: each.what for each in repository.verify(deep=deep).findings}


def test_clean_store_is_clean_and_says_what_was_checked(repository: Repository) -> None:
    for deep in (False, True):
        report = repository.verify(deep=deep)

        assert report.ok
        assert report.checked == {"revisions": 1, "files": 3, "versions": 2, "entries": 4}
        assert report.as_json()["ok"] is True
    assert repository.verify("churn/2").checked == {"files": 2}


@pytest.mark.parametrize(
    ("reference", "path"),
    [("churn/1", "model.bin"), ("churn/2", "folder/a"), ("churn/2", "folder/sub/b")],
)
def test_changed_byte_is_named_by_verify_and_pull_and_nothing_is_left_under_the_final_name(
    repository: Repository, store: Path, tmp_path: Path, reference: str, path: str
) -> None:
    flip(stored(repository, store, path))

    [finding] = repository.verify(reference).findings
    assert (finding.kind, finding.where) == ("file", f"{reference}/{path}")
    assert "not what was recorded" in finding.what

    gets: tuple[Callable[[str], Path], ...] = (
        partial(repository.pull, to=tmp_path / "to"),
        repository.path,
    )
    for get in gets:
        with pytest.raises(ArtifactDamaged, match=path) as caught:
            get(reference)
        assert caught.value.exit_code == 20
        assert caught.value.detail["files"] == [path]
    assert os.listdir(tmp_path / "to") == []
    cached = [each for each in repository.home.paths.objects.rglob("*") if each.is_file()]
    assert [each for each in cached if each.suffix != ".lock"] == []
    # The other version is none the worse.
    other = "churn/2" if reference == "churn/1" else "churn/1"
    assert repository.verify(other).ok
    assert repository.pull(other, tmp_path / "to").exists()


def test_changed_byte_is_found_by_a_deep_check_alone(repository: Repository, store: Path) -> None:
    flip(stored(repository, store, "folder/a"))

    assert repository.verify().ok
    assert list(findings(repository, deep=True)) == [f"run:{RUN}~1/folder/a"]


@pytest.mark.parametrize("harm", ["missing", "cut", "grown"])
def test_object_that_is_missing_or_of_another_size_is_found_without_reading(
    repository: Repository, store: Path, tmp_path: Path, harm: str
) -> None:
    path = stored(repository, store, "folder/a")
    if harm == "missing":
        path.unlink()
    else:
        path.write_text("aa" if harm == "cut" else "aaaa")

    for deep in (False, True):
        assert list(findings(repository, deep=deep)) == [f"run:{RUN}~1/folder/a"]
    with pytest.raises(ArtifactDamaged, match="folder/a"):
        repository.pull("churn/2", tmp_path / "to")
    assert os.listdir(tmp_path / "to") == []


def test_changed_manifest_is_named_and_not_used_in_part(
    repository: Repository, store: Path, tmp_path: Path
) -> None:
    flip(store / numbered(revisions(RUN), 1), at=40)

    found = findings(repository)
    assert "is damaged" in found[f"run:{RUN}~1"]
    for reference in ("churn/1", RUN):
        with pytest.raises(RecordDamaged, match=r"revisions/00000001\.json"):
            repository.pull(reference, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_missing_manifest_is_found_by_what_refers_to_it(
    repository: Repository, store: Path
) -> None:
    (store / numbered(revisions(RUN), 1)).unlink()

    found = findings(repository)

    assert set(found) == {f"run:{RUN}~1", "churn/1", "churn/2"}
    assert "the journal has it" in found[f"run:{RUN}~1"]


def test_version_that_pins_another_digest_than_its_manifest_is_no_version(
    repository: Repository, store: Path, tmp_path: Path
) -> None:
    for field, value in (("sha256", "0" * 64), ("size", 8)):
        path = store / numbered(versions("churn"), 1)
        before = path.read_bytes()
        edit(path, **{field: value})

        assert "other bytes than it pins" in findings(repository)["churn/1"]
        with pytest.raises(IntegrityError, match="churn/1 pins"):
            repository.pull("churn/1", tmp_path / "to")
        assert not (tmp_path / "to").exists()
        path.write_bytes(before)


def test_version_that_was_replaced_by_another_whole_one_is_told_by_the_journal(
    repository: Repository, store: Path
) -> None:
    edit(store / numbered(versions("churn"), 1), **pinning(repository, store, 2))

    assert "the journal has another digest" in findings(repository)["churn/1"]


def pinning(repository: Repository, store: Path, number: int) -> dict[str, object]:
    """Return what makes a version pin what another one does."""
    found = json.loads((store / numbered(versions("churn"), number)).read_bytes())
    return {name: found[name] for name in ("artifact", "sha256", "size", "owner")}


def test_version_in_anothers_place_is_found(repository: Repository, store: Path) -> None:
    first, second = (store / numbered(versions("churn"), number) for number in (1, 2))
    first.write_bytes(second.read_bytes())

    assert "says that it is churn/2" in findings(repository)["churn/1"]
    with pytest.raises(IntegrityError, match="says that it is churn/2"):
        repository.resolve("churn/1")


def test_version_of_what_is_no_run_is_damaged_and_pulled_to_no_folder_of_its_choice(
    repository: Repository, store: Path, tmp_path: Path
) -> None:
    manifest = store / numbered(revisions(RUN), 1)
    forged = store / numbered(revisions(".git/hooks"), 1)
    forged.parent.mkdir(parents=True)
    forged.write_bytes(manifest.read_bytes())
    edit(forged, run=".git/hooks")
    whole = Revision.from_bytes(forged.read_bytes(), "forged").whole()
    record = store / numbered(versions("churn"), 1)
    edit(record, run=".git/hooks", revision=1, artifact=".", sha256=whole.sha256, size=whole.size)

    with pytest.raises(IntegrityError, match="is no run"):
        repository.pull("churn/1", tmp_path / "to")

    assert not (tmp_path / "to").exists()
    assert "is no run" in findings(repository)["churn/1"]


@pytest.mark.parametrize("journal", ["of the home that wrote it", "of another home"])
def test_gap_in_a_sequence_is_found_and_what_stands_above_it_is_checked(
    repository: Repository, store: Path, tmp_path: Path, journal: str
) -> None:
    (store / numbered(versions("churn"), 1)).unlink()
    flip(store / numbered(versions("churn"), 2), at=40)
    if journal == "of another home":
        repository = make_home(tmp_path / "second", store)

    found = findings(repository)

    assert {"churn/1", "churn/2"} <= set(found)
    assert "is damaged" in found["churn/2"]


@pytest.mark.parametrize("damage", ["changed", "missing", "another"])
def test_record_of_the_repository_is_checked(
    repository: Repository, store: Path, damage: str
) -> None:
    path = store / FORMAT_KEY
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        flip(path, at=30)
    else:
        edit(path, repository=new_guid())

    assert list(findings(repository)) == [str(path)]


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_changed_byte_of_the_journal_is_reported_with_its_offset(
    repository: Repository, line: int
) -> None:
    journal = repository.home.paths.journal
    begin = sum(len(each) for each in journal.read_bytes().splitlines(keepends=True)[:line])
    flip(journal, at=begin + 100)

    with Repository.open(repository.home.paths.root) as fresh:
        [finding] = fresh.verify().findings

    assert (finding.kind, finding.where) == ("journal", str(begin))
    assert f"byte {begin}" in finding.what


def test_journal_that_is_cut_below_head_is_damage(repository: Repository) -> None:
    journal = repository.home.paths.journal
    size = journal.stat().st_size
    os.truncate(journal, size - 1)

    assert repository.verify().findings[0].kind == "journal"
    os.truncate(journal, 0)
    assert findings(repository)["0"]


def test_damaged_record_of_the_home_is_found(repository: Repository) -> None:
    flip(repository.home.paths.probe, at=30)

    assert list(findings(repository)) == [str(repository.home.paths.probe)]


def test_what_a_crash_leaves_is_no_damage(repository: Repository, store: Path) -> None:
    model(store / RUN / "20260314T092653Z-0000000000000000" / "nobody-names-me")
    model(store / RUN / "revisions" / ".tmp-00000002.json")
    model(repository.home.paths.intents / ".tmp-0")
    repository.home.paths.counter("churn").unlink()

    assert repository.verify(deep=True).ok


def test_manifest_that_names_a_key_outside_of_the_store_is_damage_and_reads_nothing(
    repository: Repository, store: Path, tmp_path: Path
) -> None:
    secret = model(tmp_path / "secret", "weights")
    path = store / numbered(revisions(RUN), 1)
    artifacts = json.loads(path.read_bytes())["artifacts"]
    [file] = next(each for each in artifacts if each["artifact"] == "model.bin")["files"]
    file["key"] = f"../{secret.name}"
    edit(path, artifacts=artifacts)

    for deep in (False, True):
        assert "is no key" in findings(repository, deep=deep)[f"run:{RUN}~1/model.bin"]


def test_backend_that_fails_is_a_failure_and_no_finding(
    repository: Repository, store: Path
) -> None:
    class Away(Faulty):
        def children(self, folder: str, prefix: str = "") -> Iterator[str]:
            del folder, prefix
            raise BackendUnreachable("no answer")

    root = repository.home.paths.root
    with Repository.open(root) as fresh:
        set_backend(fresh, Away(store))
        with pytest.raises(BackendUnreachable):
            fresh.verify()
    store.rename(store.with_name("unmounted"))
    with Repository.open(root) as fresh, pytest.raises(BucketNotFound):
        fresh.verify()


def test_damaged_copy_in_the_cache_is_pulled_anew(repository: Repository) -> None:
    place = repository.path("churn/1")
    assert place.stat().st_mode & 0o222 == 0

    for harm in (lambda: place.write_text("wei"), place.unlink, lambda: os.utime(place)):
        place.chmod(0o644)
        harm()
        assert repository.path("churn/1") == place
        assert place.read_text() == "weights"
    folder = repository.path("churn/2")
    (folder / "sub" / "b").unlink()
    assert (repository.path("churn/2") / "sub" / "b").read_text() == "bbb"
