"""Takes each guard out of the product, one at a time, and sees that the tests named for it go red.

    python tests/mutations/run.py [--jobs N] [WORD ...]

With words, only the guards in whose names one of them is. The tree isn't changed: a process that
has loaded pytest, and nothing of ours, forks one child for each guard, in which that module, and in
whatever the tests start, is compiled from a file without it (`hook/sitecustomize.py`). Before, all
tests have to be green with everything in its place.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
HOOK: Final = Path(__file__).parent / "hook"
sys.path[:0] = [str(ROOT / "tests"), str(HOOK)]

from mutations import guards, tables, taking  # noqa: E402 - found by the line above
from mutations.guards import Guard  # noqa: E402
from mutations.tables import Row  # noqa: E402

# A test that waits for what a guard would have ended is stopped, and red.
_SECONDS: Final = 60
_HUNG: Final = 300.0
_GREEN: Final = 0
_RED: Final = 1


@dataclass(frozen=True)
class Try:
    """Tests to be run with one module in another form."""

    name: str
    tests: tuple[str, ...]
    module: str = ""
    source: bytes = b""


@dataclass(frozen=True)
class Outcome:
    """What came of it: pytest's exit code, and what it printed."""

    tried: Try
    code: int
    said: str
    seconds: float


def main() -> int:
    """Take them out; return 0 if all tests saw it."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--jobs", type=int, default=2)
    asked.add_argument("words", nargs="*")
    options = asked.parse_args()
    pairs, wrong = tables.paired()
    for each in wrong:
        print(each)
    chosen = {
        guard: row
        for guard, row in pairs.items()
        if row.tests and (not options.words or any(word in guard.id for word in options.words))
    }
    tests = sorted({test for row in chosen.values() for test in row.tests})
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        failed = _try_green(tests, Path(folder), options.jobs)
        survived = [] if failed else _try_red(chosen, Path(folder), options.jobs)
    if not failed:
        print_table(pairs, {guard.id for guard in chosen} - set(survived))
    return 1 if wrong or failed or survived else 0


def _try_green(tests: list[str], folder: Path, jobs: int) -> bool:
    by_file: dict[str, list[str]] = {}
    for test in tests:
        by_file.setdefault(test.partition("::")[0], []).append(test)
    tries = [Try(file, tuple(mine)) for file, mine in by_file.items()]
    failed = False
    for outcome in run_all(tries, folder, jobs, first=False):
        if outcome.code != _GREEN:
            failed = True
            print(f"{outcome.tried.name}: not green with every guard in place\n{outcome.said}")
    return failed


def _try_red(chosen: dict[Guard, Row], folder: Path, jobs: int) -> list[str]:
    survived = []
    tries = [
        Try(guard.id, row.tests, guard.module, taking.without(guard, row.instead))
        for guard, row in chosen.items()
    ]
    for outcome in run_all(tries, folder, jobs):
        if outcome.code == _RED:
            continue
        survived.append(outcome.tried.name)
        if outcome.code == _GREEN:
            print(f"{outcome.tried.name}: taken out, and its tests are green", flush=True)
        else:
            print(f"{outcome.tried.name}: its tests can't be run\n{outcome.said}", flush=True)
    return survived


def run_all(
    tries: Iterable[Try], folder: Path, jobs: int, *, first: bool = True
) -> Iterator[Outcome]:
    """Yield what came of each, as it ends; with `first`, a try ends with its first red test."""
    _preload()
    waiting, running = list(reversed(list(tries))), dict[int, tuple[Try, Path, float]]()
    number = 0
    while waiting or running:
        while waiting and len(running) < jobs:
            each = waiting.pop()
            number += 1
            place = folder / str(number)
            place.mkdir()
            running[_forked(each, place, first=first)] = (each, place, time.monotonic())
        pid, code = _ended(running)
        each, place, began = running.pop(pid)
        said = (place / "said").read_text("utf-8", "replace")
        shutil.rmtree(place, ignore_errors=True)
        yield Outcome(each, code, said, time.monotonic() - began)


def _ended(running: dict[int, tuple[Try, Path, float]]) -> tuple[int, int]:
    """Wait for one of them; one that hangs is ended, and can't be judged."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            return pid, os.waitstatus_to_exitcode(status)
        for each, (_, _, began) in running.items():
            if time.monotonic() - began > _HUNG:
                os.killpg(each, signal.SIGKILL)
        time.sleep(0.01)


def _preload() -> None:
    """Load what takes long and isn't ours, once for all."""
    for name in ("hypothesis.strategies", "moto.server", "s3fs", "tinydb"):
        importlib.import_module(name)


def _forked(each: Try, place: Path, *, first: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 3
    try:
        os.setpgid(0, 0)
        said = os.open(place / "said", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = _run(each, place, first=first)
    except BaseException:  # noqa: BLE001 - told to whoever reads what it said
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _run(each: Try, place: Path, *, first: bool) -> int:
    """Run the tests in this process, which nobody else uses afterwards."""
    os.chdir(ROOT)
    os.environ["PYTHONPATH"] = str(HOOK)
    if each.source:
        (place / "mutant.py").write_bytes(each.source)
        os.environ["MUTANT"] = f"{each.module}={place / 'mutant.py'}"
    # It is imported at the start of each process; this one began before it was told.
    sys.modules.pop("sitecustomize", None)
    importlib.import_module("sitecustomize")

    options = [
        *("-q", "-n0", "-p", "no:cacheprovider", *(("-x",) if first else ())),
        # pytest would have rewritten its plugins, and they are loaded.
        *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
        *(f"--timeout={_SECONDS}", f"--basetemp={place}/t"),
    ]
    seen = _Seen()
    code = int(pytest.main([*options, *(f"tests/{test}" for test in each.tests)], [seen]))
    # pytest's own code may be another: what failed has left something open, and is told at the end.
    return _RED if seen.red else code


class _Seen:
    """Whether a test failed, or was stopped at its time limit.

    The limit may strike where pytest can't report it: while it tells two large values apart, or
    between two lines.
    """

    red = False

    @pytest.hookimpl(wrapper=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> Iterator[None]:
        del item
        set_up = yield
        stop = signal.getsignal(signal.SIGALRM)
        assert callable(stop)

        def stopped(number: int, frame: FrameType | None) -> None:
            self.red = True
            stop(number, frame)

        signal.signal(signal.SIGALRM, stopped)
        return set_up

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.red = self.red or report.failed


def print_table(pairs: dict[Guard, Row], red: set[str]) -> None:
    """Print how many guards there are of each kind, and how many of those taken out were missed."""
    print(f"{'guards':<12}{'all':>6}{'missed':>8}{'stay':>6}")
    for kind in guards.KINDS:
        if kind == guards.SYNC:
            count = sum(each.kind == kind for each in guards.all_guards())
            print(f"{kind:<12}{count:>6}  left out by tests/faults/test_lost_writes.py")
            continue
        mine = {guard: row for guard, row in pairs.items() if guard.kind == kind}
        real = {guard: row for guard, row in mine.items() if not row.no_guard}
        missed = sum(guard.id in red for guard in real)
        print(f"{kind:<12}{len(real):>6}{missed:>8}{sum(bool(r.stays) for r in real.values()):>6}")


if __name__ == "__main__":
    sys.exit(main())
