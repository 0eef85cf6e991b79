"""The guards in the product: every lock, condition, digest check, read-back and comparison.

They are found in the source, by what is called and compared there, so that a new one can't be
forgotten: `test_mutations.py` fails while it has no row in one of the tables. A guard is named by
its module, the function that it is in, its kind, and its place among those of that kind there. So
the name stays when lines move.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("store/modeldrop", "daemon/modeldrop_daemon", "cli/modeldrop_cli")

SYNC: Final = "sync"
LOCK: Final = "lock"
CONDITION: Final = "condition"
DIGEST: Final = "digest"
READ_BACK: Final = "readback"
SOURCE: Final = "source"
KINDS: Final = (SYNC, LOCK, CONDITION, DIGEST, READ_BACK, SOURCE)
"""Waits for the disk; locks; creating only what is absent; digests that are compared, or sent for
the store to compare; what is written and then looked at; what is read and then found unchanged."""

# By the last part of the name that is called.
_CALLS: Final = {
    **dict.fromkeys(
        (
            *("fsync", "fdatasync", "syncfs", "sync_data", "sync_file", "sync_folder"),
            *("sync_path", "sync_whole", "sync_tree"),
        ),
        SYNC,
    ),
    **dict.fromkeys(("hold", "hold_unless", "Lock", "RLock", "Condition"), LOCK),
    **dict.fromkeys(("Semaphore", "BoundedSemaphore"), LOCK),
    **dict.fromkeys(
        (
            *("create_durable", "link_if_absent", "_rename_if_absent", "rename_if_absent"),
            *("rename_if_free", "move_if_absent", "create_once", "link"),
        ),
        CONDITION,
    ),
    **dict.fromkeys(("flock", "turn"), LOCK),
    **dict.fromkeys(("create", "lexists", "open"), CONDITION),
    "follows": DIGEST,
    "fcntl": SOURCE,
    **dict.fromkeys(
        (
            *("confirm", "confirm_in", "check_batch", "check_last_line"),
            *("_check_arrived", "_check_size"),
            *("require", "damaged", "is_copy", "_look_again"),
        ),
        READ_BACK,
    ),
    **dict.fromkeys(
        ("unchanged", "check_unchanged", "_check_unchanged", "samestat", "_is_same"), SOURCE
    ),
}
# By what is compared; the first that fits.
_WORDS: Final = {
    CONDITION: re.compile(r"\bexpect\b"),
    DIGEST: re.compile(r"sha256|digest|md5|crc|checksum|\bsent\b|\bheld\b|head_of", re.IGNORECASE),
    READ_BACK: re.compile(r"owner|(?<![a-z])(st_)?size\b|\blen\(data\)", re.IGNORECASE),
    SOURCE: re.compile(r"signature", re.IGNORECASE),
}
_EQUALITY: Final = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
_TWO: Final = 2
_EXCLUSIVE_MODES: Final = frozenset({"x", "xb", "wx", "wxb"})


@dataclass(frozen=True)
class Guard:
    """One guard: its name, and where in its file it stands."""

    id: str
    kind: str
    path: Path
    start: int
    end: int
    node: ast.AST

    @property
    def module(self) -> str:
        """The module that it is in, as it is imported."""
        return self.id.partition(":")[0]


def files() -> list[Path]:
    """Return the files of the product."""
    return sorted(each for package in PACKAGES for each in (ROOT / package).rglob("*.py"))


@functools.cache
def all_guards() -> tuple[Guard, ...]:
    """Return every guard in the product, by file and place."""
    return tuple(guard for path in files() for guard in guards_in(path.read_bytes(), path))


def guards_in(source: bytes, path: Path) -> list[Guard]:
    """Return the guards in the source of a file."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    module = _module_of(path)
    counted: Counter[tuple[str, str]] = Counter()
    found = []
    for function, kind, node in sorted(
        _found(ast.parse(source), ""), key=lambda each: (each[2].lineno, each[2].col_offset)
    ):
        counted[function, kind] += 1
        start = lines[node.lineno - 1] + node.col_offset
        end = lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        name = f"{module}:{function}:{kind}:{counted[function, kind]}"
        found.append(Guard(name, kind, path, start, end, node))
    return found


def _module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts[1:])
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _found(node: ast.AST, function: str) -> Iterator[tuple[str, str, ast.expr | ast.keyword]]:
    for child in ast.iter_child_nodes(node):
        inner = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{function}.{child.name}" if function else child.name
        if isinstance(child, ast.expr | ast.keyword):
            kind = _kind_of(child)
            if kind:
                yield function, kind, child
        # What is annotated says nothing.
        if not (isinstance(node, ast.arg) and child is node.annotation):
            yield from _found(child, inner)


def _kind_of(node: ast.expr | ast.keyword) -> str | None:
    if isinstance(node, ast.Call):
        return _kind_of_call(node)
    if isinstance(node, ast.Compare):
        text = ast.unparse(node) if isinstance(node.ops[0], _EQUALITY) else ""
        return next((kind for kind, words in _WORDS.items() if words.search(text)), None)
    match node:
        case (
            ast.Attribute(attr="O_EXCL")
            | ast.Name(id="_RENAME_NOREPLACE", ctx=ast.Load())
            | ast.Constant(value="ifGenerationMatch")
            | ast.keyword(arg="mode", value=ast.Constant(value="create"))
            | ast.keyword(arg="overwrite", value=ast.Constant(value=False))
            | ast.keyword(arg="match_condition")
        ):
            return CONDITION
        case ast.Constant(value="Content-MD5") | ast.keyword(arg="ContentMD5" | "validate_content"):
            return DIGEST
    return None


def _kind_of_call(node: ast.Call) -> str | None:
    name = name_of(node)
    refuse = _BUT.get(name)
    return None if refuse is not None and refuse(node) else _CALLS.get(name)


def _creates_none(node: ast.Call) -> bool:
    modes = {each.value for each in node.args if isinstance(each, ast.Constant)}
    return not modes & _EXCLUSIVE_MODES


def _is_of(*beginnings: str) -> Callable[[ast.Call], bool]:
    return lambda node: ast.unparse(node).startswith(beginnings)


def _of_threads(node: ast.Call) -> bool:
    return ast.unparse(node).startswith("threading.")


# Calls of the same names that guard nothing.
_BUT: Final[dict[str, Callable[[ast.Call], bool]]] = {
    **dict.fromkeys(
        ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"),
        lambda node: not _of_threads(node),
    ),
    # A person is asked, an error made, a name looked at, a verdict told, a library had.
    "confirm": _is_of("click."),
    "damaged": _is_of("damaged("),
    "is_copy": _is_of("layout."),
    "require": _is_of("probe.", "keys.", "self.sync."),
    # To let go guards nothing.
    "flock": lambda node: "LOCK_UN" in ast.unparse(node),
    "fcntl": lambda node: "F_SETLEASE" not in ast.unparse(node) or "F_UNLCK" in ast.unparse(node),
    "turn": lambda node: len(node.args) < _TWO,
    "create": lambda node: len(node.args) < _TWO,
    "open": _creates_none,
}


def name_of(call: ast.Call) -> str:
    """Return the last part of the name that is called."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""
