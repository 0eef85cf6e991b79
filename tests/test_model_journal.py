"""The journal, over random histories: what was acknowledged is there, in order, and nothing else.

Two processes append, one entry or several, alone or as a group; they die before any change of
the file system, the power goes, waits for the disk fail, and bytes of the file are damaged. The
model is the list of what was acknowledged, and what may be there besides.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modeldrop import batch, disk, locks
from modeldrop.errors import IntegrityError, Locked, ModeldropError, OutcomeUnknown, UsageError
from modeldrop.journal import Entry, Journal, NewEntry, log
from modeldrop.journal.group import Waiting
from modeldrop.journal.reading import head_of
from support.behaviours import Plan, is_red, play, play_long
from support.dying import Died, Disk, dying
from support.journals import note, opened, paths_in

# A busy machine takes long, and stops now and then.
pytestmark = pytest.mark.timeout(300)

PLAN: Final = Plan(histories=120, steps=30)
LONG: Final = Plan(histories=3000, steps=60)

PROCESSES: Final = st.integers(0, 1)
LENGTHS: Final = st.lists(st.sampled_from([0, 10, 700]), min_size=1, max_size=3)
LUCK: Final = st.randoms(use_true_random=False)


@dataclass(frozen=True)
class Fate:
    """What an attempt meets: a death before the nth change, or an nth wait that fails."""

    dies: int | None = None
    fails: int | None = None
    power: bool = False
    """Whether the power goes with it: what wasn't waited for may be lost then."""


FATES: Final = st.one_of(
    st.just(Fate()),
    st.just(Fate()),
    st.builds(Fate, dies=st.integers(0, 16), power=st.booleans()),
    st.builds(Fate, fails=st.integers(0, 3)),
)


class Histories(RuleBasedStateMachine):
    """One journal, and two processes that have it open."""

    def __init__(self) -> None:
        """Begin with a home without a journal."""
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.paths = paths_in(self.root / "home")
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk(self.paths.root, self.patch)
        # Whoever is locked out is told at once.
        self.patch.setattr(locks, "_LEAST_TIMEOUT", 0.0)
        self.patch.setattr(log, "hold", functools.partial(vars(log)["hold"], timeout=0.0))
        self.acknowledged: list[Entry] = []
        self.lasting = 0
        """How many of them a loss of power leaves; the others are seen, and nobody was told."""
        self.doubtful: list[Sequence[NewEntry | Entry]] = []
        """What each attempt was at whose end is unknown, oldest first."""
        self.number = 0
        self.processes = [opened(self.paths), opened(self.paths)]
        self.readers: list[tuple[Iterator[Entry], list[Entry]]] = []

    @initialize(together=st.booleans())
    def begin(self, together: bool) -> None:
        """Have files waited for by one call, or each by itself."""
        self.patch.setattr(disk, "syncs_whole", lambda _: together)
        self.patch.setattr(batch, "_unwritten", lambda: 0)

    def teardown(self) -> None:
        self.patch.undo()
        self.disk.close()
        shutil.rmtree(self.root)

    def news(self, lengths: Sequence[int]) -> list[NewEntry]:
        """Return entries that nobody has written yet."""
        self.number += len(lengths)
        first = self.number - len(lengths)
        return [note(first + at, text="x" * length) for at, length in enumerate(lengths)]

    # What processes do

    @rule(by=PROCESSES, lengths=LENGTHS, fate=FATES, luck=LUCK)
    def append(self, by: int, lengths: list[int], fate: Fate, luck: random.Random) -> None:
        """Append entries in one commit."""
        new = self.news(lengths)
        written: tuple[Entry, ...] | None = None
        with self.meeting(by, fate, luck, [new]):
            written = self.processes[by].append(*new)
        self.take_note([new] if written else [])
        if written:
            assert self.acknowledged[-len(written) :] == list(written)

    @rule(by=PROCESSES, groups=st.lists(LENGTHS, min_size=2, max_size=3), fate=FATES, luck=LUCK)
    def append_as_a_group(
        self, by: int, groups: list[list[int]], fate: Fate, luck: random.Random
    ) -> None:
        """Append what several threads have, and what one of them has that can't be written down."""
        waiting = [Waiting(tuple(self.news(lengths))) for lengths in groups]
        bad = Waiting((note(-1), note(-1, ratio=0.5)))
        with self.meeting(by, fate, luck, [each.entries for each in waiting]) as lived:
            self.processes[by]._commit_all([waiting[0], bad, *waiting[1:]])
        if lived:
            assert isinstance(bad.error, UsageError)
            for each in waiting:
                if each.error is not None and isinstance(each.error, OutcomeUnknown):
                    self.doubtful.append(each.entries)
        is_done = [each for each in waiting if lived and each.error is None]
        self.take_note([each.entries for each in is_done])
        expected = [entry for each in is_done for entry in each.written]
        if expected:
            assert self.acknowledged[-len(expected) :] == expected

    @rule(by=PROCESSES, fate=FATES, luck=LUCK, power=st.booleans())
    def recover(self, by: int, fate: Fate, luck: random.Random, power: bool) -> None:
        """Settle what is left past HEAD, and perhaps lose the power right after that."""
        with self.meeting(by, fate, luck, []) as lived:
            self.processes[by].recover()
        self.take_note([])
        if lived:
            # Whatever isn't there now never will be, and what is there lasts.
            self.doubtful.clear()
            self.lasting = len(self.acknowledged)
        if lived and power:
            self.lose_power(luck)

    @rule(by=PROCESSES, lengths=LENGTHS, at=st.integers(0, 14))
    def append_while_another_one_does(self, by: int, lengths: list[int], at: int) -> None:
        """Have the other process come in the middle, to append and to read."""
        mine, others = self.news(lengths), self.news([5])
        other = self.processes[1 - by]

        def come_in() -> None:
            seen = list(other.entries())
            assert seen[: len(self.acknowledged)] == self.acknowledged
            with contextlib.suppress(Locked):
                written = other.append(*others)
                self.take_note([others])
                assert tuple(self.acknowledged[-1:]) == written

        with dying(at, instead=come_in):
            written = self.processes[by].append(*mine)
        self.take_note([mine])
        assert self.acknowledged[-len(written) :] == list(written)

    @rule(luck=LUCK)
    def lose_power(self, luck: random.Random) -> None:
        """Have the power go while nobody writes."""
        self.power_goes(luck)
        self.take_note([])
        self.lasting = len(self.acknowledged)

    # What readers do

    @rule(by=PROCESSES, at=st.integers(0, 10_000))
    def read_from(self, by: int, at: int) -> None:
        """Read from a place that was acknowledged on, in every way."""
        journal, every = self.processes[by], self.acknowledged
        at %= len(every) + 1
        rest = every[at:]
        if at:
            before = every[at - 1]
            assert list(journal.since(head_of(before))) == rest
            assert list(journal.entries(before.end, after=before.seq)) == rest
            assert list(journal.entries(before.end)) == rest
            with pytest.raises(IntegrityError):
                list(journal.entries(before.end - 1))
        newest = journal.newest()
        assert [next(newest) for _ in rest] == rest[::-1]

    @rule(by=PROCESSES)
    def begin_to_read(self, by: int) -> None:
        """Read one entry, and the rest when others have appended."""
        reader = self.processes[by].entries()
        first = [next(reader)] if self.acknowledged else []
        if first:
            assert first == self.acknowledged[:1]
            self.readers.append((reader, self.acknowledged[1:]))

    @precondition(lambda self: self.readers)
    @rule()
    def read_on(self) -> None:
        """Read what was acknowledged when the reading began."""
        reader, rest = self.readers.pop()
        assert list(reader) == rest

    @precondition(lambda self: self.acknowledged)
    @rule(by=PROCESSES, luck=LUCK, how=st.sampled_from(["flip", "cut", "drop", "swap", "head"]))
    def damage(self, by: int, luck: random.Random, how: str) -> None:
        """Have bytes below HEAD be others, be told of it, and have them as they were again."""
        path = self.paths.head if how == "head" else self.paths.journal
        whole = path.read_bytes()
        path.write_bytes(self.damaged(whole, how, luck))
        if path.read_bytes() != whole:
            self.is_told(self.processes[by])
        path.write_bytes(whole)

    def damaged(self, whole: bytes, how: str, luck: random.Random) -> bytes:
        """Return bytes with one fault among those that HEAD covers."""
        covered = whole if how == "head" else whole[: self.end]
        at = luck.randrange(len(covered))
        if how in {"flip", "head"}:
            flipped = covered[at] ^ (1 << luck.randrange(8))
            return whole[:at] + bytes([flipped]) + whole[at + 1 :]
        if how == "cut":
            return whole[:at]
        lines = covered.splitlines(keepends=True)
        one, other = (luck.randrange(len(lines)) for _ in range(2))
        if how == "drop":
            del lines[one]
        else:
            lines[one], lines[other] = lines[other], lines[one]
        return b"".join(lines) + whole[self.end :]

    def is_told(self, journal: Journal) -> None:
        """Assert that who reads the damaged journal is told, after what is before the damage."""
        for read, every in (
            (journal.entries, self.acknowledged),
            (journal.newest, self.acknowledged[::-1]),
        ):
            seen: list[Entry] = []
            with pytest.raises(IntegrityError) as caught:
                seen.extend(read())
            assert seen == every[: len(seen)]
            assert caught.value.hint
            assert isinstance(caught.value.detail["offset"], int)
        with pytest.raises(IntegrityError):
            journal.check()

    # What holds

    @invariant()
    def every_view_is_the_model(self) -> None:
        """Both processes see what was acknowledged, all of it, in order, and nothing else."""
        for each in self.processes:
            assert list(each.entries()) == self.acknowledged
            table = each.table()
            assert len(table) == len(self.acknowledged)
            assert table.all() == [entry.as_json() for entry in self.acknowledged]
            last = self.acknowledged[-1] if self.acknowledged else None
            assert each.head() == (head_of(last) if last else None)

    # The model

    @property
    def end(self) -> int:
        """Where the last acknowledged entry ends in the file."""
        return self.acknowledged[-1].end if self.acknowledged else 0

    @contextlib.contextmanager
    def meeting(
        self, by: int, fate: Fate, luck: random.Random, at: Sequence[Sequence[NewEntry]]
    ) -> Iterator[list[bool]]:
        """Have a process meet its fate; the list that it gets has something in it if it lived."""
        lived: list[bool] = []
        try:
            with self.disk.failing(fate.fails), dying(fate.dies):
                yield lived
            lived.append(True)
        except Died:
            self.doubtful += at
            self.processes[by] = opened(self.paths)
            if fate.power:
                self.power_goes(luck)
        except OutcomeUnknown:
            self.doubtful += at
        except ModeldropError:
            # It says that there is none of it, so there never will be.
            if fate.fails is None:
                raise

    def power_goes(self, luck: random.Random) -> None:
        """Have both processes end, and the disk forget what they haven't waited for."""
        self.readers.clear()
        self.doubtful.insert(0, self.acknowledged[self.lasting :])
        del self.acknowledged[self.lasting :]
        self.disk.lose(luck)
        self.processes = [opened(self.paths), opened(self.paths)]

    def take_note(self, done: Sequence[Sequence[NewEntry]]) -> None:
        """Take what is to be seen for acknowledged, if it can be: all that was, and then `done`.

        In between there may be what was in doubt, in its order; of one attempt only the first few.
        """
        seen = list(self.processes[0].entries())
        assert seen[: len(self.acknowledged)] == self.acknowledged
        new = seen[len(self.acknowledged) :]
        asked = [entry.request for entries in done for entry in entries]
        rest = [entry.request for entry in new]
        assert rest[len(rest) - len(asked) :] == asked
        adopted = rest[: len(rest) - len(asked)]
        for at, entries in enumerate(self.doubtful):
            count = 0
            while adopted and count < len(entries) and adopted[0] == entries[count].request:
                del adopted[0]
                count += 1
            if count and not adopted:
                # What was begun before it, and isn't there, was cut.
                self.doubtful = self.doubtful[at + 1 :]
                break
        assert not adopted, "an entry that nobody was at, or twice"
        self.acknowledged = seen
        if done:
            self.doubtful.clear()
            self.lasting = len(seen)


@pytest.mark.slow
def test_whatever_happens_the_journal_is_what_was_acknowledged() -> None:
    play(Histories, PLAN)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_same_for_a_long_time() -> None:
    play_long(Histories, LONG)


def test_without_the_lock_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "hold", lambda *_, **__: contextlib.nullcontext())
    is_red(Histories, PLAN, ModeldropError)


def test_without_waiting_for_lines_before_head_names_them_it_is_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch.Batch, "_wait", lambda *_: None)
    is_red(Histories, PLAN, ModeldropError)


class Losses(Histories):
    """What is lost and recovered alone, for what is hard to find among all the rest."""

    append_as_a_group = append_while_another_one_does = damage = None  # type: ignore[assignment]
    read_from = begin_to_read = read_on = None  # type: ignore[assignment]


def test_if_recovering_does_not_wait_for_heads_name_it_is_red(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Journal, "_confirm", lambda _: None)
    is_red(Losses, PLAN)


def test_if_a_failed_wait_is_acknowledged_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Journal._commit

    def commit_whatever_fails(self: Journal, *arguments: object) -> None:
        commit(self, *arguments)  # type: ignore[arg-type] # whatever they are

    monkeypatch.setattr(Journal, "_commit", commit_whatever_fails)
    is_red(Histories, PLAN, ModeldropError)
