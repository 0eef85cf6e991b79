"""A metric over versions as a chart of characters, and where the marks of its axes stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from modeldrop.structs import Frozen

_SIGNS: Final = {"point": "●", "best": "★", "side": "│", "tick": "┤", "corner": "└", "foot": "─"}
# For terminals that have nothing but ASCII.
_PLAIN: Final = {"point": "*", "best": "#", "side": "|", "tick": "+", "corner": "+", "foot": "-"}
_ROWS: Final = 15
_MARKS: Final = 5


class Chart(Frozen):
    """What is drawn: a value for each version, and which version is the best, if that is known."""

    title: str
    versions: Sequence[int]
    values: Sequence[float]
    best: int | None = None


def marks(low: float, high: float, most: int = _MARKS) -> list[float]:
    """Return round numbers from the first at or below `low` to the first at or above `high`.

    They are 1, 2 or 5 times a power of ten apart, and about `most` of them.
    """
    if low == high:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def spelled(number: float) -> str:
    """Return a number as an axis shows it."""
    return f"{number:.6g}"


def lines(chart: Chart, width: int, *, ascii_only: bool = False) -> list[str]:
    """Return a chart as lines of at most `width` characters."""
    signs = _PLAIN if ascii_only else _SIGNS
    at = marks(min(chart.values), max(chart.values))
    labels = [spelled(number) for number in at]
    margin = max(map(len, labels)) + 1
    columns = max(width - margin - 1, 10)
    first, last = chart.versions[0], chart.versions[-1]

    def row_of(value: float) -> int:
        return round((at[-1] - value) / (at[-1] - at[0]) * (_ROWS - 1))

    grid = [[" "] * columns for _ in range(_ROWS)]
    # The best one last, so that nothing hides it.
    for version, value in sorted(
        zip(chart.versions, chart.values, strict=True), key=lambda each: each[0] == chart.best
    ):
        column = round((version - first) / max(last - first, 1) * (columns - 1))
        grid[row_of(value)][column] = signs["best" if version == chart.best else "point"]
    named = {row_of(number): label for number, label in zip(at, labels, strict=True)}
    drawn = [
        f"{named.get(number, ''):>{margin - 1}} "
        f"{signs['tick' if number in named else 'side']}{''.join(row).rstrip()}"
        for number, row in enumerate(grid)
    ]
    foot = f"{'':{margin}}{signs['corner']}{signs['foot'] * columns}"
    ends = f"{first:<{max(columns - len(str(last)), 1)}}{last}" if first != last else str(first)
    return [chart.title, *drawn, foot, f"{'':{margin + 1}}{ends}"]
