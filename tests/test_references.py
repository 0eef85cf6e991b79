"""How people name runs and versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import InvalidName
from modeldrop.references import RunReference, VersionReference, parse, parse_run

GUID = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("churn", VersionReference("churn")),
        ("churn/3", VersionReference("churn", 3)),
        ("churn.v2/12", VersionReference("churn.v2", 12)),
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
        *("run:churn", "run:abc", f"run:{GUID}~", f"run:{GUID}~0", f"run:{GUID}~x"),
        *(f"run:{GUID}/a/b", "a b", "churn@champion", "-rf", "a\nb", "/srv/staging/churn"),
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
    else:
        assert meant.revision is None or meant.revision > 0
