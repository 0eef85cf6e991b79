"""Every place in the product that waits for the disk, found in its source.

Such a place is a call of what waits: of the system, of a function of `disk` or `files` that does,
of a batch, or of a record's `confirm`. `without` takes one of them out of a recording.
"""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import modeldrop
from support.recording import Synced

_ROOT: Final = Path(modeldrop.__file__).parents[2]
# Where the functions are that wait, the lower one first: it alone asks the system.
_ROOMS: Final = {"disk": "store/modeldrop/disk.py", "files": "store/modeldrop/files.py"}
_SYSTEM: Final = frozenset({"os.fsync", "os.fdatasync", "libc().syncfs"})
# Methods that wait, by the names that their objects have wherever they are called.
_METHODS: Final = frozenset(
    {
        *(
            "batch.finish",
            "batch.sync",
            "batch.give",
            "self._give",
            "self._wait",
            "self._sync",
            "self._named",
        ),
        *("sequence.confirm", "self._sequence.confirm", "self._backend.confirm"),
        *("self._versions.confirm", "turn.sequence.confirm", "self.confirm"),
        *("self._sequence(draft.run).confirm", "self._copies.confirm"),
        *("self.sequence(version.experiment).confirm", "syncing.finish", "self._syncing.finish"),
    }
)


@dataclass(frozen=True, slots=True)
class Wait:
    """One place; its name stays the same where lines move."""

    name: str
    path: str
    first: int
    last: int

    def is_in(self, synced: Synced) -> bool:
        """Return whether this place led to a wait that was recorded."""
        return any(
            path == self.path and self.first <= line <= self.last for path, line in synced.sites
        )


@functools.cache
def waits() -> dict[str, Wait]:
    """Return all of them by name."""
    found: dict[str, Wait] = {}
    for root in ("store", "daemon", "cli"):
        for path in sorted((_ROOT / root).rglob("*.py")):
            for each in _in(path):
                found[each.name] = each
    return found


def without(name: str) -> Callable[[Synced], bool]:
    """Return what is true of the waits that this place led to."""
    return waits()[name].is_in


def _in(path: Path) -> Iterator[Wait]:
    where = path.relative_to(_ROOT).as_posix()
    tree = ast.parse(path.read_text("utf-8"))
    waiting = _named(where)
    seen: Counter[str] = Counter()
    called: set[ast.expr] = set()
    for function, node in _nodes(tree, ""):
        if isinstance(node, ast.Call):
            called.add(node.func)
            if not _waits(node, waiting):
                continue
        # A function that is handed on is called somewhere else.
        elif node in called or not _is_named(node, waiting):
            continue
        what = ast.unparse(node.func if isinstance(node, ast.Call) else node)
        place = f"{where.partition('/')[2]}: {function}: {what}"
        seen[place] += 1
        name = place if seen[place] == 1 else f"{place} ({seen[place]})"
        yield Wait(name, where, node.lineno, node.end_lineno or node.lineno)


def _nodes(tree: ast.AST, function: str) -> Iterator[tuple[str, ast.expr]]:
    """Yield every expression, outer ones first, with the function that it is in."""
    for node in ast.iter_child_nodes(tree):
        named = function
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            named = f"{function}.{node.name}" if function else node.name
        if isinstance(node, ast.expr):
            yield named, node
        if not isinstance(node, ast.ImportFrom):
            yield from _nodes(node, named)


def _waits(call: ast.Call, waiting: frozenset[str]) -> bool:
    if ast.unparse(call.func) in _METHODS:
        return True
    # Where it is passed on, it was decided before.
    return _is_named(call.func, waiting) and _told(call) in {None, True}


def _told(call: ast.Call) -> object:
    """Return whether a call is told to wait, or what it passes on of that; None if it isn't."""
    for each in call.keywords:
        if each.arg == "sync":
            return each.value.value if isinstance(each.value, ast.Constant) else ast.unparse(each)
    return None


def _is_named(node: ast.expr, waiting: frozenset[str]) -> bool:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return False
    return ast.unparse(node) in waiting


@functools.cache
def _named(where: str) -> frozenset[str]:
    """Return by what names a module calls the functions that wait."""
    every = _waiting()
    found = {f"{room}.{name}" for room, names in every.items() for name in names}
    for node in ast.walk(ast.parse((_ROOT / where).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = every.get(node.module.removeprefix("modeldrop."), frozenset())
            found |= {each.asname or each.name for each in node.names if each.name in names}
    for room, path in _ROOMS.items():
        if path == where:
            found |= every[room]
    return frozenset(found | _SYSTEM) if where == _ROOMS["disk"] else frozenset(found)


@functools.cache
def _waiting() -> dict[str, frozenset[str]]:
    """Return the functions of each room that wait for the disk, by themselves or by others."""
    rooms: dict[str, frozenset[str]] = {}
    below = _SYSTEM
    for room, path in _ROOMS.items():
        calls = {
            node.name: {
                ast.unparse(each.func)
                for each in ast.walk(node)
                if isinstance(each, ast.Call) and _told(each) is not False
            }
            for node in ast.parse((_ROOT / path).read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        found = {name for name, called in calls.items() if called & below}
        while more := {name for name, called in calls.items() if called & found} - found:
            found |= more
        rooms[room] = frozenset(found)
        below |= {f"{room}.{name}" for name in found}
    return rooms
