"""Journals whose lines are dropped, doubled, swapped, pasted or cut, and old copies put back.

Whoever changes a journal so may have put HEAD on its new last line as well; both are played.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from modeldrop.journal.lines import parse
from modeldrop.journal.reading import EMPTY
from modeldrop.records import Head
from support.damage import GONE, INTEGRITY, Expected, Judge, truth
from support.questions import Told
from support.sharing import rewritten
from support.world import Snapshot, World, steps

JOURNAL: Final[dict[str, Expected]] = {
    "check": "told",
    "log": "told",
    "verify": "told",
    "rebuild": "same",
    "register": "either",
    "push": "either",
    "search": "either",
}
"""What is expected where the home's own journal isn't what was acknowledged."""
SHORTER: Final[dict[str, Expected]] = {"verify": "told", "rebuild": "same"}
"""The same where it is whole, with a HEAD to it, and shorter than it was: alone it can't tell."""
SEGMENTS: Final[dict[str, Expected]] = {"fetch": "told", "verify": "told", "log": "same"}
"""What is expected where what another home has shared isn't what it wrote."""
OLD_HOME: Final[dict[str, Expected]] = {
    **dict.fromkeys(("show", "list", "deployments", "pull", "rebuild"), "same"),
    "verify after a rebuild": "same",
    "verify": "told",
    **dict.fromkeys(("register", "register again", "promote", "deploy"), "either"),
    **dict.fromkeys(("log", "search", "scan", "push", "fetch", "collect"), "any"),
}
"""What is expected of a home that was put back to an earlier state in its own place."""
OLD_STORE: Final[dict[str, Expected]] = {
    "verify": "told",
    **dict.fromkeys(("show", "list", "pull", "promote", "deploy", "scan", "collect"), "any"),
    "register anew": "any",
}
"""What is expected where the backend was put back to an earlier state, and the home wasn't."""
# Before there were as many versions as the home knows of: none of their numbers is given again.
_FEWER: Final = ("made", "stored", "registered model.bin", "registered folder")

# How many bytes apart a journal is cut, but for the question that is asked of each byte.
_CUTS: Final = 101


def edits(lines: list[bytes], foreign: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield what one change makes of lines, and what it was; `foreign` are another home's."""
    for at, line in enumerate(lines):
        rest = lines[at + 1 :]
        yield f"line {at + 1} dropped", [*lines[:at], *rest]
        yield f"line {at + 1} doubled", [*lines[:at], line, line, *rest]
        if rest:
            yield f"lines {at + 1} and {at + 2} swapped", [*lines[:at], rest[0], line, *rest[1:]]
        strange = foreign[at % len(foreign)]
        yield f"another home's line pasted after {at + 1}", [*lines[:at], line, strange, *rest]
        yield f"line {at + 1} replaced by another home's", [*lines[:at], strange, *rest]
        yield f"only the first {at} lines", lines[:at]


# In processes of their own: each returns what came of each question


def change_lines(root: str, whole: dict[str, Any]) -> dict[str, Any]:
    """Change the lines of the home's own journal in every way, HEAD with them or not."""
    world = World(Path(root))
    journal, head = world.home / "journal.jsonl", world.home / "HEAD"
    before = _lines(journal)
    done: dict[str, Any] = {}
    for question, expected in JOURNAL.items():
        judge = Judge(world, question, Told(**whole[question]))
        for what, lines in edits(before, _lines(world.other / "journal.jsonl")):
            journal.write_bytes(b"".join(lines))
            # What stands past HEAD was never acknowledged, and is cut by the next writer.
            is_longer = lines[: len(before)] == before
            judge.judge(what, "same" if is_longer else expected)
            journal.write_bytes(b"".join(lines))
            head.write_bytes(_head_of(lines))
            is_shorter = before[: len(lines)] == lines
            known = SHORTER.get(question, "any") if is_shorter else expected
            judge.judge(f"{what}, and HEAD with it", known)
        done[question] = asdict(judge.tally())
    return done


def cut_journal(root: str, whole: dict[str, Any]) -> dict[str, Any]:
    """Cut the home's own journal at every byte below HEAD."""
    world = World(Path(root))
    journal = world.home / "journal.jsonl"
    data = journal.read_bytes()
    done: dict[str, Any] = {}
    for question, expected in JOURNAL.items():
        judge = Judge(world, question, Told(**whole[question]))
        for size in range(0, len(data), 1 if question == "check" else _CUTS):
            journal.write_bytes(data[:size])
            judge.judge(f"cut at byte {size}", expected, INTEGRITY, journal)
        done[question] = asdict(judge.tally())
    return done


def change_segments(root: str, whole: dict[str, Any]) -> dict[str, Any]:
    """Change the segments of another home in every way: one that is known here, and a new one."""
    world = World(Path(root))
    home = json.loads((world.other / "home.json").read_bytes())["home"]
    known, new = sorted((world.store / ".modeldrop" / "journals" / home).iterdir())
    done: dict[str, Any] = {}
    for question, expected in SEGMENTS.items():
        judge = Judge(world, question, Told(**whole[question]))
        for path in (known, new):
            before = _lines(path)
            changes = [
                *edits(before, _lines(world.home / "journal.jsonl")),
                *(
                    (f"cut at byte {size}", [path.read_bytes()[:size]])
                    for size in range(0, path.stat().st_size, _CUTS)
                ),
            ]
            if path == known:
                at = range(1, len(before) + 1)
                changes += [
                    (f"rewritten from {each} on", [rewritten(before, each, home)]) for each in at
                ]
            for what, lines in changes:
                path.write_bytes(b"".join(lines))
                # What nobody has read yet may be shorter, and is a segment all the same.
                is_shorter = path == new and lines and before[: len(lines)] == lines
                judge.judge(f"{path.name}, {what}", "any" if is_shorter else expected)
        done[question] = asdict(judge.tally())
    return done


def put_back(root: str, what: str) -> dict[str, Any]:
    """Put the `home` or the `store` back to how it was at each step of the world's making."""
    world, states = World(Path(root)), list[tuple[str, Snapshot]]()
    for step in steps(world.root):
        states.append((step, Snapshot(world.home if what == "home" else world.store)))
    if what == "store":
        # What the last one lacks was never acknowledged.
        states.pop()
    done: dict[str, Any] = {}
    for question, expected in (OLD_HOME if what == "home" else OLD_STORE).items():
        judge = Judge(world, question, truth(world, question))
        for step, state in states:
            is_fewer = what == "store" and question == "register anew" and step in _FEWER
            state.put_back()
            said = f"the {what} as it was when it was {step}"
            judge.judge(said, "told" if is_fewer else expected, GONE)
        done[question] = asdict(judge.tally())
    return done


def _head_of(lines: list[bytes]) -> bytes:
    """Return the HEAD that has these lines for all that there are."""
    if not lines:
        return EMPTY.to_bytes()
    data = b"".join(lines)
    last = parse(lines[-1], len(data) - len(lines[-1]))
    return Head(last.seq, last.start, last.end, last.sha256).to_bytes()


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)
