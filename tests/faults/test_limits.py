"""Too little of something: room, inodes, descriptors, memory; nothing may be written; another year.

Each limit is raised from nothing until an operation ends well under it. After each case it is
taken away, and the promises are checked as in `test_calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NoReturn

import pytest

from support import debian, faultstore, mounts
from support.faultcases import Tally
from support.faultforge import Forge

pytestmark = pytest.mark.timeout(900)

LIMITS: Final = {
    "file_size": "a limit of a file's size",
    "descriptors": "few descriptors",
    "memory": "little memory",
}
MOUNTED: Final = {
    "space": "a full disk",
    "inodes": "a full inode table",
    "read_only": "a read-only folder",
}
YEARS: Final = {"-365d": "a clock a year behind", "+365d": "a clock a year ahead"}

Tried = Callable[[str, str, int, int], None]
Missing = Callable[[str], NoReturn]


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    """What tries the faults."""
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="session")
def mounted(missing: Missing) -> Iterator[Forge]:
    """The same, with a store on a file system of its own."""
    if lacking := mounts.lacking():
        missing(lacking)
    with Forge(mounted=True) as forge:
        yield forge


@pytest.fixture(scope="session")
def clocks(missing: Missing) -> str:
    """The library that sets a program's clock."""
    found = debian.library("faketime/libfaketime.so.1")
    if found is None:
        missing("Debian's libfaketime isn't there: `make test-faults` fetches it")
    return str(found)


def note(tried: Tried, operation: str, kind: str, tally: Tally) -> None:
    """Count what was tried, and see that nothing failed."""
    tried(operation, kind, tally.cases.total(), tally.failed.total())
    assert not tally.told, "\n".join(tally.told)


# Where a thread that begins has no memory for its first steps, Python waits for it for ever; so
# memory is scarce only where no thread is begun.
@pytest.mark.scenario(41)
@pytest.mark.parametrize(
    ("operation", "limit"),
    [
        (operation, limit)
        for operation in faultstore.OPERATIONS
        for limit in LIMITS
        if limit != "memory" or operation in {"journal append", "register"}
    ],
)
def test_however_little_there_is_the_promises_hold(
    forge: Forge, tried: Tried, operation: str, limit: str
) -> None:
    note(tried, operation, LIMITS[limit], forge.tally(limit, operation))


@pytest.mark.scenario(41)
@pytest.mark.parametrize("limit", MOUNTED)
@pytest.mark.parametrize("operation", faultstore.OPERATIONS)
def test_however_full_the_disk_is_the_promises_hold(
    mounted: Forge, tried: Tried, operation: str, limit: str
) -> None:
    note(tried, operation, MOUNTED[limit], mounted.tally(limit, operation))


# By a clock that is behind, nothing is old enough to be collected, and nothing is.
@pytest.mark.parametrize(
    ("operation", "shift"),
    [
        (operation, shift)
        for operation in faultstore.OPERATIONS
        for shift in YEARS
        if (operation, shift) != ("gc", "-365d")
    ],
)
def test_a_clock_that_jumps_by_a_year_breaks_nothing(
    forge: Forge, tried: Tried, clocks: str, operation: str, shift: str
) -> None:
    env = {"LD_PRELOAD": clocks, "FAKETIME": shift}
    note(tried, operation, YEARS[shift], forge.tally("clock", operation, env))
