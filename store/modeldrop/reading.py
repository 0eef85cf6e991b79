"""What people read, on one open home: what there is, what happened, verified copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop import listing, references, spelling
from modeldrop.departures import departure, explain, explained
from modeldrop.form import Json
from modeldrop.journal import Entry
from modeldrop.listing import Damaged
from modeldrop.metadata import Metadata
from modeldrop.names import WHOLE_RUN, check_experiment
from modeldrop.records import AliasMove, Artifact, Revision, Version
from modeldrop.references import Resolved
from modeldrop.vouching import Vouching

if TYPE_CHECKING:
    from modeldrop.inspecting import Inspected
    from modeldrop.verify import Report

Progress = Callable[[int], None]


class Reading(Vouching):
    """An open home, and what is read of it; the rest of the façade is `Repository`."""

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
        self,
        reference: str | None = None,
        *,
        deep: bool = False,
        signed: bool = False,
        public_keys: Sequence[Path | str] = (),
        moved: Progress = lambda _: None,
    ) -> Report:
        """Check one artifact's bytes, or the whole store; return what was found.

        With a reference every byte of it is read; if it is to be `signed`, its signatures are
        judged as well, as by `signatures`. Without one, the journals and what is signed of them,
        the records and the stored sizes are checked; `deep` reads every byte too.

        Raises:
            SignatureNotFound: it is to be signed, and has no signature.
        """
        from modeldrop.verify import verify_artifact, verify_store  # noqa: PLC0415 - see above

        if reference is None:
            return verify_store(self, deep=deep, moved=moved, signers=self._signers())
        resolved, artifact = self.artifact(reference)
        judged = self._judged(resolved, artifact, public_keys) if signed else None
        report = verify_artifact(resolved.name, artifact, self.transfer, moved=moved)
        if not report.ok:
            explain(self, resolved, artifact)
        if judged is not None:
            report.judge(resolved.name, judged)
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
        parsed = spelling.parse_alias(name)
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
