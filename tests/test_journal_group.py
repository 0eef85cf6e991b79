"""Threads that append at once: one commit for all of them, and to each its own answer."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop.errors import JournalDamaged, ModeldropError, OutcomeUnknown, UsageError
from modeldrop.journal import Entry, Journal
from modeldrop.layout import HomePaths
from support.journals import note, numbers, opened, paths_in, start
from support.waiting import comes_true

pytestmark = pytest.mark.usefixtures("waits_alone")

THREADS = 16


@pytest.fixture
def paths(tmp_path: Path) -> HomePaths:
    return paths_in(tmp_path / "home")


def at_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, release: Callable[[], None] = lambda: None
) -> list[Future[tuple[Entry, ...]]]:
    """Append from sixteen threads while a first commit holds the disk; return what became of each.

    The first is note 0, and the others are all waiting when its sync goes on.
    """
    real, held, go = os.fdatasync, threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        held.set()
        assert go.wait(20)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    with ThreadPoolExecutor(THREADS + 1) as pool:
        first = pool.submit(journal.append, note(0))
        assert held.wait(20)
        others = [pool.submit(journal.append, note(each)) for each in range(1, THREADS + 1)]
        assert comes_true(lambda: len(journal._group._queue) == THREADS)
        monkeypatch.setattr(os, "fdatasync", real)
        release()
        go.set()
    assert first.result()[0].seq == 1
    return others


def test_threads_that_append_at_once_share_one_wait_for_the_disk(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, syncs, real = opened(paths), [], os.fdatasync

    def counted(fd: int) -> None:
        syncs.append(fd)
        real(fd)

    others = at_once(journal, monkeypatch, lambda: monkeypatch.setattr(os, "fdatasync", counted))

    assert len(syncs) == 1
    # Dense and chained, as a fresh reader finds them, and each caller was told its own.
    entries = list(opened(paths).entries())
    assert [entry.seq for entry in entries] == list(range(1, THREADS + 2))
    assert sorted(map(int, map(str, numbers(entries)))) == list(range(THREADS + 1))
    for number, other in enumerate(others, 1):
        (entry,) = other.result()
        assert entry.details["number"] == number
        assert entry == entries[entry.seq - 1]


def test_every_answer_comes_after_a_head_that_covers_it(paths: HomePaths) -> None:
    journal = opened(paths)

    def append(first: int) -> None:
        for number in range(first, first + 20):
            (entry,) = journal.append(note(number))
            head = opened(paths).head()
            assert head is not None
            assert head.offset >= entry.end

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(append, range(0, THREADS * 100, 100)))

    assert journal.check() == THREADS * 20


def test_a_sync_that_fails_is_unknown_to_every_one_of_the_group(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(paths)

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    others = at_once(journal, monkeypatch, lambda: monkeypatch.setattr(os, "fdatasync", failing))

    errors = [other.exception() for other in others]
    assert all(type(error) is OutcomeUnknown for error in errors)
    assert len(set(map(id, errors))) == THREADS
    assert [entry.seq for entry in journal.entries()] == [1]
    monkeypatch.undo()
    # The journal goes on, and has what it adopts.
    assert journal.append(note(99))[0].seq == THREADS + 2
    assert journal.check() == THREADS + 2


def test_a_disk_that_is_full_names_those_whose_entry_is_not_in_the_journal(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, real = opened(paths), os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        monkeypatch.setattr(os, "pwrite", fails)
        return real(fd, data[:1500], offset)

    def fails(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    others = at_once(journal, monkeypatch, lambda: monkeypatch.setattr(os, "pwrite", full))
    monkeypatch.undo()

    kinds = [type(other.exception()) for other in others]
    assert set(kinds) == {OutcomeUnknown, ModeldropError}
    journal.recover()
    there = set(numbers(list(journal.entries())))
    # Who was told "no entry" has none.
    assert not there & {each for each, kind in enumerate(kinds, 1) if kind is ModeldropError}


def test_what_is_wrong_with_the_journal_reaches_every_one(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(paths)
    others = at_once(
        journal, monkeypatch, lambda: monkeypatch.setattr(Journal, "_settle", _damaged)
    )
    errors = [other.exception() for other in others]
    assert all(type(error) is JournalDamaged for error in errors)
    assert len(set(map(id, errors))) == THREADS


def _damaged(*_: object) -> None:
    message = "damaged at byte 7"
    raise JournalDamaged(message, detail={"offset": 7})


def test_an_entry_that_cannot_be_written_down_fails_its_own_caller_alone(
    paths: HomePaths,
) -> None:
    journal = opened(paths)

    def append(number: int) -> int:
        if number % 4:
            return journal.append(note(number))[0].seq
        with pytest.raises(UsageError):
            journal.append(note(number), note(number, share=0.5))
        return 0

    with ThreadPoolExecutor(THREADS) as pool:
        given = list(pool.map(append, range(THREADS * 10)))

    told = sorted(filter(None, given))
    assert told == list(range(1, THREADS * 10 * 3 // 4 + 1))
    assert journal.check() == len(told)


def test_a_leader_that_is_interrupted_leaves_the_others_unknown_and_the_journal_usable(
    paths: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(paths)

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    others = at_once(
        journal, monkeypatch, lambda: monkeypatch.setattr(os, "fdatasync", interrupted)
    )
    monkeypatch.undo()

    kinds = [type(other.exception()) for other in others]
    assert kinds.count(KeyboardInterrupt) == 1
    assert kinds.count(OutcomeUnknown) == THREADS - 1
    assert journal.append(note(99))[0].details["number"] == 99


def test_killed_while_it_leads_keeps_what_was_acknowledged(paths: HomePaths) -> None:
    script = """
import os, sys, threading
from pathlib import Path
from support.journals import note, opened
from modeldrop.layout import HomePaths
journal = opened(HomePaths(Path(sys.argv[1])))
def append(first):
    for number in range(first, first + 100000):
        (entry,) = journal.append(note(number))
        os.write(1, b"%d %d\\n" % (entry.seq, number))
for thread in range(16):
    threading.Thread(target=append, args=(thread * 100000,)).start()
"""
    for round_ in range(5):
        with start(script, paths.root) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(50 + 31 * round_)]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.readlines()
        told = [line.split() for line in lines if line.endswith("\n")]
        journal = opened(paths)
        journal.recover()
        there = {entry.seq: entry.details["number"] for entry in journal.entries()}
        assert list(there) == list(range(1, len(there) + 1))
        assert all(there[int(seq)] == int(number) for seq, number in told)
