"""Runs and versions at the backend, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from modeldrop.errors import IntegrityError
from modeldrop.records import AliasMove, Artifact, FileFormat, Revision, Version
from modeldrop.repository import Repository
from modeldrop_cli.objects.stored import (
    ArtifactObject,
    ArtifactSummaryObject,
    FormatObject,
    MetadataObject,
    OriginObject,
    RevisionObject,
    VersionObject,
)
from modeldrop_cli.objects.using import AliasMoveObject


def total(revision: Revision) -> int:
    """Return the size of all that a revision holds."""
    return sum(each.size for each in revision.artifacts)


def revision_object(revision: Revision) -> RevisionObject:
    """Return a revision with all its files."""
    return {
        "run": revision.run,
        "revision": revision.revision,
        "experiment": revision.experiment,
        "size": total(revision),
        "artifacts": [_artifact(each) for each in revision.artifacts],
        "refused": [{"path": each.path, "reason": each.reason} for each in revision.refused],
        "formats": [format_object(each) for each in revision.formats],
        "host": revision.host,
        "committed_by": revision.committed_by,
        "committed_at": revision.committed_at,
        # Plain JSON, as above: tests hold it against the type.
        "metadata": cast("MetadataObject", revision.metadata.in_full()),
        "origin": cast("OriginObject | None", revision.origin and revision.origin.as_json()),
    }


def tell_damaged(damaged: Sequence[IntegrityError]) -> None:
    """Raise what couldn't be read, if anything, after the rest was shown.

    Raises:
        IntegrityError: a record is damaged.
    """
    if len(damaged) == 1:
        raise damaged[0]
    if damaged:
        raise IntegrityError(
            f"{len(damaged)} records can't be read, such as: {damaged[0].message}",
            hint="`modeldrop verify` names everything that is damaged",
        )


def version_object(
    repository: Repository, version: Version, damaged: list[IntegrityError]
) -> VersionObject:
    """Return a version with its files, as the library describes it.

    An alias that can't be read is put into `damaged`, and left out.
    """
    # The library gives plain JSON; tests hold it against the type.
    return cast("VersionObject", repository.describe(version, damaged.append))


def move_object(move: AliasMove) -> AliasMoveObject:
    """Return a move of an alias by its own record."""
    return {
        "experiment": move.experiment,
        "alias": move.alias,
        "move": move.move,
        "version": move.version,
        "sha256": move.sha256,
        "before": move.before,
        "reason": move.reason,
        "host": move.host,
        "moved_by": move.moved_by,
        "moved_at": move.moved_at,
    }


def format_object(found: FileFormat) -> FormatObject:
    """Return what a file is."""
    return {
        "path": found.path,
        "kind": found.kind,
        "runs_code": found.runs_code,
        "summary": dict(found.summary),
        "warnings": list(found.warnings),
    }


def _summary(artifact: Artifact) -> ArtifactSummaryObject:
    return {
        "artifact": artifact.artifact,
        "type": artifact.type,
        "sha256": artifact.sha256,
        "size": artifact.size,
    }


def _artifact(artifact: Artifact) -> ArtifactObject:
    return {
        **_summary(artifact),
        "files": [
            {"path": each.path, "sha256": each.sha256, "size": each.size} for each in artifact.files
        ],
    }
