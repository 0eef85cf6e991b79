"""What a run says of itself: `_SUCCESS`, `run.toml` and `run.json`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldrop.errors import SourceChanged
from modeldrop.intake import declared, marker, walk
from modeldrop.intake.declared import Declared
from modeldrop.intake.marker import Marker
from modeldrop.intake.observation import Observation, SeenFile, Signature
from modeldrop.records import Refused

GUID = "3f2b8c1e-0d4a-4c6e-9b1f-2a7d5e8c9f01"
SHA = "ab" * 32


def observed(*paths: str, **more: object) -> Observation:
    files = tuple(SeenFile(path, Signature(1, 2, 3, 4, 5)) for path in sorted(paths))
    return Observation(files=files, **more)  # type: ignore[arg-type] # a test's shorthand


def parsed(text: str | bytes) -> Marker:
    found = marker.parse(text.encode() if isinstance(text, str) else text)
    assert isinstance(found, Marker), found
    return found


def refused(text: str | bytes) -> str:
    found = marker.parse(text.encode() if isinstance(text, str) else text)
    assert isinstance(found, Refused), found
    assert found.path == "_SUCCESS"
    return found.reason


@pytest.mark.parametrize("text", ["", "\n", " \r\n\n"])
def test_an_empty_marker_asks_for_nothing(text: str) -> None:
    assert parsed(text) == Marker()
    assert parsed(text).check(observed()) == ()


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs coreutils")
@pytest.mark.parametrize("option", ["--text", "--binary", "--tag"])
def test_what_sha256sum_writes_is_understood(tmp_path: Path, option: str) -> None:
    names = ["model.pt", "a  b", " *x", "…", "-rf", "a'b", "(1) = 2"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "0").write_text("sub/0")
    paths = [*names, "sub/0"]
    listed = subprocess.run(
        ["sha256sum", option, "--", *paths], cwd=tmp_path, check=True, stdout=subprocess.PIPE
    )
    found = parsed(listed.stdout)
    assert set(found.paths) == set(paths)
    assert found.digests == {path: hashlib.sha256(path.encode()).hexdigest() for path in paths}


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs coreutils")
@pytest.mark.parametrize("option", ["--text", "--tag"])
@pytest.mark.parametrize("name", ["new\nline", "back\\slash"])
def test_a_name_that_sha256sum_escapes_is_refused_clearly(
    tmp_path: Path, name: str, option: str
) -> None:
    (tmp_path / name).touch()
    listed = subprocess.run(
        ["sha256sum", option, name], cwd=tmp_path, check=True, stdout=subprocess.PIPE
    )
    assert refused(listed.stdout) == (
        "line 1: a file name with a newline or a backslash can't be stored"
    )


@pytest.mark.parametrize("program", ["md5sum", "sha1sum", "sha512sum", "b2sum"])
def test_other_digests_are_refused_and_not_waited_for(tmp_path: Path, program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"needs {program}")
    (tmp_path / "model.pt").touch()
    for option in ("--binary", "--tag"):
        listed = subprocess.run(
            [program, option, "model.pt"], cwd=tmp_path, check=True, stdout=subprocess.PIPE
        )
        assert refused(listed.stdout) == "line 1: only sha256 digests are understood"


def test_bare_paths_are_understood() -> None:
    found = parsed("model.pt\r\n./sub//0\nsub/\n\n-rf\nno newline at the end")
    assert found.paths == ("model.pt", "sub/0", "sub", "-rf", "no newline at the end")
    assert found.digests == {}


def test_a_leading_dot_a_byte_order_mark_and_capitals_make_no_difference() -> None:
    found = parsed(b"\xef\xbb\xbf" + f"{SHA.upper()}  ./model.pt\n".encode())
    assert found == Marker(("model.pt",), {"model.pt": SHA})


def test_what_is_never_stored_may_be_listed() -> None:
    own = ["_SUCCESS", ".modeldrop-receipt.json", "run.toml", "model.pt"]
    found = parsed("".join(f"{SHA}  {name}\n" for name in own))
    assert found.paths == ("run.toml", "model.pt")
    assert found.digests == {"model.pt": SHA}
    run_file = SeenFile("run.toml", Signature(1, 2, 3, 4, 5))
    assert found.check(observed("model.pt")) == ("run.toml",)
    assert found.check(observed("model.pt", run_files=(run_file,))) == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/etc/passwd", "'/etc/passwd' is not relative to the run"),
        ("../other/x", "'../other/x' is no path in the run"),
        ("./", "'./' is no path in the run"),
        ("a\x1b[2Jb", "'a\\\\x1b[2Jb' can't be stored: its name has a control character"),
        (f"{SHA}  a\\b", "'a\\\\b' can't be stored: its name has a backslash"),
        (f"{SHA}  a\n{'0' * 64}  ./a", "'a' has two digests"),
    ],
)
def test_what_can_not_be_understood_has_a_printable_reason(text: str, reason: str) -> None:
    found = refused(text)
    assert found.partition(": ")[2] == reason
    assert "\x1b" not in found


def test_the_line_is_named() -> None:
    assert refused(b"a\nb\n/c\n").startswith("line 3: ")
    assert refused(b"a\nb\xff\n") == "it is not UTF-8"


def test_missing_files_are_named_in_the_order_of_the_list() -> None:
    found = parsed(f"b\n{SHA}  a\nc/d\nc/e\n")
    assert found.check(observed("c/d")) == ("b", "a", "c/e")
    assert found.check(observed("a", "b", "c/d", "c/e", "more")) == ()


def test_a_bare_path_may_be_a_folder_and_a_digest_may_not() -> None:
    assert parsed("model\n").check(observed("model/0")) == ()
    assert parsed(f"{SHA}  model\n").check(observed("model/0")) == ("model",)
    assert parsed("model\n").check(observed("model-2/0")) == ("model",)


def test_a_temporary_file_is_not_there_and_a_refused_one_is() -> None:
    found = parsed("x.tmp\nlink\nfolder/file\n")
    seen = observed("a", temporary=("x.tmp",), refused=(Refused("link", ""), Refused("folder", "")))
    assert found.check(seen) == ("x.tmp",)


@given(st.binary())
@settings(deadline=None)
def test_no_bytes_raise(data: bytes) -> None:
    found = marker.parse(data)
    if isinstance(found, Marker):
        found.check(observed("a"))
        assert set(found.digests) <= set(found.paths)
    else:
        assert found.reason.isprintable()


def test_markers_are_read_as_they_were_seen_and_never_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / GUID
    run.mkdir()
    (run / "_SUCCESS").write_text("model.pt\n")
    (run / "run.toml").write_text('experiment = "churn"\n')
    seen = walk.observe(tmp_path, GUID)
    assert seen.marker is not None
    assert marker.read(tmp_path, GUID, seen.marker) == Marker(("model.pt",))
    assert declared.read(tmp_path, GUID, seen.run_files) == (Declared("churn"), ())
    for path in ("_SUCCESS", "run.toml"):
        os.truncate(run / path, 17 << 20)
    with pytest.raises(SourceChanged):
        marker.read(tmp_path, GUID, seen.marker)
    seen = walk.observe(tmp_path, GUID)
    assert seen.marker is not None
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    assert marker.read(tmp_path, GUID, seen.marker) == Refused(
        "_SUCCESS", "it is larger than 16 MiB"
    )
    complaint = Refused("run.toml", "it is larger than 256 KiB")
    assert declared.read(tmp_path, GUID, seen.run_files) == (Declared(), (complaint,))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("run.toml", 'experiment = "churn"\n[mine]\nx = 1.5', Declared("churn")),
        ("run.json", '\ufeff{"experiment": "churn", "lr": 0.1, "notes": [1]}', Declared("churn")),
        ("run.toml", "", Declared()),
        ("run.json", '{"experiment": null}', Declared()),
        ("run.json", "{}", Declared()),
        ("run.toml", "experiment = churn", "it is no valid TOML"),
        ("run.json", "", "it is no valid JSON"),
        ("run.json", "[" * 100_000, "it is no valid JSON"),
        ("run.toml", "x = " + "[" * 100_000, "it is no valid TOML"),
        ("run.json", "[]", "it is no JSON object"),
        ("run.json", '{"experiment": 7}', "its experiment is no text"),
        ("run.json", '{"experiment": "a\\u001b/b"}', r"its experiment: 'a\\x1b/b' is no valid"),
        ("run.json", '{"experiment": "\\ud800"}', r"its experiment: '\\ud800' is no valid"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_experiment_is_read_or_the_reason_why_not(
    name: str, text: str, expected: Declared | str
) -> None:
    found = declared.parse(name, text.encode())
    if isinstance(expected, str):
        assert isinstance(found, Refused)
        assert found.path == name
        assert found.reason.startswith(expected)
    else:
        assert found == expected


def test_a_declaration_that_is_not_utf8_has_a_reason() -> None:
    assert declared.parse("run.json", b"\xff") == Refused("run.json", "it is not UTF-8")
