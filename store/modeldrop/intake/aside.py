"""What a drop has in staging while it is at work, and how a later one knows that it is stale.

Two things: a folder aside, in which a drop puts its files together, and a hold file in a run that
is there, which holds the run open until all of the drop is in it. Both outlive kill -9. Whoever
is at work has the lock (flock) of the folder aside, or of the run's folder, so what stands there
without one was left by somebody dead. On a network file system no lock says that of another
machine: nothing is taken for stale there, and status names what holds a run open.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from modeldrop import files
from modeldrop.errors import NotFound
from modeldrop.intake.lease import is_network
from modeldrop.intake.walk import OWN_PREFIX
from modeldrop.names import printable

_ASIDE: Final = f"{OWN_PREFIX}drop-"
# The scan takes it for a temporary file, whoever left it.
_HOLD: Final = f"{files.TEMP_PREFIX}drop-"


@contextlib.contextmanager
def aside(staging: Path) -> Iterator[Path]:
    """Yield a new folder in staging that no scan looks at; it is removed with all that is in it."""
    files.make_folders(staging)
    with contextlib.ExitStack() as stack:
        folder = _make(staging, stack)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _make(staging: Path, stack: contextlib.ExitStack) -> Path:
    """Return a new folder aside, whose lock goes with the stack."""
    while True:
        folder = staging / f"{_ASIDE}{secrets.token_hex(8)}"
        folder.mkdir()
        # Before it is locked, another drop may take it for stale and remove it.
        with contextlib.suppress(FileNotFoundError):
            stack.enter_context(_locked(folder))
            folder.stat()
            return folder


def remove_stale(staging: Path) -> None:
    """Remove the folders aside of those that died; never fails, since another drop may do it."""
    with contextlib.suppress(OSError):
        if is_network(staging):
            return
        for folder in staging.glob(f"{_ASIDE}*"):
            with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_NB, must=True):
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def held_open(run: Path, names: Sequence[str], old: Path) -> Iterator[None]:
    """Hold a run open while the body moves the entries with these names into it.

    One drop at a time does that. Whatever ends the body before its end leaves the run held open:
    some of its entries are new then and some are old. The drop that brings the same names again
    frees it. `old` is a folder aside, where the hold file is made.

    Raises:
        NotFound: the run isn't there by now: its staged copy was moved or deleted meanwhile.
    """
    with _in_place(run):
        hold = run / f"{_HOLD}{secrets.token_hex(8)}"
        files.write_durable(old / hold.name, json.dumps(list(names)).encode())
        files.rename(old / hold.name, hold)
        yield
        if not is_network(run):
            for stale in run.glob(f"{_HOLD}*"):
                with contextlib.suppress(OSError, ValueError):
                    if set(json.loads(stale.read_bytes())) <= set(names):
                        files.remove_durable(stale)
        files.remove_durable(hold)


@contextlib.contextmanager
def _in_place(run: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, which nobody moves away or deletes meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            locked = stack.enter_context(_locked(run))
            there = os.path.samestat(os.fstat(locked), run.lstat())
        except FileNotFoundError:
            there = False
        if not there:
            message = f"{printable(str(run))} isn't there any more"
            raise NotFound(message, hint="drop it again")
        yield


@contextlib.contextmanager
def _locked(folder: Path, how: int = 0, *, must: bool = False) -> Iterator[int]:
    """Hold the lock of a folder, which goes with this process; `must` it be had to go on?

    What is yielded is its descriptor: by now, its path may lead to another one, or nowhere.

    Raises:
        FileNotFoundError: the folder isn't there.
        BlockingIOError: somebody else has it, and `how` is not to wait.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | how)
        except OSError:
            # Not every file system can: NFS, for one, locks nothing that is open to be read.
            if must:
                raise
        yield fd
    finally:
        with contextlib.suppress(OSError):
            # A child that was forked meanwhile has the descriptor, too.
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
