"""`modeldrop clone`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, output_options
from modeldrop_cli.making import absolute, home_folder, lasting_url, making_options, parsed

if TYPE_CHECKING:
    from modeldrop_cli.objects.starting import CloneObject
    from modeldrop_cli.output import Output


@click.command(
    "clone",
    cls=Command,
    examples=(
        ("modeldrop clone s3://models/team", "makes .mlops/ here, from what is at the backend"),
        (
            "modeldrop clone s3://models/team ~/ml --staging ~/drop",
            "makes ~/ml/.mlops; models are dropped in ~/drop",
        ),
    ),
    exits=exits(
        10,
        11,
        20,
        30,
        e10="there is no repository at the backend",
        e11="there is a home, with another backend or staging folder",
        e20="a journal was rewritten, cut or forked; the home is made, with the others",
    ),
)
@click.argument("url", metavar="URL")
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@making_options
@output_options
def command(
    url: str,
    directory: Path | None,
    staging: str,
    options: tuple[str, ...],
    single_writer: bool,  # noqa: FBT001 - click's signature
    network_home: bool,  # noqa: FBT001 - click's signature
    output: Output,
) -> None:
    """Make a home from a backend that others use.

    The home is DIRECTORY/.mlops, as for `init`. Runs and versions of all hosts are there at once,
    and what they did is fetched. Run it again where it was interrupted: it goes on.
    """
    from modeldrop.repository import Repository  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.sharing import (  # noqa: PLC0415 - the same
        journal_object,
        raise_troubles,
        share,
        tell_journals,
    )

    repository, journals = Repository.clone(
        home_folder(directory, output),
        lasting_url(url),
        staging=absolute(staging),
        options=parsed(options),
        single_writer=single_writer,
        network_home=network_home,
    )
    with repository:
        root = repository.home.paths.root
        if output.json:
            told: CloneObject = {
                "home": str(root),
                "backend": repository.home.backend_url,
                "staging": str(repository.home.staging),
                "repository": repository.home.repository,
                "journals": [journal_object(each) for each in journals],
            }
            output.document(told)
        elif output.quiet:
            output.path(root)
        else:
            output.say(f"Made a home, {root}.")
            tell_journals(journals, output)
        share(repository)
    raise_troubles(journals)
