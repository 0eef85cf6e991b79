from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

from modeldrop.errors import JournalDamaged, NewerFormat, UsageError
from modeldrop.journal import Journal, NewEntry
from modeldrop.layout import HomePaths
from modeldrop.records import Head
from support.journals import (
    HOME,
    HOST,
    lines_of,
    note,
    numbers,
    opened,
    paths_in,
    run,
    sealed,
    set_head,
)


@pytest.fixture
def paths(tmp_path: Path) -> HomePaths:
    return paths_in(tmp_path / "home")


@pytest.fixture
def journal(paths: HomePaths) -> Journal:
    return opened(paths)


def read_by(work: str, paths: HomePaths) -> int:
    """Return how many bytes a new process reads of files for this work, imports left out."""
    script = """
import sys
from pathlib import Path
from support.journals import note, opened
from modeldrop.layout import HomePaths
paths = HomePaths(Path(sys.argv[1]))
def count():
    return int(Path("/proc/self/io").read_text().split()[1])
import tinydb, modeldrop.journal.table
journal = opened(paths)
count()
before = count()
{work}
print(count() - before)
"""
    return int(run(script.replace("{work}", work), paths.root))


def test_a_new_journal_is_empty_and_reading_makes_no_file(
    journal: Journal, paths: HomePaths
) -> None:
    assert journal.head() is None
    assert journal.recover() is None
    assert journal.check() == 0
    assert list(journal.entries()) == list(journal.newest()) == []
    assert journal.append() == ()
    assert not paths.journal.exists()
    assert not paths.head.exists()


def test_append_returns_the_entries_as_they_stand_in_the_journal(
    journal: Journal, paths: HomePaths
) -> None:
    first, second = journal.append(note(1), note(2))
    (third,) = opened(paths).append(note(3))
    assert [entry.seq for entry in (first, second, third)] == [1, 2, 3]
    assert list(journal.entries()) == [first, second, third]
    assert list(journal.newest()) == [third, second, first]
    assert journal.head() == Head(3, third.start, third.end, third.sha256)
    assert third.end == paths.journal.stat().st_size
    assert (first.home, first.host, first.user, first.kind) == (HOME, HOST, "ada", "committed")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.at)
    assert (first.prev, second.prev, third.prev) == ("0" * 64, first.sha256, second.sha256)


def test_a_line_is_what_the_specification_says(journal: Journal, paths: HomePaths) -> None:
    (entry,) = journal.append(note(1, text="é 日本"))
    (line,) = lines_of(paths)
    keys = ["format", "seq", "at", "home", "host", "user"]
    keys += ["kind", "about", "request", "details", "prev", "sha256"]
    assert list(json.loads(line)) == keys
    assert json.loads(line) == entry.as_json()
    compact = json.dumps(entry.as_json(), ensure_ascii=False, separators=(",", ":"))
    assert line == compact.encode() + b"\n"


def test_sha256sum_gives_the_digest_of_a_line_again(journal: Journal, paths: HomePaths) -> None:
    (entry, _) = journal.append(note(1, text=',"sha256":"'), note(2))
    # As the docstring of modeldrop.journal.lines says it.
    by_hand = """head -1 "$0" | sed 's/,"sha256":"[0-9a-f]*"}$//' | tr -d '\\n' | sha256sum"""
    found = subprocess.run(
        ["sh", "-c", by_hand, paths.journal], check=True, capture_output=True, text=True
    ).stdout
    assert found.split()[0] == entry.sha256


@pytest.mark.parametrize(
    "text",
    ["\n", "\r\n", "\x00\x1b[2J", "\x7f\x85", "\u2028\u2029", '"}\n', ',"sha256":"', "\\", "𐍈", ""],
    ids=repr,
)
def test_any_text_makes_one_line_and_comes_back(
    journal: Journal, paths: HomePaths, text: str
) -> None:
    new = NewEntry(text, (text,), text, {text: [text, {"deep": text}]}, text)
    (written,) = journal.append(new)
    (line,) = lines_of(paths)
    assert line.count(b"\n") == 1
    (found,) = opened(paths).entries()
    assert found == written
    assert (found.kind, found.about, found.details) == (new.kind, new.about, new.details)


UNREADABLE = {
    "surrogate in a text": note(1, text="\udc80"),
    "surrogate in a key": note(1, text={"\ud800": 1}),
    "surrogate in a reference": NewEntry("committed", ("run:\udcff",), "r", {}, "ada"),
    "surrogate in the user": NewEntry("committed", (), "r", {}, "\udcff"),
    "float": note(1, ratio=0.5),
    "no number": note(1, ratio=[{"deep": float("nan")}]),
    "bytes": note(1, raw=b"bytes"),
    "tuple": note(1, pair=(1, 2)),
    "key that is no text": note(1, table={1: "one"}),
    "integer past all bounds": note(1, digits=10**5000),
    # What a careless caller does.
    "kind": NewEntry(7, (), "r", {}, "ada"),  # type: ignore[arg-type] # see above
    "about": NewEntry("committed", (7,), "r", {}, "ada"),  # type: ignore[arg-type] # see above
    "details": NewEntry("committed", (), "r", [], "ada"),  # type: ignore[arg-type] # see above
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_would_not_read_back_is_refused_and_nothing_is_written(
    journal: Journal, paths: HomePaths, what: str
) -> None:
    journal.append(note(0))
    before = paths.journal.read_bytes()
    with pytest.raises(UsageError, match="nothing was written") as caught:
        journal.append(note(1), UNREADABLE[what])
    assert caught.value.hint
    assert paths.journal.read_bytes() == before
    assert journal.append(note(2))[0].seq == 2


def test_nesting_without_end_is_refused(journal: Journal) -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="levels"):
        journal.append(note(1, endless=endless))


def test_what_the_caller_does_to_its_details_afterwards_changes_no_entry(journal: Journal) -> None:
    details = {"tags": ["a"]}
    (written,) = journal.append(note(1, **details))
    details["tags"].append("b")
    assert written.details["tags"] == ["a"]


def test_an_entry_longer_than_every_buffer_is_an_entry_as_any_other(
    journal: Journal, paths: HomePaths
) -> None:
    long = "x" * 3_000_000
    journal.append(note(1), note(2, long=long), note(3))
    assert opened(paths).append(note(4, long=long))[0].seq == 4
    assert numbers(list(journal.entries())) == [1, 2, 3, 4]
    assert numbers(list(journal.newest())) == [4, 3, 2, 1]
    assert next(journal.newest()).details["long"] == long


def test_newest_first_is_oldest_first_reversed_whatever_the_lengths(journal: Journal) -> None:
    # Lengths around the 64 KiB that are read at a time, and many that share them.
    for length in (0, 65_000, 65_536, 200_000, 1, 65_100):
        journal.append(*(note(number, text="x" * length) for number in range(3)))
    journal.append(*(note(number, text="x" * (number * 7 % 1000)) for number in range(900)))
    assert list(journal.newest()) == list(journal.entries())[::-1]


def test_entries_from_where_head_stood_are_those_since(journal: Journal) -> None:
    journal.append(note(1), note(2))
    head = journal.head()
    assert head is not None
    assert list(journal.entries(head.offset, after=head.seq)) == []
    written = journal.append(note(3), note(4))
    assert tuple(journal.entries(head.offset, after=head.seq)) == written
    assert tuple(journal.entries(head.offset)) == tuple(journal.since(head)) == written
    assert tuple(journal.entries(written[1].start)) == written[1:]


def test_entries_from_a_place_that_is_none_are_refused(journal: Journal) -> None:
    first, second = journal.append(note(1), note(2))
    for offset in (1, 80, first.end - 1, first.end + 1, second.end + 1):
        with pytest.raises(JournalDamaged):
            list(journal.entries(offset))
    with pytest.raises(JournalDamaged):
        list(journal.entries(first.end, after=7))


def test_entries_from_beyond_head_are_damage_since_head_never_goes_back(
    journal: Journal, paths: HomePaths
) -> None:
    _, second = journal.append(note(1), note(2))
    set_head(paths, lines_of(paths)[:1], 1)
    with pytest.raises(JournalDamaged):
        list(journal.entries(second.end, after=2))


def test_since_a_head_of_another_past_is_damage(journal: Journal, paths: HomePaths) -> None:
    journal.append(note(1))
    head = journal.head()
    assert head is not None
    paths.journal.unlink()
    paths.head.unlink()
    opened(paths).append(note(5), note(6))
    with pytest.raises(JournalDamaged):
        list(journal.since(head))


def test_threads_of_one_process_share_a_journal(journal: Journal) -> None:
    told: list[tuple[int, object]] = []

    def work(number: int) -> None:
        for each in range(10):
            (entry,) = journal.append(note(number * 100 + each))
            told.append((entry.seq, entry.details["number"]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [(entry.seq, entry.details["number"]) for entry in journal.entries()]
    assert len(told) == 40


def test_a_line_of_a_later_format_is_named_and_never_cut(
    journal: Journal, paths: HomePaths
) -> None:
    first, second = journal.append(note(1), note(2))
    lines = [lines_of(paths)[0], sealed({**second.as_json(), "format": 2, "more": "fields"})]
    paths.journal.write_bytes(b"".join(lines))
    set_head(paths, lines, 2)
    with pytest.raises(NewerFormat, match="format 2") as caught:
        list(journal.entries())
    assert caught.value.exit_code == 2
    # And past HEAD, where its writer died: it is no torn line.
    set_head(paths, lines[:1], 1)
    before = paths.journal.read_bytes()
    with pytest.raises(NewerFormat):
        journal.append(note(3))
    assert paths.journal.read_bytes() == before
    assert list(journal.entries()) == [first]


@pytest.mark.usefixtures("waits_alone")
def test_the_write_order_is_line_then_sync_then_head(
    journal: Journal, paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def record(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            what = arguments[1] if name == "replace" else arguments[0]
            if isinstance(what, int):
                what = os.readlink(f"/proc/self/fd/{what}")
            steps.append(f"{name} {Path(str(what)).name}")
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    def taken() -> list[str]:
        # The temporary file of the durable write has a random name; the lock's writer signs it.
        shown = [re.sub(r"\.tmp-[\w-]+", "temp", step) for step in steps]
        steps.clear()
        return [step for step in shown if step not in {"ftruncate journal", "pwrite journal"}]

    for name in ("write", "pwrite", "fsync", "fdatasync", "replace", "ftruncate"):
        record(name)
    head = ["write temp", "fsync temp", "replace HEAD", "fsync home"]
    # The next HEAD is written beside the line, and takes its place once both are on the disk.
    commit = [
        *("pwrite journal.jsonl", "write temp", "fdatasync journal.jsonl", "fsync temp"),
        *("replace HEAD", "fsync home"),
    ]
    journal.append(note(1), note(2))
    # A HEAD of no line comes first, and with it the file's name: else a crash after the
    # first line would look like a HEAD that is lost.
    assert taken() == [*head, *commit]
    journal.append(note(3))
    assert taken() == commit
    # What is cut is kept first; what is adopted is written again before it is synced. Last comes
    # HEAD's name, for which a writer that died may not have waited.
    with paths.journal.open("ab") as file:
        file.write(b"torn")
    journal.recover()
    cut = taken()
    assert cut[0] == "write temp"
    assert cut[1] == "fsync temp"
    assert cut[2].endswith(".bin")
    ended = ["ftruncate journal.jsonl", "fsync journal.jsonl", "fsync home"]
    assert cut[3:] == ["fsync torn", *ended]


def test_append_and_newest_read_the_tail_only(journal: Journal, paths: HomePaths) -> None:
    journal.append(*(note(number) for number in range(5000)))
    size = paths.journal.stat().st_size
    assert size > 1_500_000
    assert read_by("journal.append(note(1))", paths) < 20_000
    assert read_by("journal.table().insert({'kind': 'noted', 'user': 'ada'})", paths) < 20_000
    assert read_by("len(journal.table())", paths) < 20_000
    assert read_by("next(journal.newest())", paths) < 100_000
    # The measure itself: to read all is to read all.
    assert read_by("journal.check()", paths) >= size


def test_appending_and_reading_load_neither_tinydb_nor_rich(paths: HomePaths) -> None:
    script = """
import sys
from pathlib import Path
from modeldrop.journal import Journal, NewEntry
from modeldrop.layout import HomePaths
journal = Journal(HomePaths(Path(sys.argv[1])), "home", "host")
journal.append(NewEntry("noted", (), "request", {}, "ada"))
list(journal.newest()), journal.check()
print(sorted({"tinydb", "rich", "fsspec"} & set(sys.modules)))
"""
    assert run(script, paths.root) == "[]\n"
