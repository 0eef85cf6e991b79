"""Who is measured beside ours: what each does here, what it doesn't, and whether it is installed.

Every peer is optional. `make peers` and `make mlflow` install what comes from PyPI, each into an
environment of its own; the others are the system's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.figures import BIN

_VENV: Final = BIN.parent
_OWN: Final = str(BIN / "python")
OURS: Final = "modeldrop"
TOGETHER: Final = "modeldrop-together"
SERVICE: Final = "modeldropd"
OURS_ALL: Final = (OURS, TOGETHER, SERVICE)
"""All that are ours, in the order in which they are shown."""


@dataclass(frozen=True)
class Peer:
    """Somebody who does what we do, or a part of it."""

    key: str
    """How the kept measurements name it."""
    name: str
    does: str
    """What is measured of it."""
    lacks: str
    """What it does not do that ours does in the same time."""
    program: tuple[str, ...] = ()
    """The worker: a module of `bench.workers` and what it is told. None: no worker of its own."""
    python: str = _OWN
    version: tuple[str, ...] = ()
    """The command that says its version, where no worker can."""
    needs: str = ""
    """The program that has to be there, by its name or its path."""
    install: str = ""
    tasks: frozenset[str] = frozenset()
    """What its worker can be asked: `store`, `run`, `register`."""
    registrations: int = 800
    """How many versions its processes register together in one round; what takes about a second."""

    def is_missing(self) -> str | None:
        """Return how to get it, if it isn't there."""
        if not self.needs or shutil.which(self.needs) or Path(self.needs).exists():
            return None
        return self.install


def _tasks(*names: str) -> frozenset[str]:
    return frozenset(names)


_PEERS: Final = f"{_VENV}/peers/bin"
_MLFLOW: Final = f"{_VENV}/mlflow/bin/python"
_DVC: Final = f"{_VENV}/dvc/bin/python"
_BENTOML: Final = f"{_VENV}/bentoml/bin/python"

ALL: Final = (
    Peer(
        OURS,
        "modeldrop",
        "`Repository.upload`, `Repository.register`",
        "",
        ("ours", "upload"),
        tasks=_tasks("store", "run", "register"),
    ),
    Peer(
        TOGETHER,
        "modeldrop, dropped together",
        "runs with `_SUCCESS` renamed into staging, `Engine.scan_once`, `Repository.register_all`",
        "",
        ("ours", "together"),
        tasks=_tasks("run"),
    ),
    Peer(
        SERVICE,
        "modeldropd",
        "from the rename into staging until the journal has acknowledged the run",
        "",
    ),
    Peer(
        "cp",
        "cp, then sync",
        "`cp`, `sync` of the copy and its folder",
        "no digest, no name that appears whole, no record",
        ("commands", "cp"),
        tasks=_tasks("store"),
    ),
    Peer(
        "sha256sum",
        "sha256sum beside cp",
        "the same, while `sha256sum` hashes the source",
        "no check that the copy is what was hashed, no name that appears whole, no record",
        ("commands", "sha256sum"),
        tasks=_tasks("store"),
    ),
    Peer(
        "durable",
        "durable writes",
        "copy_file_range, fsync, rename, fsync of the folder",
        "no digest, no record, no version",
        ("plain", "durable"),
        tasks=_tasks("store", "run"),
    ),
    Peer(
        "rclone",
        "rclone",
        "`rclone copyto` to another folder, `rclone copy` to S3",
        "no sync to the disk, no record, no version",
        ("commands", "rclone"),
        needs=str(BIN / "rclone"),
        install="make lint",
        tasks=_tasks("store"),
    ),
    Peer(
        "git",
        "git tag",
        "an annotated tag under the next number that is free",
        "no bytes, no sync to the disk, a number can be given again",
        ("commands", "git"),
        needs="git",
        install="apt-get install git",
        tasks=_tasks("register"),
        registrations=200,
    ),
    Peer(
        "sqlite",
        "SQLite",
        "an insert with a commit; WAL, synchronous FULL",
        "one host, no files outside it, no digest",
        ("plain", "sqlite"),
        tasks=_tasks("run", "register"),
    ),
    Peer(
        "tinydb",
        "TinyDB as it comes",
        "an insert of a record",
        "no bytes, one process at a time, a crash can leave half a file",
        ("plain", "tinydb"),
        tasks=_tasks("run"),
    ),
    Peer(
        "mlflow-sqlite",
        "MLflow on SQLite",
        "`create_run`, `log_artifact`, `create_model_version`, `set_terminated`",
        "no sync of the bytes to the disk, no digest",
        ("mlflow", "sqlite"),
        python=_MLFLOW,
        needs=_MLFLOW,
        install="make mlflow",
        tasks=_tasks("store", "run", "register"),
        registrations=160,
    ),
    Peer(
        "mlflow-files",
        "MLflow on files",
        "the same",
        "no sync to the disk, no digest; several processes fail, or get the same number",
        ("mlflow", "files"),
        python=_MLFLOW,
        needs=_MLFLOW,
        install="make mlflow",
        tasks=_tasks("store", "run", "register"),
        registrations=32,
    ),
    Peer(
        "gto",
        "GTO",
        "`gto.api.register` of a commit; `gto register`",
        "no bytes, no sync to the disk; several processes fail",
        ("dvc", "gto"),
        python=_DVC,
        needs=_DVC,
        install="make peers",
        tasks=_tasks("register"),
        registrations=16,
    ),
    Peer(
        "dvc",
        "DVC",
        "`add`, and `push` to another folder",
        "no sync of the bytes to the disk, no version; its digest is MD5",
        ("dvc", "dvc"),
        python=_DVC,
        needs=_DVC,
        install="make peers",
        tasks=_tasks("store", "run"),
    ),
    Peer(
        "bentoml",
        "BentoML",
        "`bentoml.models.create`, with a copy of the file",
        "no sync to the disk, no digest, no numbers: versions are random",
        ("bentoml",),
        python=_BENTOML,
        needs=_BENTOML,
        install="make peers",
        tasks=_tasks("store", "run"),
    ),
    Peer(
        "annex",
        "git-annex",
        "`git-annex add`, `git commit`",
        "no sync of the bytes to the disk, no version",
        ("commands", "annex"),
        needs="git-annex",
        install="apt-get install git-annex",
        tasks=_tasks("store", "run"),
    ),
    Peer(
        "s5cmd",
        "s5cmd",
        "`s5cmd cp`, to and from S3",
        "no record; what arrives is not synced to the disk",
        version=(f"{_PEERS}/s5cmd", "version"),
        needs=f"{_PEERS}/s5cmd",
        install="make peers",
    ),
    Peer(
        "aws",
        "AWS command line",
        "`aws s3 cp`, to and from S3",
        "no record; what arrives is not synced to the disk",
        version=(f"{_PEERS}/aws", "--version"),
        needs=f"{_PEERS}/aws",
        install="make peers",
    ),
)

BY_KEY: Final = {peer.key: peer for peer in ALL}


def who_can(task: str, only: Iterable[str] = ()) -> list[Peer]:
    """Return the peers that are here and can be asked to do something, ours first."""
    chosen = set(only)
    return [
        peer
        for peer in ALL
        if task in peer.tasks and not peer.is_missing() and (not chosen or peer.key in chosen)
    ]


def version_of(peer: Peer) -> str:
    """Return the version that a program of a peer says it has."""
    said = subprocess.run(peer.version, check=True, capture_output=True, text=True).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else said.strip()


def missing() -> dict[str, str]:
    """Return the peers that aren't here, and how to get each."""
    return {peer.key: how for peer in ALL if (how := peer.is_missing())}
