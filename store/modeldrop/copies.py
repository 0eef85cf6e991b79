"""What a copy of an artifact on this machine is: its bytes and nothing else, where it belongs.

A manifest is data from a store: no name in it leads out of the folder that is pulled to.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from modeldrop.errors import ArtifactDamaged, Conflict
from modeldrop.names import WHOLE_RUN, is_sha256, printable, refuse_component
from modeldrop.records import Artifact, StoredFile

_DISTRUST: Final = "don't trust this store before you know why"


def is_copy(path: Path, artifact: Artifact) -> bool:
    """Return whether a local file or folder holds exactly an artifact's bytes; reads them all."""
    try:
        if artifact.type == "file":
            return _file_is(path, artifact.files[0])
        if path.is_symlink() or not path.is_dir():
            return False
        return files_in(path) == {file.path for file in artifact.files} and all(
            _file_is(path / file.path, file) for file in artifact.files
        )
    except OSError:
        # What can't be read is no copy that anybody could use.
        return False


def files_in(folder: Path) -> set[str]:
    """Return the paths of all in a folder and below that is no folder."""
    return {
        str(each.relative_to(folder))
        for each in folder.rglob("*")
        if each.is_symlink() or not each.is_dir()
    }


def check_names(artifact: Artifact) -> None:
    """Return if no name in an artifact leads anywhere else than below where it is put.

    Raises:
        ArtifactDamaged: one does, or two of its files have one place.
    """
    paths = [file.path.split("/") for file in artifact.files]
    if artifact.artifact != WHOLE_RUN:
        paths.append([artifact.artifact])
    for path in paths:
        if any(part in {"", ".", ".."} or "/" in part or refuse_component(part) for part in path):
            message = f"{printable('/'.join(path))!r} leads out of the folder that it is pulled to"
            raise ArtifactDamaged(message, hint=_DISTRUST)
    digests = (artifact.sha256, *(file.sha256 for file in artifact.files))
    if not all(is_sha256(digest) for digest in digests):
        message = f"{printable(artifact.artifact)!r} has a digest that is none"
        raise ArtifactDamaged(message, hint=_DISTRUST)
    places = [file.path for file in artifact.files]
    folders = {
        "/".join(parts[:length])
        for parts in (place.split("/") for place in places)
        for length in range(1, len(parts))
    }
    if len(set(places)) != len(places) or not folders.isdisjoint(places):
        message = f"two files of {printable(artifact.artifact)!r} have the same place"
        raise ArtifactDamaged(message, hint=_DISTRUST)


def same(target: Path, artifact: Artifact) -> Path:
    """Return the path of what is there already, if it is a copy of an artifact.

    Raises:
        Conflict: it is something else.
    """
    if is_copy(target, artifact):
        return target
    message = f"{printable(str(target))} exists, and isn't what would be pulled"
    raise Conflict(message, hint="move it away, or pull to another folder with `-o DIR`")


def _file_is(path: Path, file: StoredFile) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
