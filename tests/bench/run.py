"""`make bench`: ours beside its bars and its peers, in one table; exits 1 if something is amiss.

The machines that this runs on are noisy, so what is compared is measured in turns, and medians are
taken. Amiss is a bar that is missed, a call of ours that failed, or a ratio that has grown beyond
what its rounds differ by, against what is kept under benchmarks/ and was measured on a machine of
the same kind. With `--keep` what was measured takes the place of what is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import (
    commands,
    compare,
    finding,
    many,
    peers,
    registrations,
    service,
    sizes,
    transfer,
)
from bench.asking import Worker
from bench.figures import Figure
from bench.kept import FIGURES, FOLDER, Measured, as_kept, machine, read, today
from bench.tables import lines

Found = Figure | Measured


def _sizes(folder: Path, options: argparse.Namespace) -> Iterator[Found]:
    at = sizes.SIZES[: 2 if options.quick else None]
    speeds, memory = sizes.measure(folder, peers.who_can("store", options.peers), at)
    yield Measured("speed", tuple(speeds))
    yield Measured("memory", tuple(memory))


def _many(folder: Path, options: argparse.Namespace) -> Iterator[Found]:
    most, patience = many.MOST, many.PATIENCE
    if options.quick:
        most = 1000
    if options.full:
        most, patience = 10 * most, 20 * patience
    can = peers.who_can("run", options.peers)
    grown = many.measure(folder / "python", can, 10 if options.quick else most, patience)
    stored = many.service(folder / "service", most)
    yield Measured("runs", (*grown.samples, *stored))
    yield from many.figures(grown)


def _registrations(folder: Path, options: argparse.Namespace) -> Iterator[Found]:
    can = peers.who_can("register", options.peers)
    how: tuple[Sequence[int], int, float] = (registrations.PROCESSES, registrations.ROUNDS, 1.0)
    if options.quick:
        how = (1, 2), 1, 0.02
    samples = registrations.measure(folder, can, *how)
    yield Measured("registrations", tuple(samples))
    yield from registrations.figures(samples)


PIECES: Final[dict[str, Callable[[Path, argparse.Namespace], Iterator[Found]]]] = {
    "commands": lambda folder, options: commands.commands(folder, options.rounds),
    "growth": lambda folder, options: commands.growth(folder, options.rounds),
    "cold": lambda folder, options: registrations.cold(folder, options.rounds),
    "registrations": _registrations,
    "many": _many,
    "sizes": _sizes,
    "finding": lambda folder, options: finding.figures(folder, options.rounds),
    "service": lambda folder, options: service.figures(folder, int(options.large * 2**30)),
    "transfer": lambda folder, _: transfer.figures(folder),
}


class Bench:
    """What was measured so far, and what was amiss with it."""

    def __init__(self, folder: Path, kept: Path) -> None:
        """Measure in a folder, against what is kept in another one."""
        self.amiss = 0
        self.measured: dict[str, Measured] = {}
        self._folder = folder
        self._kept = kept
        self._figures: list[dict[str, Any]] = []
        self._machine = machine(folder)
        self._versions = _versions(folder / "versions")

    def piece(self, name: str, options: argparse.Namespace) -> None:
        """Measure a piece, and show what was found."""
        place = self._folder / name
        place.mkdir()
        for found in PIECES[name](place, options):
            if isinstance(found, Figure):
                _say(found.line())
                self.amiss += not found.is_met
                self._figures.append({**as_kept(name, found), "measured_on": today()})
            else:
                self.measured[found.kind] = self._told(found)
                _say("", *lines(found))

    def _told(self, found: Measured) -> Measured:
        """Return it with where, when and beside whom it was measured."""
        return replace(
            found,
            machine=self._machine,
            measured_on=today(),
            versions=self._versions,
            missing=tuple(peers.missing()),
        )

    def compare(self) -> None:
        """Show what has become worse than what is kept, and what has failed."""
        if self._figures:
            self.measured[FIGURES] = self._told(Measured(FIGURES, figures=(*self._figures,)))
        for kind, now in self.measured.items():
            failed = list(compare.failures(now))
            kept = read(kind, self._kept)
            worse = list(compare.worse(kept, now)) if kept else []
            _say(*failed, *worse)
            self.amiss += len(failed)
            if kept and compare.is_same_kind(kept, now):
                self.amiss += len(worse)
            elif worse:
                _say("What is kept was measured on a machine of another kind; not counted.")

    def keep(self) -> None:
        """Keep what was measured; figures of pieces that were not measured stay as they are."""
        for kind, now in self.measured.items():
            kept = read(kind, self._kept)
            if kind == FIGURES and kept and compare.is_same_kind(kept, now):
                pieces = {each["piece"] for each in now.figures}
                others = [each for each in kept.figures if each["piece"] not in pieces]
                order = list(PIECES)
                found = sorted((*others, *now.figures), key=lambda each: order.index(each["piece"]))
                replace(now, figures=tuple(found)).write(self._kept)
            else:
                now.write(self._kept)


def _versions(folder: Path) -> dict[str, str]:
    """Return the version of each peer that is here and can say it."""
    found = {}
    for peer in peers.ALL:
        if peer.program and not peer.is_missing():
            with Worker(peer, folder / peer.key) as worker:
                found[peer.key] = str(worker.does("version").what)
        elif peer.version and not peer.is_missing():
            found[peer.key] = peers.version_of(peer)
    return found


def _say(*what: object) -> None:
    for each in what:
        print(each, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for, show it, and return whether something is amiss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large", type=float, default=4, help="GiB of the one large file")
    parser.add_argument("--only", choices=PIECES, action="append", default=[])
    parser.add_argument("--peers", default="", type=_names, help="of the curves, by their keys")
    parser.add_argument("--full", action="store_true", help="up to 100,000 runs; takes an hour")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--keep", action="store_true", help="keep it under benchmarks/")
    parser.add_argument("--kept", type=Path, default=FOLDER, help="another folder than benchmarks/")
    options = parser.parse_args(arguments)
    for name, how in peers.missing().items():
        _say(f"{peers.BY_KEY[name].name} is missing. Try: {how}")
    _say(f"{'':<44}{'ours':>12}{'peer':>12}{'ratio':>7}{'bar':>7}")
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        bench = Bench(Path(folder), options.kept)
        for name in options.only or PIECES:
            bench.piece(name, options)
        bench.compare()
        if options.keep:
            bench.keep()
    return 1 if bench.amiss else 0


def _names(text: str) -> list[str]:
    return [each for each in text.split(",") if each]


if __name__ == "__main__":
    sys.exit(main())
