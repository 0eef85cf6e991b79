"""How people name a run, a revision, an artifact or a version; the words of docs/format.md.

`churn` · `churn/3` · `run:<guid>` · `run:<guid>~2` · `run:<guid>/<artifact>` · `run:@last` · a
bare GUID or a unique beginning of one · the path of a run's staging folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from modeldrop.errors import InvalidName
from modeldrop.names import is_experiment, parse_guid, parse_guid_prefix, printable

LAST: Final = "@last"

_RUN: Final = re.compile(
    r"(?P<run>@last|\{?[0-9A-Fa-f-]+\}?)(?:~(?P<revision>[0-9]{1,9}))?(?:/(?P<artifact>[^/]+))?/?"
)
_VERSION: Final = re.compile(r"(?P<experiment>[^/@~:]+)(?:/(?P<version>[0-9]{1,9}))?")


@dataclass(frozen=True, slots=True)
class RunReference:
    """A run: its whole GUID, the beginning of one, or `@last`; perhaps a revision, an artifact."""

    run: str
    revision: int | None = None
    artifact: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the GUID is whole, so that nothing has to be looked up."""
        return parse_guid(self.run) == self.run


@dataclass(frozen=True, slots=True)
class VersionReference:
    """A version of an experiment; no number means the newest."""

    experiment: str
    version: int | None = None


Reference = RunReference | VersionReference


def parse(text: str) -> Reference:
    """Return what a reference names, by its form alone.

    What could be an experiment or the beginning of a GUID is an experiment: `run:` in front
    says otherwise.

    Raises:
        InvalidName: it has no form of a reference.
    """
    if text.startswith("run:"):
        return parse_run(text)
    found = _VERSION.fullmatch(text)
    if found and is_experiment(found["experiment"]):
        version = found["version"]
        if version is not None and int(version) == 0:
            raise _invalid(text)
        return VersionReference(found["experiment"], int(version) if version else None)
    return parse_run(text)


def parse_run(text: str) -> RunReference:
    """Return the run that a reference names, where only a run can be meant.

    Raises:
        InvalidName: it has no form of a run's reference.
    """
    bare = text.removeprefix("run:")
    found = _RUN.fullmatch(bare)
    if found is None and "/" in bare:
        # The path of a staging folder: its last component is the GUID.
        name = bare.rstrip("/").rpartition("/")[2]
        if parse_guid(name):
            return RunReference(parse_guid(name) or name)
    if found is None:
        raise _invalid(text)
    run = found["run"]
    if run != LAST:
        canonical = parse_guid(run) or parse_guid_prefix(run)
        if canonical is None:
            raise _invalid(text)
        run = canonical
    revision = int(found["revision"]) if found["revision"] else None
    if revision == 0:
        raise _invalid(text)
    return RunReference(run, revision, found["artifact"])


def _invalid(text: str) -> InvalidName:
    message = f"{printable(text)!r} names neither a version nor a run"
    return InvalidName(
        message,
        hint="write `churn`, `churn/3`, `run:<guid>`, `run:<guid>~2`, `run:<guid>/<artifact>` "
        "or `run:@last`",
    )
