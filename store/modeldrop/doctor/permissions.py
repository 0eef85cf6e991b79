"""Who may read what: mode bits, groups, and POSIX ACLs as the kernel keeps them."""

from __future__ import annotations

import os
import pwd
import stat
import struct
from pathlib import Path
from typing import Final

from modeldrop.structs import Frozen

# linux/posix_acl_xattr.h: a version, then entries of a tag, permissions, and a user or group.
_VERSION: Final = 2
_HEADER: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_GROUP_OBJ, _GROUP, _MASK = 0x04, 0x08, 0x10
_READ: Final = 0o4


class Access(Frozen):
    """A user with the groups that it is in."""

    user: int
    groups: frozenset[int]

    def may_read(self, found: os.stat_result) -> bool:
        """Return whether the mode of a file or folder lets it read; a folder is entered, too."""
        if self.user == 0:
            return True
        shift = 6 if found.st_uid == self.user else 3 if found.st_gid in self.groups else 0
        wanted = 0o5 if stat.S_ISDIR(found.st_mode) else _READ
        return found.st_mode >> shift & wanted == wanted


def access_of(user: int) -> Access:
    """Return a user with the groups that the system's files give it."""
    try:
        entry = pwd.getpwuid(user)
    except KeyError:
        return Access(user, frozenset())
    return Access(user, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))


class DefaultAcl(Frozen):
    """What a folder gives to what is made in it."""

    refuses_group: bool
    """Whether neither the owning group nor any named one may read."""


def default_acl(folder: Path) -> DefaultAcl | None:
    """Return the default ACL of a folder, or None if it has none or its file system knows none."""
    try:
        data = os.getxattr(folder, "system.posix_acl_default")
    except OSError:
        return None
    return parse(data)


def parse(data: bytes) -> DefaultAcl | None:
    """Return what the kernel's form of an ACL says; None for a form that isn't known."""
    body = data[_HEADER.size :]
    if len(data) < _HEADER.size or len(body) % _ENTRY.size:
        return None
    if _HEADER.unpack_from(data)[0] != _VERSION:
        return None
    entries = list(_ENTRY.iter_unpack(body))
    # Without a mask, nothing limits the groups.
    mask = next((permissions for tag, permissions, _ in entries if tag == _MASK), 0o7)
    groups = [permissions & mask for tag, permissions, _ in entries if tag in (_GROUP_OBJ, _GROUP)]
    return DefaultAcl(refuses_group=not any(each & _READ for each in groups))
