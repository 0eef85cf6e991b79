"""The same work for many files, in several threads; the first that goes wrong ends all of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from modeldrop.errors import Interrupted
from modeldrop.records import StoredFile

T = TypeVar("T")

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
    stop = threading.Event()
    causes: list[BaseException] = []

    def check() -> None:
        # Whoever failed or was interrupted doesn't wait for gigabytes of the others.
        if stop.is_set():
            message = "stopped, since another file failed"
            raise Interrupted(message)

    def counted(size: int) -> None:
        check()
        moved(size)

    def one(file: StoredFile) -> T:
        try:
            check()
            return work(file, counted)
        except BaseException as error:
            causes.append(error)
            stop.set()
            raise

    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from zip(every, pool.map(one, every), strict=True)
        except BaseException:
            # Results come in order; what went wrong first is what has to be said.
            if causes:
                raise causes[0] from None
            raise
        finally:
            stop.set()
