"""ONNX: a `ModelProto` of Protocol Buffers, as onnx.proto describes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modeldrop.formats.description import DamagedError, Description, NotThisKindError
from modeldrop.formats.protobuf import LENGTH, VARINT, Field, fields, signed
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import is_inside, spelled

_TYPES: Final = [
    "undefined",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "uint4",
    "int4",
    "float4e2m1",
    "float8e8m0",
    "uint2",
    "int2",
]
_EXTERNAL: Final = 1
_MOST_PORTS: Final = 20


def read(source: Bounded, into: Description) -> None:
    """Describe an ONNX model.

    Raises:
        NotThisKindError: it is none, and its name doesn't say that it is.
    """
    model = _Model(into)
    try:
        for field in fields(source, 0, source.size):
            model.take(field)
    except DamagedError:
        if not _is_named(source):
            raise NotThisKindError from None
        raise
    if not model.has_graph:
        if not _is_named(source):
            raise NotThisKindError
        message = "it has no graph"
        raise DamagedError(message)
    model.sum_up()


def _is_named(source: Bounded) -> bool:
    return source.name.lower().endswith(".onnx")


class _Model:
    def __init__(self, into: Description) -> None:
        self._into = into
        self._opsets: list[str] = []
        self._producer: list[str] = []
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._initialized: set[str] = set()
        self._nodes = 0
        self._external: dict[str, None] = {}
        self.has_graph = False

    def take(self, field: Field) -> None:
        """Take note of a field of `ModelProto`."""
        if field.number == 1 and field.wire == VARINT:
            self._into.note("ir_version", field.value)
        elif field.wire == LENGTH:
            if field.number in (2, 3):
                self._producer.append(field.text())
            elif field.number == 7:
                self.has_graph = True
                for inner in field.message():
                    self._take_of_graph(inner)
            elif field.number == 8 and len(self._opsets) < _MOST_PORTS:
                self._opsets.append(_opset(field))

    def _take_of_graph(self, field: Field) -> None:
        if field.wire != LENGTH:
            return
        if field.number == 1:
            self._nodes += 1
        elif field.number == 5:
            self._take_tensor(field.message())
        elif field.number == 15:
            for inner in field.message():
                if inner.number == 1 and inner.wire == LENGTH:
                    self._take_tensor(inner.message())
        elif field.number in (11, 12):
            ports = self._inputs if field.number == 11 else self._outputs
            # Older models name their weights among their inputs.
            if len(ports) < _MOST_PORTS + len(self._initialized):
                ports.append(_port(field))

    def _take_tensor(self, of_tensor: Iterator[Field]) -> None:
        name, dtype, shape, location, is_external = "", 0, list[int](), "", False
        for field in of_tensor:
            if field.number == 1:
                shape += [signed(each) for each in field.numbers()]
                if len(shape) > 1000:
                    break
            elif field.number == 2 and field.wire == VARINT:
                dtype = field.value
            elif field.number == 8 and field.wire == LENGTH:
                name = field.text()
            elif field.number == 13 and field.wire == LENGTH:
                key, value = _entry(field)
                location = value if key == "location" else location
            elif field.number == 14 and field.wire == VARINT:
                is_external = field.value == _EXTERNAL
        self._initialized.add(name[:200])
        if is_external:
            self._external[location] = None
        self._into.add_tensor(name, _type(dtype), shape)

    def sum_up(self) -> None:
        """Put what was noted into the description."""
        into = self._into
        into.note_all("opset", self._opsets)
        into.note("producer", " ".join(self._producer))
        into.note("nodes", self._nodes)
        inputs = [each for each in self._inputs if each.split(":")[0] not in self._initialized]
        into.note_all("inputs", inputs[:_MOST_PORTS])
        into.note_all("outputs", self._outputs[:_MOST_PORTS])
        if self._external:
            into.note("external_files", len(self._external))
        for location in self._external:
            if is_inside(location):
                into.need(location)
            else:
                into.warn(f"its data is said to be outside of its folder, in {location!r}")


def _opset(field: Field) -> str:
    domain, version = "", 0
    for inner in field.message():
        if inner.number == 1 and inner.wire == LENGTH:
            domain = inner.text()
        elif inner.number == 2:
            version = signed(inner.value)
    return f"{domain} {version}".strip()


def _entry(field: Field) -> tuple[str, str]:
    """Return a `StringStringEntryProto`."""
    key = value = ""
    for inner in field.message():
        if inner.number == 1 and inner.wire == LENGTH:
            key = inner.text()
        elif inner.number == 2 and inner.wire == LENGTH:
            value = inner.text()
    return key, value


def _port(field: Field) -> str:
    """Return a `ValueInfoProto` for people: `x: float32[N, 4]`."""
    name, kind = "", ""
    for inner in field.message():
        if inner.number == 1 and inner.wire == LENGTH:
            name = inner.text()
        elif inner.number == 2 and inner.wire == LENGTH:
            kind = _port_type(inner)
    return f"{name}: {kind}" if kind else name


def _port_type(field: Field) -> str:
    """Return a `TypeProto` for people."""
    for inner in field.message():
        if inner.wire != LENGTH:
            continue
        if inner.number != 1:
            return {4: "sequence", 5: "map", 8: "sparse tensor", 9: "optional"}.get(
                inner.number, ""
            )
        dtype, shape = "", ""
        for part in inner.message():
            if part.number == 1:
                dtype = _type(part.value)
            elif part.number == 2 and part.wire == LENGTH:
                shape = spelled([_dimension(each) for each in part.message()][:64])
        return dtype + shape
    return ""


def _dimension(field: Field) -> str | int:
    if field.wire == LENGTH:
        for inner in field.message():
            if inner.number == 1 and inner.wire == VARINT:
                return signed(inner.value)
            if inner.number == 2 and inner.wire == LENGTH:
                return inner.text()
    return "?"


def _type(number: int) -> str:
    return _TYPES[number] if number < len(_TYPES) else f"type {number}"
