"""`status --watch`: what the service says, live, until the person or the reader has had enough.

The service replaces its status file at most every second, so looking is cheap. Where none is
running, each look goes through staging; it then rests for longer than it worked.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING, Final, NoReturn

from modeldrop import intake, locks
from modeldrop.errors import UsageError
from modeldrop_cli import statuses
from modeldrop_cli.failing import terminable
from modeldrop_cli.output import field_lines, rich_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from modeldrop.home import Home
    from modeldrop_cli.objects.dropping import StatusObject
    from modeldrop_cli.output import Output

# How many times what a look took is rested at least.
_REST_FACTOR: Final = 9.0


def watch(home: Home, output: Output, interval: float) -> NoReturn:
    """Show the status every so many seconds; ends by Ctrl-C, SIGTERM, or when the reader goes.

    With JSON, one object now and one whenever the service said something else, began or ended.

    Raises:
        KeyboardInterrupt: a person, or a signal, ended it.
        BrokenPipeError: nobody reads any more.
        UsageError: the terminal can't show anything live.
    """
    with terminable():
        if output.json:
            _stream(home, output, interval)
        _live(home, interval)


def _stream(home: Home, output: Output, interval: float) -> NoReturn:
    reader = select.poll()
    # Nothing is asked for: that the other end was closed is told without.
    reader.register(sys.stdout.fileno(), 0)
    seen: tuple[int | None, ...] | None = None
    told: StatusObject | None = None
    while True:
        began = time.monotonic()
        # Before it is read: what is said meanwhile is read once more.
        said = _said(home)
        if said != seen:
            seen = said
            found = statuses.status_object(home, intake.read_status(home))
            if found != told:
                told = found
                output.stream(found)
                sys.stdout.flush()
        if reader.poll(_pause(interval, began) * 1000):
            raise BrokenPipeError


def _live(home: Home, interval: float) -> NoReturn:
    from rich.console import Console  # noqa: PLC0415 - only for a terminal
    from rich.live import Live  # noqa: PLC0415 - the same

    console = Console(highlight=False)
    if console.is_dumb_terminal or not console.is_terminal:
        raise UsageError(
            "--watch needs a terminal that can move its cursor, or --json",
            hint="`modeldrop status` once, or another TERM than `dumb`",
        )
    # On a screen of its own: what is too long is cut off, and the terminal is as before afterwards.
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            live.update(_page(home, console.height), refresh=True)
            time.sleep(_pause(interval, began))


def _page(home: Home, height: int) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415 - only for a terminal
    from rich.text import Text  # noqa: PLC0415 - the same

    status = intake.read_status(home)
    parts: list[RenderableType] = [
        Text(line, no_wrap=True, overflow="ellipsis")
        for line in field_lines(statuses.status_fields(home, status))
    ]
    columns, rows = statuses.run_rows(status.runs, status.junk)
    if rows:
        # No more than the screen can show: a table is laid out as a whole, and that takes time.
        parts += [Text(), rich_table(columns, rows[:height])]
    if status.pid is None:
        parts += [Text(), Text(statuses.NOT_RUNNING)]
    return Group(*parts)


def _said(home: Home) -> tuple[int | None, ...]:
    """Return what is another as soon as the service says something new, begins or ends."""
    service = locks.holder(home.paths.service_lock())
    try:
        found = os.stat(home.paths.status())
    except OSError:
        return (service,)
    return (service, found.st_ino, found.st_mtime_ns, found.st_size)


def _pause(interval: float, began: float) -> float:
    return max(interval, _REST_FACTOR * (time.monotonic() - began))
