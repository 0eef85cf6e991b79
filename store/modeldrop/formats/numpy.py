"""NumPy: `.npy`, a Python literal with type and shape, then the numbers; `.npz`, a zip of them.

The literal is matched, never evaluated. An array of objects is a pickle.
"""

from __future__ import annotations

import re
from typing import Final

from modeldrop.formats.description import (
    DamagedError,
    Description,
    NotThisKindError,
    TooMuchError,
    count_elements,
)
from modeldrop.formats.pickling import describe_pickle
from modeldrop.formats.source import Bounded
from modeldrop.formats.ziparchive import Archive
from modeldrop.structs import Frozen

MAGIC: Final = b"\x93NUMPY"
_MOST_HEADER: Final = 64 * 2**10
_MOST_DIGITS: Final = 18
_HEADER: Final = re.compile(
    r"\{'descr': (?P<descr>'[^']{1,100}'|[\[(].*[\])]), 'fortran_order': (?:True|False), "
    r"'shape': \((?P<shape>[0-9, ]*)\),? *\}\s*",
    re.DOTALL,
)
_SIMPLE: Final = re.compile(r"[<>|=]?(?P<letter>[a-zA-Z?])(?P<count>[0-9]{0,9})(?:\[.*\])?")


class _Array(Frozen):
    dtype: str
    shape: tuple[int, ...]
    start: int
    item: int | None
    """Bytes of each element; None where that takes more than a look."""
    objects: bool


def read(source: Bounded, into: Description) -> None:
    """Describe one array, and compare the file's size with its shape."""
    array = _read_header(source)
    elements = into.add_tensor("", array.dtype, array.shape)
    into.note("layout", "npy")
    into.note("dtype", array.dtype)
    into.note("shape", f"({', '.join(map(str, array.shape))})")
    if array.objects:
        into.note("layout", "npy of objects, a pickle")
        describe_pickle(source, into, array.start)
    elif array.item is not None and array.start + elements * array.item > source.size:
        ends = array.start + elements * array.item
        into.break_off(f"it is cut off: its shape needs {ends} bytes, it has {source.size}")


def read_archive(archive: Archive, into: Description) -> None:
    """Describe the arrays of an `.npz`.

    Raises:
        NotThisKindError: no member is an array.
    """
    names = [name for name in archive.members if name.endswith(".npy")]
    if not names:
        raise NotThisKindError
    into.note("layout", "npz")
    for name in names:
        member = archive.members[name]
        part = archive.open(name, _MOST_HEADER)
        array = _read_header(part)
        elements = into.add_tensor(name.removesuffix(".npy"), array.dtype, array.shape)
        if array.objects:
            _read_objects(archive, name, array.start, into)
        elif array.item is not None and array.start + elements * array.item > member.size:
            into.break_off(f"{name} is shorter than its shape needs")


def _read_objects(archive: Archive, name: str, start: int, into: Description) -> None:
    most = 4 * 2**20
    whole = archive.open(name, most)
    if not archive.members[name].is_stored and archive.members[name].size > most:
        into.runs_code = True
        into.warn(f"{name} is a pickle of more than {most} bytes, packed, and isn't looked into")
        return
    describe_pickle(whole, into, start)


def _read_header(source: Bounded) -> _Array:
    start = source.read(0, 10)
    if not start.startswith(MAGIC):
        message = f"{source.name} is no array of NumPy's"
        raise DamagedError(message)
    wide = start[6] >= 2
    at = 12 if wide else 10
    length = int.from_bytes(source.read(8, 4 if wide else 2), "little")
    if length > _MOST_HEADER:
        source.window(at, length, "its header")
        message = f"its header has {length} bytes, and up to {_MOST_HEADER} are read"
        raise TooMuchError(message)
    found = _HEADER.fullmatch(source.read(at, length).decode("latin-1"))
    if found is None:
        message = "its header doesn't say what the array is"
        raise DamagedError(message)
    lengths = [each for each in found["shape"].replace(" ", "").split(",") if each]
    if any(len(each) > _MOST_DIGITS for each in lengths):
        message = "its shape is larger than any machine can hold"
        raise DamagedError(message)
    shape = tuple(int(each) for each in lengths)
    count_elements(shape)
    descr = found["descr"]
    if descr.startswith("'"):
        dtype = descr.strip("'")
        item, objects = item_size(dtype), bool(re.match(r"[<>|=]?O", dtype))
    else:
        dtype, item, objects = "structured", None, bool(re.search(r"'[<>|=]?O[0-9]*'", descr))
    return _Array(dtype, shape, at + length, item, objects)


def item_size(dtype: str) -> int | None:
    """Return how many bytes an element of a simple type has, `<f8`, or None if it isn't simple."""
    found = _SIMPLE.fullmatch(dtype)
    if found is None:
        return None
    letter, count = found["letter"], int(found["count"] or 0)
    if letter == "?":
        return 1
    if letter in "Mm":
        return 8
    if letter == "U":
        return 4 * count
    return count if letter in "biufcSaV" else None
