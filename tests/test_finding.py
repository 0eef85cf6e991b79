"""Lists, searches and the best version: complete, up to date, and never the truth."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from modeldrop import Repository, layout
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import (
    BackendError,
    IntegrityError,
    InvalidName,
    Locked,
    MetricNotFound,
    UsageError,
    VersionNotFound,
)
from modeldrop.finding import Finding, forward, index
from modeldrop.home_records import FetchedAt
from modeldrop.metadata import Metadata
from modeldrop.names import new_guid
from modeldrop.records import Revision, VacantVersion
from modeldrop.structs import replace
from support import sharing, worlds
from support.children import together
from support.meanwhile import meanwhile
from support.program import as_process
from support.stores import Counting, Listing, model, set_backend

HIGH = "metrics.auc>0.9"


@pytest.fixture
def world(repository: Repository) -> Repository:
    """A home whose backend holds twenty runs, and a dozen versions of two experiments."""
    worlds.fill(repository, 20, {"churn": 9, "fraud": 3})
    return repository


def again(repository: Repository) -> Repository:
    """Open the same home once more, as the next command does."""
    return Repository.open(repository.home.paths.root)


def searched(repository: Repository, query: str) -> list[str]:
    return [each.reference for each in again(repository).finding.search(query).found]


def runs_of(repository: Repository, query: str) -> list[str]:
    return [each.run for each in again(repository).finding.search_runs(query).found]


def store(repository: Repository, **said: dict[str, str]) -> str:
    """Store a run that says something of itself, at the backend and in this home's journal."""
    run = new_guid()
    path = model(repository.home.paths.root.parent / f"aside-{run}" / "model.bin", run)
    repository.upload(run, path, metadata=said)
    return run


def above(limit: float, numbers: range) -> set[int]:
    return {each for each in numbers if float(worlds.said(each).metrics["auc"]) > limit}


# What is found


def test_search_finds_versions_by_what_their_runs_say(world: Repository) -> None:
    expected = [f"churn/{number}" for number in sorted(above(0.5, range(1, 10)), reverse=True)]
    assert expected
    assert searched(world, "metrics.auc>0.5 and experiment=churn") == expected
    (found,) = again(world).finding.search("experiment=fraud and version=2").found
    record = world.resolve("fraud/2").version
    assert record is not None
    assert (found.run, found.sha256, found.registered_at) == (
        *(record.run, record.sha256, record.registered_at),
    )
    assert found.metadata()["metrics"] == dict(worlds.said(11).metrics)


def test_search_finds_runs_whether_they_are_registered_or_not(world: Repository) -> None:
    expected = {worlds.guid(number) for number in above(0.5, range(1, 21))}
    assert set(runs_of(world, "metrics.auc>0.5")) == expected
    assert len(runs_of(world, "experiment=churn")) == 20


def test_search_finds_versions_by_their_aliases(world: Repository) -> None:
    assert searched(world, "alias") == []
    world.promote("churn/3", "champion")
    world.promote("churn/4", "champion")
    world.promote("churn/3", "old")
    assert searched(world, "alias=champion") == ["churn/4"]
    (found,) = again(world).finding.search("alias=old").found
    assert found.aliases == ("old",)
    world.remove_alias("churn@champion")
    assert searched(world, "alias=champion") == []


def test_search_finds_versions_that_are_retired(world: Repository) -> None:
    assert searched(world, "retired") == []
    world.retire("churn/3")
    world.retire("fraud/1")
    world.unretire("fraud/1")
    assert searched(world, "retired") == searched(world, "retired=true") == ["churn/3"]
    assert "churn/3" not in searched(world, "not retired")
    assert len(searched(world, "retired=false")) == 11
    (found,) = again(world).finding.search("retired").found
    assert found.retired


def test_search_finds_versions_by_where_they_are_live(world: Repository, tmp_path: Path) -> None:
    assert searched(world, "target") == []
    run = store(world)
    for _ in range(2):
        world.register(run, "churn", again=True)
    world.add_target("production", tmp_path / "live")
    world.deploy("churn/10", "production")
    world.deploy("churn/11", "production")
    assert searched(world, "target=production") == ["churn/11"]
    world.rollback("churn", "production")
    assert searched(world, "target=production") == ["churn/10"]
    listed = again(world).finding.versions("churn")
    assert [each.version for each in listed if each.targets == ("production",)] == [10]
    (found,) = again(world).finding.search("target").found
    assert found.targets == ("production",)
    # What is live where the target was isn't live where it is now.
    world.remove_target("production")
    assert searched(world, "target") == []
    world.add_target("production", tmp_path / "elsewhere")
    assert searched(world, "target") == []
    assert not any(each.targets for each in again(world).finding.versions("churn"))


def test_what_this_home_did_is_found_at_once(world: Repository) -> None:
    assert runs_of(world, "tags.team=mine") == []
    run = store(world, tags={"team": "mine"}, metrics={"auc": "0.99"})
    assert runs_of(world, "tags.team=mine") == [run]
    world.register(run, "churn")
    assert searched(world, "tags.team=mine") == ["churn/10"]
    assert [each.reference for each in again(world).finding.experiments()] == [
        *("churn/10", "fraud/3"),
    ]


def test_a_metric_that_arrives_after_the_registration_is_the_versions(world: Repository) -> None:
    root = world.home.paths.model_repository
    assert searched(world, "metrics.late") == []
    run = world.resolve("churn/1").revision.run
    late = Metadata(metrics={"late": "1", "auc": "0.999"})
    worlds.put(root, worlds.revision(1, late, at=2, run=run))
    tell(world, run, 2)
    assert searched(world, "metrics.late=1") == ["churn/1"]
    points, _ = again(world).finding.series("churn", "auc")
    assert points[0].text == "0.999"
    # Other bytes under the artifact's name say nothing of the version.
    worlds.put(root, worlds.revision(1, Metadata(metrics={"auc": "1"}), at=3, run=run, text="new"))
    tell(world, run, 3)
    assert searched(world, "metrics.late=1") == ["churn/1"]
    assert runs_of(world, "metrics.late") == []
    # Nor what comes after them, with the same bytes once more.
    worlds.put(root, worlds.revision(1, Metadata(metrics={"auc": "2"}), at=4, run=run))
    tell(world, run, 4)
    assert searched(world, "metrics.late=1") == ["churn/1"]


def tell(repository: Repository, run: str, revision: int) -> None:
    """Have the home's journal tell of a revision, as if it had been committed here."""
    found = repository.runs_at_backend.revision(run, revision)
    mine = replace(found, home=repository.home.id)
    entry = repository.runs_at_backend.entry(mine, repository._request())
    assert entry is not None
    repository.journal.append(entry)


def test_lists_are_as_of_now_whatever_the_index_knows(world: Repository, tmp_path: Path) -> None:
    finding = world.finding
    assert [each.version for each in finding.versions("churn")] == list(range(9, 0, -1))
    assert len(finding.runs()) == 20
    # Another host, of whose journal nothing is known here.
    root = world.home.paths.model_repository
    new = worlds.revision(21, worlds.said(21))
    worlds.put(root, new, worlds.version(new, "churn", 10), worlds.version(new, "new", 1))
    assert [each.version for each in finding.versions("churn")] == list(range(10, 0, -1))
    assert [each.reference for each in finding.experiments()] == ["churn/10", "fraud/3", "new/1"]
    assert len(finding.runs()) == 21
    # A run that was removed is no answer.
    shutil.rmtree(root / new.run)
    assert len(finding.runs()) == 20
    with pytest.raises(VersionNotFound, match="there is no experiment 'none'"):
        finding.versions("none")
    with pytest.raises(InvalidName):
        finding.versions("../x")


def test_a_backend_that_was_put_back_has_no_later_versions(world: Repository) -> None:
    folder = world.home.paths.model_repository / layout.versions("churn")
    assert len(world.finding.versions("churn")) == 9
    (folder / "00000009.json").unlink()
    assert [each.version for each in world.finding.versions("churn")] == list(range(8, 0, -1))
    assert "churn/9" not in searched(world, "experiment=churn")


def test_numbers_that_an_import_left_vacant_are_passed_over(world: Repository) -> None:
    def leave_vacant(experiment: str, number: int) -> None:
        record = VacantVersion(
            owner=f"{experiment}-{number}",
            experiment=experiment,
            version=number,
            reason="it was deleted there",
            home=worlds.guid(2**64),
            host="trainer-1",
            left_by="ada",
            left_at=worlds.AT.format(number),
        )
        key = layout.numbered(layout.versions(experiment), number)
        path = world.home.paths.model_repository / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record.to_bytes())

    for name, number in (("churn", 10), ("churn", 11), ("none", 1)):
        leave_vacant(name, number)
    later = worlds.revision(20, worlds.said(20))
    worlds.put(world.home.paths.model_repository, worlds.version(later, "fraud", 5))
    leave_vacant("fraud", 4)
    for _ in range(2):
        with again(world) as opened:
            found = opened.finding.experiments()
            assert [each.reference for each in found] == ["churn/9", "fraud/5"]
            found = opened.finding.versions("fraud")
            assert [each.version for each in found] == [5, 3, 2, 1]
            assert len(opened.finding.search("experiment=churn").found) == 9
    with again(world) as opened:
        counted = Counting(world.home.paths.model_repository)
        set_backend(opened, counted)
        opened.finding.search("experiment=churn")
        assert counted.asked.total() == 0


# What other hosts did


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Repository, Repository]]:
    backend = str(tmp_path / "backend")
    with (
        sharing.host(tmp_path / "ada/.mlops", backend) as ada,
        sharing.host(tmp_path / "bob/.mlops", backend) as bob,
    ):
        yield ada, bob


def test_search_knows_of_other_hosts_what_was_fetched_and_says_up_to_when(
    hosts: tuple[Repository, Repository],
) -> None:
    ada, bob = hosts
    first = sharing.store(ada, "first")
    answer = bob.finding.search("experiment=churn")
    # An index that is new knows all that there is.
    assert [each.reference for each in answer.found] == [first]
    began = answer.as_of
    assert began is not None
    second = sharing.store(ada, "second")
    ada.promote(second, "champion")
    ada.push()
    assert searched(bob, "experiment=churn") == [first]
    assert bob.finding.search("experiment=churn").as_of == began
    bob.fetch()
    answer = bob.finding.search("alias=champion")
    assert [each.reference for each in answer.found] == [second]
    assert answer.as_of is not None
    assert answer.as_of > began
    # Its own journal is read anew, and tells nothing twice.
    assert searched(ada, "experiment=churn") == [second, first]


@pytest.mark.parametrize("text", ['[{"artifact"', '[{"artifacu": "a"}]', "3"])
def test_text_of_the_index_that_is_nonsense_is_told_with_what_to_do(
    hosts: tuple[Repository, Repository], text: str
) -> None:
    ada = hosts[0]
    sharing.store(ada, "first")
    assert ada.finding.runs()
    with contextlib.closing(sqlite3.connect(ada.home.paths.index)) as db, db:
        db.execute("UPDATE revisions SET artifacts = ?, metadata = ?", (text, text))
    [found] = ada.finding.runs()
    for ask in (found.artifacts, found.metadata):
        with pytest.raises(IntegrityError, match="is damaged") as told:
            ask()
        assert "`index`" in told.value.hint


def test_index_that_is_no_text_where_one_has_to_be_is_made_anew(
    hosts: tuple[Repository, Repository],
) -> None:
    ada = hosts[0]
    first = sharing.store(ada, "first")
    assert searched(ada, "experiment=churn") == [first]
    path = ada.home.paths.index
    for at in range(len("versions")):
        data = bytearray(path.read_bytes())
        # Of a table's name, which SQLite shows when it can't understand the rest.
        data[data.index(b"tableversionsversions") + len("table") + at] ^= 0x80
        path.write_bytes(data)
        assert searched(ada, "experiment=churn") == [first]


def test_flipped_bit_of_when_it_was_fetched_makes_no_answer_younger(
    hosts: tuple[Repository, Repository],
) -> None:
    bob = hosts[1]
    assert bob.finding.search("experiment=churn").as_of
    bob.fetch()
    told = bob.finding.search("experiment=churn").as_of
    assert told is not None
    path = bob.home.paths.fetched_at()
    whole = path.read_bytes()
    for at, byte in enumerate(whole):
        path.write_bytes(whole[:at] + bytes([byte ^ 1 << at % 8]) + whole[at + 1 :])
        assert (bob.finding.search("experiment=churn").as_of or "") < told


def test_a_fetch_with_trouble_makes_no_answer_younger(
    hosts: tuple[Repository, Repository],
) -> None:
    ada, bob = hosts
    sharing.store(ada, "first")
    ada.push()
    bob.fetch()
    began = bob.finding.search("experiment=churn").as_of
    (segment,) = sharing.segments_of(ada, Path(ada.backend.url))
    segment.chmod(0o644)
    segment.write_bytes(b"")
    assert any(each.trouble for each in bob.fetch())
    assert bob.finding.search("experiment=churn").as_of == began


# The index is never the truth


def garbage(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:100] + b"\xa5" * (size - 100))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_another_shape(path: Path) -> None:
    import sqlite3  # noqa: PLC0415 - only to damage it

    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 7")
    db.commit()
    db.close()


def of_another_repository(path: Path) -> None:
    import sqlite3  # noqa: PLC0415 - only to damage it

    db = sqlite3.connect(path)
    db.execute("UPDATE about SET value = 'another' WHERE name = 'repository'")
    db.commit()
    db.close()


def no_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database at all\n" * 1000),
        *(garbage, cut, of_another_shape, of_another_repository, no_folder),
    ],
    ids=["gone", "empty", "text", "garbage", "cut", "shape", "repository", "no folder"],
)
def test_a_lost_or_damaged_index_is_made_anew_and_nobody_is_told(
    world: Repository, damage: Callable[[Path], None]
) -> None:
    world.promote("churn/3", "champion")
    asked = ("metrics.auc>0.3", "alias", "params.depth<=8 and not tags.team=ads")
    before = [searched(world, query) for query in asked]
    assert all(before)
    path = world.home.paths.index
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    damage(path)
    assert [searched(world, query) for query in asked] == before
    with again(world) as opened:
        counted = Counting(world.home.paths.model_repository)
        set_backend(opened, counted)
        assert opened.finding.search("alias").found
        # Where there can be no file, all of it is read each time.
        assert bool(counted.asked.total()) == (damage is no_folder)
    assert len(world.finding.runs()) == 20
    assert [each.version for each in world.finding.versions("churn")] == list(range(9, 0, -1))


def test_a_first_search_that_is_interrupted_goes_on_from_there(
    world: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_RECORDS", 4)
    read: list[str] = []
    real = type(world.runs_at_backend).revision

    def reads(runs: object, run: str, number: int) -> Revision:
        read.append(run)
        if len(read) == 11:
            raise KeyboardInterrupt
        return real(world.runs_at_backend, run, number)

    monkeypatch.setattr(type(world.runs_at_backend), "revision", reads)
    with pytest.raises(KeyboardInterrupt):
        world.finding.search_runs("experiment=churn")
    assert len(runs_of(world, "experiment=churn")) == 20
    # Two batches of four were kept; what was read of the third one is read again.
    last = read[11:]
    assert not set(read[:8]) & set(last[:12])


def test_many_that_search_first_at_once_find_the_same(world: Repository) -> None:
    root = str(world.home.paths.root)
    told = together(worlds.search, [(root, "params.depth<=8 and not tags.team=ads")] * 6)
    assert told[0]
    assert all(each == told[0] for each in told)
    assert searched(world, "params.depth<=8 and not tags.team=ads") == told[0]


def test_a_slower_first_search_takes_back_nothing_that_another_one_found(
    world: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def is_cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    def quicker() -> None:
        found.extend(searched(world, "metrics.auc"))
        # The slower one still puts there what it has read, and comes no further.
        monkeypatch.setattr(forward.Forward, "_follow", is_cut_off)

    meanwhile(monkeypatch, type(world.versions_at_backend), "version", quicker)
    with pytest.raises(KeyboardInterrupt):
        searched(world, "metrics.auc")
    assert len(found) == 12
    with contextlib.closing(sqlite3.connect(world.home.paths.index)) as db:
        assert db.execute("SELECT count(*) FROM versions WHERE said IS NULL").fetchone() == (0,)


def test_a_slower_search_knows_what_another_one_learned_meanwhile(
    world: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = world.home.paths.model_repository
    run = world.resolve("churn/1").revision.run

    def learns() -> None:
        worlds.put(root, worlds.revision(1, Metadata(metrics={"late": "1"}), at=2, run=run))
        tell(world, run, 2)
        assert searched(world, "metrics.late") == ["churn/1"]

    meanwhile(monkeypatch, forward.Forward, "_walk", learns)
    assert searched(world, "metrics.late") == ["churn/1"]


def test_a_run_that_is_stored_while_runs_are_listed_stays_found(
    world: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []

    def stores() -> None:
        runs.append(store(world, tags={"team": "mine"}))
        assert runs_of(world, "tags.team=mine") == runs

    meanwhile(monkeypatch, LocalBackend, "children", stores)
    again(world).finding.runs()
    assert runs_of(world, "tags.team=mine") == runs != []


def test_an_experiment_is_listed_though_another_process_knows_of_a_newer_version(
    world: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def registers() -> None:
        world.register(store(world), "churn")
        # It takes up that there is one more, and reads none.
        again(world).finding.runs()

    meanwhile(monkeypatch, forward.Forward, "retirements", registers)
    listed = again(world).finding.experiments()
    assert [each.reference for each in listed] == ["churn/9", "fraud/3"]


def test_a_search_is_no_younger_than_the_journals_that_it_has_read(
    world: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = "2999-01-01T00:00:00.000000Z"
    path = world.home.paths.fetched_at()

    def fetches() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FetchedAt(later).to_bytes())

    meanwhile(monkeypatch, forward.Forward, "journals", fetches)
    assert again(world).finding.search("alias").as_of != later
    assert again(world).finding.search("alias").as_of == later


def test_records_are_read_once(world: Repository) -> None:
    assert len(searched(world, "metrics.auc")) == 12
    with again(world) as opened:
        counted = Counting(world.home.paths.model_repository)
        set_backend(opened, counted)
        assert len(opened.finding.search("metrics.auc").found) == 12
        assert len(opened.finding.search_runs("metrics.auc").found) == 20
        assert counted.asked.total() == 0
        # Is the newest one there, and is there one more? Which aliases, targets, retirements?
        opened.finding.versions("churn")
        assert counted.asked == {"stat": 2, "children": 3}
        counted.asked.clear()
        opened.finding.runs()
        assert counted.asked == {"children": 1}


def test_at_an_object_store_records_are_read_in_several_threads(world: Repository) -> None:
    with again(world) as opened:
        set_backend(opened, Listing(world.home.paths.model_repository))
        assert len(opened.finding.search("metrics.auc").found) == 12
        assert len(opened.finding.runs()) == 20


def test_a_journal_that_was_rebuilt_is_read_from_its_first_line_on(world: Repository) -> None:
    run = store(world, tags={"team": "mine"})
    assert runs_of(world, "tags.team=mine") == [run]
    (world.home.paths.journal).unlink()
    again(world).rebuild()
    other = store(again(world), tags={"team": "mine"})
    assert set(runs_of(world, "tags.team=mine")) == {run, other}


# What is damaged is told


def test_a_damaged_manifest_is_told_each_time_and_hides_nothing_else(world: Repository) -> None:
    key = layout.numbered(layout.revisions(worlds.guid(5)), 1)
    path = world.home.paths.model_repository / key
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"auc"', b'"AUC"'))
    with pytest.raises(IntegrityError, match=r"00000001\.json is damaged"):
        world.finding.search("experiment=churn")
    for _ in range(2):
        damaged: list[IntegrityError] = []
        found = again(world).finding.search("experiment=churn", damaged=damaged.append).found
        assert len(found) == 9
        assert damaged
        assert all(key in each.message for each in damaged)
    assert "churn/5" not in [each.reference for each in found if each.metadata()]
    path.write_bytes(whole)
    assert "churn/5" in searched(world, "metrics.auc")
    assert worlds.guid(5) in runs_of(world, "metrics.auc")


def test_a_damaged_journal_is_told_and_the_backend_still_answers(world: Repository) -> None:
    store(world)
    journal = world.home.paths.journal
    data = journal.read_bytes()
    journal.write_bytes(data[:50] + b"X" + data[51:])
    damaged: list[IntegrityError] = []
    found = again(world).finding.search("experiment=churn", damaged=damaged.append).found
    assert len(found) == 9
    assert "is damaged at byte 0" in damaged[0].message


def test_an_unmounted_backend_makes_nothing_forgotten(world: Repository) -> None:
    root = world.home.paths.model_repository
    assert len(searched(world, "metrics.auc")) == 12
    away = root.with_name("away")
    root.rename(away)
    root.mkdir()
    for ask in (Finding.runs, partial(Finding.versions, experiment="churn")):
        with pytest.raises(BackendError, match="no repository now"):
            ask(again(world).finding)
    # What is known is known.
    assert len(searched(world, "metrics.auc")) == 12
    root.rmdir()
    away.rename(root)
    assert len(again(world).finding.runs()) == 20


# The best version


def registered(repository: Repository, *said: dict[str, dict[str, str]]) -> None:
    for each in said:
        repository.register(store(repository, **each), "best")


def best(repository: Repository, metric: str, **more: object) -> list[str]:
    found = again(repository).finding.best("best", metric, **more)  # type: ignore[arg-type] # as given
    return [each.version.reference for each in found.points]


def test_the_best_version_goes_by_the_direction_that_runs_declare(
    repository: Repository,
) -> None:
    registered(
        repository,
        {"metrics": {"auc": "0.9", "loss": "3"}, "directions": {"auc": "min", "loss": "min"}},
        {"metrics": {"auc": "0.95", "loss": "10"}, "directions": {"auc": "max"}},
        {"metrics": {"auc": "nan", "loss": "-inf"}},
        {"metrics": {"auc": "0.950", "loss": "2"}},
        {"tags": {"team": "none"}},
    )
    # Of two directions the newer one's, of equal versions the older one, and nan is none.
    assert best(repository, "auc") == ["best/2"]
    assert best(repository, "auc", most=9) == ["best/2", "best/4", "best/1"]
    assert best(repository, "auc", direction="min") == ["best/1"]
    assert best(repository, "loss", most=3) == ["best/3", "best/4", "best/1"]
    assert best(repository, "loss", direction="max") == ["best/2"]
    repository.promote("best/2", "champion")
    found = repository.finding.best("best", "auc")
    assert (found.direction, found.declared) == ("max", True)
    assert found.points[0].version.aliases == ("champion",)


def test_the_best_version_is_none_that_is_retired(repository: Repository) -> None:
    registered(
        repository,
        {"metrics": {"auc": "0.9"}, "directions": {"auc": "max"}},
        {"metrics": {"auc": "0.99"}},
        {"metrics": {"auc": "0.8"}},
        {"metrics": {"auc": "0.7"}},
    )
    repository.retire("best/2")
    repository.retire("best/4")
    assert best(repository, "auc", most=9) == ["best/1", "best/3"]
    found = again(repository).finding.best("best", "auc")
    assert [each.version.reference for each in found.passed_over] == ["best/2"]
    points, _ = again(repository).finding.series("best", "auc")
    assert [each.version.retired for each in points] == [False, True, False, True]
    repository.unretire("best/2")
    assert best(repository, "auc") == ["best/2"]
    for number in (1, 2, 3):
        repository.retire(f"best/{number}")
    with pytest.raises(MetricNotFound, match="each version of best that has the metric 'auc'"):
        best(repository, "auc")


def test_whether_the_best_version_is_retired_is_asked_now(
    hosts: tuple[Repository, Repository],
) -> None:
    ada, bob = hosts
    registered(
        ada,
        {"metrics": {"auc": "0.9"}, "directions": {"auc": "max"}},
        {"metrics": {"auc": "0.99"}},
    )
    assert best(bob, "auc") == ["best/2"]
    ada.retire("best/2")
    assert best(bob, "auc") == ["best/1"]
    listed = again(bob).finding.versions("best")
    assert [each.version for each in listed if each.retired] == [2]
    (found,) = again(bob).finding.experiments()
    assert found.retired
    # Nothing was fetched since.
    ada.unretire("best/2")
    assert best(bob, "auc") == ["best/2"]


def test_without_a_declared_direction_the_choice_is_named(repository: Repository) -> None:
    registered(repository, {"metrics": {"auc": "0.9", "word": "1"}})
    with pytest.raises(UsageError, match="no version of best declares") as refused:
        best(repository, "auc")
    assert "`--max` or `--min`" in refused.value.hint
    assert best(repository, "auc", direction="max") == ["best/1"]
    with pytest.raises(MetricNotFound, match="has the metric 'acu' as a number; they have auc"):
        best(repository, "acu")
    with pytest.raises(VersionNotFound):
        repository.finding.best("nothing", "auc")


def test_a_series_has_each_version_that_has_the_metric_in_order(repository: Repository) -> None:
    registered(
        repository,
        {"metrics": {"auc": "0.9"}, "directions": {"auc": "max"}},
        {"metrics": {"loss": "1"}},
        {"metrics": {"auc": "1e-05"}},
    )
    points, direction = repository.finding.series("best", "auc")
    assert [(each.version.version, each.text, each.number) for each in points] == [
        (1, "0.9", 0.9),
        (3, "1e-05", 0.00001),
    ]
    assert direction == "max"


# In a large store


def test_show_and_promote_ask_as_little_of_a_large_store_as_of_a_small_one(tmp_path: Path) -> None:
    asked = []
    for name, runs, versions in (("small", 10, 10), ("large", 300, 600)):
        with Repository.init(tmp_path / name / ".mlops")[0] as made:
            worlds.fill(made, runs, {"churn": versions})
            counted = Counting(made.home.paths.model_repository)
        with again(made) as opened:
            set_backend(opened, counted)
            version = opened.resolve("churn/3").version
            assert version is not None
            opened.describe(version)
            assert opened.promote("churn/3", "champion").created
            asked.append(dict(counted.asked))
            # Nothing that decides has looked at an index, nor made one.
            assert not opened.home.paths.index.exists()
    assert asked[0] == asked[1]


@pytest.mark.slow
def test_each_answer_of_a_large_store_comes_within_ten_times_its_bar(tmp_path: Path) -> None:
    # A part of the bar's 100,000 runs and 10,000 versions, which `make bench` has.
    with Repository.init(tmp_path / ".mlops")[0] as made:
        worlds.fill(made, 5000, {"churn": 500, "fraud": 500})
        made.finding.search("experiment=none")
    for call in (
        ("search", "metrics.auc>0.5 and params.depth<=8"),
        ("search", "--runs", "metrics.auc>0.5 and params.depth<=8"),
        ("list", "churn", "--sort", "-metrics.auc"),
        ("list",),
        ("best", "churn", "auc"),
        ("diff", "churn/1", "churn/500"),
    ):
        began = time.monotonic()
        assert as_process(*call).code == 0
        assert time.monotonic() - began < 10, call


def test_index_that_another_process_writes_to_for_too_long_is_said(
    world: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert searched(world, HIGH)
    monkeypatch.setattr(index, "_TIMEOUT", 0.05)
    with contextlib.closing(sqlite3.connect(world.home.paths.index, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store(world)

        with pytest.raises(Locked, match="another process has been writing"):
            searched(world, HIGH)
