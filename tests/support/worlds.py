"""Stores that hold much: runs with metadata and versions of them, as their records alone.

Their bytes are nowhere, since nobody asks for them who lists, searches or compares.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from pathlib import Path

from modeldrop import Repository, layout
from modeldrop.metadata import Metadata
from modeldrop.records import Artifact, Revision, StoredFile, Version

AT = "2026-03-14T09:26:53.{:06d}Z"


def guid(number: int) -> str:
    """Return the GUID of a run of such a world."""
    return str(uuid.UUID(int=number, version=4))


def said(number: int) -> Metadata:
    """Return what a run of such a world says of itself."""
    return Metadata(
        params={"depth": number % 16, "lr": "0.1" if number % 2 else "1e-05", "kind": "tree"},
        metrics={"auc": f"0.{number * 7919 % 100_000:05d}", "loss": f"{number % 97}.5"},
        directions={"auc": "max", "loss": "min"},
        tags={"team": ("risk", "growth", "ads")[number % 3]},
    )


def revision(
    number: int, metadata: Metadata, *, at: int = 1, run: str | None = None, text: str = ""
) -> Revision:
    """Return a revision of a run with one file, whose bytes are the `text`, or of its own."""
    run = run or guid(number)
    digest = hashlib.sha256((text or run).encode()).hexdigest()
    file = StoredFile("model.onnx", digest, 1000 + number, f"{run}/upload/model.onnx")
    return Revision(
        owner=run,
        run=run,
        revision=at,
        experiment="churn",
        upload="upload",
        home=guid(2**64),
        host="trainer-1",
        committed_by="ada",
        committed_at=AT.format(number),
        artifacts=(Artifact.of_file(file),),
        refused=(),
        metadata=metadata,
    )


def version(of: Revision, experiment: str, number: int) -> Version:
    """Return the version that pins the file of a revision."""
    (artifact,) = of.artifacts
    return Version(
        owner=f"{experiment}-{number}",
        experiment=experiment,
        version=number,
        run=of.run,
        revision=of.revision,
        artifact=artifact.artifact,
        sha256=artifact.sha256,
        size=artifact.size,
        description=f"number {number}",
        home=of.home,
        host="trainer-1",
        registered_by="ada",
        registered_at=AT.format(number),
    )


def put(root: Path, *records: Revision | Version) -> None:
    """Put records to where a local backend has them."""
    for each in records:
        if isinstance(each, Revision):
            key = layout.numbered(layout.revisions(each.run), each.revision)
        else:
            key = layout.numbered(layout.versions(each.experiment), each.version)
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.to_bytes())


def fill(repository: Repository, runs: int, versions: Mapping[str, int]) -> None:
    """Put so many runs, and so many versions of each experiment, to an embedded backend."""
    root = repository.home.paths.model_repository
    for number in range(1, runs + 1):
        put(root, revision(number, said(number)))
    of = 0
    for experiment, count in versions.items():
        for number in range(1, count + 1):
            of = of % runs + 1
            put(root, version(revision(of, said(of)), experiment, number))


# In a process of its own


def search(home: str, query: str) -> list[str]:
    """Return the versions that a query finds."""
    with Repository.open(home) as repository:
        return [each.reference for each in repository.finding.search(query).found]
