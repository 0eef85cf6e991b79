"""Some of what systemd would do to the service, done without it: a child puts this on itself.

`restrict(FILTER, ...)` is what the unit's SystemCallFilter, MemoryDenyWriteExecute and
NoNewPrivileges come to; which calls a set of systemd's holds is asked of `systemd-analyze`.
"""

import ctypes
import ctypes.util
import errno
import subprocess
from collections.abc import Iterator

# From linux/prctl.h and seccomp.h.
_NO_NEW_PRIVS = 38
_SET_MDWE = 65
_REFUSE_EXEC_GAIN = 1
_ALLOW = 0x7FFF0000
_FAIL = 0x00050000 | errno.EPERM


def allowed(filters: list[str]) -> list[str]:
    """Return the system calls that the lines of a unit's SystemCallFilter leave."""
    found: set[str] = set()
    for line in filters:
        names = {each for word in line.removeprefix("~").split() for each in _expanded(word)}
        found = found - names if line.startswith("~") else found | names
    return sorted(found)


def _expanded(word: str) -> Iterator[str]:
    if not word.startswith("@"):
        yield word
        return
    said = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
    ).stdout
    for line in said.splitlines()[1:]:
        name = line.strip()
        if name and not name.startswith("#"):
            yield from _expanded(name)


def restrict(names: list[str]) -> None:
    """Leave this process and its children these system calls and no more; for good.

    Raises:
        OSError: the kernel can't.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_NO_NEW_PRIVS, 1), (_SET_MDWE, _REFUSE_EXEC_GAIN)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_FAIL))
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        # Negative: of another architecture, or newer than the library.
        if number >= 0 and seccomp.seccomp_rule_add(context, _ALLOW, number, 0) != 0:
            raise OSError(errno.EINVAL, f"no rule for {name}")
    if seccomp.seccomp_load(context) != 0:
        raise OSError(errno.EINVAL, "seccomp_load")
