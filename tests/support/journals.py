"""What the journal's tests share: a home to write to, entries to write, processes that write."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import modeldrop
from modeldrop import files
from modeldrop.form import Fields
from modeldrop.journal import Entry, Journal, NewEntry
from modeldrop.layout import HomePaths
from modeldrop.records import Head

HOME = "3b0c7f52-9a53-4b5e-9d7e-2f3f6c1d8a90"
HOST = "trainer-7"


def paths_in(folder: Path) -> HomePaths:
    """Lay out a home in a folder, with what the journal needs of it."""
    paths = HomePaths(folder)
    for each in paths.folders():
        files.make_folders(each)
    return paths


def opened(paths: HomePaths) -> Journal:
    """Open the journal anew, as another process would."""
    return Journal(paths, HOME, HOST)


def note(number: int, **details: object) -> NewEntry:
    """Return an entry of which each number's request is another."""
    given: Fields = {"number": number}
    given.update(details)  # type: ignore[arg-type] # some tests give what is no JSON
    about = (f"run:7d44cd5e-0f3c-4c09-a4bb-7b6a2e0e5d11~{number}",)
    return NewEntry("committed", about, f"request-{number}", given, "ada")


def numbers(entries: list[Entry]) -> list[object]:
    """Return which notes these entries are."""
    return [entry.details["number"] for entry in entries]


def lines_of(paths: HomePaths) -> list[bytes]:
    """Return the lines of the journal's file."""
    return paths.journal.read_bytes().splitlines(keepends=True)


def sealed(fields: Fields) -> bytes:
    """Return a line of these fields, whatever they are, with the right digest."""
    bare = {key: value for key, value in fields.items() if key != "sha256"}
    return sealed_bytes(json.dumps(bare, separators=(",", ":"))[:-1].encode())


def sealed_bytes(body: bytes) -> bytes:
    """Return a line of these bytes, whatever they are, with the right digest."""
    return b"".join((body, b',"sha256":"', hashlib.sha256(body).hexdigest().encode(), b'"}\n'))


def set_head(paths: HomePaths, lines: list[bytes], seq: int) -> None:
    """Write the HEAD that a journal of these lines would have."""
    size = len(b"".join(lines))
    head = Head(seq, size - len(lines[-1]), size, lines[-1][-67:-3].decode())
    paths.head.write_bytes(head.to_bytes())


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process that can import modeldrop and this module."""
    roots = (Path(modeldrop.__file__).parents[1], Path(__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH", "")
    search = os.pathsep.join([*map(str, roots), *filter(None, [inherited])])
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )


def run(script: str, *arguments: object) -> str:
    """Run a Python process to its end and return what it printed."""
    with start(script, *arguments) as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return printed
