"""docs/cli.md and docs/json.md are generated from the program; what it can do is in them."""

import importlib
import pkgutil
from pathlib import Path

import click
import pytest

from modeldrop_cli import objects
from modeldrop_cli.objects.dropping import ScanObject
from modeldrop_cli.objects.printed import PRINTED
from modeldrop_cli.objects.stored import FileObject
from support import reference

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    "name", [name for name, each in reference.commands() if not isinstance(each, click.Group)]
)
def test_every_command_is_documented(name: str) -> None:
    assert f"\n### modeldrop {name}\n" in (DOCS / "cli.md").read_text("utf-8")


def test_generated_parts_are_as_the_program_says() -> None:
    page = (DOCS / "cli.md").read_text("utf-8")
    for part in (reference.exit_codes(), reference.program_page(), reference.command_pages()):
        assert part in page, "run `make docs`"
    assert reference.object_pages() in (DOCS / "json.md").read_text("utf-8"), "run `make docs`"


def test_every_object_is_printed_or_a_part_of_one_that_is() -> None:
    page = reference.object_pages()
    for module in pkgutil.iter_modules(objects.__path__, f"{objects.__name__}."):
        for name, kind in vars(importlib.import_module(module.name)).items():
            if name.endswith("Object") and isinstance(kind, type):
                inherited = any(_has_all(each, kind) for each in PRINTED)
                assert f"## {reference.title(kind)}\n" in page or inherited, name


def _has_all(kind: type, below: type) -> bool:
    """Return whether an object has all fields of another one: it inherits them."""
    return kind is not below and below.__annotations__.items() <= kind.__annotations__.items()


def test_comparing_finds_what_differs() -> None:
    good = {"path": "a", "sha256": "b", "size": 1}
    assert reference.differences(good, FileObject) == []
    assert reference.differences({**good, "size": "1"}, FileObject)
    assert reference.differences({**good, "more": 1}, FileObject)
    assert reference.differences({"path": "a", "size": 1}, FileObject)
    assert reference.differences({"runs": [good], "junk": []}, ScanObject)
