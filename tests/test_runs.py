"""Runs and revisions: the same content is the same revision, and what was sent isn't sent again."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.choosing import choose_artifact
from modeldrop.errors import (
    AmbiguousArtifact,
    ArtifactNotFound,
    BackendError,
    IntegrityError,
    RecordDamaged,
    RunNotFound,
)
from modeldrop.home_records import Intent
from modeldrop.intake.memory import RunMemory
from modeldrop.intents import Intents
from modeldrop.layout import numbered, revisions
from modeldrop.ledger import Request
from modeldrop.manifests import Manifests
from modeldrop.names import new_guid
from modeldrop.records import Artifact, Refused, Revision, StoredFile
from modeldrop.runs import Draft, adds_nothing
from modeldrop.structs import replace
from support import work
from support.children import together
from support.format_examples import EXAMPLES
from support.stores import RUN, Counting, commit, make_home, model, set_backend, unmount


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home", tmp_path / "store") as made:
        yield made


def stored(tmp_path: Path) -> set[str]:
    """Return the names of all files of bytes at the backend."""
    return {
        each.relative_to(tmp_path / "store").as_posix()
        for each in (tmp_path / "store").rglob("*")
        if each.is_file() and "revisions" not in each.parts and ".modeldrop" not in each.parts
    }


def test_same_content_is_the_same_revision_and_is_not_sent_again(
    tmp_path: Path, repository: Repository
) -> None:
    first = repository.upload(RUN, model(tmp_path / "m", "weights"))
    before = stored(tmp_path)
    model(tmp_path / "m", "weights")

    again = repository.upload(RUN, tmp_path / "m")

    assert (first.created, again.created) == (True, False)
    assert again.revision == first.revision
    assert stored(tmp_path) == before
    assert [entry.kind for entry in repository.log()] == ["committed", "home-created"]


def test_removal_alone_makes_no_revision(tmp_path: Path, repository: Repository) -> None:
    commit(repository, {"a": "one", "b": "two"})

    repository.upload(RUN, model(tmp_path / "b", "two"))

    assert repository.runs_at_backend.last(RUN) == 1
    assert set(repository.runs_at_backend.committed(RUN).content()) == {"a", "b"}


def test_change_makes_revision_2_and_unchanged_files_keep_their_keys(
    tmp_path: Path, repository: Repository
) -> None:
    repository.upload(RUN, model(tmp_path / "f" / "kept", "same").parent)
    model(tmp_path / "f" / "changed", "other")
    before = stored(tmp_path)

    second = repository.upload(RUN, tmp_path / "f").revision

    first = repository.runs_at_backend.revision(RUN, 1)
    assert second.revision == 2
    assert second.files()["f/kept"] == first.files()["f/kept"]
    assert len(stored(tmp_path)) == len(before) + 1
    # The first one stays as it was.
    assert before <= stored(tmp_path)
    assert set(first.files()) == {"f/kept"}


def test_renamed_file_is_a_revision_whose_bytes_are_not_sent_again(
    tmp_path: Path, repository: Repository
) -> None:
    repository.upload(RUN, model(tmp_path / "f" / "before").parent)
    before = stored(tmp_path)
    (tmp_path / "f" / "before").rename(tmp_path / "f" / "after")

    second = repository.upload(RUN, tmp_path / "f").revision

    assert (second.revision, set(second.files())) == (2, {"f/after"})
    assert stored(tmp_path) == before


def test_two_artifacts_that_differ_in_name_alone_are_two(
    tmp_path: Path, repository: Repository
) -> None:
    commit(repository, {"a": "same", "b": "same", "a.json": "same"})

    revision = repository.runs_at_backend.committed(RUN)

    assert set(revision.content()) == {"a", "b", "a.json"}
    for name in revision.content():
        assert repository.path(f"run:{RUN}/{name}").read_text() == "same"
    # Each is still what it was when the others were cached beside it.
    places = [repository.path(f"run:{RUN}/{name}") for name in revision.content()]
    assert [place.read_text() for place in places] == ["same"] * 3


def test_eight_processes_that_store_the_same_make_one_revision(
    tmp_path: Path, repository: Repository
) -> None:
    home = repository.home.paths.root
    model(tmp_path / "m")

    told = together(work.upload, [(home, RUN, tmp_path / "m")] * 8)

    assert sorted(told) == [[1, False]] * 7 + [[1, True]]
    assert [entry.kind for entry in repository.log()] == ["committed", "home-created"]


@pytest.mark.scenario(49)
def test_two_homes_that_store_different_bytes_make_two_revisions(
    tmp_path: Path, repository: Repository
) -> None:
    with make_home(tmp_path / "second", tmp_path / "store") as second:
        assert repository.upload(RUN, model(tmp_path / "m", "one")).revision.revision == 1
        assert second.upload(RUN, model(tmp_path / "m", "two")).revision.revision == 2
        assert not second.upload(RUN, tmp_path / "m").created

        assert second.runs_at_backend.revision(RUN, 1).home == repository.home.id
        assert [entry.kind for entry in second.log()] == ["committed", "home-created"]


def test_run_that_is_not_there_is_named_with_home_and_backend(
    tmp_path: Path, repository: Repository
) -> None:
    with pytest.raises(RunNotFound) as caught:
        repository.resolve(RUN)

    assert RUN in caught.value.message
    assert str(tmp_path / "store") in caught.value.message
    assert str(repository.home.paths.root) in caught.value.message
    with pytest.raises(RunNotFound, match="has committed no run"):
        repository.resolve("run:@last")


def test_revision_that_is_not_there_is_named(tmp_path: Path, repository: Repository) -> None:
    repository.upload(RUN, model(tmp_path / "m"))

    with pytest.raises(RunNotFound, match="no revision 2"):
        repository.resolve(f"run:{RUN}~2")


def test_run_is_found_by_any_of_its_names(tmp_path: Path, repository: Repository) -> None:
    repository.upload(RUN, model(tmp_path / "m"))
    repository.upload(new_guid(), model(tmp_path / "m"))
    repository.upload(RUN, model(tmp_path / "m", "newer"))

    for name in (RUN, RUN.upper(), RUN[:4], f"run:{RUN[:9]}", "run:@last", f"x/{RUN}/"):
        assert repository.resolve(name).name == f"run:{RUN}~2"


def test_beginning_of_several_runs_is_refused_and_lists_them(
    tmp_path: Path, repository: Repository
) -> None:
    others = [f"abcd{each}000-0000-4000-8000-000000000000" for each in range(2)]
    for guid in others:
        repository.upload(guid, model(tmp_path / "m"))

    with pytest.raises(RunNotFound, match="beginning of 2 runs") as caught:
        repository.resolve("run:abcd")
    assert caught.value.detail == {"runs": others}
    assert repository.resolve("run:abcd1").revision.run == others[1]


def test_reading_a_revision_costs_the_gallop_and_one_read(
    tmp_path: Path, repository: Repository
) -> None:
    repository.upload(RUN, model(tmp_path / "m"))
    backend = Counting(tmp_path / "store")
    fresh = Repository.open(repository.home.paths.root)
    set_backend(fresh, backend)

    fresh.resolve(RUN)

    # Is 1 there, is 2: no listing.
    assert backend.asked == {"stat": 2, "read": 1}


def test_manifest_in_anothers_place_is_no_revision_of_this_run(
    tmp_path: Path, repository: Repository
) -> None:
    repository.upload(RUN, model(tmp_path / "m"))
    other = new_guid()
    store = tmp_path / "store"
    (store / revisions(other)).mkdir(parents=True)
    shutil.copy(store / numbered(revisions(RUN), 1), store / numbered(revisions(other), 1))

    with pytest.raises(IntegrityError, match="manifest of another run"):
        repository.resolve(other)


def test_damaged_manifest_is_an_error_and_no_missing_run(
    tmp_path: Path, repository: Repository
) -> None:
    repository.upload(RUN, model(tmp_path / "m"))
    manifest = tmp_path / "store" / numbered(revisions(RUN), 1)
    manifest.write_bytes(manifest.read_bytes().replace(b'"size": 7', b'"size": 8'))

    with pytest.raises(RecordDamaged, match=r"00000001\.json"):
        repository.resolve(RUN)


# Choosing an artifact


def revision_of(*names: str, refused: tuple[Refused, ...] = ()) -> Revision:
    """Return a revision with these artifacts."""
    example = EXAMPLES["revision"]
    assert isinstance(example, Revision)
    artifacts = [Artifact.of_file(StoredFile(name, "0" * 64, 1, name)) for name in names]
    fields = {name: getattr(example, name) for name in Revision.__match_args__}
    return Revision(**{**fields, "artifacts": tuple(artifacts), "refused": refused})


def test_only_artifact_needs_no_name_and_several_are_listed() -> None:
    assert choose_artifact(revision_of("m"), None).artifact == "m"

    with pytest.raises(AmbiguousArtifact, match="several artifacts: a, b") as caught:
        choose_artifact(revision_of("a", "b"), None)
    assert "--artifact ." in caught.value.hint
    assert caught.value.detail["artifacts"] == ["a", "b"]
    assert choose_artifact(revision_of("a", "b"), ".").artifact == "."


def test_artifact_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(ArtifactNotFound, match="no artifact 'c'; it has a, b"):
        choose_artifact(revision_of("a", "b"), "c")


@pytest.mark.parametrize("name", ["folder", "link", "."])
def test_artifact_with_a_refused_part_is_refused_by_name(name: str) -> None:
    revision = revision_of(
        "m", refused=(Refused("folder/in", "it is a FIFO"), Refused("link", "it is a link"))
    )

    with pytest.raises(ArtifactNotFound, match="not stored whole") as caught:
        choose_artifact(revision, name)
    assert "it is a" in caught.value.message
    assert choose_artifact(revision, "m").artifact == "m"
    # A name that another one merely begins with is not a part of it.
    with pytest.raises(ArtifactNotFound, match="has no artifact"):
        choose_artifact(revision, "fold")


def test_what_declares_the_run_is_no_part_of_the_whole_run() -> None:
    revision = revision_of("m", refused=(Refused("run.toml", "it is no TOML"),))

    assert choose_artifact(revision, ".").artifact == "."
    with pytest.raises(ArtifactNotFound, match="not stored whole"):
        choose_artifact(revision, "run.toml")


# What is a new revision


def draft_of(
    revision: Revision,
    *,
    experiment: str | None = None,
    lost: frozenset[str] = frozenset(),
) -> Draft:
    """Return a draft of what a revision says."""
    return Draft(RUN, "upload", experiment, revision.artifacts, revision.refused, lost)


def test_nothing_is_added_by_less_or_the_same() -> None:
    last = revision_of("a", "b")

    assert adds_nothing(draft_of(revision_of("a")), last)
    assert adds_nothing(draft_of(revision_of("a", "b")), last)
    assert not adds_nothing(draft_of(revision_of("a", "c")), last)
    changed = Artifact.of_file(StoredFile("a", "1" * 64, 1, "a"))
    assert not adds_nothing(Draft(RUN, "upload", None, (changed,), ()), last)


def test_bytes_that_were_lost_are_added_where_the_draft_has_them() -> None:
    last = revision_of("a", "b")

    assert not adds_nothing(draft_of(revision_of("a"), lost=frozenset({"a"})), last)
    # Another process stored it again meanwhile, and the last revision names that.
    assert adds_nothing(draft_of(revision_of("a"), lost=frozenset({"earlier"})), last)
    assert adds_nothing(draft_of(revision_of("a"), lost=frozenset({"b"})), last)


def test_less_refused_and_another_experiment_are_added_by_what_lacks_nothing() -> None:
    link, fifo = Refused("link", "it is a link"), Refused("fifo", "it is a FIFO")
    last = revision_of("a", "b", refused=(link,))
    belongs_to = last.experiment

    assert adds_nothing(draft_of(last), last)
    assert not adds_nothing(draft_of(revision_of("a", "b")), last)
    assert adds_nothing(draft_of(revision_of("a", "b", refused=(link, fifo))), last)
    assert not adds_nothing(draft_of(revision_of("a", "b", refused=(fifo,))), last)
    assert adds_nothing(draft_of(last, experiment=belongs_to), last)
    assert not adds_nothing(draft_of(last, experiment="another"), last)
    # What lacks an artifact says nothing of it.
    assert adds_nothing(draft_of(revision_of("a")), last)
    assert adds_nothing(draft_of(revision_of("a"), experiment="another"), last)


# The backend under it


def test_nothing_is_committed_where_the_backend_is_another_one_now(
    tmp_path: Path, repository: Repository
) -> None:
    repository.upload(RUN, model(tmp_path / "m"))
    revision = repository.runs_at_backend.committed(RUN)
    draft = Draft(new_guid(), revision.upload, None, revision.artifacts, ())
    request = Request(new_guid(), "ada")
    away = unmount(tmp_path / "store")

    for work_ in (
        lambda: repository.upload(new_guid(), tmp_path / "m"),
        lambda: repository.runs_at_backend.commit(draft, request),
        lambda: repository.runs_at_backend.settle(RUN),
    ):
        with pytest.raises(BackendError, match="holds no repository now") as caught:
            work_()
        assert caught.value.exit_code == 30
    assert list((tmp_path / "store").iterdir()) == []

    (tmp_path / "store").rmdir()
    with (
        make_home(tmp_path / "other", tmp_path / "store") as other,
        pytest.raises(BackendError, match=other.home.repository),
    ):
        repository.upload(new_guid(), tmp_path / "m")
    shutil.rmtree(tmp_path / "store")
    away.rename(tmp_path / "store")
    assert repository.upload(new_guid(), tmp_path / "m").created


def test_lost_object_is_healed_by_storing_it_again(tmp_path: Path, repository: Repository) -> None:
    first = repository.upload(RUN, model(tmp_path / "m", "weights")).revision
    (tmp_path / "store" / first.files()["m"].key).unlink()

    second = repository.upload(RUN, tmp_path / "m")

    assert (second.created, second.revision.revision) == (True, 2)
    assert repository.path(f"run:{RUN}").read_text() == "weights"
    assert not repository.upload(RUN, tmp_path / "m").created


def test_one_of_two_equal_files_that_was_lost_is_healed(
    tmp_path: Path, repository: Repository
) -> None:
    commit(repository, {"f/a": "same", "f/b": "same"})
    first = repository.runs_at_backend.committed(RUN)
    for name in ("f/a", "f/b"):
        (tmp_path / "store" / first.files()[name].key).unlink(missing_ok=True)
        commit(repository, {"f/a": "same", "f/b": "same"})
        first = repository.runs_at_backend.committed(RUN)
        assert repository.transfer.missing(first.whole()) == []


def test_file_that_is_remembered_is_looked_for_before_it_is_named_again(
    tmp_path: Path, repository: Repository
) -> None:
    commit(repository, {"kept": "one", "changed": "two"})
    first = repository.runs_at_backend.committed(RUN)
    (tmp_path / "store" / first.files()["kept"].key).unlink()

    commit(repository, {"changed": "three"})

    second = repository.runs_at_backend.committed(RUN)
    assert second.revision == 2
    assert repository.transfer.missing(second.whole()) == []


@pytest.mark.scenario(49)
def test_two_homes_that_store_the_same_at_once_make_one_revision(
    tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path / "m")
    begin, meet = Intents.begin, threading.Barrier(2)

    def begin_together(self: Intents, intent: Intent) -> None:
        # Both have looked for the last revision by then, and seen none.
        begin(self, intent)
        meet.wait(20)

    monkeypatch.setattr(Intents, "begin", begin_together)
    with (
        make_home(tmp_path / "second", tmp_path / "store") as second,
        ThreadPoolExecutor(2) as pool,
    ):
        told = list(pool.map(lambda each: each.upload(RUN, tmp_path / "m"), (repository, second)))

        assert sorted(each.created for each in told) == [False, True]
        assert told[0].revision == told[1].revision
        assert repository.runs_at_backend.numbers(RUN) == [1]
        kinds = [entry.kind for each in (repository, second) for entry in each.log()]
        assert kinds.count("committed") == 1
        assert second.runs_at_backend.open_intents() == []


def test_what_was_refused_and_the_experiment_are_mended_by_a_new_revision(
    repository: Repository,
) -> None:
    model(repository.home.staging / RUN / "run.toml", 'experiment="bad name!"')
    commit(repository, {"a": "one"})
    assert [each.path for each in repository.runs_at_backend.committed(RUN).refused] == ["run.toml"]

    model(repository.home.staging / RUN / "run.toml", 'experiment="churn"')
    commit(repository, {"a": "one"})

    mended = repository.runs_at_backend.committed(RUN)
    assert (mended.revision, mended.refused, mended.experiment) == (2, (), "churn")
    assert repository.register(RUN).version.experiment == "churn"


def test_a_copy_of_a_manifest_is_believed_only_if_it_is_of_the_run_that_is_asked_for(
    repository: Repository, tmp_path: Path
) -> None:
    runs = [new_guid(), new_guid()]
    for run in runs:
        repository.upload(run, model(tmp_path / run / "model", run))
    records = [repository.home.paths.manifest(run, 1) for run in runs]
    store = tmp_path / "store"
    data = [(store / numbered(revisions(run), 1)).read_bytes() for run in runs]
    manifests = Manifests(repository.home.paths, repository.backend)
    for path, each in zip(records, data, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each)
    assert manifests.kept(runs[0], 1, len(data[0])) is not None

    records[0].write_bytes(data[1])

    assert manifests.kept(runs[0], 1, len(data[1])) is None


def test_what_is_remembered_of_a_file_is_believed_only_if_the_last_revision_says_so_too(
    repository: Repository,
) -> None:
    commit(repository, {"kept": "one", "changed": "two"})
    first = repository.runs_at_backend.committed(RUN)
    [path] = (repository.home.paths.root / "service" / "runs").glob(f"*/{RUN}.json")
    remembered = RunMemory.from_bytes(path.read_bytes(), "")
    wrong = [
        replace(each, sha256="0" * 64) if each.path == "kept" else each for each in remembered.files
    ]
    path.write_bytes(replace(remembered, files=tuple(wrong)).to_bytes())

    commit(repository, {"changed": "three"})

    second = repository.runs_at_backend.committed(RUN)
    assert second.revision == 2
    assert second.files()["kept"].sha256 == first.files()["kept"].sha256
