"""What became of an import: what was brought here, what had been, and what could not be."""

from __future__ import annotations

from typing import Final

from modeldrop.form import Json
from modeldrop.imports.elsewhere import Left
from modeldrop.structs import Struct, field

COUNTED: Final = ("runs", "versions", "vacant", "aliases", "targets", "deployments")
"""What an import counts."""


class Count(Struct):
    """How many of one kind there are."""

    created: int = 0
    """Brought here by this import; in a dry run, those that would be."""
    there: int = 0
    """Here before."""


class Report(Struct):
    """What became of an import."""

    source: str
    location: str
    dry_run: bool
    counts: dict[str, Count] = field(default_factory=dict)
    """By what `COUNTED` says."""
    renamed: dict[str, str] = field(default_factory=dict)
    """What is called otherwise here, by its name there."""
    left: list[Left] = field(default_factory=list)
    """What has no place here, and so can't be carried over."""
    waiting: list[Left] = field(default_factory=list)
    """What could not be carried over this time, and can be once somebody does something."""
    conflicts: list[Left] = field(default_factory=list)
    """What is something else here."""

    def count(self, what: str, *, created: bool) -> None:
        """Take note of one more."""
        count = self.counts.setdefault(what, Count())
        if created:
            count.created += 1
        else:
            count.there += 1

    @property
    def complete(self) -> bool:
        """Whether all that has a place here is here."""
        return not (self.waiting or self.conflicts)

    def as_json(self) -> dict[str, Json]:
        """Return the report as JSON."""
        return {
            "source": self.source,
            "location": self.location,
            "dry_run": self.dry_run,
            "complete": self.complete,
            **{
                what: {"created": count.created, "there": count.there}
                for what in COUNTED
                for count in (self.counts.get(what, Count()),)
            },
            "renamed": dict(self.renamed),
            "left": [_object(each) for each in self.left],
            "waiting": [_object(each) for each in self.waiting],
            "conflicts": [_object(each) for each in self.conflicts],
        }


def _object(left: Left) -> dict[str, Json]:
    return {"kind": left.kind, "name": left.name, "reason": left.reason}
