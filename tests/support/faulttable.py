"""How many faults were tried, by suite, operation and kind: kept in git, shown in docs/promises.md.

Each suite of `tests/faults` has a file of its own in `tests/faults/results`, which `make
test-faults` writes. A count that falls by half is told: it is how a sweep that ends too early would
look. It is no failure, since how much waits for the disk together depends on the machine's work.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).parents[1] / "faults" / "results"

# Where threads race, one run meets a few calls more than another. That is no reason to write a
# file anew, nor to call it a loss.
_SAME: Final = 0.1
# Other file systems and kernels are asked for other calls; of half of them nothing is heard only
# where a sweep ended too early.
_LOST: Final = 0.5
_MOST_COLUMNS: Final = 8

Counts = dict[tuple[str, str], "Row"]


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """How many cases of one kind of fault were tried on one operation, and how many failed."""

    operation: str
    kind: str
    cases: int
    failures: int


def added(rows: Iterable[Row]) -> Counts:
    """Add up the rows of the same operation and kind."""
    found: Counts = {}
    for row in rows:
        key = (row.operation, row.kind)
        before = found.get(key, Row(*key, 0, 0))
        found[key] = Row(*key, before.cases + row.cases, before.failures + row.failures)
    return found


def read(suite: str) -> Counts:
    """Return what was counted of a suite; nothing if it never was."""
    path = RESULTS / f"{suite}.json"
    if not path.exists():
        return {}
    return added(Row(**each) for each in json.loads(path.read_text("utf-8")))


def suites() -> list[str]:
    """Return the suites that were ever counted."""
    return sorted(path.stem for path in RESULTS.glob("*.json"))


def update(suite: str, counted: Counts, *, whole: bool) -> list[str]:
    """Keep what a run counted; return, in words, which counts fell.

    `whole` is whether all tests of the suite were run. Of one that wasn't, nothing is taken away.
    """
    before = read(suite)
    fell = []
    now = dict(counted)
    for key, old in before.items():
        new = counted.get(key, Row(*key, 0, 0))
        if abs(new.cases - old.cases) <= old.cases * _SAME and new.failures == old.failures:
            now[key] = old
        elif new.cases < old.cases and not whole:
            now[key] = Row(*key, old.cases, max(old.failures, new.failures))
        elif new.cases < old.cases * _LOST:
            fell.append(
                f"{suite}: {old.kind}, {old.operation}: {old.cases} before, {new.cases} now"
            )
    if now != before:
        rows = [asdict(row) for row in sorted(now.values())]
        text = ",\n".join(json.dumps(row) for row in rows)
        (RESULTS / f"{suite}.json").write_text(f"[\n{text}\n]\n", "utf-8")
    return fell


def shown() -> str:
    """Return the tables of all suites, for docs/promises.md."""
    found = {suite: read(suite) for suite in suites()}
    rows = [row for each in found.values() for row in each.values()]
    cases, failures = sum(row.cases for row in rows), sum(row.failures for row in rows)
    told = f"{cases:,} cases in all, {failures or 'none'} of them failed.\n"
    return told + "".join(_table(suite, counted) for suite, counted in found.items())


def _table(suite: str, counted: Mapping[tuple[str, str], Row]) -> str:
    operations = sorted({operation for operation, _ in counted})
    kinds = sorted({kind for _, kind in counted})
    # What there is more of goes downwards.
    turned = len(operations) > max(len(kinds), _MOST_COLUMNS)
    down, across = (operations, kinds) if turned else (kinds, operations)
    lines = [
        ["", *across, "all"],
        ["---", *["---:"] * (len(across) + 1)],
    ]
    sums: Counter[str] = Counter()
    for name in down:
        keys = [(name, each) if turned else (each, name) for each in across]
        row = [counted.get(key) for key in keys]
        total = sum(each.cases for each in row if each)
        lines.append([name, *map(_cell, row), f"{total:,}"])
        for column, each in zip(across, row, strict=True):
            sums[column] += each.cases if each else 0
    lines.append(["all", *(f"{sums[name]:,}" for name in across), f"{sums.total():,}"])
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return f"\n`tests/faults/test_{suite}.py`:\n\n{table}"


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{row.cases:,}" + (f" ({row.failures} failed)" if row.failures else "")
