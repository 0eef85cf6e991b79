"""`modeldrop show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop.structs import replace
from modeldrop_cli.command import (
    Command,
    complete_references,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.kinds import tell_formats
from modeldrop_cli.output import size, when
from modeldrop_cli.saying import metadata_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeldrop.errors import IntegrityError
    from modeldrop.records import Artifact, Collection, Origin, Retirement, Revision
    from modeldrop.references import Resolved
    from modeldrop_cli.output import Output


@click.command(
    "show",
    cls=Command,
    examples=(
        ("modeldrop show churn", "the newest version of churn, with its files and digests"),
        ("modeldrop show churn@champion", "the version that this alias is on"),
        ("modeldrop show churn@production", "the version that is live at this target"),
        ("modeldrop show run:@last", "the run that was stored last"),
        ("modeldrop show churn/3 --json | jq -r .sha256", "the digest of version 3"),
    ),
    exits=exits(10, 20, 30, e20="bytes are not what they were, or an alias can't be read"),
)
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@output_options
def command(reference: str, output: Output) -> None:
    """Show a version or a run.

    Of run:GUID/ARTIFACT only that artifact is shown. With -q the full reference is printed:
    churn/3, run:GUID~1, or run:GUID~1/ARTIFACT.
    """
    from modeldrop.departures import departure  # noqa: PLC0415 - not for `--help`
    from modeldrop.listing import aliases_on  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.stored import (  # noqa: PLC0415 - not for `--help`
        revision_object,
        tell_damaged,
        version_object,
    )

    with open_repository() as repository:
        found = repository.resolve(reference)
        damaged: list[IntegrityError] = []
        if output.quiet:
            output.id(found.exact)
        elif found.version is None:
            shown = _part(found)
            if output.json:
                output.document(revision_object(shown))
            else:
                _tell_run(shown, output)
        elif output.json:
            output.document(version_object(repository, found.version, damaged))
        else:
            aliases = repository.aliases(found.version.experiment, damaged.append)
            on = aliases_on(found.version, aliases)
            gone = _departure(*departure(repository, found.version, found.revision))
            said = repository.runs_at_backend.metadata_of(found.version, found.revision)
            live = repository.deployments(found.version.experiment, damaged=damaged.append)
            targets = [each.target for each in live if each.version == found.version.version]
            _tell_version(found, on, targets, {**gone, **metadata_fields(said)}, output)
            if found.artifact is not None:
                tell_formats(found.revision.formats_of(found.artifact), output)
    tell_damaged(damaged)


def _part(found: Resolved) -> Revision:
    """Return a run's revision with nothing but the artifact that was named, if one was."""
    from modeldrop.names import WHOLE_RUN  # noqa: PLC0415 - not for `--help`

    artifact = found.artifact
    if not found.named or artifact is None or artifact.artifact == WHOLE_RUN:
        return found.revision
    folder = f"{artifact.artifact}/"
    formats = tuple(
        each
        for each in found.revision.formats
        if each.path == artifact.artifact or each.path.startswith(folder)
    )
    return replace(found.revision, artifacts=(artifact,), refused=(), formats=formats)


def _tell_version(
    found: Resolved,
    aliases: list[str],
    targets: list[str],
    more: dict[str, str],
    output: Output,
) -> None:
    version, artifact = found.version, found.artifact
    assert version is not None  # noqa: S101 - asked by whoever calls
    output.fields(
        {
            "version": f"{version.experiment}/{version.version}",
            "aliases": ", ".join(aliases),
            "live at": ", ".join(targets),
            "run": f"run:{version.run}~{version.revision}",
            "artifact": version.artifact,
            "size": size(version.size),
            "sha256": version.sha256,
            "registered": (
                f"{when(version.registered_at)} by {version.registered_by}@{version.host}"
            ),
            "imported": _imported(version.origin),
            "description": version.description,
            **more,
        }
    )
    _tell_files([artifact] if artifact else [], output)


def _departure(retirement: Retirement | None, collection: Collection | None) -> dict[str, str]:
    """Return what is said of a version that was retired."""
    if retirement is None:
        return {}
    why = f": {retirement.reason}" if retirement.reason else ""
    by = f"by {retirement.retired_by}@{retirement.host}{why}"
    said = {"retired": f"{when(retirement.retired_at)} {by}"}
    if collection is not None:
        said["collected"] = f"{when(collection.recorded_at)}: its bytes are gone"
    return said


def _tell_run(revision: Revision, output: Output) -> None:
    from modeldrop_cli.stored import total  # noqa: PLC0415 - not for `--help`

    output.fields(
        {
            "run": revision.run,
            "revision": str(revision.revision),
            "experiment": revision.experiment or "",
            "artifacts": ", ".join(each.artifact for each in revision.artifacts),
            "size": size(total(revision)),
            "stored": f"{when(revision.committed_at)} by {revision.committed_by}@{revision.host}",
            **metadata_fields(revision.metadata),
            "imported": _imported(revision.origin),
        }
    )
    _tell_files(revision.artifacts, output)
    tell_formats(revision.formats, output)
    if revision.refused:
        output.blank()
        output.table(
            ("not stored", "reason"), [(each.path, each.reason) for each in revision.refused]
        )


def _imported(origin: Origin | None) -> str:
    if origin is None:
        return ""
    at = when(origin.imported_at)
    return f"{at} by {origin.imported_by} from {origin.source}: {origin.name} in {origin.location}"


def _tell_files(artifacts: Iterable[Artifact], output: Output) -> None:
    output.blank()
    output.table(
        ("file", "size", "sha256"),
        [
            (
                each.path if artifact.type == "file" else f"{artifact.artifact}/{each.path}",
                size(each.size),
                each.sha256,
            )
            for artifact in artifacts
            for each in artifact.files
        ],
        right="size",
    )
