"""`run.toml` or `run.json`: what a run declares of itself. `experiment` is all that is read."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modeldrop.errors import InvalidName
from modeldrop.intake.observation import SeenFile
from modeldrop.intake.walk import read_small
from modeldrop.names import check_experiment
from modeldrop.records import Refused

MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Declared:
    """What a run declares: the experiment that it belongs to, if any."""

    experiment: str | None = None


def read(staging: Path, name: str, seen: SeenFile) -> Declared | Refused:
    """Return what a run declares, or the reason why that can't be understood.

    Raises:
        SourceChanged: the file changed since it was seen.
        PermissionError: it can't be read by this user.
        OSError: it can't be read for another reason.
    """
    if seen.signature.size > MOST_BYTES:
        return Refused(seen.path, f"it is larger than {MOST_BYTES >> 20} MiB")
    return parse(seen.path, read_small(staging, name, seen))


def parse(name: str, data: bytes) -> Declared | Refused:
    """Return what the bytes of `run.toml` or `run.json` declare, or why they can't be understood.

    Unknown keys are passed over: people keep notes of their own in these files.
    """
    kind = "TOML" if name.endswith(".toml") else "JSON"
    try:
        text = data.decode("utf-8-sig")
        found: object = tomllib.loads(text) if kind == "TOML" else json.loads(text)
    except UnicodeDecodeError:
        return Refused(name, "it is not UTF-8")
    except (ValueError, RecursionError):
        return Refused(name, f"it is no valid {kind}")
    return _experiment_of(name, found)


def _experiment_of(name: str, found: object) -> Declared | Refused:
    if not isinstance(found, dict):
        return Refused(name, "it is no JSON object")
    experiment = found.get("experiment")
    if experiment is None:
        return Declared()
    if not isinstance(experiment, str):
        return Refused(name, "its experiment is no text")
    try:
        return Declared(check_experiment(experiment))
    except InvalidName as error:
        return Refused(name, f"its experiment: {error.message}")
