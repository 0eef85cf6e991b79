"""Measurements as tables: what is shown of each kind, and how it is spelled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.kept import Measured, Sample
from bench.peers import ALL, BY_KEY, OURS_ALL


@dataclass(frozen=True)
class Kind:
    """How a kind of curves is shown."""

    title: str
    across: str
    up: str
    place: Callable[[float], str]
    shown: Callable[[float, float], float]
    """What is shown of a cost at a place."""
    value: Callable[[float], str]


def size(count: float) -> str:
    """Return a number of bytes as people say it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def seconds(number: float) -> str:
    """Return a time as people say it."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if number * factor >= 1:
            return f"{number * factor:.3g} {unit}"
    return f"{number * 1e6:.3g} µs"


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


KINDS: Final[Mapping[str, Kind]] = {
    "speed": Kind(
        "Storing one file",
        "size of the file",
        "MiB a second",
        size,
        lambda cost, at: at / 2**20 / cost,
        _plain,
    ),
    "memory": Kind(
        "Memory while storing one file",
        "size of the file",
        "most memory",
        size,
        lambda cost, _: cost,
        size,
    ),
    "runs": Kind(
        "One more small run, stored and registered",
        "runs that are there already",
        "time for one more",
        lambda number: f"{number:,.0f}",
        lambda cost, _: cost,
        seconds,
    ),
    "registrations": Kind(
        "Registrations of several processes",
        "processes",
        "registrations a second",
        lambda number: f"{number:,.0f}",
        lambda cost, _: 1 / cost,
        _plain,
    ),
}


def names() -> list[str]:
    """Return the names of all peers, in the order of their colours; ours aren't among them."""
    return [peer.name for peer in ALL if peer.key not in OURS_ALL]


def table(measured: Measured) -> list[list[str]]:
    """Return rows of cells, a column for each place; the first row heads them."""
    kind = KINDS[measured.kind]
    places = sorted({each.at for each in measured.samples})
    found = {(each.series, each.at): each for each in measured.samples}
    rows = [[kind.up, *map(kind.place, places)]]
    for peer in ALL:
        cells = [_cell(kind, found.get((peer.key, at))) for at in places]
        if any(cells):
            rows.append([BY_KEY[peer.key].name, *cells])
    return rows


def _cell(kind: Kind, sample: Sample | None) -> str:
    if sample is None:
        return ""
    text = kind.value(kind.shown(sample.median, sample.at))
    if sample.rounds > 1:
        text += f" ±{50 * (sample.high - sample.low) / sample.median:.0f} %"
    return f"{text}, {sample.failed} failed" if sample.failed else text


def lines(measured: Measured) -> list[str]:
    """Return a table as lines of characters."""
    rows = table(measured)
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    shown = [
        "  ".join(
            f"{cell:>{width}}" if number else f"{cell:<{width}}"
            for number, (cell, width) in enumerate(zip(row, wide, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [KINDS[measured.kind].title, *shown, ""]
