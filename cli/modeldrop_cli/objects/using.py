"""What is printed with `--json` of aliases, targets and deployments."""

from __future__ import annotations

from typing import Annotated, TypedDict


class AliasMoveObject(TypedDict):
    """A move of an alias: where it was put, by whom, when and why."""

    experiment: Annotated[str, "the experiment"]
    alias: Annotated[str, "the alias, without its experiment"]
    move: Annotated[int, "the number of the move: 1, 2, 3 …"]
    version: Annotated[int | None, "the version that it was put on; null if it was removed"]
    sha256: Annotated[str | None, "digest of that version's bytes; null if it was removed"]
    before: Annotated[int | None, "the version that it was on until then; null if on none"]
    reason: Annotated[str, "why; may be empty"]
    host: Annotated[str, "the host that moved it"]
    moved_by: Annotated[str, "by whom"]
    moved_at: Annotated[str, "when"]


class PromotedObject(AliasMoveObject):
    """`promote` and `alias rm`: the move that says where the alias is now."""

    moved: Annotated[bool, "whether it was moved just now; false if it was there already"]


class AliasesObject(TypedDict):
    """`alias list`: the move that put each alias where it is."""

    aliases: Annotated[list[AliasMoveObject], "by experiment and alias; removed ones are left out"]


class AliasHistoryObject(TypedDict):
    """`alias history`: all moves of an alias, newest first."""

    moves: Annotated[list[AliasMoveObject], "its moves"]


class TargetObject(TypedDict):
    """A deployment target: where it is, and what has to hold before a deployment."""

    target: Annotated[str, "its name"]
    url: Annotated[str | None, "where it is; null if it was removed"]
    production: Annotated[bool, "whether it is marked as production"]
    require_alias: Annotated[str | None, "the alias that a version has to have, if any"]
    require_verified: Annotated[bool, "whether every stored byte is read first"]
    confirm: Annotated[bool, "whether each deployment has to be confirmed"]
    keep: Annotated[int, "how many copies of each experiment stay there"]
    reason: Annotated[str, "why it was set so; may be empty"]
    host: Annotated[str, "the host that set it"]
    changed_by: Annotated[str, "by whom"]
    changed_at: Annotated[str, "when"]


class TargetSetObject(TargetObject):
    """`target add` and `target rm`: what the target is now."""

    changed: Annotated[bool, "whether it was changed just now; false if it was so already"]


class TargetsObject(TypedDict):
    """`target list`: what each target is."""

    targets: Annotated[list[TargetObject], "by name; removed ones are left out"]


class DeploymentObject(TypedDict):
    """A deployment: what became live where, by whom, when and why."""

    experiment: Annotated[str, "the experiment"]
    target: Annotated[str, "the target"]
    deployment: Annotated[int, "the number of the deployment there: 1, 2, 3 …"]
    version: Annotated[int, "the version that became live"]
    sha256: Annotated[str, "digest of that version's bytes"]
    before: Annotated[int | None, "the version that was live until then; null if none was"]
    rolled_back: Annotated[bool, "whether it was a rollback"]
    url: Annotated[str, "where the target was"]
    copy: Annotated[str, "folder of its copy, below that URL"]
    reason: Annotated[str, "why; may be empty"]
    host: Annotated[str, "the host that deployed it"]
    deployed_by: Annotated[str, "by whom"]
    deployed_at: Annotated[str, "when"]


class DeployedObject(DeploymentObject):
    """`deploy` and `rollback`: the deployment that is live now."""

    deployed: Annotated[bool, "whether it was made just now; false if that version was live"]
    copied: Annotated[bool, "whether bytes were copied; false if a kept copy is used again"]


class DeploymentsObject(TypedDict):
    """`deployments`: what is live at each target; of EXPERIMENT@TARGET, all there ever was."""

    deployments: Annotated[
        list[DeploymentObject], "by experiment and target; of one target, newest first"
    ]
