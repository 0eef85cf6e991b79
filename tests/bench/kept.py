"""Measurements as they are kept under benchmarks/, one file for each kind, of the latest run.

They say on what kind of machine they were taken, never on which one: no host, no user, no path.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from bench.figures import Deadline, Figure

FOLDER: Final = Path(__file__).parents[2] / "benchmarks"
FIGURES: Final = "figures"


@dataclass(frozen=True)
class Sample:
    """What one series costs at one point: the median of several rounds, and the ends of them."""

    series: str
    at: float
    median: float
    low: float
    high: float
    rounds: int
    failed: int = 0
    """Calls that failed, or were given what another one had been given."""

    @classmethod
    def of(cls, series: str, at: float, costs: Sequence[float], failed: int = 0) -> Self:
        """Return the sample of several rounds; the cheaper the better."""
        median = statistics.median(costs)
        return cls(series, at, median, min(costs), max(costs), len(costs), failed)


@dataclass(frozen=True)
class Measured:
    """A kind of measurement: `samples` of curves, or `figures` beside their bars."""

    kind: str
    samples: tuple[Sample, ...] = ()
    figures: tuple[Mapping[str, Any], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of each peer that was there."""
    missing: tuple[str, ...] = ()
    """The peers that were not there."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    measured_on: str = ""

    def write(self, folder: Path = FOLDER) -> None:
        """Keep it, in place of the last one."""
        folder.mkdir(exist_ok=True)
        text = json.dumps(asdict(self), indent=1, sort_keys=True)
        (folder / f"{self.kind}.json").write_text(f"{text}\n")


def read(kind: str, folder: Path = FOLDER) -> Measured | None:
    """Return what is kept of a kind, if anything is."""
    path = folder / f"{kind}.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    found["samples"] = tuple(Sample(**each) for each in found["samples"])
    found["figures"] = tuple(found["figures"])
    found["missing"] = tuple(found["missing"])
    return Measured(**found)


def as_kept(piece: str, figure: Figure) -> dict[str, Any]:
    """Return what is kept of a figure; times are in seconds."""
    return {
        "piece": piece,
        "name": figure.name,
        "peer": figure.peer,
        "ours": _short(figure.ours),
        "theirs": _short(figure.theirs),
        "unit": figure.unit,
        "scale": figure.scale,
        "bar": figure.bar,
        "deadline": isinstance(figure.theirs, Deadline),
        "spread": _short(figure.spread),
    }


def today() -> str:
    """Return the date, in UTC."""
    return dt.datetime.now(dt.UTC).date().isoformat()


def machine(folder: Path) -> dict[str, Any]:
    """Return of what kind this machine and the file system of a folder are."""
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*:\s*(.+)", said)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model[1].strip() if model else platform.machine(),
        "memory_gib": round(pages / 2**30),
        "kernel": re.sub(r"[^0-9.].*", "", platform.release()),
        "file_system": _file_system(folder),
        "python": platform.python_version(),
    }


def _file_system(folder: Path) -> str:
    """Return the type of the file system of a folder, by the mount point that is nearest to it."""
    mounts = Path("/proc/self/mountinfo")
    found = "", "unknown"
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        # A later mount on the same point hides the earlier one.
        if folder.resolve().is_relative_to(point) and len(point) >= len(found[0]):
            found = point, after.split()[0]
    return found[1]


def _short(number: float) -> float:
    """Round to what means something."""
    return float(f"{number:.4g}")
