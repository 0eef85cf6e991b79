"""`make soak`: the whole of what the tests play samples of.

300 ends of the service at random moments while 1,000 drops arrive, by SIGKILL and by SIGTERM, and
100,000 runs of a kilobyte. Exits 1 if a promise was not kept; what was left is kept to be looked
at, and the seed is printed to play it again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from support.growth import grow
from support.service import Home
from support.soak import Plan, play

_MOST_RATIO: Final = 1.3
_MOST_MEMORY: Final = 300 << 20


def soak(name: str, work: Callable[[Home], str]) -> bool:
    """Do one of them in a new home; return whether all that is promised was kept."""
    folder = Path(tempfile.mkdtemp(prefix="modeldrop-soak-"))
    home = Home(folder)
    began = time.monotonic()
    print(f"{name} …", flush=True)
    try:
        said, kept = work(home), True
    except AssertionError as error:
        said, kept = f"{error}", False
    except BaseException:
        print(f"  the home is kept: {home.root}", flush=True)
        raise
    finally:
        with (folder / "services").open("w") as log, contextlib.redirect_stderr(log):
            home.close()
    verdict = "kept" if kept else f"BROKEN, see {folder}"
    print(f"  {time.monotonic() - began:.0f} s  {verdict}  {said}", flush=True)
    if kept:
        shutil.rmtree(folder)
    return kept


def main() -> None:
    """Play them all, and say what came of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drops", type=int, default=1000)
    parser.add_argument("--ends", type=int, default=300)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 2**31))
    options = parser.parse_args()
    kept = True
    for how in (signal.SIGKILL, signal.SIGTERM):
        plan = Plan(options.drops, options.ends, how, options.seed)
        kept &= soak(str(plan), functools.partial(_played, plan))
    kept &= soak(f"{options.runs:,} runs of a kilobyte", lambda home: _grown(home, options.runs))
    sys.exit(0 if kept else 1)


def _played(plan: Plan, home: Home) -> str:
    play(home, plan)
    return ""


def _grown(home: Home, runs: int) -> str:
    found = grow(home, runs)
    said = (
        f"{1000 * found.first:.2f} ms a run at first, {1000 * found.last:.2f} ms at last: "
        f"{found.ratio:.2f} of {_MOST_RATIO:.2f}; {found.peak >> 20} MiB of {_MOST_MEMORY >> 20}, "
        f"and {found.collector >> 20} MiB the process that collects"
    )
    assert found.ratio <= _MOST_RATIO, said
    assert max(found.peak, found.collector) < _MOST_MEMORY, said
    return said


if __name__ == "__main__":
    main()
