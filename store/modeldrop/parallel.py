"""The same work for many things, in several threads; the first that goes wrong ends all of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar

from modeldrop.errors import Interrupted
from modeldrop.records import StoredFile

S = TypeVar("S")
T = TypeVar("T")

# How many things wait for each thread, so that none waits for whoever takes the results.
_WAITING: Final = 4

Progress = Callable[[int], None]
"""Called with the number of bytes that were just moved."""


def in_parallel(
    threads: int,
    work: Callable[[StoredFile, Progress], T],
    items: Iterable[StoredFile],
    moved: Progress = lambda _: None,
) -> Iterator[tuple[StoredFile, T]]:
    """Yield each file with what `work` returned for it, in order; `moved` is told of all of them.

    Raises:
        BaseException: what went wrong first; the others stop at the next byte that they move.
    """
    every = list(items)
    if len(every) == 1:
        yield every[0], work(every[0], moved)
        return
    shared = _Shared(every, work, moved)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for each in [pool.submit(shared.some) for _ in range(min(threads, len(every)))]:
                each.result()
        except BaseException:
            # They are looked at in turn; what went wrong first is what has to be said.
            if shared.causes:
                raise shared.causes[0] from None
            raise
        finally:
            shared.stop.set()
    yield from ((file, shared.done[number]) for number, file in enumerate(every))


def in_turn(
    pool: ThreadPoolExecutor, threads: int, work: Callable[[S], T], items: Iterable[S]
) -> Iterator[T]:
    """Yield what `work` returns for each item, in their order, done by the threads of a pool.

    Unlike `pool.map`, which makes a task for every item before the first is done (some KiB each),
    this takes an item only when one of those before it is done and yielded.

    Raises:
        BaseException: what went wrong with an item, when its turn comes.
    """
    under_way: deque[Future[T]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(work, item))
            if len(under_way) >= threads * _WAITING:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        # Of a store that is away, say, nobody asks for more.
        for each in under_way:
            each.cancel()


class _Shared(Generic[T]):
    def __init__(
        self, every: list[StoredFile], work: Callable[[StoredFile, Progress], T], moved: Progress
    ) -> None:
        self._every = every
        self._work = work
        self._moved = moved
        # To take the next number is one step of the interpreter, and costs far less than a task
        # of a pool for each file.
        self._numbers = iter(range(len(every)))
        self.done: dict[int, T] = {}
        self.stop = threading.Event()
        self.causes: list[BaseException] = []

    def some(self) -> None:
        """Do what nobody has begun, one after the other."""
        try:
            for number in self._numbers:
                if self.stop.is_set():
                    return
                self.done[number] = self._work(self._every[number], self._counted)
        except BaseException as error:
            self.causes.append(error)
            self.stop.set()
            raise

    def _counted(self, size: int) -> None:
        # Whoever failed or was interrupted doesn't wait for gigabytes of the others.
        if self.stop.is_set():
            message = "stopped, since another file failed"
            raise Interrupted(message)
        self._moved(size)
