"""Collecting: what crashes left, and what is stored and may go.

What crashes left are uploads that came to no end, and temporary files. Nobody ever sees them. What
has got nothing for as long as the backend says is given up: an upload is judged by its last part,
a temporary file by its last write, so nothing that somebody is still at is touched, on this host or
on another one. Two that collect at a time do the same work twice, and no harm. Of what is stored,
`letting_go` knows what may go.

What a crash leaves: some of it collected, and the rest for the next time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from modeldrop import files
from modeldrop.backend import Backend
from modeldrop.errors import IntegrityError
from modeldrop.home import Home
from modeldrop.letting_go import Clock, let_go
from modeldrop.names import printable
from modeldrop.pins import Sequences
from modeldrop.records import COLLECTED, MARKED
from modeldrop.structs import Frozen

UPLOAD: Final = "upload"
FILE: Final = "file"
MARK: Final = "marked"
ARTIFACT: Final = "artifact"
BYTES: Final = "bytes"
STORE: Final = "store"
_KINDS: Final = {MARKED: MARK, COLLECTED: ARTIFACT, "": BYTES}

# Temporary files of the home live for moments; those of a pull are written to all the while.
_OLD: Final = timedelta(days=1)
# `objects/<aa>/<sha256>/`: what is below has the names that an artifact's files have.
_CACHE_DEPTH: Final = 2


class Collected(Frozen):
    """One thing that is gone now, is to go, or would."""

    kind: str
    """`UPLOAD` or `FILE`, which a crash left; `BYTES` that no manifest names, or that a crash left
    of an artifact; `ARTIFACT`, which is let go; `MARK`, an artifact that goes a day later if still
    nothing pins it; `STORE`, all that is stored, where `trouble` says why nothing of it may go."""
    where: str
    """Its URL at the backend, its path, or the artifact's reference."""
    touched_at: datetime
    """When something of it was written last."""
    size: int | None
    """How many bytes it has, or None where the store doesn't say."""
    trouble: str = ""
    """Why it is still there; empty if it isn't."""


def collect(home: Home, backend: Backend, *, dry_run: bool) -> list[Collected]:
    """Collect what was given up at the backend and in the home; return it, or what would be.

    Raises:
        BackendError: the backend failed; what was collected before stays so.
    """
    now = _now()
    given_up = now - backend.capabilities.gives_up_after
    found = [
        Collected(
            UPLOAD if each.size is None else FILE,
            f"{backend.url}/{each.key}",
            each.touched_at,
            each.size,
        )
        for each in backend.end_unfinished(given_up, dry_run=dry_run)
    ]
    for path in _temporary(home):
        one = _collect(path, now - _OLD, dry_run=dry_run)
        if one is not None:
            found.append(one)
    return found


def collect_stored(sequences: Sequences, *, dry_run: bool) -> list[Collected]:
    """Let go of what is stored, may go, and was marked long enough ago; mark the rest.

    Raises:
        BackendError: the backend failed; what was collected before stays so.
    """
    backend, clock = sequences.backend, _clock(sequences.backend)
    found = []
    try:
        for each in let_go(sequences, clock, dry_run=dry_run):
            where = each.where if each.state else f"{backend.url}/{each.where}"
            found.append(Collected(_KINDS[each.state], where, each.at, each.size, each.trouble))
    except IntegrityError as error:
        trouble = f"nothing that is stored was collected: {error.message}"
        found.append(Collected(STORE, backend.url, clock.earliest, None, trouble))
    return found


def _now() -> datetime:
    return datetime.now(UTC)


def _clock(backend: Backend) -> Clock:
    mine = _now()
    theirs = backend.now() or mine
    return Clock(min(mine, theirs), max(mine, theirs))


def _temporary(home: Home) -> Iterator[Path]:
    """Yield the temporary files and folders of a home, but for what others put into it."""
    paths = home.paths
    spared = {paths.staging, home.staging, paths.model_repository, Path(home.backend_url)}
    folders = [paths.root]
    while folders:
        folder = folders.pop()
        entries = []
        # What is gone or another user's has nothing of ours; any other error is one.
        with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(folder) as listed:
            entries = list(listed)
        for entry in entries:
            path = Path(entry.path)
            if files.is_temp_name(entry.name):
                yield path
            elif entry.is_dir(follow_symlinks=False) and path not in spared:
                is_cached = path.is_relative_to(paths.objects)
                if not is_cached or len(path.relative_to(paths.objects).parts) <= _CACHE_DEPTH:
                    folders.append(path)


def _collect(path: Path, before: datetime, *, dry_run: bool) -> Collected | None:
    """Collect a temporary file or folder, unless something of it was written since a time."""
    found = files.last_touched(str(path))
    touched = None if found is None else datetime.fromtimestamp(found[0], UTC)
    if found is None or touched is None or touched >= before:
        return None
    trouble = ""
    try:
        if not dry_run:
            files.remove_temp(str(path))
    except OSError as error:
        trouble = f"{error.strerror}: {printable(str(error.filename or path))}"
    return Collected(FILE, str(path), touched, found[1], trouble)
