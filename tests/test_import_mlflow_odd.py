"""`import mlflow`, on folders as MLflow leaves them after years and after deletions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import NotFound, UsageError
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.elsewhere import from_milliseconds, from_text
from modeldrop.imports.report import Report
from support.sharing import host

RUN = "5d41402abc4b2a76b9719d911017c592"
OTHER = "7d793037a0760186574b0282f2f435e7"


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with host(tmp_path / "home", str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An experiment with one run, which has an artifact `model`."""
    root = tmp_path / "mlruns"
    meta(root / "1", experiment_id="1", name="churn", lifecycle_stage="active")
    add_run(root, RUN)
    return root


def meta(folder: Path, **said: object) -> None:
    # JSON is YAML.
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.yaml").write_text(json.dumps(said))


def add_run(root: Path, run: str, **said: object) -> Path:
    folder = root / "1" / run
    place = (folder / "artifacts").as_uri()
    meta(folder, **{"artifact_uri": place, "lifecycle_stage": "active", "end_time": 1, **said})
    (folder / "artifacts" / "model").mkdir(parents=True)
    (folder / "artifacts" / "model" / "weights.bin").write_text(f"weights of {run}")
    return folder


def add_version(root: Path, number: object, source: str, **said: object) -> None:
    model = root / "models" / "churn"
    meta(model, name="churn")
    stage = {"current_stage": "None", "creation_timestamp": 5}
    meta(model / f"version-{number}", version=number, source=source, **{**stage, **said})


def write(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def bring(repository: Repository, where: Path | str, **options: object) -> Report:
    with opening.mlflow(str(where), ()) as source:
        return carry(repository, source, Options(**options))  # type: ignore[arg-type] # a test's own


def left(report: Report) -> set[tuple[str, str]]:
    return {(each.kind, each.name) for each in report.left}


def pinned(repository: Repository) -> dict[int, str]:
    return {each.version: each.artifact for each in repository.versions("churn")}


def test_versions_are_found_however_their_source_is_spelled(
    repository: Repository, store: Path
) -> None:
    artifacts = (store / "1" / RUN / "artifacts").as_uri()
    add_version(store, 1, f"runs:/{RUN}/model")
    add_version(store, 2, f"runs:/{RUN}/model/weights.bin")
    add_version(store, 3, f"{artifacts}/model/", run_id=RUN)
    add_version(store, 4, artifacts, run_id=RUN)

    report = bring(repository, store)

    assert report.complete, report.waiting
    assert pinned(repository) == {1: "model", 2: "model", 3: "model", 4: "."}
    assert ("version", "churn/2") in left(report)


def test_versions_without_a_number_and_models_without_a_version_are_passed_over(
    repository: Repository, store: Path
) -> None:
    add_version(store, 1, f"runs:/{RUN}/model")
    add_version(store, "first", f"runs:/{RUN}/model")
    meta(store / "models" / "empty", name="empty")
    (store / "models" / "no-meta").mkdir()
    (store / "models" / "churn" / "version-2").mkdir()
    (store / "1" / "models" / "m-1").mkdir(parents=True)
    meta(store / "models" / "greeting", name="greeting")
    write(store / "models" / "greeting" / "tags" / "mlflow.prompt.is_prompt", "true")

    report = bring(repository, store)

    assert pinned(repository) == {1: "model"}
    assert {("version", "churn/first"), ("prompt", "greeting")} <= left(report)
    assert sorted(repository.versions_at_backend.experiments()) == ["churn"]


def test_of_two_in_one_stage_the_newer_bears_its_name(repository: Repository, store: Path) -> None:
    for number in (1, 2):
        add_version(store, number, f"runs:/{RUN}/model", current_stage="Production")

    report = bring(repository, store)

    assert [(each.alias, each.version) for each in repository.aliases("churn")] == [
        ("production", 2)
    ]
    assert ("stage", "churn/1") in left(report)


def test_alias_that_can_not_be_one_here_is_told(repository: Repository, store: Path) -> None:
    add_version(store, 1, f"runs:/{RUN}/model")
    write(store / "models" / "churn" / "aliases" / "not an alias", "1\n")

    report = bring(repository, store)

    assert ("alias", "churn@not an alias") in left(report)
    assert repository.aliases("churn") == []


def test_logged_models_are_artifacts_of_their_runs_or_runs_of_their_own(
    repository: Repository, store: Path
) -> None:
    def logged(model: str, **said: object) -> None:
        folder = store / "1" / "models" / model
        place = (folder / "artifacts").as_uri()
        meta(folder, **{"artifact_location": place, "lifecycle_stage": "active", **said})
        write(folder / "artifacts" / "weights.bin", model)

    logged("m-of-run", name="forest", source_run_id=RUN)
    logged("m-same-name", name="forest", source_run_id=RUN)
    logged("m-of-nobody", name="forest", source_run_id="")
    logged("m-of-a-deleted-one", name="forest", source_run_id=OTHER)
    logged(f"m-{OTHER}", name="a/path")
    add_version(store, 1, (store / "1" / "models" / "m-of-run" / "artifacts").as_uri())
    add_version(store, 2, "models:/m-same-name")
    add_version(store, 3, f"models:/m-{OTHER}")

    report = bring(repository, store)

    assert ("logged model", "m-of-nobody") in left(report)
    assert pinned(repository) == {1: "forest", 2: "m-same-name", 3: f"m-{OTHER}"}
    alone = repository.resolve(f"run:{OTHER}").revision
    assert [each.artifact for each in alone.artifacts] == [f"m-{OTHER}"]


def test_run_whose_artifacts_are_said_to_be_nowhere_is_found_by_the_layout(
    repository: Repository, store: Path
) -> None:
    add_run(store, OTHER, artifact_uri="", run_name="second")
    add_version(store, 1, f"runs:/{OTHER}/model")
    add_version(store, 2, "model", run_id=OTHER)

    report = bring(repository, store)

    assert pinned(repository) == {1: "model"}
    assert [each.name for each in report.waiting if each.kind == "version"] == ["churn/2"]


def test_what_has_a_meaning_of_its_own_here_is_no_artifact(
    repository: Repository, store: Path
) -> None:
    write(store / "1" / RUN / "artifacts" / "_SUCCESS", "")

    report = bring(repository, store)

    assert any("has a meaning of its own" in each.reason for each in report.left)
    assert [each.artifact for each in repository.resolve(f"run:{RUN}").revision.artifacts] == [
        "model"
    ]


def test_more_than_a_run_may_say_is_told_and_the_rest_is_kept(
    repository: Repository, store: Path
) -> None:
    folder = store / "1" / RUN
    for number in range(1003):
        write(folder / "params" / f"p{number:04}", str(number))
    write(folder / "params" / ("n" * 251), "too long a name")
    write(folder / "metrics" / "auc", "")

    report = bring(repository, store)

    reasons = [each.reason for each in report.left if each.kind == "metadata"]
    assert any("a run has 1000 at most" in each for each in reasons)
    assert any("longer than 250 characters" in each for each in reasons)
    metadata = repository.metadata(f"run:{RUN}")
    assert len(metadata.params) == 1000
    assert metadata.metrics == {}


@pytest.mark.parametrize(
    ("path", "data", "says"),
    [
        pytest.param("metrics/auc", "yesterday high", "holds no values of a metric", id="metric"),
        pytest.param("metrics/auc", "1", "holds no values of a metric", id="no-value"),
        pytest.param("tags/team", b"\xff\xfe", "is no UTF-8", id="encoding"),
        pytest.param(
            "params/p", b"1" * (4 * 2**20 + 1), "is no regular file of at most", id="size"
        ),
    ],
)
def test_what_mlflow_would_not_have_written_is_said(
    repository: Repository, store: Path, path: str, data: bytes | str, says: str
) -> None:
    write(store / "1" / RUN / path, data)
    add_run(store, OTHER)

    report = bring(repository, store)

    assert says in str(report)
    assert [each.run.replace("-", "") for each in repository.runs()] == [OTHER]


def test_version_that_was_changed_or_deleted_since_stays_as_it_was_imported(
    repository: Repository, store: Path
) -> None:
    add_run(store, OTHER)
    add_version(store, 1, f"runs:/{RUN}/model")
    add_version(store, 2, f"runs:/{RUN}/model")
    bring(repository, store)
    before = [each.sha256 for each in repository.versions("churn")]

    add_version(store, 1, f"runs:/{OTHER}/model")
    add_version(store, 2, f"runs:/{RUN}/model", current_stage="Deleted_Internal")
    report = bring(repository, store)

    assert [each.sha256 for each in repository.versions("churn")] == before
    told = {each.name: each.reason for each in report.left if each.kind == "version"}
    assert told["churn/1"] == "it was changed there since it was imported, and stays as it was"


@pytest.mark.parametrize("source", [f"runs:/{RUN}/model", f"runs:/{RUN}"], ids=["model", "run"])
def test_version_without_a_file_waits(repository: Repository, store: Path, source: str) -> None:
    (store / "1" / RUN / "artifacts" / "model" / "weights.bin").unlink()
    add_version(store, 1, source)

    report = bring(repository, store)

    assert [each.name for each in report.waiting if each.kind == "version"] == ["churn/1"]


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        pytest.param("http://[nonsense", UsageError, "is no URL", id="no-url"),
        pytest.param("://", NotFound, "neither a folder, a file, nor a URL", id="nothing"),
    ],
)
def test_what_names_no_store_is_said(
    repository: Repository, where: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        bring(repository, where)


@pytest.mark.parametrize("value", [None, True, -1, "1", 10**18])
def test_what_is_no_time_is_none(value: object) -> None:
    assert from_milliseconds(value) is None
    assert from_text(7) is None
