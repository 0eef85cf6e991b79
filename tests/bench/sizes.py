"""What it takes to store one file, and how much memory, from 64 KiB to 1 GiB.

Each is a copy of other bytes, on the disk before it begins. All are warm: what a program loads
once was loaded for an earlier file. Programs are started for each, since there is no other way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.asking import Worker, working
from bench.copies import fill, is_copy
from bench.kept import Sample
from bench.peers import SERVICE, Peer
from bench.service import Store, have_memory_at_hand, opened

SIZES: Final = (2**16, 2**20, 2**24, 2**28, 2**30)
MEBIBYTE: Final = 2**20
_LARGE: Final = 2**24
# Of the large ones, which take long, there are fewer rounds.
_ROUNDS: Final = ((2**20, 9), (2**24, 5), (2**28, 3), (2**62, 2))


def measure(
    folder: Path, peers: Sequence[Peer], sizes: Sequence[int] = SIZES
) -> tuple[list[Sample], list[Sample]]:
    """Return the seconds for one file, and the peak memory in bytes, of each peer at each size."""
    speeds: list[Sample] = []
    memory: list[Sample] = []
    for size in sizes:
        place = folder / str(size)
        place.mkdir(parents=True)
        source = place / "source"
        fill(source, size)
        if size >= _LARGE:
            have_memory_at_hand([])
        rounds = next(count for most, count in _ROUNDS if size <= most)
        with working(peers, place) as workers, opened(place / SERVICE) as service:
            took = _in_turns(workers, service, source, rounds)
            speeds += [Sample.of(name, size, seconds) for name, seconds in took.items()]
            peaks = {name: worker.does("peak").what for name, worker in workers.items()}
            peaks[SERVICE] = service.most_memory()
            memory += [Sample.of(name, size, [peak]) for name, peak in peaks.items()]
        # Where many files were just removed, new ones take longer; of large ones there are few.
        if size >= _LARGE:
            shutil.rmtree(place)
    return speeds, memory


def _in_turns(
    workers: dict[str, Worker], service: Store, source: Path, rounds: int
) -> dict[str, list[float]]:
    small = source.with_name("small")
    small.write_bytes(os.urandom(1000))
    for worker in workers.values():
        worker.stores(small)
    _dropped(service, small)
    took: dict[str, list[float]] = {name: [] for name in [*workers, SERVICE]}
    names = list(took)
    for number in range(rounds):
        # Nobody always comes after the same one.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if name == SERVICE:
                took[name].append(_dropped(service, source))
            else:
                took[name].append(workers[name].stores(source))
    return took


def _dropped(service: Store, source: Path) -> float:
    aside, mark = service.prepare_copy(source)
    seconds = service.drop([aside], 0.0005)
    stored = service.stored(aside.name)
    if not is_copy(stored, source, mark):
        raise RuntimeError("the service has stored other bytes")
    if source.stat().st_size >= MEBIBYTE:
        stored.unlink()
        (service.staging / aside.name / stored.name).unlink()
    return seconds
