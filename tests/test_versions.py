"""Versions: each number once, each caller its own, the same artifact the same version."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldrop import Repository
from modeldrop.asked import asked
from modeldrop.crowd import Crowd
from modeldrop.errors import (
    AmbiguousArtifact,
    ArtifactDamaged,
    ArtifactNotFound,
    BackendError,
    BackendUnreachable,
    CounterDamaged,
    IntegrityError,
    InvalidName,
    NewerFormat,
    OutcomeUnknown,
    RunNotFound,
    VersionNotFound,
)
from modeldrop.home_records import Counter
from modeldrop.layout import numbered, registration, registration_done, versions
from modeldrop.ledger import Request
from modeldrop.names import new_guid
from modeldrop.records import RegistrationDone
from support import work
from support.children import together
from support.stores import (
    RUN,
    Counting,
    Faulty,
    commit,
    make_home,
    model,
    quick_pauses,
    set_backend,
    unmount,
)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home", tmp_path / "store") as made:
        yield made


@pytest.fixture
def home(tmp_path: Path, repository: Repository) -> Path:
    """A home whose run is stored."""
    repository.upload(RUN, model(tmp_path / "model.bin"))
    return repository.home.paths.root


def each_once(told: list[list[list[Any]]], count: int) -> bool:
    """Say whether the processes were told 1 … count, each number once."""
    return sorted(version for each in told for version, _, _ in each) == list(range(1, count + 1))


def each_its_own(told: list[list[list[Any]]], repository: Repository) -> bool:
    """Say whether each number that a process was told bears what that process said."""
    found = {each.version: each.description for each in repository.versions("churn")}
    return all(found[version] == said for each in told for version, _, said in each)


# Concurrency


@pytest.mark.scenario(43)
@pytest.mark.slow
def test_sixteen_processes_of_one_home_get_each_number_once_and_each_its_own(home: Path) -> None:
    told = together(work.register, [(home, RUN, f"process {n}", 50) for n in range(16)])

    with Repository.open(home) as repository:
        assert each_once(told, 800)
        assert each_its_own(told, repository)
        assert repository.versions_at_backend.counter("churn") == 800
        entries = [entry.about[0] for entry in repository.log() if entry.kind == "registered"]
        # One at a time on one host: the journal has them in their order, each once.
        assert entries == [f"churn/{number}" for number in range(800, 0, -1)]
        assert repository.runs_at_backend.open_intents() == []


@pytest.mark.scenario(43)
def test_without_the_lock_the_sequence_still_gives_each_number_once(home: Path) -> None:
    racers = [(home, RUN, f"process {n}", 4, "lock") for n in range(4)]

    told = together(work.register_unguarded, racers)

    with Repository.open(home) as repository:
        assert each_once(told, 4)
        assert each_its_own(told, repository)


@pytest.mark.scenario(43)
def test_without_lock_and_condition_the_same_check_is_red(home: Path) -> None:
    racers = [(home, RUN, f"process {n}", 4, "lock and condition") for n in range(4)]

    told = together(work.register_unguarded, racers)

    with Repository.open(home) as repository:
        assert not each_once(told, 4)
        assert not each_its_own(told, repository)


def test_sixteen_processes_that_register_the_same_run_get_one_version(home: Path) -> None:
    told = together(work.register, [(home, RUN, f"rank {n}", 2, "once") for n in range(16)])

    answers = [answer for each in told for answer in each]
    assert {version for version, _, _ in answers} == {1}
    assert [created for _, created, _ in answers].count(True) == 1
    with Repository.open(home) as repository:
        assert each_its_own([[each for each in answers if each[1]]], repository)
        assert len(repository.versions("churn")) == 1
        assert [entry.kind for entry in repository.log()].count("registered") == 1


def test_crowd_makes_the_next_registration_wait_until_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    monkeypatch.setattr("time.sleep", waited.append)
    crowd = Crowd()
    crowd.wait()
    for others in (3, 1, 0, 1, 0, 0):
        crowd.met(others, 0.5)
        crowd.wait()
    for _ in range(9):
        crowd.met(1, 0.5)
    crowd.wait()
    monkeypatch.setattr("modeldrop.crowd._REMEMBERED", -1.0)
    crowd.wait()

    assert waited == [0, 0.5, 1, 0.5, 1, 0.5, 0.25, 8, 0]


@pytest.mark.scenario(45)
def test_processes_of_two_homes_on_one_backend_go_on_densely(home: Path, tmp_path: Path) -> None:
    with make_home(tmp_path / "second", tmp_path / "store") as second:
        homes = [home, second.home.paths.root]

        told = together(work.register, [(homes[n % 2], RUN, f"process {n}", 8) for n in range(6)])

        assert each_once(told, 48)
        assert each_its_own(told, second)
        journals = [[e.about[0] for e in Repository.open(each).log()] for each in homes]
    registered = [about for each in journals for about in each if about.startswith("churn/")]
    assert sorted(registered) == sorted(f"churn/{number}" for number in range(1, 49))


def test_ranks_on_two_homes_that_register_the_same_run_get_one_version(
    home: Path, tmp_path: Path
) -> None:
    with make_home(tmp_path / "second", tmp_path / "store") as second:
        homes = [home, second.home.paths.root]

        told = together(work.register, [(homes[n % 2], RUN, f"r {n}", 1, "once") for n in range(8)])

        assert {answer[0][0] for answer in told} == {1}
        assert [answer[0][1] for answer in told].count(True) == 1
        assert len(second.versions("churn")) == 1


# Once, and again


def test_registering_again_answers_the_version_and_again_gives_another(
    repository: Repository, home: Path
) -> None:
    first = repository.register(RUN, "churn", description="first", by="ann")
    same = repository.register(RUN, "churn", description="ignored", by="bob")
    other = repository.register(RUN, "churn", again=True)
    once_more = repository.register(RUN, "churn")

    assert (first.version.version, first.created) == (1, True)
    assert (same.version, same.created) == (first.version, False)
    assert (other.version.version, other.created) == (2, True)
    assert (once_more.version.version, once_more.created) == (1, False)
    assert (first.version.registered_by, first.version.description) == ("ann", "first")


def test_second_home_is_answered_the_firsts_version(home: Path, tmp_path: Path) -> None:
    with Repository.open(home) as first, make_home(tmp_path / "two", tmp_path / "store") as second:
        for _ in range(3):
            first.register(RUN, "churn", again=True)
        mine = first.register(RUN, "churn").version
        first.register(RUN, "churn", again=True)

        answer = second.register(RUN, "churn")

        assert (answer.version, answer.created) == (mine, False)
        assert second.register(RUN, "churn", again=True).version.version == 6
        # What another home registered is in its journal.
        assert [entry.about[0] for entry in second.log()] == ["churn/6", "home"]


def test_same_bytes_of_another_run_are_another_version(home: Path, tmp_path: Path) -> None:
    with Repository.open(home) as repository:
        other = new_guid()
        repository.upload(other, tmp_path / "model.bin")

        assert repository.register(RUN, "churn").version.version == 1
        assert repository.register(other, "churn").version.version == 2
        assert repository.register(other, "fraud").version.version == 1


def test_new_revision_of_the_same_artifact_is_a_new_version(home: Path, tmp_path: Path) -> None:
    with Repository.open(home) as repository:
        repository.register(RUN, "churn")
        repository.upload(RUN, model(tmp_path / "model.bin", "newer weights"))

        newer = repository.register(RUN, "churn").version

        assert (newer.version, newer.revision) == (2, 2)
        # The first one still means what it meant.
        assert repository.resolve("churn/1").revision.revision == 1
        assert repository.register(f"run:{RUN}~1", "churn").version.version == 1


def claim_and_pass(home: Path, tmp_path: Path, others: int) -> None:
    """Have the run's model be claimed at 1, and so many others be registered from there on."""
    with Repository.open(home) as repository:
        backend = Faulty(tmp_path / "store", *["lost"] * 99, only="/versions/")
        set_backend(repository, backend)
        with pytest.MonkeyPatch.context() as patch:
            quick_pauses(patch)
            with pytest.raises(OutcomeUnknown):
                repository.register(RUN, "churn")
    with Repository.open(home) as repository:
        for _ in range(others):
            repository.register(RUN, "churn", again=True)


def test_claim_without_a_version_is_gone_on_from(home: Path, tmp_path: Path) -> None:
    claim_and_pass(home, tmp_path, 5)

    with Repository.open(home) as repository:
        assert repository.register(RUN, "churn").version.version == 6
        assert repository.register(RUN, "churn").version.version == 6


def test_version_where_its_claim_says_needs_no_note_and_one_elsewhere_has_it(
    home: Path, tmp_path: Path
) -> None:
    claim_and_pass(home, tmp_path, 2)

    with Repository.open(home) as repository:
        elsewhere = repository.register(RUN, "churn").version
        there = repository.register(RUN, "churn", again=True).version

    notes = {
        each.version: (tmp_path / "store" / registration_done("churn", each.owner)).exists()
        for each in (elsewhere, there)
    }
    assert notes == {3: True, 4: False}


def test_registering_again_creates_nothing_and_reads_no_other_version(
    home: Path, tmp_path: Path
) -> None:
    with Repository.open(home) as repository:
        version = repository.register(RUN, "churn").version
        for _ in range(20):
            repository.register(RUN, "churn", again=True)
    with Repository.open(home) as repository:
        set_backend(repository, backend := Counting(tmp_path / "store"))

        assert repository.register(RUN, "churn").version == version

    # The claim, which is there. The repository, the revision, the claim, the version.
    assert backend.asked["create"] == 1
    assert backend.asked["read"] == 4


def test_outcome_that_is_unknown_says_of_again_that_it_gives_one_more(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_pauses(monkeypatch)
    hints = []
    for again in (False, True):
        with Repository.open(home) as repository:
            backend = Faulty(tmp_path / "store", *["dropped"] * 99, only="/versions/")
            set_backend(repository, backend)
            backend.unreadable = BackendUnreachable("no answer")
            with pytest.raises(OutcomeUnknown) as caught:
                repository.registrar.register(
                    asked(
                        f"churn{again}",
                        revision := repository.runs_at_backend.committed(RUN),
                        revision.artifacts[0],
                        Request(new_guid(), "ada"),
                        by="ada",
                        description="",
                        again=again,
                    )
                )
            hints.append(caught.value.hint)

    assert "does nothing twice" in hints[0]
    assert "modeldrop list churnTrue" in hints[1]
    assert "one more version each time" in hints[1]


@pytest.mark.parametrize(("by", "description"), [("caf\udce9", ""), ("ada", "caf\udce9")])
def test_text_that_is_not_utf8_is_refused_before_anything_is_written(
    repository: Repository, home: Path, tmp_path: Path, by: str, description: str
) -> None:
    with pytest.raises(InvalidName, match=r"not valid UTF-8: caf\\xe9"):
        repository.register(RUN, "churn", by=by, description=description)

    assert not (tmp_path / "store" / ".modeldrop" / "experiments").exists()
    assert repository.runs_at_backend.open_intents() == []
    assert not repository.home.paths.counter("churn").exists()


def test_nothing_is_registered_where_the_backend_is_another_one_now(
    repository: Repository, home: Path, tmp_path: Path
) -> None:
    repository.register(RUN, "churn")
    revision = repository.runs_at_backend.committed(RUN)
    unmount(tmp_path / "store")

    with pytest.raises(BackendError, match="holds no repository now") as caught:
        repository.registrar.register(
            asked(
                "churn",
                revision,
                revision.artifacts[0],
                Request(new_guid(), "ada"),
                by="ada",
                description="",
                again=True,
            )
        )

    assert caught.value.exit_code == 30
    assert list((tmp_path / "store").iterdir()) == []


def test_answer_is_found_without_the_note_of_it_and_the_note_is_made_anew(
    home: Path, tmp_path: Path
) -> None:
    claim_and_pass(home, tmp_path, 3)
    with Repository.open(home) as repository:
        version = repository.register(RUN, "churn").version
        repository.register(RUN, "churn", again=True)
        note = tmp_path / "store" / registration_done("churn", version.owner)
        data = note.read_bytes()
        note.unlink()

        assert repository.register(RUN, "churn").version == version
        assert note.read_bytes() == data


def test_note_that_names_anothers_version_is_an_error(home: Path, tmp_path: Path) -> None:
    claim_and_pass(home, tmp_path, 1)
    with Repository.open(home) as repository:
        version = repository.register(RUN, "churn").version
        note = tmp_path / "store" / registration_done("churn", version.owner)
        note.write_bytes(RegistrationDone(version.owner, "churn", 1).to_bytes())

        with pytest.raises(IntegrityError, match="another registration"):
            repository.register(RUN, "churn")
        [finding] = repository.verify(deep=True).findings
        assert (finding.kind, finding.where) == ("version", "churn/2")


def test_lost_claim_is_found_by_a_deep_verify(home: Path, tmp_path: Path) -> None:
    with Repository.open(home) as repository:
        version = repository.register(RUN, "churn").version
        (tmp_path / "store" / registration("churn", version.owner)).unlink()

        [finding] = repository.verify(deep=True).findings
        assert "registering again would not find it" in finding.what


def test_answer_lost_on_the_claim_is_read_back(home: Path, tmp_path: Path) -> None:
    for n, fault in enumerate(("dropped", "error", "exists"), start=1):
        with Repository.open(home) as repository:
            set_backend(repository, Faulty(tmp_path / "store", fault, only="/registrations/"))

            assert repository.register(RUN, "churn", again=True).version.version == n


def test_claim_that_was_lost_is_sent_again_and_then_unknown(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_pauses(monkeypatch)
    with Repository.open(home) as repository:
        backend = Faulty(tmp_path / "store", *["lost"] * 99, only="/registrations/")
        set_backend(repository, backend)

        with pytest.raises(OutcomeUnknown, match="registrations"):
            repository.register(RUN, "churn")
        assert len({data for _, data in backend.sent}) == 1
        assert repository.runs_at_backend.open_intents() == []
        backend.faults = ["lost"] * 3
        assert repository.register(RUN, "churn").version.version == 1


def test_registration_costs_the_same_with_a_thousand_versions(home: Path, tmp_path: Path) -> None:
    with Repository.open(home) as repository:
        repository.register(RUN, "churn")

        def cost() -> dict[str, int]:
            with Repository.open(home) as fresh:
                set_backend(fresh, backend := Counting(tmp_path / "store"))
                fresh.register(RUN, "churn", again=True)
                return dict(backend.asked)

        first = cost()
        folder = tmp_path / "store" / versions("churn")
        for number in range(3, 1001):
            (tmp_path / "store" / numbered(versions("churn"), number)).hardlink_to(
                folder / "00000001.json"
            )
        counter = Counter("churn", 1000, repository.home.repository)
        repository.home.paths.counter("churn").write_bytes(counter.to_bytes())

        assert cost() == first
        assert "children" not in first


# The counter


def test_damaged_counter_is_an_error_that_says_how_to_mend_it_and_never_1(
    home: Path, repository: Repository
) -> None:
    for _ in range(3):
        repository.register(RUN, "churn", again=True)
    path = repository.home.paths.counter("churn")
    whole = path.read_bytes()
    other = Counter("fraud", 3, repository.home.repository).to_bytes()

    for data in (b"", b"\n", b"1\n", whole[:-5], whole.replace(b"3", b"1"), other):
        path.write_bytes(data)
        with pytest.raises(CounterDamaged, match="churn") as caught:
            repository.register(RUN, "churn", again=True)
        assert f"remove {path}" in caught.value.hint
        assert caught.value.exit_code == 20
        assert repository.versions_at_backend.last("churn") == 3
        assert not repository.verify().ok

    # What the hint says helps.
    path.unlink()
    assert repository.register(RUN, "churn", again=True).version.version == 4


def test_counter_that_cant_be_read_is_an_error(repository: Repository, home: Path) -> None:
    repository.home.paths.counter("churn").mkdir()

    with pytest.raises(CounterDamaged, match="can't be read"):
        repository.register(RUN, "churn")


def test_counter_that_cant_be_read_just_now_is_not_called_damaged(
    repository: Repository, home: Path
) -> None:
    path = repository.home.paths.counter("churn")
    path.unlink(missing_ok=True)
    # As good as an error of the disk: no file is reached.
    path.symlink_to(path)

    with pytest.raises(OSError, match="symbolic links") as caught:
        repository.register(RUN, "churn")
    assert caught.value.errno == errno.ELOOP
    # Whoever only reads needs no hint of where to look.
    path.unlink()
    repository.register(RUN, "churn")
    path.unlink()
    path.symlink_to(path)
    assert [each.version for each in repository.versions("churn")] == [1]


def test_counter_of_a_later_format_is_refused(repository: Repository, home: Path) -> None:
    path = repository.home.paths.counter("churn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeldrop.form.FORMAT", 2)
        path.write_bytes(Counter("churn", 1, repository.home.repository).to_bytes())

    with pytest.raises(NewerFormat):
        repository.register(RUN, "churn")


def test_missing_counter_means_that_the_backend_is_asked(
    repository: Repository, home: Path
) -> None:
    for _ in range(5):
        repository.register(RUN, "churn", again=True)
    repository.home.paths.counter("churn").unlink()

    assert repository.register(RUN, "churn", again=True).version.version == 6
    assert repository.versions_at_backend.counter("churn") == 6


@pytest.mark.parametrize("behind", [0, 1, 4])
def test_counter_that_is_behind_is_brought_forward(
    repository: Repository, home: Path, behind: int
) -> None:
    for _ in range(5):
        repository.register(RUN, "churn", again=True)
    path = repository.home.paths.counter("churn")
    path.write_bytes(Counter("churn", behind, repository.home.repository).to_bytes())

    assert repository.resolve("churn").name == "churn/5"
    assert repository.register(RUN, "churn", again=True).version.version == 6
    assert repository.versions_at_backend.counter("churn") == 6


def test_counter_is_never_moved_back(repository: Repository, home: Path) -> None:
    repository.versions_at_backend.bring_forward("churn", 3)
    repository.versions_at_backend.bring_forward("churn", 2)

    assert repository.versions_at_backend.counter("churn") == 3


def test_counter_that_is_ahead_means_that_versions_were_lost_and_none_is_given_twice(
    repository: Repository, home: Path, tmp_path: Path
) -> None:
    for _ in range(3):
        repository.register(RUN, "churn", again=True)
    (tmp_path / "store" / numbered(versions("churn"), 3)).unlink()

    with pytest.raises(IntegrityError, match="churn/3 was registered") as caught:
        repository.register(RUN, "churn", again=True)
    assert "modeldrop verify" in caught.value.hint
    assert not (tmp_path / "store" / numbered(versions("churn"), 4)).exists()
    # Readers get what there is.
    assert repository.resolve("churn").name == "churn/2"
    assert {each.where for each in repository.verify().findings} == {"churn", "churn/3"}


def test_counter_of_another_repository_says_nothing(repository: Repository, home: Path) -> None:
    path = repository.home.paths.counter("churn")
    path.write_bytes(Counter("churn", 70, new_guid()).to_bytes())

    assert repository.register(RUN, "churn").version.version == 1
    assert repository.versions_at_backend.counter("churn") == 1


# What is registered has to be there


def test_run_revision_and_artifact_have_to_be_at_the_backend(
    repository: Repository, tmp_path: Path
) -> None:
    with pytest.raises(RunNotFound, match="is not committed"):
        repository.register(RUN, "churn")
    commit(repository, {"a": "one", "b/c": "two"})
    with pytest.raises(RunNotFound, match="no revision 2"):
        repository.register(f"run:{RUN}~2", "churn")
    with pytest.raises(ArtifactNotFound, match="it has a, b"):
        repository.register(RUN, "churn", "c")
    with pytest.raises(AmbiguousArtifact):
        repository.register(RUN, "churn")
    with pytest.raises(InvalidName, match="no valid experiment"):
        repository.register(RUN, "ch/urn", "a")
    with pytest.raises(InvalidName, match="names no experiment"):
        repository.register(RUN, artifact="a")
    with pytest.raises(InvalidName, match="was asked for"):
        repository.register(f"run:{RUN}/a", "churn", "b")

    assert list(repository.versions_at_backend.experiments()) == []
    assert [e.kind for e in repository.log()] == ["committed", "home-created"]


@pytest.mark.parametrize("harm", ["deleted", "cut"])
def test_artifact_whose_bytes_are_gone_is_not_registered(
    repository: Repository, tmp_path: Path, harm: str
) -> None:
    commit(repository, {"good": "one", "b/c": "two", "b/d": "three"})
    key = repository.runs_at_backend.committed(RUN).files()["b/d"].key
    if harm == "deleted":
        (tmp_path / "store" / key).unlink()
    else:
        (tmp_path / "store" / key).write_text("thr")

    with pytest.raises(ArtifactDamaged, match="b/d") as caught:
        repository.register(RUN, "churn", "b")
    assert caught.value.detail["files"] == ["b/d"]
    assert list(repository.versions_at_backend.experiments()) == []
    # Another artifact of the run is none the worse.
    assert repository.register(RUN, "churn", "good").version.version == 1


def test_version_says_what_it_pins(repository: Repository) -> None:
    commit(repository, {"a": "one", "b/c": "two"})

    whole = repository.register(f"run:{RUN}/.", "churn", by="ann", description="both").version
    told = repository.describe(whole)

    revision = repository.runs_at_backend.committed(RUN)
    assert (whole.artifact, whole.sha256) == (".", revision.whole().sha256)
    assert (told["registered_by"], told["description"], told["size"]) == ("ann", "both", 6)
    assert [each["path"] for each in told["files"]] == ["a", "b/c"]  # type: ignore[union-attr, index, call-overload] # JSON


def test_experiment_that_the_run_named_is_the_default(repository: Repository) -> None:
    from modeldrop.intake import drop  # noqa: PLC0415 - only here

    drop(
        repository.home.staging,
        [model(repository.home.paths.root.parent / "m")],
        run=RUN,
        experiment="churn",
    )
    engine = repository.engine()
    engine.scan_once()
    engine.close()

    assert repository.register(RUN).version.experiment == "churn"
    assert repository.register("@last", "other").version.experiment == "other"


def test_version_that_is_not_there_is_named(repository: Repository, home: Path) -> None:
    with pytest.raises(VersionNotFound, match="no experiment 'churn'"):
        repository.resolve("churn")
    repository.register(RUN, "churn")
    with pytest.raises(VersionNotFound, match="no version churn/2") as caught:
        repository.resolve("churn/2")
    assert str(repository.home.paths.root) in caught.value.message
    with pytest.raises(InvalidName):
        repository.versions("ch urn")
