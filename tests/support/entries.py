"""Random entries of folders, of every kind, name and mode, and whether each is accounted for."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from modeldrop.names import MARKER, RUN_FILES, printable
from support.outside import Outside

_LETTERS: Final = (
    *(b"a", b"B", b"7", b"-", b"_", b".", b" ", b"~", b"%", b"\\", b'"', b"'", b"$", b"*"),
    *(b"\n", b"\t", b"\x1b[31m", b"\x7f", b"\xff", b"\xe9", b"\xed\xa0\x80"),
    *(each.encode() for each in ("é", "e\u0301", "模", "🧪", "\u202e", "\u2028", "\x9b")),
)
_SPECIAL_NAMES: Final = (
    *(b"model.bin", b"model.part", b"x.tmp", b"-rf", b"--help", b"_SUCCESS", b"run.json"),
    *(b"run.toml", b"..a", b"...", b"con", b"n" * 255, "é".encode() * 127, b"\xff" * 255),
)
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789"
STORED: Final = frozenset({"committed", "kept"})
"""The states of a run whose files are at the backend."""


@dataclass
class Batch:
    """What was put into staging: of each run the files with their bytes and what is no file."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    junk: list[str] = field(default_factory=list)
    folders: int = 0

    @property
    def count(self) -> int:
        """How many entries there are, runs' folders not counted."""
        each = (self.junk, *self.files.values(), *self.others.values())
        return self.folders + sum(map(len, each))


def make_batch(staging: Path, outside: Outside, random: Random, count: int) -> Batch:
    """Put so many random entries into new runs of staging and beside them."""
    batch = Batch()
    while batch.count < count:
        if random.random() < 0.4:
            _junk(staging, outside, random, batch)
            continue
        # Numbered, since random names may be the same, as those of a failure made small are.
        run = str(uuid.UUID(int=len(batch.files)))
        _Run(staging, run, outside, random, batch).fill(min(random.randint(1, 40), count))
    return batch


def _junk(staging: Path, outside: Outside, random: Random, batch: Batch) -> None:
    # No run's name, and none of modeldrop's own.
    path = staging / f"junk {len(batch.junk)} {os.fsdecode(_name(random))[:100]}"
    if random.random() < 0.3:
        path.mkdir()
        path.chmod(random.getrandbits(12))
    else:
        _make(path, outside, random)
    batch.junk.append(path.name)


class _Run:
    """A run that is being filled."""

    def __init__(
        self, staging: Path, run: str, outside: Outside, random: Random, batch: Batch
    ) -> None:
        self._root = staging / run
        self._outside = outside
        self._random = random
        self._batch = batch
        self._files = batch.files.setdefault(run, {})
        self._others = batch.others.setdefault(run, [])
        self._root.mkdir()
        # In most runs all can be read, or nearly every run would be blocked.
        self._readable = random.random() < 0.85

    def fill(self, count: int) -> None:
        folders = [self._root]
        modes: dict[Path, int] = {}
        for _ in range(count):
            path = self._random.choice(folders) / os.fsdecode(_name(self._random))
            if os.path.lexists(path) or len(os.fsencode(path)) > 3000:
                continue
            modes[path] = self._random.getrandbits(12)
            if self._random.random() < 0.2:
                path.mkdir()
                folders.append(path)
                self._batch.folders += 1
            elif (data := _make(path, self._outside, self._random)) is not None:
                self._files[str(path.relative_to(self._root))] = data
            else:
                self._others.append(str(path.relative_to(self._root)))
        # The deepest first, or a mode would lock out whoever sets the next.
        for path, mode in sorted(modes.items(), key=lambda each: -len(each[0].parts)):
            if not path.is_symlink():
                least = (0o500 if path.is_dir() else 0o400) if self._readable else 0
                path.chmod(mode | least)


def _name(random: Random) -> bytes:
    kind = random.random()
    if kind < 0.85:
        return bytes(random.choices(_PLAIN, k=random.randint(1, 12)))
    if kind < 0.9:
        return random.choice(_SPECIAL_NAMES)
    name = b"".join(random.choices(_LETTERS, k=random.randint(1, 8)))
    return name if name.strip(b".") else name + b"x"


def _make(path: Path, outside: Outside, random: Random) -> bytes | None:
    """Make an entry that is no folder; return its bytes if it is a file."""
    kind = random.random()
    if kind < 0.9:
        data = random.choice([b"", b"x", random.randbytes(random.randint(1, 3000))])
        path.write_bytes(data)
        return data
    if kind < 0.96:
        up = os.path.relpath(outside.file, path.parent)
        targets = (outside.file, outside.folder, outside.trap, up, path.name, ".", "..", "nowhere")
        path.symlink_to(random.choice(targets))
    elif kind < 0.98:
        os.mkfifo(path)
    else:
        _make_socket(path)
    return None


def _make_socket(path: Path) -> None:
    # The address of a socket may have 108 bytes: it is made in its folder's name by descriptor.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    short = f"/proc/self/fd/{folder}/s-{uuid.uuid4().hex[:8]}"
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(short)
        os.rename(short, path)
    finally:
        os.close(folder)


def unaccounted(
    batch: Batch, told: Mapping[str, Any], stored: Mapping[str, Mapping[str, bytes]]
) -> Iterator[str]:
    """Yield each entry that is neither stored with its bytes, nor reported, with what is wrong.

    `told` is what `scan --once --json` printed, `stored` has the files of the committed runs.
    """
    junk = {each["path"]: each["reason"] for each in told["junk"]}
    yield from (f"junk {name!r}" for name in batch.junk if not junk.get(printable(name)))
    runs = {each["run"]: each for each in told["runs"]}
    for run, files in batch.files.items():
        said = runs.get(run)
        if said is None:
            yield f"{run} is not told of at all"
        elif said["state"] not in STORED:
            # Held open, blocked or parked as a whole, with the reason.
            if not said["reason"]:
                yield f"{run} is {said['state']} for no reason"
        else:
            yield from _unaccounted_in(run, files, batch.others[run], said, stored[run])


def _unaccounted_in(
    run: str,
    files: Mapping[str, bytes],
    others: list[str],
    said: Mapping[str, Any],
    stored: Mapping[str, bytes],
) -> Iterator[str]:
    refused = {each["path"] for each in said["refused"] if each["reason"]}
    # What is refused anywhere in a folder refuses the whole of that artifact.
    tops = {path.split("/")[0] for path in refused}

    def is_refused(path: str) -> bool:
        return printable(path).split("/")[0] in tops

    for path, data in files.items():
        if path in {MARKER, *RUN_FILES}:
            continue
        if path in stored:
            if stored[path] != data:
                yield f"{run}: {path!r} has other bytes"
        elif not is_refused(path):
            yield f"{run}: {path!r} is neither stored nor refused"
    yield from (f"{run}: {path!r} is not refused" for path in others if not is_refused(path))
    yield from (f"{run}: {path!r} was never dropped" for path in stored if path not in files)
