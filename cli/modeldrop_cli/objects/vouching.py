"""What is printed with `--json` of keys and signatures."""

from __future__ import annotations

from typing import Annotated, TypedDict


class KeyObject(TypedDict):
    """The key of a home: its public parts."""

    home: Annotated[str, "id of the home"]
    host: Annotated[str, "name of its host"]
    key: Annotated[int, "its number: 1, and one more each time that it was renewed"]
    fingerprint: Annotated[str, "what it is known by"]
    public: Annotated[str, "the key for the journal: Ed25519, PEM"]
    models: Annotated[str, "the key for models: ECDSA on P-256, PEM"]
    made_by: Annotated[str, "who made it"]
    made_at: Annotated[str, "when"]


class CreatedKeyObject(KeyObject):
    """`key create`: the key of this home."""

    created: Annotated[bool, "whether it was made now"]


class KnownKeyObject(KeyObject):
    """A key, and whether it is trusted here."""

    own: Annotated[bool, "whether it is this home's"]
    trusted: Annotated[bool | None, "null if signatures can't be checked here"]
    pinned_by: Annotated[
        str | None, "first use, or who said that it is right; null if nothing is pinned"
    ]
    pinned_at: Annotated[str | None, "when; null if nothing is pinned"]
    checkpoint: Annotated[int | None, "the last checkpoint that was verified; null as above"]
    troubles: Annotated[list[str], "what is off with the home's keys"]


class KeysObject(TypedDict):
    """`key list`: the newest key of each home."""

    keys: Annotated[list[KnownKeyObject], "this home's first"]


class SignedObject(TypedDict):
    """`sign`: the signature of a version."""

    reference: Annotated[str, "the version"]
    sha256: Annotated[str, "digest of the signature, which is its name"]
    created: Annotated[bool, "whether it was added now"]
    host: Annotated[str, "name of the host that added it"]
    added_by: Annotated[str, "who added it"]
    added_at: Annotated[str, "when"]
