"""Universal Binary JSON, as XGBoost writes it: walked, and arrays of numbers passed over."""

from __future__ import annotations

from typing import Final

from modeldrop.formats.description import DamagedError, TooMuchError
from modeldrop.formats.source import Cursor
from modeldrop.formats.texts import decoded

_SIZES: Final = {
    **{ord(each): 1 for each in "iUCTFZN"},
    **{ord(each): 2 for each in "I"},
    **{ord(each): 4 for each in "ld"},
    **{ord(each): 8 for each in "LD"},
}
_INTEGERS: Final = {ord("i"): 1, ord("U"): 1, ord("I"): 2, ord("l"): 4, ord("L"): 8}
_EMPTY: Final = frozenset(ord(each) for each in "TFZN")
_TEXT: Final = ord("S")
_MOST_TEXT: Final = 64 * 2**10
_DEEPEST: Final = 64
_FEW: Final = 4
_MOST_FOUND: Final = 10_000

Found = str | int | None
"""A text or a whole number; of anything else, only that it was there."""


class Walker:
    """Goes through a document; `found` gets each value that has a name, by its path."""

    def __init__(self, cursor: Cursor) -> None:
        """Begin where the cursor stands."""
        self._cursor = cursor
        self.found: dict[str, Found] = {}

    def run(self) -> None:
        """Go through all of it.

        Raises:
            DamagedError: it is cut off, or no such document.
            TooMuchError: it is nested too deeply, or takes too much.
        """
        self._value(self._byte(), "", 0)
        if self._cursor.at != self._cursor.end:
            message = f"it goes on after its end, at byte {self._cursor.at}"
            raise DamagedError(message)

    def _byte(self) -> int:
        self._cursor.source.tick()
        return self._cursor.take(1)[0]

    def _count(self, kind: int) -> int:
        width = _INTEGERS.get(kind)
        if width is None:
            message = f"there is no length at byte {self._cursor.at}"
            raise DamagedError(message)
        return self._cursor.number(width, "big", signed=kind != ord("U"))

    def _text(self) -> str | None:
        length = self._count(self._byte())
        if length > _MOST_TEXT:
            self._cursor.skip(length)
            return None
        return decoded(self._cursor.take(length))

    def _value(self, kind: int, path: str | None, depth: int) -> None:
        if kind == _TEXT:
            self._note(path, self._text())
        elif kind in _INTEGERS:
            self._note(path, self._count(kind))
        elif kind in _SIZES:
            self._cursor.skip(0 if kind in _EMPTY else _SIZES[kind])
            self._note(path, None)
        elif depth >= _DEEPEST:
            message = f"it is nested more than {_DEEPEST} deep"
            raise TooMuchError(message)
        elif kind == ord("{"):
            self._object(path, depth)
        elif kind == ord("["):
            self._array(path, depth)
        else:
            message = f"byte {self._cursor.at - 1} begins no value"
            raise DamagedError(message)

    def _note(self, path: str | None, value: Found) -> None:
        if path and len(self.found) < _MOST_FOUND:
            self.found[path] = value

    def _object(self, path: str | None, depth: int) -> None:
        while True:
            kind = self._byte()
            if kind == ord("}"):
                return
            length = self._count(kind)
            if length > _MOST_TEXT:
                message = "a name in it is too long"
                raise TooMuchError(message)
            name = decoded(self._cursor.take(length))
            inner = None if path is None else f"{path}.{name}" if path else name
            self._value(self._byte(), inner, depth + 1)

    def _array(self, path: str | None, depth: int) -> None:
        kind, typed, count = self._byte(), None, None
        if kind == ord("$"):
            typed, kind = self._byte(), self._byte()
        if kind == ord("#"):
            count = self._count(self._byte())
            if typed in _SIZES and count > _FEW:
                self._cursor.skip(count * (0 if typed in _EMPTY else _SIZES[typed]))
                return
            kind = typed if typed is not None else self._byte() if count else 0
        passed = 0
        while passed < count if count is not None else kind != ord("]"):
            # What stands in a long list has no path of its own.
            inner = f"{path}.{passed}" if path and passed < _FEW else None
            self._value(kind, inner if depth < 2 else None, depth + 1)
            passed += 1
            if count is None or (passed < count and typed is None):
                kind = self._byte()
