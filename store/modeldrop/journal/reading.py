"""Reading the journal without a lock: up to HEAD, forwards or backwards, verified on the way.

HEAD is read before the file. Below its offset no byte ever changes, so what is read there is the
same whatever writers do meanwhile; what lies past it isn't acknowledged, and isn't read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from modeldrop.errors import JournalDamaged, ModeldropError, RecordDamaged
from modeldrop.form import damaged
from modeldrop.journal.lines import NO_LINE, SEAL_SIZE, Entry, NotALine, parse, seal_of
from modeldrop.layout import HomePaths
from modeldrop.records import Head

_K = TypeVar("_K")

# Written before the first line, so that a journal with lines and no HEAD is always damage.
EMPTY: Final = Head.empty()

_FORWARD: Final = 1 << 20
# Some hundred lines: what `log` shows, in one read.
_BACKWARD: Final = 1 << 16
# A HEAD has some 300 bytes.
_MOST_HEAD: Final = 4096


class Place(NamedTuple):
    """Between two lines: the number and digest of the line before it, where they are known."""

    offset: int
    seq: int | None
    sha256: str | None


START: Final = Place(0, 0, NO_LINE)


def read_head(paths: HomePaths) -> Head | None:
    """Return HEAD, or None where there is no journal yet.

    Raises:
        RecordDamaged: HEAD isn't what was written.
        JournalDamaged: HEAD is missing, and the journal isn't.
    """
    head = _read_head(paths.head)
    if head is None and size_of(paths.journal):
        # A HEAD of no line comes before the first line. So if the first writer came between
        # the two looks above, HEAD is there now.
        head = _read_head(paths.head)
        if head is None:
            raise damage(paths.journal, 0, f"it has lines, and {paths.head} is missing")
    return head


def _read_head(path: Path) -> Head | None:
    try:
        with _readable(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(fd, _MOST_HEAD)
            finally:
                os.close(fd)
    except FileNotFoundError:
        return None
    known = _heads.get(data)
    if known is not None:
        return known
    try:
        head = _head_in(data, str(path))
    except RecordDamaged as error:
        raise RecordDamaged(
            f"{error.message} (at byte 0)", hint=_HINT, detail={**error.detail, "offset": 0}
        ) from error
    _keep(_heads, data, head)
    return head


# HEAD is read several times between two changes of it, and the last line before and in each commit.
# So both are known by their bytes; whoever wrote them knows them as well.
_heads: Final[dict[bytes, Head]] = {}
_lasts: Final[dict[tuple[Path, bytes], Head]] = {}
_MOST_KNOWN: Final = 4


def _keep(known: dict[_K, Head], key: _K, head: Head) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[key] = head


def remember(path: Path, head: Head, head_data: bytes, line: bytes) -> None:
    """Know HEAD and the last line of the journal again when they are read: both were just written.

    So whoever commits next spends no time on them before it commits.
    """
    _keep(_heads, head_data, head)
    _keep(_lasts, (path, line), head)


def _head_in(data: bytes, where: str) -> Head:
    head = Head.from_bytes(data, where)
    if head.to_bytes() != data or not _is_possible(head):
        raise damaged(where, "it isn't as it was written")
    return head


def _is_possible(head: Head) -> bool:
    return head == EMPTY or (head.seq > 0 and 0 <= head.start < head.offset)


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    try:
        with _readable(path):
            return path.stat().st_size
    except FileNotFoundError:
        return 0


def forward(path: Path, head: Head, place: Place = START) -> Iterator[Entry]:
    """Yield the entries from `place` up to HEAD, oldest first.

    Raises:
        JournalDamaged: a line isn't what was written; the entries before it were yielded.
    """
    if head.offset == place.offset == 0:
        return
    with _lines(path), path.open("rb", buffering=_FORWARD) as file:
        at, seq, sha256 = _begin(path, file.fileno(), head, place)
        file.seek(at)
        before = at
        while at < head.offset:
            entry = _parse(path, file.readline(), at)
            if seq not in {None, entry.seq - 1}:
                raise damage(path, at, f"entry {entry.seq} doesn't follow entry {seq}")
            if entry.prev != sha256:
                # Either may have been changed, digest and all; the damage begins with the first.
                raise damage(path, before, f"its line isn't the one that entry {entry.seq} follows")
            if entry.end >= head.offset and head_of(entry) != head:
                raise damage(path, at, f"entry {entry.seq} isn't the last one, as HEAD has it")
            yield entry
            before, at, seq, sha256 = at, entry.end, entry.seq, entry.sha256


def _begin(path: Path, fd: int, head: Head, place: Place) -> Place:
    """Return the place with the digest of the line before it, as the file has it."""
    if place.offset > head.offset:
        raise damage(path, head.offset, f"HEAD ends here, and was at byte {place.offset} before")
    if place.offset == 0:
        return START
    try:
        sha256 = seal_of(os.pread(fd, SEAL_SIZE, max(0, place.offset - SEAL_SIZE)))
    except NotALine as error:
        raise damage(path, place.offset, str(error)) from error
    if place.sha256 not in {None, sha256}:
        raise damage(path, place.offset, "the line that ends here was another one before")
    return Place(place.offset, place.seq, sha256)


def backward(path: Path, head: Head) -> Iterator[Entry]:
    """Yield the entries below HEAD, newest first, reading as little as they need.

    Raises:
        JournalDamaged: a line isn't what was written; the newer entries were yielded. The damage
            may begin before the offset it names: `forward` tells.
    """
    with _lines(path), path.open("rb", buffering=0) as file:
        at, seq, sha256 = head.offset, head.seq, head.sha256
        block, first, size = b"", at, _BACKWARD  # what was read from `first` on
        while at:
            stop = at - first
            cut = block.rfind(b"\n", 0, max(0, stop - 1)) + 1
            if not cut and first:
                # Doubled, so that a line of many blocks isn't copied once a block.
                step = min(size, first)
                size *= 2
                first -= step
                block = os.pread(file.fileno(), step, first) + block[:stop]
                if len(block) != step + stop:
                    raise damage(path, first, "it ends before HEAD")
                continue
            entry = _parse(path, block[cut:stop], first + cut)
            if (entry.seq, entry.sha256) != (seq, sha256):
                raise damage(path, entry.start, f"entry {entry.seq} isn't what the next one says")
            yield entry
            at, seq, sha256 = entry.start, entry.seq - 1, entry.prev
            size = _BACKWARD
        if (seq, sha256) != (0, NO_LINE):
            raise damage(path, 0, f"the file begins after entry {seq}")


def check_last_line(path: Path, fd: int, head: Head) -> None:
    """Compare the last line with HEAD, at the same cost whatever the journal's size.

    Raises:
        JournalDamaged: it isn't what HEAD says.
    """
    if head == EMPTY:
        return
    # One byte more: what is before the line has to end one.
    before = min(1, head.start)
    data = os.pread(fd, head.offset - head.start + before, head.start - before)
    if data[:before].strip(b"\n"):
        raise damage(path, head.start, "no line begins where HEAD says")
    line = data[before:]
    if _lasts.get((path, line)) == head:
        return
    entry = _parse(path, line, head.start)
    if head_of(entry) != head:
        raise damage(path, head.start, f"entry {entry.seq} isn't the last one, as HEAD has it")
    _keep(_lasts, (path, line), head)


def follows(entry: Entry, head: Head) -> bool:
    """Return whether an entry comes right after the one that HEAD names."""
    return (entry.seq, entry.prev) == (head.seq + 1, head.sha256)


def head_of(entry: Entry) -> Head:
    """Return the HEAD that acknowledges everything up to this entry."""
    return Head(entry.seq, entry.start, entry.end, entry.sha256)


def locate(path: Path, head: Head, found: JournalDamaged) -> JournalDamaged:
    """Return the first damage below HEAD, read from the start; `found` is what a part showed."""
    try:
        for _ in forward(path, head):
            pass
    except JournalDamaged as first:
        return first
    return found


def damage(path: Path, offset: int, why: str) -> JournalDamaged:
    """Return the error that names the first byte of what isn't as it was written."""
    return JournalDamaged(
        f"{path} is damaged at byte {offset}: {why}",
        hint=_HINT,
        detail={"where": str(path), "offset": offset},
    )


_HINT: Final = "keep the file as it is; `modeldrop verify` says what else is damaged, if anything"


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the system answers within into an error that names the file, if it is there."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"{path} can't be read: {error.strerror}"
        raise ModeldropError(message, hint="check its permissions and the disk") from error


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[None]:
    try:
        with _readable(path):
            yield
    except FileNotFoundError as error:
        raise damage(path, 0, "it is missing, and HEAD says that it has lines") from error


def _parse(path: Path, line: bytes, at: int) -> Entry:
    try:
        return parse(line, at)
    except NotALine as error:
        raise damage(path, at, str(error)) from error
