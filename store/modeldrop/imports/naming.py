"""What an experiment from elsewhere is called here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from modeldrop.errors import InvalidName, UsageError
from modeldrop.names import check_experiment, is_experiment, printable

_OTHER: Final = re.compile(r"[^A-Za-z0-9._-]+")
_MOST: Final = 100


class Naming:
    """Names here by names there: the same, or what is nearest and allowed."""

    def __init__(self, chosen: Mapping[str, str]) -> None:
        """Use the names that the user chose, by those there.

        Raises:
            InvalidName: one of them is no valid name.
        """
        self._chosen = {name: check_experiment(here) for name, here in chosen.items()}

    def here(self, name: str) -> str:
        """Return what an experiment is called here.

        Raises:
            InvalidName: nothing of its name is allowed here.
        """
        chosen = self._chosen.get(name)
        if chosen is not None:
            return chosen
        if is_experiment(name):
            return name
        near = nearest(name)
        if not is_experiment(near):
            message = f"{printable(name)!r} can't be the name of an experiment here"
            raise InvalidName(message, hint="choose one: `--name OLD=NEW`")
        return near

    def check(self, names: Iterable[str]) -> None:
        """Return if no two of these have one name here.

        Raises:
            UsageError: two have.
        """
        taken: dict[str, str] = {}
        for name in sorted(set(names)):
            try:
                here = self.here(name)
            except InvalidName:
                continue  # told of where it is imported
            if here in taken:
                both = f"{printable(taken[here])!r} and {printable(name)!r}"
                message = f"{both} would both be called {here!r} here"
                raise UsageError(message, hint="choose a name for one: `--name OLD=NEW`")
            taken[here] = name


def nearest(name: str) -> str:
    """Return what of a name may be in one here; whether that is one has to be checked."""
    return _OTHER.sub("-", name).lstrip("._-")[:_MOST].rstrip("-")
