"""What a run was: parameters, metrics, tags, data sets, where it came from. Kept in its manifest.

None of it is required, and a run without any has a manifest without a word of it. Numbers that
aren't whole are texts, the shortest that reads as the same number, since records hold no floats.
What people and files say is made into it by `statements`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from modeldrop.form import Json, Part
from modeldrop.structs import field, replace

Value = str | int | bool
Direction = Literal["min", "max"]


class Dataset(Part):
    """A data set that the run was trained or measured with, by its digest."""

    name: str
    sha256: str


class Code(Part):
    """The code that ran: a git commit, and whether the tree differed from it."""

    commit: str
    dirty: bool | None  # None: nobody knows
    branch: str | None


class Environment(Part):
    """What the code ran in; each of it may be unknown."""

    host: str | None = None
    user: str | None = None
    python: str | None = None
    platform: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)


class Metadata(Part):
    """What a run was, as far as it says so."""

    params: Mapping[str, Value] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    directions: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    parent: str | None = None
    code: Code | None = None
    environment: Environment | None = None

    def __bool__(self) -> bool:
        """Return whether it says anything."""
        # Asked of every manifest that is written, and most have none.
        return self is not NOTHING and any(getattr(self, each) for each in self.__struct_fields__)

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
            getattr(self.environment or _NOWHERE, each) and not getattr(known, each)
            for each in Environment.__struct_fields__
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
    said = {name: value for name in above.__struct_fields__ if (value := getattr(above, name))}
    return replace(below, **said)


def _differs(name: str, mine: Mapping[str, Value], theirs: Mapping[str, Value]) -> bool:
    # To Python, 1 and true are equal.
    return name not in theirs or (type(theirs[name]), theirs[name]) != (
        type(mine[name]),
        mine[name],
    )
