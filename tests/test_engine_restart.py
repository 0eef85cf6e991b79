"""After a restart nothing is done twice; receipts and the status say how things stand."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.intake import (
    Engine,
    Storing,
    memory,
    new_run,
    read_status,
    receipts,
    walk,
)
from modeldrop.names import new_guid
from support.intake import (
    Gate,
    is_in,
    make_home,
    make_run,
    meddle,
    receipt,
    revisions,
    running,
    scan,
    storing_by,
    tracked,
    tracked_revision,
    turns,
    uploads,
)

# Restart, memory, staging


class _Untouchable(Storing):
    def store(self, *_: object) -> None:  # type: ignore[override] # it never returns
        raise AssertionError("stored again")


@pytest.mark.scenario(35)
@pytest.mark.parametrize("touched", ["nothing", "the receipt is removed"])
def test_a_restart_with_nothing_changed_reads_and_sends_nothing(
    repository: Repository, staging: Path, touched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run(staging, {"model": f"{n}", "_SUCCESS": "model\n"}) for n in range(5)]
    scan(repository)
    before = {run: uploads(repository, run) for run in runs}
    if touched != "nothing":
        (staging / runs[0] / ".modeldrop-receipt.json").unlink()
    opened: list[str] = []
    monkeypatch.setattr(walk, "open_file", lambda *arguments: opened.append(str(arguments)))
    storing = storing_by(repository, _Untouchable)
    engine = Engine(repository.home, repository.runs_at_backend, storing)
    found = {each.run: each for each in engine.scan_once()}
    engine.close()
    assert {found[run].state for run in runs} == {"committed"}
    assert {found[run].revision for run in runs} == {1}
    assert {run: uploads(repository, run) for run in runs} == before
    assert opened == []


@pytest.mark.timeout(60)
def test_a_scan_that_is_asked_for_begins_at_once_whatever_the_last_one_took(
    repository: Repository, staging: Path
) -> None:
    engine = repository.engine()
    try:
        make_run(staging, {"model": "first", "_SUCCESS": ""})
        engine.scan_once()
        # What spaces the service's own scans: as if this one had taken a day.
        engine._scanner.scan_seconds = 86_400
        run = make_run(staging, {"model": "second", "_SUCCESS": ""})
        found = {each.run: each.state for each in engine.scan_once()}
    finally:
        engine.close()
    assert found[run] == "committed"


@pytest.mark.parametrize("how", ["lost", "damaged", "empty", "another run's"])
def test_without_its_memory_a_run_is_read_again_and_found_to_be_stored(
    repository: Repository, staging: Path, how: str
) -> None:
    run = make_run(staging, {"model": "weights", "folder/a": "1"})
    other = make_run(staging, {"model": "other"})
    scan(repository)
    state = repository.home.paths.run_state(run)
    if how == "lost":
        state.unlink()
    elif how == "another run's":
        state.write_bytes(repository.home.paths.run_state(other).read_bytes())
    else:
        state.write_bytes(b"" if how == "empty" else state.read_bytes().replace(b"1", b"2"))
    before = uploads(repository, run)
    assert scan(repository)[run].state == "committed"
    assert len(revisions(repository, run)) == 1
    assert uploads(repository, run) == before
    assert memory.recall(repository.home.paths, run) is not None


def test_a_memory_that_cant_be_written_fails_nothing(repository: Repository, staging: Path) -> None:
    run = make_run(staging, {"model": "weights"})
    place = repository.home.paths.run_state(run).parent
    place.write_text("in the way of a folder")
    found = scan(repository)[run]
    assert (found.state, found.revision) == ("committed", 1)
    place.unlink()
    assert scan(repository)[run].state == "committed"
    assert len(revisions(repository, run)) == 1


@pytest.mark.scenario(24)
def test_staging_that_is_away_is_said_and_nothing_is_forgotten(
    repository: Repository, staging: Path, tmp_path: Path
) -> None:
    committed = make_run(staging, {"model": "1"})
    parked = make_run(staging, {"model": "2", "_SUCCESS": f"{'0' * 64}  model\n"})
    with running(repository) as engine:
        assert turns(engine, lambda: is_in(engine, committed, "committed"))
        assert turns(engine, lambda: is_in(engine, parked, "parked"))
        staging.rename(tmp_path / "unmounted")
        assert turns(engine, lambda: bool(engine._scanner.junk))
        engine._write_status(force=True)
        (junk,) = read_status(repository.home).junk
        assert "isn't there" in junk.reason
        assert set(engine._roster.runs) == {committed, parked}
        assert len(revisions(repository, committed)) == 1
        (tmp_path / "unmounted").rename(staging)
        (staging / committed / "model").write_text("changed")
        assert turns(engine, lambda: tracked_revision(engine, committed) == 2)
        assert is_in(engine, parked, "parked")
        assert not engine._scanner.junk


def test_a_run_that_is_blocked_while_staging_vanishes_goes_on_when_both_are_back(
    tmp_path: Path,
) -> None:
    with make_home(tmp_path / "home", str(tmp_path / "store")) as repository:
        staging = repository.home.staging
        run = make_run(staging, {"model": "1"})
        with running(repository) as engine:
            (tmp_path / "store").rename(tmp_path / "unmounted")
            assert turns(engine, lambda: is_in(engine, run, "blocked"))
            staging.rename(tmp_path / "staging")
            assert turns(engine, lambda: tracked(engine, run).due is None)
            (tmp_path / "unmounted").rename(tmp_path / "store")
            (tmp_path / "staging").rename(staging)
            assert turns(engine, lambda: is_in(engine, run, "committed"))


def test_a_single_scan_of_staging_that_isnt_there_says_so(
    repository: Repository, staging: Path
) -> None:
    staging.rmdir()
    (found,) = scan(repository).values()
    assert (found.state, "isn't there" in found.reason) == ("junk", True)


# Receipts and status


def test_the_receipt_says_what_was_stored(repository: Repository, staging: Path) -> None:
    run = make_run(staging, {"model": "weights"})
    scan(repository)
    found = receipt(staging, run)
    assert (found["state"], found["run"], found["revision"]) == ("committed", run, 1)
    assert found["artifacts"] == [
        {
            "artifact": "model",
            "type": "file",
            "sha256": hashlib.sha256(b"weights").hexdigest(),
            "size": 7,
        }
    ]
    assert found["backend"] == repository.backend.url


@pytest.mark.parametrize("how", ["a folder of its name", "the run's folder is read-only"])
def test_a_receipt_that_cant_be_written_fails_nothing(
    repository: Repository, staging: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(staging, {"model": "weights", "_SUCCESS": ""})
    if how == "a folder of its name":
        (staging / run / ".modeldrop-receipt.json").mkdir()
    else:

        def refuse(*_: object) -> None:
            # Root, as which these tests may run, is refused nothing.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(receipts, "write_between", refuse)
    assert scan(repository)[run].state == "committed"
    assert scan(repository)[run].state == "committed"
    assert len(revisions(repository, run)) == 1
    assert not [path for path in staging.iterdir() if path.name.startswith(".")]


def test_a_receipt_goes_through_no_link(
    repository: Repository, staging: Path, tmp_path: Path
) -> None:
    run = make_run(staging, {"model": "weights", "_SUCCESS": ""})
    target = tmp_path / "target"
    target.write_text("mine")
    (staging / run / ".modeldrop-receipt.json").symlink_to(target)
    assert scan(repository)[run].state == "committed"
    assert target.read_text() == "mine"
    assert receipt(staging, run)["state"] == "committed"


def test_a_receipt_is_left_in_no_folder_that_a_link_leads_to(tmp_path: Path) -> None:
    run = new_guid()
    for name in ("staging", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "staging" / run).symlink_to(tmp_path / "elsewhere")
    receipts.stuck(tmp_path / "staging", run, run, "parked", "reason", "step")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert [path.name for path in (tmp_path / "staging").iterdir()] == [run]


def test_the_status_file_says_where_every_run_stands(tmp_path: Path) -> None:
    with make_home(tmp_path / "home", complete="marker") as repository:
        staging = repository.home.staging
        committed = make_run(staging, {"model": "1", "_SUCCESS": ""})
        waits = make_run(staging, {"model": "22"})
        parked = make_run(staging, {"model": "333", "_SUCCESS": f"{'0' * 64}  model\n"})
        found = scan(repository)
        assert {run: found[run].state for run in (committed, waits, parked)} == {
            committed: "committed",
            waits: "open",
            parked: "parked",
        }
        said = read_status(repository.home)
        assert (said.pid, said.committed) == (None, 1)
        assert {each.run: each.state for each in said.runs} == {waits: "open", parked: "parked"}
        by_run = {each.run: each for each in said.runs}
        assert by_run[parked].reason == found[parked].reason
        assert (by_run[parked].sent, by_run[parked].size) == (0, 3)
        assert "_SUCCESS" in by_run[waits].reason


def test_the_status_without_a_service_doesnt_say_that_bytes_move(
    repository: Repository, staging: Path
) -> None:
    gate = Gate()
    meddle(repository, gate)
    run = make_run(staging, {"model": "1"})
    engine = repository.engine()
    assert turns(engine, gate.reached.is_set)
    engine._write_status(force=True)
    (found,) = read_status(repository.home).runs
    assert (found.run, found.state) == (run, "open")
    assert found.reason == "no service is running to store it"
    gate.open()
    engine.close()


def test_the_status_is_of_the_folder_where_no_status_was_written(
    repository: Repository, staging: Path
) -> None:
    committed = make_run(staging, {"model": "1"})
    scan(repository)
    repository.home.paths.status().unlink()
    fresh = new_run(staging)
    said = read_status(repository.home)
    assert said.committed == 1
    assert [(each.run, each.state) for each in said.runs] == [(fresh, "open")]
    (staging / committed / "model").write_text("changed")
    assert read_status(repository.home).committed == 0
