"""`register = true`: a run registers itself once it is committed, once, and holds up no other."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldrop import Repository, locks
from modeldrop.errors import BackendUnreachable
from modeldrop.intake import memory, read_status
from modeldrop.records import Version
from modeldrop.registrar import Registered, Registrar
from modeldrop.structs import replace
from support.children import dies, run
from support.intake import (
    is_in,
    make_home,
    make_run,
    receipt,
    revisions,
    running,
    scan,
    scan_in_child,
    tracked,
    turns,
)
from support.program import Program, in_process
from support.service import Home
from support.waiting import comes_true

WISH = {"run.toml": 'experiment = "churn"\nregister = true\ndescription = "by itself"\n'}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home") as opened:
        yield opened


def versions(repository: Repository, experiment: str = "churn") -> list[Version]:
    newest = repository.versions_at_backend.last(experiment)
    return repository.versions(experiment) if newest else []


def test_a_run_that_says_so_is_registered_once_it_is_stored(repository: Repository) -> None:
    wishing = make_run(repository.home.staging, {"model": "1", **WISH})
    other = make_run(repository.home.staging, {"model": "2", "run.toml": 'experiment = "churn"\n'})
    status = scan(repository)
    assert {each: status[each].state for each in (wishing, other)} == {
        wishing: "committed",
        other: "committed",
    }
    assert not status[wishing].needs_attention
    (version,) = versions(repository)
    assert (version.run, version.artifact) == (wishing, "model")
    assert version.description == "by itself"
    assert version.registered_by == repository.home.user
    kinds = [each.kind for each in repository.log(f"run:{wishing}")]
    assert kinds == ["registered", "committed"]
    assert receipt(repository.home.staging, wishing)["registered"] == "churn/1"
    # However often it is looked at, also with nothing remembered.
    scan(repository)
    repository.home.paths.run_state(wishing).unlink()
    scan(repository)
    assert versions(repository) == [version]


@pytest.mark.parametrize(
    "step",
    [
        *("committed", "receipt left", "remembered", "claimed", "intent written"),
        *("record appended", "journal acknowledged", "registered"),
    ],
)
def test_killed_between_commit_and_registration_it_is_registered_at_the_next_scan(
    repository: Repository, step: str
) -> None:
    wishing = make_run(repository.home.staging, {"model": "1", **WISH})
    root = str(repository.home.paths.root)
    assert dies(scan_in_child, root, at=step)
    run(scan_in_child, root)
    assert len(revisions(repository, wishing)) == 1
    assert [each.run for each in versions(repository)] == [wishing]
    assert [each.kind for each in repository.log(f"run:{wishing}")] == ["registered", "committed"]
    remembered = memory.recall(repository.home.paths, wishing)
    assert remembered is not None
    assert remembered.wish is None


def test_without_the_wish_in_the_memory_a_crash_would_lose_it(repository: Repository) -> None:
    wishing = make_run(repository.home.staging, {"model": "1", **WISH})
    assert dies(scan_in_child, str(repository.home.paths.root), at="remembered")
    remembered = memory.recall(repository.home.paths, wishing)
    assert remembered is not None
    assert remembered.wish is not None
    # Nobody is at it: status says so.
    [told] = read_status(repository.home).runs
    assert [each.reason for each in told.refused] == [
        "not registered: no service is running to do it"
    ]
    memory.remember(repository.home.paths, replace(remembered, wish=None))
    scan(repository)
    assert versions(repository) == []


def test_several_artifacts_need_a_name_and_status_says_so(repository: Repository) -> None:
    staging = repository.home.staging
    wishing = make_run(staging, {"a": "1", "b": "2", **WISH})
    status = scan(repository)[wishing]
    assert status.state == "committed"
    assert status.needs_attention
    [complaint] = status.refused
    assert complaint.path == "run.toml"
    assert "not registered: run" in complaint.reason
    assert "has several artifacts: a, b; name one by `artifact` in run.toml" in complaint.reason
    assert versions(repository) == []
    # It stays said without a service, and by the next scan.
    assert [each.refused for each in read_status(repository.home).runs] == [(complaint,)]
    assert scan(repository)[wishing].refused == (complaint,)

    make_run(staging, {"run.toml": WISH["run.toml"] + 'artifact = "b"\n'}, wishing)
    assert not scan(repository)[wishing].needs_attention
    (version,) = versions(repository)
    assert (version.artifact, version.revision) == ("b", 1)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("register = true\n", "names no experiment"),
        ('register = true\nexperiment = "churn"\nartifact = "c"\n', "has no artifact 'c'; it has"),
    ],
)
def test_what_cannot_be_registered_is_stored_and_said(
    repository: Repository, said: str, why: str
) -> None:
    wishing = make_run(repository.home.staging, {"model": "1", "run.toml": said})
    status = scan(repository)[wishing]
    assert (status.state, status.revision) == ("committed", 1)
    [complaint] = status.refused
    assert why in complaint.reason


def test_the_whole_run_can_be_registered(repository: Repository) -> None:
    said = {"experiment": "churn", "register": True, "artifact": "."}
    make_run(repository.home.staging, {"a": "1", "b": "2", "run.json": json.dumps(said)})
    scan(repository)
    assert [each.artifact for each in versions(repository)] == ["."]


def test_each_new_state_of_the_artifact_is_a_version_and_metrics_alone_are_none(
    repository: Repository,
) -> None:
    wishing = make_run(repository.home.staging, {"model": "1", **WISH})
    scan(repository)
    make_run(repository.home.staging, {"run.json": '{"metrics": {"auc": 0.9}}'}, wishing)
    scan(repository)
    assert (len(revisions(repository, wishing)), len(versions(repository))) == (2, 1)
    make_run(repository.home.staging, {"model": "2"}, wishing)
    scan(repository)
    assert [each.revision for each in versions(repository)] == [1, 3]


def test_it_holds_up_no_other_run_and_is_done_once_the_lock_is_free(
    repository: Repository,
) -> None:
    staging = repository.home.staging
    lock = repository.home.paths.counter_lock("churn")
    with running(repository) as engine:
        with locks.hold(lock, what="the experiment churn"):
            wishing = [make_run(staging, {"model": str(n), **WISH}) for n in range(12)]
            assert turns(engine, lambda: all(is_in(engine, each, "committed") for each in wishing))
            others = [make_run(staging, {"model": f"other {n}"}) for n in range(12)]
            assert turns(engine, lambda: all(is_in(engine, each, "committed") for each in others))
            assert versions(repository) == []
        assert turns(engine, lambda: len(versions(repository)) == len(wishing))
        assert turns(engine, lambda: all(tracked(engine, each).wish is None for each in wishing))
    assert {each.run for each in versions(repository)} == {*wishing}


def test_what_may_pass_is_tried_again_by_itself_and_said_meanwhile(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    register, failing = Registrar.register, [3]

    def sometimes(self: Registrar, *arguments: Any, **more: Any) -> Registered:  # noqa: ANN401
        if failing[0]:
            failing[0] -= 1
            message = "the store is away"
            raise BackendUnreachable(message, hint="wait")
        return register(self, *arguments, **more)

    monkeypatch.setattr(Registrar, "register", sometimes)
    wishing = make_run(repository.home.staging, {"model": "1", **WISH})
    with caplog.at_level(logging.WARNING), running(repository) as engine:
        assert turns(
            engine,
            lambda: (
                wishing in engine._roster.partial
                and tracked(engine, wishing).refused[0].reason
                == "not registered: the store is away"
            ),
        )
        assert turns(engine, lambda: versions(repository) != [])
        assert turns(engine, lambda: not tracked(engine, wishing).refused)
        assert is_in(engine, wishing, "committed")
    assert failing == [0]
    assert sum("not registered" in each.message for each in caplog.records) == 1


@pytest.mark.parametrize("afterwards", ["move", "delete"])
def test_the_staged_copy_stays_until_it_is_registered(tmp_path: Path, afterwards: str) -> None:
    with make_home(tmp_path / "home", afterwards=afterwards, delete_after=0.01) as repository:
        staging = repository.home.staging
        wishing = make_run(staging, {"model": "1", **WISH})
        stuck = make_run(staging, {"a": "1", "b": "2", **WISH})
        with running(repository) as engine:
            assert turns(engine, lambda: not (staging / wishing).exists())
            assert turns(engine, lambda: is_in(engine, stuck, "kept"))
        assert [each.run for each in versions(repository)] == [wishing]
        assert (staging / stuck / "a").exists()


def test_drop_that_waits_has_it_registered(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    program: Program = in_process(capsys)
    assert program("init").code == 0
    (tmp_path / "m").write_text("1")
    guid = program("drop", "m", "-e", "churn", "--register", "--wait").out.strip()
    assert program("show", "churn/1", "--json").json["run"] == guid
    assert program("status").code == 0


# The service dies after a step of whatever it does.
DYING = """
import sys
sys.path.insert(0, {support!r})
from support.killing import at_step
for room in ("ledger", "intake.together", "intake.dispatch", "intake.registering", "versions"):
    at_step({step!r}, logger="modeldrop." + room)
"""


@pytest.mark.parametrize("step", [None, "remembered", "registered"])
def test_the_service_registers_what_says_so_also_after_it_was_killed(
    tmp_path: Path, step: str | None
) -> None:
    home = Home(tmp_path)
    try:
        twist = DYING.format(support=str(Path(__file__).parent), step=step) if step else ""
        service = home.start(twist=twist) if step else home.start_ready()
        (home.folder / "wishing").mkdir()
        (home.folder / "wishing" / "model").write_text("1")
        (home.folder / "wishing" / "run.toml").write_text(WISH["run.toml"])
        wishing = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
        (home.folder / "wishing").rename(home.staging / wishing)
        if step:
            assert service.wait() == -signal.SIGKILL, service.log
            service = home.start_ready()
        with Repository.open(home.root) as repository:
            assert comes_true(lambda: versions(repository) != [])
            assert service.stop() == 0
            assert [each.run for each in versions(repository)] == [wishing]
            kinds = [entry.kind for entry in repository.log(f"run:{wishing}")]
            assert kinds == ["registered", "committed"]
            assert repository.verify(deep=True).ok
    finally:
        home.close()
