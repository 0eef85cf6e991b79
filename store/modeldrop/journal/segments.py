"""Segments: runs of whole lines of a journal, as they are shared. Cutting and checking them.

A segment is the bytes of the lines as they stand in `journal.jsonl`. Where each is kept, and who
creates it, is no matter of this module.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modeldrop.journal.lines import SEAL_SIZE, Entry, NotALine, parse, seal_of
from modeldrop.journal.reading import EMPTY, damage, follows, head_of
from modeldrop.records import Head
from modeldrop.structs import Frozen

MOST: Final = 1 << 20
"""How many bytes a segment has at most, unless its only line is longer."""


class NotChained(ValueError):
    """Lines that aren't what a home wrote after the line before them."""

    def __init__(self, seq: int, why: str) -> None:
        """Say why, and which line of the journal is the first that isn't."""
        super().__init__(why)
        self.seq = seq


class Segment(Frozen):
    """Some whole, verified lines of one journal."""

    data: bytes
    entries: tuple[Entry, ...]

    @property
    def first(self) -> int:
        """The number of its first line."""
        return self.entries[0].seq

    @property
    def begins(self) -> int:
        """The byte of the journal at which it begins."""
        return self.entries[0].start

    @property
    def reached(self) -> Head:
        """Its last line."""
        return head_of(self.entries[-1])


def chained(data: bytes, after: Head, home: str) -> Segment:
    """Return the segment that these bytes are, verified to be what `home` wrote after a line.

    Raises:
        NotChained: they aren't; it names the first line that isn't.
        NewerFormat: a later modeldrop wrote a line.
    """
    entries = tuple(_entries(data, after, home))
    if not entries:
        raise NotChained(after.seq + 1, "it is empty")
    return Segment(data, entries)


def beginning(data: bytes, home: str) -> Segment | None:
    """Return the longest undamaged beginning of a home's journal; None if its first line isn't."""
    entries: list[Entry] = []
    with contextlib.suppress(NotChained):
        # One by one: what came before the damage stays in the list.
        entries.extend(_entries(data, EMPTY, home))
    return Segment(data[: entries[-1].end], tuple(entries)) if entries else None


def _entries(data: bytes, head: Head, home: str) -> Iterator[Entry]:
    for line in io.BytesIO(data):
        seq = head.seq + 1
        try:
            entry = parse(line, head.offset)
        except NotALine as error:
            raise NotChained(seq, str(error)) from error
        if not follows(entry, head):
            raise NotChained(seq, f"it isn't what follows line {head.seq}")
        if entry.home != home:
            raise NotChained(seq, f"it is of the home {entry.home}")
        yield entry
        head = head_of(entry)


def cut(path: Path, after: Head, head: Head, home: str, before: int | None = None) -> Segment:
    """Return the next segment of a home's own journal after a line, of what HEAD covers.

    It ends before the line of number `before`, if there is one.

    Raises:
        JournalDamaged: what stands there isn't what was written.
    """
    size = min(MOST, head.offset - after.offset)
    while True:
        data = read(path, after.offset, size)
        end = data.rfind(b"\n") + 1
        if end or size >= head.offset - after.offset:
            break
        size = min(2 * size, head.offset - after.offset)
    if size > MOST:
        # A line that is longer than a segment is one by itself.
        end = data.find(b"\n") + 1
    try:
        segment = chained(data[:end], after, home)
    except NotChained as error:
        raise damage(path, after.offset, f"line {error.seq}: {error}") from error
    if before is None or segment.reached.seq < before:
        return segment
    entries = segment.entries[: before - segment.first]
    return Segment(data[: entries[-1].end - segment.begins], entries)


def read(path: Path, offset: int, size: int) -> bytes:
    """Return so many bytes of a journal, or fewer where it ends; none if it is missing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def is_at(path: Path, place: Head, head: Head) -> bool:
    """Return whether the line that `place` names stands in a journal where it says, below HEAD."""
    if place == EMPTY:
        return True
    if place.offset > head.offset:
        return False
    try:
        sha256 = seal_of(read(path, place.offset - SEAL_SIZE, SEAL_SIZE))
    except NotALine:
        return False
    return sha256 == place.sha256


def first_difference(mine: bytes, theirs: bytes) -> int:
    """Return after how many lines two runs of lines differ, or one of them ends."""
    same = 0
    for mine_line, their_line in zip(io.BytesIO(mine), io.BytesIO(theirs), strict=False):
        if mine_line != their_line:
            break
        same += 1
    return same
