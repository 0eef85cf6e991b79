"""Locks between processes of one host.

Purpose: one writer at a time for a journal, a counter, a run's revisions, a home's service.

Calling sequence: `with hold(path, what="…"):`. A lock is a file under `locks/` of the home,
locked with flock(2): it is free at once when its holder dies, however that happens, and it is never
unlinked, since a waiter would then hold a lock on a file that nobody else can see. The file holds
the process id of the last holder, which only serves to name it in an error.

A stopped process keeps its lock; those who wait get `Locked` with its process id. Readers of the
journal take no lock. Not for a home on NFS or SMB.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from modeldrop.errors import Locked

# Long enough for a slow store under a registration, short enough to learn who blocks.
TIMEOUT: Final = 60.0
# `holder` has the lock for an instant to see whether it is free. So even who doesn't want to wait
# looks for so long, or one person's `modeldrop status` would turn another one's service away.
_LEAST_TIMEOUT: Final = 0.05
# More than a process id has.
_DIGITS: Final = 10
# flock with a time limit has to be polled: at 2 ms, 16 processes that contend lose little and an
# idle wait costs nothing.
_POLL: Final = 0.002
# A thread that another one may serve looks as often.
_POLL_SERVED: Final = 0.001


@contextlib.contextmanager
def hold(path: Path, *, what: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """Hold the lock while the body runs; `what` names it in errors.

    Raises:
        Locked: another process, or another thread of this one, held it for `timeout` seconds.
    """
    name = os.fspath(path)
    deadline = time.monotonic() + max(timeout, _LEAST_TIMEOUT)
    turn = _turn(name)
    if not turn.acquire(timeout=max(timeout, _LEAST_TIMEOUT)):
        raise _locked(path, what, timeout)
    try:
        fd = _acquire(name, max(deadline, time.monotonic() + _LEAST_TIMEOUT))
        if fd is None:
            raise _locked(path, what, timeout)
        try:
            yield
        finally:
            _let_go(fd)
    finally:
        turn.release()


@contextlib.contextmanager
def hold_unless(
    path: Path,
    *,
    what: str,
    served: Callable[[], bool],
    wait: Callable[[float], None] = time.sleep,
    timeout: float = TIMEOUT,
) -> Iterator[bool]:
    """Hold the lock, unless its holder does what it is wanted for; yield whether it is held.

    `served` tells that, and is asked each time that the lock is found to be held. It may have
    happened as well just before the lock was got. Between two looks at the lock, `wait` is called
    with the seconds that there usually are; it may return when there is something to look at.

    Raises:
        Locked: as for `hold`.
    """
    name = os.fspath(path)
    deadline = time.monotonic() + max(timeout, _LEAST_TIMEOUT)
    turn = _turn(name)
    while not turn.acquire(timeout=_POLL_SERVED):
        if served():
            yield False
            return
        if time.monotonic() > deadline:
            raise _locked(path, what, timeout)
    try:
        deadline = max(deadline, time.monotonic() + _LEAST_TIMEOUT)
        fd = _acquire(name, deadline, served, wait)
        if fd is None:
            if not served():
                raise _locked(path, what, timeout)
            yield False
            return
        try:
            yield True
        finally:
            _let_go(fd)
    finally:
        turn.release()


def _acquire(
    path: str,
    deadline: float,
    served: Callable[[], bool] = lambda: False,
    wait: Callable[[float], None] = time.sleep,
) -> int | None:
    """Return the open file that holds the lock.

    None if another process has it until then, or did what it is wanted for.
    """
    while True:
        fd = _open(path)
        try:
            while not _try(fd):
                if served() or time.monotonic() > deadline:
                    os.close(fd)
                    return None
                wait(_POLL)
            if _is_at(path, fd):
                _sign(fd)
                return fd
        except BaseException:
            os.close(fd)
            raise
        # Somebody has removed or replaced it: the next one doesn't see what we hold.
        os.close(fd)


def _let_go(fd: int) -> None:
    # Closing it lets go; a child that was forked meanwhile would keep it.
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        # Its own folder and none above it: a home that isn't there isn't made by locking it.
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path))
        return os.open(path, flags, 0o644)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# Threads of one process wait for each other by a lock of their own, which wakes them at once; only
# processes poll. One that is dropped while it is held costs nothing but speed: the next thread
# makes another one, and the file's lock keeps the two apart.
@functools.lru_cache(maxsize=512)
def _turn(path: str) -> threading.Lock:
    del path
    return threading.Lock()


if hasattr(os, "register_at_fork"):
    # A forked child would wait for threads that it doesn't have.
    os.register_at_fork(after_in_child=_turn.cache_clear)


def holder(path: Path) -> int | None:
    """Return the process id of whoever holds the lock now, or None if nobody does.

    0 stands for a holder that hasn't said its process id yet.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who ask at once don't take each other for the holder.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _signature(path)
    else:
        return None
    finally:
        os.close(fd)


def _sign(fd: int) -> None:
    # Always as long, so nothing has to be cut: a file system may send off at once what was cut.
    mine = f"{os.getpid():<{_DIGITS}}\n".encode("ascii")
    # To write costs forty times as much as to look, and a service takes the same locks all day.
    if os.pread(fd, len(mine) + 1, 0) != mine:
        # On a full disk nobody can be named, and the lock holds all the same.
        with contextlib.suppress(OSError):
            os.pwrite(fd, mine, 0)


def _signature(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text("ascii"))
    return 0


def _locked(path: Path, what: str, timeout: float) -> Locked:
    pid = _signature(path)
    who = f"process {pid}" if pid else "another process"
    waited = f" for {timeout:g} s" if timeout else ""
    return Locked(
        f"{what} is locked by {who}{waited}",
        hint=f"wait for {who} to end, or stop it; the lock goes with it",
        detail={"process": pid, "lock": str(path)},
    )
