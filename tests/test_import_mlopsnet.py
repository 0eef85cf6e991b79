"""`import mlopsnet`: numbers, dates, people and metrics are as there; nothing outside is read."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from modeldrop import Repository
from modeldrop.errors import (
    ArtifactNotFound,
    IntegrityError,
    NotFound,
    UsageError,
    VersionNotFound,
    VersionVacant,
)
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.report import Report
from modeldrop.records import Registration
from modeldrop.registrations import Registrations
from support import work
from support.children import dies, run, together
from support.mlopsnet import MadeNet, empty, usual
from support.sharing import host, store

STEPS: Final = (
    "run imported",
    "intent written",
    "record appended",
    "followers brought forward",
    "journal acknowledged",
    "intent removed",
    "version imported",
)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with host(tmp_path / "home", str(tmp_path / "store")) as made:
        yield made


def bring(repository: Repository, made: MadeNet, **options: object) -> Report:
    """Import a store of MLOps.NET."""
    with opening.mlopsnet(made.database, made.folder) as source:
        return carry(repository, source, Options(**options))  # type: ignore[arg-type] # a test's own


def facts(repository: Repository) -> list[tuple[object, ...]]:
    """Return all that can double: versions, runs, entries of the journal."""
    versions = repository.versions("churn")
    return [
        *[(each.version, each.sha256, each.run, each.owner) for each in versions],
        *sorted((each.run, each.revision) for each in repository.runs()),
        *[(each.seq, each.kind, *each.about) for each in repository.log()],
    ]


def counted(report: Report, what: str) -> tuple[int, int]:
    count = report.counts[what]
    return count.created, count.there


@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_numbers_dates_people_and_metrics_are_as_there(
    repository: Repository, tmp_path: Path, spell: Callable[[str], str]
) -> None:
    made, _ = usual(tmp_path / "net", spell)
    report = bring(repository, made)
    assert report.complete
    assert [counted(report, each) for each in ("runs", "versions")] == [(4, 0), (3, 0)]
    versions = repository.versions("churn")
    assert [each.version for each in versions] == [1, 2, 3]
    assert [each.registered_by for each in versions] == ["ada 1", "ada 2", "ada 3"]
    assert [each.registered_at for each in versions] == [
        f"2020-10-05T08:00:0{number}.500000Z" for number in (1, 2, 3)
    ]
    assert [each.description for each in versions] == ["number 1", "number 2", "number 3"]
    assert [each.run for each in versions] == made.runs[:3]
    for number, version in enumerate(versions, 1):
        pulled = repository.pull(f"churn/{number}", tmp_path / "pulled")
        assert pulled.read_bytes() == f"model {number}".encode()
        revision = repository.resolve(f"churn/{number}").revision
        assert revision.committed_at == f"2020-10-04T14:03:0{number}.123456Z"
        assert revision.experiment == "churn"
        metadata = revision.metadata
        assert metadata.metrics == {"AUC": repr(0.9 + number / 1000), "Loss": "1e-05"}
        assert metadata.params == {"depth": str(number)}
        assert metadata.tags["mlopsnet.training_time"] == "00:12:30.5"
        assert metadata.code is not None
        assert metadata.code.commit == "0" * 39 + "a"
        assert metadata.environment is not None
        assert metadata.environment.packages == {"Microsoft.ML": "1.5.2"}
        assert version.origin is not None
        assert (version.origin.source, version.origin.imported_by) == (
            "mlopsnet",
            repository.home.user,
        )
        assert version.origin.location == str(made.database)
    assert repository.verify(deep=True).ok


def test_what_has_no_place_is_told(repository: Repository, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    report = bring(repository, made)
    told = {(each.kind, each.name): each.reason for each in report.left}
    assert "grace deployed it at 2020-10-06" in told["deployment", "churn/3 on production"]
    assert "a production target" in told["target", "production"]
    assert told["ConfusionMatrix", "3 rows"]
    # A run whose model is gone is here all the same, and says so.
    assert told["file", f"{made.runs[3]}/{made.runs[3]}.zip"].startswith("it isn't in the folder")
    revision = repository.resolve(f"run:{made.runs[3]}").revision
    assert (revision.artifacts, len(revision.refused)) == ((), 1)
    with pytest.raises(ArtifactNotFound, match="no artifact"):
        repository.artifact(f"run:{made.runs[3]}")


def test_twice_doubles_nothing(repository: Repository, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    bring(repository, made)
    before = facts(repository)
    again = bring(repository, made)
    assert [counted(again, each) for each in ("runs", "versions")] == [(0, 4), (0, 3)]
    assert facts(repository) == before


def test_a_database_of_an_earlier_schema_is_read_too(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    with sqlite3.connect(made.database) as connection:
        connection.execute('ALTER TABLE "RegisteredModel" DROP COLUMN "Description"')
        connection.execute('ALTER TABLE "Deployment" DROP COLUMN "DeploymentUri"')
        connection.execute('ALTER TABLE "DeploymentTarget" DROP COLUMN "IsProduction"')
        connection.execute('DROP TABLE "PackageDependency"')
    connection.close()
    # And the folder above the models is named, as MLOps.NET is told it.
    with opening.mlopsnet(made.database, made.root) as source:
        assert carry(repository, source, Options()).complete
    assert [each.description for each in repository.versions("churn")] == ["", "", ""]


def test_nothing_is_written_beside_the_database(repository: Repository, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    before = {each: each.stat().st_mtime_ns for each in made.root.rglob("*")}
    bring(repository, made)
    assert {each: each.stat().st_mtime_ns for each in made.root.rglob("*")} == before


def test_what_another_process_has_just_written_is_read(
    repository: Repository, tmp_path: Path
) -> None:
    made, experiment = usual(tmp_path / "net")
    writer = sqlite3.connect(made.database)
    try:
        # While it has the file open, what is written stands in the write-ahead log alone.
        writer.execute('SELECT count(*) FROM "Run"').fetchone()
        run, artifact = made.run(experiment, b"model 4")
        made.register(experiment, run, artifact, 4)
        assert made.database.with_name("local.db-wal").stat().st_size > 0
        bring(repository, made)
    finally:
        writer.close()
    assert [each.version for each in repository.versions("churn")] == [1, 2, 3, 4]


def test_dry_run_changes_nothing_and_says_the_same(repository: Repository, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    planned = bring(repository, made, dry_run=True)
    assert list(repository.runs()) == []
    with pytest.raises(VersionNotFound):
        repository.versions("churn")
    done = bring(repository, made)
    assert planned.counts == done.counts
    assert bring(repository, made, dry_run=True).counts["versions"].there == 3


@pytest.mark.parametrize("step", STEPS)
def test_killed_and_run_again_it_is_as_if_it_had_not_been(tmp_path: Path, step: str) -> None:
    made, _ = usual(tmp_path / "net")
    host(tmp_path / "home", str(tmp_path / "store")).close()
    assert dies(work.import_mlopsnet, tmp_path / "home", made.database, made.folder, at=step)
    run(work.import_mlopsnet, tmp_path / "home", made.database, made.folder)
    with Repository.open(tmp_path / "home") as again:
        found = facts(again)
        assert [each[:3] for each in found[:3]] == [
            (number, hashlib.sha256(f"model {number}".encode()).hexdigest(), made.runs[number - 1])
            for number in (1, 2, 3)
        ]
        told = [each[1:] for each in found[7:] if each[1] in {"committed", "registered"}]
        assert len(told) == len(set(told)) == 7
        assert again.verify(deep=True).ok


def test_registering_what_was_imported_is_told_its_version(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    bring(repository, made)
    registered = repository.register(f"run:{made.runs[1]}", "churn")
    assert (registered.version.version, registered.created) == (2, False)
    assert repository.register(f"run:{made.runs[1]}", "churn", again=True).version.version == 4


def test_two_processes_that_import_at_once_make_one_of_each(tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    homes = [tmp_path / "one", tmp_path / "two"]
    for each in homes:
        host(each, str(tmp_path / "store")).close()
    every = [(each, made.database, made.folder) for each in (*homes, homes[0])]
    assert together(work.import_mlopsnet, every) == [True] * 3
    with Repository.open(homes[0]) as repository:
        assert [each.version for each in repository.versions("churn")] == [1, 2, 3]
        assert {each.revision for each in repository.runs()} == {1}
        repository.fetch()
        report = repository.verify(deep=True)
        assert report.ok, report.findings


def test_what_another_home_imported_and_has_not_shared_is_no_damage(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    with host(tmp_path / "other", str(tmp_path / "store")) as other:
        other.push()
        bring(other, made)
        report = repository.verify(deep=True)
        assert report.ok, report.findings
        # Seven records of years ago, made just now.
        assert report.checked["not shared yet"] == 7


def test_a_lost_journal_tells_of_imports_and_vacant_numbers_again(
    repository: Repository, tmp_path: Path
) -> None:
    made = empty(tmp_path / "net")
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    made.register(experiment, *made.run(experiment, b"2"), 2)
    bring(repository, made)
    repository.home.paths.journal.unlink()
    repository.home.paths.head.unlink()
    assert repository.rebuild().recovered == 3
    kinds = [(each.kind, each.about[0]) for each in repository.log()]
    assert ("left-vacant", "churn/1") in kinds
    assert repository.verify(deep=True).ok


# Numbers


def test_a_number_that_somebody_takes_meanwhile_is_a_conflict_and_no_other_is_given(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = usual(tmp_path / "net")
    with host(tmp_path / "other", str(tmp_path / "store")) as other:
        real = Registrations.claim

        def quicker(self: Registrations, claim: Registration) -> int:
            # Another host registers between the look and the attempt.
            if self is repository.versions_at_backend.registrations and claim.starts_at == 2:
                store(other, "mine")
            return real(self, claim)

        monkeypatch.setattr(Registrations, "claim", quicker)
        report = bring(repository, made)
    assert [each.name for each in report.conflicts] == ["churn/2"]
    versions = repository.versions("churn")
    assert [each.origin is not None for each in versions] == [True, False]
    assert repository.verify().ok


def test_a_gap_is_left_vacant_and_no_number_shifts(repository: Repository, tmp_path: Path) -> None:
    made = empty(tmp_path / "net")
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    for number in (2, 5):
        made.register(experiment, *made.run(experiment, str(number).encode(), number), number)
    report = bring(repository, made)
    assert counted(report, "vacant") == (3, 0)
    assert [each.version for each in repository.versions("churn")] == [2, 5]
    for number in (1, 3, 4):
        with pytest.raises(VersionVacant, match="no meaning there"):
            repository.resolve(f"churn/{number}")
    assert repository.resolve("churn").name == "churn/5"
    assert [each.version for each in repository.experiments()] == [5]
    assert repository.register(f"run:{made.runs[0]}", "churn", again=True).version.version == 6
    report_of_store = repository.verify(deep=True)
    assert report_of_store.ok
    assert report_of_store.checked["vacant versions"] == 3
    assert bring(repository, made).counts["vacant"].there == 3


def test_the_newest_number_vacant_is_passed_over_and_never_given_again(
    repository: Repository, tmp_path: Path
) -> None:
    made = empty(tmp_path / "net")
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    made.register(experiment, *made.run(experiment, b"1"), 1)
    lost = made.run(experiment, b"2")
    made.register(experiment, *lost, 2)
    (made.folder / f"{lost[0]}.zip").unlink()
    bring(repository, made, leave_vacant=True)
    assert repository.resolve("churn").name == "churn/1"
    assert [each.version for each in repository.versions("churn")] == [1]
    assert repository.register(f"run:{made.runs[0]}", "churn", again=True).version.version == 3


def test_bytes_that_are_gone_wait_unless_they_are_given_up(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    (made.folder / f"{made.runs[1]}.zip").rename(tmp_path / "aside")
    report = bring(repository, made)
    assert [each.version for each in repository.versions("churn")] == [1]
    assert [each.name for each in report.waiting] == ["churn/2"]
    # Brought back, it goes on.
    (tmp_path / "aside").rename(made.folder / f"{made.runs[1]}.zip")
    assert bring(repository, made).complete
    assert [each.version for each in repository.versions("churn")] == [1, 2, 3]


def test_given_up_a_number_is_vacant_and_stays_so(repository: Repository, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    model = made.folder / f"{made.runs[1]}.zip"
    model.rename(tmp_path / "aside")
    assert bring(repository, made, leave_vacant=True).complete
    assert [each.version for each in repository.versions("churn")] == [1, 3]
    (tmp_path / "aside").rename(model)
    again = bring(repository, made)
    assert again.complete
    assert any("left vacant" in each.reason for each in again.left)
    assert [each.version for each in repository.versions("churn")] == [1, 3]


def test_a_number_that_was_given_twice_is_the_earlier_ones(
    repository: Repository, tmp_path: Path
) -> None:
    made = empty(tmp_path / "net")
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    first = made.run(experiment, b"first")
    second = made.run(experiment, b"second")
    made.register(experiment, *second, 1, by="bob")
    with sqlite3.connect(made.database) as connection:
        connection.execute("UPDATE RegisteredModel SET RegisteredDate = '2020-10-05 08:00:01.6'")
    connection.close()
    made.register(experiment, *first, 1, by="ann")
    report = bring(repository, made)
    assert repository.versions("churn")[0].registered_by == "ann"
    assert any("given twice" in each.reason and second[0] in each.reason for each in report.left)
    assert repository.register(f"run:{second[0]}", "churn").version.version == 2


def test_numbers_that_nobody_gave_are_refused(repository: Repository, tmp_path: Path) -> None:
    made = empty(tmp_path / "net")
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    made.register(experiment, *made.run(experiment, b"1"), 2**31 - 1)
    report = bring(repository, made)
    assert "numbers go up to 2147483647" in report.waiting[0].reason
    with pytest.raises(VersionNotFound):
        repository.versions("churn")


def test_versions_that_are_here_are_a_conflict_that_says_what_to_do(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    (tmp_path / "own.bin").write_bytes(b"own")
    repository.upload("11111111-2222-3333-4444-555555555555", tmp_path / "own.bin")
    repository.register("run:11111111-2222-3333-4444-555555555555", "churn")
    report = bring(repository, made)
    assert [each.name for each in report.conflicts] == ["churn/1"]
    assert "--name OLD=NEW" in report.conflicts[0].reason
    assert [each.registered_by for each in repository.versions("churn")] == [repository.home.user]
    assert bring(repository, made, names={"churn": "churn-net"}).complete
    assert [each.version for each in repository.versions("churn-net")] == [1, 2, 3]


def test_a_run_that_is_here_with_other_content_stays_as_it_is(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    own = tmp_path / f"{made.runs[0]}.zip"
    own.write_bytes(b"own")
    repository.upload(made.runs[0], own)
    report = bring(repository, made)
    assert [(each.kind, each.name) for each in report.conflicts] == [("run", made.runs[0])]
    assert repository.resolve(f"run:{made.runs[0]}").revision.revision == 1
    with pytest.raises(VersionNotFound):
        repository.versions("churn")


# Names


def test_a_name_that_is_not_allowed_here_is_made_one_that_is(
    repository: Repository, tmp_path: Path
) -> None:
    made = empty(tmp_path / "net")
    experiment = made.add("Experiment", "Iris predictor (v2)", "2020-10-04 14:00:00")
    made.register(experiment, *made.run(experiment, b"1"), 1)
    report = bring(repository, made)
    assert report.renamed == {"Iris predictor (v2)": "Iris-predictor-v2"}
    assert repository.resolve("Iris-predictor-v2/1").revision.experiment == "Iris-predictor-v2"


def test_two_names_that_become_one_are_refused_before_anything(
    repository: Repository, tmp_path: Path
) -> None:
    made = empty(tmp_path / "net")
    for name in ("a b", "a+b"):
        experiment = made.add("Experiment", name, "2020-10-04 14:00:00")
        made.register(experiment, *made.run(experiment, b"1"), 1)
    with pytest.raises(UsageError, match="would both be called 'a-b'"):
        bring(repository, made)
    assert list(repository.runs()) == []


@pytest.mark.parametrize("store_url", ["s3_url", "azure_url"])
def test_on_an_object_store_it_is_the_same(
    tmp_path: Path, request: pytest.FixtureRequest, store_url: str
) -> None:
    made, _ = usual(tmp_path / "net")
    (made.folder / f"{made.runs[0]}.zip").write_bytes(os.urandom(20 * 2**20))
    with host(tmp_path / "home", request.getfixturevalue(store_url)) as repository:
        assert bring(repository, made).complete
        before = facts(repository)
        assert bring(repository, made).complete
        assert facts(repository) == before
        assert repository.verify(deep=True).ok


# What is hostile


@pytest.mark.parametrize("name", ["../secret.zip", "/etc/passwd", "..", "a/../../secret.zip"])
def test_a_path_that_leads_out_is_refused_and_nothing_outside_is_read(
    repository: Repository, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = usual(tmp_path / "net")
    (made.root / "secret.zip").write_bytes(b"secret")
    with sqlite3.connect(made.database) as connection:
        connection.execute("UPDATE RunArtifact SET Name = ? WHERE rowid = 1", (name,))
    connection.close()
    opened: list[str] = []
    real = os.open

    def spying(path: str, *arguments: object, **named: object) -> int:
        opened.append(os.fspath(path))
        return real(path, *arguments, **named)  # type: ignore[arg-type] # passed on as they are

    monkeypatch.setattr(os, "open", spying)
    report = bring(repository, made)
    assert not [each for each in opened if "secret" in each or "passwd" in each]
    assert [each.name for each in report.waiting] == ["churn/1"]
    assert any("leads out of" in each.reason for each in report.left)


def test_a_link_is_not_followed(repository: Repository, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    (tmp_path / "secret").write_bytes(b"secret")
    model = made.folder / f"{made.runs[0]}.zip"
    model.unlink()
    model.symlink_to(tmp_path / "secret")
    report = bring(repository, made)
    assert any("no link is followed" in each.reason for each in report.left)
    assert [each.name for each in report.waiting] == ["churn/1"]


def test_a_damaged_database_is_said_before_anything_is_imported(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    data = bytearray(made.database.read_bytes())
    data[4096 * 2 : 4096 * 3] = os.urandom(4096)
    made.database.write_bytes(data)
    with pytest.raises(IntegrityError, match="is damaged"):
        bring(repository, made)
    assert list(repository.runs()) == []


def test_what_is_no_such_database_is_said(repository: Repository, tmp_path: Path) -> None:
    made = empty(tmp_path / "net")
    (tmp_path / "nowhere" / "model-repository").mkdir(parents=True)
    with pytest.raises(NotFound, match="no database"):
        bring(repository, MadeNet(tmp_path / "nowhere"))
    with sqlite3.connect(made.database) as connection:
        connection.execute('DROP TABLE "Run"')
        connection.execute('CREATE VIEW "Run" AS SELECT 1 AS RunId')
    connection.close()
    with pytest.raises(UsageError, match="no table Run"):
        bring(repository, made)
    made.database.write_text("no database")
    with pytest.raises(UsageError, match="no SQLite database"):
        bring(repository, made)


def changed(made: MadeNet, *statements: str) -> None:
    """Have somebody else write to a database."""
    with sqlite3.connect(made.database) as connection:
        for each in statements:
            connection.execute(each)
    connection.close()


def test_rows_that_lead_nowhere_are_told_and_the_others_are_brought(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    changed(
        made,
        "UPDATE RegisteredModel SET ExperimentId = '11111111-1111-1111-1111-111111111111' "
        "WHERE Version = 1",
        "UPDATE RegisteredModel SET Version = 0 WHERE Version = 3",
        "UPDATE Metric SET RunId = 'none' WHERE rowid = 1",
        "UPDATE RunArtifact SET Name = '_SUCCESS' WHERE rowid = 4",
        "INSERT INTO DeploymentTarget VALUES ('no id', 'odd', 'x', 0)",
        "INSERT INTO Deployment SELECT '22222222-2222-2222-2222-222222222222', DeploymentTargetId, "
        "'gone', DeploymentDate, DeployedBy, DeploymentUri FROM Deployment",
        "UPDATE Deployment SET DeploymentTargetId = '11111111-1111-1111-1111-111111111111'",
        "UPDATE Deployment SET RegisteredModelId = (SELECT RegisteredModelId FROM RegisteredModel "
        "WHERE Version = 2) WHERE rowid = 1",
    )
    (made.folder / "_SUCCESS").write_bytes(b"no model")

    report = bring(repository, made)

    told = [(each.kind, each.reason) for each in report.left]
    assert ("version", "its experiment isn't in the database") in told
    assert ("version", "0 is no number of a version") in told
    assert ("file", "its name has a meaning of its own in a run") in told
    assert ("DeploymentTarget", "its id is no GUID") in told
    assert ("deployment", "what was deployed isn't in the database") in told
    assert any(reason.endswith("its target isn't in the database") for _, reason in told)
    assert [each.version for each in repository.versions("churn")] == [2]


def test_experiment_that_can_have_no_name_here_is_told(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    changed(made, "UPDATE Experiment SET ExperimentName = '***'")

    report = bring(repository, made)

    assert "can't be the name of an experiment here" in str(report)
    assert list(repository.versions_at_backend.experiments()) == []


def test_folder_of_models_that_is_not_there_is_said(repository: Repository, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    made.folder.rename(tmp_path / "elsewhere")

    with pytest.raises(NotFound, match="there is no folder"):
        bring(repository, made)


def test_model_that_is_unpacked_by_somebody_is_no_file(
    repository: Repository, tmp_path: Path
) -> None:
    made, _ = usual(tmp_path / "net")
    made.database.chmod(0o600)
    model = made.folder / f"{made.runs[0]}.zip"
    model.unlink()
    model.mkdir()

    report = bring(repository, made)

    assert [each.name for each in report.waiting] == ["churn/1"]


def test_database_that_is_a_folder_can_not_be_read(repository: Repository, tmp_path: Path) -> None:
    made = empty(tmp_path / "net")
    made.database.unlink()
    made.database.mkdir()

    with pytest.raises(UsageError, match="can't be read"):
        bring(repository, made)
