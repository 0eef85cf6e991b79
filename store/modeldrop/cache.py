"""The cache of pulled artifacts: `objects/` of the home, by sha256.

An artifact is cached under its digest, verified while it was pulled, and read-only. A note beside
the digest's folder says what its files looked like then, so that a later `path` compares sizes
and times instead of reading the bytes again; what differs is pulled anew. All of it can be
removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from modeldrop import files, locks
from modeldrop.backend.base import Backend
from modeldrop.copies import check_names, files_in
from modeldrop.errors import Conflict, IntegrityError, Locked, NewerFormat
from modeldrop.form import Part, Record
from modeldrop.names import is_sha256
from modeldrop.pulling import pull
from modeldrop.records import Artifact
from modeldrop.structs import Frozen

# Seconds for which a copy that another process pulls is waited for: it may have hundreds of
# gigabytes, and the lock of one that dies is free.
_PATIENCE: Final = threading.TIMEOUT_MAX


class _CachedFile(Part):
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    """Whoever writes to a file can put its other time back, and not this one."""


class _Cached(Record):
    """`objects/<xx>/<sha256>.notes/<artifact>`."""

    kind: ClassVar[str] = "cached"
    sha256: str
    files: tuple[_CachedFile, ...]


def kept(artifact: Artifact, place: Path) -> Path | None:
    """Return `place` if it holds a verified copy of the artifact, as `cached` left it."""
    return place if _is_as_noted(place, _note_of(place), artifact) else None


def cached(backend: Backend, artifact: Artifact, place: Path, moved: Callable[[int], None]) -> Path:
    """Return `place` once it holds a verified copy of the artifact; pull it if it doesn't.

    `place` is `<folder of the digest>/<name>`. Safe to call from several processes: while one
    pulls, however long that takes, the others wait.

    Raises:
        ArtifactDamaged: stored bytes aren't what was recorded, or a name leads elsewhere.
    """
    # Before anything is removed: the names are data from a store.
    check_names(artifact)
    folder = place.parent
    note = _note_of(place)
    if _is_as_noted(place, note, artifact):
        # By this `prune` knows what was used last.
        with contextlib.suppress(OSError):
            os.utime(note)
        return place
    files.make_folders(folder)
    lock = folder.with_name(f"{folder.name}.lock")
    with locks.hold(lock, what=f"the cached {place.name}", timeout=_PATIENCE):
        if _is_as_noted(place, note, artifact):
            return place
        _remove(place)
        pull(backend, artifact, place, moved)
        for each in [place, *(place.rglob("*") if place.is_dir() else ())]:
            if each.is_file():
                each.chmod(0o444)
        files.write_quick(note, _note(place, artifact).to_bytes())
    return place


def _note_of(place: Path) -> Path:
    # Beside the folder, where no artifact's name can be the same; by digest, since a name may be
    # as long as names can be.
    digest = hashlib.sha256(place.name.encode()).hexdigest()[:16]
    return place.parent.with_name(f"{place.parent.name}-{digest}.json")


class Pruned(Frozen):
    """A cached artifact that was removed, or would be."""

    sha256: str
    size: int
    used_at: float
    """When it was pulled or asked for last, in seconds since 1970."""


def prune(objects: Path, most: int, *, dry_run: bool) -> tuple[list[Pruned], int]:
    """Remove what wasn't used for longest, until the cache has at most so many bytes.

    Returns what was removed, and how many bytes are left. What is being pulled just now stays. A
    program that has a file open keeps it; one that only has its path doesn't.
    """
    found = [each for folder in objects.glob("??/*") if (each := _measured(folder)) is not None]
    left, gone = sum(each.size for each in found), []
    for each in sorted(found, key=lambda each: (each.used_at, each.sha256)):
        if left <= most:
            break
        if dry_run or _forget(objects / each.sha256[:2] / each.sha256):
            left -= each.size
            gone.append(each)
    return gone, left


def _measured(folder: Path) -> Pruned | None:
    """Return what a digest's folder holds, unfinished pulls included, or None if it is none."""
    if not is_sha256(folder.name) or not folder.is_dir():
        return None
    size, used = 0, 0.0
    with contextlib.suppress(OSError):
        used = max([folder.stat().st_mtime, *(note.stat().st_mtime for note in _notes(folder))])
    for above, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(above, name)).st_size
    return Pruned(folder.name, size, used)


def _notes(folder: Path) -> list[Path]:
    return list(folder.parent.glob(f"{folder.name}-*.json"))


def _forget(folder: Path) -> bool:
    """Remove a digest's folder with its notes; return whether that could be done."""
    try:
        lock = folder.with_name(f"{folder.name}.lock")
        with locks.hold(lock, what=f"the cached {folder.name}", timeout=0):
            # Notes first: what a crash leaves without one is pulled anew.
            for note in _notes(folder):
                note.unlink(missing_ok=True)
            shutil.rmtree(folder)
    except (Locked, OSError):
        return False
    return True


def _note(place: Path, artifact: Artifact) -> _Cached:
    found = []
    for file in artifact.files:
        path = place if artifact.type == "file" else place / file.path
        status = path.lstat()
        found.append(_CachedFile(file.path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return _Cached(artifact.sha256, tuple(found))


def _is_as_noted(place: Path, note: Path, artifact: Artifact) -> bool:
    try:
        noted = _Cached.from_bytes(note.read_bytes(), str(note))
        if place.is_symlink() or noted != _note(place, artifact):
            return False
    except (OSError, IntegrityError, NewerFormat):
        return False
    # What was put beside a folder's files would be loaded with them.
    return artifact.type == "file" or len(files_in(place)) == len(artifact.files)


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def check_folder(to: Path | str) -> None:
    """Make sure that something can be pulled into a folder, which need not be there yet.

    Raises:
        Conflict: what is there is no folder.
    """
    folder = Path(to).absolute()
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        what = "leads nowhere" if there.is_symlink() else "is no folder"
        message = f"nothing can be pulled into {to}: {there} {what}"
        raise Conflict(message, hint="move it away, or pull into another folder")
