"""Lists: what is at the backend, and what happened on all hosts.

What exists is asked of the backend, what happened of the journals. What can't be read is told, and
the rest is listed.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from modeldrop.errors import IntegrityError, VersionVacant
from modeldrop.home import Home
from modeldrop.journal import Copies, Entry, Journal
from modeldrop.records import AliasMove, Revision, Version
from modeldrop.runs import Runs
from modeldrop.versions import Versions

Damaged = Callable[[IntegrityError], None]

Named = TypeVar("Named")
Found = TypeVar("Found")


def last_revisions(runs: Runs, damaged: Damaged | None) -> list[Revision]:
    """Return the last revision of every run, newest commit first.

    Raises:
        IntegrityError: a record is damaged, and there is no `damaged`.
    """
    every = (_read(runs.latest, guid, damaged) for guid in runs.guids())
    found = [revision for revision in every if revision is not None]
    return sorted(found, key=lambda each: (each.committed_at, each.run), reverse=True)


def newest_versions(versions: Versions, damaged: Damaged | None) -> list[Version]:
    """Return the newest version of every experiment, by name.

    Raises:
        IntegrityError: a record is damaged, and there is no `damaged`.
    """

    def newest(name: str) -> Version | None:
        with contextlib.suppress(VersionVacant):
            return versions.version(name) if versions.last(name) else None
        return None

    every = (_read(newest, name, damaged) for name in sorted(versions.experiments()))
    return [version for version in every if version is not None]


def versions_of(versions: Versions, experiment: str, damaged: Damaged | None) -> list[Version]:
    """Return the versions of an experiment, oldest first.

    Raises:
        VersionNotFound: there are none.
        IntegrityError: a record is damaged, and there is no `damaged`.
    """
    try:
        return versions.all(experiment)
    except IntegrityError:
        if damaged is None:
            raise
    # One by one: that is slow, and only where something is damaged.
    every = (
        _read(lambda number: versions.record(experiment, number), number, damaged)
        for number in range(1, versions.last(experiment) + 1)
    )
    return [version for version in every if isinstance(version, Version)]


def aliases_on(version: Version, aliases: Iterable[AliasMove]) -> list[str]:
    """Return the names of those aliases that are on a version."""
    here = (version.experiment, version.version)
    return [each.alias for each in aliases if (each.experiment, each.version) == here]


def entries(home: Home, journal: Journal) -> Iterator[Entry]:
    """Yield the entries of this home's journal and of those that were fetched, newest first.

    Raises:
        JournalDamaged: a journal isn't what was acknowledged, or what was fetched.
    """
    copies = Copies(home.paths)
    # A home that was restored may have fetched what it was before, under the id that it has now.
    others = (copies.newest(each) for each in copies.homes() if each != home.id)
    # Each journal stays in its own order, whatever its host's clock says.
    return heapq.merge(journal.newest(), *others, key=lambda each: each.at, reverse=True)


def _read(
    read: Callable[[Named], Found | None], name: Named, damaged: Damaged | None
) -> Found | None:
    """Return a record; tell `damaged`, if there is such, why it can't be read."""
    try:
        return read(name)
    except IntegrityError as error:
        if damaged is None:
            raise
        damaged(error)
        return None
