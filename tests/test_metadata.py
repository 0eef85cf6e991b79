"""What a run was, in its manifest: what it costs, when it is news, and what a version has of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import modeldrop
from modeldrop import Repository
from modeldrop.errors import RecordDamaged, UsageError
from modeldrop.form import Fields, seal
from modeldrop.intake import drop
from modeldrop.metadata import NOTHING, Code, Dataset, Environment, Metadata
from modeldrop.names import new_guid
from modeldrop.records import Revision
from modeldrop.statements import Unclear, understood
from modeldrop.structs import replace
from support.format_examples import EXAMPLES
from support.intake import make_home, make_run, opened_files, revisions, scan, uploads

ROOT = Path(__file__).parents[1]
PARENT = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
SHA = "ab" * 32
CODE = Code("8f3a1d2c4b5e6f708192a3b4c5d6e7f801234567", dirty=False, branch="main")
EXAMPLE = EXAMPLES["revision"]
assert isinstance(EXAMPLE, Revision)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home") as opened:
        yield opened


def said(**what: object) -> str:
    return json.dumps(what)


# In the record


def test_a_manifest_without_metadata_and_formats_has_no_word_of_them() -> None:
    assert isinstance(EXAMPLE, Revision)
    bare = replace(EXAMPLE, metadata=NOTHING, formats=())
    fields = json.loads(bare.to_bytes())
    assert set(fields) == set(json.loads(EXAMPLE.to_bytes())) - {"metadata", "formats"}
    # Byte for byte what was written before there were either.
    assert fields["record_sha256"].startswith("6d349a37a71cf8b9")
    assert Revision.from_bytes(bare.to_bytes(), "here") == bare


def test_parts_of_it_that_say_nothing_are_left_out() -> None:
    metadata = Metadata(metrics={"auc": "0.9"}, environment=Environment(python="3.11.9"))
    assert metadata.as_json() == {
        "metrics": {"auc": "0.9"},
        "environment": {"python": "3.11.9"},
    }
    assert not NOTHING
    assert NOTHING.as_json() == {}
    assert set(NOTHING.in_full()) == set(Metadata.__match_args__)


@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": []},
        {"metadata": None},
        {"metadata": {"params": {"a": None}}},
        {"metadata": {"params": {"a": [1]}}},
        {"metadata": {"metrics": {"a": 1}}},
        {"metadata": {"tags": ["a"]}},
        {"metadata": {"datasets": {"a": SHA}}},
        {"metadata": {"datasets": [{"name": "a"}]}},
        {"metadata": {"parent": 1}},
        {"metadata": {"code": {"dirty": True}}},
        {"metadata": {"environment": {"packages": {"a": 1}}}},
    ],
    ids=str,
)
def test_metadata_of_another_form_are_damage(wrong: Fields) -> None:
    fields = json.loads(EXAMPLE.to_bytes())
    for name in ("record_sha256", "format", "kind"):
        fields.pop(name)
    with pytest.raises(RecordDamaged):
        Revision.from_bytes(seal("revision", {**fields, **wrong}), "here")


@pytest.mark.parametrize(
    ("now", "before", "adds"),
    [
        (Metadata(), Metadata(), False),
        (Metadata(), Metadata(params={"a": 1}), False),
        (Metadata(params={"a": 1}), Metadata(params={"a": 1, "b": 2}), False),
        (Metadata(params={"a": 1}), Metadata(), True),
        (Metadata(params={"a": 2}), Metadata(params={"a": 1}), True),
        (Metadata(params={"a": True}), Metadata(params={"a": 1}), True),
        (Metadata(params={"a": "1"}), Metadata(params={"a": 1}), True),
        (Metadata(metrics={"auc": "0.9"}), Metadata(params={"auc": "0.9"}), True),
        (Metadata(directions={"auc": "max"}), Metadata(metrics={"auc": "0.9"}), True),
        (Metadata(tags={"a": ""}), Metadata(tags={"a": ""}), False),
        (Metadata(datasets=(Dataset("a", SHA),)), Metadata(), True),
        (Metadata(datasets=(Dataset("a", SHA),)), Metadata(datasets=(Dataset("a", SHA),)), False),
        (Metadata(parent=PARENT), Metadata(parent=PARENT.replace("3", "4")), True),
        (Metadata(code=CODE), Metadata(), True),
        (Metadata(code=CODE), Metadata(code=replace(CODE, dirty=True)), False),
        (
            Metadata(environment=Environment(host="a")),
            Metadata(environment=Environment(host="b")),
            False,
        ),
        (
            Metadata(environment=Environment(host="a", packages={"p": "1"})),
            Metadata(environment=Environment(host="b")),
            True,
        ),
    ],
    ids=str,
)
def test_what_adds_to_what_was_said(now: Metadata, before: Metadata, adds: bool) -> None:
    assert now.adds_to(before) is adds


# What comes later


def test_metrics_that_come_later_are_a_revision_of_the_same_bytes(repository: Repository) -> None:
    staging = repository.home.staging
    run = make_run(staging, {"model": "weights", "run.json": said(experiment="churn")})
    scan(repository)
    version = repository.register(run).version
    make_run(staging, {"run.toml": "[metrics]\nauc = 0.9\n"}, run)
    with opened_files() as opened:
        scan(repository)
    assert [Path(path).name for path in opened if Path(path).name == "model"] == []

    first, second = revisions(repository, run)
    assert (first.metadata, second.metadata) == (NOTHING, Metadata(metrics={"auc": "0.9"}))
    assert second.artifacts == first.artifacts
    assert len(uploads(repository, run)) == 1
    # The version is what it was, and tells of it.
    assert repository.register(run).version == version
    assert repository.describe(version)["metadata"] == second.metadata.in_full()
    assert repository.metadata("churn/1") == second.metadata
    assert repository.metadata(f"run:{run}~1") == NOTHING
    # Nothing new: no revision, however often it is looked at, also with nothing remembered.
    shutil.rmtree(repository.home.paths.root / "service")
    scan(repository)
    assert len(revisions(repository, run)) == 2


def test_what_is_not_said_any_more_takes_nothing_back(repository: Repository) -> None:
    staging = repository.home.staging
    run = make_run(staging, {"model": "1", "run.toml": "[metrics]\nauc = 0.9\nloss = 1\n"})
    scan(repository)
    for less in ("[metrics]\nauc = 0.9\n", ""):
        make_run(staging, {"run.toml": less}, run)
        scan(repository)
    (staging / run / "run.toml").unlink()
    scan(repository)
    assert [each.revision for each in revisions(repository, run)] == [1]


def test_said_with_less_of_the_files_it_is_not_lost(repository: Repository) -> None:
    staging = repository.home.staging
    run = make_run(staging, {"model": "1", "checkpoint": "2"})
    scan(repository)
    (staging / run / "checkpoint").unlink()
    make_run(staging, {"run.json": said(metrics={"auc": 0.9})}, run)
    scan(repository)
    first, second = revisions(repository, run)
    assert set(first.content()) == {"model", "checkpoint"}
    assert second.metadata.metrics == {"auc": "0.9"}
    assert second.content() == {"model": first.content()["model"]}


def test_a_version_has_what_is_said_as_long_as_the_run_has_its_bytes(
    repository: Repository,
) -> None:
    staging = repository.home.staging
    run = make_run(staging, {"m": "1", "run.json": said(experiment="churn", tags=["first"])})
    scan(repository)
    repository.register(run)
    changes: list[dict[str, str | bytes]] = [
        {"run.json": said(metrics={"auc": 0.9})},
        {"other": "2"},
        {"run.json": "{", "other": "3"},
        {"m": "changed", "run.json": said(metrics={"auc": 0.1})},
        {"m": "1", "run.json": said(metrics={"auc": 0.5})},
    ]
    for files in changes:
        make_run(staging, files, run)
        scan(repository)
    assert [each.metadata.metrics.get("auc") for each in revisions(repository, run)] == [
        *(None, "0.9", "0.9", None, "0.1", "0.5")
    ]
    # The one that says nothing takes nothing away; after the bytes changed it is another model.
    assert repository.metadata("churn/1").metrics == {"auc": "0.9"}


def test_a_version_of_the_whole_run_has_what_is_said_later(repository: Repository) -> None:
    run = make_run(repository.home.staging, {"a": "1", "b": "2"})
    scan(repository)
    repository.register(run, "churn", ".")
    make_run(repository.home.staging, {"run.json": said(tags=["late"])}, run)
    scan(repository)
    assert repository.metadata("churn").tags == {"late": ""}


def test_hosts_that_differ_in_nothing_but_where_it_ran_make_one_revision(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("1")
    run = new_guid()
    with (
        make_home(tmp_path / "a", str(tmp_path / "store")) as one,
        make_home(tmp_path / "b", str(tmp_path / "store")) as two,
    ):
        for home, host in ((one, "a"), (two, "b"), (one, "a")):
            metadata = {"params": {"x": 1}, "environment": {"host": host}}
            home.upload(run, tmp_path / "m", metadata=metadata)
        (revision,) = revisions(two, run)
        assert revision.metadata.environment == Environment(host="a")
        # Every host tells the same of it.
        one.register(run, "churn")
        assert one.metadata("churn") == two.metadata("churn") == revision.metadata


def test_what_has_left_staging_is_dropped_again_to_say_more(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("1")
    with make_home(tmp_path / "home", afterwards="move") as repository:
        staging = repository.home.staging
        run = drop(staging, [tmp_path / "m"])
        scan(repository)
        assert not (staging / run).exists()
        drop(staging, [tmp_path / "m"], run=run, metadata=Metadata(metrics={"auc": "0.9"}))
        scan(repository)
        first, second = revisions(repository, run)
        assert second.metadata.metrics == {"auc": "0.9"}
        assert second.artifacts == first.artifacts
        assert len(uploads(repository, run)) == 1


def test_metadata_survive_the_loss_of_the_journal_and_of_the_home(
    repository: Repository, tmp_path: Path
) -> None:
    run = make_run(
        repository.home.staging,
        {"m": "1", "run.yaml": "experiment: churn\nmetrics: {auc: 0.9}\ntags: {a: b}\n"},
    )
    scan(repository)
    repository.register(run)
    before = repository.metadata("churn/1")
    assert before.metrics == {"auc": "0.9"}
    (repository.home.paths.root / "journal.jsonl").unlink()
    with Repository.open(repository.home.paths.root) as again:
        again.rebuild()
        assert again.metadata("churn/1") == again.metadata(run) == before
        assert again.verify(deep=True).ok
    url = str(repository.home.paths.root / "model-repository")
    cloned, _ = Repository.clone(tmp_path / "clone", url)
    with cloned:
        assert cloned.metadata("churn/1") == before


# A damaged file


@pytest.mark.parametrize("name", ["run.toml", "run.yaml", "run.yml", "run.json"])
def test_a_damaged_file_holds_up_nothing_and_is_mended_by_a_revision(
    repository: Repository, name: str
) -> None:
    staging = repository.home.staging
    run = make_run(staging, {"model": "1", name: "[params: {"})
    status = scan(repository)[run]
    assert status.state == "committed"
    assert status.needs_attention
    assert [each.path for each in status.refused] == [name]
    receipt = json.loads((staging / run / ".modeldrop-receipt.json").read_text())
    assert receipt["refused"] == [each.as_json() for each in status.refused]
    right = '{"params": {"a": 1}}'
    make_run(staging, {name: "[params]\na = 1" if name == "run.toml" else right}, run)
    assert not scan(repository)[run].needs_attention
    assert [each.metadata.params for each in revisions(repository, run)] == [{}, {"a": 1}]


# The library


def test_upload_keeps_what_is_said_and_refuses_what_cannot_be_kept(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "m").write_text("1")
    run = new_guid()
    with pytest.raises(UsageError, match="the metric 'auc' is no number"):
        repository.upload(run, tmp_path / "m", metadata={"metrics": {"auc": "good"}})
    # More than a manifest should carry, though no part of it is.
    much = {f"p{number}": "x" * 8000 for number in range(200)}
    with pytest.raises(UsageError, match="the metadata take more than 1 MiB"):
        repository.upload(run, tmp_path / "m", metadata={"params": much})
    assert repository.runs_at_backend.last(run) == 0
    told = repository.upload(
        run,
        tmp_path / "m",
        metadata={"params": {"lr": 0.05, "opt": {"name": "adam"}}, "metrics": {"auc": 0.9}},
    )
    assert told.revision.metadata == Metadata(
        params={"lr": "0.05", "opt.name": "adam"}, metrics={"auc": "0.9"}
    )
    later = repository.upload(run, tmp_path / "m", metadata={"metrics": {"auc": 0.9, "f1": 0.8}})
    assert (later.created, later.revision.revision) == (True, 2)
    assert later.revision.artifacts == told.revision.artifacts
    assert not repository.upload(run, tmp_path / "m").created


def test_the_python_of_the_docs_does_what_it_says(
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [block] = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "metadata.md").read_text("utf-8"), re.DOTALL
    )
    monkeypatch.setenv("MODELDROP_HOME", str(repository.home.paths.root))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").write_text("1")
    exec(block, {"run": new_guid()})  # noqa: S102 - our own page
    assert capsys.readouterr().out == "0.912\n"
    assert modeldrop.captured is not None


def nested(depth: int) -> dict[str, object]:
    found: dict[str, object] = {"p": 1}
    for _ in range(depth):
        found = {"p": found}
    return found


@pytest.mark.parametrize(
    ("found", "why"),
    [
        pytest.param(
            {"datasets": [{"name": "a", "sha256": SHA}, {"name": "a", "sha256": "cd" * 32}]},
            "is there twice, with two digests",
            id="digests",
        ),
        pytest.param({"params": nested(30)}, "nested more than 20 deep", id="depth"),
        pytest.param({"metrics": {"auc": 10**500}}, "too large a number", id="metric"),
        pytest.param({"params": {"n": 10**500}}, "too large a number", id="param"),
    ],
)
def test_what_says_too_much_is_refused_with_the_reason(found: dict[str, object], why: str) -> None:
    with pytest.raises(Unclear, match=why):
        understood(found)
