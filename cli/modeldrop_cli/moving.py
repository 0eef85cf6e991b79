"""What `promote` and `alias rm` have in common: an alias that moves, and how that is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.promotion import Moved
    from modeldrop.repository import Repository
    from modeldrop_cli.objects.using import PromotedObject
    from modeldrop_cli.output import Output

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def moving_options(function: Decorated) -> Decorated:
    """Give a command the options by which an alias is moved."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS: Final = (
    click.option(
        "--expect",
        metavar="N",
        type=click.IntRange(min=0),
        help="Only if the alias is on version N now; 0 is on none.",
    ),
    click.option("--reason", metavar="TEXT", default="", help="Why; it stays in the history."),
    click.option("--by", metavar="WHO", help="Who moves it; you, by default."),
)


def tell_moved(repository: Repository, moved: Moved, output: Output) -> None:
    """Print where an alias is now, say what it was, and share it."""
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.stored import move_object  # noqa: PLC0415 - not for `--help`

    move = moved.move
    if output.json:
        told: PromotedObject = {**move_object(move), "moved": moved.created}
        output.document(told)
    else:
        output.id(move.name)
        now = f"on {move.experiment}/{move.version}" if move.version else "removed"
        if not moved.created:
            since = f"{when(move.moved_at)}, by {move.moved_by}@{move.host}"
            output.say(f"It is {now} since {since}; nothing was changed.")
        else:
            before = f"{move.experiment}/{move.before}" if move.before else "no version"
            output.say(f"It is {now} now; before it was on {before}.")
    share(repository)
