"""How people name runs and versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop import Repository
from modeldrop.errors import (
    AmbiguousArtifact,
    ArtifactNotFound,
    InvalidName,
    RunNotFound,
    VersionNotFound,
)
from modeldrop.intake import drop
from modeldrop.names import new_guid
from modeldrop.spelling import (
    AliasReference,
    RunReference,
    VersionReference,
    parse,
    parse_alias,
    parse_run,
)
from support.intake import make_home, scan

GUID = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("churn", VersionReference("churn")),
        ("churn/3", VersionReference("churn", 3)),
        ("churn.v2/12", VersionReference("churn.v2", 12)),
        ("churn@champion", AliasReference("churn", "champion")),
        ("churn.v2@a.b-c~12", AliasReference("churn.v2", "a.b-c", 12)),
        ("3f2b@champion", AliasReference("3f2b", "champion")),
        # What may be the beginning of a GUID is an experiment first, as a branch is in git.
        ("3f2b", VersionReference("3f2b")),
        ("3f2b/1", VersionReference("3f2b", 1)),
        ("run:3f2b", RunReference("3f2b")),
        ("run:3F2B8C1E5D", RunReference("3f2b8c1e-5d")),
        ("3f2b~2", RunReference("3f2b", 2)),
        (GUID, RunReference(GUID)),
        (GUID.upper(), RunReference(GUID)),
        (GUID.replace("-", ""), RunReference(GUID)),
        (f"{{{GUID}}}", RunReference(GUID)),
        (f"run:{GUID}", RunReference(GUID)),
        (f"run:{GUID}~2", RunReference(GUID, 2)),
        (f"run:{GUID}/model.onnx", RunReference(GUID, None, "model.onnx")),
        (f"run:{GUID}~2/a~b c", RunReference(GUID, 2, "a~b c")),
        (f"run:{GUID}/.", RunReference(GUID, None, ".")),
        (f"{GUID}/", RunReference(GUID)),
        ("run:@last", RunReference("@last")),
        ("@last", RunReference("@last")),
        ("run:@last~1/m", RunReference("@last", 1, "m")),
        (f"/srv/staging/{GUID}", RunReference(GUID)),
        (f"./staging/{GUID.upper()}/", RunReference(GUID)),
    ],
)
def test_reference_reads_as_it_is_documented(text: str, meant: object) -> None:
    assert parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *("", "run:", "churn/", "churn/0", "churn/-1", "churn/x", "churn/1/2", "churn/1234567890"),
        *("churn@", "@champion", "churn@a/b", "churn@a~", "churn@a~0", "churn@a@b", "run:churn@a"),
        *("run:churn", "run:abc", f"run:{GUID}~", f"run:{GUID}~0", f"run:{GUID}~x"),
        *(f"run:{GUID}/a/b", "a b", "-rf", "a\nb", "/srv/staging/churn"),
    ],
)
def test_what_has_no_form_of_a_reference_is_refused_with_those_that_have(text: str) -> None:
    with pytest.raises(InvalidName, match="names neither") as caught:
        parse(text)
    assert "run:<guid>" in caught.value.hint
    assert "\n" not in caught.value.message


def test_where_only_a_run_can_be_meant_the_beginning_of_a_guid_is_one() -> None:
    assert parse_run("3f2b") == RunReference("3f2b")
    with pytest.raises(InvalidName):
        parse_run("churn")


def test_where_only_an_alias_can_be_meant_nothing_else_is_one() -> None:
    assert parse_alias("churn@champion") == AliasReference("churn", "champion")
    for text in ("churn", "churn/1", "churn@champion~2", f"run:{GUID}", "@champion"):
        with pytest.raises(InvalidName, match="names no alias") as caught:
            parse_alias(text)
        assert "churn@champion" in caught.value.hint


@pytest.mark.parametrize("text", ["churn@latest", "churn@Latest", "churn@3", "churn@a..b"])
def test_reference_to_what_can_be_no_alias_says_why(text: str) -> None:
    with pytest.raises(InvalidName, match="is no valid alias: ") as caught:
        parse(text)
    assert caught.value.hint


def test_only_a_whole_guid_needs_no_look_up() -> None:
    assert RunReference(GUID).whole
    assert not RunReference(GUID[:-1]).whole
    assert not RunReference("@last").whole


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_a_reference_or_a_bad_name(text: str) -> None:
    try:
        meant = parse(text)
    except InvalidName:
        return
    if isinstance(meant, VersionReference):
        assert meant.version is None or meant.version > 0
    elif isinstance(meant, AliasReference):
        assert meant.move is None or meant.move > 0
    else:
        assert meant.revision is None or meant.revision > 0


def test_a_name_that_can_be_no_run_is_told_so_where_only_a_run_can_be_meant() -> None:
    for text in ("churn", "churn/1", "run:churn"):
        with pytest.raises(InvalidName, match=f"'{text}' names no run") as caught:
            parse_run(text)
        assert caught.value.hint == (
            "write a GUID, its first 4 digits or more, `run:@last`, or the run's staging folder"
        )


# What they stand for


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_home(tmp_path / ".mlops")


def test_hints_for_an_artifact_are_for_those_who_write_references(
    repository: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
    run = drop(repository.home.staging, [folder / "a", folder / "b"])
    scan(repository)

    with pytest.raises(AmbiguousArtifact) as several:
        repository.artifact(f"run:{run}~1")
    with pytest.raises(ArtifactNotFound) as unknown:
        repository.resolve(f"{run}/c")

    assert several.value.hint.startswith(f"write `run:{run}~1/NAME`")
    assert unknown.value.hint.startswith(f"write `run:{run}/NAME`")
    assert "--artifact" not in several.value.hint + unknown.value.hint


def test_what_only_an_earlier_revision_has_is_looked_for_there(
    repository: Repository, tmp_path: Path
) -> None:
    run = new_guid()
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        repository.upload(run, tmp_path / name)

    for ask in (
        lambda: repository.artifact(f"{run}/a"),
        lambda: repository.register(run, "e", "a"),
    ):
        with pytest.raises(ArtifactNotFound) as caught:
            ask()
        assert f"`run:{run}~1/NAME`" in caught.value.hint
    assert repository.artifact(f"run:{run}~1/a")[1].artifact == "a"


def test_the_beginning_of_two_runs_is_no_experiment_that_isnt_there(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "m").write_text("m")
    for rest in ("1", "2"):
        repository.upload(f"abcd000{rest}-0000-4000-8000-000000000000", tmp_path / "m")

    with pytest.raises(RunNotFound, match="abcd is the beginning of 2 runs"):
        repository.resolve("abcd")
    with pytest.raises(VersionNotFound):
        repository.resolve("beef")


def test_upload_takes_the_name_of_the_link_that_leads_to_it(
    tmp_path: Path, repository: Repository
) -> None:
    blobs = tmp_path / "blobs"
    (blobs / "0dd").mkdir(parents=True)
    (blobs / "0dd" / "weights").write_bytes(b"weights")
    (blobs / "f11e").write_bytes(b"model")
    for name, target in (("model.onnx", "f11e"), ("tokenizer", "0dd")):
        (tmp_path / name).symlink_to(blobs / target)
        revision = repository.upload(new_guid(), tmp_path / name).revision
        assert [each.artifact for each in revision.artifacts] == [name]
        (copy,) = [repository.pull(revision.run, tmp_path / "copies")]
        assert copy.name == name
    assert (copy / "weights").read_bytes() == b"weights"
