"""The systemd units, as they are shipped and filled in for one home.

What is shipped works as it stands for a person's `~/.mlops` and for `/var/lib/modeldrop`; for
every other home, and for a program that isn't where such programs usually are, lines of it are
replaced. systemd's own rules for paths in units are in systemd.unit(5) and systemd.syntax(7).
"""

from __future__ import annotations

import math
import pwd
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import modeldrop
import modeldrop_daemon
from modeldrop.errors import ConfigError, HomeNotFound
from modeldrop.home import Home, open_home
from modeldrop.names import printable

_PACKAGE: Final = Path(__file__).parent
# In a wheel the units are beside this module, in a checkout at its root.
_PLACES: Final = (_PACKAGE / "systemd", _PACKAGE.parents[1] / "systemd")
_FILES: Final[Mapping[str, str]] = {
    "user": "user/modeldropd.service",
    "system": "modeldropd.service",
}
# What systemd makes for the shipped system unit.
_STATE: Final = Path("/var/lib/modeldrop")
# What the system unit hides from the service: its ProtectHome and PrivateTmp.
_HIDDEN: Final = (
    *(Path("/home"), Path("/root"), Path("/run/user")),  # path-ok
    *(Path("/tmp"), Path("/var/tmp")),  # noqa: S108 - nothing is put there
)
# What the manager gives the service beyond its own `stop_time`, to end what nothing interrupts.
_STOP_MARGIN: Final = 30.0


def template(kind: str) -> str:
    """Return the unit as it is shipped; `kind` is `user` or `system`."""
    for place in _PLACES:
        path = place / _FILES[kind]
        if path.is_file():
            return path.read_text("utf-8")
    message = f"the unit {_FILES[kind]} isn't installed"
    raise ConfigError(message, hint="install modeldrop again, or take it from the sources")


def print_unit(kind: str, root: Path | None = None) -> str:
    """Return the unit for the home at `root`, or for the one that `find` finds.

    Without either it is for the home that `modeldrop init` would make for such a service.

    Raises:
        ConfigError: a path has a character that no unit can hold.
        HomeNotFound: `root` is given, and is no home.
    """
    home = _home(root)
    program, *arguments = _program()
    # The program itself is never looked at for variables.
    command = [_word(program), *map(_argument, arguments)]
    if home is None:
        where = "%h" if kind == "user" else str(_STATE)
        lines = {"ExecStart": " ".join([*command, f"--home {where}/.mlops"])}
        if kind == "system":
            lines["BindPaths"] = ""
            lines["BindReadOnlyPaths"] = _words(filter(_is_hidden, _installation()))
        return _filled(template(kind), lines)
    root = home.paths.root
    lines = {
        "ExecStart": " ".join([*command, "--home", _argument(str(root))]),
        "RequiresMountsFor": _words(_folders(home)),
        "TimeoutStopSec": f"{math.ceil(home.config.service.stop_time + _STOP_MARGIN)}s",
    }
    if kind == "system":
        lines["User"] = _word(_owner(root))
        if not root.is_relative_to(_STATE):
            lines["StateDirectory"] = lines["StateDirectoryMode"] = ""
        folders = _folders(home)
        lines["ReadWritePaths"] = _words(each for each in folders if not _is_hidden(each))
        lines["BindPaths"] = _words(filter(_is_hidden, folders))
        lines["BindReadOnlyPaths"] = _words(filter(_is_hidden, _installation()))
    return _filled(template(kind), lines)


def _home(root: Path | None) -> Home | None:
    try:
        return open_home(root)
    except HomeNotFound:
        if root is not None:
            raise
        return None


def _program() -> list[str]:
    """Return the command that starts this very installation."""
    # Not resolved: the python of an environment is a link, and the path is what names it.
    script = Path(sys.executable).parent / "modeldropd"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "modeldrop_daemon"]


def _folders(home: Home) -> list[Path]:
    """Return the folders that have to be mounted, without those inside of others."""
    paths = {home.paths.root, home.staging.absolute()}
    if "://" not in home.backend_url:
        paths.add(Path(home.backend_url).expanduser().absolute())
    return _outermost(paths)


def _installation() -> list[Path]:
    """Return the folders that this installation runs from, without those inside of others."""
    sources = {Path(package.__file__ or "").parents[1] for package in (modeldrop, modeldrop_daemon)}
    return _outermost({Path(sys.prefix), Path(sys.base_prefix), *sources})


def _outermost(paths: set[Path]) -> list[Path]:
    return sorted(path for path in paths if paths.isdisjoint(path.parents))


def _is_hidden(path: Path) -> bool:
    return any(path.is_relative_to(each) for each in _HIDDEN)


def _owner(path: Path) -> str:
    uid = path.stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _filled(unit: str, lines: Mapping[str, str]) -> str:
    """Return the unit with some of its settings replaced; an empty text takes one away."""
    filled = []
    for line in unit.splitlines():
        key, equals, _ = line.partition("=")
        if equals and key in lines:
            if lines[key]:
                filled.append(f"{key}={lines[key]}")
        else:
            filled.append(line)
    return "\n".join(filled) + "\n"


def _words(paths: Iterable[Path]) -> str:
    return " ".join(_word(str(path)) for path in paths)


def _argument(text: str) -> str:
    """Return a word of a command line; `$` would begin a variable there."""
    return _word(text).replace("$", "$$")


def _word(text: str) -> str:
    """Return a word of a setting; `%` would begin a specifier."""
    if printable(text) != text:
        message = f"the path {printable(text)} has a character that no systemd unit can hold"
        raise ConfigError(message, hint="move the home or staging to a path without it")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if set(escaped) & set(" \t\"'\\;#:") else escaped
