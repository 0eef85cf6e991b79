"""GGUF: counts, keys with typed values, tensors, then the numbers, aligned.

As ggml's docs/gguf.md describes versions 2 and 3; version 1, of a few weeks of 2023, had shorter
counts.
"""

from __future__ import annotations

import math
from typing import Final

from modeldrop.formats.description import DamagedError, Description, TooMuchError
from modeldrop.formats.source import Bounded, Cursor
from modeldrop.formats.texts import decoded

_VERSIONS: Final = (1, 2, 3)
# Bytes of each type of value; a text and an array say theirs.
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_WHOLE: Final = {0: False, 1: True, 2: False, 3: True, 4: False, 5: True, 10: False, 11: True}
_TEXT: Final = 8
_ARRAY: Final = 9
_DEEPEST: Final = 4
# How many numbers, and in how many bytes, of each type of tensor.
_TYPES: Final = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
_MOST_NAME: Final = 2**16
_MOST_TEXT: Final = 2**20
_MOST_DIMENSIONS: Final = 8
_ALIGNMENT: Final = 32
_NAMED: Final = {
    "general.architecture": "architecture",
    "general.name": "name",
    "general.quantization_version": "quantization_version",
    "general.size_label": "size_label",
    "tokenizer.ggml.model": "tokenizer",
}


def read(source: Bounded, into: Description) -> None:
    """Describe a GGUF file, and compare its size with where its last tensor ends."""
    if source.upto(0, 4) != b"GGUF":
        message = "it doesn't begin as GGUF does"
        raise DamagedError(message)
    _Reader(source, into).read()


class _Reader:
    def __init__(self, source: Bounded, into: Description) -> None:
        self._source = source
        self._into = into
        self._cursor = Cursor(source, 4)
        self._order = "little"
        self._width = 8
        self._alignment = _ALIGNMENT

    def read(self) -> None:
        cursor, into = self._cursor, self._into
        version = cursor.number(4)
        if version not in _VERSIONS:
            self._order = "big"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
            if version not in _VERSIONS:
                message = f"it is of version {version}, which isn't known"
                raise TooMuchError(message)
        into.note("format_version", version)
        if version == 1:
            self._width = 4
        tensors, keys = self._number(self._width), self._number(self._width)
        for _ in range(keys):
            self._source.tick()
            self._take_key()
        ends = 0
        for _ in range(tensors):
            self._source.tick()
            ends = max(ends, self._take_tensor())
            start = -(-cursor.at // self._alignment) * self._alignment
        if tensors and start + ends > self._source.size:
            into.break_off(
                f"it is cut off: its tensors end at byte {start + ends}, "
                f"and it has {self._source.size}"
            )

    def _number(self, count: int, *, signed: bool = False) -> int:
        return self._cursor.number(count, self._order, signed=signed)

    def _name(self) -> str:
        length = self._number(self._width)
        if length > _MOST_NAME:
            message = f"a name in it is said to have {length} bytes"
            raise DamagedError(message)
        return decoded(self._cursor.take(length))

    def _text(self) -> str:
        length = self._number(self._width)
        if length > _MOST_TEXT:
            self._cursor.skip(length)
            return ""
        return decoded(self._cursor.take(length))

    def _take_key(self) -> None:
        key, kind = self._name(), self._number(4)
        value = self._value(kind, 0)
        if key == "general.alignment" and isinstance(value, int):
            if not 0 < value <= _MOST_TEXT:
                message = f"its tensors are said to be aligned to {value} bytes"
                raise DamagedError(message)
            self._alignment = value
        name = _NAMED.get(key)
        if key.endswith(".context_length"):
            name = "context_length"
        elif key.endswith(".block_count"):
            name = "blocks"
        if name and isinstance(value, str | int):
            self._into.note(name, value)

    def _value(self, kind: int, depth: int) -> str | int | None:
        if kind == _TEXT:
            return self._text()
        if kind in _WHOLE:
            return self._number(_SIZES[kind], signed=_WHOLE[kind])
        if kind in _SIZES:
            self._cursor.skip(_SIZES[kind])
            return None
        if kind == _ARRAY and depth < _DEEPEST:
            inner, length = self._number(4), self._number(self._width)
            if inner in _SIZES:
                self._cursor.skip(_SIZES[inner] * length)
                return None
            for _ in range(length):
                self._source.tick()
                self._pass_over(inner, depth)
            return None
        message = f"byte {self._cursor.at} has a value of type {kind}, which isn't known"
        raise DamagedError(message)

    def _pass_over(self, kind: int, depth: int) -> None:
        if kind == _TEXT:
            self._cursor.skip(self._number(self._width))
        else:
            self._value(kind, depth + 1)

    def _take_tensor(self) -> int:
        """Count a tensor; return where it ends, after the header."""
        name, dimensions = self._name(), self._number(4)
        if dimensions > _MOST_DIMENSIONS:
            message = f"the tensor {name!r} has {dimensions} dimensions"
            raise DamagedError(message)
        shape = [self._number(self._width) for _ in range(dimensions)]
        kind, offset = self._number(4), self._number(8)
        dtype, numbers, size = _TYPES.get(kind, (f"type {kind}", 1, 0))
        # The innermost dimension comes first in the file, and last everywhere else.
        elements = self._into.add_tensor(name, dtype, shape[::-1])
        return offset + math.ceil(elements / numbers) * size
