"""safetensors: the length of a JSON header, the header, the numbers.

Its own library takes headers of up to 100 MB. What has more than 8 MiB, some 50,000 tensors, is
named here and not read: JSON takes about ten times its size to be understood. So is the list of
shards of a model in several such files, `….safetensors.index.json`.
"""

from __future__ import annotations

from typing import Final

from modeldrop.formats.description import (
    DamagedError,
    Description,
    NotThisKindError,
    TooMuchError,
)
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import as_object, is_inside, is_numbers

_MOST_HEADER: Final = 8 * 2**20
_BITS: Final = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


def read(source: Bounded, into: Description) -> None:
    """Describe a safetensors file, and compare its size with what its header says.

    Raises:
        NotThisKindError: it is none, and its name doesn't say that it is.
    """
    if source.name.lower().endswith(".json"):
        _read_index(source, into)
        return
    is_named = source.name.lower().endswith(".safetensors")
    length = int.from_bytes(source.read(0, 8), "little")
    if length > source.size - 8 and not is_named:
        raise NotThisKindError
    if length > source.size - 8:
        message = f"its header has {length} bytes, and the file {source.size}"
        raise DamagedError(message)
    if length > _MOST_HEADER:
        message = f"its header has {length} bytes, and up to {_MOST_HEADER} are read"
        raise TooMuchError(message)
    header = as_object(source.read(8, length))
    if header is None:
        if not is_named:
            raise NotThisKindError
        message = "its header is no JSON object"
        raise DamagedError(message)
    _read_header(source, header, 8 + length, into)


def _read_header(source: Bounded, header: dict[str, object], start: int, into: Description) -> None:
    metadata = header.pop("__metadata__", None)
    if isinstance(metadata, dict) and isinstance(metadata.get("format"), str):
        into.note("format", metadata["format"])
    end = 0
    for name, found in header.items():
        source.tick()
        end = max(end, _take(name, found, into))
    if start + end != source.size:
        word = "cut off" if start + end > source.size else "longer than its tensors"
        into.break_off(f"it is {word}: its header says {start + end} bytes, it has {source.size}")


def _take(name: str, found: object, into: Description) -> int:
    """Count a tensor; return where it ends, after the header."""
    wrong = DamagedError(f"its header doesn't say what the tensor {name!r} is")
    if not isinstance(found, dict):
        raise wrong
    dtype, shape, offsets = (found.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not is_numbers(shape) or not is_numbers(offsets):
        raise wrong
    elements = into.add_tensor(name, dtype, shape)
    if len(offsets) != 2 or not 0 <= offsets[0] <= offsets[1]:
        raise wrong
    bits = _BITS.get(dtype)
    if bits is not None and (elements * bits + 7) // 8 != offsets[1] - offsets[0]:
        into.break_off(f"the tensor {name!r} has another length than its shape")
    return offsets[1]


def _read_index(source: Bounded, into: Description) -> None:
    if source.size > _MOST_HEADER:
        message = f"it has {source.size} bytes, and up to {_MOST_HEADER} are read"
        raise TooMuchError(message)
    found = as_object(source.read(0, source.size))
    shards = found.get("weight_map") if found else None
    if not isinstance(shards, dict):
        message = "it lists no weights"
        raise DamagedError(message)
    names = sorted({each for each in shards.values() if isinstance(each, str)})
    into.note("layout", "index of shards")
    into.note("tensors", len(shards))
    into.note("shards", len(names))
    for name in names:
        if is_inside(name):
            into.need(name)
        else:
            into.warn(f"it names a shard outside of its folder: {name!r}")
