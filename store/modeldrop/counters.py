"""How far this home has seen a sequence: a hint that spares a search, and never the truth.

A counter is `refs/<name>`, read and written by the holder of `locks/refs/<name>`, and only ever
moved forward. So its lock lets one process of this host append at a time, and across hosts the
sequence decides. One that is missing costs a search at the backend. One that is damaged, or ahead
of its sequence, is an error that says how to go on: what it saw was given to somebody.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from modeldrop.errors import CounterDamaged, IntegrityError, RecordDamaged
from modeldrop.files import write_durable
from modeldrop.form import damaged
from modeldrop.home import Home
from modeldrop.home_records import Counter, DeploymentCounter, MoveCounter

AnyCounter = TypeVar("AnyCounter", Counter, MoveCounter, DeploymentCounter)


def seen(home: Home, kind: type[AnyCounter], name: str) -> int | None:
    """Return how far a home has seen a sequence, or None if it never looked.

    Raises:
        CounterDamaged: the counter isn't what was written.
        OSError: it can't be read now, which says nothing of it.
    """
    path = home.paths.counter(name)
    try:
        counter = kind.from_bytes(path.read_bytes(), str(path))
        if counter.name != name:
            raise damaged(str(path), f"it counts {counter.name!r}")
    except FileNotFoundError:
        return None
    except (RecordDamaged, IsADirectoryError) as error:
        message = f"the {kind.counts} counter of {name} can't be read: {error}"
        raise CounterDamaged(
            message,
            hint=f"remove {path}: the next {kind.counts} is counted at the backend, not from 1",
            detail={"counter": str(path), "name": name},
        ) from error
    # A counter of another repository says nothing about this one.
    return counter.number if counter.repository == home.repository else None


def bring_forward(home: Home, counter: AnyCounter) -> None:
    """Move a counter up to what was seen in the sequence; never back.

    Raises:
        CounterDamaged: what is there isn't what was written.
    """
    before = seen(home, type(counter), counter.name)
    if before is None or before < counter.number:
        write_durable(home.paths.counter(counter.name), counter.to_bytes())


def lost(path: Path, what: str, url: str) -> IntegrityError:
    """Return the error for records that were acknowledged, and that the backend lost.

    Going on from there would leave a gap; going back would give numbers twice.
    """
    return IntegrityError(
        f"{what}, by {path}, and is not at {url} any more",
        hint="`modeldrop verify` names what is missing; to go on with what the backend has "
        f"now, remove {path}",
        detail={"counter": str(path)},
    )
