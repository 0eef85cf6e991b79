"""Runs one command for as long as whoever started it lives: `guard.py FOLDER COMMAND…`.

The guard holds the reading end of a pipe as its stdin, its parent the writing end. The kernel
closes that end when the parent goes, by whatever way: return, exception, `kill -9`. So end of file
means "no longer wanted", as does SIGTERM: the command's whole process group is ended, asked first
and then killed, and its folder is removed. A command that ends by itself leaves the folder, for
the parent to read what it said there.

Why not `PR_SET_PDEATHSIG`: it is Linux only; it fires when the *thread* that started the child
ends, not the process; it reaches the one child and not what that started (the `node` of a Python
package is a wrapper around the real one); and it has to be set between fork and exec, which is no
place for Python code in a process with threads.

It runs in a session of its own (`start_new_session=True`): a Ctrl-C at the terminal is for the
parent, which then ends its servers in its own order.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from typing import Final

GRACE: Final = 2.0
"""Seconds between the request to end and the kill."""


def main() -> int:
    """Run the command until it ends or is no longer wanted; return its exit code."""
    folder, *command = sys.argv[1:]
    # Handlers, so that the signals are noticed at all, and a pipe that wakes the select below.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)

    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
    wanted = True
    while wanted and server.poll() is None:
        ready, _, _ = select.select([sys.stdin.fileno(), woken], [], [])
        # A server that was stopped or goes on again sends SIGCHLD as one that ended does.
        signals = os.read(woken, 64) if woken in ready else b""
        wanted = sys.stdin.fileno() not in ready and signal.SIGTERM not in signals

    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(GRACE)
    if not wanted:
        shutil.rmtree(folder, ignore_errors=True)
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
