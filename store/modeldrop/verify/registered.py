"""What is said of an experiment: its versions, their retirements and signatures, its aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modeldrop.aliases import Aliases
from modeldrop.choosing import choose_artifact
from modeldrop.collection import State
from modeldrop.errors import CounterDamaged, IntegrityError, ModeldropError, NotFound
from modeldrop.records import AliasMove, Retirement, Revision, VacantVersion, Version
from modeldrop.retirements import Retirements
from modeldrop.rooms import Rooms
from modeldrop.signatures import Signatures
from modeldrop.verify.report import Report
from modeldrop.versions import Versions


def whole_versions(
    report: Report, versions: Versions, experiment: str, last: int
) -> Iterator[Version | VacantVersion]:
    """Yield the versions of an experiment that are whole, up to the last one, in their order."""
    for number in range(1, last + 1):
        try:
            found = versions.record(experiment, number) or versions.version(experiment, number)
        except (IntegrityError, NotFound) as error:
            report.add("version", f"{experiment}/{number}", error.message)
        else:
            yield found


def check_version(
    report: Report,
    version: Version | VacantVersion,
    known: dict[tuple[str, int], Revision],
) -> None:
    """Check that what a version pins is what its run has; `known` are all revisions."""
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


def check_registration(
    report: Report, versions: Versions, version: Version | VacantVersion
) -> None:
    """Check that a version is what its registration asked for."""
    if isinstance(version, VacantVersion):
        return  # nothing registered it
    try:
        versions.registrations.check(version)
    except IntegrityError as error:
        report.add("version", f"{version.experiment}/{version.version}", error.message)


def check_counter(report: Report, versions: Versions, experiment: str) -> None:
    """Check that no more versions were seen here than there are."""
    try:
        seen = versions.counter(experiment)
    except (CounterDamaged, OSError) as error:
        report.add("home", experiment, str(error))
        return
    last = max(versions.numbers(experiment), default=0)
    if seen is not None and seen > last:
        what = f"the counter says {seen}, and the backend has {last} versions"
        report.add("version", experiment, what)


def whole_retirements(
    report: Report, retirements: Retirements, experiment: str
) -> list[Retirement]:
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


def check_departure(
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


def check_signatures(
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


def whole_moves(report: Report, aliases: Aliases, experiment: str) -> dict[str, AliasMove]:
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
