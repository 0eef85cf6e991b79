"""`modeldrop import`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modeldrop.imports.elsewhere import Left, Source
    from modeldrop.imports.report import Report
    from modeldrop_cli.objects.sharing import ImportObject
    from modeldrop_cli.output import Output

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_TRACKING: Final = "MLFLOW_TRACKING_URI"
_EXITS: Final = exits(
    3,
    10,
    11,
    12,
    20,
    30,
    e3="something could not be carried over this time; each is named",
    e10="there is no home, or nothing at that place",
    e11="something else has its number or its GUID here; the rest is imported",
    e20="what is read is damaged, or a file changed while it was read",
)


@click.group("import", subcommand_metavar="COMMAND …")
def command() -> None:
    """Import from MLflow, MLOps.NET or a bundle."""


def _import_options(function: Decorated) -> Decorated:
    """Give a command what every import can be told, as `names`, `leave_vacant` and so on."""
    for option in (
        click.option(
            "--name",
            "names",
            metavar="OLD=NEW",
            multiple=True,
            help="Call the experiment OLD there NEW here; may be repeated.",
        ),
        click.option(
            "--leave-vacant",
            is_flag=True,
            help="Leave numbers vacant for ever whose bytes can't be had, and go on after them.",
        ),
        click.option("--dry-run", is_flag=True, help="Only show what would be imported."),
        click.option("--by", metavar="WHO", help="Who imports it; you, by default."),
    ):
        function = option(function)
    return output_options(function)


@command.command(
    "mlopsnet",
    cls=Command,
    examples=(
        (
            "modeldrop import mlopsnet .mlops/local.db .mlops/model-repository",
            "all that has a place",
        ),
        (
            "modeldrop import mlopsnet local.db model-repository --dry-run",
            "what would be imported, and what could not be",
        ),
        (
            "modeldrop import mlopsnet local.db model-repository --target Production=/srv/models",
            "what was deployed last to its target Production is deployed there",
        ),
    ),
    exits=_EXITS,
)
@click.argument("database", metavar="DB", type=click.Path(path_type=Path))
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--target",
    "targets",
    metavar="NAME=URL",
    multiple=True,
    help="Make its target NAME a target at URL, and deploy what is live there; may be repeated.",
)
@_import_options
def mlopsnet(
    database: Path,
    folder: Path,
    targets: Sequence[str],
    output: Output,
    **options: Any,  # noqa: ANN401 - those of `_import_options`
) -> None:
    """Import MLOps.NET: its SQLite file, and its folder model-repository.

    Experiments, runs with their metrics and hyperparameters, models, and versions under the numbers
    that they have there, with their dates and people. Bytes are copied and checked. Its deployment
    targets have no URL, so they are told of, and made only where `--target` gives one. Run it again
    as often as you like: what is here already stays as it is.
    """
    from modeldrop.imports import opening  # noqa: PLC0415 - not for `--help`

    where = _pairs(targets, "--target", "NAME=URL", "Production=s3://models/live", first=True)
    _bring(lambda: opening.mlopsnet(database, folder), options, output, where)


@command.command(
    "mlflow",
    cls=Command,
    examples=(
        ("modeldrop import mlflow mlruns", "a folder that MLflow wrote"),
        ("modeldrop import mlflow sqlite:///mlflow.db", "its database, with mlruns/ beside it"),
        (
            "modeldrop import mlflow --artifacts /srv/mlartifacts",
            "the one of MLFLOW_TRACKING_URI, so no password is in the command",
        ),
    ),
    exits=_EXITS,
)
@click.argument("where", metavar="[PATH|URL]", required=False)
@click.option(
    "--artifacts",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder that artifacts may be in; by default those beside the database.",
)
@_import_options
def mlflow(
    where: str | None,
    artifacts: Sequence[Path],
    output: Output,
    **options: Any,  # noqa: ANN401 - those of `_import_options`
) -> None:
    """Import MLflow: a folder mlruns, or a tracking database.

    Runs with their metrics, parameters, tags and artifacts; registered models as experiments, with
    versions under the numbers that they have there; aliases, and the stages Production and
    Staging as aliases. A database other than SQLite needs `modeldrop[mlflow]` and its driver. Run
    it again as often as you like: what is here already stays as it is.
    """
    from modeldrop.errors import UsageError  # noqa: PLC0415 - not for `--help`
    from modeldrop.imports import opening  # noqa: PLC0415 - not for `--help`

    found = where or os.environ.get(_TRACKING)
    if not found:
        message = f"nothing says what to import, and {_TRACKING} isn't set"
        raise UsageError(message, hint="name the folder `mlruns`, or the database's URL")
    _bring(lambda: opening.mlflow(found, artifacts), options, output)


@command.command(
    "bundle",
    cls=Command,
    examples=(
        ("modeldrop import bundle churn.bundle", "what `modeldrop export` wrote elsewhere"),
        ("modeldrop import bundle churn.bundle --name churn=churn-lab", "under another name"),
    ),
    exits=_EXITS,
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@_import_options
def bundle(path: Path, output: Output, **options: Any) -> None:  # noqa: ANN401 - those of `_import_options`
    """Import a bundle that `modeldrop export` wrote.

    Into the repository that it came from, a mirror of it, or another one. Numbers are kept, and
    every byte is checked. Run it again as often as you like.
    """
    from modeldrop.imports import opening  # noqa: PLC0415 - not for `--help`

    _bring(lambda: opening.bundle(path), options, output)


def _bring(
    opened: Callable[[], AbstractContextManager[Source]],
    options: dict[str, Any],
    output: Output,
    targets: dict[str, str] | None = None,
) -> None:
    from modeldrop.imports.carrying import Options, carry  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    chosen = Options(
        names=_pairs(options["names"], "--name", "OLD=NEW", "Old name=new"),
        leave_vacant=options["leave_vacant"],
        dry_run=options["dry_run"],
        by=options["by"],
        targets=targets or {},
    )
    with open_repository() as repository, opened() as source:
        with output.progress(f"Importing from {source.called}", None) as moved:
            report = carry(repository, source, chosen, moved)
        if output.json:
            # The library gives plain JSON; tests hold it against the type.
            output.document(cast("ImportObject", report.as_json()))
        else:
            _tell(report, output)
        if not report.dry_run:
            share(repository)
    _fail(report)


def _pairs(
    given: Sequence[str], option: str, form: str, example: str, *, first: bool = False
) -> dict[str, str]:
    """Return what an option gave, split at its last `=`, or at its first one."""
    from modeldrop.errors import UsageError  # noqa: PLC0415 - not for `--help`

    if any("=" not in each for each in given):
        message = f"`{option}` takes {form}"
        raise UsageError(message, hint=f'write it so: `{option} "{example}"`')
    # A URL may have one of its own, and so may a name there.
    return dict((each.partition if first else each.rpartition)("=")[::2] for each in given)


def _tell(report: Report, output: Output) -> None:
    would = "would be imported" if report.dry_run else "imported"
    if output.quiet:
        return
    output.table(
        ("what", would, "here already"),
        [
            (what, str(count.created), str(count.there))
            for what, count in sorted(report.counts.items())
        ],
        right="imported here already",
    )
    for there, here in sorted(report.renamed.items()):
        output.say(f"{there} is called {here} here.")
    for title, several in (
        ("has no place here, or stays as it is", report.left),
        ("waits", report.waiting),
        ("is something else here", report.conflicts),
    ):
        if several:
            output.blank()
            output.table((title, "name", "reason"), [_row(each) for each in several])


def _row(left: Left) -> tuple[str, str, str]:
    return left.kind, left.name, left.reason


def _fail(report: Report) -> None:
    """Raise if not all that has a place here is here.

    Raises:
        Conflict, PartialFailure: so it is.
    """
    from modeldrop.errors import Conflict, PartialFailure  # noqa: PLC0415 - only then

    def told(several: list[Left]) -> str:
        more = f", and {len(several) - 3} more" if several[3:] else ""
        return "; ".join(f"{each.kind} {each.name}: {each.reason}" for each in several[:3]) + more

    if report.conflicts:
        raise Conflict(
            f"not imported, since something else is here: {told(report.conflicts)}",
            hint="`--name OLD=NEW` imports an experiment under another name",
            detail={"conflicts": len(report.conflicts), "waiting": len(report.waiting)},
        )
    if report.waiting:
        raise PartialFailure(
            f"not imported: {told(report.waiting)}",
            hint="see to it that these can be read, and run the same import again",
            detail={"waiting": len(report.waiting)},
        )
