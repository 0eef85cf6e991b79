"""A check of the whole store, while others go on with it, finds nothing that isn't so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.aliases import Aliases
from modeldrop.deployments import Deployments
from modeldrop.runs import Runs
from modeldrop.shared import SharedJournals
from support.meanwhile import meanwhile
from support.sharing import host, store


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with host(tmp_path / ".mlops", str(tmp_path / "store")) as made:
        made.create_key()
        made.add_target("live", tmp_path / "live")
        first = store(made, "one")
        made.promote(first, "champion")
        made.deploy(first, "live")
        made.push()
        yield made


def registers(repository: Repository) -> None:
    store(repository, "two")


def registers_and_signs(repository: Repository) -> None:
    repository.sign(store(repository, "two"))


def promotes(repository: Repository) -> None:
    repository.promote(store(repository, "two"), "champion")


def deploys(repository: Repository) -> None:
    repository.deploy(store(repository, "two"), "live")


@pytest.mark.parametrize(
    ("owner", "name", "happens"),
    [
        (Runs, "guids", registers),
        (Runs, "guids", registers_and_signs),
        (Aliases, "move", promotes),
        (Deployments, "deployment", deploys),
    ],
    ids=["register", "sign", "promote", "deploy"],
)
def test_what_is_done_during_a_check_is_no_damage(
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    happens: Callable[[Repository], None],
) -> None:
    before = len([*repository.log()])
    meanwhile(monkeypatch, owner, name, lambda: happens(repository))

    assert repository.verify(deep=True).findings == []
    assert len([*repository.log()]) > before
    assert repository.verify(deep=True).findings == []


def test_what_is_shared_during_a_check_is_no_other_history(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shares() -> None:
        repository.promote("churn/1", "later")
        repository.push()
        done.append(True)

    done: list[bool] = []
    # By then the journal here is read, and the one at the backend isn't.
    meanwhile(monkeypatch, SharedJournals, "firsts", shares)

    assert repository.verify().findings == []
    assert done
