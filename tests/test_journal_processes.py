from __future__ import annotations

import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest

from modeldrop.errors import JournalDamaged, ModeldropError, OutcomeUnknown
from modeldrop.journal import reading
from modeldrop.layout import HomePaths
from support.journals import lines_of, note, numbers, opened, paths_in, run, start

KILLS = 40

# How every process of these tests begins.
BEGIN = """
import contextlib, errno, os, resource, signal, sys
from pathlib import Path
from support.journals import note, opened
from modeldrop.errors import ModeldropError
from modeldrop.layout import HomePaths
paths = HomePaths(Path(sys.argv[1]))
journal = opened(paths)
"""

# Appends until it is killed, from one to three at a time, and says what was acknowledged.
ENDLESS = """
number = int(sys.argv[2])
while True:
    written = journal.append(*(note(number + each) for each in range(number % 3 + 1)))
    os.write(1, b"".join(b"%d %d\\n" % (e.seq, e.details["number"]) for e in written))
    number += len(written)
"""

# Appends sixty when told to, beside others, and says which number each of them was given.
RACER = """
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 60):
    print(journal.append(note(number))[0].seq, number)
"""

# Every call that changes a file is a step, and half of every write is one, too: dies before the
# step of the given number.
MORTAL = """
from modeldrop import disk
steps = int(sys.argv[2])

def step():
    global steps
    steps -= 1
    if steps < 0:
        os.kill(os.getpid(), signal.SIGKILL)

def mortal(where, name):
    real = getattr(where, name)
    def call(first, *rest, **named):
        step()
        if name in ("write", "pwrite"):
            data, *rest = rest
            half = len(data) // 2
            done = real(first, data[:half], *rest)
            step()
            rest = [each + done for each in rest]
            return done + real(first, data[half:], *rest)
        return real(first, *rest, **named)
    setattr(where, name, call)

for name in ("write", "pwrite", "fsync", "fdatasync", "replace", "link", "ftruncate", "unlink"):
    mortal(os, name)
mortal(disk, "sync_whole")
journal.append(note(int(sys.argv[3])))
"""


@pytest.fixture
def paths(tmp_path: Path) -> HomePaths:
    return paths_in(tmp_path / "home")


def told(printed: str) -> dict[int, int]:
    """Return which note got which number, as a process said; kill -9 may cut its last word."""
    whole = printed[: printed.rfind("\n") + 1]
    return {int(seq): int(number) for seq, number in map(str.split, whole.splitlines())}


def in_journal(paths: HomePaths) -> dict[int, object]:
    """Return which note has which number."""
    return {entry.seq: entry.details["number"] for entry in opened(paths).entries()}


def race(paths: HomePaths, script: str) -> list[dict[int, int]]:
    """Run four processes at the same time and return what each was told."""
    racers = [start(script, paths.root, number * 1000) for number in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    answers = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        with racer:
            answers.append(told(racer.communicate(timeout=60)[0]))
    return answers


def is_dense_and_each_its_own(paths: HomePaths, answers: list[dict[int, int]]) -> bool:
    """Return whether all racers together were told 1 … n, and the journal says the same."""
    together = {seq: number for answer in answers for seq, number in answer.items()}
    if sum(map(len, answers)) != 240 or sorted(together) != list(range(1, 241)):
        return False
    try:
        return in_journal(paths) == together
    except JournalDamaged:
        return False


def test_processes_that_append_at_once_get_dense_numbers_each_its_own(paths: HomePaths) -> None:
    answers = race(paths, BEGIN + RACER)
    assert is_dense_and_each_its_own(paths, answers)
    # They did race: somebody else's entries stand between one's own.
    assert any(max(answer) - min(answer) >= 60 for answer in answers)


def test_without_the_lock_the_race_is_lost(paths: HomePaths) -> None:
    unlocked = """
import modeldrop.journal.log
modeldrop.journal.log.hold = lambda *_, **__: contextlib.nullcontext()
sys.stderr = open(os.devnull, "w")
"""
    assert not is_dense_and_each_its_own(paths, race(paths, BEGIN + unlocked + RACER))


@pytest.mark.scenario(38)
def test_killed_at_random_moments_loses_nothing_acknowledged(paths: HomePaths) -> None:
    moments = random.Random(38)
    acknowledged: dict[int, int] = {}
    for kill in range(KILLS):
        with start(BEGIN + ENDLESS, paths.root, kill * 10_000) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            time.sleep(moments.random() * 0.02)
            process.send_signal(signal.SIGKILL)
            acknowledged |= told(first + process.stdout.read())
        assert process.returncode == -signal.SIGKILL
        journal = opened(paths)
        before = journal.check()
        head = journal.recover()
        assert head is not None
        assert head.seq == journal.check() >= before >= max(acknowledged)
    found = in_journal(paths)
    assert {seq: found[seq] for seq in acknowledged} == acknowledged
    assert list(found) == list(range(1, len(found) + 1))
    assert len(set(found.values())) == len(found)


@pytest.mark.scenario(39)
@pytest.mark.parametrize("past_head", ["nothing", "a line and a torn one"])
def test_killed_before_every_step_of_a_commit_leaves_the_acknowledged_past(
    paths: HomePaths, past_head: str
) -> None:
    steps = 0
    known: list[object] = []
    while True:
        if past_head != "nothing":
            head = paths.head.read_bytes() if paths.head.exists() else None
            opened(paths).append(note(-steps - 1))
            known.append(-steps - 1)
            if head:
                paths.head.write_bytes(head)
        torn = b'{"format":1,"seq"' if past_head == "a line and a torn one" else b""
        with paths.journal.open("ab") as file:
            file.write(torn)
        with start(BEGIN + MORTAL, paths.root, steps, steps) as process:
            process.communicate(timeout=60)
        opened(paths).recover()
        found = numbers(list(opened(paths).entries()))
        assert found in (known, [*known, steps])
        known = found
        assert opened(paths).check() == len(known)
        assert all(path.read_bytes().startswith(torn) for path in paths.torn.glob("*.bin"))
        steps += 1
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert known[-1] == steps - 1
    assert steps >= 10


@pytest.mark.scenario(42)
def test_readers_during_thousands_of_commits_see_a_journal_that_only_grows(
    paths: HomePaths,
) -> None:
    # It begins before the first commit, when there is neither HEAD nor journal.
    reader = opened(paths)
    seen = reads = 0
    script = f"""{BEGIN}
for number in range(2000):
    journal.append(note(number))
"""
    with start(script, paths.root) as writer:
        while writer.poll() is None:
            head = reader.head()
            count = reader.check()
            newest = next(reader.newest(), None)
            in_table = len(reader.table().all())
            assert seen <= (head.seq if head else 0) <= count
            assert count <= (newest.seq if newest else 0) <= in_table
            seen = count
            reads += 1
    assert writer.returncode == 0
    assert reader.check() == len(reader.table().all()) == 2000
    assert reads > 20


def test_a_reader_that_looks_between_the_first_head_and_the_first_line_sees_the_journal(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = reading.size_of

    def first_commit_comes_here(path: Path) -> int:
        monkeypatch.undo()
        opened(paths).append(note(1))
        return size(path)

    monkeypatch.setattr(reading, "size_of", first_commit_comes_here)
    head = opened(paths).head()
    assert head is not None
    assert head.seq == 1


@pytest.mark.scenario(41)
def test_a_file_size_limit_is_an_error_and_earlier_lines_stay(paths: HomePaths) -> None:
    script = f"""{BEGIN}
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
number = 0
def attempt(journal):
    try:
        journal.append(note(number))
    except ModeldropError as error:
        print(type(error).__name__, error)
        return False
    return True
while attempt(journal):
    number += 1
attempt(journal)
print(number, journal.check(), len(list(journal.newest())))
# What measures this process writes more than that when it ends.
resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""
    first, again, counts = run(script, paths.root).splitlines()
    assert first.startswith("ModeldropError")
    assert "File too large; it has no entry of this" in first
    # It tries anew: what it wrote before is cut and kept, and the limit is still there.
    assert again == first
    count, checked, newest = map(int, counts.split())
    assert count == checked == newest > 30
    assert opened(paths).append(note(1))[0].seq == count + 1
    assert opened(paths).check() == count + 1
    assert len(list(paths.torn.iterdir())) == 2


@pytest.mark.scenario(41)
def test_a_full_disk_is_an_error_and_nothing_is_recorded(paths: HomePaths) -> None:
    opened(paths).recover()
    paths.journal.symlink_to("/dev/full")
    journal = opened(paths)
    with pytest.raises(ModeldropError, match="No space left on device; it has no entry"):
        journal.append(note(1))
    paths.journal.unlink()
    # There is room again, and the same journal goes on.
    assert journal.append(note(1))[0].seq == 1
    assert journal.check() == 1


@pytest.mark.scenario(41)
@pytest.mark.usefixtures("waits_alone")
def test_after_a_failed_sync_nothing_is_acknowledged_before_it_is_written_again(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(paths)
    journal.append(note(1))
    syncs = []

    def failing(fd: int) -> None:
        syncs.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing)
        with pytest.raises(OutcomeUnknown, match=r"Input/output error; whether .* unknown"):
            journal.append(note(2))
        for work in (lambda: journal.append(note(3)), journal.recover):
            with pytest.raises(OutcomeUnknown, match="Input/output error"):
                work()
        assert len(syncs) == 3
    assert numbers(list(journal.entries())) == numbers(list(journal.newest())) == [1]
    written: list[tuple[int, bytes]] = []
    pwrite = os.pwrite

    def record(fd: int, data: bytes, offset: int) -> int:
        written.append((offset, bytes(data)))
        return pwrite(fd, data, offset)

    end = len(lines_of(paths)[0])
    monkeypatch.setattr(os, "pwrite", record)
    # The lines are there, and their requests can be looked for once what is past HEAD is settled:
    # by the same journal, which writes them once more before it syncs.
    journal.recover()
    assert numbers(list(journal.entries())) == [1, 2, 3]
    assert (end, b"".join(lines_of(paths)[1:])) in written


@pytest.mark.usefixtures("waits_alone")
def test_bytes_that_a_failed_sync_lost_are_no_entry_later(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(paths)
    journal.append(note(1))
    end = paths.journal.stat().st_size

    def failing(fd: int) -> None:
        # What the kernel couldn't write, it may drop, and then the file has what the disk has.
        os.pwrite(fd, bytes(100), end)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", failing)
        with pytest.raises(OutcomeUnknown):
            journal.append(note(2))
    assert journal.append(note(3))[0].seq == 2
    assert numbers(list(journal.entries())) == [1, 3]
    assert len(list(paths.torn.iterdir())) == 1


def test_what_is_adopted_is_written_again_before_it_is_synced(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a failed sync the kernel holds the pages for clean: a sync alone would do nothing.
    opened(paths).append(note(1))
    head = paths.head.read_bytes()
    opened(paths).append(note(2))
    paths.head.write_bytes(head)
    written: list[bytes] = []
    pwrite = os.pwrite

    def record(fd: int, data: bytes, offset: int) -> int:
        written.append(bytes(data))
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", record)
    opened(paths).recover()
    assert written[-1] == lines_of(paths)[1]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.usefixtures("waits_alone")
def test_a_head_that_cannot_be_written_leaves_the_outcome_unknown(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    journal = opened(paths)
    journal.append(note(1))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, failing, fail)
        with pytest.raises(OutcomeUnknown):
            journal.append(note(2))
    # Replaced, it may be seen already; whether that lasts is what is unknown.
    assert journal.check() in {1, 2}
    assert journal.append(note(3))[0].seq == 3
    assert numbers(list(opened(paths).entries())) == [1, 2, 3]
