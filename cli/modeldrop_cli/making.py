"""What the commands have in common that make a home: `init` and `clone`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from modeldrop_cli.command import home_option

if TYPE_CHECKING:
    from modeldrop_cli.output import Output

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# `s3://bucket`, and also the slip `s3:bucket`, which the library tells from a path.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def making_options(function: Decorated) -> Decorated:
    """Give a command the options that a home is made with, but for its backend."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS: Final = (
    click.option("--staging", metavar="DIR", default="", help="Where models are dropped."),
    click.option(
        "--option",
        "options",
        metavar="KEY=VALUE",
        multiple=True,
        help="An option of the backend's driver, such as endpoint_url; no credentials.",
    ),
    click.option(
        "--single-writer",
        is_flag=True,
        help="Accept a backend that can't tell racing writers apart: one home alone may write "
        "to it, the first one that does; the others read.",
    ),
    click.option(
        "--network-home",
        is_flag=True,
        help="Accept a home on a network file system, where nothing is promised.",
    ),
)


def home_folder(directory: Path | None, output: Output) -> Path:
    """Return where a command that makes a home is to make it."""
    from modeldrop.home import FOLDER, VARIABLE  # noqa: PLC0415 - not for `--help`

    flag, variable = home_option(), os.environ.get(VARIABLE)
    named = flag or variable
    if directory is None:
        return Path(named).expanduser().absolute() if named else Path.cwd() / FOLDER
    root = directory.expanduser().absolute() / FOLDER
    if flag:
        raise click.UsageError("DIRECTORY and --home both say where the home is to be")
    if variable and Path(variable).expanduser().absolute() != root:
        output.say(f"Note: {VARIABLE} is set, so other commands use {variable}, not this home.")
    return root


def lasting_url(backend: str) -> str:
    """Return a backend as the settings keep it: a path that is typed is relative to here."""
    return backend if _SCHEME.match(backend) else absolute(backend)


def absolute(text: str) -> str:
    """Return a path that means the same from everywhere; links in it stay, as far as they can."""
    if not text:
        return ""
    path = Path(text).expanduser().absolute()
    return str(path.resolve() if ".." in path.parts else path)


def parsed(options: tuple[str, ...]) -> dict[str, object]:
    """Return the driver's options; what reads as a number, true or false is one."""
    import json  # noqa: PLC0415 - not for `--help`

    parsed: dict[str, object] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals):
            # The value is not repeated: it may be what should never be shown.
            raise click.BadParameter(
                f"{key!r} has no value: write KEY=VALUE", param_hint="--option"
            )
        try:
            found = json.loads(value)
        except ValueError:
            found = value
        parsed[key] = found if isinstance(found, bool | int | float | dict) else value
    return parsed
