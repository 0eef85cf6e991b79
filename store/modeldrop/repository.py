"""The façade: everything that a user of the library does, on one open home.

    with Repository.open() as repository:
        repository.upload(run, "model.onnx")
        registered = repository.register(run, "churn")
        repository.pull(f"churn/{registered.version.version}", "models")

Opening is cheap: the backend is connected, the journal's history read and the bytes moved only by
what needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from modeldrop import founding, listing, references
from modeldrop.departures import Wanted, departure, explain, explained
from modeldrop.errors import HomeNotFound
from modeldrop.form import Json
from modeldrop.home import open_home
from modeldrop.journal import Entry
from modeldrop.listing import Damaged
from modeldrop.metadata import Metadata
from modeldrop.names import WHOLE_RUN, check_alias, check_experiment, check_guid
from modeldrop.records import AliasMove, Artifact, Revision, Version
from modeldrop.references import Resolved
from modeldrop.runs import Committed
from modeldrop.sharing import Sharing
from modeldrop.versions import Registered

if TYPE_CHECKING:
    from modeldrop.inspecting import Inspected
    from modeldrop.intake import Engine
    from modeldrop.promotion import Moved
    from modeldrop.sync import FetchedJournal
    from modeldrop.verify import Report

Progress = Callable[[int], None]


class Repository(Sharing):
    """An open home with its backend. Close it, or use it in a `with` statement."""

    @classmethod
    def open(cls, home: Path | str | None = None) -> Self:
        """Open the home at a path, or the one that the working folder and environment name.

        Raises:
            HomeNotFound: there is none.
            NewerFormat: a later modeldrop made it.
            ConfigError: its settings aren't valid, or there is a secret among them.
        """
        opened = open_home(Path(home) if home is not None else None)
        founding.refuse_secrets(opened)
        return cls(opened)

    @classmethod
    def init(
        cls,
        root: Path,
        *,
        backend: str = "",
        staging: str = "",
        options: Mapping[str, object] | None = None,
        single_writer: bool = False,
        network_home: bool = False,
    ) -> tuple[Self, bool]:
        """Make a home at `root`, or open the one that is there; return whether it was made.

        The backend is raced for create-if-absent first, and the verdict recorded.

        Raises:
            Conflict: there is a home with another backend or staging folder.
            ConditionNotHeld: create-if-absent doesn't hold, and `single_writer` isn't given.
            ConfigError: the home would be on a network file system, without `network_home`.
            BackendError: the backend can't be used.
        """
        try:
            there = cls.open(root)
        except HomeNotFound:
            pass
        else:
            founding.refuse_change(there.home, backend, staging)
            return there, False
        made = cls(
            founding.found_home(
                root,
                backend=backend,
                staging=staging,
                options=options or {},
                single_writer=single_writer,
                network_home=network_home,
            )
        )
        made.journal.append(founding.entry(made.home))
        return made, True

    @classmethod
    def clone(
        cls,
        root: Path,
        backend: str,
        *,
        staging: str = "",
        options: Mapping[str, object] | None = None,
        single_writer: bool = False,
        network_home: bool = False,
    ) -> tuple[Self, list[FetchedJournal]]:
        """Make a home at `root` from a backend alone, or finish one; return it and what it fetched.

        Raises:
            NotFound: there is no repository at the backend.
            ModeldropError: as for `init` and `fetch`.
        """
        founding.require_repository(backend, options or {})
        cloned, _ = cls.init(
            root,
            backend=backend,
            staging=staging,
            options=options,
            single_writer=single_writer,
            network_home=network_home,
        )
        return cloned, cloned.fetch()

    def engine(self) -> Engine:
        """Return the intake: what watches over staging, for the service and for one scan."""
        from modeldrop.intake import Engine  # noqa: PLC0415 - not needed to register

        self.ready_to_write()
        return Engine(self.home, self.runs_at_backend, self._storing())

    # Writing

    def upload(
        self,
        run: str,
        path: Path | str,
        *,
        metadata: Mapping[str, object] | None = None,
        moved: Progress = lambda _: None,
    ) -> Committed:
        """Store a file or a folder as an artifact of a run, without staging; return its revision.

        `metadata` says what the run was, with the keys of `run.toml` (docs/metadata.md): `params`,
        `metrics` and so on. `modeldrop.captured()` is what the program itself can tell of that.

        The artifact has the name that the path ends with, also where that is a link. It alone is
        the run's state then: artifacts that were uploaded before stay in the revisions before,
        as `run:<guid>~1/<artifact>`, and the last revision doesn't name them any more.

        Raises:
            InvalidName: `run` is no GUID, or something in the folder can't be stored.
            UsageError: something of the metadata can't be kept; nothing is committed.
            SourceChanged: something changed while it was read; nothing is committed.
        """
        from modeldrop.intake import upload_path  # noqa: PLC0415 - not needed to register
        from modeldrop.statements import checked  # noqa: PLC0415 - the same

        said = checked(metadata or {})
        guid = check_guid(run)
        self.ready_to_write()
        return upload_path(self._storing(), guid, Path(path), self._request(), moved, said)

    def register(
        self,
        run: str,
        experiment: str | None = None,
        artifact: str | None = None,
        by: str | None = None,
        description: str = "",
        *,
        again: bool = False,
    ) -> Registered:
        """Give an artifact of a run the next version of an experiment; return that version.

        Registering the same artifact again answers the version that it has, unless `again`.
        `run` is a run's reference; it may name the revision and the artifact. `experiment` may
        be left out if the run named its own.

        Raises:
            RunNotFound: the run isn't committed.
            ArtifactNotFound: it has no such artifact, or the artifact isn't stored whole.
            AmbiguousArtifact: it has several, and none was named.
            ArtifactDamaged: the artifact isn't at the backend as it was committed.
            ArtifactCollected: its bytes were let go.
            VersionRetired: it has a version, which is retired; nothing was changed.
        """
        wanted = Wanted(self)
        experiment, shown, chosen = self._references.to_register(run, experiment, artifact)
        wanted.require(shown, chosen)
        # Whether the backend is still this home's is asked under the lock.
        self._claim_home()
        registered = self.versions_at_backend.register(
            experiment,
            shown.revision,
            chosen,
            self._request(),
            by=by or self.home.user,
            description=description,
            again=again,
            claimed=wanted.claimed,
        )
        if not registered.created:
            hint = "`--again` gives the same artifact a new version"
            self.retirements_at_backend.refuse(registered.version, hint)
        return registered

    def promote(
        self,
        reference: str,
        alias: str,
        *,
        expect: int | None = None,
        reason: str = "",
        by: str | None = None,
    ) -> Moved:
        """Put an alias on a version; return the move that says so.

        Idempotent, and with `expect` only if it is on that version now: see `Promotion.place`.

        Raises:
            AliasMoved: the alias isn't where it was expected; nothing was changed.
            InvalidName: `reference` names a run, or `alias` is no valid one.
            Conflict: `alias` is the name of a target.
            VersionNotFound, AliasNotFound: there is no such version.
            VersionRetired: it is retired; nothing was changed.
        """
        check_alias(alias)
        version = self._references.version(reference)
        self.retirements_at_backend.refuse(version, "`modeldrop retire --undo` takes that back")
        return self._place((version.experiment, alias), version, expect, reason, by)

    def remove_alias(
        self, name: str, *, expect: int | None = None, reason: str = "", by: str | None = None
    ) -> Moved:
        """Remove an alias, such as `churn@champion`; return the move that says so.

        Its history stays. The rest is as for `promote`.

        Raises:
            AliasMoved: the alias isn't where it was expected; nothing was changed.
            AliasNotFound: there never was such an alias.
        """
        parsed = references.parse_alias(name)
        return self._place((parsed.experiment, parsed.alias), None, expect, reason, by)

    def _place(
        self,
        name: tuple[str, str],
        version: Version | None,
        expect: int | None,
        reason: str,
        by: str | None,
    ) -> Moved:
        from modeldrop.promotion import Promotion  # noqa: PLC0415 - not needed to register

        self._claim_home()
        rooms = (self.versions_at_backend, self.aliases_at_backend)
        promotion = Promotion(self.home, self.backend, self.journal, *rooms)
        return promotion.place(
            *name, version, self._request(), by=by or self.home.user, reason=reason, expect=expect
        )

    # Reading

    def resolve(self, reference: str) -> Resolved:
        """Return what a reference stands for.

        Raises:
            InvalidName: it has no form of a reference.
            RunNotFound, VersionNotFound, AliasNotFound, ArtifactNotFound: there is no such thing.
        """
        return self._references.resolve(reference)

    def artifact(self, reference: str) -> tuple[Resolved, Artifact]:
        """Return the one artifact that a reference names.

        Raises:
            AmbiguousArtifact: the run has several, and none was named.
        """
        return self._references.artifact(reference)

    def pull(
        self, reference: str, to: Path | str = ".", *, moved: Progress = lambda _: None
    ) -> Path:
        """Bring a verified copy of an artifact into the folder `to`; return its path.

        Raises:
            Conflict: there is something else of that name.
            ArtifactDamaged: stored bytes aren't what was recorded; nothing is left there.
            ArtifactCollected: its bytes were let go.
        """
        from modeldrop.cache import check_folder  # noqa: PLC0415 - not needed to register

        # Before anything is asked for.
        check_folder(to)
        return self.pull_found(*self.artifact(reference), to, moved=moved)

    def pull_found(
        self,
        resolved: Resolved,
        artifact: Artifact,
        to: Path | str = ".",
        *,
        moved: Progress = lambda _: None,
    ) -> Path:
        """Do what `pull` does with what `artifact` has found, without looking for it again."""
        from modeldrop.cache import check_folder  # noqa: PLC0415 - not needed to register
        from modeldrop.pulling import pull  # noqa: PLC0415 - not needed to register

        check_folder(to)
        with explained(self, resolved, artifact):
            return pull(self.backend, artifact, Path(to) / _file_name(resolved, artifact), moved)

    def path(self, reference: str, *, moved: Progress = lambda _: None) -> Path:
        """Return the path of a verified, cached copy of an artifact; pull it if it isn't cached.

        The copy is read-only; what was changed in the cache is noticed by size and time, and
        pulled again.
        """
        return self.path_found(*self.artifact(reference), moved=moved)

    def path_found(
        self, resolved: Resolved, artifact: Artifact, *, moved: Progress = lambda _: None
    ) -> Path:
        """Do what `path` does with what `artifact` has found, without looking for it again."""
        from modeldrop.cache import cached  # noqa: PLC0415 - not needed to register

        place = self.home.paths.cached(artifact.sha256, _file_name(resolved, artifact))
        with explained(self, resolved, artifact):
            return cached(self.backend, artifact, place, moved)

    def inspect(self, reference: str, *, tensors: bool = False) -> list[Inspected]:
        """Return what the files of a version or a run are, by what their headers say.

        It is what the manifest says; with `tensors`, or where that says nothing, the headers are
        read again, from a cached copy or by ranges. Paths are those in the artifact, or in the run.
        """
        from modeldrop.cache import kept  # noqa: PLC0415 - not needed to register
        from modeldrop.inspecting import Inspected, inspect_artifact  # noqa: PLC0415 - the same

        resolved = self.resolve(reference)
        artifact = resolved.artifact or resolved.revision.whole()
        if resolved.revision.formats and not tensors:
            return [Inspected(each) for each in resolved.revision.formats_of(artifact)]
        place = self.home.paths.cached(artifact.sha256, _file_name(resolved, artifact))
        return inspect_artifact(self.backend, artifact, kept(artifact, place), tensors=tensors)

    def verify(
        self, reference: str | None = None, *, deep: bool = False, moved: Progress = lambda _: None
    ) -> Report:
        """Check one artifact's bytes, or the whole store; return what was found.

        With a reference every byte of it is read. Without one, the journal, the records and the
        stored sizes are checked; `deep` reads every byte too.
        """
        from modeldrop.verify import verify_artifact, verify_store  # noqa: PLC0415 - see above

        if reference is None:
            return verify_store(self, deep=deep, moved=moved)
        resolved, artifact = self.artifact(reference)
        report = verify_artifact(resolved.name, artifact, self.transfer, moved=moved)
        if not report.ok:
            explain(self, resolved, artifact)
        return report

    def runs(self, damaged: Damaged | None = None) -> Iterator[Revision]:
        """Yield the last revision of every run at the backend, newest commit first.

        With `damaged`, what can't be read is told to it, and the rest is yielded.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        yield from listing.last_revisions(self.runs_at_backend, damaged)

    def experiments(self, damaged: Damaged | None = None) -> list[Version]:
        """Return the newest version of every experiment, by name; `damaged` is as in `runs`.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        return listing.newest_versions(self.versions_at_backend, damaged)

    def versions(self, experiment: str, damaged: Damaged | None = None) -> list[Version]:
        """Return the versions of an experiment, oldest first; `damaged` is as in `runs`.

        Raises:
            VersionNotFound: there are none.
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        return listing.versions_of(self.versions_at_backend, experiment, damaged)

    def aliases(
        self, experiment: str | None = None, damaged: Damaged | None = None
    ) -> list[AliasMove]:
        """Return the move that put each alias where it is, by name; `damaged` is as in `runs`.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        if experiment is not None:
            return self.aliases_at_backend.all([check_experiment(experiment)], damaged)
        return self.aliases_at_backend.all(self.versions_at_backend.experiments(), damaged)

    def alias_moves(self, name: str) -> list[AliasMove]:
        """Return all moves of an alias, oldest first.

        Raises:
            AliasNotFound: there never was such an alias.
        """
        parsed = references.parse_alias(name)
        return self.aliases_at_backend.moves(parsed.experiment, parsed.alias)

    def log(self, reference: str | None = None) -> Iterator[Entry]:
        """Yield the entries of all homes' journals, newest first; those about one thing if named.

        Those of other homes are here as far as they were fetched.

        Raises:
            JournalDamaged: a journal isn't what was acknowledged; the message has the offset.
        """
        wanted = None if reference is None else self._references.about(reference)
        for entry in listing.entries(self.home, self.journal):
            if wanted is None or any(wanted(about) for about in entry.about):
                yield entry

    def describe(self, version: Version, damaged: Damaged | None = None) -> dict[str, Json]:
        """Return a version as the JSON object of docs/json.md; `damaged` is as in `runs`."""
        revision = self.runs_at_backend.revision(version.run, version.revision)
        aliases = self.aliases(version.experiment, damaged)
        metadata = self.runs_at_backend.metadata_of(version, revision)
        on = listing.aliases_on(version, aliases)
        live, gone = self._live_at(version, damaged), departure(self, version, revision)
        metadata = self.runs_at_backend.metadata_of(version, revision)
        return references.described(version, revision, on, live, metadata, gone)

    def metadata(self, reference: str) -> Metadata:
        """Return what is said of a run, or of the run that a version came from; maybe nothing.

        Of a version it includes what was said after it was registered: see
        `Runs.metadata_of`.

        Raises:
            RunNotFound, VersionNotFound, AliasNotFound, ArtifactNotFound: there is no such thing.
        """
        found = self.resolve(reference)
        if found.version is None:
            return found.revision.metadata
        return self.runs_at_backend.metadata_of(found.version, found.revision)

    def last_run(self) -> str:
        """Return the run that this home committed last: what `run:@last` means.

        Raises:
            RunNotFound: it committed none.
        """
        return self._references.last_run()


def _file_name(resolved: Resolved, artifact: Artifact) -> str:
    # The whole run has no name of its own.
    return resolved.revision.run if artifact.artifact == WHOLE_RUN else artifact.artifact
