"""What it takes to ask a home that knows 100,000 runs and 10,000 versions, each command cold.

A second for each answer is the bar; `show` and `promote` are held against a home that knows ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from bench.figures import Deadline, Figure, in_turns, program
from modeldrop import Repository
from support import worlds

RUNS = 100_000
# One large experiment, and many of the usual size.
VERSIONS = {"churn": 5000, **{f"e{number:03d}": 100 for number in range(50)}}
SECOND = Deadline(1)

ASKED: Mapping[str, tuple[str, ...]] = {
    "search, versions": (
        "search",
        "experiment=churn and metrics.auc>0.9 and params.depth<=8 and artifact=model.onnx",
    ),
    "search --runs": ("search", "--runs", "metrics.auc>0.99 and params.depth<=8", "--json"),
    "search --runs, sorted": (
        "search",
        "--runs",
        "tags.team=risk",
        "--sort",
        "-metrics.auc",
        "-n9",
    ),
    "list": ("list", "--json"),
    "list EXPERIMENT": (
        "list",
        "churn",
        "--sort",
        "-metrics.auc",
        "--columns",
        "version,metrics.auc",
    ),
    "list EXPERIMENT --json": ("list", "churn", "--json"),
    "best": ("best", "churn", "auc"),
    "plot": ("plot", "churn", "auc"),
    "diff": ("diff", "churn/1", "churn/4999"),
    "runs -n 20": ("runs", "-n", "20"),
}


def figures(folder: Path, rounds: int) -> Iterator[Figure]:
    """Yield what each command takes, as a part of a second, and what others take beside few."""
    few, many = folder / "few", folder / "many"
    for place, runs, versions in ((few, 10, {"churn": 10}), (many, RUNS, VERSIONS)):
        place.mkdir()
        with Repository.init(place / ".mlops")[0] as repository:
            worlds.fill(repository, runs, versions)
        # The index is made by the first search, once.
        program(["modeldrop", "search", "experiment=none"], place)
    for name, words in ASKED.items():
        (taken,) = in_turns(rounds, partial(program, ["modeldrop", *words], many))
        yield Figure(f"{name}, {RUNS:,} runs known", taken, SECOND, 1.0, "a second")
    for name, words in (
        ("show", ("show", "churn/3")),
        ("promote", ("promote", "churn/3", "champion")),
    ):
        asked = ["modeldrop", *words]
        ours, theirs = in_turns(rounds, partial(program, asked, many), partial(program, asked, few))
        yield Figure(f"{name}, {RUNS:,} runs known", ours, theirs, 1.2, "ten known")
