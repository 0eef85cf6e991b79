"""Bringing what another place has into this repository: runs, versions, aliases, targets.

Idempotent, and it goes on where it was interrupted: what is here already is found by its GUID, its
number or its name, compared, and left as it is. Bytes are read, hashed, sent and checked as those
of any other run. What is something else here is a conflict, and nothing is changed by it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping

from modeldrop import founding
from modeldrop.choosing import choose_artifact
from modeldrop.errors import (
    AliasNotFound,
    ArtifactCollected,
    BackendError,
    Conflict,
    InvalidName,
    ModeldropError,
    UsageError,
)
from modeldrop.form import now
from modeldrop.imports.bringing import Bringing, Progress
from modeldrop.imports.elsewhere import (
    ExperimentThere,
    Left,
    RunThere,
    Source,
    TargetThere,
    VersionThere,
)
from modeldrop.imports.naming import Naming
from modeldrop.imports.redeploying import Here, Redeploying, check_targets
from modeldrop.imports.report import Report
from modeldrop.ledger import Request
from modeldrop.names import check_alias, printable
from modeldrop.placing import Given, Placing, told
from modeldrop.promotion import Promotion
from modeldrop.records import Artifact, Origin, Revision, VacantVersion, Version
from modeldrop.rooms import Rooms
from modeldrop.structs import Frozen, field

_log = logging.getLogger(__name__)

# More numbers than this aren't left vacant for one experiment: what asks for them is no registry.
MOST_VACANT = 10_000


class Options(Frozen):
    """What the user chose of an import."""

    names: Mapping[str, str] = field(default_factory=dict)
    """What experiments are called here, by their names there."""
    leave_vacant: bool = False
    """Whether numbers whose bytes can't be had are left vacant for ever."""
    dry_run: bool = False
    by: str | None = None
    """Who imports, if not the user of the home."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """The URLs of deployment targets, by their names there."""


def carry(
    rooms: Rooms, source: Source, options: Options, moved: Progress = lambda _: None
) -> Report:
    """Bring what `source` has into the repository; return what became of it.

    Raises:
        UsageError: two experiments would have one name here, a chosen name is no valid one, or
            a target isn't there.
        IntegrityError: what is read is damaged; what was brought before stays.
        BackendError: the backend failed; the next import goes on.
    """
    report = Report(source.source, source.location, options.dry_run)
    experiments = list(source.experiments())
    naming = Naming(options.names)
    naming.check(each.name for each in experiments)
    targets = list(source.targets())
    check_targets(targets, options.targets)
    if options.dry_run:
        founding.check_repository(rooms.home, rooms.backend)
    else:
        rooms.ready_to_write()
    carrying = _Carrying(rooms, source, options, naming, report, moved)
    carrying.runs({each.run for one in experiments for each in one.versions if each.run})
    for experiment in experiments:
        carrying.experiment(experiment)
    carrying.targets(targets)
    report.left += source.left()
    return report


class _Carrying:
    """An import under way."""

    def __init__(
        self,
        rooms: Rooms,
        source: Source,
        options: Options,
        naming: Naming,
        report: Report,
        moved: Progress,
    ) -> None:
        self._rooms = rooms
        self._source = source
        self._options = options
        self._naming = naming
        self._report = report
        self._by = options.by or rooms.home.user
        self._versions = rooms.versions_at_backend
        self._aliases = rooms.aliases_at_backend
        self._placing = Placing(rooms.home, rooms.backend, self._versions)
        self._bringing = Bringing(rooms, report, moved, dry_run=options.dry_run)
        self._revisions: dict[str, Revision] = {}
        self._missing: dict[str, str] = {}
        self._here = Here()
        self._moved = moved

    def runs(self, wanted: set[str]) -> None:
        """Bring every run; those that are wanted are kept in mind for the versions."""
        for there in self._source.runs():
            try:
                revision = self._bringing.run(there, self._experiment_of(there), self._origin)
            except BackendError:
                raise
            except Conflict as error:
                self._report.conflicts.append(Left("run", there.name, error.message))
                self._missing[there.key or there.run] = error.message
            except (ModeldropError, OSError) as error:
                self._report.waiting.append(Left("run", there.name, str(error)))
                self._missing[there.key or there.run] = str(error)
            else:
                if (there.key or there.run) in wanted:
                    self._revisions[there.key or there.run] = revision

    def experiment(self, there: ExperimentThere) -> None:
        """Bring the versions of an experiment, each under its number, and then its aliases."""
        try:
            here = self._naming.here(there.name)
            plan = _plan(there)
        except (InvalidName, UsageError) as error:
            self._report.waiting.append(Left("experiment", printable(there.name), error.message))
            return
        if here != there.name:
            self._report.renamed[there.name] = here
        self._here.awaited.update((each.name, here) for each in plan if each.gone is None)
        placed: dict[int, Version | None] = {}
        seen: set[tuple[str, str]] = set()
        try:
            for version in plan:
                if not self._version(here, version, seen, placed):
                    break
        except Conflict as error:
            name = f"{here}/{error.detail.get('version', '')}".rstrip("/")
            self._report.conflicts.append(Left("version", name, f"{error.message}; {error.hint}"))
        self._bring_aliases(here, there, placed)

    def targets(self, there: Iterable[TargetThere]) -> None:
        """Bring the deployment targets whose URLs are known, and what is live there."""
        chosen = self._options.targets
        redeploying = Redeploying(
            self._rooms,
            self._report,
            self._here,
            self._source.called,
            self._by,
            self._moved,
            dry_run=self._options.dry_run,
        )
        if chosen:
            redeploying.settle()
        for each in there:
            redeploying.target(each, chosen.get(each.name))

    def _version(
        self,
        here: str,
        there: VersionThere,
        seen: set[tuple[str, str]],
        placed: dict[int, Version | None],
    ) -> bool:
        """Bring one number, and note in `placed` what it is here; return whether to go on.

        In a dry run None stands for a version that would be made. `seen` are the artifacts that
        lower numbers pin.

        Raises:
            Conflict: it is something else here.
        """
        name = f"{here}/{there.number}"
        origin = self._origin(there.name)
        revision, artifact, why = self._bytes_of(there)
        at = (artifact.artifact, artifact.sha256) if artifact else None
        again = at in seen
        if at is not None:
            seen.add(at)
        record = self._versions.record(here, there.number)
        if record is not None:
            self._compare(name, record, there, revision, artifact)
            self._report.count(_kind(record), created=False)
            self._place(there, record, placed)
            return True
        reason = there.gone
        if reason is None and why is not None:
            if not self._options.leave_vacant:
                self._report.waiting.append(
                    Left("version", name, f"{why}; `--leave-vacant` leaves such numbers vacant")
                )
                return False
            reason = f"its bytes could not be had: {why}"
            self._here.awaited.pop(there.name, None)
        if self._options.dry_run:
            if reason is None:
                self._place(there, None, placed)
        elif reason is not None:
            self._placing.vacant(there.number, here, reason, origin, self._request())
        elif revision is not None and artifact is not None:
            made = self._make(here, there, revision, artifact, again=again)
            if made is None:
                return False
            self._place(there, made, placed)
        _log.debug("step: version imported")
        self._report.count("vacant" if reason else "versions", created=True)
        return True

    def _make(
        self,
        here: str,
        there: VersionThere,
        revision: Revision,
        artifact: Artifact,
        *,
        again: bool,
    ) -> Version | None:
        """Make a version; return None if its bytes were let go meanwhile."""
        origin = self._origin(there.name)
        given = Given(
            experiment=here,
            number=there.number,
            by=there.by or self._by,
            at=there.at or origin.imported_at,
            description=there.description,
            origin=origin,
            again=again,
        )

        def keep() -> None:
            collections = self._rooms.runs_at_backend.collections
            collections.keep(revision, artifact.artifact, self._rooms.home.user)

        try:
            return self._placing.version(given, revision, artifact, self._request(), keep)
        except ArtifactCollected as error:
            reason = f"{error.message}; import it again to store them anew"
            self._report.waiting.append(Left("version", f"{here}/{there.number}", reason))
            return None

    def _place(
        self,
        there: VersionThere,
        record: Version | VacantVersion | None,
        placed: dict[int, Version | None],
    ) -> None:
        """Note what a number is here."""
        if isinstance(record, VacantVersion):
            self._here.awaited.pop(there.name, None)
        else:
            placed[there.number] = record
            self._here.versions[there.name] = record

    def _bytes_of(self, there: VersionThere) -> tuple[Revision | None, Artifact | None, str | None]:
        """Return what a version pins, or why it can't be had."""
        if there.gone is not None or there.unreachable is not None:
            return None, None, there.unreachable
        revision = self._revisions.get(there.run or "")
        if revision is None:
            return None, None, self._missing.get(there.run or "", "its run isn't there")
        try:
            artifact = choose_artifact(revision, there.artifact)
        except ModeldropError as error:
            return revision, None, error.message
        if not artifact.files:
            return revision, None, "there is no file of it"
        if there.sha256 not in {None, artifact.sha256} and not self._options.dry_run:
            return revision, None, f"it pins {there.sha256}, and its run has {artifact.sha256}"
        return revision, artifact, None

    def _compare(
        self,
        name: str,
        record: Version | VacantVersion,
        there: VersionThere,
        revision: Revision | None,
        artifact: Artifact | None,
    ) -> None:
        """Return if what a number means here is what it means there.

        Raises:
            Conflict: it is not.
        """
        if there.unknown:
            return
        same = self._origin(there.name).same(record.origin)
        if isinstance(record, VacantVersion):
            if same or there.gone is not None:
                if there.gone is None and artifact is not None:
                    reason = f"it was left vacant at {record.left_at}, and stays so"
                    self._report.left.append(Left("version", name, reason))
                return
        else:
            pinned = (record.run, record.artifact, record.sha256)
            wanted = revision and artifact and (revision.run, artifact.artifact, artifact.sha256)
            if pinned == wanted:
                return
            if (
                there.gone is not None
                and record.origin
                and record.origin.source == self._source.source
            ):
                return  # it was there still when it was imported
            if same:
                if wanted is not None:
                    reason = "it was changed there since it was imported, and stays as it was"
                    self._report.left.append(Left("version", name, reason))
                return
        raise Conflict(
            f"{name} is something else here: {told(record)}; nothing is imported from there on",
            hint="`--name OLD=NEW` imports it under another name",
            detail={"version": there.number},
        )

    def _bring_aliases(
        self, here: str, there: ExperimentThere, placed: Mapping[int, Version | None]
    ) -> None:
        for alias, number in sorted(there.aliases.items()):
            name = f"{here}@{alias}"
            try:
                check_alias(alias)
            except InvalidName as error:
                self._report.left.append(Left("alias", printable(name), error.message))
                continue
            try:
                newest = self._aliases.newest(here, alias)
            except AliasNotFound:
                newest = None
            if newest is not None and (newest.version != number or number not in placed):
                if newest.version != number:
                    on = f"{here}/{newest.version}" if newest.version else "no version"
                    reason = f"it is on {on} here, and stays there; there it is on {number}"
                    self._report.left.append(Left("alias", name, reason))
                self._report.count("aliases", created=False)
            elif number not in placed:
                self._report.waiting.append(Left("alias", name, f"{here}/{number} isn't here"))
            elif (version := placed[number]) is None or self._options.dry_run:
                self._report.count("aliases", created=newest is None)
            else:
                self._place_alias(here, alias, version, 0 if newest is None else number)

    def _place_alias(self, here: str, alias: str, version: Version, expect: int) -> None:
        """Have an alias on a version, if it is where it is expected; on that version it may be.

        Then an import may have died that had put it there, and what that left is settled.
        """
        rooms = self._rooms
        promotion = Promotion(
            rooms.home, rooms.backend, rooms.journal, self._versions, self._aliases
        )
        reason = f"imported from {self._source.called}"
        try:
            rooms.retirements_at_backend.refuse(version, "")
            promotion.place(
                here, alias, version, self._request(), by=self._by, reason=reason, expect=expect
            )
        except (Conflict, UsageError) as error:
            # Somebody was quicker, a target bears the name, or the version is retired.
            self._report.left.append(Left("alias", f"{here}@{alias}", error.message))
        else:
            self._report.count("aliases", created=not expect)

    def _experiment_of(self, there: RunThere) -> str | None:
        if there.experiment is None:
            return None
        try:
            return self._naming.here(there.experiment)
        except InvalidName:
            return None

    def _origin(self, name: str) -> Origin:
        return Origin(
            source=self._source.source,
            location=printable(self._source.location),
            name=printable(name),
            imported_by=self._by,
            imported_at=now(),
        )

    def _request(self) -> Request:
        return Request(str(uuid.uuid4()), self._rooms.home.user)


def _plan(there: ExperimentThere) -> list[VersionThere]:
    """Return every number of an experiment from 1 on, those that nothing bears there as well.

    Raises:
        UsageError: there are more of those than anybody gave.
    """
    known = {each.number: each for each in there.versions}
    last = max(known, default=0)
    if last - len(known) > MOST_VACANT:
        message = f"its numbers go up to {last}, and {len(known)} of them mean something"
        raise UsageError(message)

    def absent(number: int) -> VersionThere:
        name = f"{there.name}/{number}"
        if there.complete:
            return VersionThere(number, name, gone="it has no meaning there")
        why = "it isn't in there: `modeldrop export --history` takes lower numbers along"
        return VersionThere(number, name, unreachable=why, unknown=True)

    return [known.get(number) or absent(number) for number in range(1, last + 1)]


def _kind(record: Version | VacantVersion) -> str:
    return "vacant" if isinstance(record, VacantVersion) else "versions"
