"""Worlds in which acts are played, and what an act is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from modeldrop import Repository, deploying, interrupted
from modeldrop.backend import local, probe
from modeldrop.intake.observation import Signature
from support.intake import make_home

Fact = list[Any]
Say = Callable[[Fact], None]

RUNS: Final = tuple(f"{number:08d}-5d7a-4c0b-9a61-0f6e2d4b7a90" for number in range(1, 5))
HOME: Final = ".mlops"
TARGET: Final = "production"


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done to a world."""

    begin: Callable[[Path], None]
    do: Callable[[Path, Say], None]
    check: Callable[[Path, list[Fact]], None]
    whole: bool = True
    """Whether it is recorded as on a disk that is waited for as a whole, too."""
    killed: bool = False
    """Whether it is played with a process that is killed and another one that goes on, too."""
    other: bool = False
    """Whether the one that goes on may have another home on the same backend."""
    dies: Callable[[Path, Say], None] | None = None
    """What the killed process does, if it isn't the same."""


def setup() -> None:
    """Have what is done in this process take the same way each time, and no longer than it must."""
    verdict: dict[str, object] = {}
    race = probe.race

    def race_once(backend: Any, **named: Any) -> Any:  # noqa: ANN401 - what `probe.race` takes
        if not verdict:
            verdict["it"] = race(backend, **{**named, "racers": 2, "rounds": 1})
        return verdict["it"]

    probe.race = race_once
    # What is put back is another inode, and changed just now; by which nothing is told apart here.
    Signature.of = staticmethod(_signature)  # type: ignore[method-assign] # as it was
    # Copies at a target that nobody can be reading go at once.
    deploying._GRACE = interrupted._LATE = timedelta()  # type: ignore[misc] # as if it were later
    # One thread each: the order of what they do is no matter, and would be another one each time.
    local._CONNECTIONS = 1  # type: ignore[misc] # as on a smaller machine


def _signature(status: os.stat_result) -> Signature:
    return Signature(status.st_dev, 0, status.st_size, status.st_mtime_ns, 0)


def opened(root: Path) -> Repository:
    """Open the home that this process has."""
    return Repository.open(root / _mine[0])


_mine: Final = [HOME]


def make_elsewhere(root: Path) -> None:
    """Make another home on the same backend."""
    Repository.init(root / _ELSEWHERE, backend=str(root / HOME / "model-repository"))[0].close()


def go_elsewhere() -> None:
    """Have this process use the other home from now on."""
    _mine[0] = _ELSEWHERE


def is_elsewhere() -> bool:
    """Return whether it does: what is in the journal of the first one isn't known there."""
    return _mine[0] == _ELSEWHERE


_ELSEWHERE: Final = "elsewhere"


def new_home(root: Path) -> Repository:
    return make_home(root / HOME)


def contents(path: Path) -> dict[str, str]:
    if path.is_file():
        return {"": path.read_text()}
    return {
        str(each.relative_to(path)): each.read_text() for each in path.rglob("*") if each.is_file()
    }
