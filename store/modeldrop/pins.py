"""What keeps artifacts from being let go, on every host's account: read whole, or not at all.

A version pins its artifact, unless it was retired long enough ago, no alias is on it, and no target
has it or could be rolled back to it. So does a claim that no version bears yet: somebody may be
about to append that version. What is read here is what the sequences say; the journals of all hosts
are read beside them, so that a backend that lost records, or was put back, is found out before
anything goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Final

from modeldrop.accounts import Accounts
from modeldrop.aliases import Aliases
from modeldrop.backend.base import Backend
from modeldrop.collection import parts_of
from modeldrop.deployments import Deployments
from modeldrop.errors import IntegrityError
from modeldrop.form import moment
from modeldrop.home import Home
from modeldrop.journal import Journal
from modeldrop.names import WHOLE_RUN
from modeldrop.parallel import in_turn
from modeldrop.records import Artifact, Registration, Revision, Version
from modeldrop.retirements import Retirements
from modeldrop.runs import Runs
from modeldrop.structs import Frozen, Struct, field
from modeldrop.targets import Targets
from modeldrop.versions import Versions

_HINT: Final = "`modeldrop verify` names everything that is off; nothing that is stored goes before"


class Sequences(Frozen):
    """The parts of one open home that say what there is."""

    home: Home
    backend: Backend
    journal: Journal
    runs: Runs
    versions: Versions
    aliases: Aliases
    deployments: Deployments
    targets: Targets
    retirements: Retirements


class Pins(Struct):
    """What is pinned, and what was until its version was retired."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    """The versions that pin, by their run."""
    claims: dict[str, list[Registration]] = field(default_factory=dict)
    """The claims that no version bears, by their run."""
    retired: dict[str, list[Version]] = field(default_factory=dict)
    """The versions that were retired long enough ago and pin nothing any more, by their run."""

    def any_of(self, run: str) -> bool:
        """Return whether anything of a run is pinned."""
        return bool(self.versions.get(run) or self.claims.get(run))

    def holds(self, revision: Revision, artifact: Artifact) -> bool:
        """Return whether an artifact of a revision is pinned."""
        part = (revision.revision, artifact.artifact)
        if any(
            part in parts_of(revision, each.artifact)
            for each in self.versions.get(revision.run, ())
            if each.revision == revision.revision
        ):
            return True
        return any(
            (each.artifact, each.sha256) == (artifact.artifact, artifact.sha256)
            or (each.artifact == WHOLE_RUN and each.sha256 == revision.whole().sha256)
            for each in self.claims.get(revision.run, ())
        )

    def retired_by(self, revision: Revision, artifact: Artifact) -> str:
        """Return the retired version that pinned an artifact; empty if there is none."""
        part = (revision.revision, artifact.artifact)
        for each in self.retired.get(revision.run, ()):
            if each.revision == revision.revision and part in parts_of(revision, each.artifact):
                return f"{each.experiment}/{each.version}"
        return ""


def read(sequences: Sequences, there: Iterable[str], retired_before: datetime) -> Pins:
    """Return what is pinned; versions retired before a time pin nothing, unless they are in use.

    `there` names the records of runs that were seen at the backend.

    Raises:
        IntegrityError: some of it can't be read, or a journal tells of what isn't there.
        BackendError: the backend failed.
    """
    pins, names = Pins(), set(there)
    with ThreadPoolExecutor(sequences.backend.capabilities.connections) as pool:
        for experiment in sorted(sequences.versions.experiments()):
            _read_experiment(sequences, experiment, pins, names, retired_before, pool)
    for target in sequences.targets.names():
        names.update(f"target:{target}~{number}" for number in sequences.targets.numbers(target))
    _check_accounts(sequences, names)
    return pins


def _read_experiment(
    sequences: Sequences,
    experiment: str,
    pins: Pins,
    names: set[str],
    retired_before: datetime,
    pool: ThreadPoolExecutor,
) -> None:
    numbers = sequences.versions.numbers(experiment)
    if numbers != list(range(1, len(numbers) + 1)):
        message = f"versions of {experiment} are missing at {sequences.backend.url}"
        raise IntegrityError(message, hint=_HINT)
    threads = sequences.backend.capabilities.connections
    records = in_turn(
        pool, threads, lambda number: sequences.versions.record(experiment, number), numbers
    )
    # A vacant number pins nothing.
    versions = [each for each in records if isinstance(each, Version)]
    names.update(f"{experiment}/{number}" for number in numbers)
    retired = _retired(sequences, experiment, names, retired_before)
    used = _used(sequences, experiment, names)
    for version in versions:
        gone = version.version in retired and version.version not in used
        (pins.retired if gone else pins.versions).setdefault(version.run, []).append(version)
    for claim in sequences.versions.claims(experiment, {each.owner for each in versions}):
        pins.claims.setdefault(claim.run, []).append(claim)


def _retired(sequences: Sequences, experiment: str, names: set[str], before: datetime) -> set[int]:
    """Return the numbers of the versions that are retired since before a time."""
    found = set()
    for version in sequences.retirements.versions_of(experiment):
        numbers = sequences.retirements.numbers(experiment, version)
        names.update(f"{experiment}/{version}~{number}" for number in numbers)
        newest = sequences.retirements.newest(experiment, version)
        if newest and newest.retired and moment(newest.retired_at, newest.reference) < before:
            found.add(version)
    return found


def _used(sequences: Sequences, experiment: str, names: set[str]) -> set[int]:
    """Return the numbers of the versions that aliases are on, or that stand at targets."""
    for alias in sequences.aliases.names(experiment):
        numbers = sequences.aliases.numbers(experiment, alias)
        names.update(f"{experiment}@{alias}~{number}" for number in numbers)
    used = {move.version for move in sequences.aliases.all([experiment]) if move.version}
    for target in sequences.deployments.targets_of(experiment):
        numbers = sequences.deployments.numbers(experiment, target)
        names.update(f"{experiment}@{target}~{number}" for number in numbers)
        newest = sequences.deployments.newest(experiment, target)
        if newest is not None:
            # Also where the target was before: what went there may be live there still.
            used |= {newest.version, *(copy.version for copy in newest.kept)}
    return used


def _check_accounts(sequences: Sequences, names: set[str]) -> None:
    """Make sure that all journals can be read, and tell of nothing that isn't there."""
    accounts = Accounts(sequences.home, sequences.journal, sequences.backend, seen=names)
    off: list[str] = []
    accounts.read(lambda _kind, _where, what: off.append(what))
    if off:
        raise IntegrityError(f"a journal can't be relied on: {off[0]}", hint=_HINT)
    missing = accounts.missing()
    if missing:
        listed = ", ".join(sorted(missing)[:4])
        message = f"journals tell of what is not at {sequences.backend.url}: {listed}"
        raise IntegrityError(message, hint=_HINT)
