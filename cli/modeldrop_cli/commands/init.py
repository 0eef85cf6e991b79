"""`modeldrop init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, output_options
from modeldrop_cli.making import absolute, home_folder, lasting_url, making_options, parsed

if TYPE_CHECKING:
    from modeldrop.repository import Repository
    from modeldrop_cli.objects.starting import InitObject
    from modeldrop_cli.output import Output


@click.command(
    "init",
    cls=Command,
    examples=(
        ("modeldrop init", "makes .mlops/ here, with staging folder and backend inside"),
        (
            "modeldrop init --backend s3://models/prod --staging ~/drop",
            "the bytes go to S3; models are dropped in ~/drop",
        ),
        (
            "modeldrop init --backend s3://models --option endpoint_url=http://minio:9000",
            "another server than the usual one",
        ),
    ),
    exits=exits(11, 30, e11="there is a home, with another backend or staging folder"),
)
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--backend",
    metavar="URL",
    default="",
    help="Where the bytes go: a folder, s3://…, az://…, gs://…, sftp://…",
)
@making_options
@output_options
def command(
    directory: Path | None,
    backend: str,
    staging: str,
    options: tuple[str, ...],
    single_writer: bool,  # noqa: FBT001 - click's signature
    network_home: bool,  # noqa: FBT001 - click's signature
    output: Output,
) -> None:
    """Make a home, and try its backend.

    The home is DIRECTORY/.mlops, in the working folder by default, or what MODELDROP_HOME or
    --home names. Writers race at the backend, to see whether create-if-absent holds there. Where
    a home is there already nothing changes.
    """
    from modeldrop.repository import Repository  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - the same

    root = home_folder(directory, output)
    repository, created = Repository.init(
        root,
        backend=lasting_url(backend),
        staging=absolute(staging),
        options=parsed(options),
        single_writer=single_writer,
        network_home=network_home,
    )
    with repository:
        _tell(repository, created=created, output=output)
        if created:
            share(repository)


def _tell(repository: Repository, *, created: bool, output: Output) -> None:
    from modeldrop import admission  # noqa: PLC0415 - not for `--help`

    home = repository.home
    probe = home.probe()
    holds = probe is not None and probe.holds
    single_writer = home.config.backend.single_writer
    if output.json:
        told: InitObject = {
            "home": str(home.paths.root),
            "created": created,
            "backend": home.backend_url,
            "staging": str(home.staging),
            "repository": home.repository,
            "create_if_absent_holds": holds,
            "single_writer": single_writer,
        }
        output.document(told)
        return
    if output.quiet:
        output.path(home.paths.root)
        return
    condition, writer = "holds", None if holds else admission.writer_of(repository.backend)
    if writer is not None and writer.home != home.id:
        condition = f"does not hold: {admission.described(writer)} writes, this one reads"
    elif not holds:
        condition = "does not hold: single writer"
    output.say("Made a home." if created else "There is a home already; nothing was changed.")
    output.fields(
        {
            "home": str(home.paths.root),
            "backend": home.backend_url,
            "staging": str(home.staging),
            "create if absent": condition,
        }
    )
    output.say(
        "Next: start `modeldropd`, and drop models with `modeldrop drop FILE -e EXPERIMENT`."
    )
