"""A copy of an artifact, with its progress, as `pull` and `path` make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from modeldrop.records import Artifact
from modeldrop.references import Resolved
from modeldrop.repository import Progress, Repository
from modeldrop_cli.objects.stored import CopyObject
from modeldrop_cli.output import Output


def tell_copy(
    repository: Repository,
    reference: str,
    make: Callable[[Resolved, Artifact, Progress], Path],
    output: Output,
    signatures: Sequence[Path] = (),
) -> None:
    """Make a copy of what is named, and print its path.

    `make` gets what was found, so that what is copied is what is told, even if a newer version
    comes meanwhile. `signatures` are the files that it wrote beside the copy.
    """
    found, artifact = repository.artifact(reference)
    exact = found.name if found.version else f"{found.name}/{artifact.artifact}"
    with output.progress(exact, artifact.size) as moved:
        path = make(found, artifact, moved)
    if output.json:
        told: CopyObject = {
            "reference": exact,
            "path": str(path.absolute()),
            "signatures": [str(each.absolute()) for each in signatures],
        }
        output.document(told)
    else:
        output.path(path)
