"""The cache of pulled artifacts: `objects/` of the home, by sha256.

An artifact is cached under its digest, verified while it was pulled, and read-only. Beside it
stands what its files looked like then, so that a later `path` needs to compare sizes and times,
not to read the bytes again; what differs is pulled anew.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from modeldrop import files, locks
from modeldrop.errors import IntegrityError
from modeldrop.records import Artifact, Part, Record, parts_of
from modeldrop.transfer import Transfer


@dataclass(frozen=True, slots=True)
class _CachedFile(Part):
    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class _Cached(Record):
    """`objects/<xx>/<sha256>/<artifact>.json`."""

    kind: ClassVar[str] = "cached"
    sha256: str
    files: tuple[_CachedFile, ...] = parts_of(_CachedFile)


def cached(
    transfer: Transfer, artifact: Artifact, place: Path, moved: Callable[[int], None]
) -> Path:
    """Return `place` once it holds a verified copy of the artifact; pull it if it doesn't.

    Raises:
        ArtifactDamaged: stored bytes aren't what was recorded.
    """
    note = place.with_name(f"{place.name}.json")
    if _is_as_noted(place, note, artifact):
        return place
    files.make_folders(place.parent)
    with locks.hold(place.parent / ".lock", what=f"the cached {artifact.artifact}"):
        if _is_as_noted(place, note, artifact):
            return place
        _remove(place)
        transfer.pull(artifact, place, moved)
        for each in [place, *(place.rglob("*") if place.is_dir() else ())]:
            if each.is_file():
                each.chmod(0o444)
        files.write_quick(note, _note(place, artifact).to_bytes())
    return place


def _note(place: Path, artifact: Artifact) -> _Cached:
    found = []
    for file in artifact.files:
        path = place if artifact.type == "file" else place / file.path
        status = path.lstat()
        found.append(_CachedFile(file.path, status.st_size, status.st_mtime_ns))
    return _Cached(artifact.sha256, tuple(found))


def _is_as_noted(place: Path, note: Path, artifact: Artifact) -> bool:
    try:
        noted = _Cached.from_bytes(note.read_bytes(), str(note))
        return noted == _note(place, artifact)
    except (OSError, IntegrityError):
        return False


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
