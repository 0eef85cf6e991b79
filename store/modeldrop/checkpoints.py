"""What homes have signed, at the backend: their keys and checkpoints, read and judged.

Nothing is written here; `sealing` creates, `trust` pins. What a reader checks is specified in
docs/format.md, "Keys of homes" and "Checkpoints".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from modeldrop import keys, layout
from modeldrop.backend.base import Backend
from modeldrop.errors import IntegrityError
from modeldrop.form import damaged
from modeldrop.names import parse_guid
from modeldrop.signed_records import Checkpoint, HomeKey, signed_part
from modeldrop.structs import Frozen, Struct, field

R = TypeVar("R", HomeKey, Checkpoint)
Q = TypeVar("Q")

# So many records are read one after the other: a fetch looks at many homes at a time already.
_FEW: Final = 4

# Tells what is off with a home's keys or checkpoints.
Told = Callable[[str], None]


class Pin(Frozen):
    """What is known of a home before anything is asked: its key, and a checkpoint."""

    fingerprint: str
    checkpoint: int = 0
    sha256: str = ""


class Keyring(Struct):
    """The keys of one home, as far as they are whole, by their numbers."""

    every: dict[int, HomeKey] = field(default_factory=dict)
    trusted: set[int] = field(default_factory=set)
    endorsed: set[int] = field(default_factory=set)
    """Those that the key before them has signed."""

    def back_from(self, number: int) -> list[HomeKey]:
        """Return a key and those before it that were renewed, and not lost."""
        found = [self.every[number]]
        while number in self.endorsed:
            number -= 1
            found.append(self.every[number])
        return found

    @property
    def newest(self) -> HomeKey | None:
        """The trusted key that came last."""
        return self.every[max(self.trusted)] if self.trusted else None

    def is_trusted(self, key: HomeKey) -> bool | None:
        """Return whether a key of it is to be trusted; None where that can't be checked."""
        return key.key in self.trusted if keys.available() else None


class Seen(Frozen):
    """A checkpoint whose record is whole, and the digest of its bytes."""

    record: Checkpoint
    sha256: str
    is_signed: bool
    """Whether a trusted key has signed it; False, too, where that can't be checked."""


class Signed(Struct):
    """What one home has signed."""

    keyring: Keyring
    checkpoints: dict[int, Seen] = field(default_factory=dict)

    @property
    def newest(self) -> Seen | None:
        """The last checkpoint."""
        return self.checkpoints[max(self.checkpoints)] if self.checkpoints else None


class SharedCheckpoints:
    """The keys and checkpoints that homes have shared through a backend."""

    def __init__(self, backend: Backend) -> None:
        """Read from this backend."""
        self._backend = backend

    def homes(self) -> list[str]:
        """Return the ids of all homes that have shared anything, by one listing."""
        names = self._backend.children(layout.JOURNALS)
        return sorted(name for name in names if parse_guid(name) == name)

    def key(self, home: str, number: int) -> tuple[HomeKey, bytes] | None:
        """Return a key of a home as it is stored, or None if it is absent.

        Raises:
            RecordDamaged: it isn't what was written, or is another's.
        """
        return self._read(HomeKey, home, layout.home_keys(home), number)

    def checkpoint(self, home: str, number: int) -> tuple[Checkpoint, bytes] | None:
        """Return a checkpoint of a home as it is stored, or None if it is absent.

        Raises:
            RecordDamaged: it isn't what was written, or is another's.
        """
        return self._read(Checkpoint, home, layout.checkpoints(home), number)

    def confirm(self, home: str, number: int) -> None:
        """Make sure that a checkpoint that was read lasts, before it is relied on."""
        self._backend.confirm(layout.numbered(layout.checkpoints(home), number))

    def last(self, folder: str) -> int:
        """Return the highest number in a folder, by a listing; 0 if there is none."""
        return max(filter(None, map(layout.number_of, self._backend.children(folder))), default=0)

    def keyring(self, home: str, pin: Pin | None, told: Told) -> Keyring:
        """Return the keys of a home, and which of them are to be trusted.

        What is off is told; where nothing can be checked, no key is trusted and none is off.
        """
        folder = layout.home_keys(home)
        found = [
            each
            for each in self._several(HomeKey, home, folder, 1, self.last(folder), told)
            if each is not None
        ]
        return judge_keys([(key, data) for key, data in found], pin, told)

    def signed(self, home: str, pin: Pin | None, told: Told, after: int = 0) -> Signed:
        """Return what a home has signed, after a checkpoint that is pinned; tell what is off.

        Whether the journal says the same is for whoever has read it.
        """
        folder = layout.checkpoints(home)
        # Before the keys: a checkpoint that is there by now has its key there, too.
        first, last = after + 1, self.last(folder)
        keyring = self.keyring(home, pin, told)
        signed = Signed(keyring)
        before = pin.sha256 if pin is not None and after else None
        newest = 0
        if pin is not None and pin.checkpoint > last:
            told(f"checkpoint {pin.checkpoint}, which was seen here, is gone: {_ROLLED_BACK}")
        for number, found in enumerate(
            self._several(Checkpoint, home, folder, first, last, told), first
        ):
            if found is None:
                before = ""
                continue
            record, data = found
            sha256 = hashlib.sha256(data).hexdigest()
            what = f"checkpoint {number}"
            # After one that is damaged there is nothing to compare with.
            if before not in {"", record.before}:
                told(f"{what} doesn't follow the one before it")
            if pin is not None and pin.checkpoint == number and pin.sha256 != sha256:
                told(f"{what} isn't the one that was seen here: {_ROLLED_BACK}")
            if record.key < newest:
                told(
                    f"{what} is signed by key {record.key}, after key {newest} had taken its place"
                )
            newest = max(newest, record.key)
            key = keyring.every.get(record.key)
            is_signed = False
            if key is None:
                told(f"{what} is signed by key {record.key}, which isn't there")
            elif keys.available():
                is_right = keys.signed_by(key.public, record.signature, signed_part(data))
                is_signed = is_right and record.key in keyring.trusted
                if not is_right:
                    told(f"{what} isn't signed by the key that it names")
            signed.checkpoints[number] = Seen(record, sha256, is_signed)
            before = sha256
        return signed

    def _several(
        self, kind: type[R], home: str, folder: str, first: int, last: int, told: Told
    ) -> Iterator[tuple[R, bytes] | None]:
        """Yield the records of a folder in order, and None for what is told to be off."""

        def read(number: int) -> tuple[R, bytes] | str:
            try:
                found = self._read(kind, home, folder, number)
            except IntegrityError as error:
                return error.message
            missing = f"{self._backend.url}/{layout.numbered(folder, number)} is missing"
            return missing if found is None else found

        for found in self._mapped(read, range(first, last + 1)):
            if isinstance(found, str):
                told(found)
                yield None
            else:
                yield found

    def _mapped(self, read: Callable[[int], Q], numbers: Sequence[int]) -> Iterator[Q]:
        """Yield what is read, in order, several at a time where there are several."""
        if len(numbers) <= _FEW:
            yield from map(read, numbers)
            return
        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            yield from pool.map(read, numbers)

    def _read(self, kind: type[R], home: str, folder: str, number: int) -> tuple[R, bytes] | None:
        key = layout.numbered(folder, number)
        data = self._backend.read(key)
        if data is None:
            return None
        where = f"{self._backend.url}/{key}"
        record = kind.from_bytes(data, where)
        # Each kind is numbered in the field that bears its name.
        if (record.home, getattr(record, kind.kind)) != (home, number):
            raise damaged(where, "it is another home's, or of another number")
        return record, data


_ROLLED_BACK: Final = "the history was rewritten or rolled back"


def judge_keys(found: Sequence[tuple[HomeKey, bytes]], pin: Pin | None, told: Told) -> Keyring:
    """Return a home's keys, and which are trusted: the pinned one or the first, and what follows.

    What is off is told. Where signatures can't be checked, none is trusted.
    """
    keyring = Keyring({key.key: key for key, _ in found})
    if pin is not None and pin.fingerprint not in {key.fingerprint for key, _ in found}:
        told(f"the key that is trusted here, {pin.fingerprint}, isn't among its keys")
    before: HomeKey | None = None
    for key, data in found:
        if key.before != (before.fingerprint if before else None):
            told(f"key {key.key} doesn't follow the one before it")
        if keys.available():
            _judge(keyring, key, data, before, pin, told)
        before = key
    return keyring


def _judge(
    keyring: Keyring,
    key: HomeKey,
    data: bytes,
    before: HomeKey | None,
    pin: Pin | None,
    told: Told,
) -> None:
    message = signed_part(data)
    if not keys.signed_by(key.public, key.signature, message):
        told(f"key {key.key} isn't signed by itself")
        return
    is_endorsed = (
        before is not None
        and key.endorsement is not None
        and keys.signed_by(before.public, key.endorsement, message)
    )
    if is_endorsed:
        keyring.endorsed.add(key.key)
    is_anchor = before is None if pin is None else key.fingerprint == pin.fingerprint
    if is_anchor or (is_endorsed and before is not None and before.key in keyring.trusted):
        keyring.trusted.add(key.key)
    elif keyring.trusted:
        told(
            f"it has a new key, {key.fingerprint}, which its old one didn't sign; ask whoever "
            f"looks after it, and `modeldrop key trust {key.home} {key.fingerprint}` if it is right"
        )


def superseded(
    seq: int,
    later: Sequence[Checkpoint],
    lines: Mapping[int, str],
    rebuilt: Sequence[int],
) -> bool:
    """Return whether a later checkpoint says that the home lost the line that one spoke of.

    `later` are signed, `lines` the digests of the journal's lines that checkpoints speak of, and
    `rebuilt` the numbers of its entries that say that it was rebuilt.
    """
    return any(
        lines.get(each.seq) == each.sha256
        and any(number <= min(seq, each.seq) for number in rebuilt)
        for each in later
    )
