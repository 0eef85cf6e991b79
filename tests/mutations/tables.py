"""The tables: for each guard the tests that go red without it, or why there are none.

One file for each kind of guard, by module: the function and the place there, and then the tests, as
one text or a list. A row may say `instead`, what stands where the guard stood, where that isn't
what `taking` would put there. Rows without tests say why:

- `no_guard`: it looks like one to `guards`, and isn't.
- `stays`: it is one, and no test can see it missing; the reason is for whoever reads the code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mutations import guards
from mutations.guards import Guard

HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """What a table says of one guard."""

    tests: tuple[str, ...] = ()
    instead: str | None = None
    no_guard: str = ""
    stays: str = ""


def rows() -> dict[str, Row]:
    """Return every row, by the name of its guard."""
    return {name: row for kind in guards.KINDS if kind != guards.SYNC for name, row in _rows(kind)}


def _rows(kind: str) -> Iterator[tuple[str, Row]]:
    with open(HERE / f"{kind}.toml", "rb") as file:
        modules = tomllib.load(file)
    for module, found in modules.items():
        for place, said in found.items():
            function, _, number = place.rpartition(" ")
            yield f"{module}:{function}:{kind}:{number}", _row(said)


def _row(said: str | list[str] | Mapping[str, object]) -> Row:
    if isinstance(said, str):
        return Row(tests=(said,))
    if isinstance(said, list):
        return Row(tests=tuple(said))
    tests = said.get("tests", ())
    named = (tests,) if isinstance(tests, str) else tuple(tests)  # type: ignore[arg-type] # a list
    return Row(**{**said, "tests": named})  # type: ignore[arg-type] # a wrong name is an error here


def paired() -> tuple[dict[Guard, Row], list[str]]:
    """Return the guards with their rows, and what is wrong: guards without one, rows too many."""
    every = {each.id: each for each in guards.all_guards() if each.kind != guards.SYNC}
    said = rows()
    wrong = [
        f"{name} has no row in tests/mutations/{each.kind}.toml: "
        f"name the test that is red without it"
        for name, each in every.items()
        if name not in said
    ]
    wrong += [f"{name} has a row, and isn't in the source" for name in said if name not in every]
    return {each: said[name] for name, each in every.items() if name in said}, wrong


def shown() -> str:
    """Return how many guards there are of each kind, for docs/promises.md."""
    said = rows()
    lines = [
        "| guards | in the product | a test goes red | it stays, and why |",
        "|---|---|---|---|",
    ]
    for kind, words in _WORDS.items():
        mine = [row for name, row in said.items() if name.split(":")[2] == kind]
        tested = sum(bool(row.tests) for row in mine)
        stays = sum(bool(row.stays) for row in mine)
        lines.append(f"| {words} | {tested + stays} | {tested} | {stays or ''} |")
    return "\n".join(lines) + "\n"


_WORDS: Final = {
    guards.LOCK: "locks",
    guards.CONDITION: "conditions of creating",
    guards.DIGEST: "digests",
    guards.READ_BACK: "what was written, looked at",
    guards.SOURCE: "what was read, looked at again",
}
