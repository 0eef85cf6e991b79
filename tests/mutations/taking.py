"""Taking a guard out: the source of its module, with that one call, word or comparison changed.

A lock is had by everybody, a call that only checks isn't made, what was created if absent replaces
what is there, and what is compared is always found to be as it should.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Final

from mutations.guards import Guard, name_of

_OS: Final = '__import__("os")'
_NOTHING: Final = "None"
_UNLOCKED: Final = '__import__("sitecustomize").Unlocked()'
_NO_LOCK: Final = '__import__("contextlib").nullcontext()'


def without(guard: Guard, instead: str | None = None) -> bytes:
    """Return the source of the guard's module without it; `instead` stands where it stood."""
    source = guard.path.read_bytes()
    start, end = guard.start, guard.end
    if instead is None:
        instead = _instead(guard.node)
        if isinstance(guard.node, ast.keyword) and not instead:
            # With the comma before it.
            start = source.rindex(b",", 0, start)
    # Line breaks within are of no matter: what stands instead is in brackets.
    changed = source[:start] + instead.encode() + source[end:]
    compile(changed, str(guard.path), "exec", dont_inherit=True)
    if changed == source:
        raise ValueError(f"{guard.id} is still there")
    return changed


def _instead(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return _instead_of_call(node)
    if isinstance(node, ast.Compare):
        # As if it were as it should be.
        return str(isinstance(node.ops[0], ast.Eq | ast.In))
    if isinstance(node, ast.keyword):
        return {"mode": 'mode="overwrite"', "overwrite": "overwrite=True"}.get(str(node.arg), "")
    if isinstance(node, ast.Constant):
        return {"ifGenerationMatch": '"quotaUser"', "Content-MD5": '"X-Not-MD5"'}[str(node.value)]
    # A flag.
    return "0"


def _instead_of_call(call: ast.Call) -> str:
    found = _CALLS.get(name_of(call), _NOTHING)
    return (
        found
        if isinstance(found, str)
        else f"({found(*map(ast.unparse, [call.func, *call.args]))})"
    )


def _open(function: str, path: str, mode: str, *_: str) -> str:
    return f"{function}({path}, {mode.replace('x', 'w')})"


def _replaced(function: str, *arguments: str) -> str:
    """Return a call that replaces what is there, and says that nothing was."""
    receiver = function.rpartition(".")[0]
    return f"not {receiver}.replace({', '.join(arguments)})"


def _renamed(_: str, source: str, target: str) -> str:
    return f"not {_OS}.replace({source}, {target})"


def _moved(_: str, source: str, name: str, target: str, new_name: str) -> str:
    return f"not {_OS}.replace({name}, {new_name}, src_dir_fd={source}, dst_dir_fd={target})"


_Made = Callable[..., str]
_CALLS: Final[dict[str, str | _Made]] = {
    "hold": _NO_LOCK,
    "hold_unless": _NO_LOCK,
    "turn": _NO_LOCK,
    **dict.fromkeys(("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"), _UNLOCKED),
    "link": _renamed,
    "link_if_absent": _renamed,
    "rename_if_absent": _renamed,
    "rename_if_free": _renamed,
    "_rename_if_absent": lambda _, first, second, source="None", target="None": (
        f"not {_OS}.replace({first}, {second}, src_dir_fd={source}, dst_dir_fd={target})"
    ),
    "move_if_absent": _moved,
    "create_durable": lambda _, path, data: (
        f'not files.write_durable(__import__("pathlib").Path({path}), {data})'
    ),
    "create_once": lambda _, backend, key, data, *__: f"{backend}.replace({key}, {data})",
    "create": _replaced,
    "open": _open,
    # As if there were nothing, no damage, and the same.
    "lexists": "False",
    "damaged": "[]",
    "is_copy": "True",
    "samestat": "True",
    "_is_same": "True",
    "follows": "True",
}
