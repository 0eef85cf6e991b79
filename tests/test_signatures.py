"""Signatures of versions: over exactly the pinned files, beside the version, by keys one trusts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from modeldrop import Repository, keys, layout
from modeldrop.errors import (
    Conflict,
    DriverMissing,
    InvalidName,
    KeyNotFound,
    SignatureNotFound,
    SignatureWrong,
    UsageError,
)
from modeldrop.signed_records import ModelSignature
from modeldrop.structs import replace
from support.sharing import host, store
from support.signing import findings, key_pair, signatures_at
from support.stores import Faulty, set_backend


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def ada(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    with host(tmp_path / "ada", str(backend)) as made:
        made.create_key()
        yield made


@pytest.fixture
def bob(ada: Repository, tmp_path: Path, backend: Path) -> Iterator[Repository]:
    ada.push()
    with host(tmp_path / "bob", str(backend)) as made:
        made.fetch()
        yield made


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key for models, as files, as openssl would make them."""
    return key_pair(tmp_path / "team", ec.SECP256R1())


def test_signature_is_right_where_a_person_trusts_its_home_and_nowhere_else(
    ada: Repository, bob: Repository
) -> None:
    name = store(ada, "weights")
    added = ada.sign(name)
    assert (added.created, added.record.reference) == (True, name)
    assert [entry.kind for entry in ada.journal.entries()][-1] == "signed"
    report = ada.verify(name, signed=True)
    assert report.ok
    assert [each.signer for each in report.signatures] == [f"{ada.home.host} ({ada.home.id})"]
    # Pinned at first use is no word of a person's: whoever has the store's keys can do that.
    assert not bob.verify(name, signed=True).ok
    bob.trust_key(ada.home.id, ada.create_key().key.fingerprint)
    assert bob.verify(name, signed=True).ok


def test_signature_stays_right_when_the_home_renews_its_key(
    ada: Repository, bob: Repository
) -> None:
    name = store(ada, "weights")
    ada.sign(name)
    bob.trust_key(ada.home.id, ada.create_key().key.fingerprint)
    ada.create_key(renew=True)
    assert ada.sign(name).created
    for each in (ada, bob):
        judged = each.signatures(name)
        assert len(judged) == 2
        assert all(found.signer for found in judged)


def test_version_may_have_several_signers_and_signing_again_changes_nothing(
    ada: Repository, bob: Repository, backend: Path, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    name = store(ada, "weights")
    ada.sign(name)
    bob.sign(name, key=pair[0])
    again = [ada.sign(name), ada.sign(name, key=pair[0]), bob.sign(name, key=pair[0])]
    assert [each.created for each in again] == [False] * 3
    assert len(signatures_at(backend, name)) == 2
    signers = {each.signer for each in ada.signatures(name)}
    assert signers == {"", f"{ada.home.host} ({ada.home.id})"}
    assert ada.verify(name, signed=True).ok
    resolved, artifact = bob.artifact(name)
    paths = bob.put_signatures(bob.signature_files(resolved, artifact), tmp_path / "there")
    assert [path.name for path in paths] == ["model.bin.sig", "model.bin.2.sig"]
    # Once more is the same; another file of that name is not replaced.
    bob.put_signatures(bob.signature_files(resolved, artifact), tmp_path / "there")
    paths[0].write_text("mine")
    with pytest.raises(Conflict, match="is another signature"):
        bob.put_signatures(bob.signature_files(resolved, artifact), tmp_path / "there")
    assert paths[0].read_text() == "mine"


def test_what_has_no_signature_is_not_found_and_no_finding_for_the_whole(
    ada: Repository, tmp_path: Path
) -> None:
    name = store(ada, "weights")
    resolved, artifact = ada.artifact(name)
    for call in (
        lambda: ada.signatures(name),
        lambda: ada.verify(name, signed=True),
        lambda: ada.signature_files(resolved, artifact),
    ):
        with pytest.raises(SignatureNotFound, match="has no signature"):
            call()
    assert ada.verify().ok
    run = ada.versions("churn")[0].run
    with pytest.raises(InvalidName, match="is a run"):
        ada.sign(f"run:{run}")


def test_signature_of_another_version_is_refused(ada: Repository, tmp_path: Path) -> None:
    first, second = store(ada, "one"), store(ada, "two")
    ada.sign(first)
    resolved, artifact = ada.artifact(first)
    (path,) = ada.put_signatures(ada.signature_files(resolved, artifact), tmp_path)
    with pytest.raises(SignatureWrong, match=r"churn/2: it names other bytes as model\.bin"):
        ada.sign(second, signature=path)


def flipped(data: bytes, at: int) -> bytes:
    """Return bytes with one bit turned."""
    bad = bytearray(data)
    bad[at] ^= 1 << (at % 8)
    return bytes(bad)


def test_any_bit_of_a_signature_at_the_backend_that_is_flipped_is_noticed(
    ada: Repository, backend: Path
) -> None:
    name = store(ada, "weights")
    ada.sign(name)
    (path,) = signatures_at(backend, name)
    data = path.read_bytes()
    for at in range(0, len(data), 11):
        path.write_bytes(flipped(data, at))
        (judged,) = ada.signatures(name)
        assert judged.trouble, at
        assert not judged.signer
    path.write_bytes(flipped(data, 40))
    assert list(findings(ada)) == [name]
    path.write_bytes(data)
    assert findings(ada) == {}


def test_any_bit_of_what_is_signed_counts_also_where_the_record_fits_it(
    ada: Repository, backend: Path
) -> None:
    name = store(ada, "weights")
    ada.sign(name)
    (path,) = signatures_at(backend, name)
    record = ModelSignature.from_bytes(path.read_bytes(), "")
    bundle = json.loads(record.bundle)
    envelope = bundle["dsseEnvelope"]
    for part in ("payload", "sig"):
        place = envelope if part == "payload" else envelope["signatures"][0]
        whole = base64.b64decode(place[part])
        for at in range(0, len(whole), 1 if part == "sig" else 9):
            place[part] = base64.b64encode(flipped(whole, at)).decode()
            put(backend, record, json.dumps(bundle), path)
            (judged,) = ada.signatures(name)
            assert judged.trouble, (part, at)
            assert not judged.signer
        place[part] = base64.b64encode(whole).decode()
    put(backend, record, json.dumps(bundle), path)
    assert ada.signatures(name)[0].signer


def put(backend: Path, record: ModelSignature, bundle: str, instead_of: Path) -> None:
    """Have the one signature of a version hold another bundle, under the name that fits that."""
    for path in instead_of.parent.iterdir():
        path.unlink()
    forged = replace(record, bundle=bundle)
    digest = hashlib.sha256(bundle.encode()).hexdigest()
    key = layout.signature(record.experiment, record.version, digest)
    (backend / key).write_bytes(forged.to_bytes())


def test_signature_that_stands_beside_another_version_is_named(
    ada: Repository, backend: Path
) -> None:
    first, second = store(ada, "one"), store(ada, "two")
    ada.sign(first)
    (path,) = signatures_at(backend, first)
    there = backend / layout.signatures("churn", 2) / path.name
    there.parent.mkdir(parents=True)
    there.write_bytes(path.read_bytes())
    assert "it is of another version" in findings(ada)[second][0]
    # Also where the record says that it is of that one.
    record = ModelSignature.from_bytes(path.read_bytes(), "")
    (_, version) = ada.versions("churn")
    there.write_bytes(replace(record, version=2, sha256=version.sha256).to_bytes())
    assert "it names other bytes" in findings(ada)[second][0]
    there.rename(there.with_name(f"{'0' * 64}.json"))
    assert "another signature than its name says" in findings(ada)[second][0]
    nobody = backend / layout.signatures("churn", 9) / path.name
    nobody.parent.mkdir()
    nobody.write_bytes(path.read_bytes())
    assert findings(ada)["churn/9"] == ["it has signatures, and is no version"]


@pytest.mark.parametrize(
    ("bundle", "why"),
    [
        (b"", "isn't such a bundle"),
        (b"[]", "isn't such a bundle"),
        (b"\xff\xfe{\x00}\x00", "isn't such a bundle"),
        (b"[" * 100_000, "isn't such a bundle"),
        (b'{"mediaType": 1}', "isn't such a bundle"),
    ],
    ids=["empty", "list", "utf-16", "deep", "other"],
)
def test_file_that_is_no_signature_is_refused(
    ada: Repository, tmp_path: Path, bundle: bytes, why: str
) -> None:
    name = store(ada, "weights")
    path = tmp_path / "model.sig"
    path.write_bytes(bundle)
    with pytest.raises(SignatureWrong, match=why):
        ada.sign(name, signature=path)


def changed(statement: dict[str, object], what: str) -> dict[str, object]:
    """Return a statement that says something that can't be compared, or not quite that."""
    found = json.loads(json.dumps(statement))
    if what == "kind":
        found["predicateType"] = "https://slsa.dev/provenance/v1"
    elif what == "shards":
        found["predicate"]["serialization"]["method"] = "shards"
    elif what == "blake2":
        found["predicate"]["serialization"]["hash_type"] = "blake2"
    elif what == "twice":
        found["predicate"]["resources"] *= 2
    elif what == "root":
        found["subject"][0]["digest"]["sha256"] = "0" * 64
    return dict(found)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("kind", "says something else"),
        ("shards", "isn't over whole files"),
        ("blake2", "isn't over whole files"),
        ("twice", "names a file twice"),
        ("root", "don't have the digest"),
    ],
)
def test_statement_that_says_something_else_is_refused(
    ada: Repository, tmp_path: Path, what: str, why: str
) -> None:
    name = store(ada, "weights")
    bundle = json.loads(ada.sign(name).record.bundle)
    envelope = bundle["dsseEnvelope"]
    statement = changed(json.loads(base64.b64decode(envelope["payload"])), what)
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    path = tmp_path / "model.sig"
    path.write_text(json.dumps(bundle))
    with pytest.raises(SignatureWrong, match=why):
        ada.sign(name, signature=path)


def test_keys_that_models_are_not_signed_by_are_refused(
    ada: Repository, bob: Repository, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    name = store(ada, "weights")
    path = tmp_path / "key.pem"
    plain = serialization.NoEncryption()
    makes: dict[str, Callable[[], bytes]] = {
        "no private key": lambda: b"not a key",
        "no private key that": lambda: pem(rsa.generate_private_key(65537, 2048), plain),
        "isn't one that models": lambda: pem(ed25519.Ed25519PrivateKey.generate(), plain),
        "is encrypted": lambda: pem(
            ec.generate_private_key(ec.SECP256R1()),
            serialization.BestAvailableEncryption(b"secret"),
        ),
    }
    for why, make in makes.items():
        path.write_bytes(make())
        with pytest.raises(UsageError, match=why):
            ada.sign(name, key=path)
    with pytest.raises(UsageError, match="can't be read"):
        ada.sign(name, key=tmp_path / "missing.pem")
    ada.sign(name)
    with pytest.raises(UsageError, match="no public key for models"):
        ada.signatures(name, [pair[0]])
    with pytest.raises(KeyNotFound, match="has no key"):
        bob.sign(name)


def pem(
    key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
    encryption: serialization.KeySerializationEncryption,
) -> bytes:
    """Return a private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def test_without_the_extra_nothing_is_signed_and_no_signature_counts(
    ada: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = store(ada, "weights")
    ada.sign(name)
    monkeypatch.setattr(keys, "available", lambda: False)
    for call in (lambda: ada.sign(name), lambda: ada.verify(name, signed=True)):
        with pytest.raises(DriverMissing, match="cryptography"):
            call()
    report = ada.verify()
    assert report.ok
    assert report.checked["signatures"] == 1


@pytest.mark.parametrize("fault", ["lost", "dropped", "error", "exists"])
def test_signature_whose_answer_is_lost_is_there_once(
    ada: Repository, backend: Path, fault: str, pair: tuple[Path, Path]
) -> None:
    name = store(ada, "weights")
    set_backend(ada, Faulty(backend, fault, only="/signatures/"))
    if fault == "lost":
        with pytest.raises(Exception, match="lost"):
            ada.sign(name, key=pair[0])
    ada.sign(name, key=pair[0])
    assert len(signatures_at(backend, name)) == 1
