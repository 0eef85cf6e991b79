"""`run.toml`, `run.yaml`, `run.yml`, `run.json`: what a run declares of itself.

There may be several, as where `modeldrop run new` has left one and the training script writes
another: then each is read, and where two say something of one name, the first of these counts. One
that can't be understood is told like any other entry that isn't stored; the run goes without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

from modeldrop.errors import InvalidName
from modeldrop.form import Part
from modeldrop.intake import notation
from modeldrop.intake.notation import MOST_BYTES, NotUnderstood
from modeldrop.intake.observation import SeenFile
from modeldrop.intake.walk import read_small
from modeldrop.metadata import NOTHING, Metadata
from modeldrop.names import check_experiment, printable
from modeldrop.records import Refused
from modeldrop.statements import MOST_TEXT, Unclear, understood
from modeldrop.structs import Frozen

# The first one counts most.
ORDER: Final = ("run.toml", "run.yaml", "run.yml", "run.json")


class Wish(Part):
    """That the run be registered once it is committed: `register = true`."""

    said_in: str
    artifact: str | None
    description: str


class Declared(Frozen):
    """What a run declares: the experiment that it belongs to, what it was, what it wishes."""

    experiment: str | None = None
    metadata: Metadata = NOTHING
    wish: Wish | None = None
    register: bool | None = None
    """Whether it says that it wants to be registered, or doesn't; None if it says neither."""

    def over(self, below: Self) -> Declared:
        """Return both; where both say something, it is what this one says."""
        above = below if self.register is None else self
        return Declared(
            self.experiment or below.experiment,
            self.metadata.over(below.metadata),
            above.wish,
            above.register,
        )


UNDECLARED: Final = Declared()


def read(
    staging: Path, name: str, files: Sequence[SeenFile]
) -> tuple[Declared, tuple[Refused, ...]]:
    """Return what a run declares in these files, and which of them can't be understood, and why.

    Raises:
        SourceChanged: a file changed since it was seen.
        PermissionError: it can't be read by this user.
        OSError: it can't be read for another reason.
    """
    whole, refused = UNDECLARED, []
    for seen in sorted(files, key=lambda each: ORDER.index(each.path)):
        if seen.signature.size > MOST_BYTES:
            found: Declared | Refused = Refused(
                seen.path, f"it is larger than {MOST_BYTES >> 10} KiB"
            )
        else:
            found = parse(seen.path, read_small(staging, name, seen))
        if isinstance(found, Refused):
            refused.append(found)
        else:
            whole = whole.over(found)
    return whole, tuple(refused)


def parse(name: str, data: bytes) -> Declared | Refused:
    """Return what the bytes of a file of that name declare, or why they can't be understood.

    All of it counts, or nothing. Unknown keys are passed over: people keep notes of their own in
    these files.
    """
    try:
        found = notation.read(name, data)
        register = _register(found)
        return Declared(
            _experiment(found),
            understood(found),
            _wish(name, found) if register else None,
            register,
        )
    except NotUnderstood as error:
        return Refused(name, str(error))
    except Unclear as error:
        return Refused(name, f"its {error}")


def _experiment(found: dict[str, Any]) -> str | None:
    experiment = _text(found, "experiment")
    try:
        return None if experiment is None else check_experiment(experiment)
    except InvalidName as error:
        message = f"its experiment: {error.message}"
        raise NotUnderstood(message) from None


def _register(found: dict[str, Any]) -> bool | None:
    register = found.get("register")
    if register is None or isinstance(register, bool):
        return register
    message = "its register is neither true nor false"
    raise NotUnderstood(message)


def _wish(name: str, found: dict[str, Any]) -> Wish:
    return Wish(name, _text(found, "artifact"), _text(found, "description") or "")


def _text(found: dict[str, Any], key: str) -> str | None:
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        message = f"its {key} is no text"
        raise NotUnderstood(message)
    if key != "experiment" and (len(value) > MOST_TEXT or printable(value) != value):
        message = f"its {key} is longer than {MOST_TEXT} characters, or has control characters"
        raise NotUnderstood(message)
    return value
