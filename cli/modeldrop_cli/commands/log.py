"""`modeldrop log`."""

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
    from modeldrop.journal import Entry
    from modeldrop_cli.output import Output


@click.command(
    "log",
    cls=Command,
    examples=(
        ("modeldrop log -n 10", "the last ten entries of the journal"),
        ("modeldrop log churn", "what happened to churn"),
        ("modeldrop log churn@champion", "who moved this alias, when and why"),
        ("modeldrop log --json | jq -r 'select(.kind == \"registered\").user'", "who registered"),
    ),
    exits=exits(10, 20, e10="there is no home", e20="a journal is damaged"),
)
@click.argument("reference", metavar="[REF]", required=False, shell_complete=complete_references)
@click.option("-n", "most", metavar="N", type=click.IntRange(min=1), help="Show N entries at most.")
@output_options
def command(reference: str | None, most: int | None, output: Output) -> None:
    """Show what happened, newest first.

    That is what this home did, and what other hosts did as far as it was fetched (`modeldrop
    fetch`); with REF, what was done to that. JSON is one object for each entry, one a line. With -q
    the entries' numbers are printed, those of another home behind its id: HOME/7.
    """
    from itertools import islice  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        told, mine = False, repository.home.id
        for entry in islice(repository.log(reference), most):
            told = True
            if output.json:
                output.stream(entry.as_json())
            elif output.quiet:
                output.id(str(entry.seq) if entry.home == mine else f"{entry.home}/{entry.seq}")
            else:
                # Line by line: a journal may be longer than a table can be.
                output.id(_line(entry))
    if reference is not None and not told:
        output.say(f"The journals that are here know nothing of {reference}.")


def _line(entry: Entry) -> str:
    about = " ".join(entry.about)
    who = f"{entry.user}@{entry.host}"
    said = str(entry.details.get("description") or entry.details.get("reason") or "")
    line = f"{entry.seq:>6}  {when(entry.at)}  {entry.kind:<13}  {about}  {who}"
    return f"{line}  {said}" if said else line
