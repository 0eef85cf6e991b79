"""Time that passes for whoever collects, and collecting in processes that die."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from modeldrop import Repository, gc
from modeldrop.gc import Collected
from modeldrop.letting_go import Clock


def after(days: float) -> Clock:
    """Return the clock of so many days from now, by which host and backend agree."""
    at = datetime.now(UTC) + timedelta(days=days)
    return Clock(at, at)


def collect(repository: Repository, days: float, *, dry_run: bool = False) -> list[Collected]:
    """Collect what is stored, so many days from now."""
    before = gc._clock
    gc._clock = lambda _: after(days)  # type: ignore[assignment] # the same, with a name it lacks
    try:
        return gc.collect_stored(repository._sequences(), dry_run=dry_run)
    finally:
        gc._clock = before


def collect_at(home: str, days: float) -> list[str]:
    """Collect in a process of its own; return what is gone."""
    with Repository.open(home) as repository:
        return [each.where for each in collect(repository, days)]


def retire_at(home: str, reference: str) -> bool:
    """Retire a version in a process of its own."""
    with Repository.open(home) as repository:
        return repository.retire(reference).created


def gone(found: list[Collected], kind: str) -> set[str]:
    """Return where what was found of a kind is."""
    assert not [each.trouble for each in found if each.trouble]
    return {each.where for each in found if each.kind == kind}


class _Once(logging.Handler):
    def __init__(self, step: str, then: Callable[[], object]) -> None:
        super().__init__(logging.DEBUG)
        self._step, self._then = f"step: {step}", [then]

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == self._step and self._then:
            self._then.pop()()


@contextmanager
def at_step(step: str, then: Callable[[], object]) -> Iterator[None]:
    """Have something happen the first time that a step is done, in the middle of all else."""
    logger = logging.getLogger("modeldrop")
    level, handler = logger.level, _Once(step, then)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
