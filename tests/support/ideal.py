"""A repository as it is to be: a small model in memory, what people do to it, and what they see.

Each `Deed` says what it makes of an `Ideal`, and does the same to a real repository; `observed`
returns what is to be seen there as an `Ideal`. So the two can be compared at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from modeldrop import Repository
from modeldrop.errors import (
    AliasMoved,
    AliasNotFound,
    DeploymentNotFound,
    ModeldropError,
    RunNotFound,
    VersionInUse,
    VersionNotFound,
    VersionRetired,
)
from modeldrop.records import Version, registration_owner
from support.stores import model

TARGET = "production"
ALIAS = "champion"

Answer = tuple[int, bool] | type[ModeldropError]
"""Which number it came to and whether that is new, or why it can't be."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a version is."""

    run: str
    revision: int
    text: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class Live:
    """What a deployment is."""

    version: int
    back: int | None = None
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class Ideal:
    """All that there is in a repository whose runs have a single artifact, `model`."""

    runs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The text of each revision of a run."""
    versions: Mapping[str, tuple[Given, ...]] = field(default_factory=dict)
    moves: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    """The version that each move of the alias of an experiment has put it on."""
    deployments: Mapping[str, tuple[Live, ...]] = field(default_factory=dict)
    retired: Mapping[tuple[str, int], tuple[bool, ...]] = field(default_factory=dict)
    """What was said of a version, whether it is retired."""

    def has(self, experiment: str, number: int) -> bool:
        """Return whether there is such a version."""
        return number <= len(self.versions.get(experiment, ()))

    def is_retired(self, experiment: str, number: int) -> bool:
        """Return whether a version is retired."""
        return self.retired.get((experiment, number), (False,))[-1]

    def on(self, experiment: str) -> int | None:
        """Return which version the alias of an experiment is on."""
        return (self.moves.get(experiment) or (None,))[-1]

    def live(self, experiment: str) -> Live | None:
        """Return what is live of an experiment."""
        return (self.deployments.get(experiment) or (None,))[-1]

    def references(self, target: str) -> Iterator[str]:
        """Yield what the entries of all homes are about, each once."""
        for run, texts in self.runs.items():
            yield from (f"run:{run}~{number}" for number, _ in enumerate(texts, 1))
        for name, given in self.versions.items():
            yield from (f"{name}/{number}" for number, _ in enumerate(given, 1))
        for name, moves in self.moves.items():
            yield from (f"{name}@{ALIAS}~{number}" for number, _ in enumerate(moves, 1))
        for name, deployments in self.deployments.items():
            yield from (f"{name}@{target}~{number}" for number, _ in enumerate(deployments, 1))
        for (name, version), said in self.retired.items():
            yield from (f"{name}/{version}~{number}" for number, _ in enumerate(said, 1))


class Deed(Protocol):
    """Something that people do."""

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        """Return what it makes of a repository, and what it is answered."""
        ...

    def do(self, repository: Repository) -> Answer:
        """Do it."""
        ...


@dataclass(frozen=True)
class Upload:
    """Store a text as the artifact of a run."""

    run: str
    text: str

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        before = ideal.runs.get(self.run, ())
        if before and before[-1] == self.text:
            return ideal, (len(before), False)
        after = (*before, self.text)
        return replace(ideal, runs={**ideal.runs, self.run: after}), (len(after), True)

    def do(self, repository: Repository) -> Answer:
        path = model(repository.home.paths.root.parent / "aside" / "model", self.text)
        committed = repository.upload(self.run, path)
        return committed.revision.revision, committed.created


@dataclass(frozen=True)
class Register:
    """Register what a run has now."""

    run: str
    experiment: str
    again: bool

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        revisions = ideal.runs.get(self.run, ())
        if not revisions:
            return ideal, RunNotFound
        given = ideal.versions.get(self.experiment, ())
        for number, each in enumerate(given, 1):
            same = (each.run, each.text, each.again) == (self.run, revisions[-1], False)
            if same and not self.again:
                if ideal.is_retired(self.experiment, number):
                    return ideal, VersionRetired
                return ideal, (number, False)
        after = (*given, Given(self.run, len(revisions), revisions[-1], self.again))
        versions = {**ideal.versions, self.experiment: after}
        return replace(ideal, versions=versions), (len(after), True)

    def do(self, repository: Repository) -> Answer:
        done = repository.register(f"run:{self.run}", self.experiment, again=self.again)
        return done.version.version, done.created


@dataclass(frozen=True)
class Promote:
    """Put the alias on a version, perhaps only if it is on another one."""

    experiment: str
    version: int
    expect: int | None

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        if not ideal.has(self.experiment, self.version):
            return ideal, VersionNotFound
        if ideal.is_retired(self.experiment, self.version):
            return ideal, VersionRetired
        return _moved(ideal, self.experiment, self.version, self.expect)

    def do(self, repository: Repository) -> Answer:
        reference = f"{self.experiment}/{self.version}"
        done = repository.promote(reference, ALIAS, expect=self.expect)
        return done.move.move, done.created


@dataclass(frozen=True)
class RemoveAlias:
    """Have the alias be on no version."""

    experiment: str
    expect: int | None

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        if not ideal.moves.get(self.experiment):
            return ideal, AliasNotFound
        return _moved(ideal, self.experiment, None, self.expect)

    def do(self, repository: Repository) -> Answer:
        done = repository.remove_alias(f"{self.experiment}@{ALIAS}", expect=self.expect)
        return done.move.move, done.created


def _moved(
    ideal: Ideal, experiment: str, version: int | None, expect: int | None
) -> tuple[Ideal, Answer]:
    moves = ideal.moves.get(experiment, ())
    if moves and moves[-1] == version:
        return ideal, (len(moves), False)
    if expect is not None and (ideal.on(experiment) or 0) != expect:
        return ideal, AliasMoved
    after = (*moves, version)
    return replace(ideal, moves={**ideal.moves, experiment: after}), (len(after), True)


@dataclass(frozen=True)
class Deploy:
    """Have a version live at the target."""

    experiment: str
    version: int

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        if not ideal.has(self.experiment, self.version):
            return ideal, VersionNotFound
        if ideal.is_retired(self.experiment, self.version):
            return ideal, VersionRetired
        before = ideal.deployments.get(self.experiment, ())
        if before and before[-1].version == self.version:
            return ideal, (len(before), False)
        return _deployed(ideal, self.experiment, Live(self.version, len(before) or None))

    def do(self, repository: Repository) -> Answer:
        done = repository.deploy(f"{self.experiment}/{self.version}", TARGET)
        return done.deployment.deployment, done.created


@dataclass(frozen=True)
class RollBack:
    """Have the version live again that was live before."""

    experiment: str

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        before = ideal.deployments.get(self.experiment, ())
        if not before or before[-1].back is None:
            return ideal, DeploymentNotFound
        to = before[before[-1].back - 1]
        if ideal.is_retired(self.experiment, to.version):
            return ideal, VersionRetired
        return _deployed(ideal, self.experiment, Live(to.version, to.back, rolled_back=True))

    def do(self, repository: Repository) -> Answer:
        done = repository.rollback(self.experiment, TARGET)
        return done.deployment.deployment, done.created


def _deployed(ideal: Ideal, experiment: str, live: Live) -> tuple[Ideal, Answer]:
    after = (*ideal.deployments.get(experiment, ()), live)
    deployments = {**ideal.deployments, experiment: after}
    return replace(ideal, deployments=deployments), (len(after), True)


@dataclass(frozen=True)
class Retire:
    """Retire a version, or take that back."""

    experiment: str
    version: int
    retired: bool

    def on(self, ideal: Ideal) -> tuple[Ideal, Answer]:
        name = (self.experiment, self.version)
        if not ideal.has(*name):
            return ideal, VersionNotFound
        said = ideal.retired.get(name, ())
        if said and said[-1] == self.retired:
            return ideal, (len(said), False)
        live = ideal.live(self.experiment)
        used = self.version in (ideal.on(self.experiment), live and live.version)
        if self.retired and used:
            return ideal, VersionInUse
        if not said and not self.retired:
            return ideal, VersionRetired
        after = (*said, self.retired)
        return replace(ideal, retired={**ideal.retired, name: after}), (len(after), True)

    def do(self, repository: Repository) -> Answer:
        reference = f"{self.experiment}/{self.version}"
        say = repository.retire if self.retired else repository.unretire
        done = say(reference)
        return done.retirement.retirement, done.created


def observed(repository: Repository, experiments: tuple[str, ...]) -> Ideal:
    """Return what there is to be seen of a repository."""
    runs = {
        last.run: tuple(
            _text(repository, last.run, number) for number in range(1, last.revision + 1)
        )
        for last in repository.runs()
    }
    versions: dict[str, tuple[Given, ...]] = {}
    moves: dict[str, tuple[int | None, ...]] = {}
    deployments: dict[str, tuple[Live, ...]] = {}
    retired: dict[tuple[str, int], tuple[bool, ...]] = {}
    for name in experiments:
        found = _given(repository, name)
        if found:
            versions[name] = tuple(
                Given(each.run, each.revision, runs[each.run][each.revision - 1], _is_more(each))
                for each in found
            )
        if said := tuple(_moves(repository, name)):
            moves[name] = said
        if there := tuple(_deployments(repository, name)):
            deployments[name] = there
        for number in repository.retirements_at_backend.versions_of(name):
            every = repository.retirements_at_backend
            numbers = every.numbers(name, number)
            retired[name, number] = tuple(
                every.record(name, number, each).retired for each in numbers
            )
    return Ideal(runs, versions, moves, deployments, {k: v for k, v in retired.items() if v})


def _text(repository: Repository, run: str, number: int) -> str:
    """Return the text of a revision, by its size and digest known to be what is stored."""
    [artifact] = repository.runs_at_backend.revision(run, number).artifacts
    [file] = artifact.files
    place = repository.backend.local_path(file.key)
    assert place is not None
    return Path(place).read_text()


def _given(repository: Repository, experiment: str) -> list[Version]:
    try:
        return repository.versions(experiment)
    except VersionNotFound:
        return []


def _is_more(version: Version) -> bool:
    """Return whether a version was asked for though there was one."""
    if version.origin is not None:
        return False
    shared = registration_owner(
        version.experiment, version.run, version.artifact, version.sha256, None
    )
    return version.owner != shared


def _moves(repository: Repository, experiment: str) -> Iterator[int | None]:
    try:
        yield from (each.version for each in repository.alias_moves(f"{experiment}@{ALIAS}"))
    except AliasNotFound:
        return


def _deployments(repository: Repository, experiment: str) -> Iterator[Live]:
    try:
        for each in repository.deployments(experiment, TARGET):
            yield Live(each.version, each.back, each.rolled_back)
    except DeploymentNotFound:
        return
