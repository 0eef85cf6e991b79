"""What the shell can complete: names that this machine knows, at no cost, and never an error."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.names import is_alias, is_experiment, parse_guid

if TYPE_CHECKING:
    import click

    from modeldrop.home import Home


def experiments(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the experiments that this home has a counter of."""
    home = _home(ctx)
    names = _names(home.paths.refs) if home else []
    return [name for name in names if is_experiment(name) and name.startswith(incomplete)]


def aliases(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the aliases that this home has a counter of, such as churn@champion."""
    home = _home(ctx)
    names = _names(home.paths.refs) if home else []
    found = [name for name in names if name.startswith(incomplete) and "@" in name]
    return [name for name in found if is_alias(name.partition("@")[2])]


def alias_names(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the names of those aliases without their experiments."""
    found = {name.partition("@")[2] for name in aliases(ctx, "")}
    return sorted(name for name in found if name.startswith(incomplete))


def runs(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the runs in staging, and those that this home stored."""
    home = _home(ctx)
    if home is None:
        return []
    stored = [
        name.removesuffix(".json")
        for folder in _names(home.paths.service / "runs")
        for name in _names(home.paths.service / "runs" / folder)
    ]
    found = {parse_guid(name) for name in (*stored, *_names(home.staging))}
    # A colon ends a word in bash, so a reference is completed without `run:`.
    return sorted(guid for guid in found if guid and guid.startswith(incomplete))


def references(ctx: click.Context, incomplete: str) -> list[str]:
    """Return experiments and aliases, and runs once a digit or more is given."""
    found = [*experiments(ctx, incomplete), *aliases(ctx, incomplete)]
    return [*found, *(runs(ctx, incomplete) if incomplete else [])]


def _home(ctx: click.Context) -> Home | None:
    from modeldrop.home import open_home  # noqa: PLC0415 - only to complete

    named = ctx.find_root().params.get("home")
    # Whatever is wrong with the home: there is nothing to complete, and nobody to tell.
    with contextlib.suppress(Exception):
        return open_home(Path(named).expanduser() if named else None)
    return None


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(folder))
    return []
