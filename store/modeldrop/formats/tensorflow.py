"""TensorFlow's `saved_model.pb`: a `SavedModel` of Protocol Buffers, as saved_model.proto has it.

Its variables are in files beside it, which are no part of it. Most of its operations compute; those
of `_REACHING` read or write files, or call Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modeldrop.formats.description import DamagedError, Description, NotThisKindError
from modeldrop.formats.protobuf import LENGTH, VARINT, Field, fields, signed
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import spelled

_NAME: Final = "saved_model.pb"
_REACHING: Final = frozenset(
    {"EagerPyFunc", "MatchingFiles", "PyFunc", "PyFuncStateless", "ReadFile", "WriteFile"}
)
_TYPES: Final = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
}
_MOST: Final = 20


def read(source: Bounded, into: Description) -> None:
    """Describe a SavedModel.

    Raises:
        NotThisKindError: it is none, and its name doesn't say that it is.
    """
    model = _Model(into)
    is_named = source.name.rpartition("/")[2] == _NAME
    try:
        for field in fields(source, 0, source.size):
            if field.number == 1 and field.wire == VARINT:
                into.note("schema_version", field.value)
            elif field.number == 2 and field.wire == LENGTH:
                model.take(field)
    except DamagedError:
        if not is_named:
            raise NotThisKindError from None
        raise
    if not model.graphs:
        if not is_named:
            raise NotThisKindError
        message = "it has no graph"
        raise DamagedError(message)
    model.sum_up()


class _Model:
    def __init__(self, into: Description) -> None:
        self._into = into
        self._tags: dict[str, None] = {}
        self._signatures: dict[str, None] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._reaching: dict[str, None] = {}
        self._nodes = 0
        self._version = ""
        self.graphs = 0

    def take(self, graph: Field) -> None:
        """Take note of a `MetaGraphDef`."""
        self.graphs += 1
        for field in graph.message():
            if field.wire != LENGTH:
                continue
            if field.number == 1:
                self._take_meta(field)
            elif field.number == 2:
                self._take_graph(field)
            elif field.number == 5:
                self._take_signature(field)

    def _take_meta(self, meta: Field) -> None:
        for field in meta.message():
            if field.wire == LENGTH and field.number == 4 and len(self._tags) < _MOST:
                self._tags[field.text()] = None
            elif field.wire == LENGTH and field.number == 5:
                self._version = field.text()

    def _take_graph(self, graph: Field) -> None:
        for field in graph.message():
            if field.wire == LENGTH and field.number == 1:
                self._take_node(field)
            elif field.wire == LENGTH and field.number == 2:
                for function in _inner(field, 1):
                    for node in _inner(function, 3):
                        self._take_node(node)

    def _take_node(self, node: Field) -> None:
        self._nodes += 1
        for field in _inner(node, 2):
            operation = field.text()
            if operation in _REACHING:
                self._reaching[operation] = None

    def _take_signature(self, entry: Field) -> None:
        name = ""
        for field in entry.message():
            if field.wire == LENGTH and field.number == 1:
                name = field.text()
            elif field.wire == LENGTH and field.number == 2 and not name.startswith("__"):
                for part in field.message():
                    if part.wire == LENGTH and part.number in (1, 2):
                        ports = self._inputs if part.number == 1 else self._outputs
                        if len(ports) < _MOST:
                            ports.append(_port(part))
        if not name.startswith("__") and len(self._signatures) < _MOST:
            self._signatures[name] = None

    def sum_up(self) -> None:
        """Put what was noted into the description."""
        into = self._into
        into.note("tensorflow_version", self._version)
        into.note_all("tags", self._tags)
        into.note_all("signatures", self._signatures)
        into.note_all("inputs", self._inputs)
        into.note_all("outputs", self._outputs)
        into.note("nodes", self._nodes)
        if self._reaching:
            into.runs_code = True
            into.warn(f"it reaches out of the model when it is used: {', '.join(self._reaching)}")


def _inner(field: Field, number: int) -> Iterator[Field]:
    for each in field.message():
        if each.number == number and each.wire == LENGTH:
            yield each


def _port(entry: Field) -> str:
    """Return an entry of a signature's inputs or outputs for people: `x: float32[?, 4]`."""
    name, dtype, shape = "", "", ""
    for field in entry.message():
        if field.wire == LENGTH and field.number == 1:
            name = field.text()
        elif field.wire == LENGTH and field.number == 2:
            for part in field.message():
                if part.number == 2 and part.wire == VARINT:
                    dtype = _TYPES.get(part.value, f"type {part.value}")
                elif part.number == 3 and part.wire == LENGTH:
                    shape = _shape(part)
    return f"{name}: {dtype}{shape}"


def _shape(field: Field) -> str:
    lengths: list[str | int] = []
    for dimension in _inner(field, 2):
        size = next((each.value for each in dimension.message() if each.number == 1), 0)
        lengths.append(signed(size) if signed(size) >= 0 else "?")
        if len(lengths) >= _MOST:
            break
    return spelled(lengths)
