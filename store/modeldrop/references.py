"""What a reference names, found at the backend; `spelling` says what may be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modeldrop.aliases import Aliases
from modeldrop.backend.patience import patiently
from modeldrop.choosing import choose_artifact
from modeldrop.errors import (
    AliasNotFound,
    AmbiguousArtifact,
    ArtifactNotFound,
    IntegrityError,
    InvalidName,
    ModeldropError,
    RunNotFound,
    VersionNotFound,
)
from modeldrop.form import Json
from modeldrop.home import Home
from modeldrop.journal import Journal
from modeldrop.metadata import Metadata
from modeldrop.names import (
    WHOLE_RUN,
    check_experiment,
    parse_guid_prefix,
    printable,
)
from modeldrop.records import Artifact, Collection, Retirement, Revision, Version
from modeldrop.revisions import Shown
from modeldrop.runs import COMMITTED, Runs
from modeldrop.spelling import (
    LAST,
    AliasReference,
    Reference,
    RunReference,
    VersionReference,
    parse,
    parse_run,
)
from modeldrop.structs import Frozen
from modeldrop.versions import Versions

Live = Callable[[str, str, int | None], Version | None]
"""Returns the version of an experiment that is live at a target, or that its deployment of this
number made live; None if no target bears the name."""


class Resolved(Frozen):
    """What a reference stands for at the backend's present state."""

    revision: Revision
    artifact: Artifact | None
    """The artifact that is meant; None where a run has several and none was named."""
    version: Version | None
    named: bool = False
    """Whether the reference itself names the artifact."""

    @property
    def name(self) -> str:
        """The full reference: `churn/3`, or `run:<guid>~1` whether it names an artifact or not."""
        if self.version:
            return f"{self.version.experiment}/{self.version.version}"
        return f"run:{self.revision.run}~{self.revision.revision}"

    @property
    def exact(self) -> str:
        """The full reference with the artifact that was named: `run:<guid>~1/<artifact>`."""
        if not self.named or self.artifact is None:
            return self.name
        return f"{self.name}/{self.artifact.artifact}"


class References:
    """Finds what references stand for at the backend's present state."""

    def __init__(
        self,
        home: Home,
        journal: Journal,
        runs: Runs,
        versions: Versions,
        aliases: Aliases,
        live: Live,
    ) -> None:
        """Look things up in these rooms of one repository; `live` tells of its targets."""
        self._home = home
        self._journal = journal
        self._runs = runs
        self._versions = versions
        self._aliases = aliases
        self._live = live

    def resolve(self, reference: str) -> Resolved:
        """Return what a reference stands for.

        Raises:
            InvalidName: it has no form of a reference.
            RunNotFound, VersionNotFound, AliasNotFound, ArtifactNotFound: there is no such thing.
        """
        parsed = parse(reference)
        if isinstance(parsed, AliasReference):
            return self._resolved(self._aliased(parsed))
        if isinstance(parsed, VersionReference):
            try:
                return self._resolved(self._versions.version(parsed.experiment, parsed.version))
            except VersionNotFound:
                # `3f2b` may be the beginning of a GUID, as in git.
                if parsed.version is not None or not parse_guid_prefix(parsed.experiment):
                    raise
                try:
                    run = RunReference(self._runs.complete(parsed.experiment))
                except RunNotFound as error:
                    if "runs" in error.detail:
                        # Several runs begin so: that is worth more than that no experiment does.
                        raise error from None
                    run = None
                if run is None:
                    raise
                parsed = run
        revision = self.revision(parsed)
        if parsed.artifact is None and len(revision.artifacts) != 1:
            return Resolved(revision, None, None)
        named = parsed.artifact is not None
        return Resolved(revision, _chosen(revision, parsed, parsed.artifact), None, named)

    def artifact(self, reference: str) -> tuple[Resolved, Artifact]:
        """Return what a reference stands for, and the one artifact that it names.

        Raises:
            AmbiguousArtifact: the run has several, and none was named.
            InvalidName, RunNotFound, VersionNotFound, AliasNotFound, ArtifactNotFound: as
                `resolve`.
        """
        found = self.resolve(reference)
        parsed = parse(reference)
        number = parsed.revision if isinstance(parsed, RunReference) else None
        meant = RunReference(found.revision.run, number)
        return found, found.artifact or _chosen(found.revision, meant, None)

    def version(self, reference: str) -> Version:
        """Return the version that a reference names, without a look at its run.

        Raises:
            InvalidName: it names a run, or has no form of a reference.
            VersionNotFound, AliasNotFound: there is no such thing.
        """
        parsed = parse(reference)
        if isinstance(parsed, AliasReference):
            return self._aliased(parsed)
        if isinstance(parsed, VersionReference):
            return self._versions.version(parsed.experiment, parsed.version)
        message = f"{printable(reference)!r} names a run, and an alias is on a version"
        raise InvalidName(message, hint="`modeldrop register` gives a run's model a version")

    def to_register(
        self, run: str, experiment: str | None, artifact: str | None
    ) -> tuple[str, Shown, Artifact]:
        """Return what a registration is of: its experiment, the revision as seen, the artifact.

        Raises:
            InvalidName: the run names no experiment, and none is given; or two artifacts are named.
            RunNotFound: the run isn't committed.
            ArtifactNotFound: it has no such artifact, or the artifact isn't stored whole.
            AmbiguousArtifact: it has several, and none was named.
        """
        reference = parse_run(run)
        if experiment is not None:
            check_experiment(experiment)
        if artifact and reference.artifact and artifact != reference.artifact:
            message = f"{run} names {reference.artifact!r}, and {artifact!r} was asked for"
            raise InvalidName(message, hint="name the artifact once")
        shown = patiently(lambda: self.shown(reference))
        revision = shown.revision
        experiment = experiment or revision.experiment
        if experiment is None:
            message = f"run {revision.run} names no experiment"
            raise InvalidName(message, hint="name it with `-e EXPERIMENT`")
        try:
            return experiment, shown, choose_artifact(revision, artifact or reference.artifact)
        except ArtifactNotFound as error:
            _add_earlier(error, revision)
            raise

    def revision(self, reference: RunReference) -> Revision:
        """Return the revision that a reference to a run names, the last one by default.

        Raises:
            RunNotFound: there is no such run or revision.
        """
        run = self._guid(reference)
        if reference.revision is not None:
            return self._runs.revision(run, reference.revision)
        return self._runs.committed(run)

    def shown(self, reference: RunReference) -> Shown:
        """Return the revision that `revision` does, and what was seen of its files on the way.

        Raises:
            RunNotFound: there is no such run or revision.
        """
        if reference.revision is None and reference.whole:
            return self._runs.shown(reference.run) or Shown(self.revision(reference))
        return Shown(self.revision(reference))

    def about(self, reference: str) -> Callable[[str], bool]:
        """Return what tells whether a journal entry's `about` concerns what is named."""
        parsed: Reference = parse(reference)
        if isinstance(parsed, AliasReference):
            alias = f"{parsed.experiment}@{parsed.alias}~"
            if parsed.move is not None:
                move = f"{alias}{parsed.move}"
                return lambda about: about == move
            return lambda about: about.startswith(alias)
        if isinstance(parsed, VersionReference):
            name = parsed.experiment
            if parsed.version is not None:
                exact = f"{name}/{parsed.version}"
                return lambda about: about == exact
            runs = f"run:{parse_guid_prefix(name)}" if parse_guid_prefix(name) else None
            return lambda about: (
                about.startswith((f"{name}/", f"{name}@")) or bool(runs and about.startswith(runs))
            )
        run = self.last_run() if parsed.run == LAST else parsed.run
        if parsed.revision is not None:
            exact = f"run:{run}~{parsed.revision}"
            return lambda about: about == exact
        return lambda about: about.startswith(f"run:{run}")

    def last_run(self) -> str:
        """Return the run that this home committed last: what `run:@last` means.

        Raises:
            RunNotFound: it committed none.
        """
        for entry in self._journal.newest():
            if entry.kind == COMMITTED:
                return str(entry.details["run"])
        message = f"the home {self._home.paths.root} has committed no run yet"
        raise RunNotFound(message, hint="`modeldrop drop FILE` drops one")

    def _aliased(self, reference: AliasReference) -> Version:
        alias = (reference.experiment, reference.alias)
        try:
            if reference.move is None:
                move = self._aliases.current(*alias)
            else:
                move = self._aliases.move(*alias, reference.move)
        except AliasNotFound as error:
            # No target bears the name of an alias.
            version = self._live(*alias, reference.move)
            if version is None:
                error.hint += ", `modeldrop target list` the targets"
                raise
            return version
        return self._aliases.version(move)

    def _resolved(self, version: Version) -> Resolved:
        revision = self._runs.revision(version.run, version.revision)
        return Resolved(revision, pinned(version, revision), version)

    def _guid(self, reference: RunReference) -> str:
        if reference.run == LAST:
            return self.last_run()
        return reference.run if reference.whole else self._runs.complete(reference.run)


def _chosen(revision: Revision, meant: RunReference, name: str | None) -> Artifact:
    """Return an artifact as `choose_artifact` does, with hints for those who write references."""
    try:
        return choose_artifact(revision, name)
    except (AmbiguousArtifact, ArtifactNotFound) as error:
        # Without the list, what was named is there, and not stored whole.
        if "artifacts" in error.detail:
            run = f"run:{revision.run}" + (f"~{meant.revision}" if meant.revision else "")
            error.hint = f"write `{run}/NAME`, or `{run}/{WHOLE_RUN}` for the whole run"
            _add_earlier(error, revision)
        raise


def _add_earlier(error: ModeldropError, revision: Revision) -> None:
    """Add to the hint of an artifact that isn't there where it may be: in an earlier revision."""
    if (
        isinstance(error, ArtifactNotFound)
        and "artifacts" in error.detail
        and revision.revision > 1
    ):
        before = f"run:{revision.run}~{revision.revision - 1}"
        error.hint += f"; what was stored before may be in an earlier revision: `{before}/NAME`"


def pinned(version: Version, revision: Revision) -> Artifact:
    """Return the artifact that a version pins, checked against the version's digest.

    Raises:
        IntegrityError: the manifest names other bytes than the version.
    """
    artifact = choose_artifact(revision, version.artifact)
    if (artifact.sha256, artifact.size) != (version.sha256, version.size):
        message = (
            f"{version.experiment}/{version.version} pins {version.sha256}, and the manifest of "
            f"run {version.run}~{version.revision} has {artifact.sha256}"
        )
        raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
    return artifact


def described(
    version: Version,
    revision: Revision,
    aliases: Iterable[str],
    targets: Iterable[str],
    metadata: Metadata,
    departure: tuple[Retirement | None, Collection | None] = (None, None),
) -> dict[str, Json]:
    """Return a version as the JSON object of docs/json.md: what is on it, and where it is live.

    `departure` is what retired it and what collected its bytes, if anything did.

    Raises:
        IntegrityError: the manifest names other bytes than the version.
    """
    retirement, collection = departure
    return {
        "experiment": version.experiment,
        "version": version.version,
        "run": version.run,
        "revision": version.revision,
        "artifact": version.artifact,
        "sha256": version.sha256,
        "size": version.size,
        "files": [
            {"path": each.path, "sha256": each.sha256, "size": each.size}
            for each in pinned(version, revision).files
        ],
        "formats": [each.as_json() for each in revision.formats_of(pinned(version, revision))],
        "host": version.host,
        "registered_by": version.registered_by,
        "registered_at": version.registered_at,
        "description": version.description,
        "origin": version.origin.as_json() if version.origin else None,
        "aliases": [*aliases],
        "targets": [*targets],
        "retired": {
            "reason": retirement.reason,
            "host": retirement.host,
            "retired_by": retirement.retired_by,
            "retired_at": retirement.retired_at,
        }
        if retirement
        else None,
        "collected_at": collection.recorded_at if collection else None,
        "metadata": metadata.in_full(),
    }
