"""What is referred to lasts, or is made to: what was read may be there and not on the disk yet.

A record that another process has just created can be read before its name is on the disk. Whoever
refers to it, or answers with it, has that confirmed first: see `Backend.confirm`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository, layout
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import BackendError
from modeldrop.form import now, seal
from modeldrop.ledger import Request
from modeldrop.names import new_guid
from modeldrop.placing import Given, Placing
from modeldrop.records import Origin
from modeldrop.sequence import Sequence
from support.sharing import host, store
from support.stores import model

Prepared = tuple[str, Callable[[], Any]]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return host(tmp_path / ".mlops", str(tmp_path / "store"))


def _stored(repository: Repository) -> tuple[str, Path]:
    run = new_guid()
    path = model(repository.home.paths.root.parent / run / "model")
    repository.upload(run, path)
    return run, path


def a_revision_that_is_registered(repository: Repository) -> Prepared:
    run, _ = _stored(repository)
    return layout.revisions(run), lambda: repository.register(f"run:{run}", "churn")


def a_revision_that_is_the_answer(repository: Repository) -> Prepared:
    run, path = _stored(repository)
    return layout.revisions(run), lambda: repository.upload(run, path)


def a_version_that_is_the_answer(repository: Repository) -> Prepared:
    run, _ = _stored(repository)
    repository.register(f"run:{run}", "churn")
    return layout.versions("churn"), lambda: repository.register(f"run:{run}", "churn")


def _placed(repository: Repository) -> Callable[[], Any]:
    run, _ = _stored(repository)
    revision = repository.runs_at_backend.latest(run)
    assert revision is not None
    placing = Placing(repository.home, repository.backend, repository.versions_at_backend)
    origin = Origin("bundle", "there", "churn/1", "ada", now())
    given = Given("churn", 1, "ada", now(), "", origin)
    [artifact] = revision.artifacts
    request = Request(new_guid(), "ada")
    return lambda: placing.version(given, revision, artifact, request, lambda: None)


def a_revision_that_is_imported(repository: Repository) -> Prepared:
    return "/revisions/", _placed(repository)


def a_version_that_was_imported(repository: Repository) -> Prepared:
    place = _placed(repository)
    place()
    return layout.versions("churn"), place


def a_version_that_is_promoted(repository: Repository) -> Prepared:
    version = store(repository, "one")
    return layout.versions("churn"), lambda: repository.promote(version, "champion")


def a_move_that_is_the_answer(repository: Repository) -> Prepared:
    version = store(repository, "one")
    repository.promote(version, "champion")
    return layout.moves("churn", "champion"), lambda: repository.promote(version, "champion")


def a_version_that_is_retired(repository: Repository) -> Prepared:
    version = store(repository, "one")
    return layout.versions("churn"), lambda: repository.retire(version)


def a_retirement_that_is_the_answer(repository: Repository) -> Prepared:
    version = store(repository, "one")
    repository.retire(version)
    return layout.retirements("churn", 1), lambda: repository.retire(version)


def a_target_that_is_the_answer(repository: Repository) -> Prepared:
    place = repository.home.paths.root.parent / "live"
    repository.add_target("live", place)
    return layout.target("live"), lambda: repository.add_target("live", place)


def a_deployment_that_is_the_answer(repository: Repository) -> Prepared:
    version = store(repository, "one")
    repository.add_target("live", repository.home.paths.root.parent / "live")
    repository.deploy(version, "live")
    return layout.deployments("churn", "live"), lambda: repository.deploy(version, "live")


EACH: Final = (
    a_revision_that_is_registered,
    a_revision_that_is_the_answer,
    a_version_that_is_the_answer,
    a_revision_that_is_imported,
    a_version_that_was_imported,
    a_version_that_is_promoted,
    a_move_that_is_the_answer,
    a_version_that_is_retired,
    a_retirement_that_is_the_answer,
    a_target_that_is_the_answer,
    a_deployment_that_is_the_answer,
)


@pytest.mark.parametrize("prepare", EACH, ids=[each.__name__ for each in EACH])
def test_nobody_is_told_of_what_cannot_be_made_to_last(
    repository: Repository,
    prepare: Callable[[Repository], Prepared],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = LocalBackend.confirm

    def fails(self: LocalBackend, key: str) -> None:
        if where in key:
            raise BackendError("the disk says no")
        real(self, key)

    with repository:
        where, work = prepare(repository)
        monkeypatch.setattr(LocalBackend, "confirm", fails)
        before = len([*repository.log()])

        with pytest.raises(BackendError, match="the disk says no"):
            work()

        assert len([*repository.log()]) == before

        monkeypatch.setattr(LocalBackend, "confirm", real)
        work()


def test_a_record_of_the_same_owner_that_another_made_is_made_to_last(tmp_path: Path) -> None:
    backend = Undurable(tmp_path)
    sequence = Sequence(backend, "folder")
    mine, owner = record("ours"), "ours"
    backend.create(sequence.key(1), record("another's"))
    backend.create(sequence.key(2), mine)

    with pytest.raises(BackendError, match="the disk says no"):
        sequence.append(lambda _: mine, owner=owner, at=1, shared=True)

    backend.fails = False
    assert sequence.append(lambda _: mine, owner=owner, at=1, shared=True).number == 2


class Undurable(LocalBackend):
    """Can't say of anything that it lasts."""

    fails = True

    def confirm(self, key: str) -> None:
        if self.fails:
            raise BackendError("the disk says no")
        super().confirm(key)


def record(owner: str) -> bytes:
    return seal("thing", {"owner": owner})
