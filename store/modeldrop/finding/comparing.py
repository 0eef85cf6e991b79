"""How two versions or runs differ: what is said of them, their files, and the tensors in these.

Files are compared by digest, so nothing of them is read. Of a model file whose bytes differ the
header is read, as `formats` does it: which tensors there are, of which type and shape. Their values
aren't compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from modeldrop.form import Fields, Json
from modeldrop.metadata import Metadata
from modeldrop.records import Artifact, StoredFile
from modeldrop.references import Resolved
from modeldrop.structs import Frozen

ADDED: Final = "added"
REMOVED: Final = "removed"
CHANGED: Final = "changed"

Form = tuple[str, tuple[int, ...]]
"""Type and shape of a tensor."""
Tensors = Mapping[str, Form]
ReadTensors = Callable[
    [Artifact, list[StoredFile]], tuple[Mapping[str, Tensors], Mapping[str, str]]
]
"""Returns the tensors of some files of an artifact by path, and why others' can't be read."""


class Side(Frozen):
    """One of the two: what a reference stands for, and what is said of it."""

    resolved: Resolved
    metadata: Metadata

    @property
    def name(self) -> str:
        """Its full reference."""
        return self.resolved.exact

    @property
    def artifact(self) -> Artifact:
        """What is compared: the artifact that is meant, or all of the run."""
        return self.resolved.artifact or self.resolved.revision.whole()


class Change(Frozen):
    """Something that is said of one side otherwise than of the other; None where it isn't said."""

    name: str
    a: str | None
    b: str | None


class FileChange(Frozen):
    """A file that isn't the same on both sides; None where there is none."""

    path: str
    a: StoredFile | None
    b: StoredFile | None

    @property
    def change(self) -> str:
        """`added`, `removed` or `changed`."""
        return _way(self.a, self.b)


class TensorChange(Frozen):
    """A tensor that isn't of the same form on both sides; None where there is none."""

    path: str
    tensor: str
    a: Form | None
    b: Form | None

    @property
    def change(self) -> str:
        """`added`, `removed` or `changed`."""
        return _way(self.a, self.b)


class Difference(Frozen):
    """How two sides differ."""

    a: str
    b: str
    changes: list[Change]
    files: list[FileChange]
    tensors: list[TensorChange]
    unread: list[tuple[str, str]]
    """Paths of files whose tensors could not be read, and why."""


def compare(a: Side, b: Side, read_tensors: ReadTensors) -> Difference:
    """Return how two sides differ.

    Raises:
        BackendError: a header could not be read.
    """
    one, other = a.artifact, b.artifact
    files = _files(one, other)
    tensors, unread = _tensors(one, other, files, read_tensors)
    return Difference(a.name, b.name, _changes(a, b), files, tensors, unread)


def _changes(a: Side, b: Side) -> list[Change]:
    first, second = dict(_said(a)), dict(_said(b))
    return [
        Change(name, first.get(name), second.get(name))
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]


def _said(side: Side) -> Iterator[tuple[str, str]]:
    """Yield what is said of a side: names such as `metrics.auc`, and values as text."""
    version = side.resolved.version
    yield "artifact", side.artifact.artifact
    if version is not None:
        yield "experiment", version.experiment
        if version.description:
            yield "description", version.description
    elif side.resolved.revision.experiment is not None:
        yield "experiment", side.resolved.revision.experiment
    yield from _flat(side.metadata.as_json())
    for each in side.resolved.revision.formats_of(side.artifact):
        yield f"formats.{each.path}", each.kind


def _flat(said: Fields, above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in said.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, list):  # data sets, by their names
            for each in value:
                if isinstance(each, dict):
                    yield f"{above}{name}.{each.get('name')}", str(each.get("sha256"))
        elif value is not None:
            yield above + name, _text(value)


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _files(a: Artifact, b: Artifact) -> list[FileChange]:
    if a.type == b.type == "file":
        # Whatever they are called, one stands for the other.
        one, other = a.files[0], b.files[0]
        return [] if one.sha256 == other.sha256 else [FileChange(other.path, one, other)]
    first = {file.path: file for file in a.files}
    second = {file.path: file for file in b.files}
    return [
        FileChange(path, first.get(path), second.get(path))
        for path in sorted({*first, *second})
        if _sha256(first.get(path)) != _sha256(second.get(path))
    ]


def _sha256(file: StoredFile | None) -> str | None:
    return None if file is None else file.sha256


def _tensors(
    a: Artifact, b: Artifact, files: list[FileChange], read: ReadTensors
) -> tuple[list[TensorChange], list[tuple[str, str]]]:
    """Return which tensors of changed files differ, and which files' could not be read."""
    if not files:
        return [], []
    tensors: list[TensorChange] = []
    unread: list[tuple[str, str]] = []
    of_a, not_of_a = read(a, [each.a for each in files if each.a is not None])
    of_b, not_of_b = read(b, [each.b for each in files if each.b is not None])
    for each in files:
        at_a = each.a.path if each.a else ""
        at_b = each.b.path if each.b else ""
        why = not_of_a.get(at_a) or not_of_b.get(at_b)
        if why is not None:
            unread.append((each.path, why))
            continue
        first, second = of_a.get(at_a, {}), of_b.get(at_b, {})
        tensors += [
            TensorChange(each.path, name, first.get(name), second.get(name))
            for name in sorted({*first, *second})
            if first.get(name) != second.get(name)
        ]
    return tensors, unread


def _way(a: object, b: object) -> str:
    if a is None:
        return ADDED
    return REMOVED if b is None else CHANGED
