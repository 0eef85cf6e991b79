"""`modeldrop push`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options

if TYPE_CHECKING:
    from modeldrop_cli.objects.sharing import PushObject
    from modeldrop_cli.output import Output


@click.command(
    "push",
    cls=Command,
    examples=(
        ("modeldrop push", "shares what this home did since the last time"),
        ("modeldrop push --all", "looks at all that was ever shared: after a bucket was put back"),
        ("modeldrop push --json | jq .entries", "how many entries were shared"),
    ),
    exits=exits(
        10,
        12,
        20,
        30,
        e10="there is no home",
        e12="another process does it; or the home was restored, and its service runs",
        e20="this home's journal is damaged, here or at the backend",
    ),
)
@click.option("--all", "whole", is_flag=True, help="Share again what is missing at the backend.")
@output_options
def command(whole: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Share what this home did.

    The service does it once a minute, and every command that writes at its end; by hand it is
    needed where one of them could not. What is shared are the entries of the journal: models and
    versions are at the backend from the beginning. A home that was restored from a copy takes a
    new id, and begins a new journal. With -q the number of the last entry is printed.
    """
    with open_repository(lasting=True) as repository:
        before = repository.home.id
        pushed = repository.push(renew=True, whole=whole)
        home = repository.home.id
    if output.json:
        told: PushObject = {
            "home": home,
            "entries": pushed.entries,
            "segments": pushed.segments,
            "seq": pushed.seq,
        }
        output.document(told)
    elif output.quiet:
        output.id(str(pushed.seq))
    else:
        if home != before:
            output.say(f"This home was restored from a copy: it was {before}, and is {home} now.")
        what = "1 entry" if pushed.entries == 1 else f"{pushed.entries} entries"
        output.say(f"Shared {what}." if pushed.entries else "There was nothing to share.")
