"""What is stored of a run: its revisions with their files, and what was let go of them."""

from __future__ import annotations

from collections.abc import Iterator

from modeldrop.collection import State
from modeldrop.errors import IntegrityError, InvalidName, NotFound
from modeldrop.records import COLLECTED, MARKED, Artifact, Collection, Revision
from modeldrop.rooms import Rooms
from modeldrop.runs import Runs
from modeldrop.transfer import Transfer
from modeldrop.verify.report import Progress, Report


def whole_collections(report: Report, runs: Runs, guid: str) -> list[Collection]:
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


def whole_revisions(report: Report, runs: Runs, guid: str) -> Iterator[Revision]:
    """Yield the revisions of a run that are whole, in their order."""
    # Listed, not galloped for: what stands above a gap is looked at, and the gap is named.
    for number in range(1, max(runs.numbers(guid), default=0) + 1):
        try:
            yield runs.revision(guid, number)
            report.count("revisions")
        except (IntegrityError, NotFound) as error:
            report.add("revision", f"run:{guid}~{number}", error.message)


def check_revision(
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
        check_files(part, name, artifact, rooms.transfer, deep=deep, moved=moved)
        if part.findings:
            # It may have been let go since that was read.
            now = rooms.runs_at_backend.collections.state(run, state.last)
            if now.of(revision.revision, artifact.artifact) == COLLECTED:
                report.count("collected")
                continue
        report.count("files", len(artifact.files))
        report.findings += part.findings


def check_files(
    report: Report,
    name: str,
    artifact: Artifact,
    transfer: Transfer,
    *,
    deep: bool = True,
    moved: Progress,
) -> None:
    """Check the files of an artifact: every byte, or, if not `deep`, that they have their size."""
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
