"""Python that goes before the service (`Home.start(twist=…)`), to stage what else needs luck."""

from __future__ import annotations

from typing import Final

MUTE: Final = """
from watchdog.observers.inotify_c import InotifyFD
InotifyFD.handle_event = lambda self, event: None
"""
"""The watch seems alive, and not one event comes."""

READER_DIES: Final = """
from watchdog.observers.inotify_c import InotifyFD
handle = InotifyFD.handle_event
def deadly(self, event):
    if event.name == b"die":
        raise RuntimeError("staged")
    handle(self, event)
InotifyFD.handle_event = deadly
"""
"""The thread that reads the kernel's events dies of the first file that is named `die`."""

HANDLER_RAISES: Final = """
from modeldrop_daemon import events
dispatch = events._Handler.dispatch
def deadly(self, event):
    if str(event.src_path).endswith("/die"):
        raise RuntimeError("staged")
    dispatch(self, event)
events._Handler.dispatch = deadly
"""
"""The handler raises at a file that is named `die`, which ends the thread that called it."""

EMITTER_DIES: Final = """
from modeldrop_daemon.inotify import Emitter
queue = Emitter.queue_event
def deadly(self, event):
    if str(event.src_path).endswith("/die"):
        raise RuntimeError("staged")
    queue(self, event)
Emitter.queue_event = deadly
"""
"""The thread that makes the kernel's events into watchdog's dies of a file named `die`."""

FEW_WATCHES: Final = """
import ctypes, os
user, group = os.getuid(), os.getgid()
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
if libc.unshare(CLONE_NEWUSER):
    raise OSError(ctypes.get_errno(), "unshare")
for path, text in (
    ("/proc/self/setgroups", "deny"),
    ("/proc/self/uid_map", f"{{user}} {{user}} 1"),
    ("/proc/self/gid_map", f"{{group}} {{group}} 1"),
    ("/proc/sys/user/max_inotify_watches", "{most}"),
):
    with open(path, "w") as file:
        file.write(text)
"""
"""The kernel grants this user only `most` watches; in a user namespace of the process's own."""
