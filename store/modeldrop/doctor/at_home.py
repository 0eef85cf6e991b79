"""The home: whose it is, where it is, and what is in it."""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from modeldrop import locks
from modeldrop.doctor.check import Check, ok, problem, warning
from modeldrop.home import Home
from modeldrop.intake import is_network, read_status
from modeldrop.intents import Intents
from modeldrop.journal import Journal

# How much of the journal's end is read: what HEAD covers last, and what chains to it.
_TAIL: Final = 1000
# A clock that is so far off would put what happens now before what happened.
_SKEW: Final = 60.0
# An intent lives for as long as an append takes; a slow store takes a minute.
_OLD_INTENT: Final = 600.0
# No clock that is set is before the first release.
_FIRST_YEAR: Final = 2026


def home(home: Home) -> Iterator[Check]:
    """Look at the folder itself."""
    root = home.paths.root
    found = root.stat()
    owner = user_name(found.st_uid)
    if found.st_uid == os.geteuid():
        yield ok("home", f"{root} is yours")
    else:
        yield warning(
            "home",
            f"{root} belongs to {owner}, and you are {home.user}: what follows is as you see it",
            f"`runuser -u {owner} -- modeldrop --home {root} doctor`",
        )
    if found.st_mode & (stat.S_IRGRP | stat.S_IXGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IXOTH):
        mode = stat.S_IMODE(found.st_mode)
        # Whoever writes to it decides where the bytes go; it being readable is a choice.
        say = problem if found.st_mode & stat.S_IWGRP else warning
        yield say(
            "home permissions",
            f"others than its owner may look into {root} (mode {mode:04o})",
            f"`chmod 700 {root}`, unless staging is in it and shared; better move staging out",
        )
    else:
        yield ok("home permissions", "for its owner alone")
    if is_network(root):
        yield warning(
            "home disk",
            f"{root} is on a network file system, where locks and fsync can't be relied on",
            "move the home to a local disk; docs/operations.md says how",
        )
    else:
        yield ok("home disk", "a local file system")
    if home.is_this_host():
        yield ok("home id", f"{home.id}, of this host and folder")
    else:
        yield warning(
            "home id",
            "it was copied, moved or restored: with its next write it takes a new id, and begins "
            "a new journal that names the old one",
            "nothing, if this is the only one; never use two copies as one",
        )
    yield ok("settings", f"{home.paths.config} is valid")


def journal(home: Home, journal: Journal) -> Iterator[Check]:
    """Look at the journal's end: HEAD, the last line, and what chains to it."""
    head = journal.head()
    if head is None:
        yield ok("journal", "it has no entry yet")
        return
    count = sum(1 for _ in islice(journal.newest(), _TAIL))
    yield ok("journal", f"HEAD and the last {count} of {head.seq} entries chain")
    size = home.paths.journal.stat().st_size
    if size > head.offset:
        yield warning(
            "journal end",
            f"{size - head.offset} bytes past HEAD, of a writer that is at it or was killed",
            "nothing: the next writer settles them",
        )


def intents(home: Home) -> Iterator[Check]:
    """Look for what was begun and not brought to an end."""
    old = [
        each
        for each in Intents(home.paths.intents).all()
        if time.time() - _seconds(each.begun_at) > _OLD_INTENT
    ]
    if not old:
        yield ok("intents", "nothing is left open")
        return
    yield warning(
        "intents",
        f"{len(old)} open for more than ten minutes, since {old[0].begun_at}: whether they "
        "happened is unknown",
        "the service settles them at its start; without one, `modeldrop scan --once` does",
    )


def clock(journal: Journal) -> Iterator[Check]:
    """Compare the clock with what is written down."""
    now = datetime.now(UTC)
    last = next(journal.newest(), None)
    if now.year < _FIRST_YEAR:
        yield problem("clock", f"it says {now:%Y-%m-%d}", "set it: `timedatectl`")
    elif last is not None and _seconds(last.at) - now.timestamp() > _SKEW:
        yield problem(
            "clock",
            f"it says {now:%Y-%m-%dT%H:%M:%SZ}, and the last entry was made at {last.at}",
            "set it: `timedatectl`; names of uploads and the grace of gc go by it",
        )
    else:
        yield ok("clock", f"{now:%Y-%m-%dT%H:%M:%SZ}")


def service(home: Home) -> Iterator[Check]:
    """Look whether the service runs, and what it says of itself."""
    pid = locks.holder(home.paths.service_lock())
    if pid is None:
        yield warning(
            "service",
            "it isn't running, so nothing that is dropped gets stored",
            "start `modeldropd`, or `systemctl start modeldropd`",
        )
        return
    status = read_status(home)
    yield ok("service", f"running, process {pid}; last change of its status at {status.at}")
    for state, todo in (
        ("blocked", "it is tried again by itself; `modeldrop status` shows why it waits"),
        ("parked", "`modeldrop status` shows why; mend it, then `modeldrop retry RUN`"),
    ):
        count = sum(each.state == state for each in status.runs)
        if count:
            yield warning("runs", f"{count} {state}", todo)


def user_name(user: int) -> str:
    """Return the name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
