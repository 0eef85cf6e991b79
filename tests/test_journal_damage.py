from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop.errors import IntegrityError, JournalDamaged, RecordDamaged
from modeldrop.form import Json
from modeldrop.journal import Entry, Journal
from modeldrop.journal.lines import SEAL_SIZE, NotALine, seal_of
from modeldrop.journal.reading import check_last_line
from modeldrop.layout import HomePaths
from modeldrop.records import Head
from modeldrop.structs import replace
from support.journals import (
    lines_of,
    note,
    numbers,
    opened,
    paths_in,
    sealed,
    sealed_bytes,
    set_head,
)

READ_ALL: dict[str, Callable[[Journal], object]] = {
    "check": Journal.check,
    "newest": lambda journal: list(journal.newest()),
    "table": lambda journal: journal.table().all(),
}
WRITE: dict[str, Callable[[Journal], object]] = {
    "append": lambda journal: journal.append(note(99)),
    "recover": Journal.recover,
}


@pytest.fixture
def paths(tmp_path: Path) -> HomePaths:
    made = paths_in(tmp_path / "home")
    journal = opened(made)
    journal.append(note(1))
    journal.append(note(2), note(3))
    return made


def offset_of(error: IntegrityError) -> int:
    """Return the offset that the error names, in its message and for programs."""
    offset = error.detail["offset"]
    assert isinstance(offset, int)
    assert f"byte {offset}" in error.message
    assert error.exit_code == 20
    assert error.hint
    return offset


def damage_seen(work: Callable[[Journal], object], paths: HomePaths) -> int:
    """Return the offset that this work names as damaged; it mustn't do anything else."""
    with pytest.raises((JournalDamaged, RecordDamaged)) as caught:
        work(opened(paths))
    return offset_of(caught.value)


def test_every_flipped_bit_is_named_by_the_start_of_its_line(paths: HomePaths) -> None:
    whole = paths.journal.read_bytes()
    starts = [entry.start for entry in opened(paths).entries()]
    with paths.journal.open("r+b", buffering=0) as file:
        for at, byte in enumerate(whole):
            line = max(start for start in starts if start <= at)
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), at)
                assert damage_seen(Journal.check, paths) == line
                # The other ways to read see the same; one bit of each byte is enough of them.
                if bit == at % 8:
                    assert damage_seen(READ_ALL["newest"], paths) == line
                    assert damage_seen(READ_ALL["table"], paths) == line
                    # To write, the last line is checked, and the newline that it begins after.
                    if at >= starts[-1] - 1:
                        assert damage_seen(WRITE["append"], paths) == line
            os.pwrite(file.fileno(), bytes([byte]), at)
    assert opened(paths).check() == 3


def test_every_flipped_bit_of_head_is_damage(paths: HomePaths) -> None:
    whole = paths.head.read_bytes()
    for at, byte in enumerate(whole):
        for bit in range(8):
            paths.head.write_bytes(whole[:at] + bytes([byte ^ 1 << bit]) + whole[at + 1 :])
            assert damage_seen(Journal.head, paths) == 0
        for work in (*READ_ALL.values(), *WRITE.values()):
            assert damage_seen(work, paths) == 0
    paths.head.write_bytes(whole)
    assert opened(paths).check() == 3


def test_head_cut_anywhere_is_damage(paths: HomePaths) -> None:
    whole = paths.head.read_bytes()
    for size in range(len(whole)):
        paths.head.write_bytes(whole[:size])
        for work in (*READ_ALL.values(), *WRITE.values()):
            assert damage_seen(work, paths) == 0


def test_a_journal_cut_below_head_is_damage(paths: HomePaths) -> None:
    whole = paths.journal.read_bytes()
    starts = [entry.start for entry in opened(paths).entries()]
    for size in range(len(whole)):
        paths.journal.write_bytes(whole[:size])
        line = max(start for start in starts if start <= size)
        assert damage_seen(Journal.check, paths) == line
        if size % 4 == 0 or size == line:
            for work in (READ_ALL["newest"], READ_ALL["table"], *WRITE.values()):
                assert damage_seen(work, paths) == line
        assert paths.journal.read_bytes() == whole[:size]


def test_the_entries_before_the_damage_are_still_read(paths: HomePaths) -> None:
    whole = bytearray(paths.journal.read_bytes())
    third = list(opened(paths).entries())[2]
    whole[third.start + 40] ^= 4
    paths.journal.write_bytes(whole)
    read: list[Entry] = []
    with pytest.raises(JournalDamaged) as caught:
        read.extend(opened(paths).entries())
    assert offset_of(caught.value) == third.start
    assert numbers(read) == [1, 2]


@pytest.mark.scenario(40)
def test_the_file_cut_anywhere_past_head_leaves_the_complete_prefix_and_the_cut_bytes(
    paths: HomePaths,
) -> None:
    old = paths.head.read_bytes()
    head = opened(paths).head()
    assert head is not None
    opened(paths).append(note(4), note(5))
    whole = paths.journal.read_bytes()
    ends = [entry.end for entry in opened(paths).entries()]
    for size in range(head.offset, len(whole) + 1):
        paths.head.write_bytes(old)
        paths.journal.write_bytes(whole[:size])
        journal = opened(paths)
        assert journal.check() == 3  # a reader sees what was acknowledged, before and after
        end = max(end for end in ends if end <= size)
        journal.recover()
        assert paths.journal.read_bytes() == whole[:end]
        assert journal.check() == ends.index(end) + 1
        kept = list(paths.torn.iterdir())
        if end == size:
            assert kept == []
        else:
            assert [path.read_bytes() for path in kept] == [whole[end:size]]
            assert kept[0].name.endswith(f"Z-{end}.bin")
            kept[0].unlink()
        if size % 50 == 0 or size == end:
            assert journal.append(note(6))[0].seq == ends.index(end) + 2
            assert journal.check() == ends.index(end) + 2


def test_append_settles_what_is_past_head_as_recover_does(paths: HomePaths) -> None:
    old = paths.head.read_bytes()
    opened(paths).append(note(4))
    paths.head.write_bytes(old)
    with paths.journal.open("ab") as file:
        file.write(b'{"format":1,"seq":5,"at"')
    assert opened(paths).append(note(5))[0].seq == 5
    assert numbers(list(opened(paths).entries())) == [1, 2, 3, 4, 5]
    assert [path.read_bytes() for path in paths.torn.iterdir()] == [b'{"format":1,"seq":5,"at"']


@pytest.mark.parametrize("torn", ["noise", "line 1", "line 3", "changed"])
def test_what_does_not_chain_past_head_is_cut_and_kept(paths: HomePaths, torn: str) -> None:
    lines = lines_of(paths)
    noise = random.Random(7).randbytes(5000)
    changed = lines[2].replace(b'"number":3', b'"number":4')
    added = {"noise": noise, "line 1": lines[0], "line 3": lines[2], "changed": changed}[torn]
    with paths.journal.open("ab") as file:
        file.write(added)
    assert opened(paths).append(note(4))[0].seq == 4
    assert numbers(list(opened(paths).entries())) == [1, 2, 3, 4]
    assert [path.read_bytes() for path in paths.torn.iterdir()] == [added]


@pytest.mark.parametrize("adjusted", [False, True], ids=["head as it was", "head adjusted"])
@pytest.mark.parametrize(
    ("order", "first_wrong"),
    [
        ([1, 2], 0),
        ([0, 2], 1),
        ([0, 0, 1, 2], 1),
        ([0, 1, 1, 2], 2),
        ([1, 0, 2], 0),
        ([0, 2, 1], 1),
        ([2, 1, 0], 0),
    ],
    ids=str,
)
def test_lines_dropped_doubled_or_swapped_are_named(
    paths: HomePaths, order: list[int], first_wrong: int, *, adjusted: bool
) -> None:
    lines = lines_of(paths)
    changed = [lines[number] for number in order]
    paths.journal.write_bytes(b"".join(changed))
    if adjusted:
        last = [1, 2, 3][order[-1]]
        set_head(paths, changed, last)
    for work in READ_ALL.values():
        assert damage_seen(work, paths) == sum(map(len, changed[:first_wrong]))


def test_a_line_changed_together_with_its_digest_is_named(paths: HomePaths) -> None:
    lines = lines_of(paths)
    fields = list(opened(paths).entries())[1].as_json()
    lines[1] = sealed({**fields, "user": "eve"})
    assert len(lines[1]) == len(lines_of(paths)[1])
    paths.journal.write_bytes(b"".join(lines))
    for work in READ_ALL.values():
        assert damage_seen(work, paths) == len(lines[0])
    middle = len(lines[0] + lines[1])
    assert damage_seen(lambda journal: list(journal.entries(middle)), paths) == len(lines[0])


def test_an_acknowledged_last_line_that_is_gone_is_damage_not_a_shorter_journal(
    paths: HomePaths,
) -> None:
    lines = lines_of(paths)
    paths.journal.write_bytes(b"".join(lines[:2]))
    for work in (*READ_ALL.values(), *WRITE.values()):
        assert damage_seen(work, paths) == len(lines[0]) + len(lines[1])


def test_a_missing_head_beside_lines_is_damage(paths: HomePaths) -> None:
    paths.head.unlink()
    for work in (Journal.head, *READ_ALL.values(), *WRITE.values()):
        assert damage_seen(work, paths) == 0


@pytest.mark.parametrize("lost", ["missing", "empty"])
def test_a_missing_journal_beside_head_is_damage(paths: HomePaths, lost: str) -> None:
    paths.journal.unlink()
    if lost == "empty":
        paths.journal.touch()
    for work in (*READ_ALL.values(), *WRITE.values()):
        assert damage_seen(work, paths) == 0


def test_the_head_of_another_journal_is_damage(paths: HomePaths, tmp_path: Path) -> None:
    other = paths_in(tmp_path / "other")
    opened(other).append(note(1))
    opened(other).append(note(2), note(3))
    paths.head.write_bytes(other.head.read_bytes())
    last = len(lines_of(paths)[0] + lines_of(paths)[1])
    for work in (*READ_ALL.values(), WRITE["append"]):
        assert damage_seen(work, paths) == last


@pytest.mark.parametrize(
    "head",
    [
        Head(3, 5, 5, "0" * 64),
        Head(-1, 0, 9, "0" * 64),
        Head(0, 0, 9, "0" * 64),
        Head(1, -5, 9, ""),
    ],
    ids=str,
)
def test_a_whole_head_that_cannot_be_is_damage(paths: HomePaths, head: Head) -> None:
    paths.head.write_bytes(head.to_bytes())
    for work in (Journal.head, *READ_ALL.values(), *WRITE.values()):
        assert damage_seen(work, paths) == 0


@pytest.mark.parametrize(
    "body",
    [
        b'[1,2,{"x":1',
        b'{"seq":1',
        b'{"format":true',
        b'{"format":1,"seq":1',
        b'{"format":1,"format":1',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_line_with_the_right_digest_that_is_no_entry_is_damage(
    paths: HomePaths, body: bytes
) -> None:

    line = sealed_bytes(body)
    paths.journal.write_bytes(line)
    set_head(paths, [line], 1)
    for work in (*READ_ALL.values(), WRITE["append"]):
        assert damage_seen(work, paths) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("seq", True), ("about", [1]), ("about", "churn/1"), ("details", "text"), ("user", None)],
    ids=str,
)
def test_a_line_with_a_field_of_another_type_is_damage(
    paths: HomePaths, key: str, value: Json
) -> None:

    fields = next(opened(paths).entries()).as_json()
    fields[key] = value
    paths.journal.write_bytes(sealed(fields))
    set_head(paths, [sealed(fields)], 1)
    for work in (*READ_ALL.values(), WRITE["append"]):
        assert damage_seen(work, paths) == 0


def test_no_digest_is_taken_from_where_no_line_ends(paths: HomePaths) -> None:
    line = lines_of(paths)[0]
    assert seal_of(line) == seal_of(line[-SEAL_SIZE:])

    # All of the seal but the digest itself, which is what is asked for.
    for at in (*range(-SEAL_SIZE, -67), *range(-3, 0)):
        other = bytearray(line)
        other[at] ^= 1
        with pytest.raises(NotALine):
            seal_of(bytes(other))


def test_a_last_line_that_is_not_the_one_of_head_is_damage(paths: HomePaths) -> None:
    head = opened(paths).head()
    assert head is not None
    other = replace(head, sha256="0" * 64)
    with paths.journal.open("rb") as file:
        check_last_line(paths.journal, file.fileno(), head)
        with pytest.raises(JournalDamaged, match="isn't the last one, as HEAD has it"):
            check_last_line(paths.journal, file.fileno(), other)
