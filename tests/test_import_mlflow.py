"""`import mlflow`, on stores that MLflow itself made: a folder `mlruns`, and a SQLite database."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import DriverMissing, IntegrityError, NotFound, UsageError, VersionVacant
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.elsewhere import from_milliseconds
from modeldrop.imports.places import hide_userinfo
from modeldrop.imports.report import Report
from modeldrop.names import parse_guid
from support import mlflow, work
from support.children import dies, run
from support.mlflow import MadeStore
from support.sharing import host

# MLflow takes its time to make a database.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["folder", "database"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, required: bool
) -> MadeStore:
    """A store that MLflow made; nothing here writes to it."""
    missing = mlflow.is_missing()
    if missing is not None:
        if required:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return mlflow.make(request.param, tmp_path_factory.mktemp("mlflow") / "store")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with host(tmp_path / "home", str(tmp_path / "store")) as opened:
        yield opened


def bring(repository: Repository, where: str, **options: object) -> Report:
    """Import a store of MLflow."""
    artifacts = options.pop("artifacts", ())
    with opening.mlflow(where, artifacts) as source:  # type: ignore[arg-type] # a test's own
        return carry(repository, source, Options(**options))  # type: ignore[arg-type] # the same


def copied(made: MadeStore, to: Path) -> MadeStore:
    """Return a copy of a store, which may be changed; its paths still lead to the original."""
    shutil.copytree(made.root, to)
    return MadeStore(made.kind, to, made.says)


def test_numbers_dates_people_and_metrics_are_as_there(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    report = bring(repository, made.where)
    assert report.complete, report.waiting
    versions = {str(each.version): each for each in repository.versions("churn")}
    assert versions.keys() == made.says["versions"].keys() == {"1", "3", "4", "5"}
    for number, said in made.says["versions"].items():
        version = versions[number]
        assert version.registered_at == from_milliseconds(said["created"])
        assert version.registered_by == (said["by"] or repository.home.user)
        assert version.description == (said["description"] or "")
        assert version.run == parse_guid(said["run"])
        assert version.origin is not None
        assert version.origin.name == f"churn/{number}"
        assert version.artifact == "model"
        pulled = repository.pull(f"churn/{number}", tmp_path / number)
        at = 1 if number == "5" else int(number)
        assert (pulled / "weights.bin").read_bytes() == bytes([at]) * 100_000
    for guid, said in made.says["runs"].items():
        revision = repository.resolve(f"run:{parse_guid(guid)}").revision
        metadata = revision.metadata
        assert metadata.metrics == said["metrics"]
        assert metadata.params == said["params"]
        assert metadata.tags["team"] == "risk"
        assert metadata.code is not None
        assert metadata.code.commit == said["tags"]["mlflow.source.git.commit"]
        assert metadata.parent == parse_guid(said["tags"].get("mlflow.parentRunId", ""))
        assert revision.committed_at == from_milliseconds(said["end"])
        assert revision.committed_by == said["by"]
        assert revision.experiment == "Churn-models"
    assert {each.run for each in repository.runs()} == {
        parse_guid(each) for each in made.says["runs"]
    }
    assert repository.verify(deep=True).ok


def test_deleted_versions_are_vacant_and_aliases_and_stages_are_aliases(
    repository: Repository, made: MadeStore
) -> None:
    report = bring(repository, made.where)
    with pytest.raises(VersionVacant, match=r"deleted at MLflow|no meaning there"):
        repository.resolve("churn/2")
    found = {each.alias: each.version for each in repository.aliases("churn")}
    assert found == {"champion": 3, "production": 4}
    assert {each.reason for each in repository.aliases("churn")} == {"imported from MLflow"}
    told = {(each.kind, each.name) for each in report.left}
    assert ("stage", "churn/1") in told
    assert ("tags", "churn") in told
    assert ("run", "1 runs") in told
    assert ("metrics", "5 earlier values") in told
    planned = {(each.kind, each.name) for each in bring(repository, made.where, dry_run=True).left}
    assert planned == told


def test_a_logged_model_is_an_artifact_of_its_run(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    bring(repository, made.where)
    assert made.says["other"] == "Forest, new"
    found = repository.resolve("Forest-new/1")
    assert found.version is not None
    assert found.version.artifact == "forest"
    assert found.version.run == parse_guid(list(made.says["runs"])[2])
    names = {each.artifact for each in found.revision.artifacts}
    assert names == {"forest", "model", "notes.txt"}
    assert (repository.pull("Forest-new/1", tmp_path) / "MLmodel").read_text() == "flavors: 4\n"


def test_a_run_without_artifacts_is_carried_over(repository: Repository, made: MadeStore) -> None:
    bring(repository, made.where)
    last = parse_guid(list(made.says["runs"])[4])
    revision = repository.resolve(f"run:{last}").revision
    assert revision.artifacts == ()
    assert revision.metadata.params["depth"] == "5"


def test_twice_doubles_nothing_and_an_alias_that_was_moved_here_stays(
    repository: Repository, made: MadeStore
) -> None:
    bring(repository, made.where)
    before = [(each.seq, each.about) for each in repository.log()]
    assert bring(repository, made.where).complete
    assert [(each.seq, each.about) for each in repository.log()] == before
    repository.promote("churn/1", "champion")
    report = bring(repository, made.where)
    assert any(each.name == "churn@champion" for each in report.left)
    assert repository.resolve("churn@champion").name == "churn/1"


@pytest.mark.parametrize("step", ["run imported", "version imported"])
def test_killed_in_the_middle_and_run_again_it_is_whole(
    made: MadeStore, tmp_path: Path, step: str
) -> None:
    host(tmp_path / "home", str(tmp_path / "store")).close()
    assert dies(work.import_mlflow, tmp_path / "home", made.where, at=step)
    assert run(work.import_mlflow, tmp_path / "home", made.where)
    with Repository.open(tmp_path / "home") as again:
        assert [each.version for each in again.versions("churn")] == [1, 3, 4, 5]
        told = [each.about[0] for each in again.log()]
        assert len(told) == len(set(told))
        assert again.verify(deep=True).ok


def test_what_was_moved_is_found_by_the_standard_layout(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    moved = copied(made, tmp_path / "moved")
    aside = made.root.rename(made.root.with_name("aside"))
    try:
        assert bring(repository, moved.where).complete
    finally:
        aside.rename(made.root)
    assert [each.version for each in repository.versions("churn")] == [1, 3, 4, 5]


def test_new_metrics_and_versions_are_brought_by_the_next_import(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    moved = copied(made, tmp_path / "moved")
    bring(repository, moved.where)
    guid = next(iter(made.says["runs"]))
    if moved.kind == "database":
        with sqlite3.connect(moved.where) as connection:
            connection.execute("UPDATE latest_metrics SET value = 0.5 WHERE key = 'auc'")
        connection.close()
    else:
        for path in Path(moved.where).glob("*/*/metrics/auc"):
            path.write_text("9999999999999 0.5 7\n")
    report = bring(repository, moved.where)
    assert report.counts["runs"].created == len(made.says["runs"])
    assert report.counts["versions"].created == 0
    revision = repository.resolve(f"run:{parse_guid(guid)}").revision
    assert (revision.revision, revision.metadata.metrics["auc"]) == (2, "0.5")


# What is hostile


SPOIL = """UPDATE model_versions SET source = ?, storage_location = NULL
    WHERE name = 'churn' AND version = 1"""


def spoil(made: MadeStore, key: str, value: str) -> None:
    """Have churn/1, or its run, say that its artifacts are elsewhere."""
    guid = next(iter(made.says["runs"]))
    if made.kind == "database":
        with sqlite3.connect(made.where) as connection:
            connection.execute(SPOIL, (value,))
            connection.execute(f"UPDATE runs SET {key} = ? WHERE run_uuid = ?", (value, guid))  # noqa: S608 - the test's own
        connection.close()
        return
    meta = Path(made.where) / "models" / "churn" / "version-1" / "meta.yaml"
    lines = [
        each for each in meta.read_text().splitlines() if not each.startswith(("source", "sto"))
    ]
    meta.write_text("\n".join([*lines, f"source: '{value}'", ""]))


@pytest.mark.parametrize("uri", ["/etc", "file:///etc/ssl", "s3://bucket/model", "../../etc"])
def test_a_source_elsewhere_is_told_and_not_read(
    repository: Repository, made: MadeStore, tmp_path: Path, uri: str
) -> None:
    moved = copied(made, tmp_path / "moved")
    spoil(moved, "source_name", uri)
    report = bring(repository, moved.where)
    assert [each.name for each in report.waiting if each.kind == "version"] == ["churn/1"]
    assert "--leave-vacant" in report.waiting[0].reason


def test_a_link_among_artifacts_is_refused(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    moved = copied(made, tmp_path / "moved")
    (tmp_path / "secret").write_text("secret")
    guid = next(iter(made.says["runs"]))
    model = next(moved.root.glob(f"mlruns/*/{guid}/artifacts/model"))
    (model / "link").symlink_to(tmp_path / "secret")
    aside = made.root.rename(made.root.with_name("aside"))
    try:
        report = bring(repository, moved.where)
    finally:
        aside.rename(made.root)
    assert any("symbolic link" in each.reason for each in report.left)
    assert [each.name for each in report.waiting if each.kind == "version"] == ["churn/1"]


def test_a_link_in_the_place_of_the_folder_beside_a_database_is_not_followed(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    if made.kind != "database":
        pytest.skip("of databases")
    moved = copied(made, tmp_path / "moved")
    (moved.root / "mlruns").rename(tmp_path / "elsewhere")
    (moved.root / "mlruns").symlink_to(tmp_path / "elsewhere")
    report = bring(repository, moved.where)
    assert list(repository.runs()) == []
    assert {each.kind for each in report.waiting} == {"run", "version", "alias"}
    assert bring(repository, moved.where, artifacts=(tmp_path / "elsewhere",)).complete


def test_damage_is_said_before_anything_is_imported(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    moved = copied(made, tmp_path / "moved")
    if moved.kind == "database":
        data = bytearray(Path(moved.where).read_bytes())
        for page in range(1, len(data) // 4096):
            data[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
        Path(moved.where).write_bytes(data)
        with pytest.raises(IntegrityError, match="is damaged"):
            bring(repository, moved.where)
    else:
        (Path(moved.where) / "models" / "churn" / "version-3" / "meta.yaml").write_text("{[\n")
        with pytest.raises(UsageError, match="can't be understood"):
            bring(repository, moved.where)
    assert list(repository.runs()) == []


# Where it is


def test_any_database_is_read_by_sqlalchemy(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    if made.kind != "database":
        pytest.skip("of databases")
    url = f"sqlite+pysqlite:///{made.where}"
    report = bring(repository, url, artifacts=(made.root / "mlruns",))
    assert report.complete
    assert [each.version for each in repository.versions("churn")] == [1, 3, 4, 5]
    assert repository.aliases("churn")[0].version == 3


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("nowhere", NotFound, "no database nowhere"),
        ("sqlite:///nowhere.db", NotFound, "no database nowhere.db"),
        ("http://localhost:5000", UsageError, "is a tracking server"),
        ("nonsense://user:canary@host/db", UsageError, "no URL of a database"),
        ("mysql+nodriver://user:canary@host/db", UsageError, "no URL of a database"),
        ("postgresql+pg8000://user:canary@127.0.0.1:1/db", DriverMissing, "driver"),
    ],
)
def test_what_cannot_be_opened_is_said_without_secrets(
    repository: Repository, where: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as told:
        bring(repository, where)
    assert "canary" not in str(told.value)


def test_an_empty_folder_is_no_store(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no experiment of MLflow"):
        bring(repository, str(tmp_path / "empty"))


def test_what_may_hold_secrets_is_taken_out_of_a_url() -> None:
    assert hide_userinfo("postgresql://ada:secret@db:5432/mlflow?password=x") == (
        "postgresql://db:5432/mlflow"
    )
    assert hide_userinfo("/srv/mlruns") == "/srv/mlruns"


def test_database_from_before_last_values_were_kept_apart_says_the_same(
    repository: Repository, made: MadeStore, tmp_path: Path
) -> None:
    if made.kind != "database":
        pytest.skip("of databases")
    old = copied(made, tmp_path / "old")
    with sqlite3.connect(old.where) as connection:
        connection.execute("DROP TABLE latest_metrics")
    connection.close()

    assert bring(repository, old.where, artifacts=(made.root / "mlruns",)).complete

    for guid, said in made.says["runs"].items():
        assert repository.metadata(f"run:{parse_guid(guid)}").metrics == said["metrics"]
