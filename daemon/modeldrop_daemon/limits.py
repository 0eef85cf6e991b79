"""The kernel's limits on inotify, and what to say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_SYSCTL: Final = Path("/proc/sys")
# The first is the machine's, the second that of the user namespace: a container may have its own.
_WATCHES: Final = ("fs.inotify.max_user_watches", "user.max_inotify_watches")
_INSTANCES: Final = ("fs.inotify.max_user_instances", "user.max_inotify_instances")


def no_more_watches() -> str:
    """Return what to do when the kernel grants no more watches."""
    return f"the kernel grants no more watches{_raise_lowest(_WATCHES)}"


def no_more_instances() -> str:
    """Return what to do when inotify can't be had, by the kernel's limit or this process's own."""
    said = _raise_lowest(_INSTANCES)
    # No file can be opened to be read either: it isn't the kernel's limit on inotify.
    return f"the kernel grants no more inotify instances{said}" if said else "too many open files"


def _raise_lowest(names: tuple[str, ...]) -> str:
    """Name the setting that limits, with its value: the lowest one."""
    found = []
    for name in names:
        try:
            found.append((int((_SYSCTL / name.replace(".", "/")).read_text("ascii")), name))
        except (OSError, ValueError):
            continue
    if not found:
        return ""
    # Of two that are equal the first is the one that people know.
    value, name = min(found, key=lambda each: each[0])
    return f"; raise {name} (now {value})"
