"""What registrations write beside the versions: claims, and which version each came to.

A claim says from which number on the version of a registration may stand. It is created once and
never changed, so whoever registers the same again begins to look where the first one did. The
note of what it came to spares a search; it may be missing, and is written by whoever needs it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container

from modeldrop import layout
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import BackendError, IntegrityError
from modeldrop.records import Registration, RegistrationDone, Version
from modeldrop.sequence import create_once


class Registrations:
    """The registrations at a backend."""

    def __init__(self, backend: Backend) -> None:
        """Read from and write to `backend`."""
        self._backend = backend

    def claim(self, claim: Registration) -> int:
        """Make the claim unless it is there; return the number from which on to look."""
        key = layout.registration(claim.experiment, claim.owner)
        data = create_once(self._backend, key, claim.to_bytes(), claim.owner)
        if data is None:
            return claim.starts_at
        return Registration.from_bytes(data, f"{self._backend.url}/{key}").starts_at

    def note_done(self, version: Version) -> None:
        """Note which version a registration came to, so that nobody has to read far again.

        Not needed where it stands at the number that the claim names, which is read first.
        Whoever finds the note missing and learns the answer writes it, so failing to is no error.
        """
        done = RegistrationDone(version.owner, version.experiment, version.version)
        key = layout.registration_done(version.experiment, version.owner)
        with contextlib.suppress(BackendError):
            self._backend.create(key, done.to_bytes())

    def claims(self, experiment: str, known: Container[str]) -> list[Registration]:
        """Return the claims of an experiment but those of known owners: what is under way, or died.

        Raises:
            IntegrityError: one isn't what was written.
        """
        folder = layout.registrations(experiment)
        names = patiently(lambda: list(self._backend.children(folder)))
        owners = [name.removesuffix(".json") for name in names if not name.endswith(".done.json")]
        found = []
        for owner in owners:
            if owner not in known:
                key = layout.registration(experiment, owner)
                data = patiently(lambda: self._backend.read(key))  # noqa: B023 - called at once
                if data is not None:
                    found.append(Registration.from_bytes(data, f"{self._backend.url}/{key}"))
        return found

    def check(self, version: Version) -> None:
        """Check what the registration of a version wrote beside it.

        Raises:
            IntegrityError: its claim is missing, or one of its records isn't what was written.
        """
        key = layout.registration(version.experiment, version.owner)
        data = self._backend.read(key)
        if data is None:
            message = f"{self._backend.url}/{key} is missing: registering again would not find it"
            raise IntegrityError(message, hint="restore it from a copy of the store")
        Registration.from_bytes(data, f"{self._backend.url}/{key}")
        key = layout.registration_done(version.experiment, version.owner)
        data = self._backend.read(key)
        # It may be missing: whoever needs it next writes it.
        if data is None:
            return
        done = RegistrationDone.from_bytes(data, f"{self._backend.url}/{key}")
        if done.version != version.version:
            message = f"{self._backend.url}/{key} names {done.version} for {version.version}"
            raise IntegrityError(message, hint="restore it from a copy of the store")
