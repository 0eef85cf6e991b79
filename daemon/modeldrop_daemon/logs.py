"""What the service says, on stderr: to people on a terminal, to journald, or as JSON lines.

Only our own loggers are heard. The libraries of the object stores write requests to theirs, and
with them, at DEBUG, what signs them.

One event is one line, but for the trace of a bug. What a message is about, its caller gives in
`extra`, under the names of `FIELDS`; programs get these as fields of their own. At INFO stands what
happened to a run or to the service, and never that there was nothing to do.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Final

from modeldrop.names import printable
from modeldrop.redaction import hide, trace

# What a JSON line may carry beside its message: which run, what became of it, how long it took.
FIELDS: Final = ("run", "revision", "state", "bytes", "seconds", "event", "seq", "exit")

_OURS: Final = ("modeldrop", "modeldrop_daemon")

# journald's levels, as in syslog(3).
_PRIORITIES: Final[Mapping[int, int]] = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def set_up(stream: IO[str], environ: Mapping[str, str], *, verbose: bool) -> None:
    """Write what our programs log to a stream, in the form that its reader wants."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(stream, environ))
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)
        logger.propagate = False
    # Without it, Python itself prints the warnings of loggers that nobody hears.
    logging.getLogger().addHandler(logging.NullHandler())
    threading.excepthook = _say_ended_thread
    sys.unraisablehook = _say_unraisable


def _formatter(stream: IO[str], environ: Mapping[str, str]) -> logging.Formatter:
    if _is_journal(stream, environ):
        return _ForJournal()
    return _ForPeople() if stream.isatty() else _ForPrograms()


def _is_journal(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Return whether the stream leads to journald; see JOURNAL_STREAM in systemd.exec(5)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _lines(record: logging.LogRecord) -> list[str]:
    """Return what a record says, line by line, fit for a terminal."""
    said = printable(hide(record.getMessage()))
    if record.exc_info and record.exc_info[1] is not None:
        return [said, *trace(record.exc_info[1])]
    return [said]


class _ForPeople(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock} {level}" + "\n".join(_lines(record))


class _ForJournal(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        priority = _PRIORITIES.get(record.levelno, 6)
        return "\n".join(f"<{priority}>{line}" for line in _lines(record))


class _ForPrograms(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said, *traced = _lines(record)
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "message": said,
            "logger": record.name,
        }
        for name in FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                line[name] = printable(hide(value)) if isinstance(value, str) else value
        if traced:
            line["trace"] = "\n".join(traced)
        return json.dumps(line, ensure_ascii=False)


def _say_ended_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_type is SystemExit:
        return
    name = ended.thread.name if ended.thread else "unknown"
    error = ended.exc_value or ended.exc_type()
    logging.getLogger("modeldrop_daemon").error("the thread %s ended", name, exc_info=error)


def _say_unraisable(ended: sys.UnraisableHookArgs) -> None:
    """Tell of an error in a destructor: Python itself would show it as it is."""
    error = ended.exc_value or ended.exc_type()
    logging.getLogger("modeldrop_daemon").error("an object ended with an error", exc_info=error)
