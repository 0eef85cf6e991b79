"""A home for one command: where there is none, and the environment names a backend.

A job in CI has no home that stays. Numbers, bytes and records are at the backend all the same, and
what the command put down in its journal is shared when it ends; the home goes with the command.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from modeldrop.errors import ConfigError
from modeldrop.home import FOLDER, VARIABLE
from modeldrop.repository import Repository

BACKEND: Final = "MODELDROP_BACKEND"


class PassingRepository(Repository):
    """A repository whose home is removed when it is closed."""

    def close(self) -> None:
        """Let go of threads and connections, and of the home."""
        try:
            super().close()
        finally:
            shutil.rmtree(self.home.paths.root.parent)


def open_passing(url: str) -> PassingRepository:
    """Make a home for one command; its backend is raced as by `init`.

    Raises:
        ModeldropError: as for `Repository.init`; no home is left behind.
    """
    folder = Path(tempfile.mkdtemp(prefix="modeldrop-"))
    try:
        made, _ = PassingRepository.init(folder / FOLDER, backend=url)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return made


def refuse_another(repository: Repository) -> None:
    """Raise if a home that was found by the folder alone has another backend than is named.

    Raises:
        ConfigError: it has.
    """
    named, has = os.environ.get(BACKEND), repository.home.backend_url
    if named and not os.environ.get(VARIABLE) and named.rstrip("/") != has.rstrip("/"):
        root = repository.home.paths.root
        message = f"{BACKEND} names {named}, and the home that is found here, {root}, has {has}"
        raise ConfigError(message, hint=f"unset {BACKEND}, or name a home by {VARIABLE} or --home")
