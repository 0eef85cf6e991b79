"""strace sees the same calls as `support.intercept`, and what it spoils is as well survived.

So what `test_calls` tries in forked processes are the calls that a command makes, and all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

import pytest

from support import debian, faultstore
from support.faultforge import Forge

pytestmark = pytest.mark.timeout(600)

# Of each call the first, which all operations make early, or not at all.
SPOILT: Final = {
    "fsync": "error=EIO",
    "fdatasync": "error=EIO",
    "ftruncate": "error=EIO",
    "rename": "signal=KILL",
    "link": "signal=KILL",
    "unlink": "signal=KILL",
}

Tried = Callable[[str, str, int, int], None]
Missing = Callable[[str], NoReturn]


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    """What runs the operations."""
    with Forge() as forge:
        yield forge


@pytest.fixture(scope="session")
def strace(missing: Missing) -> list[str]:
    """What strace is started by, if it can follow a process here."""
    found = debian.program("strace")
    if found is None:
        missing("Debian's strace isn't there: `make test-faults` fetches it")
    command = debian.start(found)
    if trouble := debian.trouble([*command, "-o", "/dev/null", "true"]):
        missing(trouble)
    return command


@pytest.mark.parametrize("operation", faultstore.OPERATIONS)
def test_it_sees_the_calls_that_faults_are_tried_at(
    forge: Forge, strace: list[str], operation: str
) -> None:
    ours, theirs = forge.tally("counted", operation), forge.tally("followed", operation, strace)
    assert not [*ours.told, *theirs.told]
    # Threads take turns as they like: what the service's engine asks how often isn't fixed.
    allowed = ours.cases.total() // 20 if operation == "scan" else 0
    difference = Counter(ours.cases)
    difference.subtract(theirs.cases)
    assert sum(map(abs, difference.values())) <= allowed, (ours.cases, theirs.cases)


@pytest.mark.parametrize("operation", faultstore.OPERATIONS)
def test_what_it_spoils_is_survived(
    forge: Forge, strace: list[str], tried: Tried, operation: str
) -> None:
    made = forge.tally("counted", operation).cases
    told = []
    for call, how in SPOILT.items():
        if made[call]:
            tally = forge.tally("meddled", operation, strace, f"{call}:{how}:when=1")
            tried(operation, f"strace: {how} at {call}", 1, tally.failed.total())
            told += tally.told
    assert not told, "\n".join(told)
