"""Checking what the store promises: the journal, the records, the bytes; and naming what is off.

Nothing is changed. A finding is damage: something is not what was acknowledged. What a crash
leaves behind, bytes that no manifest names or an open intent, is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modeldrop import layout
from modeldrop.accounts import Accounts, Following
from modeldrop.backend.base import Backend
from modeldrop.collection import State, state_of
from modeldrop.deployment_records import Target
from modeldrop.errors import IntegrityError, NotFound
from modeldrop.home import Home
from modeldrop.records import (
    AliasMove,
    Artifact,
    RepositoryRecord,
    Revision,
    VacantVersion,
    Version,
)
from modeldrop.rooms import Rooms
from modeldrop.runs import Runs
from modeldrop.transfer import Transfer
from modeldrop.verify import registered, stored
from modeldrop.verify.deployed import Inspection
from modeldrop.verify.evidence import Evidence
from modeldrop.verify.report import Finding, Progress, Report

__all__ = ["Finding", "Report", "verify_artifact", "verify_store"]


def verify_artifact(
    name: str, artifact: Artifact, transfer: Transfer, *, moved: Progress
) -> Report:
    """Read every byte of one artifact, and return what differs."""
    report = Report(deep=True)
    stored.check_files(report, name, artifact, transfer, moved=moved)
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
        records = stored.whole_collections(report, runs, guid)
        others.update((each.reference, each) for each in records)
        states[guid] = state_of(records)
        for revision in stored.whole_revisions(report, runs, guid):
            known[guid, revision.revision] = revision
            stored.check_revision(report, rooms, revision, states[guid], deep=deep, moved=moved)
    pinned: dict[tuple[str, int], Version | VacantVersion] = {}
    inspection = Inspection(rooms, deep, report.add, report.count, moved)
    others.update(inspection.targets())
    for experiment, last in sorted(lasts.items()):
        retirements = registered.whole_retirements(report, rooms.retirements_at_backend, experiment)
        others.update((each.reference, each) for each in retirements)
        retired = {each.version: each for each in retirements}
        for version in registered.whole_versions(report, versions, experiment, last):
            pinned[experiment, version.version] = version
            registered.check_version(report, version, known)
            if isinstance(version, Version):
                registered.check_departure(
                    report, version, known, states, retired.get(version.version)
                )
            if deep:
                registered.check_registration(report, versions, version)
        registered.check_counter(report, versions, experiment)
        registered.check_signatures(report, rooms, experiment, last, pinned, known, signers)
        others.update(registered.whole_moves(report, rooms.aliases_at_backend, experiment))
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


def _check_home(report: Report, home: Home, runs: Runs) -> None:
    try:
        home.probe()
    except IntegrityError as error:
        report.add("home", str(home.paths.probe), error.message)
    try:
        runs.open_intents()
    except IntegrityError as error:
        report.add("home", str(home.paths.intents), error.message)
