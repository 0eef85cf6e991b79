"""`modeldrop target`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop.repository import Repository
    from modeldrop.targets import TargetSet
    from modeldrop_cli.objects.using import TargetSetObject, TargetsObject
    from modeldrop_cli.output import Output


@click.group("target", subcommand_metavar="COMMAND …")
def command() -> None:
    """Name places to deploy to; list them, remove one."""


@command.command(
    "add",
    cls=Command,
    examples=(
        ("modeldrop target add staging /srv/models", "a folder of this machine"),
        (
            "modeldrop target add live s3://serving/models --production --require-alias champion",
            "takes only the version that churn@champion is on",
        ),
        (
            "modeldrop target add live s3://serving/models --production --confirm",
            "run again with other gates, it changes them",
        ),
    ),
    exits=exits(
        10,
        11,
        12,
        20,
        30,
        e2="a wrong call, name or URL: git would refuse the name, or nothing can be switched there",
        e10="there is no home",
        e11="an alias bears the name, the target is elsewhere, or the place is another target's",
    ),
)
@click.argument("name", metavar="NAME")
@click.argument("url", metavar="URL")
@click.option("--production", is_flag=True, help="Mark it; it has a gate then in any case.")
@click.option(
    "--require-alias", metavar="ALIAS", help="Take only the version that this alias is on."
)
@click.option(
    "--require-verified",
    is_flag=True,
    help="Read every stored byte of a version first; the gate that --production has by itself.",
)
@click.option("--confirm", is_flag=True, help="Take nothing without --yes, or a person's word.")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Copies of each experiment that stay there, for rollbacks.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why; it stays in the history.")
@click.option("--by", metavar="WHO", help="Who adds it; you, by default.")
@output_options
def add(  # noqa: PLR0913, PLR0917 - each is an option
    name: str,
    url: str,
    production: bool,  # noqa: FBT001 - click's signature
    require_alias: str | None,
    require_verified: bool,  # noqa: FBT001 - the same
    confirm: bool,  # noqa: FBT001 - the same
    keep: int,
    reason: str,
    by: str | None,
    output: Output,
) -> None:
    """Name a place to deploy to, or change its gates.

    URL is a folder of this machine, or begins with s3://, az:// or gs://. What is said of a target
    is kept at the backend, so its gates hold on every host. The place is made ready, and marked
    as this target's.
    """
    with open_repository() as repository:
        done = repository.add_target(
            name,
            url,
            production=production,
            require_alias=require_alias,
            require_verified=require_verified,
            confirm=confirm,
            keep=keep,
            reason=reason,
            by=by,
        )
        _tell(repository, done, output)


@command.command(
    "list",
    cls=Command,
    examples=(
        ("modeldrop target list", "every target with its URL and gates"),
        ("modeldrop target list -q", "their names, one a line"),
    ),
    exits=exits(
        10, 20, 30, e10="there is no home", e20="a record is damaged; the others are listed"
    ),
)
@output_options
def list_targets(output: Output) -> None:
    """List the targets, with what has to hold before anything is deployed to each."""
    from modeldrop_cli.delivering import target_object  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.stored import tell_damaged  # noqa: PLC0415 - the same

    damaged: list[IntegrityError] = []
    with open_repository() as repository:
        found = repository.targets(damaged.append)
    if output.json:
        told: TargetsObject = {"targets": [target_object(each) for each in found]}
        output.document(told)
    elif output.quiet:
        for each in found:
            output.id(each.target)
    else:
        output.table(
            ("target", "url", "production", "gates", "keep", "set", "by"),
            [
                (
                    each.target,
                    each.url or "",
                    "yes" if each.production else "",
                    " ".join(each.gates),
                    str(each.keep),
                    when(each.changed_at),
                    f"{each.changed_by}@{each.host}",
                )
                for each in found
            ],
            right="keep",
        )
        if not (found or damaged):
            output.say("There is no target. `modeldrop target add NAME URL` makes one.")
    tell_damaged(damaged)


@command.command(
    "rm",
    cls=Command,
    examples=(
        ('modeldrop target rm staging --reason "moved"', "nothing is deployed there any more"),
    ),
    exits=exits(10, 12, 20, 30, e10="there is no home, or there never was such a target"),
)
@click.argument("name", metavar="NAME")
@click.option("--reason", metavar="TEXT", default="", help="Why; it stays in the history.")
@click.option("--by", metavar="WHO", help="Who removes it; you, by default.")
@output_options
def remove(name: str, reason: str, by: str | None, output: Output) -> None:
    """Remove a target.

    What was deployed there stays as it is, and so does its history; it may be added again.
    """
    with open_repository() as repository:
        _tell(repository, repository.remove_target(name, reason=reason, by=by), output)


def _tell(repository: Repository, done: TargetSet, output: Output) -> None:
    from modeldrop_cli.delivering import target_object  # noqa: PLC0415 - not for `--help`
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - the same

    target = done.target
    if output.json:
        told: TargetSetObject = {**target_object(target), "changed": done.created}
        output.document(told)
    else:
        output.id(target.target)
        where = f"at {target.url}" if target.url else "removed"
        gates = f", with {' '.join(target.gates)}" if target.gates else ""
        since = "now" if done.created else f"since {when(target.changed_at)}; nothing was changed"
        output.say(f"It is {where}{gates} {since}.")
    share(repository)
