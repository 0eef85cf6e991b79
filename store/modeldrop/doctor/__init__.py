"""What is off with a home, its staging folder, its backend or its service, and what to do.

    for check in diagnose(root):
        print(check.result, check.name, check.what, check.todo)

`verify` asks whether what was stored is still what was stored; this asks whether the place that
it is stored from is in order. Nothing is changed, but for a file in staging that is gone at once,
and a race at the backend where `probe` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from modeldrop.doctor import at_home, at_staging, at_store
from modeldrop.doctor.check import OK, PROBLEM, WARNING, Check, failed
from modeldrop.errors import HomeNotFound, ModeldropError
from modeldrop.repository import Repository

__all__ = ["OK", "PROBLEM", "WARNING", "Check", "diagnose"]


def diagnose(root: Path | None = None, *, probe: bool = False) -> Iterator[Check]:
    """Yield what was looked at and what was found; a check that fails ends no other one.

    `probe` races for create-if-absent at the backend again, which writes there.

    Raises:
        HomeNotFound: there is no home to look at.
    """
    try:
        repository = Repository.open(root)
    except HomeNotFound:
        raise
    except ModeldropError as error:
        # Without its settings nothing else is known: not even where staging is.
        yield failed("home", error)
        return
    with repository:
        home = repository.home
        parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
            ("home", lambda: at_home.home(home)),
            ("journal", lambda: at_home.journal(home, repository.journal)),
            ("intents", lambda: at_home.intents(home)),
            ("clock", lambda: at_home.clock(repository.journal)),
            ("service", lambda: at_home.service(home)),
            ("backend", lambda: at_store.backend(repository, probe=probe)),
            ("space", lambda: at_store.space(repository)),
            ("staging", lambda: at_staging.folder(home)),
            ("events", lambda: at_staging.events(home)),
            ("lease", lambda: at_staging.lease(home)),
            ("sharing", lambda: at_staging.sharing(home)),
        )
        for name, part in parts:
            try:
                yield from part()
            except (ModeldropError, OSError) as error:
                yield failed(name, error)
