"""Who says what another host has just said is told so: it was said once, and not by both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository
from modeldrop.errors import Conflict
from modeldrop.form import now
from modeldrop.ledger import Request
from modeldrop.names import new_guid
from modeldrop.placing import Given, Placing
from modeldrop.records import Origin
from support.letting import at_step
from support.sharing import host, store

Said = Callable[[Repository], Any]


def promoting(repository: Repository) -> Any:  # noqa: ANN401 - what says whether it was created
    return repository.promote("churn/1", "champion")


def retiring(repository: Repository) -> Any:  # noqa: ANN401 - as above
    return repository.retire("churn/2")


def setting_a_target(repository: Repository) -> Any:  # noqa: ANN401 - as above
    return repository.add_target("next", repository.home.paths.root.parent / "next")


def deploying(repository: Repository) -> Any:  # noqa: ANN401 - as above
    return repository.deploy("churn/1", "live")


def test_a_number_that_another_has_is_not_the_imports(tmp_path: Path) -> None:
    with host(tmp_path / "a", str(tmp_path / "store")) as repository:
        store(repository, "one")
        store(repository, "two", "iris")
        found = repository.resolve("iris/1")
        origin = Origin("bundle", "there", "churn/1", "ada", now())
        placing = Placing(repository.home, repository.backend, repository.versions_at_backend)
        [artifact] = found.revision.artifacts

        with pytest.raises(Conflict, match="churn/1 is taken here"):
            placing.version(
                Given("churn", 1, "ada", now(), "", origin),
                found.revision,
                artifact,
                Request(new_guid(), "ada"),
                lambda: None,
            )


EACH: Final = (promoting, retiring, setting_a_target, deploying)


@pytest.mark.parametrize("say", EACH, ids=[each.__name__ for each in EACH])
def test_what_another_host_says_meanwhile_is_said_once(tmp_path: Path, say: Said) -> None:
    backend = str(tmp_path / "store")
    with host(tmp_path / "a", backend) as one, host(tmp_path / "b", backend) as other:
        store(one, "one")
        store(one, "two")
        one.add_target("live", tmp_path / "live")
        others: list[Any] = []

        with at_step("intent written", lambda: others.append(say(other))):
            mine = say(one)

        assert others[0].created
        assert not mine.created
