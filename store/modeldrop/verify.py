"""Checking what the store promises: the journal, the records, the bytes; and naming what is off.

Nothing is changed. A finding is damage: something is not what was acknowledged. What a crash
leaves behind, bytes that no manifest names or an open intent, is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from modeldrop import layout
from modeldrop.accounts import Accounts, Following
from modeldrop.aliases import Aliases
from modeldrop.backend.base import Backend
from modeldrop.choosing import choose_artifact
from modeldrop.collection import State, state_of
from modeldrop.deployment_records import Target
from modeldrop.errors import (
    CounterDamaged,
    IntegrityError,
    InvalidName,
    ModeldropError,
    NotFound,
)
from modeldrop.evidence import Evidence, SignedJournal
from modeldrop.form import Json
from modeldrop.home import Home
from modeldrop.inspection import Inspection
from modeldrop.names import printable
from modeldrop.records import (
    COLLECTED,
    MARKED,
    AliasMove,
    Artifact,
    Collection,
    RepositoryRecord,
    Retirement,
    Revision,
    VacantVersion,
    Version,
)
from modeldrop.retirements import Retirements
from modeldrop.rooms import Rooms
from modeldrop.runs import Runs
from modeldrop.signatures import Judged, Signatures
from modeldrop.structs import Frozen, Struct, field
from modeldrop.transfer import Transfer
from modeldrop.versions import Versions

Progress = Callable[[int], None]


class Finding(Frozen):
    """One thing that is not what was acknowledged."""

    kind: str
    """`journal`, `home`, `repository`, `revision`, `version`, `alias`, `deployment`, `target`,
    `retirement`, `collection`, `signature` or `file`."""
    where: str
    what: str

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"kind": self.kind, "where": self.where, "what": self.what}


class Report(Struct):
    """What was checked and what was found."""

    deep: bool
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    journals: list[SignedJournal] = field(default_factory=list)
    """Whether each home's journal is signed; empty where one artifact alone was checked."""
    signatures: list[Judged] = field(default_factory=list)
    """What the signatures of the artifact are worth, where that was asked."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def judge(self, name: str, signatures: list[Judged]) -> None:
        """Note what the signatures of a version are worth: one of a known signer is needed."""
        self.signatures = signatures
        self.count("signatures", len(signatures))
        for each in signatures:
            if each.trouble:
                self.add("signature", name, f"{each.digest}: {each.trouble}")
        if not any(each.signer for each in signatures):
            self.add("signature", name, "none of its signatures is by a key that is trusted here")

    def count(self, what: str, number: int = 1) -> None:
        """Note that so many more were checked."""
        self.checked[what] = self.checked.get(what, 0) + number

    def count_if_any(self, what: str, number: int) -> None:
        """Note that so many were checked, and nothing where there are none."""
        if number:
            self.count(what, number)

    def add(self, kind: str, where: str, what: str) -> None:
        """Note what is off."""
        self.findings.append(Finding(kind, printable(where), printable(what)))

    def as_json(self) -> dict[str, Json]:
        """Return the report as JSON."""
        return {
            "ok": self.ok,
            "deep": self.deep,
            "checked": {**self.checked},
            "findings": [each.as_json() for each in self.findings],
            "journals": [each.as_json() for each in self.journals],
            "signatures": [each.as_json() for each in self.signatures],
        }


def verify_artifact(
    name: str, artifact: Artifact, transfer: Transfer, *, moved: Progress
) -> Report:
    """Read every byte of one artifact, and return what differs."""
    report = Report(deep=True)
    _check_files(report, name, artifact, transfer, moved=moved)
    report.count("files", len(artifact.files))
    return report


def verify_store(
    rooms: Rooms, *, deep: bool, moved: Progress, signers: Mapping[str, str]
) -> Report:
    """Check the whole store, and return what differs; `deep` reads every byte.

    `signers` are those whom this home trusts, by their public keys for models.

    Raises:
        BackendError: the backend failed, so nothing is known of what it holds.
    """
    report = Report(deep=deep)
    home, runs, versions = rooms.home, rooms.runs_at_backend, rooms.versions_at_backend
    accounts = Accounts(home, rooms.journal, rooms.backend)
    _check_repository(report, home, rooms.backend)
    # Before the runs: what a version pins was there before it, so a run that isn't among those
    # that are read next is missing, and not merely newer. What comes later, the journals tell.
    lasts = {each: max(versions.numbers(each), default=0) for each in versions.experiments()}
    known: dict[tuple[str, int], Revision] = {}
    others: dict[str, Following] = {}
    states: dict[str, State] = {}
    for guid in sorted(runs.guids()):
        records = _collections(report, runs, guid)
        others.update((each.reference, each) for each in records)
        states[guid] = state_of(records)
        for revision in _revisions(report, runs, guid):
            known[guid, revision.revision] = revision
            _check_revision(report, rooms, revision, states[guid], deep=deep, moved=moved)
    pinned: dict[tuple[str, int], Version | VacantVersion] = {}
    inspection = Inspection(rooms, deep, report.add, report.count, moved)
    others.update(inspection.targets())
    for experiment, last in sorted(lasts.items()):
        retirements = _retirements(report, rooms.retirements_at_backend, experiment)
        others.update((each.reference, each) for each in retirements)
        retired = {each.version: each for each in retirements}
        for version in _versions(report, versions, experiment, last):
            pinned[experiment, version.version] = version
            _check_version(report, version, known)
            if isinstance(version, Version):
                _check_departure(report, version, known, states, retired.get(version.version))
            if deep:
                _check_registration(report, versions, version)
        _check_counter(report, versions, experiment)
        _check_signatures(report, rooms, experiment, last, pinned, known, signers)
        others.update(_moves(report, rooms.aliases_at_backend, experiment))
        others.update(inspection.deployments(experiment))
    _check_names(report, rooms, others.values())
    # Read after the records, and the journals after what is signed of them: what is told by then
    # was there before.
    evidence = Evidence(rooms.sync.sealing, home.id, report.add)
    accounts.read(report.add, evidence.wanted)
    report.count("entries", sum(each.count for each in accounts.all.values()))
    # What is damaged is no news, and isn't missing.
    named = {each.where for each in report.findings}

    def found(kind: str, where: str, what: str) -> None:
        if where not in named:
            report.add(kind, where, what)

    report.count_if_any("not shared yet", accounts.compare(known, pinned, others, found))
    report.journals = evidence.judge(accounts.all)
    report.count_if_any("checkpoints", evidence.count)
    _check_home(report, home, runs)
    return report


def _check_repository(report: Report, home: Home, backend: Backend) -> None:
    where = f"{backend.url}/{layout.FORMAT_KEY}"
    data = backend.read(layout.FORMAT_KEY)
    if data is None:
        report.add("repository", where, "it is missing")
        return
    try:
        found = RepositoryRecord.from_bytes(data, where)
    except IntegrityError as error:
        report.add("repository", where, error.message)
        return
    if found.repository != home.repository:
        what = f"it is of the repository {found.repository}, and the home's is {home.repository}"
        report.add("repository", where, what)


def _revisions(report: Report, runs: Runs, guid: str) -> Iterator[Revision]:
    # Listed, not galloped for: what stands above a gap is looked at, and the gap is named.
    for number in range(1, max(runs.numbers(guid), default=0) + 1):
        try:
            yield runs.revision(guid, number)
            report.count("revisions")
        except (IntegrityError, NotFound) as error:
            report.add("revision", f"run:{guid}~{number}", error.message)


def _collections(report: Report, runs: Runs, guid: str) -> list[Collection]:
    """Check what is said of a run's parts, and return what is whole, in its order."""
    found: list[Collection] = []
    state: dict[tuple[int, str], str] = {}
    numbers = runs.collections.numbers(guid)
    for number in range(1, max(numbers, default=0) + 1):
        try:
            record = runs.collections.record(guid, number)
        except IntegrityError as error:
            report.add("collection", f"run:{guid}#{number}", error.message)
            continue
        report.count("collections")
        found.append(record)
        for each in record.parts:
            before = state.get((each.revision, each.artifact), "")
            if before == COLLECTED or (record.state == COLLECTED and before != MARKED):
                what = f"revision {each.revision}'s {each.artifact} was {before or 'not marked'}"
                report.add("collection", record.reference, f"{what} before")
            state[each.revision, each.artifact] = record.state
    return found


def _retirements(report: Report, retirements: Retirements, experiment: str) -> list[Retirement]:
    """Check the retirements of an experiment's versions, and return those that are whole."""
    found: list[Retirement] = []
    for version in retirements.versions_of(experiment):
        last = max(retirements.numbers(experiment, version), default=0)
        for number in range(1, last + 1):
            try:
                found.append(retirements.record(experiment, version, number))
                report.count("retirements")
            except IntegrityError as error:
                report.add("retirement", f"{experiment}/{version}~{number}", error.message)
    return found


def _check_revision(
    report: Report,
    rooms: Rooms,
    revision: Revision,
    state: State,
    *,
    deep: bool,
    moved: Progress,
) -> None:
    """Check the files of a revision, but for what was let go of it."""
    run, name = revision.run, f"run:{revision.run}~{revision.revision}"
    for artifact in revision.artifacts:
        if state.of(revision.revision, artifact.artifact) == COLLECTED:
            report.count("collected")
            continue
        part = Report(deep=deep)
        _check_files(part, name, artifact, rooms.transfer, deep=deep, moved=moved)
        if part.findings:
            # It may have been let go since that was read.
            now = rooms.runs_at_backend.collections.state(run, state.last)
            if now.of(revision.revision, artifact.artifact) == COLLECTED:
                report.count("collected")
                continue
        report.count("files", len(artifact.files))
        report.findings += part.findings


def _check_departure(
    report: Report,
    version: Version,
    known: dict[tuple[str, int], Revision],
    states: dict[str, State],
    retirement: Retirement | None,
) -> None:
    """Check that what retires a version names it, and that nothing else was let go."""
    name = f"{version.experiment}/{version.version}"
    if retirement is not None and retirement.sha256 != version.sha256:
        report.add("retirement", retirement.reference, f"{name} has another digest")
    revision = known.get((version.run, version.revision))
    if revision is None or (retirement is not None and retirement.retired):
        return
    record = states[version.run].record(revision, version.artifact)
    if record is not None:
        what = f"its bytes were collected by {record.reference}, and it isn't retired"
        report.add("version", name, what)


def _versions(
    report: Report, versions: Versions, experiment: str, last: int
) -> Iterator[Version | VacantVersion]:
    for number in range(1, last + 1):
        try:
            found = versions.record(experiment, number) or versions.version(experiment, number)
        except (IntegrityError, NotFound) as error:
            report.add("version", f"{experiment}/{number}", error.message)
        else:
            yield found


def _moves(report: Report, aliases: Aliases, experiment: str) -> dict[str, AliasMove]:
    """Check the moves of an experiment's aliases, and return those that are whole, by name."""
    found: dict[str, AliasMove] = {}
    for alias in aliases.names(experiment):
        last = max(aliases.numbers(experiment, alias), default=0)
        for number in range(1, last + 1):
            try:
                move = aliases.move(experiment, alias, number)
            except (IntegrityError, NotFound) as error:
                report.add("alias", f"{experiment}@{alias}~{number}", error.message)
                continue
            report.count("alias moves")
            found[move.reference] = move
            _check_move(report, aliases, move, found.get(f"{move.name}~{number - 1}"))
        _check_move_counter(report, aliases, experiment, alias, last)
    return found


def _check_names(report: Report, rooms: Rooms, records: Iterable[Following]) -> None:
    """Check that no alias that is on a version bears the name of a target.

    Each is looked at before the other one is made, and neither is a lock.
    """
    records = list(records)
    targets = {each.target for each in records if isinstance(each, Target)}
    names = {
        (each.experiment, each.alias)
        for each in records
        if isinstance(each, AliasMove) and each.alias in targets
    }
    for experiment, alias in sorted(names):
        try:
            target = rooms.targets_at_backend.newest(alias)
            move = rooms.aliases_at_backend.newest(experiment, alias)
        except (IntegrityError, NotFound):
            continue  # it is told already
        if target is not None and target.url is not None and move.version is not None:
            what = "there is a target of that name as well; remove the alias, or the target"
            report.add("alias", move.name, what)


def _check_move(report: Report, aliases: Aliases, move: AliasMove, below: AliasMove | None) -> None:
    """Check that what a move pins is there, and that it follows the one below, if that is whole."""
    if move.version is not None:
        try:
            aliases.version(move)
        except (IntegrityError, NotFound) as error:
            report.add("alias", move.reference, error.message)
    if (below or move.move == 1) and move.before != (below.version if below else None):
        report.add("alias", move.reference, f"{move.name} was on another version before")


def _check_move_counter(
    report: Report, aliases: Aliases, experiment: str, alias: str, last: int
) -> None:
    name = f"{experiment}@{alias}"
    try:
        seen = aliases.counter(experiment, alias)
    except (CounterDamaged, OSError) as error:
        report.add("home", name, str(error))
        return
    if seen is not None and seen > last:
        # It may have been moved meanwhile: then a later listing has that, too.
        last = max(aliases.numbers(experiment, alias), default=0)
    if seen is not None and seen > last:
        report.add("alias", name, f"the counter says {seen}, and the backend has {last} moves")


def _check_files(
    report: Report,
    name: str,
    artifact: Artifact,
    transfer: Transfer,
    *,
    deep: bool = True,
    moved: Progress,
) -> None:
    try:
        bad = transfer.damaged(artifact, moved) if deep else transfer.missing(artifact)
    except InvalidName as error:
        # A key of the manifest's that leads out of the backend.
        report.add("file", f"{name}/{artifact.artifact}", error.message)
        return
    keys = {file.path: file.key for file in artifact.files}
    for path in bad:
        shown = artifact.artifact if artifact.type == "file" else f"{artifact.artifact}/{path}"
        what = (
            "its stored bytes are not what was recorded"
            if deep
            else "it is missing or of another size"
        )
        report.add("file", f"{name}/{shown}", f"{what}: {keys[path]}")


def _check_version(
    report: Report,
    version: Version | VacantVersion,
    known: dict[tuple[str, int], Revision],
) -> None:
    if isinstance(version, VacantVersion):
        report.count("vacant versions")
        return
    report.count("versions")
    name = f"{version.experiment}/{version.version}"
    revision = known.get((version.run, version.revision))
    if revision is None:
        report.add("version", name, f"run:{version.run}~{version.revision} is not there")
        return
    try:
        artifact = choose_artifact(revision, version.artifact)
    except ModeldropError as error:
        report.add("version", name, error.message)
        return
    if (artifact.sha256, artifact.size) != (version.sha256, version.size):
        report.add("version", name, "its run's manifest names other bytes than it pins")


def _check_signatures(
    report: Report,
    rooms: Rooms,
    experiment: str,
    last: int,
    pinned: dict[tuple[str, int], Version | VacantVersion],
    known: dict[tuple[str, int], Revision],
    signers: Mapping[str, str],
) -> None:
    """Check that signatures are of the versions that they stand beside; unknown signers may be."""
    signatures = Signatures(rooms.home, rooms.backend)
    for number in signatures.versions_of(experiment):
        name, version = f"{experiment}/{number}", pinned.get((experiment, number))
        if number > last and number in rooms.versions_at_backend.numbers(experiment):
            continue  # it was registered and signed meanwhile
        if not isinstance(version, Version):
            report.add("signature", name, "it has signatures, and is no version")
            continue
        revision = known.get((version.run, version.revision))
        if revision is None:
            continue  # it is told already
        try:
            artifact = choose_artifact(revision, version.artifact)
        except ModeldropError:
            continue  # so is that
        for each in signatures.judged(version, artifact, signers):
            report.count("signatures")
            if each.trouble:
                report.add("signature", name, f"{each.digest}: {each.trouble}")


def _check_registration(
    report: Report, versions: Versions, version: Version | VacantVersion
) -> None:
    if isinstance(version, VacantVersion):
        return  # nothing registered it
    try:
        versions.registrations.check(version)
    except IntegrityError as error:
        report.add("version", f"{version.experiment}/{version.version}", error.message)


def _check_counter(report: Report, versions: Versions, experiment: str) -> None:
    try:
        seen = versions.counter(experiment)
    except (CounterDamaged, OSError) as error:
        report.add("home", experiment, str(error))
        return
    last = max(versions.numbers(experiment), default=0)
    if seen is not None and seen > last:
        what = f"the counter says {seen}, and the backend has {last} versions"
        report.add("version", experiment, what)


def _check_home(report: Report, home: Home, runs: Runs) -> None:
    try:
        home.probe()
    except IntegrityError as error:
        report.add("home", str(home.paths.probe), error.message)
    try:
        runs.open_intents()
    except IntegrityError as error:
        report.add("home", str(home.paths.intents), error.message)
