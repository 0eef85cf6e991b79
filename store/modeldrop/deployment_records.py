"""What is written down of targets and deployments, at the backend, in the home and at a target.

Like the records of `records`, whose parts they use; docs/format.md says what each of them means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from modeldrop.form import Part, Record, damaged
from modeldrop.records import StoredFile


class Target(Record):
    """`targets/<target>/<S>.json`: where a target is, and what has to hold before a deployment."""

    kind: ClassVar[str] = "target"
    owner: str
    target: str
    change: int
    url: str | None  # None: the target was removed
    production: bool
    require_alias: str | None
    require_verified: bool
    confirm: bool
    keep: int  # so many copies of each experiment stay there
    reason: str
    home: str
    host: str
    changed_by: str
    changed_at: str

    @property
    def reference(self) -> str:
        """What this record is named by: `target:production~2`."""
        return f"target:{self.target}~{self.change}"

    @property
    def gates(self) -> list[str]:
        """What has to hold before a deployment, as the options that ask for it."""
        asked = {
            f"--require-alias {self.require_alias}": self.require_alias is not None,
            "--require-verified": self.require_verified,
            "--confirm": self.confirm,
        }
        return [name for name, holds in asked.items() if holds]


class KeptCopy(Part):
    """A copy at a target that may go live again."""

    version: int
    copy: str


class CopyLetGo(Part):
    """A copy at a target that never goes live again, and is to be removed."""

    version: int
    copy: str
    let_go_at: str


class Deployment(Record):
    """`experiments/<experiment>/deployments/<target>/<S>.json`: what is live at a target."""

    kind: ClassVar[str] = "deployment"
    owner: str
    experiment: str
    target: str
    deployment: int
    version: int
    sha256: str
    before: int | None  # the version that was live until then
    back: int | None  # the deployment that a rollback returns to
    rolled_back: bool
    change: int  # the target's record by which it was judged
    url: str
    reason: str
    home: str
    host: str
    deployed_by: str
    deployed_at: str
    kept: tuple[KeptCopy, ...]
    let_go: tuple[CopyLetGo, ...]

    @classmethod
    def from_json(cls, found: Mapping[str, object], where: str) -> Self:
        """Return the deployment, whose version is that of the first copy."""
        read = super().from_json(found, where)
        if not read.kept or read.kept[0].version != read.version:
            raise damaged(where, "the first of its copies isn't that of its version")
        return read

    @property
    def copy(self) -> str:
        """The folder of the copy that is live, below the target's URL."""
        return self.kept[0].copy

    @property
    def name(self) -> str:
        """What is deployed where: `churn@production`."""
        return f"{self.experiment}@{self.target}"

    @property
    def reference(self) -> str:
        """What this deployment is named by: `churn@production~4`."""
        return f"{self.name}~{self.deployment}"


class Current(Record):
    """`<experiment>/current.json` at a target: which version is live, and where its files are."""

    kind: ClassVar[str] = "current"
    repository: str
    target: str
    experiment: str
    deployment: int
    version: int
    copy: str
    artifact: str
    type: str  # "file" or "folder"
    sha256: str
    size: int
    deployed_at: str
    files: tuple[StoredFile, ...]


class TargetMarker(Record):
    """`.modeldrop-target.json` at a target: whose place it is."""

    kind: ClassVar[str] = "target-marker"
    repository: str
    target: str
    marked_by: str
    marked_at: str


class Deploying(Record):
    """`deploying/<request>.json`: what a deployment is about to copy to where."""

    kind: ClassVar[str] = "deploying"
    request: str
    experiment: str
    target: str
    url: str
    version: int
    copy: str
    starts_at: int
    user: str
    begun_at: str
    settled_at: str | None  # when it was found not to have happened, though it may yet
