"""The journal itself: one writer at a time, readers without a lock."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from modeldrop import disk, files
from modeldrop.batch import Batch
from modeldrop.errors import (
    Detail,
    JournalDamaged,
    ModeldropError,
    OutcomeUnknown,
    UsageError,
)
from modeldrop.journal.group import Group, Waiting
from modeldrop.journal.lines import Entry, NewEntry, NotALine, parse, write
from modeldrop.journal.reading import (
    EMPTY,
    START,
    Place,
    backward,
    check_last_line,
    damage,
    follows,
    forward,
    head_of,
    locate,
    read_head,
    remember,
    size_of,
)
from modeldrop.layout import HomePaths
from modeldrop.locks import hold
from modeldrop.records import Head

if TYPE_CHECKING:
    from modeldrop.journal.table import JournalTable

Failed = Callable[[int], ModeldropError]


class Journal:
    """The journal of one home. Opening it costs nothing; threads may share it."""

    def __init__(self, paths: HomePaths, home: str, host: str) -> None:
        """Open the journal at `paths`; its new entries name this home and host."""
        self._paths = paths
        self._path = paths.journal
        self._home = home
        self._host = host
        self._table: JournalTable | None = None
        self._group = Group(self._commit_all)

    def head(self) -> Head | None:
        """Return how far the journal is acknowledged, or None if it has no entry yet.

        Raises:
            RecordDamaged: HEAD isn't what was written.
            JournalDamaged: HEAD is missing, and the journal isn't.
        """
        head = read_head(self._paths)
        return None if head == EMPTY else head

    def append(self, *entries: NewEntry) -> tuple[Entry, ...]:
        """Put down these entries, in this order, and return them as they stand in the journal.

        When it returns, they are acknowledged, all of them; after a crash before that, the
        first few of them may be. Threads that append at the same time share one commit, each with
        entries and errors of its own. What an earlier writer left past HEAD is settled first, as by
        `recover`; after a failure, what this one left. The cost doesn't depend on how long the
        journal is.

        Raises:
            UsageError: an entry can't be written down; nothing was.
            Locked: another writer held the journal for too long; nothing was written.
            JournalDamaged, RecordDamaged: the last line or HEAD isn't what was written.
            OutcomeUnknown: the disk failed, and the entries may be in the journal or not.
            ModeldropError: the disk failed; the journal has none of the entries.
        """
        if not entries:
            return ()
        return self._group.append(entries)

    def _commit_all(self, group: list[Waiting]) -> None:
        """Commit the entries of all that wait by one write, one wait for the disk and one HEAD."""
        with self._writing() as (fd, head):
            reached, adopted = self._settle(fd, head)
            lines = [adopted]
            for each in group:
                written: list[Entry] = []
                try:
                    after = reached
                    for new in each.entries:
                        line = write(new, after=after, home=self._home, host=self._host)
                        # Read back, so that no line is ever written that can't be read.
                        entry = parse(line, after.offset)
                        after = head_of(entry)
                        written.append(entry)
                        lines.append(line)
                except UsageError as error:
                    # Its own fault, and nobody else's: the others go without it.
                    del lines[len(lines) - len(written) :]
                    each.error = error
                    continue
                reached = after
                each.written = tuple(written)
            taken = [each for each in group if each.written]
            if taken:
                failed = self._commit(fd, head, reached, b"".join(lines))
                for each in taken:
                    each.error = failed and failed(each.written[0].end)

    def recover(self) -> Head | None:
        """Settle what a writer that died left past HEAD, and return HEAD as it is then.

        Whole lines are adopted: the writer died before it could acknowledge them. A torn rest is
        cut, and kept under `torn/`. Where nothing is left, no lock is taken. Either way HEAD lasts
        then, which its writer may have died before. To be called before a request looks whether an
        earlier attempt of its own is in the journal.

        Raises:
            As for `append`.
        """
        head = read_head(self._paths)
        if head is None:
            return None
        if size_of(self._path) != head.offset:
            with self._writing() as (fd, found):
                reached, adopted = self._settle(fd, found)
                failed = self._commit(fd, found, reached, adopted) if adopted else None
                if failed:
                    raise failed(found.offset)
        self._confirm()
        return self.head()

    def _confirm(self) -> None:
        """Have the HEAD that is seen be there after a power loss as well."""
        try:
            disk.sync_folder(self._paths.root)
        except OSError as error:
            raise self._fail(error, unknown=True) from error

    def check_writable(self) -> Head | None:
        """Return HEAD once it is sure, as far as can be seen, that `append` won't refuse.

        For those who write elsewhere first. Takes no lock; costs HEAD and the last line.

        Raises:
            JournalDamaged, RecordDamaged: the last line or HEAD isn't what was written.
            ModeldropError: it can't be opened for writing.
        """
        head = self.head()
        if head is None:
            return None
        with self._opening():
            fd = self._open_lines()
            try:
                self._check_last_line(fd, head)
            finally:
                os.close(fd)
        return head

    def entries(self, offset: int = 0, *, after: int | None = None) -> Iterator[Entry]:
        """Yield the acknowledged entries from byte `offset` on, oldest first, each verified.

        `offset` is where a line begins or HEAD stood, and `after` the number of the entry
        before it, where it is known. HEAD is read when the first entry is asked for.

        Raises:
            JournalDamaged: a line isn't what was written; the message names the first byte of
                the first bad one. The entries before it were yielded.
            NewerFormat: a line was written by a later modeldrop.
        """
        head = read_head(self._paths) or EMPTY
        place = Place(offset, after, None) if offset else START
        yield from self._forward(head, place)

    def newest(self) -> Iterator[Entry]:
        """Yield the acknowledged entries, newest first, each verified.

        It costs by what is consumed, not by how long the journal is. Raises as `entries` does.
        """
        head = read_head(self._paths) or EMPTY
        try:
            yield from backward(self._path, head) if head.seq else ()
        except JournalDamaged as found:
            raise locate(self._path, head, found) from found

    def since(self, head: Head) -> Iterator[Entry]:
        """Yield the entries acknowledged after this HEAD, which an earlier `head` returned.

        Raises as `entries` does, also if the journal no longer has the line that this HEAD names.
        """
        now = read_head(self._paths) or EMPTY
        yield from self._forward(now, Place(head.offset, head.seq, head.sha256))

    def check(self) -> int:
        """Verify every acknowledged line and return how many there are. Raises as `entries`."""
        return sum(1 for _ in self.entries())

    def table(self) -> JournalTable:
        """Return the journal as a TinyDB table whose `doc_id` is the entry's number."""
        if self._table is None:
            # Loaded here: a command that only appends doesn't pay for TinyDB.
            from modeldrop.journal.table import JournalTable  # noqa: PLC0415 - see above

            self._table = JournalTable(self)
        return self._table

    def _forward(self, head: Head, place: Place) -> Iterator[Entry]:
        try:
            yield from forward(self._path, head, place)
        except JournalDamaged as found:
            if place == START:
                raise
            # From the middle, the damage may have begun before the first line that was read.
            raise locate(self._path, head, found) from found

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[int, Head]]:
        """Hold the lock, with the journal opened anew and its HEAD read.

        Anew each time: after a failure nothing of what this handle did is relied on, so a disk
        that has room again is written to again.
        """
        with self._opening(), hold(self._paths.journal_lock(), what="the journal"):
            fd, head = self._open()
            try:
                yield fd, head
            finally:
                os.close(fd)

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            message = f"{self._path} can't be opened for writing: {error.strerror}; {_NO_ENTRY}"
            raise ModeldropError(message, hint="check the home's permissions") from error

    def _open(self) -> tuple[int, Head]:
        head = read_head(self._paths)
        if head is None or (head == EMPTY and not self._path.exists()):
            # The file's name has to last before a HEAD with lines does, and a HEAD before lines.
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                files.write_durable(self._paths.head, EMPTY.to_bytes())
            except OSError as error:
                os.close(fd)
                raise self._fail(error, unknown=False) from error
            return fd, EMPTY
        return self._open_lines(), head

    def _open_lines(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise damage(self._path, 0, "it is missing, and HEAD says it has lines") from error

    def _check_last_line(self, fd: int, head: Head) -> None:
        try:
            check_last_line(self._path, fd, head)
        except JournalDamaged as found:
            raise locate(self._path, head, found) from found

    def _settle(self, fd: int, head: Head) -> tuple[Head, bytes]:
        """Return the HEAD that whole lines past this one would have, and their bytes.

        What is torn after them is cut, once it is kept.
        """
        size = os.fstat(fd).st_size
        self._check_last_line(fd, head)
        if size == head.offset:
            return head, b""
        with open(fd, "rb", buffering=0, closefd=False) as file:
            file.seek(head.offset)
            rest = file.read()
        reached = _whole_lines(rest, head)
        whole = reached.offset - head.offset
        if whole < len(rest):
            try:
                self._keep(rest[whole:], reached.offset)
                files.truncate_durable(fd, reached.offset)
            except OSError as error:
                raise self._fail(error, unknown=False) from error
        return reached, rest[:whole]

    def _keep(self, torn: bytes, offset: int) -> None:
        files.make_folders(self._paths.torn)
        while True:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{offset}.bin"
            if not (self._paths.torn / name).exists():
                break
        files.write_durable(self._paths.torn / name, torn)

    def _commit(self, fd: int, head: Head, reached: Head, data: bytes) -> Failed | None:
        """Write what stands past HEAD, wait for the disk, and bring HEAD forward over it.

        The next HEAD is written down beside the lines, and waited for with them; it takes the
        place of the last one only once both are on the disk.

        Adopted lines are among `data`, and written once more: if it was their sync that failed,
        the kernel holds them for clean, and a sync alone would promise what isn't on the disk.

        Returns None, or where the disk failed, the error of those whose first new line ends at a
        byte: a file that is shorter has none of them.
        """
        reached_data = reached.to_bytes()
        try:
            with Batch() as batch:
                batch.extend(fd, data, head.offset)
                batch.replace(os.fspath(self._paths.head), reached_data)
                batch.finish()
            remember(self._path, reached, reached_data, data[reached.start - head.offset :])
        except OSError as error:
            failure, size = error, os.fstat(fd).st_size
            return lambda first_end: self._fail(failure, unknown=size >= first_end)
        return None

    def _fail(self, error: OSError, *, unknown: bool) -> ModeldropError:
        """Return what to raise for an append that the disk failed."""
        failed = f"{self._path} failed: {error.strerror or error}"
        detail: Detail = {"where": str(self._path)}
        if unknown:
            message = f"{failed}; whether the entry is in it is unknown until the next attempt"
            told: ModeldropError = OutcomeUnknown(message, hint=_HINT, detail=detail)
        else:
            told = ModeldropError(f"{failed}; {_NO_ENTRY}", hint=_HINT, detail=detail)
        told.__cause__ = error
        return told


# Said of the journal alone: what the entry is about may be at the backend by then.
_NO_ENTRY: Final = "it has no entry of this"
_HINT: Final = "see to the disk and its free space, then run it again: repeating is safe"


def _whole_lines(rest: bytes, head: Head) -> Head:
    """Return the HEAD of the last line that an earlier writer finished, as far as they chain."""
    for line in io.BytesIO(rest):
        try:
            entry = parse(line, head.offset)
        except NotALine:
            break
        if not follows(entry, head):
            break
        head = head_of(entry)
    return head
