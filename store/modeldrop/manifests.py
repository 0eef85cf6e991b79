"""Copies of revisions' manifests in the home, where a request to the backend costs more.

A manifest never changes, so a copy is as good as what it was copied from once the backend is known
to hold that revision. It is checked as any record is, and may be removed at any time.
"""

from __future__ import annotations

import contextlib

from modeldrop.backend.base import Backend
from modeldrop.errors import IntegrityError, NewerFormat
from modeldrop.files import make_folders, write_quick
from modeldrop.layout import HomePaths
from modeldrop.records import Revision


class Manifests:
    """The copies that a home keeps of a backend's manifests."""

    def __init__(self, paths: HomePaths, backend: Backend) -> None:
        """Keep copies only where looking at the backend is a request."""
        self._paths = paths
        self._backend = backend

    def keep(self, revision: Revision, data: bytes) -> None:
        """Keep a manifest as it is stored. It can be read again, so a full disk fails nobody."""
        if self._backend.capabilities.lists_by_prefix:
            path = self._paths.manifest(revision.run, revision.revision)
            with contextlib.suppress(OSError):
                make_folders(path.parent)
                write_quick(path, data)

    def kept(self, run: str, number: int, size: int) -> Revision | None:
        """Return a revision by the copy of its manifest, if there is a whole one of this size."""
        path = self._paths.manifest(run, number)
        try:
            data = path.read_bytes()
            revision = Revision.from_bytes(data, str(path))
        except (OSError, IntegrityError, NewerFormat):
            return None
        right = (run, number, size) == (revision.run, revision.revision, len(data))
        return revision if right else None
