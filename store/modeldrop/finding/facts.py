"""What of a run can be asked: the facts that its manifest tells, each a name and a text.

`metrics.auc` · `params.depth` · `tags.team` · `directions.auc` · `code.commit` ·
`environment.python` · `dataset` · `parent` · `artifact`. What reads as a number is one, and is
compared as one; but a name, a digest or a commit is a text, whatever its letters are.

The list of installed packages isn't among them: it is longer than all the rest, and `show` has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from modeldrop.form import Fields, Json
from modeldrop.records import Revision

Number = int | float
Fact = tuple[str, str, Number | None]
"""Name, text, and the number that the text reads as."""

# Of these any name may follow the dot, and a value may be a number.
OPEN: Final = ("metrics", "params", "tags", "directions")
# Of these the names are known, and a value is text.
CODE: Final = ("commit", "branch", "dirty")
ENVIRONMENT: Final = ("host", "user", "python", "platform")
TEXTS: Final = frozenset(
    {
        *("artifact", "dataset", "parent"),
        *(f"code.{name}" for name in CODE),
        *(f"environment.{name}" for name in ENVIRONMENT),
    }
)

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf)")


def number_of(text: str) -> Number | None:
    """Return the number that a text reads as, or None. `nan` is none: it is above and below all."""
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None


def shown(revision: Revision) -> Fields:
    """Return the metadata that answers show: all but the installed packages."""
    metadata = revision.metadata.as_json()
    environment = metadata.get("environment")
    if not isinstance(environment, dict):
        return metadata
    few = {name: value for name, value in environment.items() if name != "packages"}
    return {**metadata, "environment": few}


def facts(revision: Revision) -> Iterator[Fact]:
    """Yield what can be asked of a revision, by its metadata and its artifacts."""
    said = revision.metadata
    for artifact in revision.artifacts:
        yield "artifact", artifact.artifact, None
    for group in OPEN:
        for name, value in getattr(said, group).items():
            text = text_of(value)
            yield f"{group}.{name}", text, number_of(text)
    for group, part, names in (
        ("code", said.code, CODE),
        ("environment", said.environment, ENVIRONMENT),
    ):
        for name in names:
            value = getattr(part, name, None)
            if value is not None:
                yield f"{group}.{name}", text_of(value), None
    for dataset in said.datasets:
        yield "dataset", dataset.name, None
        yield "dataset", dataset.sha256, None
    if said.parent is not None:
        yield "parent", said.parent, None


def text_of(value: Json) -> str:
    """Return a value of a record as people write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def formats_of(revision: Revision) -> list[tuple[str, str, bool]]:
    """Return the kinds of a revision's files: artifact, kind, whether it runs code; each once."""
    return sorted(
        {(each.path.partition("/")[0], each.kind, each.runs_code) for each in revision.formats}
    )
