"""Finding: searches, lists, the best version, a metric over versions; answered from the index.

    repository.finding.search("experiment=churn and metrics.auc>0.9")
    repository.finding.best("churn", "auc")

How old an answer is. What is asked of one experiment, or of the list of all, is first asked of
the backend: which versions there are now, and where aliases are; only their records come from the
index. `runs` lists the backend as well, and what isn't listed is no answer. `search` asks the
backend nothing that the index has: it tells what this home knows, which is all that it did itself,
and what other hosts had done when their journals were last fetched: `Answer.as_of` says when.

Nothing is decided by the index. `register`, `promote` and `pull` go by the backend's present state.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from modeldrop.errors import IntegrityError, MetricNotFound, NewerFormat, UsageError
from modeldrop.finding import answers
from modeldrop.finding.answers import FoundRun, FoundVersion, value
from modeldrop.finding.conditions import LIVE, RUNS, VERSIONS, Condition, Sort, Unit, condition
from modeldrop.finding.forward import SURVEYED, Forward, Rooms
from modeldrop.finding.index import Index, about
from modeldrop.finding.query import parse
from modeldrop.home_records import FetchedAt
from modeldrop.names import check_experiment, printable
from modeldrop.structs import Frozen, replace

if TYPE_CHECKING:
    from modeldrop.finding.comparing import Difference

__all__ = [
    "Answer",
    "Best",
    "Finding",
    "FoundRun",
    "FoundVersion",
    "Point",
    "Rooms",
    "Sort",
    "value",
]

Damaged = Callable[[IntegrityError], None]
Found = TypeVar("Found")

MIN: Final = "min"
MAX: Final = "max"


class Answer(Frozen, Generic[Found]):
    """What was found, and as of when."""

    found: list[Found]
    as_of: str | None
    """Up to when it is complete for what other hosts did; None if it was never asked for."""


class Point(Frozen):
    """A version and what it has of a metric."""

    version: FoundVersion
    text: str
    """As it was written down."""
    number: float
    """To be drawn and compared."""


class Best(Frozen):
    """The best versions of an experiment by a metric that aren't retired, the best one first."""

    direction: str
    """`min` or `max`: which way is better."""
    declared: bool
    """Whether a run said so, and not the caller."""
    points: list[Point]
    passed_over: list[Point]
    """Retired versions that come before the last of these."""


class Finding:
    """What can be found in one repository. Threads may share it."""

    def __init__(self, rooms: Rooms) -> None:
        """Open nothing yet."""
        self._rooms = rooms
        home = rooms.home
        self._index = Index(home.paths.index, home.repository)
        self.reading: Callable[[int], None] = lambda _: None
        """Called with how many records are about to be read, where that takes a while."""

    def search(
        self,
        query: str,
        *,
        sort: Sort | None = None,
        most: int | None = None,
        damaged: Damaged | None = None,
    ) -> Answer[FoundVersion]:
        """Return the versions that a query holds for, by name and the newest first unless sorted.

        With `damaged`, what can't be read is told to it, and the rest is found.

        Raises:
            InvalidQuery: the query can't be read, or names a field that versions don't have.
            UsageError: it can't be sorted so.
            IntegrityError: something is damaged, and there is no `damaged`.
        """
        where = _where(VERSIONS, query)

        def work(db: sqlite3.Connection, forward: Forward) -> Answer[FoundVersion]:
            fetched_at = self._fetched_at()
            forward.all()
            found = answers.versions(db, where, sort, most)
            aliases = db.execute("SELECT experiment, alias, version FROM aliases")
            targets = db.execute(f"SELECT l.experiment, l.target, l.version FROM {LIVE}")  # noqa: S608 - a constant
            return Answer(answers.with_names(found, aliases, targets), _as_of(db, fetched_at))

        return self._use(work, damaged)

    def search_runs(
        self,
        query: str,
        *,
        sort: Sort | None = None,
        most: int | None = None,
        damaged: Damaged | None = None,
    ) -> Answer[FoundRun]:
        """Return the runs whose last revision a query holds for, the newest first unless sorted.

        Raises as `search` does.
        """
        where = _where(RUNS, query)

        def work(db: sqlite3.Connection, forward: Forward) -> Answer[FoundRun]:
            fetched_at = self._fetched_at()
            forward.all()
            return Answer(answers.runs(db, where, sort, most), _as_of(db, fetched_at))

        return self._use(work, damaged)

    def runs(
        self,
        *,
        sort: Sort | None = None,
        most: int | None = None,
        damaged: Damaged | None = None,
    ) -> list[FoundRun]:
        """Return the runs at the backend by their last revisions, the newest first unless sorted.

        Which runs there are is listed now; that a run has a further revision is known once the
        journal of the host that stored it is here.

        Raises:
            UsageError: it can't be sorted so.
            IntegrityError: something is damaged, and there is no `damaged`.
        """

        def work(db: sqlite3.Connection, forward: Forward) -> list[FoundRun]:
            forward.journals()
            forward.runs_at_backend()
            forward.revisions()
            return answers.runs(db, answers.ALL, sort, most)

        return self._use(work, damaged)

    def experiments(
        self,
        *,
        sort: Sort | None = None,
        most: int | None = None,
        damaged: Damaged | None = None,
    ) -> list[FoundVersion]:
        """Return the newest version of every experiment, by name unless sorted.

        Raises as `runs` does.
        """

        def work(db: sqlite3.Connection, forward: Forward) -> list[FoundVersion]:
            forward.journals()
            newest = forward.newest_versions(sorted(self._rooms.versions.experiments()))
            names = list(newest)
            forward.retirements(names)
            # As they were found: another process may know of newer ones by now, unread ones too.
            where = Condition(
                "(v.experiment, v.version) IN (SELECT key, value FROM json_each(?))",
                [json.dumps(newest)],
            )
            found = answers.versions(db, where, sort, most)
            return self._with_names(names, found, forward)

        return self._use(work, damaged)

    def versions(
        self,
        experiment: str,
        *,
        sort: Sort | None = None,
        most: int | None = None,
        damaged: Damaged | None = None,
    ) -> list[FoundVersion]:
        """Return the versions of an experiment, the newest first unless sorted.

        Raises:
            VersionNotFound: there are none.
            Otherwise as `runs` does.
        """

        def work(db: sqlite3.Connection, forward: Forward) -> list[FoundVersion]:
            self._versions_of(experiment, forward)
            where = Condition("v.experiment = ?", [experiment])
            found = answers.versions(db, where, sort, most)
            return self._with_names([experiment], found, forward)

        return self._use(work, damaged)

    def best(
        self,
        experiment: str,
        metric: str,
        *,
        direction: str | None = None,
        most: int = 1,
        damaged: Damaged | None = None,
    ) -> Best:
        """Return the best versions of an experiment by a metric; of equal ones the older first.

        Without `direction`, the newest version whose run declares one for this metric decides.
        Whether a version is retired is asked of the backend; those that are, are passed over.

        Raises:
            MetricNotFound: no version has this metric as a number, or each that has is retired.
            UsageError: no direction was declared, and none is given.
            VersionNotFound: there are no versions.
            IntegrityError: something is damaged, and there is no `damaged`.
        """

        def work(db: sqlite3.Connection, forward: Forward) -> Best:
            points = self._points(db, forward, experiment, metric)
            way = direction or _declared(db, experiment, metric)
            if way is None:
                raise UsageError(
                    f"no version of {experiment} declares whether a large or a small "
                    f"{printable(metric)} is good",
                    hint="say it with `--max` or `--min`; a run declares it under `directions` "
                    "in its run.toml",
                )
            sign = 1 if way == MIN else -1
            points.sort(key=lambda point: (sign * point.number, point.version.version))
            few, passed_over = self._standing(forward, points, most)
            if not few:
                raise MetricNotFound(
                    f"each version of {experiment} that has the metric {printable(metric)!r} "
                    "is retired",
                    hint="`modeldrop retire REF --undo` takes that back",
                    detail={"experiment": experiment},
                )
            named = self._with_names([experiment], [each.version for each in few], forward)
            return Best(
                way,
                direction is None,
                [
                    Point(version, each.text, each.number)
                    for version, each in zip(named, few, strict=True)
                ],
                passed_over,
            )

        return self._use(work, damaged)

    def series(
        self, experiment: str, metric: str, *, damaged: Damaged | None = None
    ) -> tuple[list[Point], str | None]:
        """Return the versions that have a metric, oldest first, and the direction that is declared.

        Raises:
            As `best`, apart from the direction.
        """

        def work(db: sqlite3.Connection, forward: Forward) -> tuple[list[Point], str | None]:
            points = self._points(db, forward, experiment, metric)
            return points, _declared(db, experiment, metric)

        return self._use(work, damaged)

    def compare(self, a: str, b: str) -> Difference:
        """Return how two versions or runs differ; both are read at the backend.

        A run of several artifacts is compared as a whole, unless the reference names one.

        Raises:
            InvalidName: one has no form of a reference.
            RunNotFound, VersionNotFound, AliasNotFound, ArtifactNotFound: there is no such thing.
            BackendError: the backend failed.
        """
        from modeldrop.finding.comparing import Side, compare  # noqa: PLC0415 - for this alone
        from modeldrop.finding.tensors import Headers  # noqa: PLC0415 - the same

        def side(reference: str) -> Side:
            found = self._rooms.references.resolve(reference)
            metadata = found.revision.metadata
            if found.version is not None:
                metadata = self._rooms.runs.metadata_of(found.version, found.revision)
            return Side(found, metadata)

        return compare(side(a), side(b), Headers(self._rooms.backend).read)

    # Inside

    def _use(
        self, work: Callable[[sqlite3.Connection, Forward], Found], damaged: Damaged | None
    ) -> Found:
        made: list[Forward] = []

        def attempt(db: sqlite3.Connection) -> Found:
            # Of an attempt that the index's damage ended, nothing is told.
            made[:] = [Forward(db, self._rooms, self.reading)]
            return work(db, made[0])

        answer = self._index.use(attempt)
        for error in made[0].damaged:
            if damaged is None:
                raise error
            damaged(error)
        return answer

    def _versions_of(self, experiment: str, forward: Forward) -> None:
        check_experiment(experiment)
        forward.journals()
        newest = forward.newest([experiment])[experiment]
        if not newest:
            self._rooms.versions.version(experiment)  # says where it was looked for
        forward.versions({experiment: range(1, newest + 1)})
        forward.retirements([experiment])

    def _standing(
        self, forward: Forward, points: list[Point], most: int
    ) -> tuple[list[Point], list[Point]]:
        """Return the first points whose versions aren't retired, and those before that are."""
        few: list[Point] = []
        passed_over: list[Point] = []
        ever = set(self._rooms.retirements.versions_of(points[0].version.experiment))
        for each in points:
            if len(few) == most:
                break
            version, found = each.version, None
            if version.version in ever:
                found = forward.retirement(version.experiment, version.version)
            is_retired = found is not None and found.retired
            said = replace(each, version=replace(version, retired=is_retired))
            (passed_over if is_retired else few).append(said)
        return few, passed_over

    def _with_names(
        self, experiments: list[str], found: list[FoundVersion], forward: Forward
    ) -> list[FoundVersion]:
        moves, live = forward.aliases(experiments), forward.live(experiments)
        on = [(each.experiment, each.alias, each.version) for each in moves]
        at = [(each.experiment, each.target, each.version) for each in live]
        return answers.with_names(found, on, at)

    def _points(
        self, db: sqlite3.Connection, forward: Forward, experiment: str, metric: str
    ) -> list[Point]:
        self._versions_of(experiment, forward)
        rows = db.execute(
            "SELECT v.version, m.text, m.number FROM versions v "
            "JOIN facts m ON m.name = ? AND m.revision = v.said AND m.number IS NOT NULL "
            "WHERE v.experiment = ?",
            (f"metrics.{metric}", experiment),
        )
        values = {version: (text, float(number)) for version, text, number in rows}
        if not values:
            raise _no_metric(db, experiment, metric)
        where = Condition("v.experiment = ?", [experiment])
        found = answers.versions(db, where, Sort("version"))
        return [Point(each, *values[each.version]) for each in found if each.version in values]

    def _fetched_at(self) -> str | None:
        """Return when journals were fetched last; asked before what they tell is taken up."""
        path = self._rooms.home.paths.fetched_at()
        # Unreadable, it says nothing, and the next fetch writes it anew.
        with contextlib.suppress(OSError, IntegrityError, NewerFormat):
            return FetchedAt.from_bytes(path.read_bytes(), str(path)).fetched_at
        return None


def _as_of(db: sqlite3.Connection, fetched_at: str | None) -> str | None:
    times = (about(db, SURVEYED), fetched_at)
    return max((each for each in times if each is not None), default=None)


def _where(unit: Unit, query: str) -> Condition:
    return condition(unit, parse(query), query)


def _declared(db: sqlite3.Connection, experiment: str, metric: str) -> str | None:
    """Return the direction of a metric that the newest version declares which declares one."""
    found = db.execute(
        "SELECT d.text FROM versions v "
        "JOIN facts d ON d.name = ? AND d.revision = v.said AND d.text IN (?, ?) "
        "WHERE v.experiment = ? ORDER BY v.version DESC LIMIT 1",
        (f"directions.{metric}", MIN, MAX, experiment),
    ).fetchone()
    return None if found is None else str(found[0])


def _no_metric(db: sqlite3.Connection, experiment: str, metric: str) -> MetricNotFound:
    rows = db.execute(
        "SELECT DISTINCT m.name FROM versions v "
        "JOIN facts m ON m.revision = v.said AND m.number IS NOT NULL "
        "AND m.name >= 'metrics.' AND m.name < 'metrics/' WHERE v.experiment = ? ORDER BY 1",
        (experiment,),
    )
    names = [str(name).removeprefix("metrics.") for (name,) in rows]
    has = f"they have {', '.join(map(printable, names))}" if names else "they have none"
    return MetricNotFound(
        f"no version of {experiment} has the metric {printable(metric)!r} as a number; {has}",
        hint="`modeldrop show REF` shows what is known of a version's run",
        detail={"experiment": experiment, "metrics": names},
    )
