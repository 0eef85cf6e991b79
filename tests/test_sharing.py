"""Journals of many homes through one backend: pushed, fetched, and never changed unseen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository, sync
from modeldrop.errors import (
    BackendError,
    ConfigError,
    Conflict,
    IntegrityError,
    JournalChanged,
    JournalDamaged,
    JournalForked,
    ModeldropError,
    NotFound,
)
from modeldrop.journal import Copies, segments
from modeldrop.journal.reading import EMPTY
from modeldrop.layout import journal_segment, journal_segments, numbered, versions
from modeldrop.structs import replace
from modeldrop.sync import FetchedJournal, Pushed
from support import sharing
from support.children import dies, run, together
from support.sharing import (
    clone,
    fetch,
    host,
    note,
    push,
    pushed,
    rewritten,
    seen,
    segments_of,
    store,
)
from support.stores import Counting, Faulty, set_backend, unmount


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def ada(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    with host(tmp_path / "ada/.mlops", str(backend)) as made:
        yield made


@pytest.fixture
def bob(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    with host(tmp_path / "bob/.mlops", str(backend)) as made:
        yield made


def journal_of(repository: Repository) -> bytes:
    """Return the bytes of a home's own journal."""
    return repository.home.paths.journal.read_bytes()


def trouble(repository: Repository) -> ModeldropError:
    """Return what a fetch says of the one journal that something is wrong with."""
    (found,) = [each.trouble for each in repository.fetch() if each.trouble is not None]
    return found


def settle(repository: Repository) -> None:
    """Begin: share what making the home put down."""
    repository.push()


# Pushing


def test_segments_at_the_backend_are_the_journal_byte_for_byte(
    ada: Repository, backend: Path
) -> None:
    assert ada.push().segments == 1
    store(ada, "one")
    store(ada, "two")

    assert ada.push() == Pushed(entries=4, segments=1, seq=5)
    found = segments_of(ada, backend)

    assert [path.name for path in found] == ["00000001.jsonl", "00000002.jsonl"]
    assert b"".join(path.read_bytes() for path in found) == journal_of(ada)


def test_push_with_nothing_new_asks_the_backend_nothing(ada: Repository, backend: Path) -> None:
    settle(ada)
    with Repository.open(ada.home.paths.root) as again:
        counting = Counting(backend)
        set_backend(again, counting)
        again.__dict__["_checked"] = True
        before = sum(counting.asked.values())

        assert again.push().entries == 0
        assert sum(counting.asked.values()) == before


def test_segment_ends_with_the_last_whole_line_within_its_size(
    ada: Repository, backend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(ada, *(f"{number:05}" for number in range(50)), "x" * 5000, "last")
    monkeypatch.setattr(segments, "MOST", 2048)

    told = ada.push()

    found = [path.read_bytes() for path in segments_of(ada, backend)]
    assert told.segments == len(found) > 10
    assert b"".join(found) == journal_of(ada)
    assert all(data.endswith(b"\n") for data in found)
    assert [data.count(b"\n") for data in found if len(data) > 2048] == [1]
    firsts = [int(path.stem) for path in segments_of(ada, backend)]
    lines = [data.count(b"\n") for data in found]
    assert firsts == [1 + sum(lines[:before]) for before in range(len(lines))]


def test_what_head_does_not_cover_is_not_shared(ada: Repository, backend: Path) -> None:
    settle(ada)
    note(ada, "acknowledged")
    head, journal = ada.home.paths.head.read_bytes(), journal_of(ada)
    note(ada, "not acknowledged")
    ada.home.paths.head.write_bytes(head)

    assert ada.push().entries == 1
    assert b"".join(path.read_bytes() for path in segments_of(ada, backend)) == journal
    assert ada.push().entries == 0


@pytest.mark.parametrize("fault", ["lost", "dropped", "error", "exists"])
def test_push_whose_answer_is_lost_shares_each_line_once(
    ada: Repository, backend: Path, fault: str
) -> None:
    settle(ada)
    note(ada, "one", "two")
    set_backend(ada, Faulty(backend, fault, only="/journals/"))
    ada.__dict__.pop("sync", None)

    # Absent afterwards is unknown: said, and for the next one to find out.
    if fault == "lost":
        with pytest.raises(BackendError):
            ada.push()
    ada.push()

    found = b"".join(path.read_bytes() for path in segments_of(ada, backend))
    assert found == journal_of(ada)


def test_push_goes_on_from_what_is_at_the_backend_where_its_own_note_is_gone(
    ada: Repository, backend: Path
) -> None:
    settle(ada)
    note(ada, "one")
    ada.push()
    note(ada, "two")
    for damage in (b"", b"{}", None):
        if damage is None:
            ada.home.paths.pushed.unlink()
        else:
            ada.home.paths.pushed.write_bytes(damage)
        ada.push()
        assert pushed(ada).seq == 3
    assert b"".join(path.read_bytes() for path in segments_of(ada, backend)) == journal_of(ada)


@pytest.mark.parametrize("lost", [(0,), (1, 2), (3,), (0, 1, 2, 3)])
def test_segments_that_a_backend_lost_are_shared_again_when_all_are_looked_at(
    ada: Repository, bob: Repository, backend: Path, lost: tuple[int, ...]
) -> None:
    settle(ada)
    for entry in range(3):
        note(ada, f"entry {entry}", "another")
        ada.push()
    bob.fetch()
    before = segments_of(ada, backend)
    for number in lost:
        before[number].unlink()

    assert ada.push().segments == 0
    told = ada.push(whole=True)

    assert told.segments > 0
    found = segments_of(ada, backend)
    assert b"".join(path.read_bytes() for path in found) == journal_of(ada)
    # None that was there lies across one that was made.
    assert set(found) >= {path for number, path in enumerate(before) if number not in lost}
    # Where borders between segments are lost, too, who has seen the last one is told, rightly.
    told_of = [each.trouble is not None for each in bob.fetch()]
    assert told_of == [lost == (0, 1, 2, 3)]
    assert not [each for each in ada.verify().findings if each.kind == "journal"]


@pytest.mark.parametrize("step", ["segment created", "push noted"])
def test_push_killed_after_a_step_is_finished_by_the_next_one(
    ada: Repository, backend: Path, step: str
) -> None:
    settle(ada)
    note(ada, "one")

    assert dies(push, ada.home.paths.root, at=step)
    note(ada, "two")

    assert ada.push().seq == 3
    assert [path.name for path in segments_of(ada, backend)] == [
        f"{first:08}.jsonl" for first in (1, 2, 3)
    ]
    assert b"".join(path.read_bytes() for path in segments_of(ada, backend)) == journal_of(ada)


def test_processes_that_push_at_once_share_each_line_once(ada: Repository, backend: Path) -> None:
    note(ada, "one", "two")

    assert together(push, [[ada.home.paths.root]] * 4) == [3] * 4
    assert b"".join(path.read_bytes() for path in segments_of(ada, backend)) == journal_of(ada)


def test_nothing_is_pushed_to_another_repository(ada: Repository, backend: Path) -> None:
    settle(ada)
    note(ada, "one")
    unmount(backend)

    with pytest.raises(BackendError, match="no repository"):
        ada.push()
    with pytest.raises(BackendError, match="no repository"):
        ada.fetch()
    assert list(backend.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["push", "fetch", "clone", "rebuild"])
def test_killed_before_any_call_it_is_finished_by_the_next_one(
    ada: Repository, bob: Repository, backend: Path, tmp_path: Path, what: str
) -> None:
    root = str(ada.home.paths.root)
    settle(ada)
    if what == "push":
        deaths = run(sharing.push_and_die_everywhere, root, str(backend))
    elif what == "fetch":
        deaths = run(sharing.fetch_and_die_everywhere, root, str(bob.home.paths.root))
    elif what == "clone":
        deaths = run(sharing.clone_and_die_everywhere, str(tmp_path / "eve"), str(backend), 1)
    else:
        store(ada, "one")
        ada.push()
        store(ada, "two")
        deaths = run(sharing.rebuild_and_die_everywhere, root)
    assert deaths > 5


# A home that was restored


def restored(repository: Repository) -> Path:
    """Go on with a home after a copy of its journal was made, and bring that copy back."""
    paths = repository.home.paths
    settle(repository)
    kept = {path: path.read_bytes() for path in (paths.journal, paths.head, paths.pushed)}
    note(repository, "after the copy was made")
    repository.push()
    for path, data in kept.items():
        path.write_bytes(data)
    return paths.root


def test_restored_home_that_goes_on_is_told_and_writes_nothing_under_its_id(
    ada: Repository, backend: Path
) -> None:
    root = restored(ada)
    before = segments_of(ada, backend)
    with Repository.open(root) as back:
        note(back, "another life")
        with pytest.raises(JournalForked, match=f"{ada.home.id}.*line 2") as caught:
            back.push()

    assert caught.value.exit_code == 20
    assert caught.value.detail["line"] == 2
    assert segments_of(ada, backend) == before


def test_restored_home_takes_a_new_id_when_it_is_asked_to(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    root, old = restored(ada), ada.home.id
    with Repository.open(root) as back:
        note(back, "another life")
        told = back.push(renew=True)
        new = back.home.id
        first = next(iter(back.journal.entries()))

        assert (new != old, told.seq) == (True, 1)
        assert (first.kind, first.details, first.home) == ("home-copied", {"copied_from": old}, new)
        assert (root / f"journal-{old}.jsonl").exists()
        # Its own past, as it was shared, is to it now another home's.
        assert {each.home for each in back.fetch()} == {old}

    assert {each.home: each.seq for each in bob.fetch()} == {old: 2, new: 1}


def test_restored_home_is_not_renamed_under_a_running_service(ada: Repository) -> None:
    from modeldrop import locks  # noqa: PLC0415 - only here
    from modeldrop.errors import Locked  # noqa: PLC0415 - only here

    root = restored(ada)
    with Repository.open(root) as back:
        note(back, "another life")
        with (
            locks.hold(back.home.paths.service_lock(), what="a service"),
            pytest.raises(Locked),
        ):
            back.push(renew=True)
        assert back.home.id == ada.home.id


def test_restored_home_that_only_looks_is_not_taken_for_another(ada: Repository) -> None:
    with Repository.open(restored(ada)) as back:
        assert back.push(renew=True).entries == 0
        assert back.home.id == ada.home.id


def test_damaged_segment_of_ones_own_is_no_sign_of_a_copy(ada: Repository, backend: Path) -> None:
    settle(ada)
    note(ada, "one")
    ada.push()
    ada.home.paths.pushed.unlink()
    path = segments_of(ada, backend)[1]
    path.write_bytes(path.read_bytes().replace(b"one", b"two"))

    with pytest.raises(JournalChanged, match="is damaged") as caught:
        ada.push(renew=True)
    assert not isinstance(caught.value, JournalForked)


# Fetching


def test_two_hosts_see_each_others_entries_after_fetch_and_a_clone_sees_all(
    ada: Repository, bob: Repository, backend: Path, tmp_path: Path
) -> None:
    store(ada, "one")
    store(bob, "two")
    for each in (ada, bob):
        each.push()
    (from_bob,) = ada.fetch()
    (from_ada,) = bob.fetch()

    assert (from_bob.home, from_bob.entries, from_bob.seq) == (bob.home.id, 3, 3)
    assert (from_bob.host, from_bob.trouble) == (bob.home.host, None)
    assert from_ada.entries == 3
    assert seen(ada) == seen(bob)
    assert len(seen(ada)) == 6
    copy = ada.home.paths.fetched_journal(bob.home.id)
    assert copy.read_bytes() == journal_of(bob)

    cloned, journals = Repository.clone(tmp_path / "eve/.mlops", str(backend))
    with cloned:
        assert {each.home for each in journals} == {ada.home.id, bob.home.id}
        assert [each for each in seen(cloned) if each[0] != cloned.home.id] == seen(ada)


def test_log_is_in_the_order_of_time_and_each_journal_in_its_own(
    ada: Repository, bob: Repository
) -> None:
    store(ada, "one")
    store(bob, "two")
    store(ada, "three")
    bob.push()
    ada.fetch()

    told = list(ada.log())

    assert [each.at for each in told] == sorted((each.at for each in told), reverse=True)
    assert {each.home for each in told[:3]} == {ada.home.id, bob.home.id}
    # What this home did last is still its own.
    assert ada.last_run() == str(told[1].details["run"])
    assert [each.home for each in ada.log("churn/2")] == [bob.home.id]


@pytest.mark.parametrize("hosts", [1, 3])
@pytest.mark.parametrize("history", [1, 30])
def test_fetch_with_nothing_new_asks_by_the_number_of_hosts_alone(
    ada: Repository, backend: Path, tmp_path: Path, hosts: int, history: int
) -> None:
    for number in range(hosts):
        with host(tmp_path / f"host-{number}/.mlops", str(backend)) as other:
            for entry in range(history):
                note(other, f"entry {entry}")
                other.push()
    assert sum(each.entries for each in ada.fetch()) == hosts * (history + 1)
    counting = Counting(backend)
    set_backend(ada, counting)
    ada.__dict__.pop("sync", None)

    assert sum(each.entries for each in ada.fetch()) == 0
    # format.json; the listing of the homes; of each the last segment and the next one.
    assert counting.asked == {"read": 1 + 2 * hosts, "children": 1}


def test_fetch_asks_by_what_is_new_and_not_by_what_was(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    for entry in range(30):
        note(bob, f"entry {entry}")
        bob.push()
    ada.fetch()
    note(bob, "news")
    bob.push()
    counting = Counting(backend)
    set_backend(ada, counting)
    ada.__dict__.pop("sync", None)

    assert [each.entries for each in ada.fetch()] == [1]
    # As above, the new one, and whether its home has a key.
    assert counting.asked == {"read": 5, "children": 1}


def test_fetch_killed_after_it_kept_something_keeps_it(ada: Repository, bob: Repository) -> None:
    settle(bob)
    ada.fetch()
    note(bob, "one", "two")
    bob.push()

    assert dies(fetch, ada.home.paths.root, at="fetch noted")

    assert run(fetch, ada.home.paths.root) == 0
    copies = Copies(ada.home.paths)
    assert [each.seq for each in copies.entries(bob.home.id)] == [1, 2, 3]
    assert ada.home.paths.fetched_journal(bob.home.id).read_bytes() == journal_of(bob)


def test_clone_killed_after_it_kept_something_is_finished_by_the_next_one(
    ada: Repository, backend: Path, tmp_path: Path
) -> None:
    store(ada, "one")
    ada.push()

    assert dies(clone, tmp_path / "eve", backend, at="fetch noted")

    # Three of ada's, and its own first one.
    assert run(clone, tmp_path / "eve", backend) == 4


def test_clone_of_what_holds_no_repository_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(NotFound, match="no repository"):
        Repository.clone(tmp_path / "eve", str(tmp_path / "nothing"))
    assert not (tmp_path / "eve").exists()
    assert list((tmp_path / "nothing").iterdir()) == []


def test_clone_into_a_home_of_another_backend_is_refused(
    ada: Repository, backend: Path, tmp_path: Path
) -> None:
    with host(tmp_path / "eve", str(tmp_path / "elsewhere")), pytest.raises(Conflict):
        Repository.clone(tmp_path / "eve", str(backend))


# A journal that was changed


def test_number_that_another_journal_tells_of_is_not_given_again_if_the_backend_loses_it(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    store(ada, "one")
    assert store(bob, "two") == "churn/2"
    assert store(bob, "other", "spam") == "spam/1"
    bob.push()
    ada.fetch()
    (backend / numbered(versions("churn"), 2)).unlink()

    with pytest.raises(IntegrityError, match="churn/2 was registered"):
        store(ada, "three")

    # Where this home has no counter, it makes none: versions are counted at the backend then.
    assert not ada.home.paths.counter("spam").exists()


def test_damaged_counter_holds_up_no_fetch(ada: Repository, bob: Repository, backend: Path) -> None:
    store(ada, "one")
    store(bob, "two")
    bob.push()
    counter = ada.home.paths.counter("churn")
    counter.write_bytes(b"damaged")

    [fetched] = ada.fetch()

    assert fetched.trouble is None
    assert counter.read_bytes() == b"damaged"


def test_segment_that_is_missing_is_noticed_by_who_has_seen_it(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    settle(bob)
    note(bob, "one")
    bob.push()
    ada.fetch()
    segments_of(bob, backend)[1].unlink()

    said = trouble(ada)

    assert isinstance(said, JournalChanged)
    assert (said.detail["home"], said.detail["line"]) == (bob.home.id, 2)
    assert bob.home.id in said.message
    assert bob.home.host in said.message
    # What was fetched before is kept.
    assert len([each for each in ada.log() if each.home == bob.home.id]) == 2


def test_journal_that_is_gone_is_noticed(ada: Repository, bob: Repository, backend: Path) -> None:
    settle(bob)
    ada.fetch()
    shutil.rmtree(backend / journal_segments(bob.home.id))

    assert trouble(ada).detail["line"] == 1


def test_segment_that_was_cut_short_is_noticed(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    note(bob, "one", "two")
    bob.push()
    ada.fetch()
    (path,) = segments_of(bob, backend)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))

    said = trouble(ada)

    assert "was cut" in said.message
    assert said.detail["line"] == 3


def test_history_that_was_rewritten_is_noticed_with_the_line(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    note(bob, "one", "two", "three")
    bob.push()
    ada.fetch()
    (path,) = segments_of(bob, backend)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(rewritten(lines, at=3, home=bob.home.id))

    said = trouble(ada)

    assert "was rewritten" in said.message
    assert said.detail["line"] == 3
    # Whoever comes later has nothing to compare it with.
    with host(backend.parent / "eve", str(backend)) as eve:
        assert [each.trouble for each in eve.fetch()] == [None]


def test_journal_that_goes_on_from_another_past_is_noticed(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    note(bob, "one")
    bob.push()
    ada.fetch()
    note(bob, "two")
    lines = journal_of(bob).splitlines(keepends=True)
    forged = rewritten(lines, at=2, home=bob.home.id).splitlines(keepends=True)
    # The past is left as it was, and what follows is another one's future.
    (backend / journal_segment(bob.home.id, 3)).write_bytes(forged[2])

    said = trouble(ada)

    assert "it isn't what follows line 2" in said.message
    assert said.detail["line"] == 3


@pytest.mark.parametrize("number", [2, 8])
def test_gap_is_noticed_by_who_reads_over_it(
    ada: Repository, bob: Repository, backend: Path, number: int
) -> None:
    for entry in range(12):
        bob.push()
        note(bob, f"entry {entry}")
    segments_of(bob, backend)[number - 1].unlink()

    found = ada.fetch()

    (journal,) = found
    if number == 2:
        # The next one is absent: nobody who looks for it alone can know that others follow.
        assert (journal.trouble, journal.seq) == (None, 1)
    else:
        assert isinstance(journal.trouble, JournalChanged)
        assert (journal.trouble.detail["line"], journal.seq) == (8, 7)


def test_any_flipped_bit_of_a_segment_is_noticed_at_the_first_fetch(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    settle(bob)
    (path,) = segments_of(bob, backend)
    whole = path.read_bytes()
    for flip in range(0, len(whole), 7):
        data = bytearray(whole)
        data[flip] ^= 1 << (flip % 8)
        path.write_bytes(data)

        assert trouble(ada).detail["line"] == 1
        assert Copies(ada.home.paths).homes() == []


def test_segment_of_another_home_is_not_taken_for_this_ones(
    ada: Repository, bob: Repository, backend: Path, tmp_path: Path
) -> None:
    settle(bob)
    with host(tmp_path / "eve", str(backend)) as eve:
        path = backend / journal_segment(eve.home.id, 1)
        path.parent.mkdir(parents=True)
        path.write_bytes(segments_of(bob, backend)[0].read_bytes())

        assert f"it is of the home {bob.home.id}" in trouble(ada).message


def test_bad_journal_of_one_host_holds_up_no_other(
    ada: Repository, bob: Repository, backend: Path, tmp_path: Path
) -> None:
    settle(bob)
    ada.fetch()
    segments_of(bob, backend)[0].write_bytes(b"nonsense\n")
    with host(tmp_path / "eve", str(backend)) as eve:
        settle(eve)

        found: dict[str, FetchedJournal] = {each.home: each for each in ada.fetch()}

        assert isinstance(found[bob.home.id].trouble, JournalChanged)
        assert (found[eve.home.id].trouble, found[eve.home.id].entries) == (None, 1)


def test_answer_that_is_wrong_once_is_no_news(
    ada: Repository, bob: Repository, backend: Path
) -> None:
    class Flipping(Counting):
        """Flips a bit of every other answer."""

        def read(self, key: str) -> bytes | None:
            data = super().read(key)
            if data and "/journals/" in key and self.asked["flipped"] % 2 == 0:
                data = data[:50] + bytes([data[50] ^ 1]) + data[51:]
            self.asked["flipped"] += "/journals/" in key
            return data

    settle(bob)
    set_backend(ada, Flipping(backend))

    for _ in range(3):
        assert [each.trouble for each in ada.fetch()] == [None]


def test_damaged_copy_is_said_with_what_to_do_and_fetched_anew(
    ada: Repository, bob: Repository
) -> None:
    settle(bob)
    ada.fetch()
    path = ada.home.paths.fetched_journal(bob.home.id)
    path.write_bytes(path.read_bytes().replace(b"home-created", b"home-cremated"))

    with pytest.raises(JournalDamaged) as caught:
        list(ada.log())
    assert "fetches it anew" in caught.value.hint

    path.unlink()
    ada.home.paths.fetched_head(bob.home.id).unlink()
    ada.fetch()
    assert [each.home for each in ada.log()].count(bob.home.id) == 1


def test_what_a_killed_fetch_left_past_its_end_is_overwritten(
    ada: Repository, bob: Repository
) -> None:
    settle(bob)
    ada.fetch()
    path = ada.home.paths.fetched_journal(bob.home.id)
    with path.open("ab") as file:
        file.write(b"torn")
    note(bob, "one")
    bob.push()

    assert [each.trouble for each in ada.fetch()] == [None]
    assert path.read_bytes() == journal_of(bob)


def test_home_of_another_repository_clones_nothing(tmp_path: Path, ada: Repository) -> None:
    del ada
    with host(tmp_path / "eve", str(tmp_path / "elsewhere")) as eve:
        (eve.home.paths.root / "config.toml").write_text(
            f'[backend]\nurl = "{tmp_path / "backend"}"\n'
        )
    with Repository.open(tmp_path / "eve") as eve, pytest.raises(ConfigError):
        eve.push()


def test_a_copy_that_lost_its_end_has_no_last_segment(ada: Repository, bob: Repository) -> None:
    settle(bob)
    ada.fetch()
    copies = Copies(ada.home.paths)
    found = copies.record(bob.home.id)
    assert found is not None
    assert copies.last_segment(found) == journal_of(bob)
    path = ada.home.paths.fetched_journal(bob.home.id)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(JournalDamaged, match="it ends too early"):
        copies.last_segment(found)


def test_what_a_note_says_was_shared_holds_only_for_the_line_that_it_names(
    ada: Repository,
) -> None:
    settle(ada)
    ada.push()
    head = ada.journal.head()
    assert head is not None
    assert segments.is_at(ada.home.paths.journal, head, head)
    other = replace(head, sha256="0" * 64)
    assert not segments.is_at(ada.home.paths.journal, other, head)


def test_history_longer_than_is_kept_at_once_is_fetched_whole(
    ada: Repository, bob: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("one", "two", "three"):
        note(ada, text)
        ada.push()
    monkeypatch.setattr(sync, "_BATCH", 1)

    bob.fetch()

    assert [each for each in seen(bob) if each[0] == ada.home.id] == seen(ada)


def test_place_of_a_line_is_one_only_where_that_line_stands(ada: Repository) -> None:
    note(ada, "one")
    head = ada.journal.head()
    assert head is not None
    path = ada.home.paths.journal

    assert segments.is_at(path, EMPTY, head)
    assert segments.is_at(path, head, head)
    assert not segments.is_at(path, replace(head, offset=head.offset + 1), head)
    assert not segments.is_at(path, replace(head, offset=head.offset - 7), head)
