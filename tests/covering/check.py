"""Hold what the whole suite reached to its floor, and the rest to the reasons given for it.

Run by `make coverage` on the data of coverage.py in the working folder. Exits with 1 where fewer
branches are taken than is wanted, or where more isn't reached, and nobody says why, than may be
luck.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import coverage

from covering.places import (
    LEAST,
    LUCK,
    ROOT,
    TABLE,
    Table,
    percent,
    places,
    table,
    unexplained,
    unneeded,
)


def check(
    report: Mapping[str, Any], said: Table, root: Path = ROOT, luck: int = LUCK
) -> tuple[bool, list[str]]:
    """Return whether all is well with what `coverage json` says, and what is to be told."""
    share, taken, every = percent(report)
    found = places(report, root)
    lost = unexplained(found, said)
    known = len(found) - len(lost)
    lines = [
        f"Branches: {share:.2f} % ({taken:,} of {every:,}), and {LEAST:g} % are wanted.",
        f"Not reached: {len(found)} places, and {known} of them say why in {TABLE.name}.",
        *(f"reached, at least here: {row}" for row in unneeded(found, said)),
        *(f"{each.file}:{each.line} isn't reached: {each.name}" for each in lost),
    ]
    if lost:
        lines.append(f"Try: a test that gets there, or a row in {TABLE} that says why none does")
    return share >= LEAST and len(lost) <= luck, lines


def read() -> dict[str, Any]:
    """Return what was measured, as `coverage json` has it."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(path))
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def main() -> int:
    """Check, and tell."""
    is_well, lines = check(read(), table())
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
