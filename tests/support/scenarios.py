"""The table of tests/README.md: which tests show which scenario, from their markers.

`pytest.mark.scenario(7)` on a test, on a class, or in a file's `pytestmark` says that it shows
scenario 7. The files are parsed and not imported, so that no server and no library is needed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]

SCENARIOS: Final = {
    1: "written slowly, for longer than any quiet time",
    2: "held open without a write",
    3: "closed, reopened, appended to",
    4: "an empty file that is filled later, or has a marker",
    5: "modification times of the past and the future",
    6: "a log that never falls quiet",
    7: "a marker before the last shard; a wrong digest in it",
    8: "temporary files in a run",
    9: "`modeldrop drop` waits for no quiet time",
    10: "changed during the upload",
    11: "five edits during one upload",
    12: "vanished between ready and open",
    13: "changed after the commit",
    14: "two thousand times `mkdir -p` and write",
    15: "moved in, copied, received by rsync, unpacked",
    16: "renamed within its run",
    17: "links and special files",
    18: "a file that can't be read",
    19: "odd names",
    20: "what is no run",
    21: "every event suppressed",
    22: "a burst of 100,000 files",
    23: "the limit of watches reached",
    24: "staging deleted, or replaced",
    25: "the watcher dies",
    26: "arrived while the watcher is built, or during the first scan",
    27: "five thousand files while the service is down",
    28: "killed at every step between ready and receipt",
    29: "SIGTERM during an upload, and a second one",
    30: "SIGHUP with broken settings",
    31: "two services on one home",
    32: "the backend away for an hour",
    33: "storms of 429 and 503; refusals and a full disk at the backend",
    34: "one poisoned run among a thousand",
    35: "restarted with nothing changed",
    36: "the home wiped, the backend kept",
    37: "idle with 10,000 committed runs",
    38: "killed at random during appends to the journal",
    39: "killed at each write, fsync and rename",
    40: "the journal cut at every offset",
    41: "a full disk, a size limit, a failed fsync under the journal",
    42: "readers during ten thousand commits",
    43: "16 processes register 8,000 times at one home",
    44: "the holder of the lock killed or stopped",
    45: "16 homes register at one backend",
    46: "the same with requests and answers lost",
    47: "a store that ignores the condition, or races",
    48: "a network that flips, cuts and goes silent",
    49: "two hosts drop the same run",
    50: "killed in a multipart upload",
    51: "canary secrets in every place",
    52: "a pickle that would write a file",
    53: "a home or settings that others can write",
}
"""What each scenario is about, in a few words."""

SHOWN: Final = range(1, 38)
"""The scenarios that may not be without a test."""

_BY_SCAN_ALONE: Final = 21
# Tests that ask for these run twice: with the kernel's events, and with none.
_FIXTURES: Final = frozenset({"watcher", "service_home"})

_MARKER: Final = "pytest.mark.scenario"


def tests_of(tests: Path) -> dict[int, dict[str, list[str]]]:
    """Return the names of the tests that show each scenario, by the file that they are in.

    Scenario 21 asks for all the others by scan alone, and is shown by each test that runs so, too.

    Raises:
        ValueError: a marker has a number that no scenario has, or none.
    """
    found: dict[int, dict[str, list[str]]] = {number: {} for number in SCENARIOS}
    for path in sorted(tests.rglob("test_*.py")):
        where = path.relative_to(tests).as_posix()
        for numbers, name in _marked(ast.parse(path.read_text("utf-8")), where):
            for number in numbers:
                found[number].setdefault(where, []).append(name)
    return found


def table() -> None:
    """Print the table, or say which scenarios lack a test and fail; for cog."""
    found = tests_of(TESTS)
    missing = [number for number in SHOWN if not found[number]]
    if missing:
        listed = ", ".join(str(number) for number in missing)
        sys.exit(f"no test is marked with scenario {listed}: `@pytest.mark.scenario(N)`")
    print("\n| scenario | about | shown by |\n|---|---|---|")
    for number, about in SCENARIOS.items():
        files = [f"`{where}`: {_listed(number, names)}" for where, names in found[number].items()]
        print(f"| {number} | {about} | {'<br>'.join(files) or 'not marked yet'} |")


def _listed(number: int, names: list[str]) -> str:
    if number == _BY_SCAN_ALONE:
        return f"{len(names)} tests" if len(names) > 1 else "1 test"
    return ", ".join(f"`{name}`" for name in names)


def _marked(tree: ast.Module, where: str) -> Iterator[tuple[set[int], str]]:
    """Yield the scenarios and the name of each marked test of a file."""
    of_file: set[int] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            of_file |= _numbers([node.value], where)
    waiting: list[tuple[ast.stmt, set[int], str]] = [(node, of_file, "") for node in tree.body]
    while waiting:
        node, above, prefix = waiting.pop(0)
        if isinstance(node, ast.ClassDef):
            inner = above | _numbers(node.decorator_list, where)
            waiting[:0] = [(each, inner, f"{node.name}::") for each in node.body]
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            numbers = above | _numbers(node.decorator_list, where)
            if _FIXTURES & {each.arg for each in node.args.args}:
                numbers.add(_BY_SCAN_ALONE)
            if numbers:
                yield numbers, prefix + node.name


def _numbers(marks: list[ast.expr], where: str) -> set[int]:
    """Return the numbers of all scenario markers in some expressions."""
    numbers: set[int] = set()
    for call in (node for mark in marks for node in ast.walk(mark)):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == _MARKER:
            given = [each.value for each in call.args if isinstance(each, ast.Constant)]
            known = {each for each in given if isinstance(each, int) and each in SCENARIOS}
            if not given or len(known) != len(call.args):
                raise ValueError(f"{where}, line {call.lineno}: {ast.unparse(call)} is no scenario")
            numbers |= known
    return numbers
