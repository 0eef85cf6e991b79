"""Artifacts at a backend, put there without the service that puts them there otherwise."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Final

from modeldrop.backend import Backend
from modeldrop.records import Artifact, StoredFile

RUN: Final = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
KEY: Final = f"{RUN}/20260314T092653Z-9f1c0a7be4d25836/model"
MIB: Final = 1 << 20


def data_of(size: int, seed: int = 1) -> bytes:
    """Return bytes that are the same each time, and compress badly."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    """Return a sha256 as records have it."""
    return hashlib.sha256(data).hexdigest()


def put(backend: Backend, key: str, data: bytes) -> StoredFile:
    """Store a file, and return what a manifest says of it."""
    writer = backend.writer(key, len(data))
    writer.write(data)
    writer.finish()
    return StoredFile(key.rpartition("/")[2], digest(data), len(data), key)


def folder_of(backend: Backend, contents: dict[str, bytes]) -> Artifact:
    """Store the files of a folder artifact by their paths, and return that."""
    files = []
    for number, (path, data) in enumerate(contents.items()):
        stored = put(backend, f"{KEY}-{number}", data)
        files.append(StoredFile(path, stored.sha256, stored.size, stored.key))
    return Artifact.of_folder("model", files)


def left_in(folder: Path) -> list[str]:
    """Return the names in a folder, hidden ones too; none if it isn't there."""
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []
