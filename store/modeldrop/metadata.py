"""What a run was: parameters, metrics, tags, data sets, where it came from. Kept in its manifest.

None of it is required, and a run without any has a manifest without a word of it. Numbers that
aren't whole are texts, the shortest that reads as the same number, since records hold no floats.
What people and files say is made into it by `statements`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from modeldrop.form import Json, Part, map_if_any, part_if_any, parts_if_any, text_if_any

Value = str | int | bool
Direction = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Dataset(Part):
    """A data set that the run was trained or measured with, by its digest."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Code(Part):
    """The code that ran: a git commit, and whether the tree differed from it."""

    commit: str
    dirty: bool | None  # None: nobody knows
    branch: str | None


@dataclass(frozen=True, slots=True)
class Environment(Part):
    """What the code ran in; each of it may be unknown."""

    host: str | None = text_if_any()
    user: str | None = text_if_any()
    python: str | None = text_if_any()
    platform: str | None = text_if_any()
    packages: Mapping[str, str] = map_if_any(str)


@dataclass(frozen=True, slots=True)
class Metadata(Part):
    """What a run was, as far as it says so."""

    params: Mapping[str, Value] = map_if_any(str, int, bool)
    metrics: Mapping[str, str] = map_if_any(str)
    directions: Mapping[str, str] = map_if_any(str)
    tags: Mapping[str, str] = map_if_any(str)
    datasets: tuple[Dataset, ...] = parts_if_any(Dataset)
    parent: str | None = text_if_any()
    code: Code | None = part_if_any(Code)
    environment: Environment | None = part_if_any(Environment)

    def __bool__(self) -> bool:
        """Return whether it says anything."""
        # Asked of every manifest that is written, and most have none.
        return self is not NOTHING and any(getattr(self, each.name) for each in fields(self))

    def over(self, below: Metadata) -> Metadata:
        """Return both, name by name; where both say something, it is what this says."""
        if not below:
            return self
        named = {each.name: each for each in (*below.datasets, *self.datasets)}
        environment = self.environment or below.environment
        if self.environment is not None and below.environment is not None:
            environment = _environment_over(self.environment, below.environment)
        return Metadata(
            params={**below.params, **self.params},
            metrics={**below.metrics, **self.metrics},
            directions={**below.directions, **self.directions},
            tags={**below.tags, **self.tags},
            datasets=sorted_by_name(named.values()),
            parent=self.parent or below.parent,
            code=self.code or below.code,
            environment=environment,
        )

    def adds_to(self, before: Metadata) -> bool:
        """Return whether it says something of the run that was not said before, or otherwise.

        What it doesn't say takes nothing back. Where the code ran is news only where nothing was
        known of that: else each host that stores the same run would have something to add.
        """
        if not self:
            return False
        if self.parent not in {None, before.parent} or {*self.datasets} - {*before.datasets}:
            return True
        maps = (
            (self.params, before.params),
            (self.metrics, before.metrics),
            (self.directions, before.directions),
            (self.tags, before.tags),
        )
        if any(_differs(name, mine, theirs) for mine, theirs in maps for name in mine):
            return True
        known = before.environment or _NOWHERE
        return bool(self.code and not before.code) or any(
            getattr(self.environment or _NOWHERE, each.name) and not getattr(known, each.name)
            for each in fields(Environment)
        )

    def in_full(self) -> dict[str, Json]:
        """Return it as JSON with every field, empty or null where nothing is said."""
        where = self.environment
        return {
            "params": dict(self.params),
            "metrics": dict(self.metrics),
            "directions": dict(self.directions),
            "tags": dict(self.tags),
            "datasets": [each.as_json() for each in self.datasets],
            "parent": self.parent,
            "code": self.code.as_json() if self.code else None,
            "environment": None
            if where is None
            else {
                "host": where.host,
                "user": where.user,
                "python": where.python,
                "platform": where.platform,
                "packages": dict(where.packages),
            },
        }


_NOWHERE: Final = Environment()
NOTHING: Final = Metadata()


def sorted_by_name(datasets: Iterable[Dataset]) -> tuple[Dataset, ...]:
    """Return data sets in the order in which a record has them."""
    return tuple(sorted(datasets, key=lambda each: each.name.encode("utf-8")))


def _environment_over(above: Environment, below: Environment) -> Environment:
    said = {each.name: value for each in fields(above) if (value := getattr(above, each.name))}
    return replace(below, **said)


def _differs(name: str, mine: Mapping[str, Value], theirs: Mapping[str, Value]) -> bool:
    # To Python, 1 and true are equal.
    return name not in theirs or (type(theirs[name]), theirs[name]) != (
        type(mine[name]),
        mine[name],
    )
