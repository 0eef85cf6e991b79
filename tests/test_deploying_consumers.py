"""Whoever reads what is live finds one whole version each time, however often it is switched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository, files
from modeldrop.backend.objects import ObjectBackend
from support import deploying
from support.children import started, together
from support.deploying import TARGET, served, store_folder
from support.sharing import host

SWITCHES: Final = 200
PROCESSES: Final = 16


@pytest.fixture(params=["local", "s3"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Repository]:
    """A home with four versions, the first of which is live."""
    url = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_url")
    with host(tmp_path / "home", f"{url}/store") as made:
        for number in range(1, 5):
            store_folder(made, f"version {number}")
        made.add_target(TARGET, f"{url}/serving")
        made.deploy("churn/1", TARGET)
        yield made


def watched(repository: Repository, tmp_path: Path, switch: Callable[[], None]) -> dict[str, Any]:
    """Have a consumer read in a tight loop while something is done; return what it found."""
    known = [each.sha256 for each in repository.versions("churn")]
    url = repository.targets_at_backend.current(TARGET).url
    stop = tmp_path / "stop"
    with started(deploying.consume, url, "churn", known, stop) as consumer:
        consumer.say()
        try:
            switch()
        finally:
            stop.touch()
        found: dict[str, Any] = consumer.result()
    return found


def switch_often(repository: Repository, times: int) -> None:
    """Deploy and roll back in turn: 1 2 3 2 4 3 …, so that copies come, are kept, and go."""
    for number in range(times):
        if number % 3 == 2:
            repository.rollback("churn", TARGET)
        else:
            live = repository.deployments("churn")[0].version
            repository.deploy(f"churn/{live % 4 + 1}", TARGET)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_read_is_one_whole_version_during_two_hundred_deployments_and_rollbacks(
    repository: Repository, tmp_path: Path
) -> None:
    found = watched(repository, tmp_path, lambda: switch_often(repository, SWITCHES))

    assert found["wrong"] == []
    assert found["reads"] > SWITCHES
    assert len(found["versions"]) == 4
    history = repository.deployments("churn", TARGET)
    assert len(history) == SWITCHES + 1
    assert sum(each.rolled_back for each in history) == SWITCHES // 3
    assert served(repository) == history[-1].version
    assert repository.verify(deep=True).ok


def test_with_a_switch_in_two_steps_the_same_check_is_red(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "lead_to", deploying.lead_in_two_steps)
    monkeypatch.setattr(ObjectBackend, "replace", deploying.replace_in_two_steps)

    found = watched(repository, tmp_path, lambda: switch_often(repository, 30))

    assert found["wrong"] != []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("homes", [1, PROCESSES])
def test_sixteen_processes_that_deploy_at_once_make_one_dense_history_and_current_is_its_end(
    tmp_path: Path, homes: int
) -> None:
    with host(tmp_path / "home-0", str(tmp_path / "store")) as first:
        for number in range(1, PROCESSES + 1):
            store_folder(first, f"version {number}")
        first.add_target(TARGET, tmp_path / "serving")
        for number in range(1, homes):
            host(tmp_path / f"home-{number}", str(tmp_path / "store")).close()
        known = [each.sha256 for each in first.versions("churn")]
        stop = tmp_path / "stop"
        first.deploy("churn/1", TARGET)
        with started(deploying.consume, tmp_path / "serving", "churn", known, stop) as consumer:
            consumer.say()
            told = together(
                deploying.deploy_each,
                [
                    (
                        tmp_path / f"home-{number % homes}",
                        [f"churn/{number + 1}", f"churn/{(number + 7) % PROCESSES + 1}"],
                        f"process {number}",
                    )
                    for number in range(PROCESSES)
                ],
            )
            stop.touch()
            seen = consumer.result()

        history = first.deployments("churn", TARGET)
        made = sorted((n, v) for each in told for n, created, v in each if created)
        assert [n for n, _ in made] == list(range(2, len(history) + 1))
        assert [(each.deployment, each.version) for each in history][1:] == made
        assert [each.deployment for each in history] == list(range(1, len(history) + 1))
        assert [each.before for each in history] == [None, *(e.version for e in history[:-1])]
        assert served(first) == history[-1].version
        assert seen["wrong"] == []
        for number in range(homes):
            with Repository.open(tmp_path / f"home-{number}") as repository:
                assert repository.runs_at_backend.open_intents() == []
                assert repository.settle_deployments() == []
        assert first.verify(deep=True).ok
