"""`modeldrop list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_experiments,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.output import size, when

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop.records import AliasMove, Version
    from modeldrop_cli.objects import ExperimentsObject, VersionsObject
    from modeldrop_cli.output import Output


@click.command(
    "list",
    cls=Command,
    examples=(
        ("modeldrop list", "every experiment with its newest version"),
        ("modeldrop list churn", "every version of churn, the newest first"),
        ("modeldrop list churn -q", "churn/3, churn/2, churn/1, one a line"),
    ),
    exits=exits(
        10,
        20,
        30,
        e10="there is no home, or no such experiment",
        e20="a record is damaged; the others are listed",
    ),
)
@click.argument("experiment", required=False, shell_complete=complete_experiments)
@output_options
def command(experiment: str | None, output: Output) -> None:
    """List experiments, or the versions of one."""
    from modeldrop_cli.stored import tell_damaged, version_summary  # noqa: PLC0415 - not for `--help`

    with open_repository() as repository:
        damaged: list[IntegrityError] = []
        if experiment is None:
            found = repository.experiments(damaged.append)
        else:
            found = list(reversed(repository.versions(experiment, damaged.append)))
        aliases = repository.aliases(experiment, damaged.append) if not output.quiet else []
    if output.json:
        listed = [version_summary(each, aliases) for each in found]
        told: ExperimentsObject | VersionsObject = (
            {"experiments": listed} if experiment is None else {"versions": listed}
        )
        output.document(told)
    elif output.quiet:
        for each in found:
            name = each.experiment
            output.id(name if experiment is None else f"{name}/{each.version}")
    else:
        _tell(found, aliases, output)
        if not (found or damaged):
            output.say("There is no version yet. `modeldrop register RUN -e EXPERIMENT` makes one.")
    tell_damaged(damaged)


def _tell(found: list[Version], aliases: list[AliasMove], output: Output) -> None:
    from modeldrop.listing import aliases_on  # noqa: PLC0415 - not for `--help`

    output.table(
        ("version", "artifact", "size", "run", "registered", "by", "aliases", "description"),
        [
            (
                f"{each.experiment}/{each.version}",
                each.artifact,
                size(each.size),
                f"{each.run}~{each.revision}",
                when(each.registered_at),
                f"{each.registered_by}@{each.host}",
                ", ".join(aliases_on(each, aliases)),
                each.description,
            )
            for each in found
        ],
        right="size",
    )
