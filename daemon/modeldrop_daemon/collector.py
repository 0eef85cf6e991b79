"""The process that collects for a service: `python -m modeldrop_daemon.collector HOME`.

Purpose: what a collection holds of a large store goes back to the machine at its end, and none of
its steps is a turn that the service's loop doesn't get. What it has to say it logs as the service
does, in whose name it speaks; why it failed is what it writes to stdout.

It ends at once with the service, whose end it sees at its stdin, and at any signal. What a crash
leaves: some of it collected.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from modeldrop.gc import FILE, MARK, UPLOAD, Collected
from modeldrop.redaction import told
from modeldrop.repository import Repository
from modeldrop_daemon import credentials, logs

_log = logging.getLogger(__name__)

VERBOSE: Final = "--verbose"
_FAILED: Final = 1
# 1000 is the first to be ended; see proc(5). To be ended sooner takes no privilege.
_SCORE: Final = Path("/proc/self/oom_score_adj")
_SOON: Final = "500"


def main(arguments: Sequence[str]) -> int:
    """Collect once in the home that is named; return the exit code, 1 if that failed."""
    root = Path(arguments[0])
    threading.Thread(target=_end_with_service, name="service", daemon=True).start()
    _offer_itself()
    try:
        # Before anything is logged: the service has said which there are.
        credentials.take(os.environ)
        logs.set_up(sys.stderr, os.environ, verbose=VERBOSE in arguments)
        with Repository.open(root) as repository:
            tell(repository.gc())
    except Exception as error:  # noqa: BLE001 - the service says it, once
        sys.stdout.write(told(error))
        return _FAILED
    return 0


def tell(found: Sequence[Collected]) -> None:
    """Log what was collected, is to be, or stays."""
    for each in found:
        if each.trouble:
            _log.warning("%s stays: %s", each.where, each.trouble)
        elif each.kind in {UPLOAD, FILE}:
            _log.info("collected the unfinished %s %s", each.kind, each.where)
        else:
            what = "marked, to be collected:" if each.kind == MARK else "collected"
            _log.info("%s %s", what, each.where)


def _offer_itself() -> None:
    """Have the kernel end this process before the service where memory is scarce."""
    with contextlib.suppress(OSError):
        _SCORE.write_text(_SOON)


def _end_with_service() -> None:
    """Wait until nobody holds the other end of stdin, and end."""
    while os.read(sys.stdin.fileno(), 64):
        pass
    os._exit(_FAILED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
