"""The nth system call fails, or is the last: for every n, until an operation meets no fault.

The calls are those that an operation makes to the store, whoever makes them: the kernel asks about
each (`support.intercept`). After each case the promises are checked (`support.faultstore.judge`):
what was acknowledged is there, the same command settles the rest, each thing has one number and the
numbers are dense, `verify --deep` finds nothing, and whoever failed said so with the right code.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import pytest

from support import faultstore
from support.faultforge import Forge
from support.intercept import KINDS

pytestmark = pytest.mark.timeout(900)

FAULTS: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "killed before": ({"kills": True}, [*KINDS]),
    "killed in the middle of": ({"kills": True, "cuts": True}, ["write"]),
    "EIO at": ({"error": errno.EIO}, [*KINDS]),
    "ENOSPC at": ({"error": errno.ENOSPC}, [*KINDS]),
    "half done:": ({"cuts": True}, ["write"]),
}
"""Each fault, and the kinds of calls that it befalls."""

# Where a disk is waited for by one call for all that was written, other calls are made.
WHOLE: Final = "waits for the whole disk"

Tried = Callable[[str, str, int, int], None]
Missing = Callable[[str], NoReturn]


@pytest.fixture(scope="session")
def forge(missing: Missing) -> Iterator[Forge]:
    """What tries the faults; where the kernel doesn't let calls be held up, nothing can."""
    with Forge() as forge:
        if lacking := forge.ask("lacking"):
            missing(f"calls can't be held up: {lacking}")
        yield forge


def sweep(forge: Forge, tried: Tried, operation: str, fault: str, variant: str = "") -> None:
    """Go through all places for a fault, and count them."""
    tally = forge.tally("sweep", operation, *FAULTS[fault], variant)
    name = f"{operation}, {variant}" if variant else operation
    for kind, cases in tally.cases.items():
        tried(name, f"{fault} {kind}", cases, tally.failed[kind])
    assert not tally.told, "\n".join(tally.told)
    assert tally.cases


@pytest.mark.scenario(28, 39, 41)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", faultstore.OPERATIONS)
def test_whichever_call_it_befalls_the_promises_hold(
    forge: Forge, tried: Tried, operation: str, fault: str
) -> None:
    sweep(forge, tried, operation, fault)


@pytest.mark.parametrize("fault", ["killed before", "EIO at"])
def test_so_they_do_where_a_disk_is_waited_for_at_once(
    forge: Forge, tried: Tried, fault: str
) -> None:
    sweep(forge, tried, "scan", fault, WHOLE)


@pytest.mark.parametrize(
    ("change", "operation", "fault"),
    [
        ("written in place", "promote", "killed in the middle of"),
        ("no intents", "register", "killed before"),
        ("errors passed over", "journal append", "EIO at"),
    ],
)
def test_with_a_guard_taken_out_some_case_is_red(
    forge: Forge, change: str, operation: str, fault: str
) -> None:
    assert forge.tally("sweep", operation, *FAULTS[fault], change).failed


def test_who_is_killed_while_other_threads_call_is_followed_to_the_end(forge: Forge) -> None:
    # Their memory may go while the parent reads what a call is about.
    assert forge.ask("crowded", 100) == 100
