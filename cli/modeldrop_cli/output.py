"""How commands speak: data on stdout, talk on stderr, and nothing in either drives a terminal.

On a terminal a listing is a rich table; elsewhere it is the same columns as plain aligned text.
Programs read `--json`, or `-q`: ids only, one a line.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from modeldrop.names import printable

if TYPE_CHECKING:
    from rich.table import Table

Row = Sequence[str]

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
# Below this nobody waits long enough to look at a progress bar.
_WORTH_A_BAR: Final = 16 * 1024 * 1024


class Output:
    """How one command was asked to speak."""

    def __init__(self) -> None:
        """Speak to a person, until an option says otherwise."""
        self.json = False
        self.quiet = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A name that the terminal's encoding lacks is shown escaped; it is no error.
            sys.stdout.reconfigure(errors="backslashreplace")

    def id(self, text: str) -> None:
        """Print an id, or another short answer, on a line of its own."""
        sys.stdout.write(printable(text) + "\n")

    def path(self, path: str | os.PathLike[str]) -> None:
        """Print a path: escaped for a terminal, byte by byte as it is for a program."""
        if sys.stdout.isatty():
            self.id(os.fspath(path))
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(path) + b"\n")
        sys.stdout.buffer.flush()

    def document(self, whole: Mapping[str, object]) -> None:
        """Print one JSON object, for people's eyes, too."""
        sys.stdout.write(to_json(whole, indent=2) + "\n")

    def stream(self, one: Mapping[str, object]) -> None:
        """Print one JSON object of several, on one line, at once."""
        sys.stdout.write(to_json(one) + "\n")

    def say(self, text: str) -> None:
        """Say something to the person, unless asked to be quiet."""
        if not self.quiet:
            say(text)

    def blank(self) -> None:
        """Print an empty line between two parts."""
        sys.stdout.write("\n")

    def table(
        self, columns: Sequence[str], rows: Iterable[Row], *, right: str | Sequence[str] = ""
    ) -> None:
        """Print a listing; the columns named in `right`, a list or a text, hold numbers."""
        escaped = [[printable(cell) for cell in row] for row in rows]
        numbers = right.split() if isinstance(right, str) else list(right)
        if not escaped:
            return
        if sys.stdout.isatty():
            from rich.console import Console  # noqa: PLC0415 - only for a terminal

            Console(highlight=False).print(rich_table(columns, escaped, numbers))
        else:
            _plain_table(columns, escaped, numbers)

    def fields(self, fields: Mapping[str, str]) -> None:
        """Print names with their values, aligned; those without a value are left out."""
        sys.stdout.writelines(f"{line}\n" for line in field_lines(fields))

    @contextlib.contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show how many bytes have moved, on a terminal, where it takes a while.

        What it yields may be called from several threads.
        """
        small = total is not None and total < _WORTH_A_BAR
        if self.quiet or self.json or small or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.console import Console  # noqa: PLC0415 - only for people who wait
        from rich.progress import (  # noqa: PLC0415 - the same
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        with bar:
            task = bar.add_task(printable(what), total=total)
            yield lambda moved: bar.advance(task, moved)


def say(text: str) -> None:
    """Say something to the person, on stderr."""
    # Where both go to one log, it stands below what was printed before.
    sys.stdout.flush()
    sys.stderr.write(printable(text) + "\n")


def to_json(whole: Mapping[str, object], indent: int | None = None) -> str:
    """Return JSON in ASCII; bytes that were no UTF-8 are escaped as `printable` does.

    A lone surrogate would be valid to Python and to nobody else.
    """
    text = json.dumps(whole, indent=indent)
    return json.dumps(_valid(whole), indent=indent) if "\\ud" in text else text


def _valid(value: object) -> object:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return printable(value)
        return value
    if isinstance(value, Mapping):
        return {_valid(key): _valid(each) for key, each in value.items()}
    return [_valid(each) for each in value] if isinstance(value, list | tuple) else value


def size(count: int) -> str:
    """Return a number of bytes for people: `3 B`, `1.4 MiB`."""
    value, unit = float(count), "B"
    for larger in _UNITS:
        if value < 1024:  # noqa: PLR2004 - a unit is 1024 of the one below
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def when(at: str | None) -> str:
    """Return a time for people: to the second, still UTC."""
    return f"{at[:19].replace('T', ' ')}Z" if at else ""


def duration(seconds: int) -> str:
    """Return a number of seconds for people: `40 s`, `12 min`, `3 h 5 min`."""
    if seconds < 100:  # noqa: PLR2004 - up to here seconds are what people count in
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _plain_table(columns: Sequence[str], rows: list[list[str]], numbers: list[str]) -> None:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in ([name.upper() for name in columns], *rows):
        cells = (
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def field_lines(fields: Mapping[str, str]) -> list[str]:
    """Return names with their values, aligned; those without a value are left out."""
    shown = {name: value for name, value in fields.items() if value}
    width = max(map(len, shown), default=0)
    return [f"{name.ljust(width)}  {printable(value)}" for name, value in shown.items()]


def rich_table(columns: Sequence[str], rows: Iterable[Row], numbers: Sequence[str] = ()) -> Table:
    """Return a listing for a terminal; the columns named in `numbers` hold numbers."""
    from rich import box  # noqa: PLC0415 - only for a terminal
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        # As Text: what is in a name is never markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
