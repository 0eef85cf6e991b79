"""Random histories, played against small models: how many, and how a guard is shown to matter.

`play` plays the same histories each time, few enough for `make test`; `play_long` plays others each
time, for `make soak`. What a history may do next can depend on what the product did, and that on
the machine: where one isn't the same twice, others take the place of all. `is_red` plays what
`play` does, with something taken out of the product, and asks that it be found: a machine that
finds nothing then would be no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyFailure, FlakyStrategyDefinition
from hypothesis.stateful import RuleBasedStateMachine
from hypothesis.stateful import run_state_machine_as_test as run_machine

# A busy machine makes a history slow, which is no failure.
_ALWAYS: Final = settings(deadline=None, suppress_health_check=list(HealthCheck))


# How many times as many histories may be needed to find what was taken out. What is hardest to find
# takes forty histories on average, so that this many miss it less than once in a million times.
_MORE: Final = 20
# How many of a long play are chosen together, one by what came of the others.
_TOGETHER: Final = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """How many histories of how many steps."""

    histories: int
    steps: int


def play(machine: type[RuleBasedStateMachine], plan: Plan) -> None:
    """Play the histories of a plan, which are the same each time."""
    try:
        run_machine(machine, settings=_same(plan))
    except FlakyStrategyDefinition:
        run_machine(machine, settings=_others(plan))


def play_long(machine: type[RuleBasedStateMachine], plan: Plan) -> None:
    """Play as many histories, others each time, some at a time.

    Where one isn't the same twice, others take the place of those that were to be played with it;
    fails where that befalls more of them than are played.
    """
    left, spoilt = plan.histories, 0
    while left > 0:
        some = Plan(min(left, _TOGETHER), plan.steps)
        try:
            run_machine(machine, settings=_others(some))
        except FlakyStrategyDefinition:
            spoilt += some.histories
            if spoilt > plan.histories:
                raise
            continue
        left -= some.histories
    print(f"{plan.histories} histories; others took the place of {spoilt}")


def is_red(machine: type[RuleBasedStateMachine], plan: Plan, *errors: type[Exception]) -> None:
    """Fail unless a history of a plan ends with an `AssertionError`, or with one of `errors`.

    It isn't made smaller: that something is found is all that is asked. Where the histories of the
    plan don't find it, others are played, since they aren't quite the same on every machine.
    """
    found: tuple[type[Exception], ...] = (AssertionError, *errors)
    for each in (_same(plan), *[_others(plan)] * _MORE):
        generated = settings(each, phases=[Phase.generate], report_multiple_bugs=False)
        try:
            run_machine(machine, settings=generated)
        except found:
            return
        except FlakyFailure as error:
            # It was found, but isn't found each time: real files have real times.
            _, others = error.split(found)
            if others is not None:
                raise
            return
        except FlakyStrategyDefinition:
            continue
    pytest.fail("nothing was found, though something was taken out")


def _same(plan: Plan) -> settings:
    return settings(_many(plan), derandomize=True, database=None)


def _others(plan: Plan) -> settings:
    # Said here, since Hypothesis plays the same ones again wherever it takes a machine for CI's.
    return settings(_many(plan), derandomize=False, database=None)


def _many(plan: Plan) -> settings:
    return settings(_ALWAYS, max_examples=plan.histories, stateful_step_count=plan.steps)
