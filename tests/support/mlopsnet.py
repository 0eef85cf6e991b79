"""A database as MLOps.NET's EF Core model makes it, and its folder of models; made by hand here.

.NET writes a GUID in upper case into SQLite, and other writers in lower case; a time has up to
seven digits of a second, and no zone.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SCHEMA: Final = """
CREATE TABLE "Experiment" ("ExperimentId" TEXT NOT NULL PRIMARY KEY,
    "ExperimentName" TEXT NOT NULL, "CreatedAt" TEXT NOT NULL);
CREATE TABLE "Run" ("RunId" TEXT NOT NULL PRIMARY KEY, "RunDate" TEXT NOT NULL,
    "ExperimentId" TEXT NOT NULL REFERENCES "Experiment" ("ExperimentId") ON DELETE CASCADE,
    "TrainingTime" TEXT NULL, "GitCommitHash" TEXT NULL);
CREATE TABLE "RunArtifact" ("RunArtifactId" TEXT NOT NULL PRIMARY KEY,
    "RunId" TEXT NOT NULL REFERENCES "Run" ("RunId") ON DELETE CASCADE, "Name" TEXT NOT NULL);
CREATE TABLE "RegisteredModel" ("RegisteredModelId" TEXT NOT NULL PRIMARY KEY,
    "RunArtifactId" TEXT NOT NULL, "ExperimentId" TEXT NOT NULL, "RunId" TEXT NOT NULL,
    "RegisteredDate" TEXT NOT NULL, "RegisteredBy" TEXT NOT NULL, "Description" TEXT NOT NULL,
    "Version" INTEGER NOT NULL);
CREATE TABLE "Metric" ("MetricId" TEXT NOT NULL PRIMARY KEY, "MetricName" TEXT NOT NULL,
    "Value" REAL NOT NULL, "RunId" TEXT NOT NULL);
CREATE TABLE "HyperParameter" ("HyperParameterId" TEXT NOT NULL PRIMARY KEY,
    "ParameterName" TEXT NOT NULL, "Value" TEXT NOT NULL, "RunId" TEXT NOT NULL);
CREATE TABLE "PackageDependency" ("PackageDependencyId" TEXT NOT NULL PRIMARY KEY,
    "Name" TEXT NOT NULL, "Version" TEXT NOT NULL, "RunId" TEXT NOT NULL);
CREATE TABLE "ConfusionMatrix" ("ConfusionMatrixEntityId" TEXT NOT NULL PRIMARY KEY,
    "RunId" TEXT NOT NULL, "SerializedMatrix" TEXT NOT NULL);
CREATE TABLE "DeploymentTarget" ("DeploymentTargetId" TEXT NOT NULL PRIMARY KEY,
    "Name" TEXT NOT NULL, "CreatedDate" TEXT NOT NULL, "IsProduction" INTEGER NOT NULL);
CREATE TABLE "Deployment" ("DeploymentId" TEXT NOT NULL PRIMARY KEY,
    "DeploymentTargetId" TEXT NOT NULL, "RegisteredModelId" TEXT NOT NULL,
    "DeploymentDate" TEXT NOT NULL, "DeployedBy" TEXT NOT NULL, "DeploymentUri" TEXT NOT NULL);
"""


@dataclass
class MadeNet:
    """A store of MLOps.NET."""

    root: Path
    spell: Callable[[str], str] = str.upper
    runs: list[str] = field(default_factory=list)

    @property
    def database(self) -> Path:
        """Its SQLite file."""
        return self.root / "local.db"

    @property
    def folder(self) -> Path:
        """Its folder of models."""
        return self.root / "model-repository"

    def add(self, table: str, *values: object) -> str:
        """Add a row with a new id in front; return that id, canonical."""
        guid = str(uuid.uuid4())
        places = ", ".join("?" * (len(values) + 1))
        with sqlite3.connect(self.database) as connection:
            connection.execute(
                f'INSERT INTO "{table}" VALUES ({places})',  # noqa: S608 - our own names
                (self.spell(guid), *values),
            )
        connection.close()
        return guid

    def run(self, experiment: str, model: bytes | None, second: int = 0) -> tuple[str, str]:
        """Add a run with its model; return run and artifact."""
        at = f"2020-10-04 14:03:{second:02d}.1234567"
        run = self.add("Run", at, self.spell(experiment), "00:12:30.5", "0" * 39 + "a")
        # The folder's names are as .NET prints a GUID: in lower case.
        artifact = self.add("RunArtifact", self.spell(run), f"{run}.zip")
        if model is not None:
            (self.folder / f"{run}.zip").write_bytes(model)
        self.runs.append(run)
        return run, artifact

    def register(
        self, experiment: str, run: str, artifact: str, number: int, by: str = "ada"
    ) -> str:
        """Add a registered model."""
        return self.add(
            "RegisteredModel",
            *map(self.spell, (artifact, experiment, run)),
            f"2020-10-05 08:00:{number:02d}.5",
            by,
            f"number {number}",
            number,
        )


def empty(root: Path, spell: Callable[[str], str] = str.upper) -> MadeNet:
    """Make a database without a row, and an empty folder."""
    made = MadeNet(root, spell)
    made.folder.mkdir(parents=True)
    with sqlite3.connect(made.database) as connection:
        # As EF Core leaves it.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
    connection.close()
    return made


def usual(root: Path, spell: Callable[[str], str] = str.upper) -> tuple[MadeNet, str]:
    """Make a store with three versions of `churn`, a run without a model, and a deployment."""
    made = empty(root, spell)
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    for number in (1, 2, 3):
        run, artifact = made.run(experiment, f"model {number}".encode(), number)
        made.add("Metric", "AUC", 0.9 + number / 1000, spell(run))
        made.add("Metric", "Loss", 1e-05, spell(run))
        made.add("HyperParameter", "depth", str(number), spell(run))
        made.add("PackageDependency", "Microsoft.ML", "1.5.2", spell(run))
        made.add("ConfusionMatrix", spell(run), "{}")
        model = made.register(experiment, run, artifact, number, by=f"ada {number}")
    made.run(experiment, None, 9)
    target = made.add("DeploymentTarget", "production", "2020-10-05 09:00:00", 1)
    made.add(
        "Deployment",
        *map(spell, (target, model)),
        "2020-10-06 10:00:00",
        "grace",
        "https://models.example/churn",
    )
    return made, experiment
