"""What people do to let go, on one open home: retire versions, collect, clean up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from modeldrop import founding
from modeldrop.delivery import Delivery
from modeldrop.departures import retire, take_back
from modeldrop.retirements import Retired

if TYPE_CHECKING:
    from modeldrop.gc import Collected
    from modeldrop.intake import Cleaned, Storing


class Upkeep(Delivery):
    """An open home, and how it is kept small; the rest of the façade is `Repository`."""

    def retire(self, reference: str, *, reason: str = "", by: str | None = None) -> Retired:
        """Retire a version; return the record that says so. Idempotent.

        Its number stays for ever, and its bytes for a while.

        Raises:
            VersionInUse: an alias is on it, or it is live at a target; nothing was changed.
        """
        version = self._references.version(reference)
        self._claim_home()
        return retire(self, version, by=by or self.home.user, reason=reason)

    def unretire(self, reference: str, *, reason: str = "", by: str | None = None) -> Retired:
        """Take back that a version was retired, while its bytes are there. Idempotent.

        Raises:
            ArtifactCollected, VersionRetired: its bytes were let go; it never was retired.
        """
        version = self._references.version(reference)
        self._claim_home()
        return take_back(self, version, by=by or self.home.user, reason=reason)

    def gc(self, *, dry_run: bool = False) -> list[Collected]:
        """Collect what crashes left, and what is stored and may go; return it, or what would be.

        Where what is pinned can't be known, nothing that is stored goes: the last of it says why.

        Raises:
            BackendError: the backend failed; what was collected before stays so.
        """
        from modeldrop.gc import collect, collect_stored  # noqa: PLC0415 - hardly ever needed

        if dry_run:
            founding.check_repository(self.home, self.backend)
        else:
            self.ready_to_write()
        left = collect(self.home, self.backend, dry_run=dry_run)
        return [*left, *collect_stored(self._sequences(), dry_run=dry_run)]

    def clean(self, age: timedelta, *, dry_run: bool = False) -> Iterator[Cleaned]:
        """Delete the staged copies of what was stored longer ago; yield each. See `cleaning`."""
        from modeldrop import intake  # noqa: PLC0415 - hardly ever needed

        self.ready_to_write()
        return intake.clean(self.home, self._storing(), age, dry_run=dry_run)

    def _storing(self) -> Storing:
        from modeldrop.intake import Storing  # noqa: PLC0415 - not needed to register

        rooms = (self.runs_at_backend, self.registrar, self.transfer)
        connections = self.backend.capabilities.connections
        return Storing(*rooms, connections, self.home.config.formats)
