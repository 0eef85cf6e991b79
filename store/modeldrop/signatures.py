"""Signatures of versions, beside them at the backend: who stands behind a model.

Purpose: to know whose a version's bytes are, whoever else has the keys of the store.

Calling sequence: `add`, by anybody who may write, any number of times; `judged` by whoever wants to
know. A signature is named by its own digest, so nothing has to be agreed upon and adding it again
changes nothing. What a crash leaves: it is there or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from modeldrop import keys, layout, openssf
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import BackendError, IntegrityError, SignatureNotFound, SignatureWrong
from modeldrop.form import Json, damaged, now
from modeldrop.home import Home
from modeldrop.records import Artifact, Version
from modeldrop.signed_records import ModelSignature
from modeldrop.structs import Frozen


class Added(Frozen):
    """A signature of a version."""

    record: ModelSignature
    digest: str
    created: bool
    """Whether this call put it there."""


class Judged(Frozen):
    """What a signature is worth."""

    digest: str
    record: ModelSignature | None
    """None where it can't be read."""
    signer: str
    """Whose key it is, as the keys were named; empty if it is none of them."""
    trouble: str
    """What is wrong with it; empty if nothing is, also where its signer isn't known."""

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "sha256": self.digest,
            "signer": self.signer,
            "trouble": self.trouble,
            "host": self.record.host if self.record else "",
            "added_by": self.record.added_by if self.record else "",
            "added_at": self.record.added_at if self.record else "",
        }


class Signatures:
    """The signatures of versions at one backend."""

    def __init__(self, home: Home, backend: Backend) -> None:
        """Read from `backend`, and add there in the name of this home."""
        self._home = home
        self._backend = backend

    def add(self, version: Version, artifact: Artifact, data: bytes, where: str, by: str) -> Added:
        """Put a signature beside a version; return it.

        Raises:
            SignatureWrong: it isn't over exactly the version's files.
            BackendError: the backend failed; adding it again is safe.
        """
        bundle = openssf.read(data, where)
        if why := openssf.uncovered(bundle, artifact):
            name = f"{version.experiment}/{version.version}"
            raise SignatureWrong(
                f"{where} isn't a signature of {name}: {why}",
                hint="sign what `modeldrop pull` gives, all of it: `model_signing sign key` leaves "
                "git's files out without `--no-ignore-git-paths`",
                detail={"reference": name},
            )
        key = layout.signature(version.experiment, version.version, bundle.digest)
        made = ModelSignature(
            experiment=version.experiment,
            version=version.version,
            sha256=version.sha256,
            bundle=data.decode("utf-8"),
            home=self._home.id,
            host=self._home.host,
            added_by=by,
            added_at=now(),
        )
        there = self._backend.read(key)
        if there is None:
            check_backend(self._home, self._backend)
            there = self._created(key, made.to_bytes())
        record = self._parse(there, version, bundle.digest)
        return Added(record, bundle.digest, created=record == made)

    def versions_of(self, experiment: str) -> list[int]:
        """Return the numbers of the versions that have signatures, by a listing."""
        folder = layout.all_signatures(experiment)
        found = patiently(lambda: list(self._backend.children(folder)))
        return sorted(int(name) for name in found if name.isdecimal())

    def of(self, version: Version) -> list[tuple[str, ModelSignature | IntegrityError]]:
        """Return the signatures of a version by their digests, or why one can't be read."""
        folder = layout.signatures(version.experiment, version.version)
        names = patiently(lambda: list(self._backend.children(folder)))
        found: list[tuple[str, ModelSignature | IntegrityError]] = []
        for digest in sorted(filter(None, map(layout.signature_digest, names))):
            key = layout.signature(version.experiment, version.version, digest)
            try:
                data = self._backend.read(key)
                if data is None:
                    raise damaged(f"{self._backend.url}/{key}", "it is listed, and missing")
                found.append((digest, self._parse(data, version, digest)))
            except IntegrityError as error:
                found.append((digest, error))
        return found

    def judged(
        self, version: Version, artifact: Artifact, signers: Mapping[str, str]
    ) -> list[Judged]:
        """Return what each signature of a version is worth; `signers` are names by public keys.

        Where signatures can't be checked, each is held against the version's files alone.
        """
        return [self._judge(digest, each, artifact, signers) for digest, each in self.of(version)]

    def _judge(
        self,
        digest: str,
        found: ModelSignature | IntegrityError,
        artifact: Artifact,
        signers: Mapping[str, str],
    ) -> Judged:
        if isinstance(found, IntegrityError):
            return Judged(digest, None, "", found.message)
        try:
            bundle = openssf.read(found.bundle.encode("utf-8"), f"signature {digest}")
        except SignatureWrong as error:
            return Judged(digest, found, "", error.message)
        if why := openssf.uncovered(bundle, artifact):
            return Judged(digest, found, "", why)
        for public, name in signers.items() if keys.available() else ():
            if bundle.is_by(public):
                return Judged(digest, found, name, "")
            if bundle.hint == keys.hint_of(public):
                what = f"it names the key of {name}, which didn't sign this"
                return Judged(digest, found, "", what)
        return Judged(digest, found, "", "")

    def _created(self, key: str, data: bytes) -> bytes:
        trouble: BackendError | None = None
        try:
            if self._backend.create(key, data):
                return data
        except BackendError as error:
            trouble = error
        there = self._backend.read(key)
        if there is None:
            raise trouble or BackendError(f"{self._backend.url}/{key} was written and isn't there")
        return there

    def _parse(self, data: bytes, version: Version, digest: str) -> ModelSignature:
        key = layout.signature(version.experiment, version.version, digest)
        where = f"{self._backend.url}/{key}"
        found = ModelSignature.from_bytes(data, where)
        mine = (version.experiment, version.version, version.sha256)
        if (found.experiment, found.version, found.sha256) != mine:
            raise damaged(where, "it is of another version")
        if hashlib.sha256(found.bundle.encode("utf-8")).hexdigest() != digest:
            raise damaged(where, "it holds another signature than its name says")
        return found


def missing(version: Version) -> SignatureNotFound:
    """Return the error that says that a version has no signature."""
    name = f"{version.experiment}/{version.version}"
    return SignatureNotFound(f"{name} has no signature", hint=f"`modeldrop sign {name}` makes one")
