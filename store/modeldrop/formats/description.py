"""What is said of a file: filled in by its reader, and kept as far as a bad file let it come."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from modeldrop.formats.texts import shown
from modeldrop.names import printable
from modeldrop.structs import Frozen, Struct, field

_MOST_WARNINGS: Final = 20
_MOST_MISSING: Final = 5
_MOST_NEEDS: Final = 10_000
_MOST_TENSORS: Final = 200_000
# NumPy has 64 at most, since version 2.
_MOST_DIMENSIONS: Final = 64
# More than any machine can hold; a record's readers take no larger numbers either.
_MOST_ELEMENTS: Final = 2**53


class NotThisKindError(Exception):
    """The file only began like one of this kind."""


class DamagedError(Exception):
    """The file isn't what its own header says; the message says how."""


class TooMuchError(Exception):
    """To read on would take more time or memory than there is for it; the message says what."""


class Tensor(Frozen):
    """An array of numbers in a file; the type is spelled as the format spells it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Description(Struct):
    """What a file is. For one reader, and for whoever reads it afterwards."""

    kind: str
    wants_tensors: bool = False
    runs_code: bool = False
    """Whether code that the file brings or names runs when it is loaded as its library does."""
    damaged: bool = False
    summary: dict[str, str | int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    """Files that have to be there too, relative to the folder of this one."""
    tensors: list[Tensor] = field(default_factory=list)
    _count: int = 0
    _elements: int = 0
    _dtypes: dict[str, None] = field(default_factory=dict)

    def note(self, name: str, value: str | int | None) -> None:
        """Put something into the summary, unless it is empty."""
        if isinstance(value, int):
            if abs(value) <= _MOST_ELEMENTS:
                self.summary[name] = value
        elif value:
            self.summary[name] = shown(value)

    def note_all(self, name: str, values: Iterable[str]) -> None:
        """Put a list into the summary, as one text, unless it is empty."""
        self.note(name, ", ".join(values))

    def warn(self, text: str) -> None:
        """Say what a person should know; the same thing once."""
        text = shown(text)
        if len(self.warnings) < _MOST_WARNINGS and text not in self.warnings:
            self.warnings.append(text)

    def break_off(self, why: str) -> None:
        """Say that the file is damaged."""
        self.damaged = True
        self.warn(why)

    def need(self, path: str) -> None:
        """Say which other file has to be there."""
        if len(self.needs) < _MOST_NEEDS and path not in self.needs[-1:]:
            self.needs.append(path)

    def hold_against(self, path: str, is_there: Callable[[str], bool]) -> None:
        """Say which files that this one needs aren't there; `path` is its own."""
        folder = posixpath.dirname(path)
        missing = [
            each
            for each in self.needs
            if not is_there(posixpath.normpath(posixpath.join(folder, each)))
        ]
        self.needs.clear()
        if missing:
            more = len(missing) - _MOST_MISSING
            named = ", ".join(missing[:_MOST_MISSING]) + (f" and {more} more" if more > 0 else "")
            self.break_off(f"it needs {named}, which isn't there")

    def add_tensor(self, name: str, dtype: str, shape: Sequence[int]) -> int:
        """Count a tensor; return how many elements it has.

        Raises:
            DamagedError: nothing can have that shape.
        """
        elements = count_elements(shape)
        self._count += 1
        self._elements += elements
        if len(self._dtypes) < _MOST_WARNINGS:
            self._dtypes[dtype] = None
        if self.wants_tensors and len(self.tensors) < _MOST_TENSORS:
            self.tensors.append(Tensor(printable(name), printable(dtype), tuple(shape)))
        return elements

    def finish(self) -> None:
        """Sum up the tensors that were counted."""
        if self._count:
            self.note("tensors", self._count)
            self.note("parameters", self._elements)
            self.note_all("dtypes", self._dtypes)


def count_elements(shape: Sequence[int]) -> int:
    """Return how many elements an array of this shape has.

    Raises:
        DamagedError: nothing can have that shape.
    """
    if len(shape) > _MOST_DIMENSIONS:
        message = f"a tensor of it has {len(shape)} dimensions"
        raise DamagedError(message)
    elements = 1
    for length in shape:
        if length < 0 or length > _MOST_ELEMENTS:
            message = f"a tensor of it has a dimension of {length}"
            raise DamagedError(message)
        elements *= length
        if elements > _MOST_ELEMENTS:
            message = "a tensor of it has more elements than any machine can hold"
            raise DamagedError(message)
    return elements
