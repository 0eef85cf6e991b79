"""How the service fares with ever more runs: seconds a run, and its memory.

What may go is collected once a day, at a time that is left to chance. So that it neither falls into
what is measured nor is missed, none comes while runs are dropped, and one comes with the most runs.
"""

from __future__ import annotations

import contextlib
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
# Python before the service: so many seconds after its start it collects.
_COLLECTS: Final = "import modeldrop_daemon.collecting as it; it._FIRST = ({0}, {0})"


@dataclass(slots=True)
class Growth:
    """What was measured."""

    seconds: list[float] = field(default_factory=list)
    """Seconds a run, of each batch; the first one warms up."""
    peak: int = 0
    """The most memory that a service had, in bytes."""
    collector: int = 0
    """The most that the process which collected for it had."""

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
    service = home.start_ready(twist=_COLLECTS.format("86_400.0"))
    for batch in range(runs // BATCH):
        asides = [_aside(home, batch * BATCH + number) for number in range(BATCH)]
        began = time.monotonic()
        for aside in asides:
            aside.rename(home.staging / aside.name)
        for aside in asides:
            receipt = home.staging / aside.name / ".modeldrop-receipt.json"
            assert comes_true(receipt.exists, 300), f"{aside.name} is not committed"
        found.seconds.append((time.monotonic() - began) / BATCH)
    found.peak = _peak(service.process.pid)
    assert comes_true(lambda: not home.read_status()["runs"], 60), home.read_status()["runs"]
    assert service.stop() == 0
    _collect(home, found)
    return found


def _collect(home: Home, found: Growth) -> None:
    """Have all that is there now collected by a service that begins with it."""
    service = home.start(twist=_COLLECTS.format("0.0"))
    done = home.root / "service/collected.json"

    def is_done() -> bool:
        found.peak = max(found.peak, _peak(service.process.pid))
        for each in service.children():
            found.collector = max(found.collector, _peak(each))
        return done.exists()

    # It begins before the first scan, which may take longer.
    assert comes_true(is_done, 600), service.log
    assert comes_true(lambda: service.says("READY=1"), 600), service.log
    assert service.stop() == 0


def _peak(process: int) -> int:
    """Return the most memory that a process had, in bytes; 0 once it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{process}/status").read_text()
        return sum(int(each) << 10 for each in re.findall(r"VmHWM:\s+(\d+) kB", text))
    return 0


def _aside(home: Home, number: int) -> Path:
    folder = home.folder / str(uuid.uuid4())
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"%1024d" % number)
    return folder
