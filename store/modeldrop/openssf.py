"""Signatures of models as OpenSSF's model signing writes them: bytes and back, and what they cover.

A signature is a Sigstore bundle in JSON: a DSSE envelope around an in-toto statement that names
every file with its digest. Of what that allows, this writes and judges signatures by a key; those
by a certificate, or by Sigstore's own log, are read as far as the files that they name. The format
is specified by https://github.com/ossf/model-signing-spec, and tests hold this against the
`model-signing` tool itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from modeldrop import keys
from modeldrop.errors import SignatureWrong
from modeldrop.names import printable
from modeldrop.records import Artifact
from modeldrop.structs import Frozen

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MOST: Final = 64 << 20
"""How many bytes a bundle has at most; one that names 100,000 files has about 20 MB."""

_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://model_signing/signature/v1.0"
# What a model that is one file calls that.
_ITSELF: Final = "."


class Bundle(Frozen):
    """A signature that was read; whether it is right isn't asked yet."""

    data: bytes
    payload: bytes
    signature: bytes
    hint: str
    """The digest of the signer's key; empty where it isn't signed by a key."""
    files: Mapping[str, str]
    """The sha256 of each file, by its path within the model."""

    @property
    def digest(self) -> str:
        """What it is known by: the sha256 of its bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def is_by(self, public: str) -> bool:
        """Return whether a key for models made it."""
        return keys.model_signed_by(public, self.signature, _pae(self.payload))


def made(artifact: Artifact, private: bytes, where: str) -> bytes:
    """Return the signature of an artifact's files by a private key.

    Raises:
        UsageError: it is no key that models are signed with; `where` names it.
    """
    payload = _statement(artifact)
    signature = keys.sign_model(private, _pae(payload), where)
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": keys.hint_of(keys.public_of(private, where))},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": keys.to_base64(payload),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": keys.to_base64(signature), "keyid": ""}],
        },
    }
    return json.dumps(bundle).encode("ascii")


def read(data: bytes, where: str) -> Bundle:
    """Return the signature that these bytes are.

    Raises:
        SignatureWrong: they are none, or one over something else than whole files by sha256.
    """
    if len(data) > MOST:
        raise _wrong(where, "it is too large")
    try:
        # Not as `json` would: it takes UTF-16, too, and a record holds UTF-8.
        found = json.loads(data.decode("utf-8"))
        material = found["verificationMaterial"]
        envelope = found["dsseEnvelope"]
        (signed,) = envelope["signatures"]
        payload = keys.from_base64(envelope["payload"])
        signature = keys.from_base64(signed["sig"])
        if found["mediaType"] != MEDIA_TYPE or envelope["payloadType"] != _PAYLOAD_TYPE:
            raise _wrong(where, "it is a bundle of another kind")
        hint = material["publicKey"]["hint"] if "publicKey" in material else ""
        if payload is None or signature is None or not isinstance(hint, str):
            raise _wrong(where, "it isn't what was signed")
        files = _files(json.loads(payload), where)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _wrong(where, "it isn't such a bundle, or is damaged") from error
    return Bundle(data, payload, signature, hint, files)


def uncovered(bundle: Bundle, artifact: Artifact) -> str:
    """Return in which way a signature isn't over exactly the files of an artifact; empty if it is.

    A file that holds the signature itself may be left out: it can't be in what it signs.
    """
    there = {each.path: each.sha256 for each in artifact.files}
    signed = dict(bundle.files)
    if artifact.type == "file":
        # The tool signs a file as ".", and the folder that it is in by its name.
        (name,) = there
        signed = {name if path == _ITSELF else path: digest for path, digest in signed.items()}
    left_out = {path for path in there.keys() - signed.keys() if there[path] == bundle.digest}
    for path in sorted(there.keys() | signed.keys()):
        if path in left_out:
            continue
        shown = printable(path)
        if path not in there:
            return f"it names {shown}, which isn't there"
        if path not in signed:
            return f"it doesn't name {shown}"
        if there[path] != signed[path]:
            return f"it names other bytes as {shown}"
    return ""


def _statement(artifact: Artifact) -> bytes:
    """Return what is signed: the same bytes for the same files."""
    # In the order of the parts of the paths, as the tool has them.
    files = sorted(artifact.files, key=lambda each: PurePosixPath(each.path).parts)
    names = {each.path: _ITSELF if artifact.type == "file" else each.path for each in files}
    root = hashlib.sha256(b"".join(bytes.fromhex(each.sha256) for each in files))
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": artifact.artifact, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [
                {"name": names[each.path], "algorithm": "sha256", "digest": each.sha256}
                for each in files
            ],
        },
    }
    return json.dumps(statement).encode("ascii")


def _files(statement: Mapping[str, object], where: str) -> dict[str, str]:
    """Return the files that a statement names, checked against its own digest."""
    if (statement["_type"], statement["predicateType"]) != (_STATEMENT, _PREDICATE):
        raise _wrong(where, "it says something else than which files a model has")
    predicate = statement["predicate"]
    subjects = statement["subject"]
    if not isinstance(predicate, dict) or not isinstance(subjects, Sequence):
        raise _wrong(where, "it isn't such a bundle, or is damaged")
    serialization = predicate["serialization"]
    if (serialization["method"], serialization["hash_type"]) != ("files", "sha256"):
        raise _wrong(where, "it isn't over whole files by sha256, so nothing can be compared")
    files: dict[str, str] = {}
    root = hashlib.sha256()
    for each in predicate["resources"]:
        digest = each["digest"]
        root.update(bytes.fromhex(digest))
        if each["name"] in files:
            raise _wrong(where, "it names a file twice")
        files[str(PurePosixPath(each["name"]))] = digest
    (subject,) = subjects
    if subject["digest"]["sha256"] != root.hexdigest():
        raise _wrong(where, "its files don't have the digest that it gives for all of them")
    return files


def _pae(payload: bytes) -> bytes:
    """Return what is really signed: DSSE's encoding of the payload and its type."""
    return b"DSSEv1 %d %s %d %s" % (
        len(_PAYLOAD_TYPE),
        _PAYLOAD_TYPE.encode("ascii"),
        len(payload),
        payload,
    )


def _wrong(where: str, why: str) -> SignatureWrong:
    return SignatureWrong(
        f"{where} is no signature that can be used: {why}",
        hint="it has to be what `modeldrop sign` or `model_signing sign key` wrote",
        detail={"where": where},
    )
