"""What a drop says of a run, joined with what the run's own `run.json` says already.

That file may be the user's, with metrics and notes that nobody else has, so nothing of it is lost:
tables are joined name by name, and what the drop says is over what was there. Only of the code and
of where it ran the first word stands: whoever began the run knew better than who drops its results.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modeldrop import files
from modeldrop.intake.notation import MOST_BYTES, NotUnderstood, read

_log = logging.getLogger(__name__)

SAID: Final = "run.json"
_FIRST_STANDS: Final = ("code", "environment")


def said_in(path: Path) -> dict[str, Any] | None:
    """Return what a `run.json` says, or None where there is no such file.

    Raises:
        NotUnderstood: it can't be understood.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # What is no file of one's own to read is replaced, as a drop does.
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return read(SAID, file.read(MOST_BYTES + 1))


def join(ours: Path, theirs: Path) -> bool:
    """Have `ours` say what both files say; return whether it is to take the place of `theirs`.

    It isn't where theirs can't be understood: it is somebody's own, and told by the next scan.
    """
    try:
        there = said_in(theirs)
    except NotUnderstood as error:
        _log.warning("%s stays as it is: %s", theirs, error)
        return False
    if there is not None:
        joined = _over(json.loads(ours.read_bytes()), there)
        files.write_durable(ours, (json.dumps(joined, indent=2) + "\n").encode())
    return True


def _over(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    joined = {**theirs, **ours}
    for name in ours.keys() & theirs.keys():
        mine, other = ours[name], _as_table(theirs[name]) if name == "datasets" else theirs[name]
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            first = name in _FIRST_STANDS
            joined[name] = _over(other, mine) if first else _over(mine, other)
    return joined


def _as_table(datasets: object) -> object:
    if not isinstance(datasets, list) or not all(isinstance(each, dict) for each in datasets):
        return datasets
    return {each["name"]: each["sha256"] for each in datasets if {"name", "sha256"} <= each.keys()}
