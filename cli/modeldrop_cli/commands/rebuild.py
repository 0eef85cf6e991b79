"""`modeldrop rebuild`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options

if TYPE_CHECKING:
    from modeldrop.rebuild import Rebuilt
    from modeldrop_cli.objects.tending import RebuildObject
    from modeldrop_cli.output import Output

_SOURCES = {
    "backend": "from what this home had shared",
    "home": "from what is left of it here",
    "nothing": "anew: nothing of it is left, here or at the backend",
}


@click.command(
    "rebuild",
    cls=Command,
    examples=(
        ("modeldrop rebuild", "makes the journal of this home whole again"),
        ("modeldrop rebuild && modeldrop verify", "and looks whether all is well"),
    ),
    exits=exits(
        3,
        10,
        12,
        30,
        e3="the journal is rebuilt, but for what can't be read at the backend",
        e10="there is no home: `modeldrop clone URL` makes one from the backend",
        e12="the service of this home runs: stop it first",
    ),
)
@output_options
def command(output: Output) -> None:
    """Make a lost or damaged journal again.

    It is taken from what is left of it, from what this home has shared, and from the records at
    the backend that name this home. A journal that is whole stays as it is. What was there is kept
    in torn/ of the home. Where the whole home is gone, `modeldrop clone` makes another one. With -q
    the number of the last entry is printed.
    """
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    with open_repository(lasting=True) as repository:
        rebuilt = repository.rebuild()
        head = repository.journal.head()
        seq = head.seq if head else 0
        if output.json:
            told: RebuildObject = {
                "source": rebuilt.source,
                "entries": rebuilt.entries,
                "recovered": rebuilt.recovered,
                "lost": rebuilt.lost,
                "seq": seq,
                "troubles": list(rebuilt.troubles),
            }
            output.document(told)
        elif output.quiet:
            output.id(str(seq))
        else:
            _tell(rebuilt, output)
        share(repository)
    if rebuilt.troubles:
        from modeldrop.errors import PartialFailure  # noqa: PLC0415 - only then

        raise PartialFailure(
            "; ".join(rebuilt.troubles),
            hint="`modeldrop verify` names all that is damaged; the rest is rebuilt",
            detail={"troubles": list(rebuilt.troubles)},
        )


def _tell(rebuilt: Rebuilt, output: Output) -> None:
    if rebuilt.source is None:
        output.say("The journal is whole.")
    else:
        output.say(
            f"The journal was rebuilt {_SOURCES[rebuilt.source]}: {rebuilt.entries} entries."
        )
    if rebuilt.recovered:
        output.say(
            f"{rebuilt.recovered} more were made again from records at the backend; they are of "
            "this moment, and say that they were rebuilt."
        )
    if rebuilt.source is not None and rebuilt.lost != 0:
        lost = (
            "How many entries are lost isn't known"
            if rebuilt.lost is None
            else f"Of {rebuilt.lost} entries what they said is lost"
        )
        output.say(f"{lost}, apart from what the records tell; runs and versions are not.")
