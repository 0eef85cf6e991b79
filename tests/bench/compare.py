"""Whether ours has become slower beside its peers than what is kept says: ratios, never times.

A ratio may grow by a quarter, or by what the rounds of both measurements differed among
themselves, whichever is more (docs/decisions/0122).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.kept import Measured, Sample
from bench.peers import OURS_ALL

TOLERANCE: Final = 0.25
# What makes two machines of a kind; a new kernel or Python alone doesn't.
_KIND: Final = ("cores", "processor", "file_system")


@dataclass(frozen=True)
class Ratio:
    """What ours costs, as a multiple of what a peer does, and how far the rounds were apart."""

    value: float
    spread: float = 0.0


@dataclass(frozen=True)
class Worse:
    """A ratio that has grown beyond what is tolerated."""

    what: str
    was: float
    now: float
    tolerance: float

    def __str__(self) -> str:
        """Return it as a line."""
        return (
            f"WORSE: {self.what}: {self.now:.3g} times the peer's, was {self.was:.3g}"
            f" (tolerated: {1 + self.tolerance:.2f} times that)"
        )


def ratios(measured: Measured) -> dict[str, Ratio]:
    """Return each of ours as a multiple of each peer's at the same point.

    A deadline is no peer: beside it, a machine that is slower altogether would be worse.
    """
    found = {
        f"{each['name']} / {each['peer']}": Ratio(each["ours"] / each["theirs"], each["spread"])
        for each in measured.figures
        if not each["deadline"]
    }
    ours = [each for each in measured.samples if each.series in OURS_ALL]
    for mine in ours:
        for other in measured.samples:
            if other.at == mine.at and other.series not in OURS_ALL:
                name = f"{measured.kind} at {mine.at:,g}: {mine.series} / {other.series}"
                found[name] = Ratio(mine.median / other.median, _spread(mine) + _spread(other))
    return found


def worse(kept: Measured, now: Measured) -> Iterator[Worse]:
    """Yield each ratio that has grown by more than is tolerated, and each that is gone."""
    before, after = ratios(kept), ratios(now)
    for name, was in before.items():
        found = after.get(name)
        if found is None:
            continue
        tolerance = max(TOLERANCE, was.spread + found.spread)
        if found.value > was.value * (1 + tolerance):
            yield Worse(name, was.value, found.value, tolerance)


def failures(now: Measured) -> Iterator[str]:
    """Yield where a call of ours failed, or was given what another was."""
    for each in now.samples:
        if each.series in OURS_ALL and each.failed:
            yield f"FAILED: {now.kind} at {each.at:,g}: {each.failed} of {each.series}"


def is_same_kind(kept: Measured, now: Measured) -> bool:
    """Return whether both were measured on machines of one kind."""
    return all(kept.machine.get(name) == now.machine.get(name) for name in _KIND)


def _spread(sample: Sample) -> float:
    """Return half of the distance between the ends of the rounds, as a part of the median."""
    if not sample.median or math.isinf(sample.high):
        return 0.0
    return (sample.high - sample.low) / 2 / sample.median
