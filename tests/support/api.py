"""The reference of the Python library in docs/python.md, from its own docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from modeldrop import Repository, errors
from modeldrop.rooms import Rooms


def methods(*of: type, called: str = "repository") -> None:
    """Print what classes offer: each method, how it is called, and what it says of itself.

    Without any it is `Repository`, with the floors of the façade below it.
    """
    for name, member in [each for kind in of or (Repository,) for each in _public(kind)]:
        print(f"### {name}\n\n```python\n{_call(name, member, called)}\n```\n")
        print(_told(member), end="\n\n")


def error_table() -> None:
    """Print what can go wrong: each error, its exit code, and what it says of itself."""
    print("| error | is a | exit code | when |\n|---|---|---|---|")
    for kind in _errors():
        (above, *_) = kind.__bases__
        said = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
        print(f"| `{kind.__name__}` | `{above.__name__}` | {kind.exit_code} | {said} |")


def _public(of: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods, as they stand in the source."""
    # The façade is made of several classes; what stands below them is no part of it.
    bases = [each for each in of.__mro__[:-1] if each is not Rooms]
    every = [pair for each in bases for pair in vars(each).items()]
    own = [(name, member) for name, member in every if not name.startswith("_")]
    yield from ((name, member) for name, member in own if inspect.getdoc(member))


def _call(name: str, member: object, called: str) -> str:
    """Return a method's signature, one line if it fits and one for each parameter if not."""
    if isinstance(member, property):
        return f"{called}.{name}"
    is_class = isinstance(member, classmethod)
    function = member.__func__ if isinstance(member, classmethod) else member
    signature = inspect.signature(function)  # type: ignore[arg-type] # methods are left
    after_self = [*signature.parameters.values()][1:]
    parameters = [_parameter(each) for each in after_self]
    for number, each in enumerate(after_self):
        if each.kind is each.KEYWORD_ONLY:
            parameters.insert(number, "*")
            break
    returns = signature.return_annotation
    head, tail = f"{'Repository' if is_class else called}.{name}(", f") -> {returns}"
    whole = head + ", ".join(parameters) + tail
    if len(whole) <= 90:
        return whole
    return head + "\n" + "".join(f"    {each},\n" for each in parameters) + tail


def _parameter(found: inspect.Parameter) -> str:
    star = "*" if found.kind is found.VAR_POSITIONAL else ""
    default = "" if found.default is found.empty else f" = {found.default!r}"
    if callable(found.default) and found.default is not found.empty:
        # A function's name says where it lies in memory, and no more.
        default = " = …"
    return f"{star}{found.name}: {found.annotation}{default}"


def _told(member: object) -> str:
    """Return a docstring as Markdown: its parts as paragraphs, its errors as a list."""
    text = inspect.getdoc(member) or ""
    body, _, raised = text.partition("\nRaises:\n")
    lines = [body.strip()]
    if raised:
        items: list[str] = []
        for line in raised.splitlines():
            if line.startswith("        ") and items:
                items[-1] += f" {line.strip()}"
            elif line.strip():
                items.append(line.strip())
        lines.append("Raises:\n\n" + "\n".join(f"- {each}" for each in items))
    return "\n\n".join(lines)


def _errors() -> list[type[errors.ModeldropError]]:
    found = [
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and issubclass(each, errors.ModeldropError)
    ]
    return sorted(found, key=lambda each: (each.exit_code, each.__name__))
