"""Keys and signatures: what is asked of `cryptography`, and of nobody else.

It is an extra, and loaded where something is signed or checked: whoever has no key never waits for
it. Two kinds of keys are used: Ed25519 for a home's journal, and ECDSA on the curves of NIST for
models, since the tools for those know nothing else. A public key is, as text, the base64 of its
DER; a private one is PEM without a password, as bytes, and never told of.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Final

from modeldrop.errors import DriverMissing, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        ECDSA,
        EllipticCurve,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

# Bits of a curve's field: P-256, P-384, P-521, each with the digest that is as strong.
_CURVES: Final = (256, 384, 521)
_MODEL_KEY: Final = (
    "it has to be PEM of an ECDSA key on P-256, P-384 or P-521, such as "
    "`openssl ecparam -name prime256v1 -genkey -noout` prints"
)


def available() -> bool:
    """Return whether anything can be signed or checked here."""
    try:
        import cryptography  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return False
    return True


def require() -> None:
    """Return if signatures can be made and checked here.

    Raises:
        DriverMissing: `cryptography` isn't installed.
    """
    if not available():
        message = "signatures need the package cryptography, which isn't installed"
        raise DriverMissing(message, hint="`pip install 'modeldrop[sign]'`")


def new_journal_key() -> bytes:
    """Return a new private key for a journal."""
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra

    return _pem(ed25519.Ed25519PrivateKey.generate())


def new_model_key() -> bytes:
    """Return a new private key for models, on P-256."""
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - an extra

    return _pem(ec.generate_private_key(ec.SECP256R1()))


def public_of(private: bytes, where: str) -> str:
    """Return the public part of a private key.

    Raises:
        UsageError: it is no private key of a kind that is used here; `where` names it.
    """
    return _text(_loaded(private, where).public_key())


def sign(private: bytes, message: bytes, where: str) -> bytes:
    """Return the signature of a message by a journal's key.

    Raises:
        UsageError: it is no such key; `where` names it.
    """
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - an extra

    key = _loaded(private, where)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        said = f"{where} is no key that journals are signed by"
        raise UsageError(said, hint="bring it back from a copy of the home")
    return key.sign(message)


def sign_model(private: bytes, message: bytes, where: str) -> bytes:
    """Return the signature of a message by a key for models.

    Raises:
        UsageError: it is no such key; `where` names it.
    """
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - an extra

    key = _loaded(private, where)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        said = f"{where} isn't one that models are signed by: it is no ECDSA key"
        raise UsageError(said, hint=_MODEL_KEY)
    return key.sign(message, _ecdsa(key.curve))


def signed_by(public: str, signature: str, message: bytes) -> bool:
    """Return whether a journal's key made this signature, in base64, of a message."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - the same

    key = _public(public)
    raw = from_base64(signature)
    if not isinstance(key, ed25519.Ed25519PublicKey) or raw is None:
        return False
    try:
        key.verify(raw, message)
    except InvalidSignature:
        return False
    return True


def model_signed_by(public: str, signature: bytes, message: bytes) -> bool:
    """Return whether a key for models made this signature of a message."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same

    key = _public(public)
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size not in _CURVES:
        return False
    try:
        key.verify(signature, message, _ecdsa(key.curve))
    except InvalidSignature:
        return False
    return True


def read_model_key(data: bytes, where: str) -> str:
    """Return the public key for models that a file holds, as PEM or DER.

    Raises:
        UsageError: it holds none.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same

    for load in (serialization.load_pem_public_key, serialization.load_der_public_key):
        try:
            key = load(data)
        except ValueError:
            continue
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size in _CURVES:
            return _text(key)
    raise UsageError(
        f"{where} holds no public key for models",
        hint="it has to be PEM or DER of an ECDSA key on P-256, P-384 or P-521, such as "
        "`openssl ec -in PRIVATE -pubout` prints",
    )


def fingerprint(public: str) -> str:
    """Return what a public key is known by: the sha256 of its DER, or an empty text if it is none.

    Needs nothing that may be missing.
    """
    raw = from_base64(public)
    return hashlib.sha256(raw).hexdigest() if raw else ""


def pem_of(public: str) -> str:
    """Return a public key as PEM. Needs nothing that may be missing."""
    lines = (public[at : at + 64] for at in range(0, len(public), 64))
    body = "\n".join(lines)
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def hint_of(public: str) -> str:
    """Return what a bundle hints at its signer's key by: the sha256 of the key's PEM."""
    return hashlib.sha256(pem_of(public).encode("ascii", "replace")).hexdigest()


def to_base64(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str) -> bytes | None:
    """Return the bytes of a base64 text, or None if it isn't exactly that."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # No bit of it may change unseen: the last digit has some that stand for nothing.
    return raw if to_base64(raw) == text else None


def _pem(key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra

    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _loaded(private: bytes, where: str) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415 - the same

    try:
        key = serialization.load_pem_private_key(private, None)
    except TypeError:
        raise UsageError(
            f"{where} is encrypted, and its password isn't asked for here",
            hint="`openssl pkey -in FILE -out PLAIN` takes the password off; keep PLAIN at 0600",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size in _CURVES
    ):
        return key
    raise UsageError(
        f"{where} is no private key that is used here",
        hint=_MODEL_KEY,
    )


def _public(public: str) -> PublicKeyTypes | None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - the same

    raw = from_base64(public)
    try:
        return serialization.load_der_public_key(raw) if raw else None
    except (ValueError, UnsupportedAlgorithm):
        return None


def _text(key: Ed25519PublicKey | EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra

    return to_base64(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _ecdsa(curve: EllipticCurve) -> ECDSA:
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - the same

    algorithm = {256: hashes.SHA256, 384: hashes.SHA384}.get(curve.key_size, hashes.SHA512)
    return ec.ECDSA(algorithm())
