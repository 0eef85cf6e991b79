"""`modeldrop key`, `sign`, and what `verify` and `pull` say of signatures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modeldrop import keys
from modeldrop.repository import Repository
from modeldrop_cli.objects.stored import CopyObject
from modeldrop_cli.objects.tending import VerifyObject
from modeldrop_cli.objects.vouching import (
    CreatedKeyObject,
    KeyObject,
    KeysObject,
    SignedObject,
)
from support import reference
from support.program import Program, in_process
from support.sharing import host, store
from support.signing import checkpoints_of, rewrite_history


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def ada(run: Program, tmp_path: Path, backend: Path) -> Path:
    """A home with a version and a key, all of it shared."""
    with host(tmp_path / "ada", str(backend)) as made:
        store(made, "weights")
    assert run("--home", tmp_path / "ada", "key", "create").code == 0
    return tmp_path / "ada"


@pytest.fixture
def bob(run: Program, ada: Path, tmp_path: Path, backend: Path) -> Path:
    """A home that was cloned from what `ada` shared."""
    assert run("--home", tmp_path / "bob", "clone", backend).code == 0
    return tmp_path / "bob"


def id_of(home: Path) -> str:
    """Return the id of a home."""
    with Repository.open(home) as opened:
        return opened.home.id


def test_key_is_made_once_and_said_from_then_on(run: Program, ada: Path, backend: Path) -> None:
    again = run("--home", ada, "key", "create")
    assert "This home has it since" in again.err
    told = run("--home", ada, "key", "create", "--json")
    assert reference.differences(told.json, CreatedKeyObject) == []
    assert (told.json["created"], told.json["key"]) == (False, 1)
    assert again.lines == [told.json["fingerprint"]]
    with Repository.open(ada) as opened:
        assert len(checkpoints_of(opened, backend)) == 1
    renewed = run("--home", ada, "key", "create", "--renew", "-q")
    assert renewed.lines != again.lines
    shutil.rmtree(ada / "keys")
    lost = run("--home", ada, "key", "create", "--json")
    assert lost.code == 11
    assert "--renew" in lost.error["hint"]


def test_keys_are_listed_and_shown(run: Program, ada: Path, bob: Path) -> None:
    (mine,) = run("--home", ada, "key", "list", "-q").lines
    listed = run("--home", bob, "key", "list", "--json")
    assert reference.differences(listed.json, KeysObject) == []
    (known,) = listed.json["keys"]
    assert (known["home"], known["fingerprint"]) == (id_of(ada), mine)
    assert (known["own"], known["trusted"], known["pinned_by"]) == (False, True, "first use")
    assert "pinned by first use" in run("--home", bob, "key", "list").out
    assert "this home's" in run("--home", ada, "key", "list").out
    shown = run("--home", bob, "key", "show", id_of(ada), "--models")
    assert shown.out == known["models"]
    assert run("--home", ada, "key", "show").out == known["public"]
    assert run("--home", ada, "key", "show", "-q").lines == [mine]
    told = run("--home", ada, "key", "show", "--json")
    assert reference.differences(told.json, KeyObject) == []
    missing = run("--home", bob, "key", "show")
    assert (missing.code, "no key" in missing.err) == (10, True)


def test_verify_says_what_is_signed_what_is_not_and_what_nobody_vouches_for(
    run: Program, ada: Path, bob: Path
) -> None:
    told = run("--home", ada, "verify")
    assert "Signed journals: 1 of 2; not signed: " in told.err
    assert id_of(bob) in told.err
    with Repository.open(ada) as opened:
        store(opened, "later")
    assert "Their last entries aren't signed yet" in run("--home", ada, "verify").err
    shutil.rmtree(bob / "trusted")
    told = run("--home", bob, "verify", "--json")
    assert reference.differences(told.json, VerifyObject) == []
    states = {each["home"]: (each["state"], each["pinned"]) for each in told.json["journals"]}
    assert states == {id_of(ada): ("signed", False), id_of(bob): ("unsigned", False)}
    assert "only the backend says" in run("--home", bob, "verify").err


def test_verify_without_the_extra_says_that_signatures_were_not_checked(
    run: Program, ada: Path, bob: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "available", lambda: False)
    told = run("--home", bob, "verify")
    assert told.code == 0
    assert "Not checked: the signatures of " in told.err
    assert "pip install 'modeldrop[sign]'" in told.err
    assert "Signed journals" not in told.err
    (state,) = {
        each["state"]
        for each in run("--home", bob, "verify", "--json").json["journals"]
        if each["home"] == id_of(ada)
    }
    assert state == "not checked"
    assert "not checked" in run("--home", bob, "key", "list").out
    failed = run("--home", bob, "key", "create")
    assert (failed.code, "modeldrop[sign]" in failed.err) == (2, True)


def test_rewritten_history_is_named_and_a_key_that_changed_is_trusted_by_hand(
    run: Program, ada: Path, bob: Path, backend: Path
) -> None:
    with Repository.open(ada) as opened:
        kept = {path: path.read_bytes() for path in backend.rglob("*.jsonl")}
        rewrite_history(opened, backend, at=2)
    shutil.rmtree(bob / "journals")
    told = run("--home", bob, "verify")
    assert told.code == 20
    assert "rewritten or forked" in told.out
    for path, data in kept.items():
        path.write_bytes(data)
    assert run("--home", bob, "verify").code == 0

    shutil.rmtree(ada / "keys")
    (made,) = run("--home", ada, "key", "create", "--renew", "-q").lines
    assert run("--home", bob, "fetch").code == 20
    assert f"modeldrop key trust {id_of(ada)} {made}" in run("--home", bob, "verify").out
    listed = run("--home", bob, "key", "list")
    assert listed.out.splitlines()[-1].endswith("no")
    assert made in listed.err
    trusted = run("--home", bob, "key", "trust", id_of(ada), made[:16], "--json")
    assert reference.differences(trusted.json, KeyObject) == []
    assert run("--home", bob, "verify").code == 0
    assert run("--home", bob, "fetch").code == 0
    again = run("--home", bob, "key", "trust", id_of(ada), made)
    assert again.lines == [made]


def test_version_is_signed_checked_and_pulled_with_its_signature(
    run: Program, ada: Path, bob: Path, tmp_path: Path
) -> None:
    assert run("--home", bob, "verify", "churn/1", "--signature").code == 10
    assert run("--home", bob, "pull", "churn/1", "-o", tmp_path / "no", "--signature").code == 10
    assert not (tmp_path / "no").exists()
    signed = run("--home", ada, "sign", "churn/1", "--json")
    assert reference.differences(signed.json, SignedObject) == []
    assert "has this signature since" in run("--home", ada, "sign", "churn/1").err

    checked = run("--home", ada, "verify", "churn/1", "--signature")
    assert (checked.code, "Signed by " in checked.err) == (0, True)
    unknown = run("--home", bob, "verify", "churn/1", "--signature")
    assert unknown.code == 20
    assert "none of its signatures is by a key that is trusted here" in unknown.out
    assert "isn't trusted here" in unknown.err
    public = tmp_path / "ada.pub"
    public.write_text(run("--home", ada, "key", "show", "--models").out)
    told = run("--home", bob, "verify", "churn/1", "--signature", "--key", public, "--json")
    assert reference.differences(told.json, VerifyObject) == []
    assert [each["signer"] for each in told.json["signatures"]] == [str(public)]

    pulled = run("--home", bob, "pull", "churn", "-o", tmp_path / "out", "--signature", "--json")
    assert reference.differences(pulled.json, CopyObject) == []
    (path,) = pulled.json["signatures"]
    assert path == f"{pulled.json['path']}.sig"
    added = run("--home", bob, "sign", "churn/1", "--signature", path, "-q")
    assert added.lines == [signed.json["sha256"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "--signature"),
        ("verify", "churn/1", "--key", "x.pub"),
        ("sign", "churn/1", "--key", "x.pem", "--signature", "x.sig"),
    ],
    ids=["no version", "no signature", "two"],
)
def test_options_that_do_not_go_together_are_a_wrong_call(
    run: Program, ada: Path, arguments: tuple[str, ...]
) -> None:
    assert run("--home", ada, *arguments).code == 2


def test_home_without_a_key_says_how_it_gets_one(run: Program, bob: Path) -> None:
    told = run("--home", bob, "sign", "churn/1")
    assert told.code == 10
    assert "modeldrop key create" in told.err
    with Repository.open(bob) as opened:
        assert opened.sync.sealing.key() is None


def test_store_without_any_key_says_nothing_of_signatures(
    run: Program, tmp_path: Path, backend: Path
) -> None:
    host(tmp_path / "plain", str(backend)).close()
    assert "igned" not in run("--home", tmp_path / "plain", "verify").err
    told = run("--home", tmp_path / "plain", "key", "list")
    assert "No home has a key" in told.err
