"""What homes sign: keys, checkpoints and signatures at the backend, and what a home keeps of that.

Like the records of `records`; docs/format.md says what each of them means. Whether a signature is
right isn't asked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, Final

from modeldrop.form import Part, Record, canonical
from modeldrop.keys import fingerprint

# What isn't signed of a record: that is made of the rest.
_UNSIGNED: Final = ("signature", "endorsement")

FIRST_USE: Final = "first use"
"""Who pinned a key that nobody has spoken for."""


def signed_part(data: bytes) -> bytes:
    """Return what is signed of a stored record: its canonical form without the signatures.

    Of all its fields, also those that a later modeldrop put there.
    """
    found = json.loads(data)
    return canonical({name: value for name, value in found.items() if name not in _UNSIGNED})


class HomeKey(Record):
    """`journals/<home>/keys/<K>.json`: the public parts of a home's key."""

    kind: ClassVar[str] = "key"
    home: str
    host: str
    key: int
    public: str  # Ed25519, for the journal
    models: str  # ECDSA on P-256, for models
    before: str | None  # the fingerprint of the key before this one
    made_by: str
    made_at: str
    signature: str
    endorsement: str | None  # the signature of the key before this one

    @property
    def fingerprint(self) -> str:
        """What it is known by."""
        return fingerprint(self.public)


class Witnessed(Part):
    """A checkpoint of another home that was verified."""

    home: str
    key: str  # the fingerprint of its key
    checkpoint: int
    sha256: str  # of the record's bytes


class Checkpoint(Record):
    """`journals/<home>/checkpoints/<S>.json`: a line of its journal, vouched for by a home."""

    kind: ClassVar[str] = "checkpoint"
    home: str
    host: str
    checkpoint: int
    key: int
    seq: int
    sha256: str  # the digest of that line
    before: str | None  # the sha256 of the bytes of the checkpoint before
    made_at: str
    signature: str
    witnessed: tuple[Witnessed, ...]


class ModelSignature(Record):
    """`experiments/<e>/signatures/<N>/<digest>.json`: one signature of a version."""

    kind: ClassVar[str] = "signature"
    experiment: str
    version: int
    sha256: str  # the version's
    bundle: str
    home: str
    host: str
    added_by: str
    added_at: str

    @property
    def reference(self) -> str:
        """The version that it is of: `churn/3`."""
        return f"{self.experiment}/{self.version}"


class Sealed(Record):
    """`keys/sealed.json`: the last checkpoint of the own journal; a hint."""

    kind: ClassVar[str] = "sealed"
    home: str
    key: int
    checkpoint: int
    sha256: str  # of the record's bytes
    seq: int
    line: str  # the digest of that line
    witnessed: Mapping[str, int]


class Trusted(Record):
    """`trusted/<home>.json`: whose key another home's is taken for, and what was seen of it."""

    kind: ClassVar[str] = "trusted"
    home: str
    host: str
    key: int
    public: str
    checkpoint: int  # the last one that was verified; 0 if none was
    sha256: str  # of its record's bytes
    seq: int  # the line that it speaks of
    line: str  # the digest of that line
    pinned_by: str  # FIRST_USE, or who said so
    pinned_at: str
