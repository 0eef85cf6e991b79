"""How a reference is spelled: what people write for a run, a revision, an artifact or a version.

`churn` · `churn/3` · `churn@champion` · `churn@champion~2` (where its move 2 put it) ·
`churn@production` (what is live at a target) · `churn@production~4` (its deployment 4) ·
`run:<guid>` · `run:<guid>~2` · `run:<guid>/<artifact>` · `run:@last` · a bare GUID or a unique
beginning of one · the path of a run's staging folder.

What a reference names is what `references` finds.
"""

from __future__ import annotations

import re
from typing import Final

from modeldrop.errors import InvalidName
from modeldrop.names import check_alias, is_experiment, parse_guid, parse_guid_prefix, printable
from modeldrop.structs import Frozen

LAST: Final = "@last"

_RUN: Final = re.compile(
    r"(?P<run>@last|\{?[0-9A-Fa-f-]+\}?)(?:~(?P<revision>[0-9]{1,9}))?(?:/(?P<artifact>[^/]+))?/?"
)
_VERSION: Final = re.compile(r"(?P<experiment>[^/@~:]+)(?:/(?P<version>[0-9]{1,9}))?")
_ALIAS: Final = re.compile(
    r"(?P<experiment>[^/@~:]+)@(?P<alias>[^/@~:]+)(?:~(?P<move>[0-9]{1,9}))?"
)


class RunReference(Frozen):
    """A run: its whole GUID, the beginning of one, or `@last`; perhaps a revision, an artifact."""

    run: str
    revision: int | None = None
    artifact: str | None = None

    @property
    def whole(self) -> bool:
        """Whether the GUID is whole, so that nothing has to be looked up."""
        return parse_guid(self.run) == self.run


class VersionReference(Frozen):
    """A version of an experiment; no number means the newest."""

    experiment: str
    version: int | None = None


class AliasReference(Frozen):
    """An alias of an experiment, or a target; no number means its newest move or deployment."""

    experiment: str
    alias: str
    move: int | None = None


Reference = RunReference | VersionReference | AliasReference


def parse(text: str) -> Reference:
    """Return what a reference names, by its form alone.

    What could be an experiment or the beginning of a GUID is an experiment: `run:` in front
    says otherwise.

    Raises:
        InvalidName: it has no form of a reference.
    """
    found = None if text.startswith("run:") else _VERSION.fullmatch(text)
    if found and is_experiment(found["experiment"]):
        version = found["version"]
        if version is not None and int(version) == 0:
            raise _invalid(text)
        return VersionReference(found["experiment"], int(version) if version else None)
    alias = _as_alias(text)
    if alias is not None:
        return alias
    run = _as_run(text)
    if run is None:
        raise _invalid(text)
    return run


def parse_alias(text: str) -> AliasReference:
    """Return the alias that a reference names, where only an alias can be meant.

    Raises:
        InvalidName: it has no form of an alias's reference, or names one of its moves.
    """
    found = _as_alias(text)
    if found is None or found.move is not None:
        message = f"{printable(text)!r} names no alias"
        raise InvalidName(message, hint="write experiment and alias: `churn@champion`")
    return found


def _as_alias(text: str) -> AliasReference | None:
    found = _ALIAS.fullmatch(text)
    if found is None or not is_experiment(found["experiment"]):
        return None
    move = int(found["move"]) if found["move"] else None
    if move == 0:
        return None
    return AliasReference(found["experiment"], check_alias(found["alias"]), move)


def parse_run(text: str) -> RunReference:
    """Return the run that a reference names, where only a run can be meant.

    Raises:
        InvalidName: it has no form of a run's reference.
    """
    found = _as_run(text)
    if found is None:
        message = f"{printable(text)!r} names no run"
        raise InvalidName(
            message,
            hint="write a GUID, its first 4 digits or more, `run:@last`, or the run's staging "
            "folder",
        )
    return found


def _as_run(text: str) -> RunReference | None:
    bare = text.removeprefix("run:")
    found = _RUN.fullmatch(bare)
    if found is None and "/" in bare:
        # The path of a staging folder: its last component is the GUID.
        name = bare.rstrip("/").rpartition("/")[2]
        if parse_guid(name):
            return RunReference(parse_guid(name) or name)
    if found is None:
        return None
    run = found["run"]
    if run != LAST:
        canonical = parse_guid(run) or parse_guid_prefix(run)
        if canonical is None:
            return None
        run = canonical
    revision = int(found["revision"]) if found["revision"] else None
    if revision == 0:
        return None
    return RunReference(run, revision, found["artifact"])


def _invalid(text: str) -> InvalidName:
    message = f"{printable(text)!r} names neither a version nor a run"
    return InvalidName(
        message,
        hint="write `churn`, `churn/3`, `churn@champion`, `run:<guid>`, `run:<guid>~2`, "
        "`run:<guid>/<artifact>` or `run:@last`",
    )
