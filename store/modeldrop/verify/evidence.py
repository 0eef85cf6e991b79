"""What homes have signed, held against what journals say: for those who check the whole.

A history that was rewritten with digests that fit, or put back from an old copy, is told by what
was signed of it: by its own home, and by other homes that have verified that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256

from modeldrop import keys
from modeldrop.accounts import Account, Found
from modeldrop.checkpoints import Pin, Seen, Signed, superseded
from modeldrop.errors import RecordDamaged
from modeldrop.form import Json
from modeldrop.sealing import Sealing
from modeldrop.structs import Frozen

SIGNED = "signed"
UNSIGNED = "unsigned"
UNCHECKED = "not checked"
WRONG = "wrong"


class SignedJournal(Frozen):
    """Whether one home's journal is signed."""

    home: str
    host: str
    state: str
    """`signed`, `unsigned`, `not checked` (where signatures can't be checked), or `wrong`."""
    seq: int
    """Up to which line; 0 if none is."""
    entries: int
    """How many lines it has."""
    key: str
    """The fingerprint of the key that it is signed by; empty if there is none."""
    pinned: bool
    """Whether this home knew the key before, and doesn't just believe the backend."""

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "home": self.home,
            "host": self.host,
            "state": self.state,
            "seq": self.seq,
            "entries": self.entries,
            "key": self.key,
            "pinned": self.pinned,
        }


class Evidence:
    """What all homes have signed, as it was before the journals were read."""

    def __init__(self, sealing: Sealing, home: str, found: Found) -> None:
        """Read it; what is off is told to `found`."""
        self._sealing = sealing
        self._home = home
        self._found = found
        self._wrong: set[str] = set()
        self._pins: dict[str, Pin] = {}
        self._signed: dict[str, Signed] = {}
        for each in sorted({home, *sealing.shared.homes(), *sealing.trust.homes()}):
            pin = self._pin(each)
            if pin is not None:
                self._pins[each] = pin
            self._signed[each] = sealing.shared.signed(each, pin, partial(self._tell, each))

    @property
    def wanted(self) -> Mapping[str, frozenset[int]]:
        """The numbers of the lines that somebody vouches for, by the home."""
        return {
            home: frozenset(each.record.seq for each in signed.checkpoints.values())
            for home, signed in self._signed.items()
        }

    @property
    def count(self) -> int:
        """How many checkpoints there are."""
        return sum(len(each.checkpoints) for each in self._signed.values())

    def judge(self, accounts: Mapping[str, Account]) -> list[SignedJournal]:
        """Hold it against the journals, tell what is off, and return what is signed."""
        for home, signed in self._signed.items():
            self._hold(signed, accounts.get(home) or Account(home))
        for home, signed in self._signed.items():
            for each in signed.checkpoints.values():
                if each.is_signed:
                    self._witness(home, each)
        return [
            self._state(home, self._signed.get(home), account)
            for home, account in sorted(accounts.items())
        ]

    def _pin(self, home: str) -> Pin | None:
        try:
            own = home == self._home
            return self._sealing.pin() if own else self._sealing.trust.pin(home)
        except RecordDamaged as error:
            self._tell(home, error.message)
            return None

    def _tell(self, home: str, what: str) -> None:
        self._wrong.add(home)
        self._found("signature", home, what)

    def _hold(self, signed: Signed, account: Account) -> None:
        """Hold what a home has signed against its journal."""
        tell: Callable[[str], None] = partial(self._tell, account.home)
        every = signed.checkpoints
        for number, each in every.items():
            line = account.lines.get(each.record.seq)
            later = [every[n].record for n in every if n > number and every[n].is_signed]
            if line == each.record.sha256 or superseded(
                each.record.seq, later, account.lines, account.rebuilt
            ):
                continue
            what = f"line {each.record.seq}, which checkpoint {number} vouches for"
            if line is not None:
                tell(f"{what}, is another one: the history was rewritten or forked")
            elif account.is_whole:
                tell(
                    f"{what}, isn't there, the journal ends with line {account.last.seq}: it was "
                    "cut, or put back from an old copy"
                )

    def _witness(self, home: str, by: Seen) -> None:
        """Hold what a home has verified of others against what those have signed."""
        for each in by.record.witnessed:
            signed = self._signed.get(each.home)
            there = signed.checkpoints.get(each.checkpoint) if signed else None
            if there is None and each.home in self._signed:
                # It may be newer than what was read here.
                there_now = self._now(each.home, each.checkpoint)
            else:
                there_now = there.sha256 if there else ""
            if there_now != each.sha256:
                self._tell(
                    each.home,
                    f"checkpoint {each.checkpoint}, which {by.record.host} ({home}) has verified, "
                    "is gone or another one: the history was rewritten or rolled back",
                )

    def _now(self, home: str, number: int) -> str:
        try:
            found = self._sealing.shared.checkpoint(home, number)
        except RecordDamaged:
            return ""
        return sha256(found[1]).hexdigest() if found else ""

    def _state(self, home: str, signed: Signed | None, account: Account) -> SignedJournal:
        newest = signed.newest if signed else None
        key = signed.keyring.every.get(newest.record.key) if signed and newest else None
        if home in self._wrong:
            state = WRONG
        elif newest is None:
            state = UNSIGNED
        elif not keys.available():
            state = UNCHECKED
        else:
            state = SIGNED if newest.is_signed else UNSIGNED
        return SignedJournal(
            home=home,
            host=account.host,
            state=state,
            seq=newest.record.seq if newest and state == SIGNED else 0,
            entries=account.last.seq,
            key=key.fingerprint if key else "",
            pinned=home in self._pins,
        )
