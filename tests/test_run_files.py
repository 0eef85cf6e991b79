"""`run.toml`, `run.yaml`, `run.yml`, `run.json`: what they may say, and what nobody need fear."""

from __future__ import annotations

import json
import os
import re
import time
import tomllib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.form import canonical
from modeldrop.intake import declared, walk
from modeldrop.intake.declared import ORDER, Declared, Wish
from modeldrop.metadata import NOTHING, Code, Dataset, Environment, Metadata
from modeldrop.records import Refused

ROOT = Path(__file__).parents[1]
GUID = "3f2b8c1e-0d4a-4c6e-9b1f-2a7d5e8c9f01"
PARENT = "9d0f3c52-2b61-4a0e-8c77-5e1a6b3d9f04"
SHA = "ab" * 32
COMMIT = "8f3a1d2c4b5e6f708192a3b4c5d6e7f801234567"

TOML = f"""
experiment = "churn"
register = true
artifact = "model.onnx"
description = "ten times the data"
parent = "{{{PARENT.upper()}}}"
notes = [1, {{ mine = "own" }}]

[params]
depth = 6
learning_rate = 0.05
shuffle = true
since = 2026-03-14
layers = [64, 32]
seed = 9007199254740993

[params.optimizer]
name = "adam"
eps = 1e-08

[metrics]
auc = 0.912
loss = 1e-5
epochs = 30
worst = nan
best = -inf

[directions]
auc = "max"
loss = "min"

[tags]
team = "retention"
final = true

[datasets]
train = "{SHA}"
test = "sha256:{SHA.upper()}"

[code]
commit = "{COMMIT}"
dirty = false
branch = "main"

[environment]
host = "trainer-1"
packages = {{ scikit-learn = "1.7.2" }}
"""
YAML = f"""\
# The same, as YAML.
experiment: churn
register: true
artifact: model.onnx
description: ten times the data
parent: '{{{PARENT.upper()}}}'
notes:
  - 1
  - mine: own
params:
  depth: 6
  learning_rate: 0.05
  shuffle: true
  since: 2026-03-14
  layers: [64, 32]
  seed: 9007199254740993
  optimizer: {{name: adam, eps: 1e-8}}
metrics: {{auc: 0.912, loss: 1e-5, epochs: 30, worst: .nan, best: -.inf}}
directions: {{auc: max, loss: min}}
tags:
  team: retention
  final: true
datasets:
  train: {SHA}
  test: sha256:{SHA.upper()}
code: {{commit: {COMMIT}, dirty: false, branch: main}}
environment:
  host: trainer-1
  packages:
    scikit-learn: 1.7.2
"""
JSON = json.dumps(
    {
        **tomllib.loads(TOML),
        "params": {**tomllib.loads(TOML)["params"], "since": "2026-03-14"},
        "datasets": [{"name": "train", "sha256": SHA}, {"name": "test", "sha256": SHA}],
    }
)
METADATA = Metadata(
    params={
        "depth": 6,
        "learning_rate": "0.05",
        "shuffle": True,
        "since": "2026-03-14",
        "layers": "[64,32]",
        # No reader of JSON that has only doubles would keep it.
        "seed": "9007199254740993",
        "optimizer.name": "adam",
        "optimizer.eps": "1e-08",
    },
    metrics={"auc": "0.912", "loss": "1e-05", "epochs": "30", "worst": "nan", "best": "-inf"},
    directions={"auc": "max", "loss": "min"},
    tags={"team": "retention", "final": "true"},
    datasets=(Dataset("test", SHA), Dataset("train", SHA)),
    parent=PARENT,
    code=Code(COMMIT, dirty=False, branch="main"),
    environment=Environment(host="trainer-1", packages={"scikit-learn": "1.7.2"}),
)


def parsed(name: str, text: str | bytes) -> Declared:
    found = declared.parse(name, text if isinstance(text, bytes) else text.encode())
    assert isinstance(found, Declared), found
    return found


def refused(name: str, text: str | bytes) -> str:
    found = declared.parse(name, text if isinstance(text, bytes) else text.encode())
    assert isinstance(found, Refused), found
    assert found.path == name
    assert found.reason.isprintable()
    return found.reason


@pytest.mark.parametrize(
    ("name", "text"),
    [("run.toml", TOML), ("run.yaml", YAML), ("run.yml", YAML), ("run.json", JSON)],
    ids=ORDER,
)
def test_each_format_says_the_same(name: str, text: str) -> None:
    found = parsed(name, text)

    assert found.experiment == "churn"
    assert found.metadata == METADATA
    assert found.wish == Wish(name, "model.onnx", "ten times the data")
    assert found.register is True
    assert Metadata.from_json(METADATA.as_json(), "here") == METADATA


def test_the_example_of_the_docs_is_understood() -> None:
    page = (ROOT / "docs" / "metadata.md").read_text("utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = parsed("run.toml", example)
    assert found.metadata.params["optimizer.name"] == "adam"
    assert found.wish == Wish("run.toml", "model.onnx", "ten times the data")


@pytest.mark.parametrize("name", ORDER)
def test_nothing_said_is_nothing(name: str) -> None:
    empty = {"run.toml": ["", "# only a note\n"], "run.json": ["{}", '{"params": null}']}
    for text in empty.get(name, ["", "# only a note\n", "---\n", "~", "params:\n"]):
        assert parsed(name, text) == Declared()
        assert not parsed(name, text).metadata


def test_files_of_one_run_are_joined_and_the_first_counts(tmp_path: Path) -> None:
    run = tmp_path / GUID
    run.mkdir()
    (run / "run.json").write_text(
        json.dumps(
            {
                "experiment": "one",
                "register": True,
                "params": {"a": 1, "b": 2},
                "environment": {"host": "here", "python": "3.11"},
                "datasets": {"x": "0" * 64, "y": "1" * 64},
            }
        )
    )
    (run / "run.yaml").write_text("params: {a: 3, c: 4}\nregister: false\n")
    (run / "run.toml").write_text(
        'experiment = "two"\n[params]\na = 5\n[environment]\nhost = "there"\n'
        f'[datasets]\nx = "{SHA}"\n'
    )
    (run / "run.yml").write_text("params: [")
    seen = walk.observe(tmp_path, GUID)
    found, complaints = declared.read(tmp_path, GUID, seen.run_files)

    assert found.experiment == "two"
    assert found.metadata.params == {"a": 5, "b": 2, "c": 4}
    assert found.metadata.environment == Environment(host="there", python="3.11")
    assert found.metadata.datasets == (Dataset("x", SHA), Dataset("y", "1" * 64))
    # The one that speaks of it first says no.
    assert (found.register, found.wish) == (False, None)
    assert complaints == (Refused("run.yml", "it is no valid YAML"),)


def test_100_mb_are_refused_without_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / GUID
    run.mkdir()
    for name in ORDER:
        (run / name).touch()
        os.truncate(run / name, 100 << 20)
    seen = walk.observe(tmp_path, GUID)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    found, complaints = declared.read(tmp_path, GUID, seen.run_files)
    assert found == Declared()
    assert complaints == tuple(Refused(name, "it is larger than 256 KiB") for name in ORDER)


FULL = 1 << 18
BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)
HOSTILE = {
    "brackets": ("[" * FULL, "{" * FULL, '{"a":' * (FULL // 5), "x = " + "[" * (FULL - 4)),
    "yaml depth": ("- " * (FULL // 2), "? " * (FULL // 2), "a: " + "[" * (FULL - 3)),
    "yaml bomb": (BOMB, "a: &b 1\nc: *b\n", "a: &a [*a]\n", "&x a: 1\n", "a: *nowhere\n"),
    "yaml tags": (
        "params: !!python/object/apply:os.system [exit]",
        "a: !!binary aGVsbG8=",
        "a: !mine 1",
        "%TAG ! tag:evil,2026:\n---\na: !x 1",
    ),
    "toml dots": (
        "a." * (FULL // 2 - 2) + "a=1",
        "[" + "a." * 5000 + "a]\n" + "b=1\n" * 50_000,
        "[" + "a." * 500 + "a]\n" + "".join(f"{'b.' * 50}c{number}=1\n" for number in range(2000)),
        '"=".' * 60_000 + "a=1",
    ),
    "twice": ('{"a": 1, "a": 2}', '{"params": {"auc": 1, "auc": 2}}', "a: 1\na: 2\n", "a=1\na=2\n"),
    "documents": ("a: 1\n---\nb: 2\n",),
    "no table": ("[1, 2]", "- 1\n- 2\n", '"text"', "text", "7", "true"),
    "numbers": ('{"metrics": {"a": 1' + "0" * 200_000 + "}}", "a = 0x" + "f" * 200_000),
    "odd keys": ("? [a, b]\n: 1\n", "{a: 1}: 2\n"),
    "half": ('{"params": {"a": 1', "params: {a: 1", "[params\na = 1", 'a: "\n'),
    "control characters": ("a: \x00", "a: \x07", '{"a": "\x01"}', 'a = "\x00"'),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_answered_in_bounded_time_and_memory(kind: str) -> None:
    for text in HOSTILE[kind]:
        for name in ORDER:
            tracemalloc.start()
            began = time.monotonic()
            found = declared.parse(name, text.encode())
            took = time.monotonic() - began
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            if isinstance(found, Refused):
                assert found.reason.isprintable()
                assert len(found.reason) < 500
            # Generous: a machine that is busy, and every allocation traced.
            assert took < 10, (name, text[:40])
            assert peak < 200 << 20, (name, text[:40])


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("run.yaml", BOMB, "it has an anchor or an alias"),
        ("run.yaml", "a: !!python/name:os.system", "it has a tag"),
        ("run.yaml", "a: 1\na: 2", "it has a name twice"),
        ("run.json", '{"a": {"b": 1, "b": 1}}', "it has a name twice"),
        ("run.toml", "a = 1\na = 1", "it is no valid TOML"),
        ("run.yaml", "a: 1\n---\nb: 1", "it has more than one document"),
        ("run.yaml", "a: " + "[" * 30 + "]" * 30, "it is nested over 20 deep"),
        ("run.json", '{"a": ' + "[" * 30 + "]" * 30 + "}", "it is nested over 20 deep"),
        ("run.toml", "a." * 9000 + "a = 1", "it has lines with more dots"),
        ("run.yaml", "x: [" + "1," * 60_000 + "]", "it has more than 50000 values"),
        ("run.yaml", "[a]: 1", "a name in it is no text"),
        ("run.yaml", "- a", "it is no YAML object"),
        ("run.yaml", b"a: \xff", "it is not UTF-8"),
        ("run.toml", b"\xff\xfea", "it is not UTF-8"),
        ("run.json", '{"params": 7}', "its params are no table"),
        ("run.json", '{"metrics": {"auc": "good"}}', "its metric 'auc' is no number"),
        ("run.json", '{"metrics": {"auc": true}}', "its metric 'auc' is no number"),
        ("run.json", '{"metrics": {"auc": [1]}}', "its metric 'auc' is no number"),
        ("run.json", '{"directions": {"auc": "up"}}', "its direction of 'auc' is neither"),
        ("run.json", '{"datasets": {"a": "abc"}}', "its data set 'a' has no sha256"),
        ("run.json", '{"datasets": [{"name": "a"}]}', "its data set 'a' has no sha256"),
        ("run.json", '{"datasets": "a"}', "its data sets are neither a table"),
        ("run.json", '{"parent": "3f2b"}', "its parent is no run's GUID"),
        ("run.json", '{"code": {"commit": "main"}}', "its code has no commit"),
        ("run.json", f'{{"code": {{"commit": "{COMMIT}", "dirty": 1}}}}', "its code's 'dirty'"),
        ("run.json", '{"environment": {"packages": [1]}}', "its environment's 'packages'"),
        ("run.json", '{"params": {"": 1}}', "its parameter has no name"),
        ("run.json", '{"params": {"a\\u0007b": 1}}', r"its parameter 'a\\x07b' has a control"),
        ("run.json", '{"params": {"\\ud800": 1}}', r"its parameter '\\ud800' has a control"),
        ("run.json", '{"params": {"a": "\\ud800"}}', "its parameter 'a' is not UTF-8"),
        ("run.json", json.dumps({"params": {"a" * 251: 1}}), "its parameter 'aaaa"),
        ("run.json", json.dumps({"tags": {"a": "x" * 8001}}), "its tag 'a' is longer than 8000"),
        ("run.json", json.dumps({"params": {f"p{n}": n for n in range(1001)}}), "its params are m"),
        ("run.json", json.dumps({"tags": ["a"] * 1001}), "its tags are more than 1000"),
        ("run.json", '{"params": {"a.b": 1, "a": {"b": 2}}}', "its parameter 'a.b' is there twice"),
        ("run.json", '{"tags": [[1]]}', "its list of tags holds"),
        ("run.json", '{"register": "yes"}', "its register is neither true nor false"),
        ("run.json", '{"register": true, "artifact": 7}', "its artifact is no text"),
        ("run.json", '{"register": true, "description": "a\\u0000"}', "its description is longer"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named_with_its_reason(name: str, text: str | bytes, why: str) -> None:
    assert refused(name, text).startswith(why)


@pytest.mark.parametrize(
    ("bare", "kept"),
    [
        ("6", 6),
        ("-6", -6),
        ("007", "007"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("12:30:00", "12:30:00"),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("0.10", "0.1"),
        (".5", "0.5"),
        ("1e-3", "0.001"),
        ("1E400", "inf"),
        (".inf", "inf"),
        ("nan", "nan"),
        ("1.2.3", "1.2.3"),
        ("'6'", "6"),
        ('"true"', "true"),
        ("9007199254740991", 9007199254740991),
        ("9007199254740992", "9007199254740992"),
        ("9" * 200, "9" * 200),
    ],
)
def test_a_bare_word_of_yaml_is_what_yaml_1_2_takes_it_for(bare: str, kept: object) -> None:
    [value] = parsed("run.yaml", f"params: {{x: {bare}}}").metadata.params.values()
    assert (type(value), value) == (type(kept), kept)


def test_what_is_no_value_is_left_out_and_keys_of_ones_own_are_passed_over() -> None:
    text = '{"params": {"a": null, "b": ""}, "metrics": {"c": null}, "own": {"x": [null, {}]}}'
    assert parsed("run.json", text).metadata == Metadata(params={"b": ""})
    assert parsed("run.json", '{"parameters": {"a": 1}, "params": {"b": 2}}').metadata.params == {
        "a": 1,
        "b": 2,
    }
    assert parsed("run.yaml", "tags: [baseline, 7]").metadata.tags == {"baseline": "", "7": ""}


def test_what_looks_like_a_secret_is_the_users_own_and_kept() -> None:
    text = '{"params": {"token": "AKIAABCDEFGHIJKLMNOP", "url": "s3://k:v@host/?sig=abc"}}'
    assert parsed("run.json", text).metadata.params == {
        "token": "AKIAABCDEFGHIJKLMNOP",
        "url": "s3://k:v@host/?sig=abc",
    }
    # But what is wrong with a value is told without it.
    assert "AKIA" not in refused("run.json", '{"metrics": {"a": "AKIAABCDEFGHIJKLMNOP"}}')


# Whatever the bytes

PIECES = st.sampled_from(
    [
        *("params", "metrics", "tags", "datasets", "code", "environment", "register", "experiment"),
        *(":", "=", "{", "}", "[", "]", "\n", " ", "- ", ",", '"', "'", ".", "#", "|", ">", "---"),
        *("&a", "*a", "!!int", "? ", "<<", "1", "1e5", "nan", ".inf", "true", "null", "\x00", "\t"),
        *("\ud800", "é", "\u2028", "9" * 50, "2026-03-14", "\\u0000", "0x", SHA, COMMIT, PARENT),
    ]
)


@given(
    st.sampled_from(ORDER),
    st.binary() | st.lists(PIECES).map(lambda each: "".join(each).encode("utf-8", "surrogatepass")),
)
def test_whatever_the_bytes_there_is_an_answer_that_can_be_kept(name: str, data: bytes) -> None:
    kept_or_refused(declared.parse(name, data))


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["min", "max", SHA, COMMIT, PARENT])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("experiment", "params", "parameters", "metrics", "directions", "tags", "datasets"),
        *("parent", "code", "environment", "register", "artifact", "description", "own"),
    ]
)


@given(st.dictionaries(KEYS, TREES))
def test_whatever_json_says_there_is_an_answer_that_can_be_kept(found: dict[str, object]) -> None:
    kept_or_refused(declared.parse("run.json", json.dumps(found).encode()))


def kept_or_refused(found: Declared | Refused) -> None:
    if isinstance(found, Refused):
        assert found.reason.isprintable()
        assert len(found.reason) < 500
        return
    # It can be written down, and is read back as it was.
    fields = found.metadata.as_json()
    assert canonical(fields).decode("utf-8")
    assert Metadata.from_json(json.loads(canonical(fields)), "here") == found.metadata
    for each in found.metadata.metrics.values():
        assert repr(float(each)) == each or str(int(each)) == each
    assert bool(fields) == bool(found.metadata)
    assert found.metadata.over(NOTHING) == found.metadata
    assert not found.metadata.adds_to(found.metadata)
