"""What people do to vouch for what they did, on one open home: keys, trust, signatures."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop import locks
from modeldrop.errors import Conflict, IntegrityError, InvalidName, RecordDamaged, UsageError
from modeldrop.journal import NewEntry
from modeldrop.names import WHOLE_RUN, check_guid, printable
from modeldrop.sharing import Sharing
from modeldrop.structs import Frozen

if TYPE_CHECKING:
    from modeldrop.checkpoints import Pin
    from modeldrop.form import Fields
    from modeldrop.records import Artifact, Version
    from modeldrop.references import Resolved
    from modeldrop.sealing import CreatedKey
    from modeldrop.signatures import Added, Judged, Signatures
    from modeldrop.signed_records import HomeKey, Trusted


class KnownKey(Frozen):
    """The newest key of a home, and whether it is trusted here."""

    key: HomeKey
    is_own: bool
    is_trusted: bool | None
    """None where signatures can't be checked."""
    pin: Trusted | None
    """What this home has pinned of the other one."""
    troubles: tuple[str, ...]
    """What is off with its keys."""


class Vouching(Sharing):
    """An open home, and what it vouches for; the rest of the façade is `Repository`."""

    def create_key(self, *, renew: bool = False) -> CreatedKey:
        """Make a key for this home, or answer the one that it has; what it shares is signed then.

        With `renew` another one takes its place: see `Sealing.create`. Its public part is at the
        backend when this returns; the journal is signed by the next push.

        Raises:
            DriverMissing: the extra for signatures isn't installed.
            Conflict: the home had a key and has lost it, and there is no `renew`.
            SignatureWrong: somebody else has put a key for this home to the backend.
        """
        self.ready_to_write()
        made = self.sync.sealing.create(renew=renew)
        if made.created:
            self._note(
                "key-created",
                ("home",),
                {
                    "key": made.key.key,
                    "fingerprint": made.key.fingerprint,
                    "endorsed": made.key.endorsement is not None,
                },
            )
        return made

    def keys(self) -> list[KnownKey]:
        """Return the newest key of each home that has one, this home's first."""
        from modeldrop.checkpoints import Pin  # noqa: PLC0415 - not needed to register
        from modeldrop.keys import fingerprint  # noqa: PLC0415 - the same

        sealing = self.sync.sealing
        own = sealing.key()
        homes = {*sealing.shared.homes(), *sealing.trust.homes()} - {self.home.id}
        found: list[KnownKey] = []
        if own is not None:
            found.append(KnownKey(own, is_own=True, is_trusted=True, pin=None, troubles=()))
        for home in sorted(homes):
            troubles: list[str] = []
            pin: Trusted | None = None
            try:
                pin = sealing.trust.record(home)
            except RecordDamaged as error:
                troubles.append(error.message)
            known = Pin(fingerprint(pin.public)) if pin is not None else None
            keyring = sealing.shared.keyring(home, known, troubles.append)
            if keyring.every:
                newest = keyring.every[max(keyring.every)]
                is_trusted = keyring.is_trusted(newest)
                found.append(
                    KnownKey(
                        newest,
                        is_own=False,
                        is_trusted=is_trusted,
                        pin=pin,
                        troubles=tuple(troubles),
                    )
                )
        return found

    def trust_key(self, home: str, fingerprint: str) -> HomeKey:
        """Trust a key of another home from now on, whatever was pinned before; return it.

        The fingerprint has to come from whoever looks after that home, not from the backend.

        Raises:
            KeyNotFound: the home has no such key at the backend.
            DriverMissing: the extra for signatures isn't installed.
        """
        guid = check_guid(home)
        self.ready_to_write()
        # A fetch that is under way would pin again what it has read.
        with locks.hold(self.home.paths.fetch_lock(), what="fetching journals"):
            key = self.sync.sealing.trust.choose(guid, fingerprint, self.home.user)
        self._note("key-trusted", (f"home:{guid}",), {"home": guid, "fingerprint": key.fingerprint})
        return key

    def sign(
        self,
        reference: str,
        *,
        key: Path | str | None = None,
        signature: Path | str | None = None,
        by: str | None = None,
    ) -> Added:
        """Sign a version's files, in OpenSSF's form, and put the signature beside it; return it.

        Signed is by `key`, a file with a private ECDSA key in PEM, or by this home's key for
        models. With `signature`, a file that another tool wrote is added, and nothing signed. A
        version that the key has signed already is left alone.

        Raises:
            InvalidName: it isn't a version.
            KeyNotFound: no key was named, and this home has none.
            UsageError: a file can't be read, or is no such key.
            SignatureWrong: the signature isn't over exactly the version's files.
            DriverMissing: the extra for signatures isn't installed.
        """
        from modeldrop import keys, openssf  # noqa: PLC0415 - not needed to register

        resolved, artifact = self._references.artifact(reference)
        version = _version(resolved)
        self._claim_home()
        if signature is not None:
            data, where = _read(signature), str(signature)
        else:
            keys.require()
            private, where = self._private(key)
            mine = {keys.public_of(private, where): where}
            for each in self._signatures.judged(version, artifact, mine):
                if each.record is not None and each.signer:
                    return _there(each)
            data = openssf.made(artifact, private, where)
        added = self._signatures.add(version, artifact, data, where, by or self.home.user)
        if added.created:
            name = added.record.reference
            self._note("signed", (name,), {"sha256": version.sha256, "signature": added.digest})
        return added

    def signatures(self, reference: str, public_keys: Sequence[Path | str] = ()) -> list[Judged]:
        """Return what each signature of a version is worth.

        Its signer is one of the public keys in these files; where none is given, it is this home,
        or another one whose key a person has trusted here. A key that was merely met at the
        backend is nobody's: whoever has the store's keys can put one there.

        Raises:
            SignatureNotFound: the version has none.
            InvalidName: it isn't a version.
            UsageError: a file can't be read, or holds no such key.
            DriverMissing: the extra for signatures isn't installed.
        """
        return self._judged(*self._references.artifact(reference), public_keys)

    def signature_files(self, resolved: Resolved, artifact: Artifact) -> dict[str, bytes]:
        """Return the signatures of what `artifact` has found, by the names of their files.

        Each is as the `model-signing` tool takes it: `<artifact>.sig`, `<artifact>.2.sig` …, in
        the order of their digests. None of them is checked.

        Raises:
            SignatureNotFound: the version has none.
            RecordDamaged: one can't be read.
            InvalidName: it isn't a version.
        """
        from modeldrop.signatures import missing  # noqa: PLC0415 - not needed to register

        version = _version(resolved)
        name = version.run if artifact.artifact == WHOLE_RUN else artifact.artifact
        files: dict[str, bytes] = {}
        for number, (_, record) in enumerate(self._signatures.of(version), 1):
            if isinstance(record, IntegrityError):
                raise record
            files[f"{name}.sig" if number == 1 else f"{name}.{number}.sig"] = record.bundle.encode()
        if not files:
            raise missing(version)
        return files

    def put_signatures(self, files: Mapping[str, bytes], to: Path | str = ".") -> list[Path]:
        """Write what `signature_files` has returned into the folder `to`; return the paths.

        Raises:
            Conflict: there is something else of that name; what came before it is there.
        """
        from modeldrop.files import create_durable, make_folders  # noqa: PLC0415 - see above

        make_folders(to)
        for name, data in files.items():
            path = Path(to) / name
            if not create_durable(path, data) and path.read_bytes() != data:
                message = f"{path} is there, and is another signature"
                raise Conflict(message, hint="move it away, or pull into another folder")
        return [Path(to) / name for name in files]

    @property
    def _signatures(self) -> Signatures:
        from modeldrop.signatures import Signatures  # noqa: PLC0415 - not needed to register

        return Signatures(self.home, self.backend)

    def _judged(
        self, resolved: Resolved, artifact: Artifact, public_keys: Sequence[Path | str]
    ) -> list[Judged]:
        from modeldrop import keys  # noqa: PLC0415 - not needed to register
        from modeldrop.signatures import missing  # noqa: PLC0415 - the same

        keys.require()
        signers = {keys.read_model_key(_read(each), str(each)): str(each) for each in public_keys}
        version = _version(resolved)
        found = self._signatures.judged(version, artifact, signers or self._signers())
        if not found:
            raise missing(version)
        return found

    def _private(self, key: Path | str | None) -> tuple[bytes, str]:
        if key is not None:
            return _read(key), str(key)
        own = self.sync.sealing.require()
        return self.sync.sealing.model_key(own), str(self.home.paths.model_key(own.key))

    def _signers(self) -> Mapping[str, str]:
        """Return whom this home takes for a signer: itself, and homes that a person trusts."""
        from modeldrop.signed_records import FIRST_USE  # noqa: PLC0415 - not needed to register

        sealing = self.sync.sealing
        pins: dict[str, Pin | None] = {}
        # What is damaged is told by those who look at keys, and makes nobody a signer.
        with contextlib.suppress(RecordDamaged):
            pins[self.home.id] = sealing.pin()
        for home in sealing.trust.homes():
            with contextlib.suppress(RecordDamaged):
                found = sealing.trust.record(home)
                if found is not None and found.pinned_by != FIRST_USE:
                    pins[home] = sealing.trust.pin(home)
        signers: dict[str, str] = {}
        for home, pin in pins.items():
            if pin is not None:
                keyring = sealing.shared.keyring(home, pin, lambda _: None)
                trusted = {*keyring.trusted}
                if home == self.home.id and trusted:
                    # What it signed by a key that it has renewed since is its own as well.
                    trusted |= {each.key for each in keyring.back_from(max(trusted))}
                for key in (keyring.every[number] for number in sorted(trusted)):
                    signers[key.models] = f"{key.host} ({home})"
        return signers

    def _note(self, kind: str, about: tuple[str, ...], details: Fields) -> None:
        entry = NewEntry(kind, about, str(uuid.uuid4()), details, self.home.user)
        self.journal.append(entry)


def _version(resolved: Resolved) -> Version:
    if resolved.version is None:
        message = f"{printable(resolved.name)} is a run, and signatures are kept with versions"
        raise InvalidName(message, hint="`modeldrop register` gives it a version")
    return resolved.version


def _there(found: Judged) -> Added:
    from modeldrop.signatures import Added  # noqa: PLC0415 - not needed to register

    assert found.record is not None  # noqa: S101 - the caller has looked
    return Added(found.record, found.digest, created=False)


def _read(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        message = f"{path} can't be read: {error.strerror}"
        raise UsageError(message, hint="name a file that you may read") from error
