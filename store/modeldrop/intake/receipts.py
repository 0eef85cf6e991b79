"""The receipt in a run's staging folder: for people, never read back.

It says what became of the drop: the revision and its digests, or why it isn't stored and what to
do. A receipt that can't be written fails nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from modeldrop.files import write_between
from modeldrop.form import Json, now
from modeldrop.names import RECEIPT, printable
from modeldrop.records import Revision, Version


def committed(
    staging: Path, name: str, revision: Revision, url: str, version: Version | None = None
) -> None:
    """Leave a receipt that says which revision the run became, and how to go on.

    Where it has been registered as it wished, that is said too.
    """
    registered: dict[str, Json] = {}
    if version is not None:
        registered["registered"] = f"{version.experiment}/{version.version}"
    artifacts: list[Json] = [
        {"artifact": each.artifact, "type": each.type, "sha256": each.sha256, "size": each.size}
        for each in revision.artifacts
    ]
    _leave(
        staging,
        name,
        {
            "state": "committed",
            "run": revision.run,
            "revision": revision.revision,
            "backend": url,
            "artifacts": artifacts,
            "refused": [each.as_json() for each in revision.refused],
            "committed_at": revision.committed_at,
            **registered,
            "next": (
                f"modeldrop show {registered['registered']}" if version else _registering(revision)
            ),
        },
    )


def _registering(revision: Revision) -> str:
    """Return the command that registers the run, capitals for what is to be filled in."""
    experiment = "" if revision.experiment else " -e EXPERIMENT"
    artifact = " --artifact NAME" if len(revision.artifacts) > 1 else ""
    return f"modeldrop register {revision.run}{experiment}{artifact}"


def stuck(staging: Path, name: str, run: str, state: str, reason: str, step: str) -> None:
    """Leave a receipt that says why the run isn't stored, and what to do."""
    _leave(
        staging,
        name,
        {"state": state, "run": run, "reason": printable(reason), "at": now(), "next": step},
    )


def _leave(staging: Path, name: str, fields: dict[str, Json]) -> None:
    text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    # Never through a link: the folder is another user's to change.
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        root = os.open(staging, flags)
        stack.callback(os.close, root)
        folder = os.open(name, flags | os.O_NOFOLLOW, dir_fd=root)
        stack.callback(os.close, folder)
        # Written in staging itself: in the run's folder, what a crash leaves of it would be taken
        # for a temporary file of the run's writer, which holds the run open.
        data = text.encode("utf-8", "backslashreplace")
        write_between(root, folder, RECEIPT, data)
