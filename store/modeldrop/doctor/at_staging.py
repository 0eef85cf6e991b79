"""The staging folder: whether drops can be seen, read, and are left alone by other people.

Permissions are judged for the user whose home it is, whoever asks: as whom the service runs.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from modeldrop import locks
from modeldrop.doctor.at_home import user_name
from modeldrop.doctor.check import Check, ok, problem, warning
from modeldrop.doctor.permissions import Access, access_of, default_acl
from modeldrop.home import Home
from modeldrop.intake import is_network
from modeldrop.intake.lease import Writers, prepare, probe
from modeldrop.intake.walk import OWN_PREFIX

_LIMIT: Final = Path("/proc/sys/fs/inotify/max_user_watches")
# Enough to know, and soon done: a folder takes some microseconds.
_MOST_FOLDERS: Final = 200_000
_MOST_FILES: Final = 20_000
_NEARLY: Final = 0.8
_CAP_LEASE: Final = 28
_GUIDE: Final = 'see "Staging that several people share" in docs/operations.md'


def folder(home: Home) -> Iterator[Check]:
    """Look whether it is there, and on what."""
    staging = home.staging
    if not staging.is_dir():
        yield problem("staging", f"{staging} is no folder", f"`mkdir {staging}`, or mount it")
        return
    yield ok("staging", str(staging))
    if is_network(staging):
        yield warning(
            "staging disk",
            "a network file system: no events come from it, and only `_SUCCESS` or `modeldrop "
            "drop` proves that a run is whole",
            "let writers end with `_SUCCESS`, or use a local disk",
        )
    else:
        yield ok("staging disk", "a local file system")


def events(home: Home) -> Iterator[Check]:
    """Compare the folders of staging with what the kernel watches for one user."""
    try:
        limit = int(_LIMIT.read_text("ascii"))
    except (OSError, ValueError):
        return  # no Linux, or a container that hides it
    folders = sum(1 for _ in islice(os.walk(home.staging), _MOST_FOLDERS))
    said = f"{folders} folders, and the kernel watches {limit} for each user"
    if folders > limit * _NEARLY:
        todo = f"`sysctl fs.inotify.max_user_watches={4 * folders}`; until then staging is polled"
        yield warning("events", said, todo)
    else:
        yield ok("events", said)


def lease(home: Home) -> Iterator[Check]:
    """Try whether the kernel tells who writes, with a file that is gone at once."""
    if is_network(home.staging):
        return
    with contextlib.suppress(ValueError):  # another thread's caller keeps its own handler
        prepare()
    path = home.staging / f"{OWN_PREFIX}doctor-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        writer = os.open(path, flags, 0o600)
    except PermissionError:
        yield warning(
            "lease",
            f"not tried: you may not write to {home.staging}",
            f"run it as {user_name(home.paths.root.stat().st_uid)}",
        )
        return
    try:
        reader = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while_open = probe(reader)
            os.close(writer)
            writer = -1
            after = probe(reader)
        finally:
            os.close(reader)
    finally:
        if writer >= 0:
            os.close(writer)
        path.unlink()
    if (while_open, after) == (Writers.SOME, Writers.NONE):
        yield ok("lease", "the kernel tells whether somebody writes to a file")
    else:
        yield warning(
            "lease",
            "the kernel can't tell here whether somebody writes to a file",
            "let writers end with `_SUCCESS`; without it `quiet_time_without_lease` decides",
        )


def sharing(home: Home) -> Iterator[Check]:
    """Look what several people may do to each other's drops, and whether they can be read."""
    staging = home.staging
    found = staging.stat()
    service = access_of(home.paths.root.stat().st_uid)
    name = user_name(service.user)
    if not service.may_read(found) and not _has_acl(staging):
        yield problem(
            "sharing",
            f"{name}, as whom the service runs, may not look into {staging}",
            f"make {name} a member of its group: `usermod -aG GROUP {name}`; {_GUIDE}",
        )
        return
    if not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield ok("sharing", f"{staging} is written to by {user_name(found.st_uid)} alone")
    else:
        yield from _shared(staging, found)
        yield from _lease_for_others(home, service)
    yield from _drops(staging, service, name)


def _shared(staging: Path, found: os.stat_result) -> Iterator[Check]:
    for_all = bool(found.st_mode & stat.S_IWOTH)
    who = "everybody" if for_all else f"the group {found.st_gid}"
    if found.st_mode & stat.S_ISVTX:
        yield ok("sticky", f"{who} may drop, and each removes only what is their own")
    else:
        say = problem if for_all else warning
        yield say(
            "sticky",
            f"{who} may drop, and each may remove or replace what others dropped",
            f"`chmod +t {staging}`",
        )
    acl = default_acl(staging)
    if found.st_mode & stat.S_ISGID or acl is not None:
        how = "by the default ACL" if acl is not None else "by setgid"
        yield ok("group", f"new runs belong to the folder's group, {how}")
    else:
        yield warning(
            "group",
            "new runs belong to the group of whoever drops them, so the service may not read them",
            f"`chmod g+s {staging}`; {_GUIDE}",
        )
    if acl is None:
        yield warning(
            "default ACL",
            "there is none: who works with umask 077 drops what nobody else can read",
            f"`setfacl -d -m g::rX,m::rwX {staging}`; {_GUIDE}",
        )
    elif acl.refuses_group:
        yield warning(
            "default ACL",
            "it lets the group read nothing of what is dropped",
            f"`setfacl -d -m g::rX,m::rwX {staging}`; {_GUIDE}",
        )
    else:
        yield ok("default ACL", "what is dropped is readable by the group, whatever the umask")


def _lease_for_others(home: Home, service: Access) -> Iterator[Check]:
    pid = locks.holder(home.paths.service_lock())
    if not pid or service.user == 0:
        return
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError:
        return
    line = next((each for each in status.splitlines() if each.startswith("CapEff:")), "CapEff: 0")
    if int(line.split()[1], 16) >> _CAP_LEASE & 1:
        yield ok("lease for others", "the service has CAP_LEASE")
    else:
        yield warning(
            "lease for others",
            "without CAP_LEASE the service can't ask who writes to other users' files",
            "use the unit of `modeldropd --print-unit system`; `quiet_time_without_lease` decides",
        )


def _drops(staging: Path, service: Access, name: str) -> Iterator[Check]:
    unreadable: list[Path] = []
    open_to_all: list[Path] = []
    for path, found in islice(_entries(staging), _MOST_FILES):
        if not service.may_read(found) and not _has_acl(path):
            unreadable.append(path)
        if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_IWOTH:
            open_to_all.append(path)
    if unreadable:
        yield problem(
            "drops",
            f"{len(unreadable)} that {name} can't read, such as {unreadable[0]}",
            f"let their owners run `chmod -R g+rX {unreadable[0]}`; {_GUIDE}",
        )
    else:
        yield ok("drops", f"{name} can read them")
    if open_to_all:
        yield warning(
            "drops of others",
            f"{len(open_to_all)} folders that every user may write to, such as {open_to_all[0]}",
            f"let their owners run `chmod -R o-w {open_to_all[0]}`",
        )


def _entries(staging: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what is below staging, without following links; what can't be looked at is left out."""
    for above, folders, files in os.walk(staging):
        for each in (*folders, *files):
            path = Path(above, each)
            with contextlib.suppress(OSError):
                found = path.lstat()
                if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
                    yield path, found


def _has_acl(path: Path) -> bool:
    """Return whether the mode alone doesn't say who may read it."""
    with contextlib.suppress(OSError):
        return "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)
    return False
