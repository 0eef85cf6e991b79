"""Records: bytes and back, sealed by a digest that other tools can make too."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop import form
from modeldrop.errors import NewerFormat, RecordDamaged, UsageError
from modeldrop.form import Fields, canonical, seal, unseal
from modeldrop.records import (
    Artifact,
    Registration,
    Revision,
    StoredFile,
    Version,
    folder_sha256,
    registration_owner,
)
from modeldrop.structs import replace
from support.format_examples import EXAMPLES, HELLO, RUN

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abé\n"), inner, max_size=3)
    ),
    max_leaves=8,
)
# What `docs/format.md` tells a person with a shell to run in a folder.
IN_A_SHELL = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"


def sealed(fields: Fields) -> bytes:
    """Return a record of these fields, whatever they are, with the right digest."""
    digest = hashlib.sha256(canonical(fields)).hexdigest()
    return json.dumps({**fields, "record_sha256": digest}).encode()


def fields_of(data: bytes) -> Fields:
    """Return the fields of a record without its digest."""
    found: Fields = json.loads(data)
    del found["record_sha256"]
    return found


def in_a_shell(pipeline: str, folder: Path) -> str:
    """Return the digest that a pipeline of shell commands makes in a folder."""
    done = subprocess.run(["sh", "-c", pipeline], cwd=folder, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode().split()[0]


@given(st.dictionaries(st.text("abé\n"), JSON, max_size=3))
def test_a_record_is_indented_as_everybody_indents_by_two_spaces(fields: Fields) -> None:
    data = seal("note", fields)
    found = json.loads(data)
    text = json.dumps(found, ensure_ascii=False, sort_keys=True, indent=2)
    assert data == f"{text}\n".encode()


REVISION = EXAMPLES["revision"]
VERSION = EXAMPLES["version"]


@pytest.mark.parametrize("kind", EXAMPLES)
def test_record_is_read_back_as_it_was_written(kind: str) -> None:
    record = EXAMPLES[kind]

    assert type(record).from_bytes(record.to_bytes(), "here") == record


@given(st.dictionaries(st.text("abcé").filter(bool), JSON))
def test_sealed_fields_are_unsealed_again(fields: Fields) -> None:
    data = seal("thing", fields)

    assert {**fields, **unseal(data, "thing", "here")} == unseal(data, "thing", "here")
    assert data.decode("utf-8").endswith("\n}\n")


def test_digest_is_that_of_the_compact_sorted_form_without_itself() -> None:
    data = seal("thing", {"b": [1, True, None], "a": 'é "\u2028'})

    compact = '{"a":"é \\"\u2028","b":[1,true,null],"format":1,"kind":"thing"}'
    assert json.loads(data)["record_sha256"] == hashlib.sha256(compact.encode()).hexdigest()


def test_digest_is_what_a_shell_makes_of_the_file(tmp_path: Path) -> None:
    # As `jq -cjS 'del(.record_sha256)' FILE | sha256sum`, without jq: a record is one field a
    # line, so sed and tr can do the same for records without spaces in their texts.
    (tmp_path / "record.json").write_bytes(EXAMPLES["registration-done"].to_bytes())
    said = in_a_shell(
        "sed -e '/record_sha256/d' -e 's/^ *//' -e 's/\": /\":/' record.json"
        " | tr -d '\\n' | sha256sum",
        tmp_path,
    )

    record = json.loads((tmp_path / "record.json").read_bytes())
    assert said == record["record_sha256"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"\0" * 100, "it is no JSON"),
        (b"{", "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[1]", "no JSON object"),
        (b'"text"', "no JSON object"),
        (b"{}", "digest"),
        (b'{"a": NaN}', "canonical form"),
        (b'{"a": 1e999}', "canonical form"),
        (b'{"a": "\\ud800"}', "canonical form"),
        (b'{"a": ' + b"1" * 5000 + b"}", "it is no JSON"),
    ],
)
def test_what_is_no_record_is_damaged_and_named(data: bytes, why: str) -> None:
    with pytest.raises(RecordDamaged, match=why) as caught:
        unseal(data, "thing", "the/key")

    assert "the/key" in caught.value.message
    assert caught.value.detail == {"where": "the/key"}


def test_json_of_any_depth_is_damaged_and_no_crash() -> None:
    for depth in (*range(900, 1010), 100_000):
        with pytest.raises(RecordDamaged):
            unseal(b'{"a":' + b"[" * depth + b"]" * depth + b"}", "thing", "here")


def test_every_cut_of_a_record_is_damaged() -> None:
    data = VERSION.to_bytes()

    # Only the newline at the end says nothing.
    for end in range(len(data) - 1):
        with pytest.raises(RecordDamaged):
            Version.from_bytes(data[:end], "here")


@pytest.mark.parametrize("number", [0, -1, None, "1", "2", True, [1]])
def test_format_that_is_none_is_damaged(number: object) -> None:
    with pytest.raises(RecordDamaged, match="is no format"):
        unseal(sealed({"format": number, "kind": "thing"}), "thing", "here")  # type: ignore[dict-item] # no format


def test_record_of_a_later_format_is_news_only_if_it_is_whole() -> None:
    whole = sealed({"format": 2, "kind": "thing", "needs": "modeldrop 2.0"})

    with pytest.raises(NewerFormat, match="of format 2") as caught:
        unseal(whole, "thing", "here")
    assert caught.value.hint == "use modeldrop 2.0 or later"

    with pytest.raises(RecordDamaged):
        unseal(whole.replace(b'"format": 2', b'"format": 3'), "thing", "here")


def test_record_of_another_kind_is_damaged() -> None:
    with pytest.raises(RecordDamaged, match="no record of kind 'version'"):
        Version.from_bytes(REVISION.to_bytes(), "here")


@pytest.mark.parametrize("kind", EXAMPLES)
def test_field_that_is_missing_or_of_another_type_is_damaged(kind: str) -> None:
    record = EXAMPLES[kind]
    fields = fields_of(record.to_bytes())

    for name, value in fields.items():
        if name in {"format", "kind"}:
            continue
        wrong: Fields = {**fields, name: 1.5 if isinstance(value, bool) else True}  # type: ignore[dict-item] # a float, which records never hold
        with pytest.raises(RecordDamaged, match=name):
            type(record).from_bytes(sealed(wrong), "here")
        if name == "formats":
            continue  # it may be missing; see below
        may_be_null = {"experiment", "endpoint", "before", "require_alias", "metadata", "origin"}
        if kind == "target":
            may_be_null.add("url")
        if value is not None and name not in may_be_null:
            missing = {key: each for key, each in fields.items() if key != name}
            with pytest.raises(RecordDamaged, match=name):
                type(record).from_bytes(sealed(missing), "here")


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "", ".", "..", "/etc", "a\nb", "back\\slash", "nul\0"]
)
def test_manifest_whose_names_lead_out_of_a_folder_is_damaged(name: str) -> None:
    file = StoredFile(name, HELLO, 5, f"{RUN}/U/x")

    for artifact in (
        Artifact.of_file(file),
        Artifact.of_folder(name, [StoredFile("a", HELLO, 5, "k")]),
        Artifact.of_folder("folder", [StoredFile(f"{name}/..", HELLO, 5, "k")]),
    ):
        fields: Fields = {**fields_of(REVISION.to_bytes()), "artifacts": [artifact.as_json()]}
        with pytest.raises(RecordDamaged):
            Revision.from_bytes(sealed(fields), "here")


@pytest.mark.parametrize(
    ("field", "value"), [("sha256", "0" * 64), ("size", 6), ("type", "link"), ("type", "folder")]
)
def test_artifact_that_doesnt_match_its_files_is_damaged(field: str, value: str | int) -> None:
    artifact = Artifact.of_file(StoredFile("m", HELLO, 5, "k")).as_json()
    fields = fields_of(REVISION.to_bytes())

    with pytest.raises(RecordDamaged, match="'m'"):
        Revision.from_bytes(sealed({**fields, "artifacts": [{**artifact, field: value}]}), "here")


def test_text_that_is_no_utf8_is_refused_before_it_is_written() -> None:
    with pytest.raises(UsageError, match=r"\\xff"):
        seal("thing", {"a": "\udcff"})


def test_owner_of_a_registration_is_the_digest_of_what_is_registered() -> None:
    said = f'["churn","{RUN}","é","{HELLO}",null]'

    assert registration_owner("churn", RUN, "é", HELLO, None) == (
        hashlib.sha256(said.encode()).hexdigest()
    )
    every = [
        registration_owner(*each)
        for each in (
            ("churn", RUN, "m", HELLO, None),
            ("other", RUN, "m", HELLO, None),
            ("churn", RUN[:-1] + "1", "m", HELLO, None),
            ("churn", RUN, "n", HELLO, None),
            ("churn", RUN, "m", HELLO[::-1], None),
            ("churn", RUN, "m", HELLO, "again"),
            ("churn", RUN, "m", HELLO, "null"),
        )
    ]
    assert len(set(every)) == len(every)


def test_owner_is_read_from_any_whole_record() -> None:
    assert form.owner_of(VERSION.to_bytes(), "here") == json.loads(VERSION.to_bytes())["owner"]
    with pytest.raises(RecordDamaged, match="'owner'"):
        form.owner_of(EXAMPLES["head"].to_bytes(), "here")


def write_folder(folder: Path, contents: dict[str, bytes]) -> str:
    """Write files into a folder; return the digest that modeldrop gives it."""
    for path, data in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder_sha256((p, hashlib.sha256(d).hexdigest()) for p, d in contents.items())


def test_digest_of_a_folder_is_what_a_shell_makes_of_it(tmp_path: Path) -> None:
    # Where sorting by another rule, or by component, or of whole lines would differ.
    names = ["B", "a", "é", "a b", "a-b", "a/b", "a.b", "A/z", "a/é/x", "_", "10", "9", "日本", "~"]
    digest = write_folder(tmp_path, {f"{name}.bin": name.encode() * 3 for name in names})
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "a.bin").chmod(0o600)

    assert in_a_shell(IN_A_SHELL, tmp_path) == digest
    sorted_last = (
        "find . -type f -printf '%P\\n' | xargs -d '\\n' sha256sum | LC_ALL=C sort -k2 | sha256sum"
    )
    assert in_a_shell(sorted_last, tmp_path) == digest


def test_shell_pipeline_of_the_specification_is_the_one_that_was_checked() -> None:
    page = Path(__file__).parents[1] / "docs" / "format.md"

    assert f"\n    {IN_A_SHELL}\n" in page.read_text("utf-8")


@given(st.dictionaries(st.text("ab/é", min_size=1), st.binary(max_size=2), min_size=1))
def test_digest_of_a_folder_says_every_name_and_byte_and_no_order(
    contents: dict[str, bytes],
) -> None:
    files = [(path, hashlib.sha256(data).hexdigest()) for path, data in contents.items()]

    assert folder_sha256(files) == folder_sha256(reversed(files))
    path, digest = files[0]
    assert folder_sha256([(path + "x", digest), *files[1:]]) != folder_sha256(files)
    assert folder_sha256([(path, "0" * 64), *files[1:]]) != folder_sha256(files)
    assert folder_sha256(files[1:]) != folder_sha256(files)


def test_whole_run_is_one_folder_of_all_its_files() -> None:
    assert isinstance(REVISION, Revision)
    whole = REVISION.whole()

    assert whole.artifact == "."
    assert [file.path for file in whole.files] == [
        "model.onnx",
        "tokenizer/added tokens.json",
        "tokenizer/vocab.txt",
    ]
    assert whole.sha256 == folder_sha256((file.path, file.sha256) for file in whole.files)


def test_nonce_alone_may_be_null_in_a_registration() -> None:
    fields = fields_of(EXAMPLES["registration"].to_bytes())

    assert Registration.from_bytes(sealed(fields), "here").nonce is None
    with pytest.raises(RecordDamaged):
        Registration.from_bytes(sealed({**fields, "sha256": None}), "here")


def test_what_files_are_is_left_out_of_a_manifest_where_nothing_is_known() -> None:
    example = EXAMPLES["revision"]
    assert isinstance(example, Revision)
    bare = replace(example, formats=())
    assert "formats" not in bare.as_json()
    assert Revision.from_bytes(bare.to_bytes(), "here") == bare
    assert Revision.from_bytes(example.to_bytes(), "here") == example
    assert [each.path for each in example.formats_of(example.artifacts[0])] == ["model.onnx"]
    assert example.formats_of(example.artifacts[1]) == ()


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("digest", ["\u202e", "", "../" * 20 + "abcd", "A" * 64])
def test_digest_of_a_file_that_is_none_is_damage(kind: str, digest: str) -> None:
    good = hashlib.sha256(b"").hexdigest()
    file = StoredFile("model", good, 0, "key")
    whole = Artifact.of_file(file) if kind == "file" else Artifact.of_folder("a", [file])
    assert Artifact.from_json(whole.as_json(), "here") == whole
    found = json.loads(json.dumps(whole.as_json()).replace(good, digest))

    with pytest.raises(RecordDamaged, match="is no digest"):
        Artifact.from_json(found, "here")
