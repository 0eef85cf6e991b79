"""Verified pulls: an artifact's bytes from a backend to a place of this machine.

Bytes are hashed while they are written to a temporary name, synced, and only what has the recorded
digest gets the final name, whole. A crash leaves temporary files, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from modeldrop import files, ranges
from modeldrop.backend.base import Backend
from modeldrop.copies import check_names, same
from modeldrop.parallel import Progress, in_parallel
from modeldrop.records import Artifact, StoredFile
from modeldrop.transfer import Sent, _Hash, damage

_CHUNK: Final = 512 * 1024
# What renaming answers where there is something else already.
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR})


def pull(
    backend: Backend, artifact: Artifact, target: Path, moved: Progress = lambda _: None
) -> Path:
    """Bring an artifact to `target`, verified and whole; return it.

    What is there already with the same bytes is the answer.

    Raises:
        Conflict: there is something else at `target`.
        ArtifactDamaged: stored bytes aren't what was recorded, and the message names the
            files; or a name in the manifest leads elsewhere. Nothing is left at `target`.
    """
    check_names(artifact)
    if os.path.lexists(target):
        return same(target, artifact)
    files.make_folders(target.parent)
    temp = files.temp_beside(target)
    try:
        if artifact.type == "file":
            _fetch_all(backend, {artifact.files[0]: temp}, artifact, moved)
        else:
            temp.mkdir()
            places = {file: temp.joinpath(*file.path.split("/")) for file in artifact.files}
            for folder in {place.parent for place in places.values()}:
                folder.mkdir(parents=True, exist_ok=True)
            _fetch_all(backend, places, artifact, moved)
            files.sync_tree(temp)
        try:
            files.rename_if_absent(temp, target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            # Somebody else was quicker, perhaps with the same pull.
            return same(target, artifact)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temp) if temp.is_dir() else temp.unlink(missing_ok=True)
    return target


def _fetch_all(
    backend: Backend, places: dict[StoredFile, Path], artifact: Artifact, moved: Progress
) -> None:
    every = in_parallel(
        backend.capabilities.connections,
        lambda file, moved: _fetch(backend, file, places[file], moved),
        places,
        moved,
    )
    bad = [file.path for file, good in every if not good]
    if bad:
        raise damage(artifact, bad, backend.url)


def _fetch(backend: Backend, file: StoredFile, place: Path, moved: Progress) -> bool:
    """Write a stored file to `place`; return whether it is what was recorded."""
    source = backend.source(file.key)
    if source is None:
        return False
    with source, place.open("x+b") as out, _Hash(file.size) as digest:
        if ranges.is_worth_while(source, file.size):
            ranges.save(source, file.size, out.fileno(), moved, digest.update)
        else:
            while data := source.read(_CHUNK):
                digest.update(data)
                out.write(data)
                moved(len(data))
        out.flush()
        files.sync_file(out.fileno())
        return digest.sent() == Sent(file.sha256, file.size)
