"""One thing that the doctor looked at."""

from __future__ import annotations

from typing import Final

from modeldrop.errors import ModeldropError
from modeldrop.form import Json
from modeldrop.names import printable
from modeldrop.structs import Frozen

OK: Final = "ok"
WARNING: Final = "warning"
PROBLEM: Final = "problem"


class Check(Frozen):
    """What was found. A problem keeps something from working, a warning makes it worse."""

    name: str
    result: str
    """`ok`, `warning` or `problem`."""
    what: str
    todo: str = ""
    """What to do about it; empty where it is ok."""

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"check": self.name, "result": self.result, "what": self.what, "todo": self.todo}


def ok(name: str, what: str) -> Check:
    """Return a check that found nothing."""
    return Check(name, OK, printable(what))


def warning(name: str, what: str, todo: str) -> Check:
    """Return a check that found what makes something worse."""
    return Check(name, WARNING, printable(what), printable(todo))


def problem(name: str, what: str, todo: str) -> Check:
    """Return a check that found what keeps something from working."""
    return Check(name, PROBLEM, printable(what), printable(todo))


def failed(name: str, error: ModeldropError | OSError) -> Check:
    """Return the problem that an error is."""
    if isinstance(error, ModeldropError):
        return problem(name, error.message, error.hint)
    where = f"{error.filename}: " if error.filename else ""
    return problem(name, f"{where}{error.strerror}", "see to what is named, and try again")
