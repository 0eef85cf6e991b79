"""Keys of homes: made, renewed, lost, trusted; and what is signed by them through crashes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository, keys, layout
from modeldrop.errors import (
    Conflict,
    DriverMissing,
    KeyNotFound,
    RecordDamaged,
    SignatureWrong,
    UsageError,
)
from modeldrop.signed_records import HomeKey, Trusted
from modeldrop.structs import replace
from support.children import dies
from support.sharing import host, note, push, store
from support.signing import (
    checkpoints_of,
    clone,
    findings,
    forget_copies,
    keys_of,
    rewrite_history,
    states,
)
from support.stores import Faulty, set_backend


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def ada(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    """A home with a key, which has stored two models and shared each."""
    with host(tmp_path / "ada", str(backend)) as made:
        made.create_key()
        for text in ("one", "two"):
            store(made, text)
            made.push()
        yield made


@pytest.fixture
def bob(ada: Repository, tmp_path: Path, backend: Path) -> Iterator[Repository]:
    """A home without a key that has fetched what `ada` shared."""
    with host(tmp_path / "bob", str(backend)) as made:
        made.fetch()
        yield made


# Keys


def test_key_that_its_old_one_endorsed_is_trusted_by_all(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    before = ada.create_key().key
    renewed = ada.create_key(renew=True)
    assert renewed.created
    assert renewed.key.key == 2
    assert not ada.home.paths.journal_key(1).exists()
    store(ada, "three")
    ada.push()

    assert [each.trouble for each in bob.fetch()] == [None]
    for each in (bob, ada):
        assert each.verify().ok
        assert states(each)[ada.home.id] == "signed"
    pin = bob.sync.sealing.trust.record(ada.home.id)
    assert pin is not None
    assert (keys.fingerprint(pin.public), pin.checkpoint) == (before.fingerprint, 3)
    with clone(tmp_path, backend) as eve:
        assert eve.verify().ok


def test_key_that_was_lost_and_made_anew_is_trusted_only_once_a_person_says_so(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    shutil.rmtree(ada.home.paths.keys)
    with pytest.raises(Conflict, match="has lost it"):
        ada.create_key()
    made = ada.create_key(renew=True).key
    assert made.endorsement is None
    store(ada, "three")
    ada.push()

    (told,) = [each.trouble for each in bob.fetch()]
    assert isinstance(told, SignatureWrong)
    assert made.fingerprint in str(told)
    assert f"has a new key, {made.fingerprint}" in " ".join(findings(bob)[ada.home.id])
    with clone(tmp_path, backend) as eve:
        assert findings(eve)[ada.home.id]
    for wrong in ("0" * 64, made.fingerprint[:15]):
        with pytest.raises(KeyNotFound):
            bob.trust_key(ada.home.id, wrong)
    bob.trust_key(ada.home.id, made.fingerprint[:16].upper())
    assert bob.verify().ok
    note(ada, "later")
    ada.push()
    assert [each.trouble for each in bob.fetch()] == [None]
    pin = bob.sync.sealing.trust.record(ada.home.id)
    assert pin is not None
    assert (pin.pinned_by, pin.checkpoint) == (bob.home.user, 4)
    assert [entry.kind for entry in bob.journal.entries()][-1] == "key-trusted"


def test_private_keys_are_for_their_user_alone_and_leave_the_home_by_no_way(
    ada: Repository, bob: Repository, backend: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = [
        each
        for path in (ada.home.paths.journal_key(1), ada.home.paths.model_key(1))
        for each in path.read_bytes().splitlines()[1:-1]
    ]
    assert ada.home.paths.keys.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in ada.home.paths.keys.glob("*.pem")} == {0o600}
    places = [
        path
        for root in (backend, ada.home.paths.root, bob.home.paths.root)
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".pem"
    ]
    for path in places:
        data = path.read_bytes()
        assert not any(each in data for each in secret), path
    assert not any(each.decode() in caplog.text for each in secret)
    assert len(secret) >= 3


def test_copied_home_has_no_key_until_it_makes_one(ada: Repository, tmp_path: Path) -> None:
    shutil.copytree(ada.home.paths.root, tmp_path / "copy")
    with Repository.open(tmp_path / "copy") as copy:
        store(copy, "of the copy")
        copy.push()
        assert copy.home.id != ada.home.id
        assert states(copy) == {ada.home.id: "signed", copy.home.id: "unsigned"}
        made = copy.create_key()
        assert (made.created, made.key.key, made.key.home) == (True, 1, copy.home.id)
        copy.push()
        assert states(copy)[copy.home.id] == "signed"
    assert ada.verify().ok


def test_keys_are_listed_with_whether_they_are_trusted(ada: Repository, bob: Repository) -> None:
    (mine,) = ada.keys()
    (known,) = bob.keys()
    assert (mine.is_own, mine.is_trusted) == (True, True)
    assert (known.is_own, known.is_trusted, known.key) == (False, True, mine.key)
    assert known.pin is not None
    assert known.pin.pinned_by == "first use"
    path = bob.home.paths.trusted_key(ada.home.id)
    path.write_bytes(path.read_bytes().replace(b"first use", b"first USE"))
    assert "is damaged" in bob.keys()[0].troubles[0]
    assert "is damaged" in " ".join(findings(bob)[ada.home.id])
    with pytest.raises(RecordDamaged, match="is damaged"):
        bob.sync.sealing.trust.pin(ada.home.id)


# Where nothing can be checked


def test_where_the_extra_is_missing_nothing_counts_as_signed_and_all_else_works(
    ada: Repository, bob: Repository, backend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "available", lambda: False)
    for each in (ada, bob):
        report = each.verify()
        assert report.ok
        assert report.checked["checkpoints"] == 2
        told = {journal.home: (journal.state, journal.seq) for journal in report.journals}
        assert told[ada.home.id] == ("not checked", 0)
    store(ada, "three")
    assert ada.push().segments == 1
    assert len(checkpoints_of(ada, backend)) == 2
    assert [each.trouble for each in bob.fetch()] == [None]
    for call in (ada.create_key, lambda: bob.trust_key(ada.home.id, "0" * 64)):
        with pytest.raises(DriverMissing, match="cryptography"):
            call()
    # The digests of lines are held against what was signed all the same.
    rewrite_history(ada, backend, at=3)
    forget_copies(bob)
    assert "line 4, which checkpoint 1 vouches for, is another one" in str(findings(bob))


# Crashes and lost answers


@pytest.mark.parametrize("step", ["segment created", "push noted", "checkpoint created"])
def test_push_killed_after_a_step_is_signed_by_the_next_one(
    ada: Repository, bob: Repository, backend: Path, step: str
) -> None:
    note(ada, "one")
    assert dies(push, ada.home.paths.root, at=step)
    assert len(checkpoints_of(ada, backend)) == (3 if step == "checkpoint created" else 2)
    ada.push()
    ada.push()
    assert len(checkpoints_of(ada, backend)) == 3
    assert bob.verify().journals[0].home in {ada.home.id, bob.home.id}
    assert findings(bob) == {}
    assert states(bob)[ada.home.id] == "signed"


def test_note_of_the_last_checkpoint_is_a_hint(ada: Repository, backend: Path) -> None:
    for damage in (b"", b"{}", None):
        if damage is None:
            ada.home.paths.sealed.unlink()
        else:
            ada.home.paths.sealed.write_bytes(damage)
        ada.push()
        assert len(checkpoints_of(ada, backend)) == 2
        assert findings(ada) == {}
    ada.home.paths.sealed.unlink()
    note(ada, "more")
    ada.push()
    assert len(checkpoints_of(ada, backend)) == 3
    assert findings(ada) == {}


@pytest.mark.parametrize("fault", ["lost", "dropped", "error", "exists"])
def test_checkpoint_whose_answer_is_lost_is_made_once(
    ada: Repository, backend: Path, fault: str
) -> None:
    note(ada, "one")
    set_backend(ada, Faulty(backend, fault, only="/checkpoints/"))
    ada.__dict__.pop("sync", None)
    if fault == "lost":
        with pytest.raises(Exception, match="lost"):
            ada.push()
    ada.push()
    assert len(checkpoints_of(ada, backend)) == 3
    assert findings(ada) == {}


def test_key_that_did_not_reach_the_backend_is_brought_there_by_the_next_push(
    tmp_path: Path, backend: Path
) -> None:
    with host(tmp_path / "home", str(backend)) as made:
        set_backend(made, Faulty(backend, "lost", only="/keys/"))
        with pytest.raises(Exception, match="lost"):
            made.create_key()
        made.push()
        assert HomeKey.from_bytes(keys_of(made, backend)[0].read_bytes(), "").home == made.home.id
        assert states(made) == {made.home.id: "signed"}
        assert not made.create_key().created


def test_what_was_signed_is_brought_back_where_an_old_copy_of_the_bucket_is_meant(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    folder = backend / layout.journal_segments(ada.home.id)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    ada.create_key(renew=True)
    store(ada, "three")
    ada.push()
    bob.fetch()
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    assert findings(ada)[ada.home.id]
    # A line that a crash tore is passed over.
    with ada.home.paths.signed.open("ab") as file:
        file.write(b'{"kind":"checkpoint"')

    ada.push(whole=True)

    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before
    assert [each.trouble for each in bob.fetch()] == [None]
    for each in (ada, bob):
        assert findings(each) == findings(each, "journal") == {}


def test_pin_is_of_the_home_that_it_names(ada: Repository, bob: Repository) -> None:
    path = bob.home.paths.trusted_key(ada.home.id)
    record = Trusted.from_bytes(path.read_bytes(), "")
    path.write_bytes(replace(record, home=bob.home.id).to_bytes())
    with pytest.raises(RecordDamaged, match="it is of the home"):
        bob.sync.sealing.trust.record(ada.home.id)


def test_private_key_that_is_gone_or_another_ones_is_said(ada: Repository) -> None:
    private = ada.home.paths.journal_key(1)
    store(ada, "three")
    private.write_bytes(ada.home.paths.model_key(1).read_bytes())
    with pytest.raises(UsageError, match="no key that journals are signed by"):
        ada.push()

    private.unlink()
    with pytest.raises(KeyNotFound, match="the private key of this home, is gone"):
        ada.push()


def test_key_that_somebody_put_there_for_this_home_is_not_taken_over(
    ada: Repository, backend: Path, tmp_path: Path
) -> None:
    with host(tmp_path / "eve", str(tmp_path / "elsewhere")) as eve:
        theirs = eve.create_key().key
    forged = replace(theirs, home=ada.home.id)
    where = backend / layout.numbered(layout.home_keys(ada.home.id), 1)
    where.write_bytes(forged.to_bytes())

    with pytest.raises(SignatureWrong, match="a key for this home that it didn't make"):
        ada.create_key(renew=True)


def test_what_is_no_key_and_no_signature_vouches_for_nothing() -> None:
    journal = keys.public_of(keys.new_journal_key(), "a key")

    assert not keys.model_signed_by(journal, b"signature", b"message")
    assert not keys.signed_by("no base64!", "no base64!", b"message")
    assert not keys.signed_by(keys.to_base64(b"no key"), "", b"message")
    assert not keys.signed_by(journal, "no base64!", b"message")
    with pytest.raises(UsageError):
        keys.read_model_key(keys.pem_of(journal).encode(), "a key")
