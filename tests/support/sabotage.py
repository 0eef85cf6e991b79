"""The product, changed in this process: a guard taken out, which a fault suite has to notice.

And one change that takes nothing out: which of two ways it waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Final

from modeldrop import batch, files, intents


def change(name: str) -> None:
    """Change the product in this process; nothing if the name is empty."""
    if name:
        _CHANGES[name]()


def _wait_for_the_whole_disk() -> None:
    """Do as on ext4, xfs and btrfs with nothing else to write."""
    batch.go_together = lambda root, count: count > 1  # noqa: ARG005 - whatever the disk


def _write_in_place() -> None:
    def write(path: str, data: bytes, mode: int, *, sync: bool) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        os.write(fd, data)
        os.close(fd)

    files._replace = write


def _have_no_intents() -> None:
    intents.Intents.begin = lambda *_: None  # type: ignore[method-assign] # it returns nothing


def _pass_over_errors() -> None:
    real = files.write_at

    def write(fd: int, data: bytes | memoryview, offset: int) -> None:
        with contextlib.suppress(OSError):
            real(fd, data, offset)

    files.write_at = write


_CHANGES: Final[Mapping[str, Callable[[], None]]] = {
    "waits for the whole disk": _wait_for_the_whole_disk,
    "written in place": _write_in_place,
    "no intents": _have_no_intents,
    "errors passed over": _pass_over_errors,
}
