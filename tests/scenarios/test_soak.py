"""Samples of the soaks, seeded; `make soak` plays the whole of them.

The seed is printed, and with it the run can be played again: `MODELDROP_SOAK_SEED`.
"""

import os
import random
import signal

import pytest

from support.growth import grow
from support.service import MakeHome
from support.soak import Plan, play

# Read before the environment of each test is cleaned.
DROPS = int(os.environ.get("MODELDROP_SOAK_DROPS", "80"))
ENDS = int(os.environ.get("MODELDROP_SOAK_ENDS", "20"))
SEED = int(os.environ.get("MODELDROP_SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
RUNS = int(os.environ.get("MODELDROP_SOAK_RUNS", "4000"))


@pytest.mark.slow
@pytest.mark.scenario(28, 29)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda how: how.name)
def test_ended_at_random_moments_it_stores_every_drop_exactly_once(
    make_home: MakeHome, how: signal.Signals
) -> None:
    plan = Plan(DROPS, ENDS, how, SEED)
    print(plan)  # noqa: T201 - shown on failure
    play(make_home(), plan)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_time_a_run_and_memory_do_not_grow_with_the_runs(make_home: MakeHome) -> None:
    found = grow(make_home(), RUNS)

    print(f"{found.first * 1000:.2f} ms, {found.last * 1000:.2f} ms, {found.peak >> 20} MiB")  # noqa: T201 - shown by -rP, and on failure
    # `make soak` asks for 1.3 of a hundred thousand; a busy machine is no failure here.
    assert found.ratio < 3
    assert 0 < found.collector < 300 << 20
    assert found.peak < 300 << 20
