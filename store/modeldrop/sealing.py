"""A home's own key, and what it signs: a checkpoint of its journal after what it has shared.

Purpose: who rewrites this home's history later has to forge a signature, too.

Calling sequence: `create` once, by a person; `seal` at the end of each push, which costs one look
at a file where there is no key, and nothing at the backend where nothing is new.

What a crash leaves: keys without `key.json`, which are none; a key that isn't at the backend yet,
which the next `seal` brings there; a checkpoint without its note, which the next one finds.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from typing import Final

from modeldrop import keys, layout, locks
from modeldrop.admission import check_backend
from modeldrop.backend.base import Backend
from modeldrop.checkpoints import Pin, SharedCheckpoints
from modeldrop.errors import (
    BackendError,
    Conflict,
    JournalForked,
    KeyNotFound,
    OutcomeUnknown,
    RecordDamaged,
    SignatureWrong,
)
from modeldrop.files import make_folders, remove_durable, write_durable, write_quick
from modeldrop.form import now, seal
from modeldrop.home import Home
from modeldrop.journal import Journal
from modeldrop.records import Head
from modeldrop.signed_records import Checkpoint, HomeKey, Sealed, signed_part
from modeldrop.structs import Frozen, replace
from modeldrop.trust import REBUILT, Trust

_log = logging.getLogger(__name__)

_NONE: Final = "`modeldrop key create` makes one"


class CreatedKey(Frozen):
    """The key of this home."""

    key: HomeKey
    created: bool
    """Whether this call made it."""


class Sealing:
    """What one home signs."""

    def __init__(self, home: Home, backend: Backend, journal: Journal) -> None:
        """Sign the journal of this home, as it is at this backend."""
        self._home = home
        self._paths = home.paths
        self._backend = backend
        self._journal = journal
        self.shared = SharedCheckpoints(backend)
        self.trust = Trust(home.paths, self.shared)

    def key(self) -> HomeKey | None:
        """Return the home's key, or None if it has none.

        Raises:
            RecordDamaged: it can't be told.
        """
        path = self._paths.key_record
        try:
            found = HomeKey.from_bytes(path.read_bytes(), str(path))
        except FileNotFoundError:
            return None
        # A copied home has another id than the home whose key it carries.
        return found if found.home == self._home.id else None

    def require(self) -> HomeKey:
        """Return the home's key.

        Raises:
            KeyNotFound: it has none.
        """
        found = self.key()
        if found is None:
            raise KeyNotFound(f"this home, {self._home.id}, has no key", hint=_NONE)
        return found

    def pin(self) -> Pin | None:
        """Return what this home knows of itself; None if it has no key.

        Raises:
            RecordDamaged: it can't be told.
        """
        key = self.key()
        if key is None:
            return None
        last = self.last(key)
        return Pin(key.fingerprint, last.checkpoint, last.sha256) if last else Pin(key.fingerprint)

    def last(self, key: HomeKey) -> Sealed | None:
        """Return what is known of the home's last checkpoint, or None."""
        try:
            found = Sealed.from_bytes(self._paths.sealed.read_bytes(), "")
        except (FileNotFoundError, RecordDamaged):
            return None
        return found if found.home == key.home else None

    def model_key(self, key: HomeKey) -> bytes:
        """Return the private key for models.

        Raises:
            KeyNotFound: its file is gone.
        """
        return self._private(str(self._paths.model_key(key.key)))

    def create(self, *, renew: bool = False) -> CreatedKey:
        """Make a key for this home and share its public part, or answer the one that it has.

        With `renew` another key takes its place; the old one endorses it, if it is still there.
        Others trust it by that.

        Raises:
            DriverMissing: nothing can be signed here.
            Conflict: the home had a key and has lost it, and there is no `renew`.
            SignatureWrong: somebody else has put a key for this home to the backend.
        """
        keys.require()
        with locks.hold(self._paths.push_lock(), what="sharing the journal"):
            there = self.key()
            if there is not None and not renew:
                self._publish(there)
                return CreatedKey(there, created=False)
            made = self._make(there, renew=renew)
            self._publish(made)
            # Also those that a renewal left which was cut short.
            for number in range(1, made.key if there is not None else 1):
                for path in (self._paths.journal_key(number), self._paths.model_key(number)):
                    if path.exists():
                        remove_durable(path)
            return CreatedKey(made, created=True)

    def seal(self, place: Head) -> bool:
        """Have what was shared up to a line signed, if this home has a key; return whether it was.

        For the holder of the push lock, after the line is at the backend.

        Raises:
            JournalForked: the backend has a checkpoint of this home of another history.
            SignatureWrong: it has one that this home didn't sign.
            BackendError: the backend failed; the next push goes on.
        """
        key = self.key()
        if key is None:
            return False
        if not keys.available():
            _log.warning("the journal isn't signed: the package cryptography isn't installed")
            return False
        last = self.last(key)
        if last is not None and (last.seq, last.line, last.key) == (
            place.seq,
            place.sha256,
            key.key,
        ):
            return False
        check_backend(self._home, self._backend)
        if last is None or last.key != key.key:
            self._publish(key)
        folder = layout.checkpoints(self._home.id)
        number = last.checkpoint + 1 if last else max(self.shared.last(folder), 1)
        before = last.sha256 if last else None
        witnessed = {**last.witnessed} if last else {}
        while True:
            made = self._checkpoint(key, number, before, place, witnessed)
            found, sha256 = self._placed(key, number, made)
            before = sha256
            witnessed.update((each.home, each.checkpoint) for each in found.witnessed)
            self._keep(found)
            self._note(found, sha256, witnessed)
            if (found.seq, found.sha256, found.key) == (place.seq, place.sha256, key.key):
                return True
            number += 1

    def bring_back(self) -> None:
        """Have what this home has signed at the backend again, where it is missing there.

        For a backend that was put back from a copy; for the holder of the push lock.

        Raises:
            BackendError: the backend failed; the next time goes on.
        """
        check_backend(self._home, self._backend)
        for kind, folder in (
            (HomeKey, layout.home_keys(self._home.id)),
            (Checkpoint, layout.checkpoints(self._home.id)),
        ):
            there = {*map(layout.number_of, self._backend.children(folder))}
            for record in self._kept(kind):
                number = getattr(record, kind.kind)
                if record.home == self._home.id and number not in there:
                    self._create(layout.numbered(folder, number), record.to_bytes())

    # Keys

    def _make(self, old: HomeKey | None, *, renew: bool) -> HomeKey:
        number = self.shared.last(layout.home_keys(self._home.id))
        found = self.shared.key(self._home.id, number) if number else None
        before = found[0] if found else None
        if before is not None and not renew:
            raise Conflict(
                f"this home, {self._home.id}, had a key and has lost it: {before.fingerprint}",
                hint="bring `keys/` back from a copy of the home; or run it with `--renew`, "
                "and have the other homes trust that by `modeldrop key trust`",
                detail={"key": before.fingerprint},
            )
        if old is not None and before is not None and old.public != before.public:
            raise self._foreign(before.key)
        number += 1
        journal_key, model_key = keys.new_journal_key(), keys.new_model_key()
        where = str(self._paths.journal_key(number))
        made = HomeKey(
            home=self._home.id,
            host=self._home.host,
            key=number,
            public=keys.public_of(journal_key, where),
            models=keys.public_of(model_key, where),
            before=before.fingerprint if before else None,
            made_by=self._home.user,
            made_at=now(),
            signature="",
            endorsement=None,
        )
        message = signed_part(made.to_bytes())
        endorsement: str | None = None
        if old is not None:
            # Without it the new key is made all the same: the old one is lost.
            with contextlib.suppress(KeyNotFound):
                path = str(self._paths.journal_key(old.key))
                endorsement = keys.to_base64(keys.sign(self._private(path), message, path))
        signature = keys.to_base64(keys.sign(journal_key, message, where))
        made = replace(made, signature=signature, endorsement=endorsement)
        make_folders(self._paths.keys, mode=0o700)
        write_durable(self._paths.journal_key(number), journal_key, mode=0o600)
        write_durable(self._paths.model_key(number), model_key, mode=0o600)
        write_durable(self._paths.key_record, made.to_bytes())
        return made

    def _private(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise KeyNotFound(
                f"{path}, the private key of this home, is gone",
                hint="bring it back from a copy of the home, or `modeldrop key create --renew`",
            ) from None

    def _publish(self, key: HomeKey) -> None:
        check_backend(self._home, self._backend)
        where = layout.numbered(layout.home_keys(self._home.id), key.key)
        data = key.to_bytes()
        there = self._create(where, data)
        if there != data:
            raise self._foreign(key.key)
        self._keep(key)
        _log.debug("step: key shared")

    def _foreign(self, number: int) -> SignatureWrong:
        home = self._home.id
        where = f"{self._backend.url}/{layout.numbered(layout.home_keys(home), number)}"
        return SignatureWrong(
            f"{where} is a key for this home that it didn't make",
            hint="somebody with the store's keys put it there, or a copy of this home is in use: "
            "find out who, and `modeldrop key create --renew` once it is removed",
            detail={"home": home, "key": number},
        )

    # Checkpoints

    def _checkpoint(
        self, key: HomeKey, number: int, before: str | None, place: Head, known: dict[str, int]
    ) -> bytes:
        made = Checkpoint(
            home=key.home,
            host=self._home.host,
            checkpoint=number,
            key=key.key,
            seq=place.seq,
            sha256=place.sha256,
            before=before,
            made_at=now(),
            signature="",
            witnessed=tuple(self.trust.witnessed(known)),
        )
        path = str(self._paths.journal_key(key.key))
        signature = keys.sign(self._private(path), signed_part(made.to_bytes()), path)
        return replace(made, signature=keys.to_base64(signature)).to_bytes()

    def _placed(self, key: HomeKey, number: int, made: bytes) -> tuple[Checkpoint, str]:
        """Create a checkpoint, or take the one that is there, if it is this home's.

        Raises:
            JournalForked, SignatureWrong, BackendError: as for `seal`.
        """
        where = layout.numbered(layout.checkpoints(self._home.id), number)
        data = self._create(where, made)
        shown = f"{self._backend.url}/{where}"
        found = Checkpoint.from_bytes(data, shown)
        if data != made:
            self._require_own(key, found, data, shown)
        _log.debug("step: checkpoint created")
        return found, hashlib.sha256(data).hexdigest()

    def _require_own(self, key: HomeKey, found: Checkpoint, data: bytes, shown: str) -> None:
        by = self.shared.key(self._home.id, found.key)
        if (
            found.home != key.home
            or by is None
            or not keys.signed_by(by[0].public, found.signature, signed_part(data))
        ):
            raise SignatureWrong(
                f"{shown} isn't signed by this home, and stands where its own would",
                hint="somebody with the store's keys put it there: find out who, and remove it",
                detail={"home": key.home, "checkpoint": found.checkpoint},
            )
        line, rebuilt = "", False
        for entry in self._journal.entries():
            rebuilt |= entry.kind == REBUILT and entry.seq <= found.seq
            if entry.seq == found.seq:
                line = entry.sha256
        if found.key > key.key or (line != found.sha256 and not rebuilt):
            raise JournalForked(
                f"this home, {key.home}, has signed another history: line {found.seq}, by {shown}",
                hint="the home was copied or restored: stop the service; then `modeldrop rebuild` "
                "takes over what was shared, or `modeldrop push` gives this one a new id",
                detail={"home": key.home, "host": self._home.host, "line": found.seq},
            )

    def _note(self, made: Checkpoint, sha256: str, witnessed: dict[str, int]) -> None:
        # A hint: what a power loss takes of it is found at the backend again.
        record = Sealed(
            home=made.home,
            key=made.key,
            checkpoint=made.checkpoint,
            sha256=sha256,
            seq=made.seq,
            line=made.sha256,
            witnessed=witnessed,
        )
        write_quick(self._paths.sealed, record.to_bytes())

    def _keep(self, record: HomeKey | Checkpoint) -> None:
        # For those who put an old copy of the bucket back; whatever is torn is passed over.
        line = seal(record.kind, record.as_json(), indent=None)
        with open(self._paths.signed, "ab") as file:
            file.write(line)

    def _kept(self, kind: type[HomeKey | Checkpoint]) -> Iterator[HomeKey | Checkpoint]:
        try:
            with open(self._paths.signed, "rb") as file:
                for line in file:
                    # Of another kind, or torn: the one before a torn one has no end of its own.
                    with contextlib.suppress(RecordDamaged):
                        yield kind.from_bytes(line, "")
        except FileNotFoundError:
            return

    def _create(self, where: str, data: bytes) -> bytes:
        """Create a record if it is absent; return what is there then.

        Raises:
            BackendError: nothing is, or it isn't known.
        """
        probe = self._home.probe()
        if probe is None or not probe.holds:
            # Where create-if-absent doesn't hold, to create is perhaps to overwrite.
            there = self._backend.read(where)
            if there is not None:
                return there
        trouble: BackendError | None = None
        try:
            if self._backend.create(where, data):
                return data
        except BackendError as error:
            trouble = error
        there = self._backend.read(where)
        if there is not None:
            return there
        raise trouble or OutcomeUnknown(
            f"{self._backend.url}/{where} is neither there nor absent",
            hint="run `modeldrop push` again: nothing happens twice",
        )
