"""Large files, and copies of them that are others by their first bytes."""

from __future__ import annotations

import os
from pathlib import Path

_CHUNK = 2**24
_MARK = 16


def fill(path: Path, size: int) -> None:
    """Write a file of random bytes to the disk, no two of its chunks alike."""
    block = bytearray(os.urandom(_CHUNK))
    with path.open("wb") as file:
        for start in range(0, size, _CHUNK):
            block[:8] = start.to_bytes(8, "big")
            file.write(memoryview(block)[: min(_CHUNK, size - start)])
        file.flush()
        os.fsync(file.fileno())


def copy_as_another(source: Path, target: Path) -> bytes:
    """Copy a file, bring the copy to the disk, and return the first bytes that make it another."""
    mark = os.urandom(_MARK)
    with source.open("rb") as file, target.open("wb") as out:
        while os.copy_file_range(file.fileno(), out.fileno(), _CHUNK):
            pass
        os.pwrite(out.fileno(), mark, 0)
        os.fsync(out.fileno())
    return mark


def is_copy(path: Path, source: Path, mark: bytes) -> bool:
    """Return whether a file is the copy of another one that begins with a mark."""
    if path.stat().st_size != source.stat().st_size:
        return False
    with path.open("rb") as file, source.open("rb") as original:
        original.seek(len(mark))
        if file.read(len(mark)) != mark:
            return False
        while block := original.read(_CHUNK):
            if file.read(_CHUNK) != block:
                return False
    return True
