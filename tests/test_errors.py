"""The tree of errors is what the docstring of `errors` draws."""

from __future__ import annotations

import inspect
import re

from modeldrop import errors
from modeldrop.errors import ModeldropError

# A class of the drawing: how deep it stands, its name, its exit code.
DRAWN = re.compile(r"^    (?P<deep>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<code>\d+)", re.MULTILINE)


def classes() -> list[type[ModeldropError]]:
    """Return every class of the module."""
    return [
        each
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if each.__module__ == errors.__name__ and issubclass(each, ModeldropError)
    ]


def drawn() -> dict[str, tuple[str | None, int]]:
    """Return each drawn class with the one that it stands under, and its exit code."""
    above: list[str] = []
    found: dict[str, tuple[str | None, int]] = {}
    for each in DRAWN.finditer(errors.__doc__ or ""):
        depth = len(each["deep"]) // 4
        del above[depth:]
        found[each["name"]] = (above[-1] if above else None, int(each["code"]))
        above.append(each["name"])
    return found


def test_every_class_is_drawn_where_it_stands_with_its_exit_code() -> None:
    is_so = {
        each.__name__: (
            None if each is ModeldropError else each.__mro__[1].__name__,
            each.exit_code,
        )
        for each in classes()
    }

    assert drawn() == is_so
    assert len(is_so) > 25


def test_every_class_has_a_docstring_of_its_own() -> None:
    said = [each.__doc__ for each in classes()]

    assert all(said)
    assert len(set(said)) == len(said)


def test_exit_codes_are_those_of_the_design() -> None:
    assert {each.exit_code for each in classes()} == {1, 2, 3, 10, 11, 12, 20, 30, 130}
    assert errors.EXIT_DONE == 0


def test_error_says_its_message_and_keeps_hint_and_detail_apart() -> None:
    error = errors.RunNotFound("no such run", hint="look elsewhere", detail={"run": "x"})

    assert str(error) == "no such run"
    assert (error.hint, error.detail) == ("look elsewhere", {"run": "x"})
    assert ModeldropError("without").detail == {}
