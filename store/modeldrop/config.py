"""The settings of a home: `config.toml`, read into typed classes.

docs/configuration.md is generated from these classes: each field's `doc` is what it says there.
No secret belongs in here; credentials come from where the store's own tools look for them.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from modeldrop.errors import ConfigError, ModeldropError
from modeldrop.files import others_can_write, write_durable
from modeldrop.formats import KINDS, PARK, VERDICTS, WARN
from modeldrop.names import printable
from modeldrop.structs import Frozen, field


class Setting(Frozen):
    """What there is to say of a setting, beside its type and its default."""

    doc: str
    choices: tuple[str, ...] = ()
    zero: bool = False
    """Whether a number may be 0; less it never may."""
    check: Callable[[Mapping[str, object], str], None] | None = None
    """Raises ConfigError if a table isn't valid; it is told where that was found."""


class BackendSettings(Frozen):
    """`[backend]`: where the bytes live."""

    url: Annotated[
        str, Setting("URL or folder of the backend; empty is `model-repository/` in the home")
    ] = ""
    options: Annotated[
        Mapping[str, object],
        Setting(
            "passed to the fsspec file system of the URL, such as `endpoint_url`; no credentials"
        ),
    ] = field(default_factory=dict)
    single_writer: Annotated[
        bool,
        Setting(
            "true accepts a backend whose create-if-absent does not hold: one home alone may "
            "write to it, which the backend names"
        ),
    ] = False


class StagingSettings(Frozen):
    """`[staging]`: where models are dropped."""

    path: Annotated[
        str, Setting("the watched folder, relative to the home; empty is `staging/` in the home")
    ] = ""


class ServiceSettings(Frozen):
    """`[service]`: when a drop is complete, and how it is stored."""

    quiet_time: Annotated[
        float,
        Setting(
            "seconds without a change after which a run is complete, where the kernel can tell "
            "that nobody has its files open for writing"
        ),
    ] = 5.0
    quiet_time_without_lease: Annotated[
        float, Setting("the same where the kernel can't tell, and for runs with empty files")
    ] = 30.0
    quiet_time_network: Annotated[
        float, Setting("the same for staging on a network file system")
    ] = 120.0
    complete: Annotated[
        str,
        Setting(
            "`quiet`: the quiet time, `_SUCCESS` or an atomic arrival completes a run; `marker`: "
            "only `_SUCCESS` or an atomic arrival does",
            choices=("quiet", "marker"),
        ),
    ] = "quiet"
    revision_interval: Annotated[
        float,
        Setting(
            "least seconds between two revisions of a run that changes, unless `_SUCCESS` or "
            "an atomic arrival says now"
        ),
    ] = 600.0
    parallel: Annotated[
        int, Setting("how many large runs, of more than 16 MiB, are stored at a time")
    ] = 4
    parallel_small: Annotated[
        int,
        Setting(
            "how many small runs are stored at a time, beside the large ones; on a local backend "
            "the smallest go in groups"
        ),
    ] = 8
    bandwidth: Annotated[
        int,
        Setting(
            "most bytes a second that are sent to the backend, all together; 0 is no limit",
            zero=True,
        ),
    ] = 0
    reserve: Annotated[
        int,
        Setting(
            "bytes that stay free on the disks of the home and of a local backend: what would take "
            "them waits; 0 is none",
            zero=True,
        ),
    ] = 512 * 2**20
    most_files: Annotated[
        int, Setting("most files that one run may hold; a run with more is parked")
    ] = 100_000
    most_bytes: Annotated[
        int,
        Setting(
            "most bytes that one run may hold; a run with more is parked; 0 is no limit", zero=True
        ),
    ] = 0
    afterwards: Annotated[
        str,
        Setting(
            "what becomes of the staged copy of a run that is stored: `keep` leaves it and a "
            "receipt, `move` puts it into `done/` in staging, `delete` removes it after "
            "`delete_after`, once the stored bytes were read and compared again",
            choices=("keep", "move", "delete"),
        ),
    ] = "keep"
    delete_after: Annotated[
        float,
        Setting(
            'seconds after its commit before a staged copy is removed (`afterwards = "delete"`)'
        ),
    ] = 86_400.0
    scan_interval: Annotated[
        float,
        Setting(
            "seconds between two full scans of the staging folder while events arrive; a scan that "
            "takes long comes less often"
        ),
    ] = 60.0
    poll_interval: Annotated[
        float,
        Setting(
            "seconds between two looks for new runs, and at those that aren't stored, where events "
            'can\'t be had (`watcher = "none"`); many stored runs are looked at less often'
        ),
    ] = 2.0
    watcher: Annotated[
        str,
        Setting(
            "`auto`: the kernel's events make the service quick; `none`: it only scans",
            choices=("auto", "none"),
        ),
    ] = "auto"
    retry_first: Annotated[float, Setting("seconds before the first retry of what failed")] = 1.0
    retry_most: Annotated[float, Setting("most seconds between two retries")] = 300.0
    share_interval: Annotated[
        float,
        Setting(
            "seconds between two times that the journal is shared with other hosts, and theirs "
            "are fetched"
        ),
    ] = 60.0
    stop_time: Annotated[
        float, Setting("seconds that SIGTERM leaves to the transfers in flight")
    ] = 60.0
    metrics: Annotated[
        str,
        Setting(
            "address and port on which Prometheus finds metrics, such as `127.0.0.1:9469`; only a "
            "loopback address is taken; empty is none"
        ),
    ] = ""


def _verdicts(found: Mapping[str, object], where: str) -> None:
    """Return if each kind of `[formats] kinds` is known, and so is what is said of it."""
    for kind, verdict in found.items():
        if kind not in KINDS:
            raise _unknown("kind in [formats] kinds", kind, list(KINDS), where)
        if verdict not in VERDICTS:
            expected = " or ".join(f'"{each}"' for each in VERDICTS)
            message = f"{where}: [formats] kinds.{kind} is {verdict!r}, and has to be {expected}"
            raise ConfigError(message, hint=_KINDS_DOC)


_KINDS_DOC: Final = (
    "what becomes of files of single kinds, whatever `runs_code` says, such as "
    '`{ pickle = "park", joblib = "allow" }`; kinds are ' + ", ".join(f"`{each}`" for each in KINDS)
)


class FormatSettings(Frozen):
    """`[formats]`: what becomes of files by what their headers say that they are."""

    runs_code: Annotated[
        str,
        Setting(
            "what becomes of a run with a file that runs code when it is loaded, such as a pickle: "
            "`allow` stores it, `warn` stores it and says so in the log, `park` leaves it in "
            "staging until a person decides",
            choices=VERDICTS,
        ),
    ] = WARN
    damaged: Annotated[
        str,
        Setting(
            "the same for a file that is cut off, isn't what its own header says, or needs another "
            "file that isn't there",
            choices=VERDICTS,
        ),
    ] = WARN
    kinds: Annotated[Mapping[str, str], Setting(_KINDS_DOC, check=_verdicts)] = field(
        default_factory=dict
    )

    @property
    def parks(self) -> bool:
        """Whether anything is parked for what it is."""
        return PARK in {self.runs_code, self.damaged, *self.kinds.values()}


class HookSettings(Frozen):
    """`[hooks]`: commands to run when something happened, each a list of words."""

    committed: Annotated[tuple[str, ...], Setting("run when a revision is committed")] = ()
    parked: Annotated[tuple[str, ...], Setting("run when a run is parked and needs a person")] = ()
    registered: Annotated[
        tuple[str, ...], Setting("run when a version is registered by this home")
    ] = ()
    deployed: Annotated[
        tuple[str, ...], Setting("run when one is deployed, or rolled back to, by this home")
    ] = ()
    timeout: Annotated[float, Setting("seconds after which a command is ended")] = 30.0


class GcSettings(Frozen):
    """`[gc]`: what is let go of what is stored; never what a version, alias or deployment pins."""

    keep_revisions: Annotated[
        int, Setting("how many of the newest revisions of a run stay, also where nothing pins them")
    ] = 3
    retired_after: Annotated[
        float, Setting("seconds after which the bytes of a retired version may go")
    ] = 14 * 86_400.0
    unregistered_after: Annotated[
        float,
        Setting(
            "seconds after the last commit to a run after which it goes, if nothing of it is "
            "registered; 0 is never",
            zero=True,
        ),
    ] = 0.0


class Config(Frozen):
    """All settings of a home."""

    backend: BackendSettings = field(default_factory=BackendSettings)
    staging: StagingSettings = field(default_factory=StagingSettings)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    hooks: HookSettings = field(default_factory=HookSettings)
    formats: FormatSettings = field(default_factory=FormatSettings)
    gc: GcSettings = field(default_factory=GcSettings)


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "backend": BackendSettings,
    "staging": StagingSettings,
    "service": ServiceSettings,
    "hooks": HookSettings,
    "formats": FormatSettings,
    "gc": GcSettings,
}


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
            raise _unknown("section", name, list(SECTIONS), where)
        if not isinstance(values, dict):
            message = f"{where}: {printable(name)!r} has to be a section"
            raise ConfigError(message, hint=f"write `[{name}]` on a line of its own")
        sections[name] = _section(SECTIONS[name], name, values, where)
    return Config(**sections)


def settings_of(section: type[Any]) -> dict[str, Setting]:
    """Return what there is to say of each setting of a section, by its name."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in section.__struct_fields__}


def _section(cls: type[Any], name: str, values: Mapping[str, object], where: str) -> Any:  # noqa: ANN401 - one of SECTIONS
    known, defaults = settings_of(cls), cls()
    checked: dict[str, object] = {}
    for key, value in values.items():
        if key not in known:
            raise _unknown(f"[{name}] setting", key, list(known), where)
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
        if each.check is not None and isinstance(value, dict):
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


def _unknown(what: str, name: str, known: list[str], where: str) -> ConfigError:
    import difflib  # noqa: PLC0415 - only needed to be helpful

    from modeldrop.redaction import scrub  # noqa: PLC0415 - the same

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return ConfigError(
        f"{where}: unknown {what} {scrub(name)!r}",
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
            each: getattr(section, each)
            for each in section.__struct_fields__
            if getattr(section, each) != getattr(fresh, each)
        }
        if changed:
            document[name] = changed
    text = "# The settings of this home; docs/configuration.md describes each.\n\n"
    write_durable(path, (text + tomli_w.dumps(document)).encode("utf-8"), mode=0o600)
