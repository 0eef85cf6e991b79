"""Asking again: a question may be repeated for as long as somebody likes to wait for the answer.

Only where nobody else repeats the work. The service asks once and leaves the rest to its queue,
which knows how many others are waiting for the same store.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from modeldrop.errors import BackendUnreachable

# An address that answers nothing takes longer than that to be given up once, and is not asked
# again: this is for connections that break.
_LONGEST: Final = 10.0
_PAUSE_FIRST: Final = 0.05

_T = TypeVar("_T")


def patiently(ask: Callable[[], _T]) -> _T:
    """Return the answer to a question that changes nothing, asked again while none comes.

    Raises:
        BackendUnreachable: none came in ten seconds.
        BackendError: the store answered with an error; that is not asked again.
    """
    until = time.monotonic() + _LONGEST
    pause = _PAUSE_FIRST
    while True:
        try:
            return ask()
        except BackendUnreachable:
            if time.monotonic() + pause > until:
                raise
        time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter, no secret
        pause *= 2
