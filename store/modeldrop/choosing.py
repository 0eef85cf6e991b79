"""Which artifact of a revision is meant."""

from __future__ import annotations

from modeldrop.errors import AmbiguousArtifact, ArtifactNotFound
from modeldrop.names import RUN_FILES, WHOLE_RUN, printable
from modeldrop.records import Artifact, Revision


def choose_artifact(revision: Revision, name: str | None) -> Artifact:
    """Return the artifact of a revision by its name, or its only one.

    Raises:
        ArtifactNotFound: there is none of that name, or it was refused.
        AmbiguousArtifact: none was named, and there are several.
    """
    names = [each.artifact for each in revision.artifacts]
    listed = ", ".join(printable(each) for each in names)
    run = f"run {revision.run}"
    if name == WHOLE_RUN:
        _refuse_incomplete(revision, WHOLE_RUN)
        return revision.whole()
    if name is None:
        if len(names) == 1:
            return choose_artifact(revision, names[0])
        if not names:
            message = f"{run} has no artifact: it was imported without any"
            raise ArtifactNotFound(message, hint="`modeldrop show` shows what it has")
        message = f"{run} has several artifacts: {listed}"
        raise AmbiguousArtifact(
            message,
            hint=f"name one with `--artifact NAME`, or `--artifact {WHOLE_RUN}` for the whole run",
            detail={"run": revision.run, "artifacts": list(names)},
        )
    _refuse_incomplete(revision, name)
    for each in revision.artifacts:
        if each.artifact == name:
            return each
    message = f"{run} has no artifact {printable(name)!r}; it has {listed}"
    raise ArtifactNotFound(
        message,
        hint="name one of these with `--artifact`",
        detail={"run": revision.run, "artifacts": list(names)},
    )


def _refuse_incomplete(revision: Revision, name: str) -> None:
    """Raise if a part of this artifact was refused, so that it isn't stored whole.

    Raises:
        ArtifactNotFound: it isn't whole; the message names what was refused, and why.
    """
    parts = [
        each
        for each in revision.refused
        if each.path == name
        or each.path.startswith(f"{name}/")
        # What declares something of the run is no part of it, be it refused or not.
        or (name == WHOLE_RUN and each.path not in RUN_FILES)
    ]
    if parts:
        listed = "; ".join(f"{printable(each.path)} ({each.reason})" for each in parts)
        message = f"{printable(name)!r} of run {revision.run} is not stored whole: {listed}"
        raise ArtifactNotFound(
            message,
            hint="replace it by regular files in staging; the service stores a new revision",
            detail={"run": revision.run, "refused": [each.as_json() for each in parts]},
        )
