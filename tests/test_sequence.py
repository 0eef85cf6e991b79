"""The sequence: dense, unique, and each caller told its own number, through lost answers too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from modeldrop import Repository
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import (
    BackendError,
    BackendRefused,
    BackendUnreachable,
    BucketNotFound,
    OutcomeUnknown,
    RecordDamaged,
)
from modeldrop.names import new_guid
from modeldrop.sequence import Appended, Sequence
from support import work
from support.children import together
from support.stores import Counting, Faulty, Listing, make_home, model, quick_pauses, set_backend

FOLDER = "things/versions"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_pauses(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "backend"
    folder.mkdir()
    return folder


def records_of(root: Path) -> dict[int, dict[str, object]]:
    """Return every record of the sequence."""
    folder = root / FOLDER
    return {int(each.stem): json.loads(each.read_bytes()) for each in folder.iterdir()}


def append(
    backend: LocalBackend, who: str, at: int = 1, *, owner: str = "", shared: bool = False
) -> Appended:
    """Append one record that says whose it is."""
    mine = owner or new_guid()
    return Sequence(backend, FOLDER).append(
        lambda number: work.record_of(who, mine, number), owner=mine, at=at, shared=shared
    )


def fill(root: Path, count: int) -> None:
    """Put down so many records, quickly."""
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        path = root / FOLDER / f"{number:08d}.json"
        path.write_bytes(work.record_of("before", new_guid(), number))


@pytest.mark.scenario(45)
def test_sixteen_processes_without_a_lock_get_dense_numbers_and_each_its_own(root: Path) -> None:
    told = together(work.append, [(root, FOLDER, f"process {n}", 8) for n in range(16)])

    found = records_of(root)
    assert sorted(number for each in told for number in each) == list(range(1, 129))
    assert sorted(found) == list(range(1, 129))
    for n, numbers in enumerate(told):
        assert [found[number]["who"] for number in numbers] == [f"process {n}"] * 8
        assert [found[number]["version"] for number in numbers] == numbers


def test_sixteen_equal_requests_at_once_make_one_record_and_all_are_told_it(root: Path) -> None:
    fill(root, 3)
    owner = new_guid()
    others = [(root, FOLDER, f"other {n}", 2) for n in range(4)]
    equal = [(root, FOLDER, f"equal {n}", 1, owner) for n in range(12)]

    told = together(work.append, [*others, *equal])

    mine = [number for number, each in records_of(root).items() if each["owner"] == owner]
    assert len(mine) == 1
    assert len([each for each in told[4:] if each]) == 1
    assert sorted(records_of(root)) == list(range(1, 3 + 8 + 1 + 1))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 100, 1000])
def test_last_is_found_in_logarithmic_many_looks_and_without_listing(
    root: Path, count: int
) -> None:
    fill(root, count)
    backend = Counting(root)

    assert Sequence(backend, FOLDER).last() == count

    assert set(backend.asked) == {"stat"}
    assert backend.asked["stat"] <= 2 * math.log2(count + 1) + 2


def test_last_from_what_was_seen_costs_one_look(root: Path) -> None:
    fill(root, 1000)
    backend = Counting(root)

    assert Sequence(backend, FOLDER).last(1000) == 1000

    assert backend.asked == {"stat": 1}
    assert Sequence(backend, FOLDER).last(990) == 1000
    assert backend.asked["stat"] <= 1 + 2 * math.log2(12) + 2


@pytest.mark.parametrize("seen", [1, 8, 9, 57, 98, 99, 100, 998, 999, 1000])
@pytest.mark.parametrize("more", [0, 1, 2, 12, 130])
def test_last_is_found_by_one_listing_or_a_few_where_that_is_one_request(
    root: Path, seen: int, more: int
) -> None:
    fill(root, seen + more)
    backend = Listing(root)

    assert Sequence(backend, FOLDER).since(seen) == (seen + more, True)

    # At 999 it gallops, without a look at what was seen.
    assert backend.asked.total() == 1 or more
    assert backend.asked.total() <= 1 + 2 * math.log2(more + 1) + 2
    assert ("children" in backend.asked) == (seen != 999)
    assert Sequence(backend, FOLDER).last(seen) == seen + more


def test_what_was_seen_and_is_gone_is_asked_for_before_that_is_said(root: Path) -> None:
    fill(root, 5)
    (root / FOLDER / "00000005.json").unlink()

    assert Sequence(Listing(root), FOLDER).since(5) == (5, False)
    assert Sequence(Counting(root), FOLDER).since(5) == (5, False)


@pytest.mark.parametrize(
    ("listed", "last"),
    [([1, 2, 3], 3), ([1, 2, 7], 3), ([1, 3], 3), ([1, 2], 2), ([3], 3), ([], 1)],
)
def test_listing_that_is_behind_or_flipped_gives_no_number_above_a_gap(
    root: Path, listed: list[int], last: int
) -> None:
    class Wrong(Listing):
        def children(self, folder: str, prefix: str = "") -> Iterator[str]:
            del folder, prefix
            yield from (f"{number:08d}.json" for number in listed)

    fill(root, 3)

    newest, there = Sequence(Wrong(root), FOLDER).since(1)

    # One that is behind is put right by the append.
    assert (newest, there) == (last, True)
    assert append(Wrong(root), "me", at=newest + 1).number == 4


def test_undisturbed_append_is_one_create(root: Path) -> None:
    fill(root, 3)
    backend = Counting(root)

    appended = append(backend, "me", at=4)

    assert (appended.number, appended.created, appended.conflicts) == (4, True, 0)
    assert backend.asked == {"create": 1}


def test_taken_number_is_a_conflict_and_the_next_free_one_is_given(root: Path) -> None:
    fill(root, 3)

    appended = append(LocalBackend(root), "me", at=2)

    assert (appended.number, appended.conflicts) == (4, 2)
    assert records_of(root)[4]["who"] == "me"


def test_after_several_conflicts_it_looks_how_far_the_others_have_come(root: Path) -> None:
    fill(root, 300)
    backend = Counting(root)

    appended = append(backend, "me", at=1)

    assert appended.number == 301
    assert backend.asked["create"] < 10


@pytest.mark.parametrize("at", [3, 1])
def test_record_of_another_that_will_do_is_the_answer_and_nothing_is_appended(
    root: Path, at: int
) -> None:
    fill(root, 12)
    asked: list[int] = []

    def accept(number: int, data: bytes) -> bool:
        assert json.loads(data)["version"] == number
        asked.append(number)
        return number == 12

    mine = new_guid()
    appended = Sequence(LocalBackend(root), FOLDER).append(
        lambda number: work.record_of("me", mine, number), owner=mine, at=at, accept=accept
    )

    # After several conflicts it galloped, and is asked of what is the last one then.
    assert asked == [at, at + 1, at + 2, 12]
    assert (appended.number, appended.created) == (12, False)
    assert len(records_of(root)) == 12


def test_with_a_shared_owner_no_number_is_passed_over_unread(root: Path) -> None:
    owner = new_guid()
    fill(root, 40)
    (root / FOLDER / "00000033.json").write_bytes(work.record_of("earlier", owner, 33))

    appended = append(LocalBackend(root), "me", at=20, owner=owner, shared=True)

    assert (appended.number, appended.created) == (33, False)
    assert json.loads(appended.data)["who"] == "earlier"
    assert len(records_of(root)) == 40


# Lost answers. Nine of nine: three ways to lose one, once, twice and three times in a row.


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("fault", ["dropped", "error", "exists"])
def test_record_whose_answer_was_lost_is_recognised_as_ones_own(
    root: Path, fault: str, times: int
) -> None:
    fill(root, 2)
    backend = Faulty(root, *[fault] * times)

    appended = append(backend, "me", at=3)

    assert (appended.number, appended.created, appended.conflicts) == (3, True, 0)
    assert sorted(records_of(root)) == [1, 2, 3]
    # The same bytes each time, at the same number.
    assert len(set(backend.sent)) == 1


@pytest.mark.parametrize("times", [1, 3, 7])
def test_error_with_nothing_written_sends_the_same_bytes_to_the_same_number(
    root: Path, times: int
) -> None:
    backend = Faulty(root, *["lost"] * times)

    appended = append(backend, "me")

    assert (appended.number, appended.created) == (1, True)
    assert len(backend.sent) == times + 1
    assert len(set(backend.sent)) == 1


@pytest.mark.scenario(46)
def test_mixed_losses_end_in_one_record(root: Path) -> None:
    backend = Faulty(root, "lost", "dropped", "error", "exists")

    assert append(backend, "me").number == 1
    assert append(backend, "me", at=2).number == 2
    assert sorted(records_of(root)) == [1, 2]


def test_others_record_under_a_lost_request_is_a_conflict_and_no_loss(root: Path) -> None:
    fill(root, 1)
    backend = Faulty(root, "lost")

    appended = append(backend, "me", at=1)

    assert (appended.number, appended.conflicts) == (2, 1)
    assert records_of(root)[1]["who"] == "before"


def test_record_of_ones_own_that_no_answer_confirms_is_asked_for_once_more(root: Path) -> None:
    backend = Faulty(root, "error")

    appended = append(backend, "me")

    # The first call made it visible and failed, perhaps before it was durable.
    assert len(backend.sent) == 2
    assert (appended.number, appended.created) == (1, True)


@pytest.mark.parametrize("fault", ["lost", "dropped"])
def test_store_that_answers_nothing_is_unknown_and_no_next_number_is_tried(
    root: Path, fault: str
) -> None:
    backend = Faulty(root, *[fault] * 99)

    with pytest.raises(OutcomeUnknown, match=r"things/versions/00000001\.json") as caught:
        append(backend, "me")

    assert len({key for key, _ in backend.sent}) == 1
    assert len(set(backend.sent)) == 1
    assert isinstance(caught.value.__cause__, BackendError)
    assert "run the same command again" in caught.value.hint


def test_store_that_cant_be_read_is_unknown(root: Path) -> None:
    backend = Faulty(root, *["dropped"] * 99)
    backend.unreadable = BackendUnreachable("no answer")

    with pytest.raises(OutcomeUnknown):
        append(backend, "me")


def test_store_that_says_exists_and_shows_nothing_is_unknown(root: Path) -> None:
    class Forgetful(LocalBackend):
        def create(self, key: str, data: bytes) -> bool:
            del key, data
            return False

    with pytest.raises(OutcomeUnknown, match="doesn't show it"):
        append(Forgetful(root), "me")


@pytest.mark.parametrize("error", [BackendRefused("403"), BucketNotFound("404")])
def test_refusal_is_told_at_once(root: Path, error: BackendError) -> None:
    backend = Faulty(root)
    backend.refuses = error

    with pytest.raises(type(error)) as caught:
        append(backend, "me")

    assert caught.value is error
    assert len(backend.sent) == 1


def test_refusal_after_a_lost_request_is_unknown(root: Path) -> None:
    class Changing(Faulty):
        def create(self, key: str, data: bytes) -> bool:
            try:
                return super().create(key, data)
            finally:
                self.refuses = BackendRefused("403")

    with pytest.raises(OutcomeUnknown):
        append(Changing(root, "lost"), "me")


def test_refusal_after_an_answer_that_cant_be_is_unknown(root: Path) -> None:
    class Confused(LocalBackend):
        answers: ClassVar = [False]

        def create(self, key: str, data: bytes) -> bool:
            del key, data
            if self.answers:
                return self.answers.pop()
            raise BackendRefused("403")

    with pytest.raises(OutcomeUnknown):
        append(Confused(root), "me")


def test_damaged_record_in_the_way_is_reported_and_not_passed_over(root: Path) -> None:
    fill(root, 2)
    (root / FOLDER / "00000002.json").write_bytes(b"{}")

    with pytest.raises(RecordDamaged, match=r"00000002\.json"):
        append(LocalBackend(root), "me", at=2)
    with pytest.raises(RecordDamaged):
        Sequence(LocalBackend(root), FOLDER).find("anybody", 1)


def test_owners_record_is_found_upward_or_the_first_free_number(root: Path) -> None:
    fill(root, 5)
    sequence = Sequence(LocalBackend(root), FOLDER)
    owner = str(records_of(root)[4]["owner"])

    assert sequence.find(owner, 2) == (4, sequence.read(4))
    assert sequence.find(owner, 5) == 6
    assert sequence.find("nobody", 1) == 6
    assert sequence.read(0) is None


def test_listing_shows_the_gaps_that_galloping_cant_see(root: Path) -> None:
    fill(root, 5)
    sequence = Sequence(LocalBackend(root), FOLDER)
    (root / FOLDER / "00000002.json").unlink()
    (root / FOLDER / ".tmp-0000").touch()
    (root / FOLDER / "note.json").touch()

    assert sequence.numbers() == [1, 3, 4, 5]
    assert Sequence(LocalBackend(root), "nothing/there").numbers() == []


# With a home in front of it


def failing(tmp_path: Path, *faults: str) -> tuple[Repository, str]:
    """Return an open home on a backend where creating revisions fails, and a new run."""
    make_home(tmp_path / "home", tmp_path / "store").close()
    repository = Repository.open(tmp_path / "home")
    backend = Faulty(tmp_path / "store", *faults, only="/revisions/")
    set_backend(repository, backend)
    return repository, new_guid()


def test_unknown_outcome_leaves_its_intent_and_the_next_request_finds_it_out(
    tmp_path: Path,
) -> None:
    repository, run = failing(tmp_path, *["dropped"] * 99)

    with pytest.raises(OutcomeUnknown):
        repository.upload(run, model(tmp_path / "m"))
    assert [each.starts_at for each in repository.runs_at_backend.open_intents()] == [1]
    assert [entry.kind for entry in repository.log()] == ["home-created"]

    later = Repository.open(tmp_path / "home")
    answer = later.upload(run, tmp_path / "m")

    assert (answer.revision.revision, answer.created) == (1, False)
    assert later.runs_at_backend.open_intents() == []
    assert [entry.kind for entry in later.log()] == ["committed", "home-created"]
    assert later.verify(deep=True).ok


def test_unknown_outcome_that_was_none_is_settled_to_nothing(tmp_path: Path) -> None:
    repository, run = failing(tmp_path, *["lost"] * 99)

    with pytest.raises(OutcomeUnknown):
        repository.upload(run, model(tmp_path / "m"))

    later = Repository.open(tmp_path / "home")
    later.runs_at_backend.settle(run)

    assert later.runs_at_backend.open_intents() == []
    assert [entry.kind for entry in later.log()] == ["home-created"]
    assert later.upload(run, tmp_path / "m").created


def test_refused_request_leaves_no_intent(tmp_path: Path) -> None:
    class Refusing(Faulty):
        def create(self, key: str, data: bytes) -> bool:
            if "/revisions/" in key:
                raise BackendRefused("403")
            return super().create(key, data)

    repository, run = failing(tmp_path)
    set_backend(repository, Refusing(tmp_path / "store"))

    with pytest.raises(BackendRefused, match="403"):
        repository.upload(run, model(tmp_path / "m"))

    assert repository.runs_at_backend.open_intents() == []
