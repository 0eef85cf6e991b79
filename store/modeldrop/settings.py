"""The settings of a home, as typed classes: what there is to set, its default, what it means.

docs/configuration.md is generated from these classes: each field's `doc` is what it says there.
No secret belongs in here; credentials come from where the store's own tools look for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, get_type_hints

from modeldrop.errors import ConfigError
from modeldrop.formats import KINDS, PARK, VERDICTS, WARN
from modeldrop.structs import Frozen, field


class Setting(Frozen):
    """What there is to say of a setting, beside its type and its default."""

    doc: str
    choices: tuple[str, ...] = ()
    zero: bool = False
    """Whether a number may be 0; less it never may."""
    check: Callable[[Any, str], None] | None = None
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
            raise unknown("kind in [formats] kinds", kind, list(KINDS), where)
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


def settings_of(section: type[Any]) -> dict[str, Setting]:
    """Return what there is to say of each setting of a section, by its name."""
    hints = get_type_hints(section, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in section.__struct_fields__}


def unknown(what: str, name: str, known: list[str], where: str) -> ConfigError:
    """Return the error that says what isn't known, and what may have been meant."""
    import difflib  # noqa: PLC0415 - only needed to be helpful

    from modeldrop.redaction import scrub  # noqa: PLC0415 - the same

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return ConfigError(
        f"{where}: unknown {what} {scrub(name)!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}",
    )
