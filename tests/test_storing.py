"""What is stored is one observation: whatever changes meanwhile, in it or beside it, is noticed.

Each file is looked at while it is read, and the whole run before it is committed. Either look is
made blind here, so that it is the other one that notices.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import ArtifactDamaged, BackendError, DropRefused, SourceChanged
from modeldrop.intake import Storing, inspection, notation, walk
from modeldrop.intake.declared import Wish
from modeldrop.intake.drops import Job
from modeldrop.names import new_guid
from modeldrop.structs import replace
from modeldrop.transfer import Transfer
from support import modelfiles
from support.intake import jobs_of, make_home, make_run, storing_by


@pytest.fixture
def job(repository: Repository, staging: Path) -> Job:
    [made] = jobs_of(repository, [make_run(staging, {"model": b"weights", "words": b"a b c"})])
    return made


def store(repository: Repository, job: Job, way: str) -> bool:
    """Store it; say whether it was."""
    storing = storing_by(repository, Storing)
    if way == "together":
        return storing.store_together([job]) != [None]
    try:
        storing.store(job.drop, job.request, job.watch)
    except SourceChanged:
        return False
    return True


@pytest.mark.parametrize("way", ["alone", "together"])
def test_a_file_that_changes_while_it_is_read_is_noticed_by_that_file(
    repository: Repository, job: Job, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = replace(job, drop=replace(job.drop, observe=lambda: job.drop.observation))
    path = job.drop.staging / job.drop.name / "model"
    real = {"read": os.read, "readv": os.readv}

    def changing(name: str) -> None:
        def meddled(fd: int, *arguments: object) -> object:
            found = real[name](fd, *arguments)  # type: ignore[operator] # as they are called
            if os.fstat(fd).st_ino == path.stat().st_ino:
                # What has been read stays as it was, and is what would be stored.
                os.utime(path, ns=(1, 1))
            return found

        monkeypatch.setattr(os, name, meddled)

    for name in real:
        changing(name)
    assert not store(repository, blind, way)


@pytest.mark.parametrize("way", ["alone", "together"])
def test_a_file_that_comes_beside_those_that_are_read_is_noticed(
    repository: Repository, job: Job, way: str
) -> None:
    (job.drop.staging / job.drop.name / "another").write_bytes(b"more")

    assert not store(repository, job, way)
    assert job.drop.observe() == walk.observe(job.drop.staging, job.drop.name)


def test_a_file_of_a_group_that_did_not_arrive_whole_is_not_committed(
    repository: Repository, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise BackendError("it isn't as large as what was sent")

    monkeypatch.setattr(Transfer, "check_batch", lost)
    assert not store(repository, job, "together")
    assert list(repository.runs()) == []


def test_a_run_whose_bytes_are_gone_by_now_is_not_registered(
    repository: Repository, job: Job
) -> None:
    storing = storing_by(repository, Storing)
    revision = storing.store(job.drop, job.request, job.watch).committed.revision
    repository.backend.delete(revision.files()["model"].key)
    named = replace(revision, experiment="churn")

    with pytest.raises(ArtifactDamaged, match="model"):
        storing.register(named, Wish("run.toml", "model", ""), job.request)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        pytest.param("nothing", "there is nothing at that path", id="nothing"),
        pytest.param("/", "the root of the file system is at that path", id="root"),
        pytest.param("pipe", "neither a regular file nor a folder", id="pipe"),
        pytest.param("_SUCCESS", "its name has a meaning of its own", id="marker"),
        pytest.param("links", "link", id="link"),
        pytest.param("unfinished", "a temporary file", id="temporary"),
        pytest.param("empty", "it has no file", id="empty"),
    ],
)
def test_what_can_not_be_an_artifact_is_refused_with_its_reason(
    repository: Repository, tmp_path: Path, name: str, why: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "_SUCCESS").touch()
    for folder in ("links", "unfinished", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "links" / "model").symlink_to("/etc/passwd")
    (tmp_path / "unfinished" / "model.part").write_bytes(b"half")

    with pytest.raises(DropRefused, match=why):
        repository.upload(new_guid(), tmp_path / name)

    assert list(repository.runs()) == []


def test_of_very_many_files_that_are_known_those_that_run_code_are_kept(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "_MOST_FORMATS", 2)
    folder = tmp_path / "model"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.npy").write_bytes(modelfiles.npy())
    (folder / "z.pkl").write_bytes(modelfiles.pickled())
    run = new_guid()

    repository.upload(run, folder)

    formats = repository.resolve(f"run:{run}").revision.formats
    assert [each.path for each in formats] == ["model/0.npy", "model/z.pkl"]


def test_small_runs_go_one_by_one_where_no_wait_can_be_shared(s3_url: str, tmp_path: Path) -> None:
    with make_home(tmp_path / "home" / ".mlops", s3_url) as repository:
        run = make_run(repository.home.staging, {"model": b"weights"})
        storing = storing_by(repository, Storing)

        assert storing.store_together(jobs_of(repository, [run])) == [None]


def test_what_a_run_says_in_too_many_bytes_is_not_read() -> None:
    with pytest.raises(notation.NotUnderstood, match="larger than"):
        notation.read("run.toml", b"#" * (notation.MOST_BYTES + 1))
