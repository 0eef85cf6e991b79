"""What `-v` and `-vv` say of the work, on stderr.

Only our own loggers are heard. The libraries of the object stores write requests to theirs, and
with them, at DEBUG, what signs them.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

from modeldrop.names import printable
from modeldrop.redaction import hide, trace

_OURS: Final = ("modeldrop", "modeldrop_cli")


def set_up(level: int) -> None:
    """Write what our own code logs to stderr; 1 is what is done, more is step by step."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO if level == 1 else logging.DEBUG)
        logger.propagate = False
    # Without it, Python itself prints the warnings of loggers that nobody hears.
    logging.getLogger().addHandler(logging.NullHandler())


class _Lines(logging.Formatter):
    """Lines that drive no terminal."""

    def format(self, record: logging.LogRecord) -> str:
        begin = f"{self.formatTime(record)} {record.levelname} {record.name}: "
        lines = [begin + printable(hide(record.getMessage()))]
        if record.exc_info and record.exc_info[1] is not None:
            lines += trace(record.exc_info[1])
        return "\n".join(lines)
