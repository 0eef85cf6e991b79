"""What is a valid name, and that a bad one can't drive a terminal."""

from __future__ import annotations

import os
import string
import unicodedata
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import InvalidName
from modeldrop.names import (
    check_experiment,
    check_guid,
    is_artifact_name,
    is_experiment,
    new_guid,
    parse_guid,
    parse_guid_prefix,
    printable,
    refuse_component,
    refuse_path,
)

GUID = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(st.uuids())
def test_every_spelling_of_a_guid_is_one_run(guid: uuid.UUID) -> None:
    spellings = [str(guid), guid.hex, f"{{{guid}}}", str(guid).upper(), f"{{{guid.hex.upper()}}}"]

    assert {parse_guid(each) for each in spellings} == {str(guid)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        GUID[:-1],
        GUID + "0",
        GUID + "\n",
        f"{{{GUID}",
        f"{GUID}}}",
        GUID.replace("-", "_"),
        GUID.replace("3", "\u0663"),
        f"urn:uuid:{GUID}",
        "3f2b8c1e5-d7a-4c0b-9a61-0f6e2d4b7a90",
        "churn",
    ],
)
def test_what_is_no_guid_is_refused_by_name(text: str) -> None:
    assert parse_guid(text) is None
    with pytest.raises(InvalidName, match="is no run GUID") as caught:
        check_guid(text)
    assert "modeldrop run new" in caught.value.hint


def test_new_guids_are_canonical_and_differ() -> None:
    made = {new_guid() for _ in range(100)}

    assert len(made) == 100
    assert all(check_guid(each) == each for each in made)


@given(st.uuids(), st.integers(4, 32), st.booleans())
def test_beginning_of_a_guid_reads_as_it_is_spelled_in_one(
    guid: uuid.UUID, digits: int, upper: bool
) -> None:
    bare = guid.hex[:digits]
    prefix = parse_guid_prefix(bare.upper() if upper else bare)

    assert prefix is not None
    assert str(guid).startswith(prefix)
    assert prefix.replace("-", "") == bare


@pytest.mark.parametrize("text", ["3f2", "----", "3f-2b8c", "3f2b8c1e-5d7a4", "3f2bx", "3f2b 8c1e"])
def test_what_begins_no_guid_is_none(text: str) -> None:
    assert parse_guid_prefix(text) is None


@pytest.mark.parametrize("name", ["churn", "0", "A-b_c.d", "a" * 100, "3f2b8c1e"])
def test_experiment_keeps_its_name(name: str) -> None:
    assert check_experiment(name) == name
    assert is_experiment(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "a" * 101, ".hidden", "-rf", "_x", "a/b", "..", "a b", "a\n", "a\x00", "é", "\u0661"),
        *(GUID, GUID.upper(), GUID.replace("-", ""), f"{{{GUID}}}"),
    ],
)
def test_no_valid_experiment_is_refused_with_what_would_be(name: str) -> None:
    assert not is_experiment(name)
    with pytest.raises(InvalidName, match="is no valid experiment name") as caught:
        check_experiment(name)
    assert "1 to 100" in caught.value.hint
    assert "\n" not in caught.value.message


@given(ANY_TEXT)
def test_experiment_is_valid_only_as_a_name_of_one_plain_component(name: str) -> None:
    plain = set(string.ascii_letters + string.digits + "._-")

    if is_experiment(name):
        assert 0 < len(name) <= 100
        assert set(name) <= plain
        assert name[0] not in "._-"
        assert parse_guid(name) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (os.fsdecode(b"model\xff.bin"), "not UTF-8"),
        ("two\nlines", "control character"),
        ("\x1b[31mred", "control character"),
        ("c1\x9b31m", "control character"),
        ("evil\u202egpj.exe", "control character"),
        ("nul\x00", "control character"),
        ("back\\slash", "backslash"),
    ],
)
def test_component_that_cant_be_stored_is_refused_with_its_reason(name: str, why: str) -> None:
    assert why in (refuse_component(name) or "")
    assert why in (refuse_path(f"folder/{name}") or "")


@pytest.mark.parametrize("name", ["model.onnx", "-rf", "a b", "é日本", "~", "%2E", "a'b\"c", "..a"])
def test_odd_but_harmless_component_is_stored(name: str) -> None:
    assert refuse_component(name) is None
    assert refuse_path(f"folder/{name}/{name}") is None


@pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a"])
def test_path_that_leads_elsewhere_is_refused(path: str) -> None:
    assert refuse_path(path)


@given(ANY_TEXT)
def test_component_that_is_stored_has_no_character_that_printing_would_escape(name: str) -> None:
    if refuse_component(name) is None:
        assert printable(name) == name
        assert name.encode("utf-8").decode("utf-8") == name


@pytest.mark.parametrize(
    "name", ["_SUCCESS", ".modeldrop-receipt.json", "run.json", "run.toml", "run.yaml", "run.yml"]
)
def test_what_says_something_of_a_run_is_no_artifact(name: str) -> None:
    assert not is_artifact_name(name)
    assert is_artifact_name(f"x{name}")


@given(ANY_TEXT)
def test_printed_name_drives_no_terminal_and_is_one_line_of_utf8(text: str) -> None:
    shown = printable(text)

    shown.encode("utf-8")
    assert not [each for each in shown if unicodedata.category(each) in {"Cc", "Zl", "Zp"}]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert len(f"a{shown}b".splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b", r"\x9b"),
        ("\u202e", r"\u202e"),
        (os.fsdecode(b"\xff"), r"\xff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_bad_character_is_printed_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
