"""What people do to share what a home did, on one open home: push, fetch, make a journal again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop import locks
from modeldrop.errors import JournalForked
from modeldrop.upkeep import Upkeep

if TYPE_CHECKING:
    from modeldrop.rebuild import Rebuilt
    from modeldrop.sync import FetchedJournal, Pushed


class Sharing(Upkeep):
    """An open home, and the journals of all homes; the rest of the façade is `Repository`."""

    def push(
        self, *, timeout: float = locks.TIMEOUT, renew: bool = False, whole: bool = False
    ) -> Pushed:
        """Share what the journal has acknowledged since the last time, in sealed segments.

        With `renew`, a home that was restored takes a new id, and goes on with a new journal that
        names the old one; nothing else may use the home then. `whole` is as for `Sync.push`.

        Raises:
            Locked: another process of this home does it, for all of `timeout`; or `renew` is
                needed, and a service runs.
            JournalForked: the home was copied or restored, and there is no `renew`.
            BackendError: the backend failed; the next push goes on.
        """
        self.ready_to_write()
        try:
            return self.sync.push(timeout=timeout, whole=whole)
        except JournalForked:
            if not renew:
                raise
        with locks.hold(self.home.paths.service_lock(), what="the service's work", timeout=0):
            self.home.disown(self.home.id)
            self._checked = self._claimed = False
            self.ready_to_write()
        return self.sync.push(timeout=timeout)

    def fetch(self) -> list[FetchedJournal]:
        """Bring here what other homes have shared of their journals; see `Sync.fetch`."""
        return self.sync.fetch()

    def rebuild(self) -> Rebuilt:
        """Make the journal whole again from what is left of it and from the backend.

        Nothing else may use the home meanwhile. Run it again where it was interrupted.

        Raises:
            Locked, ConfigError, BackendError: see `rebuild.rebuild`.
        """
        from modeldrop.rebuild import rebuild  # noqa: PLC0415 - hardly ever needed

        return rebuild(self)
