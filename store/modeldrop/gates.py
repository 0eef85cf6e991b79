"""The gates of targets: what has to hold before anything is deployed to one."""

from __future__ import annotations

from modeldrop.aliases import Aliases
from modeldrop.backend.base import Backend
from modeldrop.deployment_records import Target
from modeldrop.errors import AliasNotFound, GateClosed
from modeldrop.records import Artifact, Version
from modeldrop.transfer import Transfer, damage


def pass_gates(
    target: Target, version: Version, aliases: Aliases, *, confirmed: bool, rolls_back: bool
) -> None:
    """Return if the gates of a target that cost no more than a look let a version through.

    What is rolled back to has had the alias when it was deployed.

    Raises:
        GateClosed: one doesn't; the message names it.
    """
    name = f"{version.experiment}/{version.version}"
    detail: dict[str, object] = {"target": target.target, "version": name}
    if target.require_alias is not None and not rolls_back:
        alias = f"{version.experiment}@{target.require_alias}"
        try:
            move = aliases.current(version.experiment, target.require_alias)
            on = f"on {version.experiment}/{move.version}"
            is_on = (move.version, move.sha256) == (version.version, version.sha256)
        except AliasNotFound:
            on, is_on = "on no version", False
        if not is_on:
            raise GateClosed(
                f"the target {target.target} takes what {alias} is on: it is {on}, not {name}",
                hint=f"`modeldrop promote {name} {target.require_alias}` first",
                detail={**detail, "gate": "require-alias", "alias": alias},
            )
    if target.confirm and not confirmed:
        raise GateClosed(
            f"the target {target.target} takes {name} only if you confirm it",
            hint="run it again with `--yes` (in Python: `confirmed=True`)",
            detail={**detail, "gate": "confirm"},
        )


def require_verified(
    target: Target, version: Version, artifact: Artifact, backend: Backend
) -> None:
    """Return if a target doesn't ask for it, or every stored byte of a version is what it was.

    Raises:
        ArtifactDamaged: it isn't; the message names the files.
    """
    if not target.require_verified:
        return
    bad = Transfer(backend).damaged(artifact)
    if bad:
        error = damage(artifact, bad, backend.url)
        name = f"{version.experiment}/{version.version}"
        error.message = f"the target {target.target} takes no {name}: {error.message}"
        raise error
