"""What a request was about to do, written down before it begins.

An intent is a line in a file in `intents/` of the home: those that were begun together share one.
It is made, durably, before the first attempt to append to a sequence, and removed once the journal
has acknowledged the outcome. So a crash leaves an open intent behind, and whoever next holds the
lock of its sequence settles it by reading: see `ledger`. Intents of a sequence are only written,
read and removed by the holder of its lock; those of a group of runs, by the holder of the groups'.

The file of a group gets its name before it lasts, for one wait less: what a crash leaves of it may
be torn. A line of it that can't be read is no intent, since nothing is begun before all of them
last. In the file of a single intent, which has its name only once it lasts, it is damage.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from modeldrop.batch import Batch
from modeldrop.errors import RecordDamaged
from modeldrop.files import TEMP_PREFIX, make_folders, rename_if_absent, write_durable
from modeldrop.home_records import Intent

_HINT: Final = (
    "`modeldrop rebuild` finds out what became of it, and puts it aside; stop the service before"
)
# How the name of a group's file ends.
_GROUP: Final = ".group.jsonl"


class Intents:
    """The open intents of a home."""

    def __init__(self, folder: Path) -> None:
        """Keep intents in `folder`, which is there."""
        self._folder = os.fspath(folder)
        # Which sequences a file is of never changes: what others have under way isn't read by
        # every commit.
        self._made: dict[str, Mapping[str, str]] = {}
        self._files: dict[str, str] = {}
        self._torn: set[str] = set()

    def begin(self, intent: Intent) -> None:
        """Write an intent down; it survives a crash from here on."""
        name = f"{intent.request}.jsonl"
        self._note(name, [intent])
        write_durable(Path(self._path(name)), intent.to_bytes())

    def begin_in(self, batch: Batch, intents: Sequence[Intent], experiment: str = "") -> None:
        """Have a group's intents written down with a batch; they survive a crash once it waited.

        Called by the holder of the groups' lock; for a group of registrations by that of the
        lock of their experiment, which is to be named.
        """
        kind = f".{experiment}{_GROUP}" if experiment else _GROUP
        self._clear_torn(kind)
        name = intents[0].request + kind
        self._note(name, intents)
        batch.write(self._path(name), b"".join(each.to_bytes() for each in intents))

    def _note(self, name: str, intents: Sequence[Intent]) -> None:
        self._made[name] = {each.request: each.sequence for each in intents}
        self._files.update((each.request, name) for each in intents)

    def end(self, *requests: str) -> None:
        """Remove intents whose outcome is acknowledged.

        A file that goes needs no sync: an intent that a power loss brings back is settled again,
        to the same outcome.
        """
        ended = frozenset(requests)
        for name in {self._files[each] for each in ended if each in self._files}:
            made = self._made.pop(name, None)
            left: tuple[Intent, ...] = ()
            if made is None or made.keys() - ended:
                left = tuple(each for each in self._in(name) if each.request not in ended)
            if left:
                # Durably: the others' intents are in it, too.
                write_durable(Path(self._path(name)), b"".join(each.to_bytes() for each in left))
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(name))
        for each in ended:
            self._files.pop(each, None)

    def clear(self, torn: Path) -> None:
        """Remove every intent, once what became of all of them is known.

        Files that can't be read are kept in the folder `torn`.
        """
        for name in self._names():
            try:
                self.end(*(each.request for each in self._in(name)))
            except RecordDamaged:
                make_folders(torn)
                rename_if_absent(Path(self._path(name)), torn / f"{secrets.token_hex(4)}-{name}")

    def of(self, sequence: str) -> list[Intent]:
        """Return the open intents of a sequence, oldest first.

        Raises:
            RecordDamaged: an intent can't be read.
        """
        return self.of_any(frozenset((sequence,)))

    def of_any(self, sequences: frozenset[str]) -> list[Intent]:
        """Return the open intents of any of these sequences, oldest first.

        Raises:
            RecordDamaged: an intent can't be read.
        """

        def wanted(name: str) -> bool:
            made = self._made.get(name)
            return made is None or not sequences.isdisjoint(made.values())

        return [each for each in self._read(wanted) if each.sequence in sequences]

    def all(self) -> list[Intent]:
        """Return all open intents, oldest first.

        Raises:
            RecordDamaged: an intent can't be read.
        """
        return self._read(lambda _: True)

    def _read(self, wanted: Callable[[str], bool]) -> list[Intent]:
        found: list[Intent] = []
        for name in self._names():
            if wanted(name):
                found += self._in(name)
        return sorted(found, key=lambda intent: (intent.begun_at, intent.request))

    def _names(self) -> list[str]:
        return [each for each in os.listdir(self._folder) if not each.startswith(TEMP_PREFIX)]

    def _in(self, name: str) -> Iterable[Intent]:
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                lines = file.readlines()
        except FileNotFoundError:
            # Other sequences' intents come and go while this one's lock is held.
            return
        intents = list(_intents(lines, path, whole=not name.endswith(_GROUP)))
        if not intents:
            self._torn.add(name)
        self._files.update((each.request, name) for each in intents)
        yield from intents

    def _clear_torn(self, kind: str) -> None:
        """Remove what is left of groups that never began; whoever wrote it holds no lock.

        Of those of one lock, whose names end alike after the request's id.
        """
        for name in [each for each in self._torn if each[each.index(".") :] == kind]:
            self._torn.discard(name)
            # Looked at again: it may have been seen while it was written.
            if not any(self._in(name)):
                self._torn.discard(name)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _intents(lines: Sequence[bytes], path: str, *, whole: bool) -> Iterator[Intent]:
    for line in lines or [b""]:
        try:
            yield Intent.from_bytes(line, path)
        except RecordDamaged as error:
            if whole:
                raise RecordDamaged(error.message, hint=_HINT, detail=error.detail) from error
