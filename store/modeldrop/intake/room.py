"""Is there room? What would take the bytes that are to stay free waits; what is smaller goes on."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Final

from modeldrop.errors import BackendError
from modeldrop.home import Home
from modeldrop.intake.storing import Storing
from modeldrop.intake.together import SMALL

# With so many bytes more than the reserve, small runs aren't the ones that fill a disk, and whether
# they fit is asked once in so many seconds.
_ROOMY: Final = 4 * 2**30
_ROOMY_FOR: Final = 0.5
# The home takes a few KiB for each run; what is large goes to the backend.
_AT_HOME: Final = 64 * 2**20


class Room:
    """The free space of the backend and of the home. For one thread."""

    def __init__(self, home: Home, storing: Storing) -> None:
        """Look at the disk of `home`, and ask `storing` of the backend's."""
        self._home = home
        self._storing = storing
        self._roomy_until = 0.0

    def lacks(self, size: int, reserve: int) -> str | None:
        """Return why a run of so many bytes would take what is to stay free, or None."""
        if not reserve or (size <= SMALL and time.monotonic() < self._roomy_until):
            return None
        free = None
        with contextlib.suppress(BackendError):
            # What is wrong with it shows when the run is stored.
            free = self._storing.free()
        if free is not None and free - size < reserve:
            return f"the backend has {_spell(free)} free, of which {_spell(reserve)} are kept"
        try:
            found = os.statvfs(self._home.paths.root)
        except OSError:
            return None
        at_home = found.f_bavail * found.f_frsize
        if at_home < min(reserve, _AT_HOME):
            return f"the disk of the home has {_spell(at_home)} free"
        if min(at_home, at_home if free is None else free) > reserve + _ROOMY:
            self._roomy_until = time.monotonic() + _ROOMY_FOR
        return None


def _spell(size: int) -> str:
    """Return a number of bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
