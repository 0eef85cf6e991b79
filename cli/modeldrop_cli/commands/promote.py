"""`modeldrop promote`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_alias_names,
    complete_references,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.moving import moving_options, tell_moved

if TYPE_CHECKING:
    from modeldrop_cli.output import Output


@click.command(
    "promote",
    cls=Command,
    examples=(
        ("modeldrop promote churn/3 champion", "churn@champion means version 3 from now on"),
        (
            'modeldrop promote churn/3 champion --expect 2 --reason "better recall"',
            "only if it is on version 2 still: nobody else's move is undone",
        ),
        (
            "modeldrop promote churn@challenger champion",
            "puts one alias on the version of another",
        ),
    ),
    exits=exits(
        10,
        11,
        12,
        20,
        30,
        e2="a wrong call or name: git would refuse it, it is `latest` or a number",
        e10="not found: the home, the version or the alias",
        e11="with --expect: the alias is on another version; it is said who moved it",
    ),
)
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@click.argument("alias", metavar="ALIAS", shell_complete=complete_alias_names)
@moving_options
@output_options
def command(
    reference: str, alias: str, expect: int | None, reason: str, by: str | None, output: Output
) -> None:
    """Put an alias on a version.

    Prints the alias: churn@champion. ALIAS is its name alone; the experiment is that of REF. An
    alias that is on that version already stays as it is, also with --expect.
    """
    with open_repository() as repository:
        moved = repository.promote(reference, alias, expect=expect, reason=reason, by=by)
        tell_moved(repository, moved, output)
