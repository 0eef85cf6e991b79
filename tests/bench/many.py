"""What one more small run costs, stored and registered, when there are 1, 10, 100 … already.

Each peer is one process, and they grow in turns, a hundred runs at a time. Who would need longer
than the patience allows stops where it is. The service stores without registering, in batches.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.asking import Worker, working
from bench.figures import Figure, Median
from bench.kept import Sample
from bench.peers import BY_KEY, OURS, OURS_ALL, SERVICE, TOGETHER, Peer
from support.growth import BATCH, grow
from support.service import Home

SMALL: Final = 1024
PATIENCE: Final = 30.0
MOST: Final = 10_000
"""Runs; with `--full` ten times as many."""
_CHUNK: Final = 100
_MORE: Final = 5
# Ours is what the curve is about.
_OURS_PATIENCE: Final = 3
_THOUSAND: Final = 1000
# The most that ours may take of what each takes for a thousand runs.
_BARS: Final = {"mlflow-sqlite": 1 / 6, "bentoml": 1, "annex": 1, "dvc": 1}


@dataclass
class _Growing:
    """One peer, how many runs it has, and what its chunks took a run."""

    worker: Worker
    patience: float
    runs: int = 0
    spent: float = 0.0
    last: float = 0.0
    chunks: list[float] = field(default_factory=list)

    def can_reach(self, count: int) -> bool:
        return self.spent + self.last * (count - self.runs) <= self.patience

    def grow(self, count: int) -> float:
        """Store and register more runs; return the seconds for each."""
        seconds = self.worker.runs(count, SMALL)
        self.runs += count
        self.spent += seconds
        self.last = seconds / count
        return self.last


@dataclass
class Grown:
    """What was measured."""

    samples: list[Sample] = field(default_factory=list)
    chunks: dict[str, list[float]] = field(default_factory=dict)
    """Of each peer, the seconds that a run took in the largest chunks that it came to."""


def measure(
    folder: Path, peers: Sequence[Peer], most: int = MOST, patience: float = PATIENCE
) -> Grown:
    """Return what a run costs each peer at each power of ten that it reaches."""
    found = Grown()
    with working(peers, folder) as workers:
        for worker in workers.values():
            # What is loaded and made once is no part of it.
            worker.runs(1, SMALL)
        growing = {
            name: _Growing(worker, patience * (_OURS_PATIENCE if name in OURS_ALL else 1))
            for name, worker in workers.items()
        }
        at = 1
        while at <= most and growing:
            growing = {name: each for name, each in growing.items() if each.can_reach(at)}
            _bring(growing, at)
            more: dict[str, list[float]] = {name: [] for name in growing}
            for _ in range(_MORE):
                for name, each in growing.items():
                    more[name].append(each.grow(1))
            found.samples += [Sample.of(name, at, seconds) for name, seconds in more.items()]
            found.chunks |= {name: each.chunks for name, each in growing.items()}
            at *= 10
    return found


def _bring(growing: dict[str, _Growing], at: int) -> None:
    """Bring all to so many runs, in turns."""
    while behind := [each for each in growing.values() if each.runs < at]:
        for each in behind:
            count = min(_CHUNK, at - each.runs)
            seconds = each.grow(count)
            # A few runs say little about many; they count until there are more at a time.
            if count >= _CHUNK // 2 and each.runs <= _CHUNK:
                each.chunks.clear()
            if each.runs <= _THOUSAND:
                each.chunks.append(seconds)


def service(folder: Path, most: int = MOST) -> list[Sample]:
    """Return what storing a run costs the service, at each power of ten from a batch on."""
    folder.mkdir(parents=True)
    home = Home(folder)
    try:
        grown = grow(home, most)
    finally:
        # It shows its log where a test failed.
        with contextlib.redirect_stderr(io.StringIO()):
            home.close()
    samples = []
    at = 2 * BATCH
    while at <= most:
        last = at // BATCH
        samples.append(Sample.of(SERVICE, at, grown.seconds[max(1, last - 4) : last]))
        at *= 10
    return samples


def figures(grown: Grown) -> Iterator[Figure]:
    """Yield what a thousand runs of one process take, as its chunks say."""
    for mine, how in ((OURS, "one by one"), (TOGETHER, "dropped together")):
        for name, chunks in grown.chunks.items():
            if mine in grown.chunks and name not in OURS_ALL and chunks:
                what = f"{_THOUSAND:,} runs registered, {how}"
                # The bar is for the quicker way.
                bar = _BARS.get(name) if mine == TOGETHER else None
                ours, theirs = _a_thousand(grown.chunks[mine]), _a_thousand(chunks)
                yield Figure(what, ours, theirs, bar, BY_KEY[name].name)


def _a_thousand(chunks: Sequence[float]) -> Median:
    return Median.of([_THOUSAND * each for each in chunks])
