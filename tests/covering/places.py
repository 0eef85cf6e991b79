"""What the tests don't reach, as places that stay where lines move, and why they don't.

A place is named by its module, its function and the text of its first line: of lines that aren't
reached, the first one; of a branch that isn't taken and leads to a line that is reached otherwise,
the line that branches. `uncovered.toml` has a row for each:

    ["store/modeldrop/files.py"]
    "lead_to: except BaseException:" = "@faults"

The row is a sentence that says why no test of `make coverage` gets there, or the name of a reason
from `[reasons]`. Where two lines of a function have the same text, one row is for both.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = Path(__file__).with_name("uncovered.toml")
LEAST: Final = 95.0
"""Percent of the branches, without the lines, that the whole suite has to take."""
LUCK: Final = 20
"""How many places without a reason are taken for this run's luck: threads race, machines differ."""
_REASONS: Final = "reasons"
# What is reached on one machine, or by one run, and not by the next.
_NOW_AND_THEN: Final = frozenset({"@race", "@machine", "@namespaces"})


@dataclass(frozen=True, order=True)
class Place:
    """Something that no test reached."""

    file: str
    name: str
    """Its function and the text of its line, as a row has it."""
    line: int


@dataclass(frozen=True)
class Table:
    """Why things aren't reached: by file, a reason for each name."""

    rows: Mapping[str, Mapping[str, str]]
    reasons: Mapping[str, str]

    def reason(self, place: Place) -> str | None:
        """Return why a place isn't reached, or None if nobody says."""
        said = self.rows.get(place.file, {}).get(place.name)
        return self.reasons.get(said[1:]) if said and said.startswith("@") else said


def table(path: Path = TABLE) -> Table:
    """Return what is written down."""
    with path.open("rb") as file:
        found = tomllib.load(file)
    return Table(found, found.pop(_REASONS, {}))


def places(report: Mapping[str, Any], root: Path = ROOT) -> list[Place]:
    """Return what isn't reached by what `coverage json` says."""
    found = {
        place
        for file, said in report["files"].items()
        for place in _places_of(file, said, (root / file).read_text("utf-8"))
    }
    return sorted(found)


def _places_of(file: str, said: Mapping[str, Any], source: str) -> Iterator[Place]:
    names = _Names(source)
    missing = set(said["missing_lines"])
    statements = sorted(missing | set(said["executed_lines"]))
    # The first statement of a run of them in one function.
    for before, line in pairwise([0, *statements]):
        if line in missing and (
            before not in missing or names.function(before) != names.function(line)
        ):
            yield Place(file, names.name(line), line)
    for line, to in said["missing_branches"]:
        if line not in missing and to not in missing:
            yield Place(file, names.name(line), line)


class _Names:
    """Where the lines of a source are."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines()
        self._functions = [*_functions(ast.parse(source).body)]

    def function(self, line: int) -> str:
        # Inner ones come after outer ones.
        return next(
            (name for first, last, name in reversed(self._functions) if first <= line <= last), ""
        )

    def name(self, line: int) -> str:
        return f"{self.function(line)}: {self._lines[line - 1].strip()}"

    def every(self) -> set[str]:
        return {self.name(line) for line in range(1, len(self._lines) + 1)}


def _functions(body: Sequence[ast.stmt], above: str = "") -> Iterator[tuple[int, int, str]]:
    for each in body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{above}{each.name}"
            assert each.end_lineno is not None
            yield each.lineno, each.end_lineno, name
            yield from _functions(each.body, f"{name}.")
        else:
            for part in ("body", "orelse", "finalbody", "handlers"):
                inner = getattr(each, part, ())
                statements = [s for part in inner for s in getattr(part, "body", [part])]
                yield from _functions(statements, above)


def unexplained(found: Sequence[Place], said: Table) -> list[Place]:
    """Return what isn't reached and has no reason."""
    return [each for each in found if said.reason(each) is None]


def unneeded(found: Sequence[Place], said: Table) -> list[str]:
    """Return the rows of what is reached and hardly by luck, each as its file and name."""
    there = {(each.file, each.name) for each in found}
    return [
        f"{file}: {name}"
        for file, rows in said.rows.items()
        for name, reason in rows.items()
        if (file, name) not in there and reason not in _NOW_AND_THEN
    ]


def mistakes(said: Table, root: Path = ROOT) -> list[str]:
    """Return what is wrong with the table itself: rows of lines that are gone, unknown reasons."""
    wrong = []
    used = set()
    for file, rows in said.rows.items():
        path = root / file
        names = _Names(path.read_text("utf-8")).every() if path.is_file() else set()
        for name, reason in rows.items():
            if name not in names:
                wrong.append(f"{file}: {name}: there is no such line")
            if reason.startswith("@"):
                used.add(reason[1:])
                if reason[1:] not in said.reasons:
                    wrong.append(f"{file}: {name}: there is no reason {reason}")
            elif not reason.strip():
                wrong.append(f"{file}: {name}: it says nothing")
    wrong += [f"nothing has the reason @{each}" for each in said.reasons.keys() - used]
    return wrong


def percent(report: Mapping[str, Any]) -> tuple[float, int, int]:
    """Return how many percent of the branches are taken, how many are, and of how many."""
    totals = report["totals"]
    taken, every = totals["covered_branches"], totals["num_branches"]
    return (100.0 * taken / every if every else 100.0), taken, every
