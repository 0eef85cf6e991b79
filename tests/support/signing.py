"""What tests of keys and signatures do: forging, with everything but a home's private key."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modeldrop import Repository, keys, layout
from modeldrop.form import now
from modeldrop.journal.lines import parse
from modeldrop.signed_records import Checkpoint, HomeKey, signed_part
from modeldrop.structs import replace
from support.sharing import rewritten, segments_of


def findings(repository: Repository, kind: str = "signature") -> dict[str, list[str]]:
    """Return what `verify` finds of one kind, by place."""
    found: dict[str, list[str]] = {}
    for each in repository.verify().findings:
        if each.kind == kind:
            found.setdefault(each.where, []).append(each.what)
    return found


def states(repository: Repository) -> dict[str, str]:
    """Return whether each home's journal is signed, as `verify` says."""
    return {each.home: each.state for each in repository.verify().journals}


def checkpoints_of(repository: Repository, backend: Path) -> list[Path]:
    """Return the checkpoints of a home on a local backend, in order."""
    return sorted((backend / layout.checkpoints(repository.home.id)).iterdir())


def keys_of(repository: Repository, backend: Path) -> list[Path]:
    """Return the keys of a home on a local backend, in order."""
    return sorted((backend / layout.home_keys(repository.home.id)).iterdir())


def rewrite_history(repository: Repository, backend: Path, at: int) -> list[bytes]:
    """Rewrite what a home has shared from line `at` on, digests and all; return the lines."""
    paths = segments_of(repository, backend)
    counts = [path.read_bytes().count(b"\n") for path in paths]
    whole = b"".join(path.read_bytes() for path in paths).splitlines(keepends=True)
    forged = rewritten(whole, at, repository.home.id).splitlines(keepends=True)
    done = 0
    for path, count in zip(paths, counts, strict=True):
        path.write_bytes(b"".join(forged[done : done + count]))
        done += count
    return forged


def forge(repository: Repository, backend: Path, lines: Sequence[bytes]) -> None:
    """Sign lines in the name of a home anew, by a key that isn't its own, key record and all."""
    private = keys.new_journal_key()
    (path, *rest) = keys_of(repository, backend)
    assert not rest
    key = HomeKey.from_bytes(path.read_bytes(), "")
    key = replace(key, public=keys.public_of(private, ""), signature="")
    path.write_bytes(replace(key, signature=signature_of(key, private)).to_bytes())
    digests = {(entry := parse(line, 0)).seq: entry.sha256 for line in lines}
    before: str | None = None
    for each in checkpoints_of(repository, backend):
        record = Checkpoint.from_bytes(each.read_bytes(), "")
        record = replace(
            record, sha256=digests[record.seq], before=before, made_at=now(), signature=""
        )
        data = replace(record, signature=signature_of(record, private)).to_bytes()
        each.write_bytes(data)
        before = hashlib.sha256(data).hexdigest()


def signature_of(record: Checkpoint | HomeKey, private: bytes) -> str:
    """Return the signature of a record by a private key."""
    return keys.to_base64(keys.sign(private, signed_part(record.to_bytes()), ""))


def clone(tmp_path: Path, backend: Path, name: str = "eve") -> Repository:
    """Return a home that has never seen this backend before."""
    return Repository.clone(tmp_path / name, str(backend))[0]


def forget_copies(repository: Repository) -> None:
    """Remove what a home has fetched of others, but not whose keys it trusts."""
    shutil.rmtree(repository.home.paths.journals)


def signatures_at(backend: Path, reference: str) -> list[Path]:
    """Return the records of a version's signatures at a local backend."""
    experiment, _, number = reference.partition("/")
    return sorted((backend / layout.signatures(experiment, int(number))).glob("*.json"))


def key_pair(at: Path, curve: ec.EllipticCurve) -> tuple[Path, Path]:
    """Make a private and a public key in PEM."""
    key = ec.generate_private_key(curve)
    private, public = at.with_suffix(".pem"), at.with_suffix(".pub")
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public
