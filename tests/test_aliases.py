"""Aliases: who moves one wins alone or is told who did, and what was said of it stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldrop import Repository
from modeldrop.errors import (
    AliasMoved,
    AliasNotFound,
    BackendError,
    BackendUnreachable,
    CounterDamaged,
    IntegrityError,
    InvalidName,
    OutcomeUnknown,
    VersionNotFound,
)
from modeldrop.home_records import MoveCounter
from modeldrop.layout import moves, numbered
from modeldrop.names import check_alias, is_alias, new_guid
from modeldrop.records import AliasMove
from support import work
from support.children import dies, run, together
from support.sharing import host, store
from support.stores import Counting, Faulty, Listing, quick_pauses, set_backend, unmount

APPENDING: Final = (
    "intent written",
    "record appended",
    "followers brought forward",
    "journal acknowledged",
    "intent removed",
)


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def repository(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    """A home with three versions of churn."""
    with host(tmp_path / "home", str(backend)) as made:
        for number in range(3):
            store(made, f"weights {number}")
        yield made


@pytest.fixture
def home(repository: Repository) -> Path:
    return repository.home.paths.root


def where(repository: Repository, alias: str = "churn@champion") -> list[int | None]:
    """Return the versions that an alias was on, oldest first."""
    return [each.version for each in repository.alias_moves(alias)]


def told_of(repository: Repository) -> list[tuple[str, str]]:
    """Return what the journal says of aliases, oldest first."""
    kinds = ("promoted", "alias-removed")
    return [(e.kind, e.about[0]) for e in repository.log() if e.kind in kinds][::-1]


def dense_and_chained(found: list[AliasMove]) -> bool:
    """Say whether moves have no gap, and each says truly where the alias was before."""
    before = [None, *(each.version for each in found[:-1])]
    return [(each.move, each.before) for each in found] == list(enumerate(before, 1))


# What a move is


def test_promoting_puts_the_alias_on_the_version_and_says_who_why_and_what_was_before(
    repository: Repository,
) -> None:
    first = repository.promote("churn/1", "champion", by="ann")
    second = repository.promote("churn", "champion", reason="better recall", by="bob")

    assert (first.created, second.created) == (True, True)
    assert (first.move.version, first.move.before, first.move.moved_by) == (1, None, "ann")
    pinned = repository.resolve("churn/3").version
    assert pinned is not None
    assert (second.move.version, second.move.sha256, second.move.before) == (3, pinned.sha256, 1)
    assert (second.move.reason, second.move.moved_by) == ("better recall", "bob")
    assert repository.alias_moves("churn@champion") == [first.move, second.move]
    assert told_of(repository) == [
        ("promoted", "churn@champion~1"),
        ("promoted", "churn@champion~2"),
    ]
    assert repository.verify(deep=True).ok


def test_alias_that_is_there_already_is_not_moved_again(repository: Repository) -> None:
    first = repository.promote("churn/2", "champion", reason="first")

    for expect in (None, 2, 1, 0):
        again = repository.promote("churn/2", "champion", reason="again", expect=expect)
        assert (again.move, again.created) == (first.move, False)

    assert where(repository) == [2]
    assert told_of(repository) == [("promoted", "churn@champion~1")]


def test_expectation_that_fails_names_who_moved_it_and_changes_nothing(
    repository: Repository,
) -> None:
    repository.promote("churn/1", "champion")
    repository.promote("churn/3", "champion", by="ann", reason="urgent")

    for expect in (1, 0):
        with pytest.raises(AliasMoved, match=r"is on churn/3, .*: ann@.* \(urgent\)") as caught:
            repository.promote("churn/2", "champion", expect=expect)
        assert caught.value.exit_code == 11
        assert "`--expect 3`" in caught.value.hint
        assert caught.value.detail["expected"] == expect
        assert caught.value.detail["version"] == 3
        assert caught.value.detail["moved_by"] == "ann"
    assert where(repository) == [1, 3]
    assert repository.runs_at_backend.open_intents() == []
    assert repository.promote("churn/2", "champion", expect=3).created


def test_expecting_no_version_makes_an_alias_and_expecting_one_does_not(
    repository: Repository,
) -> None:
    with pytest.raises(AliasMoved, match="there is no such alias yet"):
        repository.promote("churn/2", "champion", expect=1)
    assert repository.promote("churn/2", "champion", expect=0).created
    repository.remove_alias("churn@champion")

    with pytest.raises(AliasMoved, match="is on no version"):
        repository.promote("churn/1", "champion", expect=2)
    assert repository.promote("churn/1", "champion", expect=0).created
    assert where(repository) == [2, None, 1]


def test_removing_is_a_move_and_removing_again_is_none(repository: Repository) -> None:
    repository.promote("churn/2", "champion")

    with pytest.raises(AliasMoved):
        repository.remove_alias("churn@champion", expect=1)
    gone = repository.remove_alias("churn@champion", expect=2, reason="retired", by="ann")
    again = repository.remove_alias("churn@champion")

    assert (gone.created, gone.move.version, gone.move.before) == (True, None, 2)
    assert (again.created, again.move) == (False, gone.move)
    with pytest.raises(AliasNotFound, match=r"ann@.* removed it at .* \(retired\)") as caught:
        repository.resolve("churn@champion")
    assert "alias history churn@champion" in caught.value.hint
    assert repository.aliases() == []
    entry = next(iter(repository.log("churn/2")))
    assert (entry.kind, entry.about) == ("alias-removed", ("churn@champion~2", "churn/2"))
    assert repository.verify().ok


def test_alias_that_never_was_is_not_found(repository: Repository) -> None:
    for ask in (
        lambda: repository.remove_alias("churn@champion"),
        lambda: repository.resolve("churn@champion"),
        lambda: repository.alias_moves("churn@champion"),
        lambda: repository.promote("churn@champion", "challenger"),
        lambda: repository.resolve("other@champion"),
    ):
        with pytest.raises(AliasNotFound, match=r"there is no alias .*@champion at ") as caught:
            ask()
        assert caught.value.exit_code == 10
        assert "modeldrop alias list" in caught.value.hint


def test_only_a_version_that_is_there_is_promoted(repository: Repository, backend: Path) -> None:
    with pytest.raises(VersionNotFound):
        repository.promote("churn/4", "champion")
    version = repository.versions("churn")[0]
    with pytest.raises(InvalidName, match="names a run") as caught:
        repository.promote(f"run:{version.run}", "champion")

    assert "modeldrop register" in caught.value.hint
    assert not (backend / moves("churn", "champion")).exists()


def test_one_alias_is_put_where_another_one_is_or_was(repository: Repository) -> None:
    repository.promote("churn/1", "champion")
    repository.promote("churn/2", "champion")

    assert repository.promote("churn@champion", "challenger").move.version == 2
    assert repository.promote("churn@champion~1", "champion").move.version == 1


def test_alias_stands_for_its_version_wherever_a_version_can_be_named(
    repository: Repository, tmp_path: Path
) -> None:
    repository.promote("churn/1", "champion")
    repository.promote("churn/2", "champion")

    for name, version, text in (
        ("churn@champion", "churn/2", "weights 1"),
        ("churn@champion~1", "churn/1", "weights 0"),
    ):
        assert repository.resolve(name).name == version
        assert repository.pull(name, tmp_path / name).read_text() == text
        assert repository.path(name).read_text() == text
        assert repository.verify(name).ok
    with pytest.raises(AliasNotFound, match="move churn@champion~3"):
        repository.resolve("churn@champion~3")


def test_versions_say_which_aliases_are_on_them(repository: Repository) -> None:
    for alias, version in (("champion", 2), ("challenger", 2), ("old", 1), ("gone", 2)):
        repository.promote(f"churn/{version}", alias)
    repository.remove_alias("churn@gone")
    store(repository, "other", "demand")
    repository.promote("demand", "champion")

    every = repository.versions("churn")
    on = [repository.describe(each)["aliases"] for each in every]
    assert on == [["old"], ["challenger", "champion"], []]
    names = [each.name for each in repository.aliases()]
    assert names == ["churn@challenger", "churn@champion", "churn@old", "demand@champion"]
    assert [each.alias for each in repository.aliases("demand")] == ["champion"]


def test_log_of_an_alias_is_its_moves_and_that_of_a_version_has_them(
    repository: Repository,
) -> None:
    repository.promote("churn/1", "champion")
    repository.promote("churn/2", "champion")
    repository.promote("churn/2", "champion-2")

    def abouts(reference: str) -> list[str]:
        return [entry.about[0] for entry in repository.log(reference)][::-1]

    assert abouts("churn@champion") == ["churn@champion~1", "churn@champion~2"]
    assert abouts("churn@champion~2") == ["churn@champion~2"]
    assert abouts("churn/2") == ["churn/2", "churn@champion~2", "churn@champion-2~1"]
    assert abouts("churn")[-3:] == ["churn@champion~1", "churn@champion~2", "churn@champion-2~1"]


# Names


@settings(max_examples=150)
@given(
    st.one_of(
        st.text(st.sampled_from("ab1.-_"), min_size=1, max_size=6),
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}(\.lock|\.|\.\.)?", fullmatch=True),
    )
)
def test_alias_is_what_git_would_take_for_a_branch_but_for_what_is_reserved(text: str) -> None:
    done = subprocess.run(["git", "check-ref-format", f"refs/heads/{text}"], check=False)
    takes = done.returncode == 0
    reserved = text.lower() == "latest" or text.isdigit()
    # Fewer characters than git's: one that could be read as an option, or is hidden, is none.
    begins = text[0].isalnum()

    assert is_alias(text) == (takes and begins and not reserved)


@given(st.text(st.characters(exclude_categories=())))
def test_any_other_text_is_no_alias_and_is_shown_in_one_line(text: str) -> None:
    if is_alias(text):
        assert text.isascii()
        assert not set(text) & set("/@~:^\\ *?[")
        return
    with pytest.raises(InvalidName) as caught:
        check_alias(text)
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("latest", "reserved"),
        ("LATEST", "reserved"),
        ("3", "a version's number"),
        ("a..b", "git would refuse"),
        ("a.lock", "git would refuse"),
        ("a.", "git would refuse"),
        ("", "other characters"),
        ("a/b", "other characters"),
        ("-a", "other characters"),
        ("a" * 101, "other characters"),
    ],
)
def test_bad_name_is_refused_before_anything_is_asked(
    repository: Repository, backend: Path, name: str, why: str
) -> None:
    set_backend(repository, counting := Counting(backend))

    with pytest.raises(InvalidName, match=why) as caught:
        repository.promote("churn/1", name)

    assert caught.value.exit_code == 2
    assert not counting.asked


@pytest.mark.parametrize(("by", "reason"), [("caf\udce9", ""), ("ada", "caf\udce9")])
def test_text_that_is_not_utf8_is_refused_before_anything_is_written(
    repository: Repository, backend: Path, by: str, reason: str
) -> None:
    with pytest.raises(InvalidName, match=r"not valid UTF-8: caf\\xe9"):
        repository.promote("churn/1", "champion", by=by, reason=reason)

    assert not (backend / moves("churn", "champion")).exists()
    assert repository.runs_at_backend.open_intents() == []


# At the same moment


def one_wins_each_round(told: list[list[list[Any]]], found: list[AliasMove]) -> bool:
    """Say whether in each round one process moved the alias, and all were told who it was."""
    rounds = list(zip(*told, strict=True))
    return len(found) == len(rounds) and all(
        [each[1] for each in answers if each[0]] == [move.moved_by]
        and {each[1] for each in answers} == {move.moved_by}
        for answers, move in zip(rounds, found, strict=True)
    )


@pytest.fixture
def versions(repository: Repository) -> None:
    """Have churn have seventeen versions."""
    run = repository.versions("churn")[0].run
    for _ in range(14):
        repository.register(run, "churn", again=True)


@pytest.mark.slow
@pytest.mark.usefixtures("versions")
def test_sixteen_processes_that_expect_the_same_have_one_winner_in_each_round(
    repository: Repository, home: Path, tmp_path: Path
) -> None:
    racers = [(home, n, 16, 4, tmp_path / "met") for n in range(16)]

    told = together(work.promote_in_rounds, racers)

    found = repository.alias_moves("churn@champion")
    assert one_wins_each_round(told, found)
    assert dense_and_chained(found)
    assert len(told_of(repository)) == 4
    assert repository.runs_at_backend.open_intents() == []


@pytest.mark.usefixtures("versions")
def test_processes_of_two_homes_that_expect_the_same_have_one_winner_in_each_round(
    repository: Repository, home: Path, tmp_path: Path, backend: Path
) -> None:
    with host(tmp_path / "second", str(backend)) as second:
        homes = [home, second.home.paths.root]
        racers = [(homes[n % 2], n, 4, 4, tmp_path / "met") for n in range(4)]

        told = together(work.promote_in_rounds, racers)

        found = repository.alias_moves("churn@champion")
        assert one_wins_each_round(told, found)
        assert dense_and_chained(found)
        for each in (repository, second):
            assert each.verify().ok


@pytest.mark.usefixtures("versions")
def test_without_lock_and_condition_the_same_check_is_red(
    repository: Repository, home: Path, tmp_path: Path
) -> None:
    racers = [(home, n, 3, 1, tmp_path / "met") for n in range(3)]

    told = together(work.promote_unguarded, racers)

    assert not one_wins_each_round(told, repository.alias_moves("churn@champion"))


def test_without_an_expectation_every_move_lands_in_an_order_that_all_see(
    repository: Repository, home: Path, tmp_path: Path, backend: Path
) -> None:
    with host(tmp_path / "second", str(backend)) as second:
        homes = [home, second.home.paths.root]
        racers = [(homes[n % 2], f"process {n}", 1 + n % 3, 5) for n in range(6)]
        told = together(work.promote, racers)

        found = repository.alias_moves("churn@champion")
        assert dense_and_chained(found)
        assert second.alias_moves("churn@champion") == found
        mine = {each.move: each.reason for each in found}
        made = {number: said for each in told for number, created, said in each if created}
        assert made == mine
        said = sorted(about for each in (repository, second) for _, about in told_of(each))
        assert said == sorted(each.reference for each in found)


# Killed, lost, damaged


@pytest.mark.parametrize("step", APPENDING)
def test_killed_after_any_step_of_a_promotion_leaves_one_move_and_one_entry(
    repository: Repository, home: Path, step: str
) -> None:
    assert dies(work.promote, home, "killed", 1, 1, at=step)

    again = repository.promote("churn/1", "champion")

    assert where(repository) == [1]
    assert told_of(repository) == [("promoted", "churn@champion~1")]
    assert repository.aliases_at_backend.counter("churn", "champion") == 1
    assert repository.runs_at_backend.open_intents() == []
    assert again.created == (step == "intent written")
    assert repository.verify().ok


@pytest.mark.parametrize("step", ["record appended", "followers brought forward"])
def test_what_a_dead_promotion_did_is_journaled_by_the_next_one_elsewhere(
    repository: Repository, home: Path, step: str
) -> None:
    assert dies(work.promote, home, "killed", 1, 1, at=step)

    repository.promote("churn/2", "champion", expect=1)

    assert where(repository) == [1, 2]
    assert [about for _, about in told_of(repository)] == ["churn@champion~1", "churn@champion~2"]


def test_what_a_dead_host_did_holds_for_others_and_is_journaled_when_it_is_back(
    repository: Repository, home: Path, tmp_path: Path, backend: Path
) -> None:
    assert dies(work.promote, home, "killed", 1, 1, at="record appended")
    with host(tmp_path / "second", str(backend)) as second:
        with pytest.raises(AliasMoved):
            second.promote("churn/2", "champion", expect=0)
        assert second.promote("churn/2", "champion", expect=1).move.move == 2
        assert told_of(second) == [("promoted", "churn@champion~2")]

    repository.promote("churn/3", "champion", expect=2)

    assert [about for _, about in told_of(repository)] == ["churn@champion~1", "churn@champion~3"]
    assert dense_and_chained(repository.alias_moves("churn@champion"))


@pytest.mark.slow
def test_killed_before_any_call_that_changes_a_file_system_moves_once(
    repository: Repository, home: Path
) -> None:
    deaths = run(work.promote_and_die_everywhere, home)

    assert deaths > 20
    assert dense_and_chained(repository.alias_moves("churn@champion"))
    entries = told_of(repository)
    assert len(set(entries)) == len(entries) == len(where(repository)) == deaths + 1
    assert repository.runs_at_backend.open_intents() == []
    assert repository.verify().ok


@pytest.mark.parametrize("fault", ["dropped", "error", "exists", "lost"])
def test_move_whose_answer_was_lost_is_ones_own(
    repository: Repository, home: Path, backend: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    quick_pauses(monkeypatch)
    repository.promote("churn/1", "champion")
    with Repository.open(home) as lossy:
        set_backend(lossy, Faulty(backend, fault, only="/aliases/"))

        moved = lossy.promote("churn/2", "champion", expect=1)

        assert (moved.created, moved.move.version) == (True, 2)
        assert where(lossy) == [1, 2]


def test_outcome_that_is_unknown_is_found_out_by_the_same_command(
    repository: Repository, home: Path, backend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_pauses(monkeypatch)
    with Repository.open(home) as lossy:
        set_backend(lossy, faulty := Faulty(backend, *["dropped"] * 99, only="/aliases/"))
        real = Faulty.read

        def deaf(self: Faulty, key: str) -> bytes | None:
            if self is faulty and "/aliases/" in key and faulty.sent:
                raise BackendUnreachable("no answer")
            return real(self, key)

        monkeypatch.setattr(Faulty, "read", deaf)
        with pytest.raises(OutcomeUnknown) as caught:
            lossy.promote("churn/1", "champion", reason="lost")
    assert "run the same command again" in caught.value.hint
    assert "--expect" in caught.value.hint
    assert len(repository.runs_at_backend.open_intents()) == 1

    again = repository.promote("churn/1", "champion")

    assert (again.created, again.move.reason) == (False, "lost")
    assert told_of(repository) == [("promoted", "churn@champion~1")]
    assert repository.runs_at_backend.open_intents() == []


def test_move_that_is_said_to_be_there_and_is_not_shown_is_not_passed_over(
    repository: Repository, home: Path, backend: Path, tmp_path: Path
) -> None:
    """What is expected can't be held against it, so nothing may be put after it."""
    repository.promote("churn/1", "champion")
    second = host(tmp_path / "second", str(backend))

    class Misleading(Listing):
        """Another host is quicker, and a listing shows one move more than there is."""

        def create(self, key: str, data: bytes) -> bool:
            if "/aliases/" in key and not self.asked["create"]:
                second.promote("churn/2", "champion")
            return super().create(key, data)

        def children(self, folder: str, prefix: str = "") -> Iterator[str]:
            yield from super().children(folder, prefix)
            if "/aliases/" in folder and self.asked["create"]:
                yield "00000003.json"

    with Repository.open(home) as misled, second:
        set_backend(misled, Misleading(backend))
        with pytest.raises(BackendError, match="champion~3 is there, and doesn't show it"):
            misled.promote("churn/3", "champion")

        assert where(misled) == [1, 2]
        assert misled.runs_at_backend.open_intents() == []


def test_nothing_is_moved_where_the_backend_is_another_one_now(
    repository: Repository, home: Path, backend: Path
) -> None:
    repository.promote("churn/1", "champion")
    version = repository.versions("churn")[1]
    unmount(backend)

    with pytest.raises(BackendError, match="holds no repository now"):
        repository._place(("churn", "champion"), version, None, "", None)
    assert list(backend.iterdir()) == []


def test_moves_that_a_backend_lost_are_an_error_and_no_number_is_given_twice(
    repository: Repository, backend: Path
) -> None:
    for version in (1, 2, 3):
        repository.promote(f"churn/{version}", "champion")
    (backend / numbered(moves("churn", "champion"), 3)).unlink()

    with pytest.raises(IntegrityError, match="churn@champion~3 was made") as caught:
        repository.promote("churn/1", "champion")

    assert "modeldrop verify" in caught.value.hint
    assert not (backend / numbered(moves("churn", "champion"), 4)).exists()
    # Readers get what there is.
    assert repository.resolve("churn@champion").name == "churn/2"
    found = {each.where for each in repository.verify().findings}
    assert found == {"churn@champion", "churn@champion~3"}


def test_damaged_counter_is_an_error_that_says_how_to_mend_it(repository: Repository) -> None:
    repository.promote("churn/1", "champion")
    path = repository.home.paths.counter("churn@champion")
    other = MoveCounter("churn", "challenger", 1, repository.home.repository).to_bytes()
    for data in (b"", other):
        path.write_bytes(data)
        with pytest.raises(CounterDamaged, match="move counter of churn@champion") as caught:
            repository.promote("churn/2", "champion")
        assert f"remove {path}" in caught.value.hint
        assert repository.resolve("churn@champion").name == "churn/1"
        assert [each.kind for each in repository.verify().findings] == ["home"]

    path.unlink()
    assert repository.promote("churn/2", "champion").move.move == 2


def test_damaged_move_is_named_and_hides_no_other_alias(
    repository: Repository, backend: Path
) -> None:
    repository.promote("churn/1", "champion")
    repository.promote("churn/1", "old")
    path = backend / numbered(moves("churn", "champion"), 1)
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 2'))
    damaged: list[IntegrityError] = []

    assert [each.alias for each in repository.aliases("churn", damaged.append)] == ["old"]
    assert len(damaged) == 1
    for ask in (
        lambda: repository.aliases("churn"),
        lambda: repository.resolve("churn@champion"),
        lambda: repository.promote("churn/2", "champion"),
    ):
        with pytest.raises(IntegrityError, match=r"champion/00000001\.json is damaged"):
            ask()
    assert [each.where for each in repository.verify().findings] == ["churn@champion~1"]


def rewrite(backend: Path, number: int, **changes: object) -> None:
    """Have a move say something else, with the right digest."""
    path = backend / numbered(moves("churn", "champion"), number)
    found = AliasMove.from_bytes(path.read_bytes(), "")
    fields = {name: getattr(found, name) for name in found.as_json()}
    path.write_bytes(AliasMove(**{**fields, **changes}).to_bytes())


def test_verify_holds_moves_against_versions_each_other_and_the_journal(
    repository: Repository, backend: Path
) -> None:
    for version in (1, 2, 3):
        repository.promote(f"churn/{version}", "champion")
    assert repository.verify().checked["alias moves"] == 3
    whole = [
        (backend / numbered(moves("churn", "champion"), number)).read_bytes()
        for number in (1, 2, 3)
    ]

    def found() -> dict[str, str]:
        said = {each.where: each.what for each in repository.verify().findings}
        for number, data in enumerate(whole, 1):
            path = backend / numbered(moves("churn", "champion"), number)
            path.write_bytes(data)
        assert repository.verify().ok
        return said

    rewrite(backend, 2, sha256="0" * 64)
    assert "pins 0000" in found()["churn@champion~2"]
    rewrite(backend, 2, version=9)
    assert "there is no version churn/9" in found()["churn@champion~2"]
    rewrite(backend, 3, before=1)
    assert found() == {"churn@champion~3": "churn@champion was on another version before"}
    other = repository.versions("churn")[0]
    rewrite(backend, 3, version=1, sha256=other.sha256)
    assert "another digest" in found()["churn@champion~3"]
    rewrite(backend, 3, alias="challenger")
    assert "says that it is churn@challenger~3" in found()["churn@champion~3"]
    (backend / numbered(moves("churn", "champion"), 3)).unlink()
    assert set(found()) == {"churn@champion", "churn@champion~3"}
    rewrite(backend, 3, sha256="0" * 64)
    with pytest.raises(IntegrityError, match="pins 0000"):
        repository.resolve("churn@champion")


def test_move_without_an_entry_of_its_home_is_named(
    repository: Repository, backend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.accounts._GRACE", 0.0)
    move = repository.promote("churn/1", "champion").move
    fields = {**{name: getattr(move, name) for name in move.as_json()}, "owner": new_guid()}
    more = AliasMove(**{**fields, "move": 2, "before": 1})
    (backend / numbered(moves("churn", "champion"), 2)).write_bytes(more.to_bytes())

    [finding] = repository.verify().findings

    assert (finding.kind, finding.where) == ("alias", "churn@champion~2")
    assert "no entry of its home" in finding.what


def test_other_hosts_see_a_move_at_once_and_its_entry_when_it_was_shared(
    repository: Repository, tmp_path: Path, backend: Path
) -> None:
    with host(tmp_path / "second", str(backend)) as second:
        repository.promote("churn/1", "champion", reason="shared")
        assert second.resolve("churn@champion").name == "churn/1"
        assert told_of(second) == []

        repository.push()
        second.fetch()

        assert told_of(second) == [("promoted", "churn@champion~1")]
        assert second.verify().ok
        assert second.promote("churn/2", "champion", expect=1).move.move == 2


def test_lost_journal_regains_what_it_said_of_aliases(
    repository: Repository, home: Path, tmp_path: Path, backend: Path
) -> None:
    repository.promote("churn/1", "champion")
    with host(tmp_path / "second", str(backend)) as second:
        second.promote("churn/2", "champion")
    repository.remove_alias("churn@champion")
    said = told_of(repository)
    for name in ("journal.jsonl", "HEAD"):
        (home / name).unlink()
    repository.home.paths.counter("churn@champion").write_bytes(b"")

    with Repository.open(home) as back:
        back.rebuild()

        assert (
            told_of(back)
            == said
            == [
                ("promoted", "churn@champion~1"),
                ("alias-removed", "churn@champion~3"),
            ]
        )
        assert back.rebuild().recovered == 0
        back.push()
        assert back.promote("churn/3", "champion").move.move == 4


def test_home_that_was_copied_moves_aliases_under_its_own_id(
    repository: Repository, home: Path, tmp_path: Path
) -> None:
    repository.promote("churn/1", "champion")
    copy = home.rename(tmp_path / "moved-aside")
    subprocess.run(["cp", "-a", copy, home], check=True)
    with Repository.open(home) as copied:
        move = copied.promote("churn/2", "champion").move

        assert move.home != repository.home.id
        assert told_of(copied) == [("promoted", "churn@champion~2")]


# What it costs


def test_promotion_costs_the_same_with_a_thousand_moves(
    repository: Repository, home: Path, backend: Path
) -> None:
    repository.promote("churn/1", "champion")

    def cost() -> dict[str, int]:
        with Repository.open(home) as fresh:
            set_backend(fresh, counting := Counting(backend))
            on = fresh.aliases_at_backend.newest("churn", "champion").version
            version = 1 + (on or 0) % 2
            counting.asked.clear()
            fresh.promote(f"churn/{version}", "champion")
            return dict(counting.asked)

    first = cost()
    path = backend / numbered(moves("churn", "champion"), 2)
    last = AliasMove.from_bytes(path.read_bytes(), "")
    fields = {name: getattr(last, name) for name in last.as_json()}
    for number in range(3, 1001):
        more = AliasMove(**{**fields, "move": number})
        (backend / numbered(moves("churn", "champion"), number)).write_bytes(more.to_bytes())
    repository.aliases_at_backend.bring_forward("churn", "champion", 1000)

    assert cost() == first
