"""`modeldrop retire`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_references,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop_cli.objects.stored import RetiredObject
    from modeldrop_cli.output import Output


@click.command(
    "retire",
    cls=Command,
    examples=(
        ('modeldrop retire churn/3 --reason "trained on the wrong data"', "nobody is to use it"),
        ("modeldrop retire churn/3 --undo", "takes that back, while its bytes are there"),
    ),
    exits=exits(
        10,
        11,
        12,
        20,
        30,
        e10="not found: the home or the version; with --undo also its bytes, which were let go",
        e11="an alias is on it, or it is live at a target; with --undo: it never was retired",
    ),
)
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@click.option("--reason", metavar="TEXT", default="", help="Why; it stays with the version.")
@click.option("--by", metavar="WHO", help="Who retires it; you, by default.")
@click.option("--undo", is_flag=True, help="Take back that it was retired.")
@output_options
def command(reference: str, reason: str, by: str | None, undo: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Say that a version is not to be used any more.

    Prints the version: churn/3. Its number stays for ever, and it is shown with who retired it,
    when and why. It can't be promoted any more, and registering the same artifact again needs
    --again. Two weeks later its bytes may go: `modeldrop gc` marks them, and collects them a day
    after that. A version that an alias is on, or that is live at a target, can't be retired.
    """
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        act = repository.unretire if undo else repository.retire
        said = act(reference, reason=reason, by=by)
        record = said.retirement
        if output.json:
            told: RetiredObject = {
                "experiment": record.experiment,
                "version": record.version,
                "retired": record.retired,
                "changed": said.created,
                "reason": record.reason,
                "host": record.host,
                "retired_by": record.retired_by,
                "retired_at": record.retired_at,
            }
            output.document(told)
        else:
            output.id(record.name)
            now = "retired" if record.retired else "not retired any more"
            if not said.created:
                since = f"{when(record.retired_at)}, by {record.retired_by}@{record.host}"
                output.say(f"It is {now} since {since}; nothing was changed.")
            else:
                output.say(f"It is {now}.")
        share(repository)
