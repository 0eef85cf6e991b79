"""The same work for many things: in order, a few at a time, and no more of it once it failed."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modeldrop.parallel import in_turn


def test_results_come_in_order_and_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def take(item: int) -> int:
        taken.append(item)
        return item

    with ThreadPoolExecutor(2) as pool:
        results = in_turn(pool, 2, lambda item: -item, map(take, itertools.count()))

        assert [next(results) for _ in range(100)] == [-item for item in range(100)]
        assert len(taken) < 120
        del results


def test_what_waits_is_not_done_once_one_has_failed() -> None:
    done: list[int] = []
    goes_on = threading.Event()

    def work(item: int) -> None:
        done.append(item)
        if item == 0:
            message = "the store is away"
            raise ConnectionError(message)
        goes_on.wait(20)

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ConnectionError):
            list(in_turn(pool, 1, work, range(100)))
        goes_on.set()

    assert set(done) <= {0, 1}
