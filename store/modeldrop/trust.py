"""Whose keys a home trusts: pinned when it first meets them, and held against what comes later.

A pin is a file of the home. Without it, what a backend says of a key is believed; with it, a
history that was signed by another key, or goes back behind what was seen, is noticed. Pins move
forward when journals are fetched; `verify` only reads them.

What a crash leaves: a pin that lags, and is brought forward by the next fetch that brings something
new of that home.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from modeldrop import keys
from modeldrop.checkpoints import Pin, Seen, SharedCheckpoints, Signed, superseded
from modeldrop.errors import KeyNotFound, RecordDamaged, SignatureWrong
from modeldrop.files import make_folders, write_durable
from modeldrop.form import damaged, now
from modeldrop.journal import Copies
from modeldrop.layout import HomePaths
from modeldrop.names import parse_guid, printable
from modeldrop.signed_records import FIRST_USE, HomeKey, Trusted, Witnessed

REBUILT: Final = "home-rebuilt"
"""The entry by which a home says that it lost a part of its journal."""

# So many digits of a fingerprint name a key: nobody makes another one that begins so.
_SHORTEST: Final = 16


class Trust:
    """The pins of one home."""

    def __init__(self, paths: HomePaths, shared: SharedCheckpoints) -> None:
        """Keep them at `paths`."""
        self._paths = paths
        self._shared = shared
        self._copies = Copies(paths)

    def homes(self) -> list[str]:
        """Return the ids of the homes of which a key is pinned."""
        with contextlib.suppress(FileNotFoundError):
            names = (name.removesuffix(".json") for name in os.listdir(self._paths.trusted))
            return sorted(name for name in names if parse_guid(name) == name)
        return []

    def record(self, home: str) -> Trusted | None:
        """Return the pin of a home, or None if there is none.

        Raises:
            RecordDamaged: it isn't what was written.
        """
        path = self._paths.trusted_key(home)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            found = Trusted.from_bytes(data, str(path))
            if found.home != home:
                raise damaged(str(path), f"it is of the home {found.home}")
        except RecordDamaged as error:
            error.hint = (
                f"move {path} away: the next fetch pins the key that it meets then, so compare its "
                "fingerprint with what that host's `modeldrop key list` says"
            )
            raise
        return found

    def pin(self, home: str) -> Pin | None:
        """Return what is known of a home, or None.

        Raises:
            RecordDamaged: it can't be read.
        """
        found = self.record(home)
        if found is None:
            return None
        return Pin(keys.fingerprint(found.public), found.checkpoint, found.sha256)

    def witnessed(self, before: dict[str, int]) -> list[Witnessed]:
        """Return the checkpoints of others that were verified here since those in `before`."""
        every: list[Witnessed] = []
        for home in self.homes():
            # What is damaged is told by whoever fetches, and vouches for nothing.
            with contextlib.suppress(RecordDamaged):
                found = self.record(home)
                if found is not None and found.checkpoint > before.get(home, 0):
                    key = keys.fingerprint(found.public)
                    every.append(Witnessed(home, key, found.checkpoint, found.sha256))
        return every

    def follow(self, home: str, before: int) -> None:
        """Verify what a home has signed since, against what was fetched of it, and pin that.

        `before` is up to which line that was here before; what was lost of it and fetched again is
        held against the pin. Does nothing where signatures can't be checked, and where the home
        never signed.

        Raises:
            SignatureWrong: something is off; the pin stays where it is.
            RecordDamaged: the pin can't be read.
        """
        if not keys.available():
            return
        pin = self.record(home)
        if pin is None and self._shared.key(home, 1) is None:
            return  # one request, of the many homes that sign nothing
        told: list[str] = []
        known = self.pin(home)
        after = known.checkpoint if known else 0
        signed = self._shared.signed(home, known, told.append, after)
        newest = self._held(home, signed, pin if pin and pin.seq > before else None, told)
        key = signed.keyring.newest
        if told:
            host = pin.host if pin else key.host if key else "unknown"
            raise SignatureWrong(
                f"the home {home} (host {printable(host)}) signs otherwise than before: "
                f"{'; '.join(told)}",
                hint="`modeldrop verify` names everything; ask whoever looks after that host",
                detail={"home": home, "host": host},
            )
        if key is None or (pin is not None and newest is None):
            return
        if newest is not None:
            # Its home makes another one of that number, should a power loss take it.
            self._shared.confirm(home, newest.record.checkpoint)
        self._write(
            Trusted(
                home=home,
                host=key.host,
                key=pin.key if pin else key.key,
                public=pin.public if pin else key.public,
                checkpoint=newest.record.checkpoint if newest else 0,
                sha256=newest.sha256 if newest else "",
                seq=newest.record.seq if newest else 0,
                line=newest.record.sha256 if newest else "",
                pinned_by=pin.pinned_by if pin else FIRST_USE,
                pinned_at=pin.pinned_at if pin else now(),
            )
        )

    def choose(self, home: str, wanted: str, by: str) -> HomeKey:
        """Pin a key of a home because a person says so; return it.

        Raises:
            KeyNotFound: the home has no such key at the backend.
            DriverMissing: it can't be checked here.
        """
        keys.require()
        wanted = wanted.lower()
        every = self._shared.keyring(home, None, lambda _: None).every
        named = [key for key in every.values() if key.fingerprint.startswith(wanted)]
        if len(wanted) < _SHORTEST or len(named) != 1:
            there = ", ".join(key.fingerprint for key in every.values()) or "none"
            raise KeyNotFound(
                f"the home {home} has no key {printable(wanted)} at the backend; it has {there}",
                hint=f"give its fingerprint, {_SHORTEST} digits of it at least, as `modeldrop key "
                "list` prints it on that host",
            )
        (key,) = named
        self._write(
            Trusted(
                home=home,
                host=key.host,
                key=key.key,
                public=key.public,
                checkpoint=0,
                sha256="",
                seq=0,
                line="",
                pinned_by=by,
                pinned_at=now(),
            )
        )
        return key

    def _held(self, home: str, signed: Signed, pin: Trusted | None, told: list[str]) -> Seen | None:
        """Hold checkpoints, and the pin, against the copy of the journal.

        Returns the last checkpoint of which the copy has the line.
        """
        found = self._copies.record(home)
        reached = found.seq if found else 0
        # What it signed since is for the next fetch.
        new = {n: each for n, each in signed.checkpoints.items() if each.record.seq <= reached}
        said = {number: (each.record.seq, each.record.sha256) for number, each in new.items()}
        if pin is not None:
            said[pin.checkpoint] = pin.seq, pin.line
        lines, rebuilt = self._lines(home, {seq for seq, _ in said.values()})
        for number, (seq, line) in said.items():
            later = [each.record for n, each in new.items() if n > number and each.is_signed]
            if lines.get(seq) != line and not superseded(seq, later, lines, rebuilt):
                told.append(f"line {seq} isn't what checkpoint {number} vouches for")
        return new[max(new)] if new else None

    def _lines(self, home: str, wanted: set[int]) -> tuple[dict[int, str], list[int]]:
        """Return the digests of some lines of a copy, and the numbers of entries `home-rebuilt`."""
        lines: dict[int, str] = {}
        rebuilt: list[int] = []
        for entry in self._copies.newest(home) if wanted else ():
            if entry.seq < min(wanted):
                break
            if entry.seq in wanted:
                lines[entry.seq] = entry.sha256
            if entry.kind == REBUILT:
                rebuilt.append(entry.seq)
        return lines, rebuilt

    def _write(self, pin: Trusted) -> None:
        make_folders(self._paths.trusted, mode=0o700)
        write_durable(self._paths.trusted_key(pin.home), pin.to_bytes())
