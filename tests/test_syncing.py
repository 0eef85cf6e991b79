"""A file is waited for while it is written, and no error of that is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from modeldrop import disk
from modeldrop.syncing import Syncing

MIB: Final = 2**20


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "large", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


class Disk:
    """The real one, which tells when it is waited for, and may fail once as a real one does."""

    def __init__(self, real: Callable[[int], None], error: int = 0) -> None:
        self._real = real
        self._error = error
        self.waits = 0
        self.waited = threading.Event()

    def __call__(self, fd: int) -> None:
        self.waits += 1
        error, self._error = self._error, 0
        self.waited.set()
        if error:
            raise OSError(error, os.strerror(error))
        self._real(fd)


def threads() -> list[threading.Thread]:
    """Return those that wait for a disk."""
    return [each for each in threading.enumerate() if each.name == "sync"]


@pytest.mark.parametrize("whole", [False, True], ids=["a file", "all of a file system"])
def test_it_is_waited_for_while_it_is_written_and_once_more_at_the_end(
    fd: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, last = ("sync_whole", "sync_whole") if whole else ("sync_data", "sync_file")
    real = Disk(getattr(disk, name))
    ends = real if whole else Disk(getattr(disk, last))
    monkeypatch.setattr(disk, name, real)
    monkeypatch.setattr(disk, last, ends)
    with Syncing(fd, whole=whole) as syncing:
        syncing.wrote(os.write(fd, bytes(16 * MIB)))
        assert real.waited.wait(20)
        before = ends.waits
        syncing.finish()
        assert ends.waits > before
    assert threads() == []


def test_what_is_small_has_no_thread(fd: int) -> None:
    with Syncing(fd) as syncing:
        for _ in range(15):
            syncing.wrote(os.write(fd, bytes(MIB)))
        assert threads() == []
        syncing.finish()


@pytest.mark.parametrize("whole", [False, True], ids=["a file", "all of a file system"])
def test_an_error_that_is_told_in_between_is_told_at_the_end(
    fd: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel tells it once: the last wait finds no fault.
    name = "sync_whole" if whole else "sync_data"
    real = Disk(getattr(disk, name), errno.EIO)
    monkeypatch.setattr(disk, name, real)
    with Syncing(fd, whole=whole) as syncing:
        for _ in range(3):
            syncing.wrote(os.write(fd, bytes(16 * MIB)))
            assert real.waited.wait(20)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            syncing.finish()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            syncing.finish()
    assert threads() == []


def test_nothing_is_waited_for_after_an_error_of_the_writer(fd: int) -> None:
    syncing = Syncing(fd)

    def write() -> None:
        with syncing:
            syncing.wrote(os.write(fd, bytes(20 * MIB)))
            message = "the network"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError):
        write()
    assert threads() == []
    syncing.wrote(100 * MIB)
    assert threads() == []


def test_one_that_was_forgotten_holds_up_no_end_of_a_process(tmp_path: Path) -> None:
    program = """
import os, sys
from modeldrop.syncing import Syncing
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
Syncing(fd).wrote(os.write(fd, bytes(16 << 20)))
"""
    arguments = [sys.executable, "-c", program, str(tmp_path / "large")]
    subprocess.run(arguments, check=True, timeout=60)
