"""The façade: everything that a user of the library does, on one open home.

    with Repository.open() as repository:
        repository.upload(run, "model.onnx")
        registered = repository.register(run, "churn")
        repository.pull(f"churn/{registered.version.version}", "models")

Opening is cheap: the backend is connected, the journal's history read and the bytes moved only by
what needs it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from modeldrop import founding, locks, references
from modeldrop.backend import open_backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import (
    ArtifactNotFound,
    ConfigError,
    Conflict,
    HomeNotFound,
    IntegrityError,
    InvalidName,
)
from modeldrop.home import Home, open_home
from modeldrop.journal import Entry, Journal, NewEntry
from modeldrop.ledger import Request
from modeldrop.names import WHOLE_RUN, check_experiment, check_guid
from modeldrop.records import Artifact, Json, Revision, Version
from modeldrop.references import References, Resolved, pinned
from modeldrop.runs import Committed, Runs, choose_artifact
from modeldrop.versions import Registered, Versions

if TYPE_CHECKING:
    from modeldrop.backend import Backend
    from modeldrop.intake import Engine, Storing
    from modeldrop.transfer import Transfer
    from modeldrop.verify import Report

Progress = Callable[[int], None]
Damaged = Callable[[IntegrityError], None]

Named = TypeVar("Named")
Found = TypeVar("Found")


class Repository:
    """An open home with its backend. Close it, or use it in a `with` statement."""

    def __init__(self, home: Home) -> None:
        """Use `Repository.open` or `Repository.init`."""
        self.home = home
        self._checked = False
        self._claimed = False

    @classmethod
    def open(cls, home: Path | str | None = None) -> Self:
        """Open the home at a path, or the one that the working folder and environment name.

        Raises:
            HomeNotFound: there is none.
            NewerFormat: a later modeldrop made it.
            ConfigError: its settings aren't valid.
        """
        return cls(open_home(Path(home) if home is not None else None))

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

    def close(self) -> None:
        """Let go of threads and connections."""
        if "transfer" in self.__dict__:
            self.transfer.close()
        if "backend" in self.__dict__:
            self.backend.close()

    def __enter__(self) -> Self:
        """Return the repository."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    # What it is made of; each part is made when it is first used.

    @cached_property
    def backend(self) -> Backend:
        """The backend."""
        settings = self.home.config.backend
        backend = open_backend(self.home.backend_url, settings.options, self.home.paths.root)
        verdict = self.home.probe()
        # The embedded backend moves with its home, so its path may differ from when it was probed.
        if settings.url and (verdict is None or verdict.url != backend.url):
            probed = "no backend" if verdict is None else verdict.url
            message = f"this home was made for {probed}, and its settings name {backend.url}"
            raise ConfigError(
                message,
                hint="a home has one backend: `modeldrop init --backend URL` in another folder "
                "makes a home for the other one",
            )
        return backend

    @cached_property
    def journal(self) -> Journal:
        """The journal of this home."""
        return Journal(self.home.paths, self.home.id, self.home.host)

    @cached_property
    def runs_at_backend(self) -> Runs:
        """The runs and their revisions."""
        return Runs(self.home, self.backend, self.journal)

    @cached_property
    def versions_at_backend(self) -> Versions:
        """The experiments and their versions."""
        return Versions(self.home, self.backend, self.journal)

    @cached_property
    def transfer(self) -> Transfer:
        """What moves bytes."""
        from modeldrop.transfer import Transfer  # noqa: PLC0415 - not needed to register

        return Transfer(self.backend)

    def engine(self) -> Engine:
        """Return the intake: what watches over staging, for the service and for one scan."""
        from modeldrop.intake import Engine  # noqa: PLC0415 - not needed to register

        self.ready_to_write()
        return Engine(self.home, self.runs_at_backend, self._storing())

    def _storing(self) -> Storing:
        from modeldrop.intake import Storing  # noqa: PLC0415 - not needed to register

        connections = self.backend.capabilities.connections
        return Storing(self.runs_at_backend, self.transfer, connections)

    # Writing

    def ready_to_write(self) -> None:
        """Make sure that this home may write to its backend, before the first write.

        Raises:
            NewerFormat: a later modeldrop made this repository.
            ConfigError: the backend holds another repository than it did.
        """
        if self._checked:
            return
        founding.require(self.home, self.backend)
        self._claim_home()
        self._checked = True

    def _claim_home(self) -> None:
        """Have this home be this host's, with a journal of its own, if it was copied."""
        if self._claimed:
            return
        before = self.home.id
        old = self.home.claim()
        if self.home.id != before:
            # They still hold the old id, also where another process was quicker to claim.
            for part in ("journal", "runs_at_backend", "versions_at_backend", "_references"):
                self.__dict__.pop(part, None)
        self._begin_journal(old)
        self._claimed = True

    def _begin_journal(self, old: str | None) -> None:
        """Let the journal of a copied home begin with the id that it had before.

        Whoever claimed the home may have died before this, so it isn't left to them alone.
        """
        try:
            if self.journal.head() is not None:
                return
        except IntegrityError:
            return  # whoever writes to it says what is wrong
        with locks.hold(self.home.paths.locks / "home", what=f"the home {self.home.paths.root}"):
            old = old or self.home.copied_from()
            if old is not None and self.journal.head() is None:
                self.journal.append(
                    NewEntry(
                        kind="home-copied",
                        about=("home",),
                        request=str(uuid.uuid4()),
                        user=self.home.user,
                        details={"copied_from": old},
                    )
                )

    def upload(self, run: str, path: Path | str, *, moved: Progress = lambda _: None) -> Committed:
        """Store a file or a folder as an artifact of a run, without staging; return its revision.

        The artifact has the name that the path ends with, also where that is a link. It alone is
        the run's state then: artifacts that were uploaded before stay in the revisions before,
        as `run:<guid>~1/<artifact>`, and the last revision doesn't name them any more.

        Raises:
            InvalidName: `run` is no GUID, or something in the folder can't be stored.
            SourceChanged: something changed while it was read; nothing is committed.
        """
        from modeldrop.intake import upload_path  # noqa: PLC0415 - not needed to register

        self.ready_to_write()
        guid = check_guid(run)
        return upload_path(self._storing(), guid, Path(path), self._request(), moved)

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
        """
        reference = references.parse_run(run)
        if experiment is not None:
            check_experiment(experiment)
        if artifact and reference.artifact and artifact != reference.artifact:
            message = f"{run} names {reference.artifact!r}, and {artifact!r} was asked for"
            raise InvalidName(message, hint="name the artifact once")
        shown = patiently(lambda: self._references.shown(reference))
        revision = shown.revision
        experiment = experiment or revision.experiment
        if experiment is None:
            message = f"run {revision.run} names no experiment"
            raise InvalidName(message, hint="name it with `-e EXPERIMENT`")
        try:
            chosen = choose_artifact(revision, artifact or reference.artifact)
        except ArtifactNotFound as error:
            references.add_earlier(error, revision)
            raise
        if unseen := shown.unseen(chosen):
            patiently(lambda: self.transfer.require(unseen))
        # Whether the backend is still this home's is asked under the lock.
        self._claim_home()
        return self.versions_at_backend.register(
            experiment,
            revision,
            chosen,
            self._request(),
            by=by or self.home.user,
            description=description,
            again=again,
        )

    # Reading

    def resolve(self, reference: str) -> Resolved:
        """Return what a reference stands for.

        Raises:
            InvalidName: it has no form of a reference.
            RunNotFound, VersionNotFound, ArtifactNotFound: there is no such thing.
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
        """
        folder = Path(to).absolute()
        there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
        if not there.is_dir():
            what = "leads nowhere" if there.is_symlink() else "is no folder"
            message = f"nothing can be pulled into {to}: {there} {what}"
            raise Conflict(message, hint="move it away, or pull into another folder")
        resolved, artifact = self.artifact(reference)
        return self.transfer.pull(artifact, Path(to) / _file_name(resolved, artifact), moved)

    def path(self, reference: str, *, moved: Progress = lambda _: None) -> Path:
        """Return the path of a verified, cached copy of an artifact; pull it if it isn't cached.

        The copy is read-only; what was changed in the cache is noticed by size and time, and
        pulled again.
        """
        from modeldrop.cache import cached  # noqa: PLC0415 - not needed to register

        resolved, artifact = self.artifact(reference)
        place = self.home.paths.cached(artifact.sha256, _file_name(resolved, artifact))
        return cached(self.transfer, artifact, place, moved)

    def verify(
        self, reference: str | None = None, *, deep: bool = False, moved: Progress = lambda _: None
    ) -> Report:
        """Check one artifact's bytes, or the whole store; return what was found.

        With a reference every byte of it is read. Without one, the journal, the records and the
        stored sizes are checked; `deep` reads every byte too.
        """
        from modeldrop.verify import verify_artifact, verify_store  # noqa: PLC0415 - see above

        if reference is None:
            return verify_store(
                self.home,
                self.backend,
                self.journal,
                self.runs_at_backend,
                self.versions_at_backend,
                self.transfer,
                deep=deep,
                moved=moved,
            )
        resolved, artifact = self.artifact(reference)
        return verify_artifact(resolved.name, artifact, self.transfer, moved=moved)

    def runs(self, damaged: Damaged | None = None) -> Iterator[Revision]:
        """Yield the last revision of every run at the backend, newest commit first.

        With `damaged`, what can't be read is told to it, and the rest is yielded.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        latest = self.runs_at_backend.latest
        every = (_read(latest, guid, damaged) for guid in self.runs_at_backend.guids())
        found = [revision for revision in every if revision is not None]
        yield from sorted(found, key=lambda each: (each.committed_at, each.run), reverse=True)

    def experiments(self, damaged: Damaged | None = None) -> list[Version]:
        """Return the newest version of every experiment, by name; `damaged` is as in `runs`.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        versions = self.versions_at_backend

        def newest(name: str) -> Version | None:
            return versions.version(name) if versions.last(name) else None

        every = (_read(newest, name, damaged) for name in sorted(versions.experiments()))
        return [version for version in every if version is not None]

    def versions(self, experiment: str, damaged: Damaged | None = None) -> list[Version]:
        """Return the versions of an experiment, oldest first; `damaged` is as in `runs`.

        Raises:
            VersionNotFound: there are none.
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        versions = self.versions_at_backend
        try:
            return versions.all(experiment)
        except IntegrityError:
            if damaged is None:
                raise
        # One by one: that is slow, and only where something is damaged.
        every = (
            _read(lambda number: versions.version(experiment, number), number, damaged)
            for number in range(1, versions.last(experiment) + 1)
        )
        return [version for version in every if version is not None]

    def log(self, reference: str | None = None) -> Iterator[Entry]:
        """Yield the journal's entries, newest first; those about one thing if it is named.

        Raises:
            JournalDamaged: the journal isn't what was acknowledged; the message has the offset.
        """
        wanted = None if reference is None else self._references.about(reference)
        for entry in self.journal.newest():
            if wanted is None or any(wanted(about) for about in entry.about):
                yield entry

    def describe(self, version: Version) -> dict[str, Json]:
        """Return a version as the JSON object of docs/json.md."""
        revision = self.runs_at_backend.revision(version.run, version.revision)
        artifact = pinned(version, revision)
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
                for each in artifact.files
            ],
            "registered_by": version.registered_by,
            "registered_at": version.registered_at,
            "description": version.description,
            "aliases": [],
            "targets": [],
        }

    def last_run(self) -> str:
        """Return the run that this home committed last: what `run:@last` means.

        Raises:
            RunNotFound: it committed none.
        """
        return self._references.last_run()

    @cached_property
    def _references(self) -> References:
        return References(self.home, self.journal, self.runs_at_backend, self.versions_at_backend)

    def _request(self) -> Request:
        return Request(str(uuid.uuid4()), self.home.user)


def _read(
    read: Callable[[Named], Found | None], name: Named, damaged: Damaged | None
) -> Found | None:
    """Return a record; tell `damaged`, if there is such, why it can't be read."""
    try:
        return read(name)
    except IntegrityError as error:
        if damaged is None:
            raise
        damaged(error)
        return None


def _file_name(resolved: Resolved, artifact: Artifact) -> str:
    # The whole run has no name of its own.
    return resolved.revision.run if artifact.artifact == WHOLE_RUN else artifact.artifact
