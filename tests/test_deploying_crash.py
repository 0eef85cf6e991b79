"""Killed at every step of a deployment: a consumer finds the old version or the new one, whole.

What died is undone before its record is there, and finished after it, by the next command, which
says so. Each step is a message that the code says at DEBUG; see `support.killing`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

import modeldrop
from modeldrop import Repository, interrupted
from support import deploying
from support.children import dies, run
from support.deploying import TARGET, served, store_folder
from support.sharing import host

STEPS: Final = {
    "deployment noted": "undone",
    "copy written": "undone",
    "copy verified": "undone",
    "intent written": "undone",
    "record appended": "finished",
    "current switched": "finished",
    "followers brought forward": "finished",
    "journal acknowledged": "finished",
    "intent removed": "finished",
    "deployment forgotten": "",
}
"""Each step, and what the next command does about a crash after it."""


@pytest.fixture(params=["local", "s3"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    """A home with two versions, of which the first is live."""
    url = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_url")
    with host(tmp_path / "home", f"{url}/store") as made:
        for number in (1, 2):
            store_folder(made, f"version {number}")
        made.add_target(TARGET, f"{url}/serving")
        made.deploy("churn/1", TARGET)
        yield made


def check_at_rest(repository: Repository, version: int) -> None:
    """Check that a version is live, nothing is open, and nothing is missing or too much."""
    assert served(repository) == version
    assert repository.runs_at_backend.open_intents() == []
    assert repository.settle_deployments() == []
    report = repository.verify(deep=True)
    assert report.ok, report.findings
    numbers = [each.deployment for each in repository.deployments("churn", TARGET)]
    assert numbers == list(range(1, len(numbers) + 1))
    told = [e.about[0] for e in repository.log(f"churn@{TARGET}")]
    assert told == [f"churn@{TARGET}~{number}" for number in reversed(numbers)]


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_a_step_it_is_undone_or_finished_by_the_next_command(
    repository: Repository, step: str
) -> None:
    root = repository.home.paths.root
    assert dies(deploying.deploy, root, "churn/2", "ann", at=step)
    assert served(repository) in (1, 2)
    before = len(repository.deployments("churn", TARGET))
    assert before == (1 if STEPS[step] == "undone" else 2)

    said = run(deploying.settle, root)

    assert [each[0] for each in said] == ([STEPS[step]] if STEPS[step] else [])
    assert served(repository) == before
    assert run(deploying.settle, root) == []
    number, created, version = run(deploying.deploy, root, "churn/2", "bob")
    assert (number, created, version) == (2, before == 1, 2)
    check_at_rest(repository, 2)


@pytest.mark.parametrize("step", ["copy verified", "record appended"])
def test_killed_and_not_asked_about_it_is_settled_by_the_next_deployment(
    repository: Repository, step: str
) -> None:
    assert dies(deploying.deploy, repository.home.paths.root, "churn/2", "ann", at=step)

    done = repository.deploy("churn/1", TARGET)

    assert [each.outcome for each in done.settled] == [STEPS[step]]
    check_at_rest(repository, 1)


def test_copy_of_what_may_come_late_stays_for_an_hour_and_goes_then(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dies(deploying.deploy, repository.home.paths.root, "churn/2", "ann", at="intent written")
    [settled] = repository.settle_deployments()
    assert settled.outcome == "undone"
    opened = repository.targets_at_backend.open(repository.targets_at_backend.current(TARGET))
    assert len(list(opened.walk("churn/2"))) == 3

    monkeypatch.setattr(interrupted, "_LATE", timedelta(0))
    assert repository.settle_deployments() == []

    assert list(opened.walk("churn/2")) == []
    assert not list(repository.home.paths.deploying.iterdir())


def test_killed_rollback_to_a_kept_copy_leaves_that_copy(repository: Repository) -> None:
    root = repository.home.paths.root
    repository.deploy("churn/2", TARGET)
    assert dies(deploying.deploy, root, "churn/1", "ann", at="intent written")

    [said] = run(deploying.settle, root)

    assert said[0] == "undone"
    check_at_rest(repository, 2)
    back = repository.rollback("churn", TARGET)
    assert not back.copied
    check_at_rest(repository, 1)


def test_killed_host_is_brought_forward_by_another_one(
    repository: Repository, tmp_path: Path
) -> None:
    assert dies(
        deploying.deploy, repository.home.paths.root, "churn/2", "ann", at="record appended"
    )
    assert served(repository) == 1

    with host(tmp_path / "second", repository.backend.url) as second:
        assert not second.deploy("churn/2", TARGET).created

    assert served(repository) == 2
    assert [each.outcome for each in repository.settle_deployments()] == ["finished"]
    check_at_rest(repository, 2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_before_any_change_of_a_file_system_the_next_deployment_is_right(
    tmp_path: Path,
) -> None:
    with host(tmp_path / "home", str(tmp_path / "store")) as made:
        for number in (1, 2, 3):
            store_folder(made, f"version {number}")
        made.add_target(TARGET, tmp_path / "serving", keep=2)
        made.deploy("churn/1", TARGET)

        deaths = run(deploying.deploy_and_die_everywhere, tmp_path / "home", 3)

        assert deaths > 20
        check_at_rest(made, deaths % 3 + 1)


def test_every_step_of_a_deployment_is_among_these() -> None:
    source = Path(modeldrop.__file__).parent
    named = {
        step
        for name in ("deploying", "placement", "ledger", "following", "interrupted")
        for step in re.findall(r'"step: ([^"]+)"', (source / f"{name}.py").read_text())
    }
    # Said before anything of the deployment itself is done.
    assert named - {"copies collected"} == set(STEPS)
