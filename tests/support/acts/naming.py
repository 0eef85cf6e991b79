"""Versions, aliases, targets and deployments, and what is let go."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Final

from modeldrop import Repository
from modeldrop.errors import RunNotFound, VersionNotFound
from modeldrop.form import now
from modeldrop.records import Registration, registration_owner
from support.acts.facts import act, going_on, holds, is_clean
from support.acts.world import HOME, RUNS, TARGET, Act, Fact, Say, new_home, opened
from support.deploying import read_current
from support.letting import collect
from support.stores import model


def _begin_versions(root: Path) -> None:
    with new_home(root) as repository:
        for number, run in enumerate(RUNS[:2]):
            repository.upload(run, model(root / "aside" / "model.bin", f"weights {number}"))


def _register(root: Path, say: Say) -> None:
    with opened(root) as repository:
        for run in RUNS[:2]:
            version = repository.register(run, "churn").version
            say(["version", version.version, version.sha256])


def _begin_several(root: Path) -> None:
    """Store four runs, and have the first one's version."""
    _begin_versions(root)
    with opened(root) as repository:
        for number, run in enumerate(RUNS[2:], 2):
            repository.upload(run, model(root / "aside" / "model.bin", f"weights {number}"))
        repository.register(RUNS[0], "churn")


def _register_several(root: Path, say: Say) -> None:
    with opened(root) as repository:
        for found in repository.register_all(RUNS[1:], "churn"):
            say(["version", found.version.version, found.version.sha256])


def _begin_late(root: Path) -> None:
    """Have the first registration claimed by one that died, and its number taken by another."""
    _begin_versions(root)
    with opened(root) as repository:
        _, artifact = repository.artifact(f"run:{RUNS[1]}")
        owner = registration_owner("churn", RUNS[1], artifact.artifact, artifact.sha256, None)
        repository.versions_at_backend.registrations.claim(
            Registration(
                owner=owner,
                experiment="churn",
                run=RUNS[1],
                artifact=artifact.artifact,
                sha256=artifact.sha256,
                nonce=None,
                starts_at=1,
                claimed_by="ada",
                claimed_at=now(),
            )
        )
        repository.register(RUNS[0], "churn")


def _register_late(root: Path, say: Say) -> None:
    with opened(root) as repository:
        version = repository.register(RUNS[1], "churn").version
        say(["version", version.version, version.sha256])


def _register_again(root: Path, say: Say) -> None:
    with opened(root) as repository:
        version = repository.register(RUNS[0], "churn", again=True).version
        say(["version", version.version, version.sha256])


def _check_again(root: Path, told: list[Fact]) -> None:
    holds(root, told)
    again: list[Fact] = []
    _register_again(root, again.append)
    [[_, number, _]] = again
    # One more each time, and no number twice.
    assert number > max([0, *(each[1] for each in told)])
    holds(root, told + again)
    is_clean(root)


def begin_registered(root: Path) -> None:
    _begin_versions(root)
    _register(root, lambda _: None)


def _promote(root: Path, say: Say) -> None:
    with opened(root) as repository:
        for version in (1, 2):
            repository.promote(f"churn/{version}", "champion")
            say(["alias", version])
        repository.remove_alias("churn@champion")
        say(["alias", None])


def _set_targets(root: Path, say: Say) -> None:
    with opened(root) as repository:
        # Repeated, it is a change each time.
        for confirm in (False, True):
            made = repository.add_target(TARGET, root / "target", confirm=confirm)
            say(["target", made.target.change])
        made = repository.remove_target(TARGET)
        say(["target", made.target.change])


def _begin_target(root: Path) -> None:
    begin_registered(root)
    (root / "target").mkdir()
    with opened(root) as repository:
        repository.add_target(TARGET, root / "target", keep=1)


def _deploy(root: Path, say: Say) -> None:
    with opened(root) as repository:
        repository.settle_deployments()
        for version in (1, 2):
            repository.deploy(f"churn/{version}", TARGET)
            say(["live", version])
        done = repository.rollback("churn", TARGET)
        say(["live", done.deployment.version])


def _check_deploy(root: Path, told: list[Fact]) -> None:
    def live() -> int | None:
        digest = read_current(str(root / "target"), "churn")
        with opened(root) as repository:
            known = {each.sha256: each.version for each in repository.versions("churn")}
        return None if digest is None else known[digest]

    every = [None, 1, 2, 1]
    found = live()
    # A consumer finds what was told, or what was to come next.
    assert found in every[len(told) : len(told) + 2], (found, told)
    holds(root, told)
    again: list[Fact] = []
    _deploy(root, again.append)
    assert live() == 1
    holds(root, again)
    is_clean(root)
    with opened(root) as repository:
        repository.deploy("churn/2", TARGET)
        last = repository.deployments("churn", TARGET)[-1]
    # What one that was killed has begun in another home, that home knows of.
    with Repository.open(root / HOME) as first:
        first.settle_deployments()
    named = {each.copy for each in last.kept} | {each.copy for each in last.let_go}
    there = (root / "target" / "churn").glob("*/*")
    # Nobody knows of any other one, so nobody would ever remove it.
    assert {str(each.relative_to(root / "target")) for each in there if each.is_dir()} <= named


def _settle(root: Path, say: Say) -> None:
    with opened(root) as repository:
        repository.settle_deployments()
        say(["settled"])


def _check_settled(root: Path, told: list[Fact]) -> None:
    """See that no copy stays at the target that nobody knows of."""
    with opened(root) as repository:
        known = {each.copy for each in repository._interrupted()._notes()}
        for each in repository.deployments("churn"):
            known |= {kept.copy for kept in each.kept} | {gone.copy for gone in each.let_go}
    there = (root / "target" / "churn").glob("*/*")
    assert {str(each.relative_to(root / "target")) for each in there if each.is_dir()} <= known
    _settle(root, lambda _: None)
    is_clean(root)


def _retire(root: Path, say: Say) -> None:
    with opened(root) as repository:
        done = repository.retire("churn/1")
        say(["retired", done.retirement.retirement, True])
        done = repository.unretire("churn/1")
        say(["retired", done.retirement.retirement, False])


def _begin_collect(root: Path) -> None:
    begin_registered(root)
    with opened(root) as repository:
        repository.retire("churn/1")
        collect(repository, 31)


def _collect(root: Path, say: Say) -> None:
    with opened(root) as repository:
        if collect(repository, 33):
            say(["collected"])
        version = repository.versions("churn")[1]
        say(["version", version.version, version.sha256])


def _check_collect(root: Path, told: list[Fact]) -> None:
    holds(root, told)
    again: list[Fact] = []
    _collect(root, again.append)
    holds(root, again)
    is_clean(root)


def _promote_new(root: Path, say: Say) -> None:
    with opened(root) as repository, contextlib.suppress(VersionNotFound):
        repository.promote("churn/1", "champion")
        say(["alias", 1])


def _retire_new(root: Path, say: Say) -> None:
    with opened(root) as repository, contextlib.suppress(VersionNotFound):
        done = repository.retire("churn/1")
        say(["retired", done.retirement.retirement, True])


def _begin_new(root: Path) -> None:
    new_home(root).close()
    model(root / "aside" / "model.bin", "weights")


def _upload_new(root: Path, say: Say, run: str = RUNS[0]) -> None:
    with opened(root) as repository:
        repository.upload(run, root / "aside" / "model.bin")


def _register_new(root: Path, say: Say, run: str = RUNS[0]) -> None:
    with opened(root) as repository, contextlib.suppress(RunNotFound):
        version = repository.register(run, "churn").version
        say(["version", version.version, version.sha256])


def _begin_next(root: Path) -> None:
    _begin_new(root)
    _upload_new(root, lambda _: None)
    _register_new(root, lambda _: None)


_upload_next = partial(_upload_new, run=RUNS[1])
_register_next = partial(_register_new, run=RUNS[1])


def _check_new(root: Path, told: list[Fact]) -> None:
    """See that nothing refers to what isn't there."""
    holds(root, told)
    is_clean(root)


NAMING: Final = {
    "register": act(_begin_versions, _register, killed=True, other=True),
    "register, new": Act(
        _begin_new, _register_new, _check_new, whole=False, killed=True, dies=_upload_new
    ),
    "register, several": act(_begin_several, _register_several, killed=True, other=True),
    "register, next": Act(
        _begin_next, _register_next, _check_new, whole=False, killed=True, dies=_upload_next
    ),
    "register, late": act(_begin_late, _register_late, whole=False),
    "register, again": Act(_begin_versions, _register_again, _check_again, whole=False),
    "promote": Act(begin_registered, _promote, going_on(_promote), killed=True, other=True),
    "promote, new": Act(
        _begin_versions, _promote_new, _check_new, whole=False, killed=True, dies=_register
    ),
    "target": Act(begin_registered, _set_targets, going_on(_set_targets), whole=False, other=True),
    "deploy": Act(_begin_target, _deploy, _check_deploy, killed=True, other=True),
    "deploy, undone": Act(
        _begin_target, _settle, _check_settled, whole=False, killed=True, dies=_deploy
    ),
    "retire": Act(begin_registered, _retire, going_on(_retire), whole=False, other=True),
    "retire, new": Act(
        _begin_versions, _retire_new, _check_new, whole=False, killed=True, dies=_register
    ),
    "gc": Act(_begin_collect, _collect, _check_collect, whole=False),
}
