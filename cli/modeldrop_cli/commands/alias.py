"""`modeldrop alias`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_aliases,
    complete_experiments,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.moving import moving_options, tell_moved
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop.records import AliasMove
    from modeldrop_cli.objects.using import AliasesObject, AliasHistoryObject
    from modeldrop_cli.output import Output


@click.group("alias", subcommand_metavar="COMMAND …")
def command() -> None:
    """List aliases, show where one was, remove one."""


@command.command(
    "list",
    cls=Command,
    examples=(
        ("modeldrop alias list", "every alias with its version"),
        ("modeldrop alias list churn -q", "churn@challenger, churn@champion, one a line"),
    ),
    exits=exits(
        10,
        20,
        30,
        e10="there is no home",
        e20="a record is damaged; the others are listed",
    ),
)
@click.argument("experiment", required=False, shell_complete=complete_experiments)
@output_options
def list_aliases(experiment: str | None, output: Output) -> None:
    """List the aliases, with who put each where it is, when and why."""
    from modeldrop_cli.stored import move_object, tell_damaged  # noqa: PLC0415 - not for `--help`

    damaged: list[IntegrityError] = []
    with open_repository() as repository:
        found = repository.aliases(experiment, damaged.append)
    if output.json:
        told: AliasesObject = {"aliases": [move_object(each) for each in found]}
        output.document(told)
    elif output.quiet:
        for each in found:
            output.id(each.name)
    else:
        output.table(
            ("alias", "version", "moved", "by", "reason"),
            [(each.name, _version(each), *_who(each)) for each in found],
        )
        if not (found or damaged):
            output.say("There is no alias. `modeldrop promote REF ALIAS` makes one.")
    tell_damaged(damaged)


@command.command(
    "history",
    cls=Command,
    examples=(
        ("modeldrop alias history churn@champion", "who moved it, when and why, newest first"),
        ("modeldrop show churn@champion~2", "the version that its move 2 put it on"),
    ),
    exits=exits(10, 20, 30, e10="there is no home, or there never was such an alias"),
)
@click.argument("alias", metavar="EXPERIMENT@ALIAS", shell_complete=complete_aliases)
@output_options
def history(alias: str, output: Output) -> None:
    """Show every move of an alias, newest first.

    It is read at the backend, so it is the same for everybody; an alias that was removed has its
    history still. With -q the moves are printed as references: churn@champion~2.
    """
    from modeldrop_cli.stored import move_object  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        moves = repository.alias_moves(alias)[::-1]
    if output.json:
        told: AliasHistoryObject = {"moves": [move_object(each) for each in moves]}
        output.document(told)
    elif output.quiet:
        for each in moves:
            output.id(each.reference)
    else:
        output.table(
            ("move", "version", "moved", "by", "reason"),
            [(str(each.move), _version(each), *_who(each)) for each in moves],
            right="move",
        )


@command.command(
    "rm",
    cls=Command,
    examples=(
        ('modeldrop alias rm churn@challenger --reason "lost"', "churn@challenger is no more"),
        ("modeldrop alias rm churn@challenger --expect 4", "only if it is on version 4 still"),
    ),
    exits=exits(
        10,
        11,
        12,
        20,
        30,
        e10="there is no home, or there never was such an alias",
        e11="with --expect: the alias is on another version; it is said who moved it",
    ),
)
@click.argument("alias", metavar="EXPERIMENT@ALIAS", shell_complete=complete_aliases)
@moving_options
@output_options
def remove(alias: str, expect: int | None, reason: str, by: str | None, output: Output) -> None:
    """Remove an alias.

    Its version and its history stay, and it may be made again. One that was removed already
    stays as it is.
    """
    with open_repository() as repository:
        moved = repository.remove_alias(alias, expect=expect, reason=reason, by=by)
        tell_moved(repository, moved, output)


def _version(move: AliasMove) -> str:
    return f"{move.experiment}/{move.version}" if move.version else "removed"


def _who(move: AliasMove) -> tuple[str, str, str]:
    return when(move.moved_at), f"{move.moved_by}@{move.host}", move.reason
