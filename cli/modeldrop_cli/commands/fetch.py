"""`modeldrop fetch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options

if TYPE_CHECKING:
    from modeldrop_cli.objects.sharing import FetchObject
    from modeldrop_cli.output import Output


@click.command(
    "fetch",
    cls=Command,
    examples=(
        ("modeldrop fetch && modeldrop log -n 10", "what happened last, on any host"),
        ("modeldrop fetch --json | jq '.journals[] | .host'", "the hosts that share"),
    ),
    exits=exits(
        10,
        12,
        20,
        30,
        e10="there is no home",
        e12="another process fetches",
        e20="a journal was rewritten, cut or forked; the others are fetched",
    ),
)
@output_options
def command(output: Output) -> None:
    """Get what other hosts did.

    Brings the journals of all other homes that share this backend up to date, for `modeldrop log`.
    The service does it once a minute. Runs and versions need none of this: they are read at the
    backend. With -q the ids of homes that had news are printed.
    """
    from modeldrop_cli.sharing import journal_object, raise_troubles, tell_journals  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        journals = repository.fetch()
    if output.json:
        told: FetchObject = {"journals": [journal_object(each) for each in journals]}
        output.document(told)
    elif output.quiet:
        for each in journals:
            if each.entries:
                output.id(each.home)
    else:
        tell_journals(journals, output)
    raise_troubles(journals)
