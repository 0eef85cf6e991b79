"""How the service fares with ever more runs: seconds a run, and its memory."""

from __future__ import annotations

import re
import statistics
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from support.service import Home
from support.waiting import comes_true

BATCH: Final = 500
"""Runs that are dropped at a time."""
# How many batches are measured at either end.
_MEASURED: Final = 4


@dataclass(slots=True)
class Growth:
    """What was measured."""

    seconds: list[float] = field(default_factory=list)
    """Seconds a run, of each batch; the first one warms up."""
    peak: int = 0
    """The most memory that the service had, in bytes."""

    @property
    def first(self) -> float:
        """Seconds a run while there were few."""
        return statistics.median(self.seconds[1 : 1 + _MEASURED])

    @property
    def last(self) -> float:
        """Seconds a run when there were most."""
        return statistics.median(self.seconds[-_MEASURED:])

    @property
    def ratio(self) -> float:
        """How many times longer a run takes among many."""
        return self.last / self.first


def grow(home: Home, runs: int) -> Growth:
    """Drop one-kilobyte runs in batches, each once the last is committed; return what it took."""
    found = Growth()
    service = home.start_ready()
    for batch in range(runs // BATCH):
        asides = [_aside(home, batch * BATCH + number) for number in range(BATCH)]
        began = time.monotonic()
        for aside in asides:
            aside.rename(home.staging / aside.name)
        for aside in asides:
            receipt = home.staging / aside.name / ".modeldrop-receipt.json"
            assert comes_true(receipt.exists, 300), f"{aside.name} is not committed"
        found.seconds.append((time.monotonic() - began) / BATCH)
    text = Path(f"/proc/{service.process.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", text)
    found.peak = int(peak) << 10
    assert comes_true(lambda: not home.read_status()["runs"], 60), home.read_status()["runs"]
    assert service.stop() == 0
    return found


def _aside(home: Home, number: int) -> Path:
    folder = home.folder / str(uuid.uuid4())
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"%1024d" % number)
    return folder
