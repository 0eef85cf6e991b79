"""A history that was signed can't be rewritten, rolled back or forked unseen, on any host."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from modeldrop import Repository, keys, layout
from modeldrop.checkpoints import superseded
from modeldrop.errors import (
    JournalForked,
    SignatureWrong,
)
from modeldrop.form import canonical
from modeldrop.signed_records import Checkpoint
from modeldrop.structs import replace
from support.program import SOURCES
from support.sharing import host, note, store
from support.signing import (
    checkpoints_of,
    clone,
    findings,
    forge,
    forget_copies,
    keys_of,
    rewrite_history,
    signature_of,
    states,
)
from support.stores import Counting, set_backend


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


def test_what_is_shared_is_signed_up_to_its_last_line(ada: Repository, backend: Path) -> None:
    found = [Checkpoint.from_bytes(path.read_bytes(), "") for path in checkpoints_of(ada, backend)]
    lines = {entry.seq: entry.sha256 for entry in ada.journal.entries()}

    assert [(each.checkpoint, each.key) for each in found] == [(1, 1), (2, 1)]
    assert [each.seq for each in found] == [4, 6]
    assert all(lines[each.seq] == each.sha256 for each in found)
    assert [entry.kind for entry in ada.journal.entries()][:2] == ["home-created", "key-created"]


def test_signature_is_what_the_specification_says(ada: Repository, backend: Path) -> None:
    (key,) = (json.loads(path.read_bytes()) for path in keys_of(ada, backend))
    public = serialization.load_der_public_key(keys.from_base64(key["public"]) or b"")
    assert isinstance(public, ed25519.Ed25519PublicKey)
    for path in (*keys_of(ada, backend), *checkpoints_of(ada, backend)):
        found = json.loads(path.read_bytes())
        signature = keys.from_base64(found.pop("signature"))
        for name in ("endorsement", "record_sha256"):
            found.pop(name, None)
        text = json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        public.verify(signature or b"", text.encode())
        assert canonical(found) == text.encode()


def test_every_host_says_that_it_is_signed_and_who_is_not(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    with clone(tmp_path, backend) as eve:
        for each in (ada, bob, eve):
            report = each.verify()
            assert report.ok, report.findings
            told = {journal.home: journal for journal in report.journals}
            mine = told[ada.home.id]
            assert (mine.state, mine.seq, mine.entries, mine.pinned) == ("signed", 6, 6, True)
            assert mine.key == ada.create_key().key.fingerprint
            # Bob has a journal, and no key.
            assert bob.home.id not in told or told[bob.home.id].state == "unsigned"


def test_push_with_nothing_new_signs_nothing_and_asks_nothing(
    ada: Repository, backend: Path
) -> None:
    with Repository.open(ada.home.paths.root) as again:
        counting = Counting(backend)
        set_backend(again, counting)
        again.__dict__["_checked"] = True
        assert again.push().entries == 0
        assert sum(counting.asked.values()) == 0
    assert len(checkpoints_of(ada, backend)) == 2


def test_who_has_no_key_loads_nothing_that_signs(tmp_path: Path, backend: Path) -> None:
    host(tmp_path / "home", str(backend)).close()
    program = (
        "import sys; from modeldrop import Repository\n"
        f"with Repository.open({str(tmp_path / 'home')!r}) as opened: opened.push()\n"
        "print([each for each in sys.modules if each in ('cryptography', 'modeldrop.sealing')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(SOURCES)},
    )
    assert done.stdout.strip() == "[]"


# Rewritten with digests that fit


def test_rewritten_history_is_noticed_by_a_host_that_has_no_copy_and_by_a_fresh_clone(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    forget_copies(bob)
    rewrite_history(ada, backend, at=3)

    with clone(tmp_path, backend) as eve:
        for each in (bob, eve):
            said = findings(each)[ada.home.id]
            assert [what[:7] for what in said] == ["line 4,", "line 6,"]
            assert all("rewritten or forked" in what for what in said)
            assert states(each)[ada.home.id] == "wrong"
    (told,) = [each.trouble for each in bob.fetch()]
    assert isinstance(told, SignatureWrong)
    assert bob.sync.sealing.trust.pin(ada.home.id) is not None


def test_without_checkpoints_the_same_rewriting_is_not_noticed(
    ada: Repository, tmp_path: Path, backend: Path
) -> None:
    shutil.rmtree(backend / layout.checkpoints(ada.home.id))
    shutil.rmtree(backend / layout.home_keys(ada.home.id))
    rewrite_history(ada, backend, at=3)
    with clone(tmp_path, backend) as eve:
        assert findings(eve, "journal") == findings(eve) == {}
        assert states(eve)[ada.home.id] == "unsigned"


def test_history_that_another_key_signed_anew_is_noticed_by_who_has_pinned_the_right_one(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    forget_copies(bob)
    forge(ada, backend, rewrite_history(ada, backend, at=3))

    said = " ".join(findings(bob)[ada.home.id])
    assert "isn't among its keys" in said
    assert "checkpoint 2 isn't the one that was seen here" in said
    assert "isn't among its keys" in " ".join(findings(ada)[ada.home.id])
    # Who has never seen anything, and has nobody's word, believes it: hence witnesses.
    with clone(tmp_path, backend) as eve:
        assert findings(eve) == {}


def test_what_another_home_has_witnessed_a_fresh_clone_knows(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    bob.create_key()
    store(bob, "of bob", "demand")
    bob.push()
    with clone(tmp_path, backend, "before") as eve:
        assert eve.verify().ok
    forge(ada, backend, rewrite_history(ada, backend, at=3))

    with clone(tmp_path, backend) as eve:
        (said,) = findings(eve)[ada.home.id]
        assert f"checkpoint 2, which {bob.home.host} ({bob.home.id}) has verified" in said


@pytest.mark.parametrize("stripped", [("checkpoints",), ("keys", "checkpoints"), ("",)])
def test_what_is_stripped_off_is_missed_by_pins_and_witnesses(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path, stripped: tuple[str, ...]
) -> None:
    bob.create_key()
    bob.push()
    forget_copies(bob)
    for name in stripped:
        shutil.rmtree(backend / layout.journal_segments(ada.home.id) / name)

    assert findings(bob)[ada.home.id]
    assert findings(ada)[ada.home.id]
    with clone(tmp_path, backend) as eve:
        assert findings(eve)[ada.home.id]


# Rolled back


def test_an_old_copy_of_the_journal_put_back_at_the_backend_is_noticed(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    folder = backend / layout.journal_segments(ada.home.id)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    store(ada, "three")
    ada.push()
    bob.fetch()
    bob.create_key()
    bob.push()
    forget_copies(bob)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)

    assert "checkpoint 3, which was seen here, is gone" in " ".join(findings(bob)[ada.home.id])
    assert "checkpoint 3, which was seen here, is gone" in " ".join(findings(ada)[ada.home.id])
    with clone(tmp_path, backend) as eve:
        assert "has verified, is gone" in " ".join(findings(eve)[ada.home.id])
    # Where nobody has pinned or witnessed anything, an old copy is whole.
    shutil.rmtree(backend / layout.journal_segments(bob.home.id))
    with clone(tmp_path, backend, "frank") as frank:
        assert findings(frank) == {}


def test_segments_that_are_cut_off_leave_checkpoints_that_tell(
    ada: Repository, tmp_path: Path, backend: Path
) -> None:
    max((backend / layout.journal_segments(ada.home.id)).glob("*.jsonl")).unlink()
    with clone(tmp_path, backend) as eve:
        (said,) = findings(eve)[ada.home.id]
        assert "line 6, which checkpoint 2 vouches for, isn't there" in said
        assert "ends with line 4" in said


def test_home_put_back_from_an_old_copy_is_noticed_and_signs_no_second_history(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    paths = ada.home.paths
    kept = {
        path: path.read_bytes() for path in (paths.journal, paths.head, paths.pushed, paths.sealed)
    }
    store(ada, "lost")
    ada.push()
    before = [path.read_bytes() for path in checkpoints_of(ada, backend)]
    for path, data in kept.items():
        path.write_bytes(data)

    with Repository.open(paths.root) as back:
        assert "put back from an old copy" in " ".join(findings(back)[ada.home.id])
        note(back, "another life")
        with pytest.raises(JournalForked):
            back.push()
        # Also where the segment that would tell is gone.
        for path in sorted((backend / layout.journal_segments(ada.home.id)).glob("*.jsonl"))[2:]:
            path.unlink()
        with pytest.raises(JournalForked, match="has signed another history"):
            back.push()
        assert [path.read_bytes() for path in checkpoints_of(ada, backend)] == before
        back.push(renew=True)
        assert back.home.id != ada.home.id
        # Its key is that of what it was.
        assert back.sync.sealing.key() is None
        assert states(bob)[back.home.id] == "unsigned"


def test_journal_that_was_rebuilt_with_a_loss_is_no_rewriting_once_its_home_has_signed_that(
    ada: Repository, tmp_path: Path, backend: Path
) -> None:
    max((backend / layout.journal_segments(ada.home.id)).glob("*.jsonl")).unlink()
    for path in (ada.home.paths.journal, ada.home.paths.head, ada.home.paths.pushed):
        path.unlink()
    with Repository.open(ada.home.paths.root) as back:
        assert back.rebuild().source == "backend"
        assert findings(back)[ada.home.id]
        back.push()
        assert len(checkpoints_of(ada, backend)) == 3
        assert findings(back) == {}
    with clone(tmp_path, backend) as eve:
        assert eve.verify().ok
        assert states(eve)[ada.home.id] == "signed"
        # Only by a signature of its own.
        last = checkpoints_of(ada, backend)[-1]
        record = Checkpoint.from_bytes(last.read_bytes(), "")
        forged = replace(record, signature=signature_of(record, keys.new_journal_key()))
        last.write_bytes(forged.to_bytes())
        assert len(findings(eve)[ada.home.id]) >= 2


# Damage, and what isn't the home's


def test_any_bit_of_a_checkpoint_or_a_key_that_is_flipped_is_noticed(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    for path in (checkpoints_of(ada, backend)[0], keys_of(ada, backend)[0]):
        data = path.read_bytes()
        for at in range(0, len(data), 7):
            bad = bytearray(data)
            bad[at] ^= 1 << (at % 8)
            path.write_bytes(bytes(bad))
            told: list[str] = []
            bob.sync.sealing.shared.signed(ada.home.id, None, told.append)
            assert told, at
        path.write_bytes(data)
    assert findings(bob) == {}


def test_any_bit_of_a_signature_counts_also_where_the_record_fits_it(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    path = checkpoints_of(ada, backend)[0]
    record = Checkpoint.from_bytes(path.read_bytes(), "")
    raw = keys.from_base64(record.signature)
    assert raw is not None
    for at in range(len(raw)):
        bad = bytearray(raw)
        bad[at] ^= 1 << (at % 8)
        path.write_bytes(replace(record, signature=keys.to_base64(bytes(bad))).to_bytes())
        told: list[str] = []
        bob.sync.sealing.shared.signed(ada.home.id, None, told.append)
        assert "checkpoint 1 isn't signed by the key that it names" in told
    # The last digit of a base64 text has bits that stand for nothing: they count as well.
    other = record.signature[:-3] + chr(ord(record.signature[-3]) + 1) + "=="
    path.write_bytes(replace(record, signature=other).to_bytes())
    assert findings(bob)[ada.home.id]


@pytest.mark.parametrize("field", ["seq", "sha256", "key", "before", "made_at", "host"])
def test_no_field_of_a_checkpoint_can_be_changed(
    ada: Repository, bob: Repository, backend: Path, field: str
) -> None:
    path = checkpoints_of(ada, backend)[-1]
    record = Checkpoint.from_bytes(path.read_bytes(), "")
    others = {
        "seq": 5,
        "key": 2,
        "before": "0" * 64,
        "sha256": "0" * 64,
        "made_at": "2020-01-01T00:00:00.000000Z",
        "host": "other",
    }
    path.write_bytes(replace(record, **{field: others[field]}).to_bytes())  # type: ignore[arg-type] # by its name
    assert findings(bob)[ada.home.id]


def test_only_a_line_that_the_journal_has_says_that_an_earlier_one_was_lost(
    ada: Repository, backend: Path
) -> None:
    first, last = (
        Checkpoint.from_bytes(path.read_bytes(), "") for path in checkpoints_of(ada, backend)
    )
    lost = [first.seq]

    assert superseded(first.seq, [last], {last.seq: last.sha256}, lost)
    assert not superseded(first.seq, [last], {last.seq: first.sha256}, lost)


def test_home_that_has_lost_its_notes_signs_up_to_its_last_line_again(
    ada: Repository, backend: Path
) -> None:
    store(ada, "three")
    ada.home.paths.sealed.unlink()

    ada.push()

    newest = Checkpoint.from_bytes(checkpoints_of(ada, backend)[-1].read_bytes(), "")
    assert newest.seq == [entry.seq for entry in ada.journal.entries()][-1]


def test_checkpoint_by_a_key_that_was_replaced_is_refused(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    old = ada.home.paths.journal_key(1).read_bytes()
    ada.create_key(renew=True)
    ada.push()
    path = checkpoints_of(ada, backend)[-1]
    record = replace(Checkpoint.from_bytes(path.read_bytes(), ""), key=1)
    path.write_bytes(replace(record, signature=signature_of(record, old)).to_bytes())
    store(ada, "three")
    # The next one names the bytes of the one that was there.
    ada.push()

    assert findings(bob)[ada.home.id]
    with clone(tmp_path, backend) as eve:
        assert findings(eve)[ada.home.id]


def test_somebody_elses_checkpoint_in_the_place_of_the_next_one_is_told(
    ada: Repository, backend: Path
) -> None:
    first = checkpoints_of(ada, backend)[-1]
    record = replace(Checkpoint.from_bytes(first.read_bytes(), ""), checkpoint=3)
    forged = replace(record, signature=signature_of(record, keys.new_journal_key()))
    (backend / layout.numbered(layout.checkpoints(ada.home.id), 3)).write_bytes(forged.to_bytes())
    note(ada, "next")
    with pytest.raises(SignatureWrong, match="isn't signed by this home"):
        ada.push()


@pytest.mark.parametrize("store_url", ["s3_url", "azure_url"])
def test_object_stores_hold_keys_checkpoints_and_signatures_as_a_folder_does(
    request: pytest.FixtureRequest, tmp_path: Path, store_url: str
) -> None:
    url = request.getfixturevalue(store_url)
    with host(tmp_path / "ada", url) as made, host(tmp_path / "bob", url) as other:
        made.create_key()
        name = store(made, "one")
        made.sign(name)
        made.push()
        store(made, "two")
        made.push()
        assert [each.trouble for each in other.fetch()] == [None]
        report = other.verify()
        assert report.ok, report.findings
        assert states(other)[made.home.id] == "signed"
        assert (report.checked["checkpoints"], report.checked["signatures"]) == (2, 1)
        made.backend.delete(layout.numbered(layout.checkpoints(made.home.id), 2))
        assert "checkpoint 2, which was seen here, is gone" in str(findings(other))


def test_many_checkpoints_are_read_at_once_and_judged_in_order(
    ada: Repository, bob: Repository, tmp_path: Path, backend: Path
) -> None:
    for number in range(8):
        store(ada, f"more {number}")
        ada.push()

    assert findings(clone(tmp_path, backend)) == findings(bob) == {}
