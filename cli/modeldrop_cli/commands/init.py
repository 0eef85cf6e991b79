"""`modeldrop init`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from modeldrop_cli.command import Command, exits, home_option, output_options

if TYPE_CHECKING:
    from modeldrop.home import Home
    from modeldrop_cli.objects import InitObject
    from modeldrop_cli.output import Output

# `s3://bucket`, and also the slip `s3:bucket`, which the library tells from a path.
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


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
@click.option("--staging", metavar="DIR", default="", help="Where models are dropped.")
@click.option(
    "--option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    help="An option of the backend's driver, such as endpoint_url; no credentials.",
)
@click.option(
    "--single-writer",
    is_flag=True,
    help="Accept a backend that can't tell racing writers apart: only this home may write to it.",
)
@click.option(
    "--network-home",
    is_flag=True,
    help="Accept a home on a network file system, where nothing is promised.",
)
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

    root = _root(directory, output)
    repository, created = Repository.init(
        root,
        # A path that is typed is relative to the working folder; the home's settings last longer.
        backend=backend if _SCHEME.match(backend) else _absolute(backend),
        staging=_absolute(staging),
        options=_parsed(options),
        single_writer=single_writer,
        network_home=network_home,
    )
    with repository:
        _tell(repository.home, created=created, output=output)


def _root(directory: Path | None, output: Output) -> Path:
    from modeldrop.home import FOLDER, VARIABLE  # noqa: PLC0415 - not for `--help`

    flag, variable = home_option(), os.environ.get(VARIABLE)
    named = flag or variable
    if directory is None:
        return Path(named).expanduser().absolute() if named else Path.cwd() / FOLDER
    root = directory.expanduser().absolute() / FOLDER
    if flag:
        raise click.UsageError("DIRECTORY and --home both say where the home is to be")
    if variable and Path(variable).expanduser().absolute() != root:
        output.say(f"Note: {VARIABLE} is set, so other commands use {variable}, not this home.")
    return root


def _absolute(text: str) -> str:
    """Return a path that means the same from everywhere; links in it stay, as far as they can."""
    if not text:
        return ""
    path = Path(text).expanduser().absolute()
    return str(path.resolve() if ".." in path.parts else path)


def _parsed(options: tuple[str, ...]) -> dict[str, object]:
    """Return the driver's options; what reads as a number, true or false is one."""
    import json  # noqa: PLC0415 - not for `--help`

    parsed: dict[str, object] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not (key and equals):
            # The value is not repeated: it may be what should never be shown.
            raise click.BadParameter(
                f"{key!r} has no value: write KEY=VALUE", param_hint="--option"
            )
        try:
            found = json.loads(value)
        except ValueError:
            found = value
        parsed[key] = found if isinstance(found, bool | int | float | dict) else value
    return parsed


def _tell(home: Home, *, created: bool, output: Output) -> None:
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
    output.say("Made a home." if created else "There is a home already; nothing was changed.")
    output.fields(
        {
            "home": str(home.paths.root),
            "backend": home.backend_url,
            "staging": str(home.staging),
            "create if absent": "holds" if holds else "does not hold: single writer",
        }
    )
    output.say(
        "Next: start `modeldropd`, and drop models with `modeldrop drop FILE -e EXPERIMENT`."
    )
