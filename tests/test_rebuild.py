"""A home whose journal is lost: what can be known comes back, and the rest is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository, locks
from modeldrop.errors import ConfigError, JournalForked, Locked, RecordDamaged
from modeldrop.layout import journal_segments
from modeldrop.names import new_guid
from modeldrop.rebuild import Rebuilt
from support import work
from support.children import dies
from support.program import in_process
from support.sharing import host, note, rebuild, seen, store
from support.stores import RUN, model

LOST_ALL = ("journal.jsonl", "HEAD", "pushed.json")


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def ada(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    """A home that has shared two versions, and not yet a third one."""
    with host(tmp_path / "ada", str(backend)) as made:
        store(made, "one")
        store(made, "two")
        made.push()
        store(made, "three")
        yield made


def lose(repository: Repository, *names: str) -> Repository:
    """Remove files of a home, and open it again."""
    root = repository.home.paths.root
    for name in names:
        (root / name).unlink()
    return Repository.open(root)


def answers(repository: Repository) -> object:
    """Return what a home says of runs and versions."""
    versions = repository.versions("churn")
    return list(repository.runs()), versions, [repository.describe(each) for each in versions]


def abouts(repository: Repository) -> list[tuple[str, str]]:
    """Return kind and subject of each entry of the own journal, in order."""
    return [(each.kind, each.about[0]) for each in repository.journal.entries()]


def keys(backend: Path) -> set[Path]:
    """Return all that is at the backend but journals."""
    return {path for path in backend.rglob("*") if path.is_file() and "journals" not in path.parts}


def test_lost_journal_comes_back_with_every_entry_that_was_shared_and_every_record(
    ada: Repository, backend: Path
) -> None:
    before, said, entries = answers(ada), abouts(ada), seen(ada)
    with lose(ada, *LOST_ALL) as back:
        told = back.rebuild()

        assert told == Rebuilt(source="backend", entries=5, recovered=2, lost=None, troubles=())
        assert answers(back) == before
        assert abouts(back) == [*said[:5], ("home-rebuilt", "home"), *said[5:]]
        assert set(entries[:5]) <= set(seen(back))
        recovered = list(back.journal.entries())[6:]
        assert all(each.details["rebuilt"] is True for each in recovered)
        assert back.verify(deep=True).ok
        assert back.push().seq == 8
    with host(backend.parent / "eve", str(backend)) as eve:
        assert [each.trouble for each in eve.fetch()] == [None]
        assert eve.verify().ok


@pytest.mark.scenario(36)
def test_after_a_rebuild_nothing_is_uploaded_again_and_no_version_given_twice(
    ada: Repository, backend: Path, tmp_path: Path
) -> None:
    path = model(tmp_path / "aside/model.bin", "again")
    ada.upload(RUN, path)
    assert ada.register(RUN, "churn").version.version == 4
    before = keys(backend)
    shutil.rmtree(ada.home.paths.refs)
    ada.home.paths.refs.mkdir()
    with lose(ada, *LOST_ALL) as back:
        back.rebuild()

        assert back.upload(RUN, path).created is False
        again = back.register(RUN, "churn")
        assert (again.version.version, again.created) == (4, False)
        assert keys(backend) == before
        assert store(back, "five") == "churn/5"


def test_what_a_killed_writer_left_past_head_is_told_once(ada: Repository) -> None:
    head = ada.home.paths.head.read_bytes()
    store(ada, "four")
    said = abouts(ada)
    # Its lines were on the disk, and HEAD wasn't yet.
    ada.home.paths.head.write_bytes(head)
    with lose(ada) as back:
        assert back.rebuild().recovered == 0
        assert abouts(back) == said
        assert back.rebuild() == Rebuilt(None, 0, 0, 0, ())


@pytest.mark.parametrize("names", [("HEAD",), ("journal.jsonl",), ("journal.jsonl", "HEAD")])
def test_whatever_is_lost_of_the_journal_is_made_again(
    ada: Repository, names: tuple[str, ...]
) -> None:
    said = abouts(ada)
    with lose(ada, *names) as back:
        told = back.rebuild()

        assert told.source == ("home" if names == ("HEAD",) else "backend")
        assert set(abouts(back)) == {*said, ("home-rebuilt", "home")}
        assert back.journal.check() == len(said) + 1
        assert back.rebuild() == Rebuilt(None, 0, 0, 0, ())


def test_damage_costs_what_comes_after_it_and_what_was_there_is_kept(ada: Repository) -> None:
    note(ada, "only in the journal")
    path = ada.home.paths.journal
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:6], lines[6].replace(b"three", b"eerht"), lines[7]])
    damaged = damaged.replace(b'"version":3', b'"version":4')
    path.write_bytes(damaged)

    told = ada.rebuild()

    assert (told.source, told.entries, told.recovered, told.lost) == ("home", 6, 1, 2)
    assert [each for each in abouts(ada) if each[0] == "registered"][-1] == (
        "registered",
        "churn/3",
    )
    kept = {each.name.partition("Z-")[2]: each for each in ada.home.paths.torn.iterdir()}
    assert kept["journal.jsonl"].read_bytes() == damaged
    assert set(kept) == {"journal.jsonl", "HEAD"}


def test_journal_that_was_begun_anew_gives_way_to_what_was_shared(
    ada: Repository, backend: Path
) -> None:
    with lose(ada, *LOST_ALL) as back:
        store(back, "four")
        with pytest.raises(JournalForked, match="line 1") as caught:
            back.push()
        assert "modeldrop rebuild" in caught.value.hint

        told = back.rebuild()

        assert (told.source, told.entries, told.recovered) == ("backend", 5, 4)
        back.push()
        assert back.verify().ok
    with host(backend.parent / "eve", str(backend)) as eve:
        assert [each.trouble for each in eve.fetch()] == [None]


def test_home_that_never_shared_gets_entries_for_its_records(tmp_path: Path, backend: Path) -> None:
    with host(tmp_path / "eve", str(backend)) as eve:
        store(eve, "one")
        with lose(eve, "journal.jsonl", "HEAD") as back:
            told = back.rebuild()
            assert (told.source, told.entries, told.recovered) == ("nothing", 0, 2)
            assert [kind for kind, _ in abouts(back)] == ["home-rebuilt", "committed", "registered"]
            assert back.verify().ok


def test_records_of_other_homes_get_no_entry(ada: Repository, backend: Path) -> None:
    with host(backend.parent / "eve", str(backend)) as eve:
        store(eve, "of eve")
        with lose(ada, *LOST_ALL) as back:
            assert back.rebuild().recovered == 2


def test_segments_of_ones_own_that_are_damaged_are_said(ada: Repository, backend: Path) -> None:
    note(ada, "more")
    ada.push()
    last = max((backend / journal_segments(ada.home.id)).iterdir())
    last.write_bytes(b"nonsense\n")
    with lose(ada, *LOST_ALL) as back:
        told = back.rebuild()
        assert (told.source, told.entries) == ("backend", 5)
        assert len(told.troubles) == 1
        assert "at line 6" in told.troubles[0]


@pytest.mark.parametrize("step", ["journal rebuilt", "head rebuilt", "records told of"])
def test_killed_after_a_step_it_is_finished_by_the_next_one(ada: Repository, step: str) -> None:
    said = abouts(ada)
    with lose(ada, *LOST_ALL) as back:
        assert dies(rebuild, back.home.paths.root, at=step)
        back.rebuild()
        # What a rebuild says of itself may be said twice.
        assert set(abouts(back)) == {*said, ("home-rebuilt", "home")}
        assert [each for each in abouts(back) if each[0] != "home-rebuilt"] == said
        assert back.verify().ok


def test_open_intent_and_damaged_counter_are_settled(ada: Repository) -> None:
    paths = ada.home.paths
    store(ada, "four")
    paths.counter("churn").write_bytes(b"")
    with lose(ada, *LOST_ALL) as back:
        back.rebuild()
        assert back.runs_at_backend.open_intents() == []
        assert store(back, "five") == "churn/5"


def test_intent_that_is_damaged_is_put_aside_and_what_came_of_it_has_its_entry(
    ada: Repository, tmp_path: Path
) -> None:
    paths, run = ada.home.paths, new_guid()
    weights = model(tmp_path / "weights.bin", "four")
    assert dies(work.upload, paths.root, run, weights, at="record appended")
    (left,) = paths.intents.iterdir()
    left.write_bytes(left.read_bytes().replace(b"1", b"2"))
    with Repository.open(paths.root) as back:
        with pytest.raises(RecordDamaged) as caught:
            back.upload(run, weights)
        assert "modeldrop rebuild" in caught.value.hint
        assert back.rebuild().recovered == 1

        assert list(paths.intents.iterdir()) == []
        assert [each.name.partition("-")[2] for each in paths.torn.iterdir()] == [left.name]
        assert ("committed", f"run:{run}~1") in abouts(back)
        assert not back.upload(run, weights).created
        assert back.verify().ok


def test_hooks_begin_with_what_happens_next(ada: Repository) -> None:
    place = ada.home.paths.hooks()
    place.write_text("{}")
    ada.rebuild()
    assert place.exists()
    with lose(ada, "HEAD") as back:
        back.rebuild()
    assert not place.exists()


def test_nothing_is_rebuilt_under_a_running_service(ada: Repository) -> None:
    with locks.hold(ada.home.paths.service_lock(), what="a service"), pytest.raises(Locked):
        ada.rebuild()


def test_copied_home_is_told_to_take_its_id_first(ada: Repository, tmp_path: Path) -> None:
    shutil.copytree(ada.home.paths.root, tmp_path / "copy")
    with Repository.open(tmp_path / "copy") as copy, pytest.raises(ConfigError, match="copied"):
        copy.rebuild()


def test_command_tells_what_came_of_it(ada: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    run = in_process(capsys)
    root = ada.home.paths.root
    assert run("--home", root, "rebuild").err == "The journal is whole.\n"
    lose(ada, *LOST_ALL).close()
    told = run("--home", root, "rebuild", "--json")
    assert told.code == 0
    assert told.json == {
        "source": "backend",
        # The command before has shared at its end what wasn't.
        "entries": 7,
        "recovered": 0,
        "lost": None,
        "seq": 8,
        "troubles": [],
    }
    assert run("--home", root, "push", "--json").json["entries"] == 0
    assert run("--home", root, "rebuild", "-q").lines == ["8"]
