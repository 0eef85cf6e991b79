"""Signatures of versions and OpenSSF's own tool: each takes what the other one wrote."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from modeldrop import Repository, keys
from modeldrop.errors import (
    SignatureWrong,
)
from modeldrop.names import new_guid
from modeldrop.openssf import MOST, read, uncovered
from modeldrop.records import Artifact
from modeldrop.structs import replace
from support import openssf
from support.sharing import host, store
from support.signing import key_pair
from support.stores import commit


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def ada(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    with host(tmp_path / "ada", str(backend)) as made:
        made.create_key()
        yield made


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key for models, as files, as openssl would make them."""
    return key_pair(tmp_path / "team", ec.SECP256R1())


@pytest.fixture
def tool(required: bool) -> None:
    """OpenSSF's own tool, which the test is skipped without."""
    missing = openssf.is_missing()
    if missing is not None:
        if required:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)


def folder_of(root: Path, *more: str) -> Path:
    """Make a model that is a folder, with names whose order depends on how paths are compared."""
    for name in ("config.json", "a/weights.bin", "a-b.bin", "a/b/c.txt", "ä ö.txt", *more):
        path = root / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"bytes of {name}")
    return root / "model"


def registered(repository: Repository, path: Path) -> str:
    """Store a model and register it; return the version's reference."""
    run = new_guid()
    repository.upload(run, path)
    version = repository.register(f"run:{run}", "churn").version
    return f"{version.experiment}/{version.version}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=("256", "384", "521")
)
def test_what_is_signed_here_is_right_to_the_tool_on_what_was_pulled(
    ada: Repository, tmp_path: Path, tool: None, curve: ec.EllipticCurve
) -> None:
    private, public = key_pair(tmp_path / "key", curve)
    name = registered(ada, folder_of(tmp_path))
    ada.sign(name, key=private)
    resolved, artifact = ada.artifact(name)
    pulled = ada.pull(name, tmp_path / "there")
    (signature,) = ada.put_signatures(ada.signature_files(resolved, artifact), tmp_path / "there")

    assert signature == pulled.with_name("model.sig")
    assert openssf.verify(pulled, public, signature)[0]
    (pulled / "a-b.bin").write_text("bytes of another one")
    assert not openssf.verify(pulled, public, signature)[0]


@pytest.mark.slow
def test_a_file_and_a_homes_own_key_are_right_to_the_tool_as_well(
    ada: Repository, tmp_path: Path, tool: None
) -> None:
    name = store(ada, "weights")
    ada.sign(name)
    public = tmp_path / "home.pub"
    public.write_text(keys.pem_of(ada.create_key().key.models))
    resolved, artifact = ada.artifact(name)
    pulled = ada.pull(name, tmp_path / "there")
    (signature,) = ada.put_signatures(ada.signature_files(resolved, artifact), tmp_path / "sig")

    assert openssf.verify(pulled, public, signature)[0]
    pulled.write_text("other weights")
    assert not openssf.verify(pulled, public, signature)[0]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["folder", "file", "whole run"])
def test_what_the_tool_signed_is_right_here_after_it_was_dropped(
    ada: Repository, tmp_path: Path, tool: None, pair: tuple[Path, Path], what: str
) -> None:
    private, public = pair
    path = folder_of(tmp_path)
    if what == "file":
        path /= "config.json"
    signature = tmp_path / "theirs.sig"
    openssf.sign(path, private, signature)
    if what == "whole run":
        texts = {str(each.relative_to(path)): each for each in path.rglob("*") if each.is_file()}
        run = new_guid()
        commit(ada, {name: each.read_text() for name, each in texts.items()}, run)
        name = ada.register(f"run:{run}", "churn", ".").version.experiment + "/1"
    else:
        name = registered(ada, path)

    added = ada.sign(name, signature=signature)
    assert added.created
    assert not ada.sign(name, signature=signature).created
    (judged,) = ada.signatures(name, [public])
    assert (judged.signer, judged.trouble) == (str(public), "")
    assert ada.verify(name, signed=True, public_keys=[public]).ok
    # By another key it is nobody's.
    _, other = key_pair(tmp_path / "other", ec.SECP256R1())
    report = ada.verify(name, signed=True, public_keys=[other])
    assert [each.what for each in report.findings] == [
        "none of its signatures is by a key that is trusted here"
    ]


@pytest.mark.slow
def test_signature_that_lies_in_the_model_is_the_one_file_that_it_need_not_name(
    ada: Repository, tmp_path: Path, tool: None, pair: tuple[Path, Path]
) -> None:
    path = folder_of(tmp_path)
    signature = path / "model.sig"
    openssf.sign(path, pair[0], signature)
    name = registered(ada, path)
    ada.sign(name, signature=signature)
    assert ada.verify(name, signed=True, public_keys=[pair[1]]).ok
    # Something else that was put in its place is named by nobody.
    other = folder_of(tmp_path / "more")
    (other / "model.sig").write_text("something else")
    with pytest.raises(SignatureWrong, match=r"doesn't name model\.sig"):
        ada.sign(registered(ada, other), signature=signature)


@pytest.mark.slow
def test_git_files_that_the_tool_leaves_out_by_itself_are_missed(
    ada: Repository, tmp_path: Path, tool: None, pair: tuple[Path, Path]
) -> None:
    path = folder_of(tmp_path, ".gitattributes")
    name = registered(ada, path)
    signature = tmp_path / "theirs.sig"
    openssf.sign(path, pair[0], signature)
    with pytest.raises(SignatureWrong, match=r"doesn't name \.gitattributes") as caught:
        ada.sign(name, signature=signature)
    assert "--no-ignore-git-paths" in caught.value.hint
    openssf.sign(path, pair[0], signature, "--no-ignore-git-paths")
    ada.sign(name, signature=signature)
    ours = tmp_path / "ours.sig"
    ada.sign(name)
    resolved, artifact = ada.artifact(name)
    files = ada.signature_files(resolved, artifact)
    mine = keys.hint_of(ada.create_key().key.models)
    ours.write_bytes(next(data for data in files.values() if mine.encode() in data))
    public = tmp_path / "home.pub"
    public.write_text(keys.pem_of(ada.create_key().key.models))
    assert openssf.verify(path, public, ours, "--no-ignore-git-paths")[0]


def signed(ada: Repository, tmp_path: Path) -> tuple[bytes, Artifact]:
    """Return a signature of a folder, and what it is over."""
    name = registered(ada, folder_of(tmp_path))
    ada.sign(name)
    resolved, artifact = ada.artifact(name)
    (data,) = ada.signature_files(resolved, artifact).values()
    return data, artifact


def test_signature_that_leaves_a_file_of_the_model_out_is_not_over_it(
    ada: Repository, tmp_path: Path
) -> None:
    data, artifact = signed(ada, tmp_path)
    bundle = read(data, "")
    fewer = {path: digest for path, digest in bundle.files.items() if path != "config.json"}

    assert uncovered(bundle, artifact) == ""
    assert uncovered(replace(bundle, files=fewer), artifact) == "it doesn't name config.json"


def test_signature_whose_files_lack_the_digest_of_all_of_them_is_refused(
    ada: Repository, tmp_path: Path
) -> None:
    data, _ = signed(ada, tmp_path)
    found = json.loads(data)
    statement = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    statement["predicate"]["resources"][0]["digest"] = "0" * 64
    payload = base64.b64encode(json.dumps(statement).encode()).decode()
    found["dsseEnvelope"]["payload"] = payload

    with pytest.raises(SignatureWrong, match="the digest that it gives for all of them"):
        read(json.dumps(found).encode(), "")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(lambda said: said.update(mediaType="x"), "another kind", id="kind"),
        pytest.param(
            lambda said: said["dsseEnvelope"].update(payload="no base64!"),
            "isn't what was signed",
            id="payload",
        ),
        pytest.param(
            lambda said: said["verificationMaterial"]["publicKey"].update(hint=7),
            "isn't what was signed",
            id="hint",
        ),
        pytest.param(
            lambda said: said["dsseEnvelope"].update(
                payload=base64.b64encode(
                    json.dumps(
                        {
                            **json.loads(base64.b64decode(said["dsseEnvelope"]["payload"])),
                            "predicate": 7,
                        }
                    ).encode()
                ).decode()
            ),
            "isn't such a bundle",
            id="predicate",
        ),
    ],
)
def test_bundle_that_is_none_says_why(
    ada: Repository, spoil: Callable[[dict[str, Any]], None], why: str
) -> None:
    name = store(ada, "weights")
    bundle = ada.sign(name).record.bundle
    said = json.loads(bundle)
    spoil(said)

    with pytest.raises(SignatureWrong, match=why):
        read(json.dumps(said).encode(), "theirs.sig")


def test_signature_too_large_to_be_one_is_refused() -> None:
    with pytest.raises(SignatureWrong, match="too large"):
        read(b" " * (MOST + 1), "theirs.sig")


def test_signature_that_names_a_file_which_the_model_lacks_is_not_over_it(
    ada: Repository, tmp_path: Path
) -> None:
    name = registered(ada, folder_of(tmp_path))
    record = ada.sign(name).record
    _, artifact = ada.artifact(name)
    lacking = replace(artifact, files=artifact.files[1:])

    assert "which isn't there" in uncovered(read(record.bundle.encode(), "a"), lacking)
