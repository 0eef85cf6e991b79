"""A figure beside its bar, and how times are taken on a noisy machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

BIN = Path(sys.executable).parent


class Median(float):
    """The median of some rounds, which knows how far they were apart."""

    spread = 0.0
    """Half of the distance between the quartiles, as a part of the median."""

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Self:
        """Return the median of rounds."""
        made = cls(statistics.median(rounds))
        if len(rounds) > 1 and made:
            first, _, third = statistics.quantiles(rounds, n=4, method="inclusive")
            made.spread = (third - first) / 2 / made
        return made


class Deadline(float):
    """Seconds that hold on any machine; a slow one comes nearer to them, whoever is at fault."""


@dataclass(frozen=True)
class Figure:
    """One comparison: seconds of ours and of what it is held against, and the most it may be.

    Without a bar it is for information. Of something else than time, `unit` says what, and `scale`
    how it is shown.
    """

    name: str
    ours: float
    theirs: float
    bar: float | None
    peer: str
    unit: str = "ms"
    scale: float = 1000

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def is_met(self) -> bool:
        return self.bar is None or self.ratio <= self.bar

    @property
    def spread(self) -> float:
        """How far the rounds of both were apart, as a part of the ratio, where that is known."""
        return sum(each.spread for each in (self.ours, self.theirs) if isinstance(each, Median))

    def line(self) -> str:
        verdict = "met" if self.is_met else "MISSED"
        bar = f"{self.bar:>7.2f}  {verdict:<7}" if self.bar is not None else f"{'':<16}"
        return (
            f"{self.name:<44}{self.scale * self.ours:>9.1f} {self.unit:<2}"
            f"{self.scale * self.theirs:>9.1f} {self.unit:<2}"
            f"{self.ratio:>7.2f}{bar} {self.peer}"
        )


def in_turns(rounds: int, *works: Callable[[], object]) -> list[Median]:
    """Return each work's median time in seconds, measured in turns after one unmeasured round."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for index, work in enumerate(works):
            began = time.perf_counter()
            work()
            if number:
                times[index].append(time.perf_counter() - began)
    return [Median.of(each) for each in times]


def program(words: Sequence[str], folder: Path) -> None:
    """Run a program to its end; what it prints is dropped."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MODELDROP_")}
    subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=folder,
        env={**env, "HOME": str(folder)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
