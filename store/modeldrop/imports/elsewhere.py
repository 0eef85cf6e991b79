"""What a reader tells of another registry: runs, their files, versions and aliases.

Names are as they are there; GUIDs are in our spelling, times are our texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from modeldrop.metadata import Metadata
from modeldrop.records import Refused
from modeldrop.structs import Frozen, field

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Opened(Frozen):
    """A file that is open to be read, once."""

    fd: int
    start: int | None
    """Where its bytes begin in the descriptor; None where they are all of it."""
    unchanged: Callable[[], None]
    """Raises `SourceChanged` when it isn't what it was."""


class File(Frozen):
    """A file of a run, by its path in the run: the artifact's name first."""

    path: str
    size: int
    open: Callable[[], AbstractContextManager[Opened]]
    sha256: str | None = None
    """The digest that it has to have, where the place says one."""


class Content(Frozen):
    """All files of a run, and what of it can't be stored."""

    files: tuple[File, ...]
    refused: tuple[Refused, ...] = ()


class Described(Frozen):
    """What the place says of a run, in the words of docs/format.md."""

    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    commit: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    metadata: Metadata | None = None
    """All of it, where the place has it in this store's own form."""


class RunThere(Frozen):
    """A run there."""

    run: str
    """Its GUID."""
    name: str
    """What it is called there."""
    experiment: str | None
    by: str | None
    at: str | None
    content: Callable[[], Content]
    """Lists its files. Raises ModeldropError or OSError where that can't be done."""
    described: Callable[[], Described] = Described
    key: str = ""
    """What versions name it by, where a run is told of in several states; else its GUID."""


class VersionThere(Frozen):
    """A version there, or what became of its number."""

    number: int
    name: str
    run: str | None = None
    """The key of its run."""
    artifact: str | None = None
    by: str | None = None
    at: str | None = None
    description: str = ""
    gone: str | None = None
    """Why the number means nothing there (any more); None if it does."""
    unreachable: str | None = None
    """Why its bytes can't be had, where the place itself says that."""
    unknown: bool = False
    """Whether the place doesn't say what the number means."""
    sha256: str | None = None
    """The digest that it pins, where the place says one."""


class ExperimentThere(Frozen):
    """A name there under which versions count."""

    name: str
    versions: tuple[VersionThere, ...]
    aliases: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True
    """Whether a number that isn't among the versions means nothing there."""


class DeploymentThere(Frozen):
    """A deployment there."""

    experiment: str
    number: int
    version: str
    """What the version is called there: the name of its `VersionThere`."""
    by: str | None
    at: str | None
    place: str
    """Where it went, as far as that is known there; else empty."""

    @property
    def told(self) -> str:
        """Who deployed it when and where, for people."""
        to = f" to {self.place}" if self.place else ""
        return f"{self.by or 'somebody'} deployed it at {self.at or 'an unknown time'}{to}"


class TargetThere(Frozen):
    """A deployment target there."""

    name: str
    production: bool
    deployments: tuple[DeploymentThere, ...]
    """What was deployed to it, oldest first."""


class Left(Frozen):
    """Something that was not carried over, and why."""

    kind: str
    name: str
    reason: str


class Source(Protocol):
    """Another place, opened to be read."""

    source: str
    """Which kind of place: what `origin` of a record says."""
    called: str
    """The same for people."""
    location: str
    """Where it is, without secrets."""

    def runs(self) -> Iterable[RunThere]:
        """Return the runs, each of them once."""
        ...

    def experiments(self) -> Iterable[ExperimentThere]:
        """Return the experiments that have versions."""
        ...

    def targets(self) -> Iterable[TargetThere]:
        """Return the deployment targets."""
        ...

    def left(self) -> Iterable[Left]:
        """Return what has no place here; to be asked after the others."""
        ...


def from_milliseconds(value: object) -> str | None:
    """Return a time that is told in milliseconds since 1970, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    try:
        return spelled(_EPOCH + timedelta(milliseconds=value))
    except OverflowError:
        return None


def from_text(value: object) -> str | None:
    """Return a time that is told as a text, in UTC unless it says otherwise; None if it is none."""
    if not isinstance(value, str):
        return None
    # .NET writes seven digits of a second, and Python reads six.
    head, dot, rest = value.strip().partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    fraction = dot and f".{digits[:6]:0<6}"
    try:
        at = datetime.fromisoformat(head + fraction + rest[len(digits) :])
        return spelled(at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def spelled(at: datetime) -> str:
    """Return a time in UTC as records spell it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
