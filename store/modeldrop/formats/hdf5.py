"""HDF5: the attributes of its root, and the data sets below it, by their headers alone.

Follows version 3.0 of the file format's specification as far as Keras and h5py write it:
superblocks 0 to 3, object headers 1 and 2, groups by symbol tables or by links in their headers.
What a group of very many keeps in a heap of its own isn't followed, and said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modeldrop.formats.description import DamagedError, Description, TooMuchError
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import decoded
from modeldrop.structs import Frozen

MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_NOWHERE: Final = 2**64 - 1
_MOST_MESSAGES: Final = 10_000
_MOST_NAME: Final = 4096
_MOST_VALUE: Final = 16 * 2**20
_DEEPEST_TREE: Final = 16
_MOST_DEPTH: Final = 64

_DATASPACE: Final = 0x01
_LINK_INFO: Final = 0x02
_DATATYPE: Final = 0x03
_LINK: Final = 0x06
_ATTRIBUTE: Final = 0x0C
_CONTINUATION: Final = 0x10
_SYMBOLS: Final = 0x11


class _Object(Frozen):
    messages: tuple[tuple[int, bytes], ...]

    def first(self, kind: int) -> bytes | None:
        return next((data for each, data in self.messages if each == kind), None)


class File:
    """An HDF5 file, open at its root."""

    def __init__(self, source: Bounded) -> None:
        """Read the superblock.

        Raises:
            DamagedError: it isn't one, or the file is shorter than it says.
        """
        self._source = source
        head = source.read(0, 48)
        version = head[8]
        sizes = head[13:15] if version < 2 else head[9:11]
        if version > 3 or sizes != b"\x08\x08":
            message = f"it is HDF5 of a form that isn't known (superblock {version})"
            raise TooMuchError(message)
        if version < 2:
            at = 24 if version == 0 else 28
            head = source.read(0, at + 48)
            ends, self._root = _number(head, at + 16, 8), _number(head, at + 40, 8)
        else:
            ends, self._root = _number(head, 28, 8), _number(head, 36, 8)
        if ends > source.size:
            message = f"it is cut off: it is said to have {ends} bytes, and has {source.size}"
            raise DamagedError(message)

    def attributes(self) -> dict[str, bytes]:
        """Return the attributes of the root; a text by its bytes, anything else as none."""
        found: dict[str, bytes] = {}
        for kind, data in self._object(self._root).messages:
            if kind == _ATTRIBUTE:
                name, value = self._attribute(data)
                found[name] = value
        return found

    def list_tensors(self, into: Description) -> None:
        """Count every data set, by its path."""
        todo, seen = [("", self._root, 0)], {self._root}
        while todo:
            self._source.tick()
            path, at, depth = todo.pop()
            here = self._object(at)
            space, kind = here.first(_DATASPACE), here.first(_DATATYPE)
            if space is not None and kind is not None:
                into.add_tensor(path, _dtype(kind), _shape(space))
                continue
            below = []
            for name, address in self._links(here, into):
                if address not in seen and depth < _MOST_DEPTH:
                    seen.add(address)
                    below.append((f"{path}/{name}" if path else name, address, depth + 1))
            todo += reversed(below)

    # Objects

    def _object(self, at: int) -> _Object:
        start = self._source.read(at, 16)
        if start.startswith(b"OHDR"):
            return _Object(tuple(self._messages_v2(at)))
        if start[0] == 1:
            return _Object(tuple(self._messages_v1(at, _number(start, 8, 4))))
        message = f"there is no object at byte {at}"
        raise DamagedError(message)

    def _messages_v1(self, at: int, size: int) -> Iterator[tuple[int, bytes]]:
        blocks, count = [(at + 16, size)], 0
        while blocks:
            start, length = blocks.pop(0)
            end = start + length
            while start + 8 <= end:
                count += 1
                self._check(count)
                head = self._source.read(start, 8)
                kind, size = _number(head, 0, 2), _number(head, 2, 2)
                data = self._source.read(start + 8, size)
                start += 8 + size
                if kind == _CONTINUATION:
                    blocks.append((_number(data, 0, 8), _number(data, 8, 8)))
                else:
                    yield kind, data

    def _messages_v2(self, at: int) -> Iterator[tuple[int, bytes]]:
        flags = self._source.read(at + 5, 1)[0]
        start = at + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        length = _number(self._source.read(start, width), 0, width)
        blocks, count = [(start + width, length)], 0
        more = 2 if flags & 0x04 else 0
        while blocks:
            start, length = blocks.pop(0)
            end = start + length
            while start + 4 + more <= end:
                count += 1
                self._check(count)
                head = self._source.read(start, 4)
                kind, size = head[0], _number(head, 1, 2)
                data = self._source.read(start + 4 + more, size)
                start += 4 + more + size
                if kind == _CONTINUATION:
                    place, length = _number(data, 0, 8), _number(data, 8, 8)
                    # Its own signature, and a checksum at its end.
                    blocks.append((place + 4, length - 8))
                else:
                    yield kind, data

    def _check(self, count: int) -> None:
        self._source.tick()
        if count > _MOST_MESSAGES:
            message = f"an object of it has more than {_MOST_MESSAGES} messages"
            raise TooMuchError(message)

    # Groups

    def _links(self, here: _Object, into: Description) -> Iterator[tuple[str, int]]:
        for kind, data in here.messages:
            if kind == _SYMBOLS:
                yield from self._symbols(_number(data, 0, 8), _number(data, 8, 8))
            elif kind == _LINK:
                link = _link(data)
                if link is not None:
                    yield link
            elif kind == _LINK_INFO:
                at = 10 if data[1:2] and data[1] & 1 else 2
                if _number(data, at, 8) != _NOWHERE:
                    into.warn("it has groups of very many members, which aren't listed")

    def _symbols(self, tree: int, heap: int) -> Iterator[tuple[str, int]]:
        start = self._source.read(heap, 32)
        if not start.startswith(b"HEAP"):
            message = f"there are no names at byte {heap}"
            raise DamagedError(message)
        size, names = _number(start, 8, 8), _number(start, 24, 8)
        todo, seen = [(tree, 0)], {tree}
        while todo:
            self._source.tick()
            at, depth = todo.pop()
            node = self._source.read(at, 8)
            if node.startswith(b"SNOD"):
                yield from self._leaf(at, _number(node, 6, 2), names, size)
                continue
            if not node.startswith(b"TREE") or depth > _DEEPEST_TREE:
                message = f"there is no list of members at byte {at}"
                raise DamagedError(message)
            count = _number(node, 6, 2)
            table = self._source.read(at + 24, 8 + 16 * count)
            for number in reversed(range(count)):
                child = _number(table, 8 + 16 * number, 8)
                if child not in seen:
                    seen.add(child)
                    todo.append((child, depth + 1))

    def _leaf(self, at: int, count: int, names: int, size: int) -> Iterator[tuple[str, int]]:
        table = self._source.read(at + 8, 40 * count)
        for number in range(count):
            offset, address = _number(table, 40 * number, 8), _number(table, 40 * number + 8, 8)
            name = self._source.upto(names + offset, min(_MOST_NAME, max(0, size - offset)))
            yield decoded(name.partition(b"\0")[0]), address

    # Attributes

    def _attribute(self, data: bytes) -> tuple[str, bytes]:
        version = data[0] if data else 0
        sizes = [_number(data, at, 2) for at in (2, 4, 6)]
        at = 9 if version == 3 else 8
        parts: list[bytes] = []
        for size in sizes:
            parts.append(data[at : at + size])
            at += -(-size // 8) * 8 if version == 1 else size
        name, kind, space = parts
        return decoded(name.partition(b"\0")[0]), self._text(kind, space, data[at:])

    def _text(self, kind: bytes, space: bytes, data: bytes) -> bytes:
        """Return the text that a single value is, or nothing."""
        if len(kind) < 8 or _shape(space):
            return b""
        if kind[0] & 0x0F == 3:
            return data[: _number(kind, 4, 4)].rstrip(b"\0")
        if kind[0] & 0x0F == 9 and kind[1] & 0x0F == 1:
            length, at, index = _number(data, 0, 4), _number(data, 4, 8), _number(data, 12, 4)
            return self._of_heap(at, index)[:length]
        return b""

    def _of_heap(self, at: int, index: int) -> bytes:
        start = self._source.read(at, 16)
        if not start.startswith(b"GCOL"):
            message = f"there is no text at byte {at}"
            raise DamagedError(message)
        end, at = at + _number(start, 8, 8), at + 16
        while at + 16 <= end:
            self._source.tick()
            entry = self._source.read(at, 16)
            number, size = _number(entry, 0, 2), _number(entry, 8, 8)
            if number == index:
                return self._source.read(at + 16, min(size, _MOST_VALUE))
            if number == 0:
                break
            at += 16 + -(-size // 8) * 8
        message = f"a text is missing at byte {at}"
        raise DamagedError(message)


def _link(data: bytes) -> tuple[str, int] | None:
    """Return the name and address of a link; None if it leads to another file or path."""
    flags = data[1] if len(data) > 1 else 0
    at, kind = 2, 0
    if flags & 0x08:
        kind, at = data[at] if at < len(data) else 0, at + 1
    at += (8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    length, at = _number(data, at, width), at + width
    if kind != 0:
        return None
    return decoded(data[at : at + length]), _number(data, at + length, 8)


def _shape(space: bytes) -> tuple[int, ...]:
    if len(space) < 4:
        return ()
    at = 8 if space[0] == 1 else 4
    return tuple(_number(space, at + 8 * each, 8) for each in range(space[1]))


def _dtype(kind: bytes) -> str:
    """Return a type's name, as NumPy's where it has one."""
    if len(kind) < 8:
        return "?"
    group, size = kind[0] & 0x0F, _number(kind, 4, 4)
    if group == 0:
        return f"{'int' if kind[1] & 8 else 'uint'}{8 * size}"
    if group == 1:
        return f"float{8 * size}"
    return {3: "string", 6: "compound", 8: "enum", 9: "variable"}.get(group, "other")


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count], "little")
