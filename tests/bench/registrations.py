"""Registrations a second, of several processes at one registry; and what a single one costs cold.

All processes register versions of one model, as fast as they can. A call that fails, or that is
given a number which another one was given, is counted: it is no registration.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench.asking import Worker, environment
from bench.figures import BIN, Figure, in_turns
from bench.kept import Sample
from bench.peers import BY_KEY, OURS, Peer
from bench.workers.talking import called

PROCESSES: Final = (1, 2, 4, 8, 16)
ROUNDS: Final = 3
# The most that ours may take of what each takes.
_COLD: Final = {"git": None, "gto": 1 / 2.5, "mlflow-sqlite": 1 / 10}
_MLFLOW_ONCE: Final = """\
import sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1], registry_uri=sys.argv[1])
client.create_model_version("churn", sys.argv[2])
"""


def measure(
    folder: Path,
    peers: Sequence[Peer],
    processes: Sequence[int] = PROCESSES,
    rounds: int = ROUNDS,
    share: float = 1.0,
) -> list[Sample]:
    """Return the seconds that one registration takes, of so many processes; cheaper is better."""
    costs: dict[tuple[str, int], list[float]] = {}
    failed: Counter[tuple[str, int]] = Counter()
    with contextlib.ExitStack() as stack:
        racers = {peer.key: _racers(stack, peer, folder, max(processes)) for peer in peers}
        given: dict[str, Counter[str]] = {name: Counter() for name in racers}
        for _ in range(rounds):
            for count in processes:
                for peer in peers:
                    each = max(1, round(share * peer.registrations / count))
                    numbers, seconds = _race(racers[peer.key][:count], each)
                    before = given[peer.key]
                    good = len(set(numbers) - set(before))
                    before.update(numbers)
                    at = peer.key, count
                    failed[at] += each * count - good
                    costs.setdefault(at, []).append(seconds / max(good, 1))
    return [Sample.of(*at, taken, failed[at]) for at, taken in costs.items()]


def _racers(stack: contextlib.ExitStack, peer: Peer, folder: Path, count: int) -> list[Worker]:
    place = folder / peer.key
    first = stack.enter_context(Worker(peer, place))
    first.does("begin")
    started = [Worker(peer, place, number) for number in range(1, count)]
    racers = [first, *(stack.enter_context(each) for each in started)]
    # What is loaded and opened once is no part of it; one after another, so that none fails.
    for each in racers:
        each.does("register", 1)
    return racers


def _race(racers: Sequence[Worker], each: int) -> tuple[list[str], float]:
    began = time.perf_counter()
    for racer in racers:
        racer.ask("register", each)
    told = [racer.told() for racer in racers]
    seconds = time.perf_counter() - began
    return [str(number) for answer in told for number in answer.what["numbers"]], seconds


def figures(samples: Sequence[Sample]) -> Iterator[Figure]:
    """Yield how eight processes of ours fare beside MLflow's on SQLite."""
    of = {each.series: each for each in samples if each.at == 8}
    if OURS in of and "mlflow-sqlite" in of:
        ours, theirs = of[OURS], of["mlflow-sqlite"]
        name = BY_KEY["mlflow-sqlite"].name
        yield Figure("a registration, 8 processes", ours.median, theirs.median, 1 / 3, name)


def cold(folder: Path, rounds: int) -> Iterator[Figure]:
    """Yield what one registration costs as a command, beside the commands of others."""
    works: dict[str, Callable[[], object]] = {}
    with contextlib.ExitStack() as stack:
        for name in (OURS, *_COLD):
            if not BY_KEY[name].is_missing():
                worker = stack.enter_context(Worker(BY_KEY[name], folder / name))
                worker.does("begin")
                commands = _commands(name, worker.folder)
                works[name] = partial(_next, commands, worker.folder)
    taken = dict(zip(works, in_turns(rounds, *works.values()), strict=True))
    for name, bar in _COLD.items():
        if name in taken:
            peer = f"{BY_KEY[name].name}, as a command"
            yield Figure("a registration, cold", taken[OURS], taken[name], bar, peer)


def _next(commands: Iterator[list[str]], folder: Path) -> None:
    called(*next(commands), folder=folder, env=environment(folder))


def _commands(name: str, folder: Path) -> Iterator[list[str]]:
    """Yield commands that register one version each."""
    if name == OURS:
        run = (folder / "run").read_text()
        while True:
            yield [str(BIN / "modeldrop"), "register", run, "-e", f"e{uuid.uuid4().hex[:8]}"]
    if name == "git":
        for number in itertools.count(1):
            yield ["git", "tag", "--annotate", "--message", "a model", f"churn/{number}"]
    python = BY_KEY[name].python
    if name == "gto":
        commits = called("git", "rev-list", "--all", folder=folder).split()
        for commit in commits:
            yield [str(Path(python).with_name("gto")), "register", "churn", commit]
    while True:
        source = (folder / "artifacts").as_uri()
        yield [python, "-c", _MLFLOW_ONCE, f"sqlite:///{folder}/mlflow.db", source]
