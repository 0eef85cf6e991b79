"""The settings of a home: `config.toml`, read into typed classes.

docs/configuration.md is generated from these classes: each field's `doc` is what it says there.
No secret belongs in here; credentials come from where the store's own tools look for them.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from modeldrop.errors import ConfigError
from modeldrop.files import others_can_write, write_durable
from modeldrop.names import printable


def _setting(default: Any, doc: str, *, choices: tuple[str, ...] = ()) -> Any:  # noqa: ANN401 - what dataclasses.field takes and returns
    return field(default=default, metadata={"doc": doc, "choices": choices})


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """`[backend]`: where the bytes live."""

    url: str = _setting(
        "", "URL or folder of the backend; empty is `model-repository/` in the home"
    )
    options: Mapping[str, object] = field(
        default_factory=dict,
        metadata={
            "doc": "passed to the fsspec file system of the URL, such as `endpoint_url`; "
            "no credentials"
        },
    )
    single_writer: bool = _setting(
        default=False,
        doc="true accepts a backend whose create-if-absent does not hold: this home alone may "
        "write to it",
    )


@dataclass(frozen=True, slots=True)
class StagingSettings:
    """`[staging]`: where models are dropped."""

    path: str = _setting(
        "", "the watched folder, relative to the home; empty is `staging/` in the home"
    )


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """`[service]`: when a drop is complete, and how it is stored."""

    quiet_time: float = _setting(
        5.0,
        "seconds without a change after which a run is complete, where the kernel can tell "
        "that nobody has its files open for writing",
    )
    quiet_time_without_lease: float = _setting(
        30.0, "the same where the kernel can't tell, and for runs with empty files"
    )
    quiet_time_network: float = _setting(120.0, "the same for staging on a network file system")
    complete: str = _setting(
        "quiet",
        "`quiet`: the quiet time, `_SUCCESS` or an atomic arrival completes a run; `marker`: "
        "only `_SUCCESS` or an atomic arrival does",
        choices=("quiet", "marker"),
    )
    revision_interval: float = _setting(
        600.0,
        "least seconds between two revisions of a run that changes, unless `_SUCCESS` or "
        "an atomic arrival says now",
    )
    parallel: int = _setting(4, "how many runs are stored at a time")
    scan_interval: float = _setting(
        60.0, "seconds between two full scans of the staging folder while events arrive"
    )
    poll_interval: float = _setting(
        2.0, 'seconds between two full scans where events can\'t be had (`watcher = "none"`)'
    )
    watcher: str = _setting(
        "auto",
        "`auto`: the kernel's events make the service quick; `none`: it only scans",
        choices=("auto", "none"),
    )
    retry_first: float = _setting(1.0, "seconds before the first retry of what failed")
    retry_most: float = _setting(300.0, "most seconds between two retries")
    stop_time: float = _setting(60.0, "seconds that SIGTERM leaves to the transfers in flight")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a home."""

    backend: BackendSettings = field(default_factory=BackendSettings)
    staging: StagingSettings = field(default_factory=StagingSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "backend": BackendSettings,
    "staging": StagingSettings,
    "service": ServiceSettings,
}


def load(path: Path) -> Config:
    """Return the settings in `path`; a file that isn't there means the defaults.

    Raises:
        ConfigError: it can't be read, others may write to it, or a setting isn't valid.
    """
    try:
        text = path.read_text("utf-8")
        if others_can_write(path):
            message = f"{path} may be changed by every user of this machine"
            raise ConfigError(message, hint=f"run `chmod o-w {path}`")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} can't be read: {error}"
        raise ConfigError(message, hint="make it a UTF-8 file that you may read") from error
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
            raise _unknown("section", name, list(SECTIONS), where)
        if not isinstance(values, dict):
            message = f"{where}: {printable(name)!r} has to be a section"
            raise ConfigError(message, hint=f"write `[{name}]` on a line of its own")
        sections[name] = _section(SECTIONS[name], name, values, where)
    return Config(**sections)


def _section(cls: type[Any], name: str, values: Mapping[str, object], where: str) -> Any:  # noqa: ANN401 - one of SECTIONS
    known = {each.name: each for each in fields(cls)}
    checked: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise _unknown(f"[{name}] setting", key, list(known), where)
        each = known[key]
        default = each.default if each.default is not MISSING else {}
        wanted = type(default)
        if wanted is float and type(value) is int:
            value = _as_float(value)  # noqa: PLW2901 - `quiet_time = 5` means 5.0
        choices = each.metadata.get("choices")
        if type(value) is not wanted or (choices and value not in choices):
            expected = " or ".join(f'"{choice}"' for choice in choices or ()) or _NAMES[wanted]
            message = f"{where}: [{name}] {key} is {value!r}, and has to be {expected}"
            raise ConfigError(message, hint=each.metadata["doc"])
        if isinstance(value, int | float) and not _is_possible(value):
            message = f"{where}: [{name}] {key} is {value!r}, and has to be more than 0, and finite"
            raise ConfigError(message, hint=each.metadata["doc"])
        checked[key] = value
    return cls(**checked)


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _is_possible(number: float) -> bool:
    return isinstance(number, bool) or 0 < number < math.inf  # TOML has inf and nan


_NAMES: Final[Mapping[type, str]] = {
    str: "a text",
    float: "a number of seconds",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
}


def _unknown(what: str, name: str, known: list[str], where: str) -> ConfigError:
    import difflib  # noqa: PLC0415 - only needed to be helpful

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return ConfigError(
        f"{where}: unknown {what} {printable(name)!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}",
    )


def save(path: Path, config: Config) -> None:
    """Write the settings that differ from their defaults; readable by the owner alone."""
    import tomli_w  # noqa: PLC0415 - only `init` writes settings

    document: dict[str, dict[str, object]] = {}
    for name in SECTIONS:
        section = getattr(config, name)
        fresh = type(section)()
        changed = {
            each.name: getattr(section, each.name)
            for each in fields(section)
            if getattr(section, each.name) != getattr(fresh, each.name)
        }
        if changed:
            document[name] = changed
    text = "# The settings of this home; docs/configuration.md describes each.\n\n"
    write_durable(path, (text + tomli_w.dumps(document)).encode("utf-8"), mode=0o600)
