"""Keys and paths: one place for each thing, and no two things in one place."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modeldrop import layout
from modeldrop.backend.base import check_key
from modeldrop.files import TEMP_PREFIX
from modeldrop.layout import HomePaths, encode_path, number_of, numbered
from modeldrop.names import refuse_path

RUN = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
COMPONENT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=90)
PATH = (
    st.lists(COMPONENT, min_size=1, max_size=9).map("/".join).filter(lambda p: not refuse_path(p))
)
# Those that an encoding could easily make one of.
TRICKY = (
    st.lists(st.text(".%~/2Ee5é\u0301 -", min_size=1, max_size=6), min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda p: not refuse_path(p))
)


@given(PATH | TRICKY, PATH | TRICKY)
@example("a.b", "a%2Eb")
@example(".a", "%2Ea")
@example("~" + "0" * 64, "x" * 300)
@example("é", "e\u0301")
def test_two_paths_have_two_keys(one: str, other: str) -> None:
    assert (encode_path(one) == encode_path(other)) == (one == other)


@given(PATH | TRICKY)
def test_key_of_a_path_reads_the_same_in_a_url_a_shell_and_a_file_system(path: str) -> None:
    key = encode_path(path)

    assert re.fullmatch(r"~?[A-Za-z0-9._/%-]+", key)
    assert check_key(f"{RUN}/{key}")
    assert not any(part.startswith((".", TEMP_PREFIX)) for part in key.split("/"))
    assert all(len(part) <= 255 for part in key.split("/"))
    assert len(key) <= 700


@given(PATH | TRICKY)
def test_key_that_isnt_hashed_decodes_to_its_path(path: str) -> None:
    key = encode_path(path)

    if not key.startswith("~"):
        raw = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), key.encode())
        assert raw.decode() == path


def test_long_path_is_hashed_as_a_whole_and_only_then() -> None:
    assert encode_path("a" * 200) == "a" * 200
    assert re.fullmatch("~[0-9a-f]{64}", encode_path("a" * 201))
    assert re.fullmatch("~[0-9a-f]{64}", encode_path("/".join(["a" * 100] * 8)))
    assert encode_path("x/" + "a" * 201) != encode_path("y/" + "a" * 201)


def test_upload_ids_are_readable_sort_by_time_and_are_never_given_twice() -> None:
    made = [layout.new_upload_id() for _ in range(1000)]

    assert len(set(made)) == 1000
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{16}", each) for each in made)


@given(st.integers(1, 10**9))
def test_number_of_a_record_is_in_its_key(number: int) -> None:
    assert number_of(numbered("x/versions", number)) == number


@pytest.mark.parametrize(
    "name",
    [
        *("00000000.json", "0000001.json", "000000001.json", "00000001.jsonl", "00000001"),
        *("0000000a.json", ".tmp-00000001.json", "00000001.json.tmp", "\u0660" * 7 + "\u0661.json"),
    ],
)
def test_what_is_no_record_of_a_sequence_has_no_number(name: str) -> None:
    assert number_of(f"x/versions/{name}") is None


def test_keys_are_those_of_the_specification() -> None:
    assert layout.bytes_key(RUN, "U", "a b/.c") == f"{RUN}/U/a%20b/%2Ec"
    assert layout.numbered(layout.revisions(RUN), 3) == f"{RUN}/revisions/00000003.json"
    experiment = ".modeldrop/experiments/churn"
    assert layout.numbered(layout.versions("churn"), 12) == f"{experiment}/versions/00000012.json"
    assert layout.registration("churn", "o") == f"{experiment}/registrations/o.json"
    assert layout.registration_done("churn", "o") == f"{experiment}/registrations/o.done.json"
    assert layout.aliases("churn") == f"{experiment}/aliases"
    assert layout.moves("churn", "champion") == f"{experiment}/aliases/champion"
    assert layout.FORMAT_KEY == ".modeldrop/format.json"
    assert layout.probe("p") == ".modeldrop/probes/p.json"


def test_only_a_canonical_guid_is_a_runs_folder() -> None:
    assert layout.is_run_folder(RUN)
    assert not layout.is_run_folder(RUN.upper())
    assert not layout.is_run_folder(RUN.replace("-", ""))
    assert not layout.is_run_folder(".modeldrop")


def test_every_path_of_a_home_is_in_it_and_no_two_are_one() -> None:
    paths = HomePaths(Path(os.sep) / "srv" / "home")
    every = [value for value in vars(paths).values() if value != paths.root]
    every += [
        paths.counter("churn"),
        paths.counter_lock("churn"),
        paths.counter("churn@champion"),
        paths.counter_lock("churn@champion"),
        paths.run_lock(RUN),
        paths.journal_lock(),
        paths.service_lock(),
        paths.group_lock(),
        paths.run_state(RUN),
        paths.standing(RUN),
        paths.spent_marker(RUN),
        paths.status(),
        paths.cached("a" * 64, "model.onnx"),
    ]

    assert len(set(every)) == len(every)
    assert all(paths.root in each.parents for each in every)
    assert set(paths.folders()) >= {paths.intents, paths.status().parent}
