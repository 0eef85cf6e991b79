"""`config.toml`, a home's file of settings: read into the classes of `settings`, and written."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modeldrop.errors import ConfigError, ModeldropError
from modeldrop.files import others_can_write, write_durable
from modeldrop.names import printable
from modeldrop.settings import SECTIONS, Config, settings_of, unknown

NOT_TO_BE_READ: Final = (PermissionError, IsADirectoryError)
"""What the system says of a file that is in the way or isn't this user's, whenever it is asked."""


def load(path: Path) -> Config:
    """Return the settings in `path`; a file that isn't there means the defaults.

    Raises:
        ConfigError: it mustn't be read, others may write to it, or a setting isn't valid.
        ModeldropError: it can't be read now, which says nothing of it.
    """
    try:
        text = path.read_text("utf-8")
        if others_can_write(path):
            message = f"{path} may be changed by every user of this machine"
            raise ConfigError(message, hint=f"run `chmod o-w {path}`")
    except FileNotFoundError:
        return Config()
    except (*NOT_TO_BE_READ, UnicodeDecodeError) as error:
        message = f"{path} can't be read: {error}"
        raise ConfigError(message, hint="make it a UTF-8 file that you may read") from error
    except OSError as error:
        raise ModeldropError(f"{path} can't be read: {error.strerror}") from error
    try:
        found = tomllib.loads(text)
    except ValueError as error:
        message = f"{path} is no valid TOML: {error}"
        raise ConfigError(message, hint="docs/configuration.md shows every setting") from error
    return parse(found, where=str(path))


def parse(found: Mapping[str, object], where: str) -> Config:
    """Return the settings of a parsed file; `where` names it in errors.

    Raises:
        ConfigError: a section or key is unknown, or a value isn't valid.
    """
    sections: dict[str, Any] = {}
    for name, values in found.items():
        if name not in SECTIONS:
            raise unknown("section", name, list(SECTIONS), where)
        if not isinstance(values, dict):
            message = f"{where}: {printable(name)!r} has to be a section"
            raise ConfigError(message, hint=f"write `[{name}]` on a line of its own")
        sections[name] = _section(SECTIONS[name], name, values, where)
    return Config(**sections)


def _section(cls: type[Any], name: str, values: Mapping[str, object], where: str) -> Any:  # noqa: ANN401 - one of SECTIONS
    known, defaults = settings_of(cls), cls()
    checked: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise unknown(f"[{name}] setting", key, list(known), where)
        each = known[key]
        wanted = type(getattr(defaults, key))
        if wanted is float and type(value) is int:
            value = _as_float(value)  # noqa: PLW2901 - `quiet_time = 5` means 5.0
        if wanted is tuple and isinstance(value, list):
            value = _as_words(value)  # noqa: PLW2901 - TOML has no tuples
        if type(value) is not wanted or (each.choices and value not in each.choices):
            expected = " or ".join(f'"{choice}"' for choice in each.choices) or _NAMES[wanted]
            # What stands where the backend's URL or options belong may be a secret.
            found = "is wrong" if name == "backend" else f"is {value!r}"
            message = f"{where}: [{name}] {key} {found}, and has to be {expected}"
            raise ConfigError(message, hint=each.doc)
        if each.check is not None:
            each.check(value, where)
        if isinstance(value, int | float) and not _is_possible(value, zero=each.zero):
            least = "0 or more" if each.zero else "more than 0"
            message = f"{where}: [{name}] {key} is {value!r}, and has to be {least}, and finite"
            raise ConfigError(message, hint=each.doc)
        checked[key] = value
    return cls(**checked)


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _as_words(found: list[object]) -> object:
    """Return a command's words; what is none stays a list, which no setting takes."""
    are_words = all(isinstance(word, str) and "\0" not in word for word in found)
    return tuple(found) if are_words and "" not in found[:1] else found


def _is_possible(number: float, *, zero: bool) -> bool:
    if isinstance(number, bool) or (zero and number == 0):
        return True
    return 0 < number < math.inf  # TOML has inf and nan


_NAMES: Final[Mapping[type, str]] = {
    str: "a text",
    float: "a number of seconds",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    tuple: "a list of words, the first of which names a program",
}


def save(path: Path, config: Config) -> None:
    """Write the settings that differ from their defaults; readable by the owner alone."""
    import tomli_w  # noqa: PLC0415 - only `init` writes settings

    document: dict[str, dict[str, object]] = {}
    for name in SECTIONS:
        section = getattr(config, name)
        fresh = type(section)()
        changed = {
            each: getattr(section, each)
            for each in section.__struct_fields__
            if getattr(section, each) != getattr(fresh, each)
        }
        if changed:
            document[name] = changed
    text = "# The settings of this home; docs/configuration.md describes each.\n\n"
    write_durable(path, (text + tomli_w.dumps(document)).encode("utf-8"), mode=0o600)
