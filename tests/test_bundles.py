"""`export` and `import bundle`: what one repository has, in another, number for number."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldrop import Repository, layout
from modeldrop.errors import (
    ArtifactDamaged,
    Conflict,
    IntegrityError,
    NotFound,
    SourceChanged,
    UsageError,
    VersionNotFound,
)
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.packing import pack
from modeldrop.imports.report import Report
from modeldrop.imports.unpacking import BundleFile
from modeldrop.records import Bundle, Member, Version
from modeldrop.structs import replace
from support import work
from support.children import dies, run
from support.sharing import host, store

STEPS: Final = ("run imported", "record appended", "intent removed", "version imported")


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Repository]:
    """A home with three versions of churn, and an alias on the second."""
    with host(tmp_path / "origin", str(tmp_path / "origin store")) as made:
        for number in range(3):
            store(made, f"weights {number}")
        made.promote("churn/2", "champion")
        yield made


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with host(tmp_path / "home", str(tmp_path / "store")) as made:
        yield made


@pytest.fixture
def bundle(origin: Repository, tmp_path: Path) -> Path:
    return export(origin, ["churn"], tmp_path / "churn.bundle", history=True)


def export(
    repository: Repository,
    references: list[str],
    path: Path,
    *,
    history: bool = False,
    replace: bool = False,
) -> Path:
    """Write a bundle."""
    named = [repository.resolve(each) for each in references]
    return pack(repository, named, path, history=history, replace=replace).path


def bring(repository: Repository, path: Path, **options: object) -> Report:
    """Import a bundle."""
    with opening.bundle(path) as source:
        return carry(repository, source, Options(**options))  # type: ignore[arg-type] # a test's own


def test_no_alias_comes_to_a_version_that_was_retired_here(
    origin: Repository, repository: Repository, bundle: Path, tmp_path: Path
) -> None:
    origin.remove_alias("churn@champion")
    bring(repository, export(origin, ["churn"], tmp_path / "bare.bundle", history=True))
    repository.retire("churn/2", reason="it leaks")
    report = bring(repository, bundle)
    assert report.complete
    assert any("it leaks" in each.reason for each in report.left if each.kind == "alias")
    assert repository.aliases("churn") == []


def test_another_repository_has_it_all_with_numbers_dates_and_people(
    origin: Repository, repository: Repository, bundle: Path, tmp_path: Path
) -> None:
    report = bring(repository, bundle)
    assert report.complete
    for there, here in zip(origin.versions("churn"), repository.versions("churn"), strict=True):
        assert (here.version, here.sha256, here.run, here.artifact, here.owner) == (
            (there.version, there.sha256, there.run, there.artifact, there.owner)
        )
        assert here.registered_at == there.registered_at
        assert here.registered_by == there.registered_by
        assert here.origin is not None
        assert here.origin.source == "bundle"
        pulled = repository.pull(f"churn/{here.version}", tmp_path / str(here.version))
        assert pulled.read_text() == f"weights {here.version - 1}"
    assert repository.resolve("churn@champion").name == "churn/2"
    assert repository.verify(deep=True).ok


def test_alias_that_an_import_left_untold_is_told_by_the_next_one(
    origin: Repository, repository: Repository, bundle: Path, tmp_path: Path
) -> None:
    origin.remove_alias("churn@champion")
    bring(repository, export(origin, ["churn"], tmp_path / "bare.bundle", history=True))
    assert dies(work.import_bundle, repository.home.paths.root, bundle, at="record appended")
    assert repository.resolve("churn@champion").name == "churn/2"

    assert bring(repository, bundle).complete

    assert repository.runs_at_backend.open_intents() == []
    assert [each.kind for each in repository.log()].count("promoted") == 1


def test_twice_and_into_where_it_came_from_nothing_doubles(
    origin: Repository, repository: Repository, bundle: Path
) -> None:
    for each in (origin, repository):
        bring(each, bundle)
        before = [entry.seq for entry in each.log()]
        assert bring(each, bundle).complete
        assert [entry.seq for entry in each.log()] == before
    assert [each.origin for each in origin.versions("churn")] == [None] * 3


def test_a_bundle_says_the_same_as_tar_does(bundle: Path) -> None:
    with tarfile.open(bundle, "r:") as tar:
        names = tar.getnames()
        digests = [
            hashlib.sha256(file.read()).hexdigest()
            for name in names
            if name.startswith("bytes/") and (file := tar.extractfile(name))
        ]
        assert names[0] == "bundle.json"
        assert digests == [each.removeprefix("bytes/") for each in names if "bytes/" in each]
        assert len(digests) == 3


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle_and_run_again_it_is_whole(
    origin: Repository, bundle: Path, tmp_path: Path, step: str
) -> None:
    host(tmp_path / "home", str(tmp_path / "store")).close()
    assert dies(work.import_bundle, tmp_path / "home", bundle, at=step)
    assert run(work.import_bundle, tmp_path / "home", bundle)
    with Repository.open(tmp_path / "home") as again:
        assert [each.sha256 for each in again.versions("churn")] == (
            [each.sha256 for each in origin.versions("churn")]
        )
        told = [each.about[0] for each in again.log()]
        assert len(told) == len(set(told))
        assert again.verify(deep=True).ok


def test_lower_numbers_that_are_not_in_it_wait(
    origin: Repository, repository: Repository, tmp_path: Path
) -> None:
    path = export(origin, ["churn/3"], tmp_path / "one.bundle")
    report = bring(repository, path)
    assert "--history" in report.waiting[0].reason
    with pytest.raises(VersionNotFound):
        repository.versions("churn")
    bring(repository, export(origin, ["churn/2"], tmp_path / "two.bundle", history=True))
    # They are here now: nothing has to say what they mean.
    assert bring(repository, path).complete
    assert [each.version for each in repository.versions("churn")] == [1, 2, 3]


def test_vacant_numbers_travel_too(
    origin: Repository, repository: Repository, tmp_path: Path
) -> None:
    path = export(origin, ["churn/3"], tmp_path / "one.bundle")
    bring(repository, path, leave_vacant=True)
    assert [each.version for each in repository.versions("churn")] == [3]
    again = export(repository, ["churn"], tmp_path / "again.bundle", history=True)
    with host(tmp_path / "third", str(tmp_path / "third store")) as third:
        report = bring(third, again)
        assert (report.counts["vacant"].created, report.complete) == (2, True)
        assert [each.version for each in third.versions("churn")] == [3]
        assert third.verify(deep=True).ok


def test_several_revisions_of_one_run_stay_apart(
    origin: Repository, repository: Repository, tmp_path: Path
) -> None:
    guid = "11111111-2222-3333-4444-555555555555"
    for text in ("early", "late"):
        (tmp_path / "model.bin").write_text(text)
        origin.upload(guid, tmp_path / "model.bin")
        origin.register(f"run:{guid}", "other")
    path = export(origin, ["other"], tmp_path / "other.bundle", history=True)
    for _ in range(2):
        assert bring(repository, path).complete
    assert [
        repository.pull(f"other/{number}", tmp_path / str(number)).read_text() for number in (1, 2)
    ] == ["early", "late"]
    assert repository.resolve(f"run:{guid}").revision.revision == 2


def test_a_version_that_is_something_else_here_is_a_conflict(
    repository: Repository, bundle: Path
) -> None:
    store(repository, "mine")
    report = bring(repository, bundle)
    assert [each.name for each in report.conflicts] == ["churn/1"]
    assert len(repository.versions("churn")) == 1
    assert bring(repository, bundle, names={"churn": "churn-lab"}).complete
    assert len(repository.versions("churn-lab")) == 3


def test_a_file_that_is_there_is_kept(origin: Repository, bundle: Path) -> None:
    before = bundle.read_bytes()
    with pytest.raises(Conflict, match="already"):
        export(origin, ["churn/1"], bundle)
    assert bundle.read_bytes() == before
    export(origin, ["churn/1"], bundle, replace=True)
    assert bundle.read_bytes() != before
    assert sorted(each.name for each in bundle.parent.iterdir() if "bundle" in each.name) == (
        ["churn.bundle"]
    )


def test_a_file_that_appears_while_the_bundle_is_written_is_kept(
    origin: Repository, tmp_path: Path
) -> None:
    bundle = tmp_path / "another.bundle"

    def appear(_: int) -> None:
        bundle.write_bytes(b"somebody's")

    found = [origin.resolve("churn/1")]
    with pytest.raises(Conflict, match="already"):
        pack(origin, found, bundle, history=True, replace=False, moved=appear)
    assert bundle.read_bytes() == b"somebody's"


def test_damaged_bytes_make_no_bundle(origin: Repository, tmp_path: Path) -> None:
    stored = next(iter(origin.resolve("churn/1").revision.files().values()))
    (tmp_path / "origin store" / stored.key).chmod(0o644)
    (tmp_path / "origin store" / stored.key).write_bytes(b"weights X")
    with pytest.raises(ArtifactDamaged):
        export(origin, ["churn/1"], tmp_path / "one.bundle")
    assert not list(tmp_path.glob("*.bundle"))
    assert not list(tmp_path.glob(".tmp-*"))


def test_large_files_go_from_a_bundle_to_an_object_store_in_parts(
    origin: Repository, tmp_path: Path, s3_url: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(os.urandom(20 * 2**20 + 7))
    origin.upload("11111111-2222-3333-4444-555555555555", folder)
    path = export(origin, ["run:11111111"], tmp_path / "large.bundle")
    with host(tmp_path / "home", s3_url) as repository:
        assert bring(repository, path).complete
        pulled = repository.pull("run:11111111", tmp_path / "pulled")
        for name in ("a", "b"):
            assert (pulled / name).read_bytes() == (folder / name).read_bytes()


# What is damaged or hostile


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """A bundle of one version, and that version's digest."""
    root = tmp_path_factory.mktemp("good")
    with host(root / "origin", str(root / "origin store")) as made:
        store(made, "weights")
        path = export(made, ["churn"], root / "good.bundle")
        return path.read_bytes(), made.versions("churn")[0].sha256


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_flipped_byte_never_becomes_a_version(
    good: tuple[bytes, str], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("flip")
    whole, digest = good
    at = data.draw(st.integers(0, len(whole) - 1))
    bad = bytearray(whole)
    bad[at] ^= data.draw(st.integers(1, 255))
    (root / "bad.bundle").write_bytes(bad)
    with host(root / "home", str(root / "store")) as repository:
        try:
            report = bring(repository, root / "bad.bundle")
        except (IntegrityError, UsageError):
            report = None
        try:
            found = repository.versions("churn")
        except VersionNotFound:
            assert report is None or not report.complete
        else:
            # Padding and what a header says of owners and times mean nothing.
            assert [each.sha256 for each in found] == [digest]
        assert repository.verify(deep=True).ok


def test_bytes_that_were_changed_are_not_committed(
    repository: Repository, good: tuple[bytes, str], tmp_path: Path
) -> None:
    (tmp_path / "bad.bundle").write_bytes(good[0].replace(b"weights", b"weighty"))
    report = bring(repository, tmp_path / "bad.bundle")
    assert {each.kind for each in report.waiting} == {"run", "version"}
    assert "doesn't have the digest" in report.waiting[0].reason
    assert list(repository.runs()) == []


def test_a_header_that_names_another_member_than_the_list_is_refused(
    repository: Repository, good: tuple[bytes, str], tmp_path: Path
) -> None:
    whole, digest = good
    theirs = member(f"bytes/{digest}", b"weights")[:512]
    at = whole.index(theirs[:80])
    forged = member("bytes/../../evil", b"weights")[:512]
    (tmp_path / "bad.bundle").write_bytes(whole[:at] + forged + whole[at + 512 :])
    with pytest.raises(IntegrityError, match="isn't the plain file bytes/"):
        bring(repository, tmp_path / "bad.bundle")


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 700, -1, -1024, -1025])
def test_a_bundle_that_was_cut_is_refused(repository: Repository, bundle: Path, cut: int) -> None:
    data = bundle.read_bytes()
    bundle.write_bytes(data[:cut])
    with pytest.raises((IntegrityError, UsageError), match="bundle"):
        bring(repository, bundle)
    assert list(repository.runs()) == []


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return a member of a tar file as it stands there."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def listed(
    *members: tuple[str, bytes], lying: Callable[[Member], Member] = lambda member: member
) -> bytes:
    """Return a bundle of these members, whose list is right, or what `lying` makes of it."""
    every = tuple(
        lying(Member(name, len(data), hashlib.sha256(data).hexdigest())) for name, data in members
    )
    head = Bundle("b7e2a1d4-93f0-4b6e-8a11-2f5c9d7e3061", "eve", "2026-01-01", every).to_bytes()
    whole = [member("bundle.json", head), *(member(*each) for each in members), bytes(1024)]
    return b"".join(whole)


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "records/../../evil", "bytes/../evil", "home.json"]
)
def test_a_name_that_leads_out_is_refused(
    repository: Repository, tmp_path: Path, name: str
) -> None:
    (tmp_path / "evil.bundle").write_bytes(listed((name, b"evil")))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError, match="is damaged"):
        bring(repository, tmp_path / "evil.bundle")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S", b"x", b"L"]
)
def test_what_is_no_plain_file_is_refused(
    repository: Repository, tmp_path: Path, kind: bytes
) -> None:
    (tmp_path / "evil.bundle").write_bytes(member("bundle.json", b"", kind, "/etc/passwd"))
    with pytest.raises(UsageError, match="no bundle"):
        bring(repository, tmp_path / "evil.bundle")


def test_a_list_of_a_terabyte_is_refused_without_reading_it(
    repository: Repository, tmp_path: Path
) -> None:
    info = tarfile.TarInfo("bundle.json")
    info.size = 2**40
    (tmp_path / "evil.bundle").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(IntegrityError, match="cut within bundle"):
        bring(repository, tmp_path / "evil.bundle")
    with open(tmp_path / "evil.bundle", "r+b") as file:
        file.truncate(2**40 + 512)
    with pytest.raises(IntegrityError, match="larger than"):
        bring(repository, tmp_path / "evil.bundle")


def forged(bundle: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the records of a bundle, and its list with them."""
    with tarfile.open(bundle, "r:") as tar:
        every = [(name, tar.extractfile(name)) for name in tar.getnames()[1:]]
        members = [(name, file.read() if file else b"") for name, file in every]
    bundle.write_bytes(
        listed(*((name, change(data) if "records" in name else data) for name, data in members))
    )


def test_a_record_that_was_changed_is_refused(repository: Repository, bundle: Path) -> None:
    forged(bundle, lambda data: data.replace(b'"experiment": "churn"', b'"experiment": "chirn"'))
    with pytest.raises(IntegrityError, match="doesn't have the digest that it carries"):
        bring(repository, bundle)


def test_bytes_that_are_missing_are_told_before_anything(
    repository: Repository, bundle: Path
) -> None:
    with tarfile.open(bundle, "r:") as tar:
        names = [each for each in tar.getnames()[1:] if not each.startswith("bytes/")]
        members = [(name, (tar.extractfile(name) or io.BytesIO()).read()) for name in names]
    bundle.write_bytes(listed(*members))
    with pytest.raises(IntegrityError, match="aren't in it"):
        bring(repository, bundle)
    assert list(repository.runs()) == []


def members_of(bundle: Path) -> list[tuple[str, bytes]]:
    """Return what is in a bundle but its list."""
    with tarfile.open(bundle, "r:") as tar:
        names = tar.getnames()[1:]
        return [(name, (tar.extractfile(name) or io.BytesIO()).read()) for name in names]


@pytest.mark.parametrize(
    ("field", "what"),
    [("sha256", "the digest that the list says"), ("size", "another size than the list says")],
)
def test_a_record_that_is_not_the_one_of_the_list_is_refused(
    repository: Repository, bundle: Path, field: str, what: str
) -> None:
    def lying(member: Member) -> Member:
        is_record = member.name.startswith("records/")
        wrong: dict[str, Any] = {field: "0" * 64 if field == "sha256" else member.size + 1}
        return replace(member, **wrong) if is_record else member

    bundle.write_bytes(listed(*members_of(bundle), lying=lying))
    with pytest.raises(IntegrityError, match=what):
        bring(repository, bundle)
    assert list(repository.runs()) == []


def test_a_version_that_pins_other_bytes_than_its_run_has_is_not_imported(
    repository: Repository, bundle: Path
) -> None:
    def lying(name: str, data: bytes) -> tuple[str, bytes]:
        if b'"kind": "version"' not in data:
            return name, data
        version = Version.from_bytes(data, name)
        return name, replace(version, sha256="0" * 64).to_bytes()

    bundle.write_bytes(listed(*(lying(*each) for each in members_of(bundle))))
    report = bring(repository, bundle)
    assert not report.complete
    with pytest.raises(VersionNotFound):
        repository.versions("churn")


def test_a_bundle_that_changes_while_it_is_read_is_noticed(bundle: Path) -> None:
    opened = BundleFile(bundle)
    opened._unchanged()
    with bundle.open("ab") as file:
        file.write(b"more")
    with pytest.raises(SourceChanged, match="changed while it was read"):
        opened._unchanged()
    opened.close()


def test_a_pipe_and_a_file_that_is_not_there_are_refused(
    repository: Repository, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        bring(repository, tmp_path / "pipe")
    with pytest.raises(NotFound, match="no bundle"):
        bring(repository, tmp_path / "nowhere")


def test_bytes_that_two_versions_pin_are_in_a_bundle_once(
    origin: Repository, repository: Repository, tmp_path: Path
) -> None:
    run = origin.resolve("churn/3").revision.run
    origin.register(f"run:{run}", "churn", again=True)

    report = bring(repository, export(origin, ["churn"], tmp_path / "all", history=True))

    assert report.complete
    assert [each.version for each in repository.versions("churn")] == [1, 2, 3, 4]


def test_what_is_damaged_or_missing_at_the_origin_makes_no_bundle(
    origin: Repository, tmp_path: Path
) -> None:
    root = tmp_path / "origin store"
    [stored] = origin.artifact("churn/3")[1].files
    whole = (root / stored.key).read_bytes()

    (root / stored.key).chmod(0o600)
    (root / stored.key).write_bytes(whole + b"more")
    with pytest.raises(ArtifactDamaged):
        export(origin, ["churn/3"], tmp_path / "longer")
    (root / stored.key).unlink()
    with pytest.raises(ArtifactDamaged):
        export(origin, ["churn/3"], tmp_path / "gone")
    (root / layout.numbered(layout.versions("churn"), 1)).unlink()
    with pytest.raises(UsageError, match="can't be written"):
        export(origin, ["churn/2"], tmp_path / "no" / "such" / "folder")
    with pytest.raises(VersionNotFound, match="version churn/1 isn't there"):
        export(origin, ["churn/2"], tmp_path / "gap", history=True)
    assert not [*tmp_path.glob("longer*"), *tmp_path.glob("gone*"), *tmp_path.glob("gap*")]
