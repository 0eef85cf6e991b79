"""The façade: everything that a user of the library does, on one open home.

    with Repository.open() as repository:
        repository.upload(run, "model.onnx")
        registered = repository.register(run, "churn")
        repository.pull(f"churn/{registered.version.version}", "models")

Opening is cheap: the backend is connected, the journal's history read and the bytes moved only by
what needs it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from modeldrop import founding, listing, locks, references
from modeldrop.backend import open_backend
from modeldrop.backend.patience import patiently
from modeldrop.errors import (
    ArtifactNotFound,
    ConfigError,
    HomeNotFound,
    InvalidName,
    JournalForked,
)
from modeldrop.home import Home, open_home
from modeldrop.journal import Entry, Journal
from modeldrop.ledger import Request
from modeldrop.listing import Damaged
from modeldrop.names import WHOLE_RUN, check_experiment, check_guid
from modeldrop.records import Artifact, Json, Revision, Version
from modeldrop.references import References, Resolved
from modeldrop.runs import Committed, Runs, choose_artifact
from modeldrop.versions import Registered, Versions

if TYPE_CHECKING:
    from modeldrop.backend import Backend
    from modeldrop.gc import Collected
    from modeldrop.intake import Engine, Storing
    from modeldrop.rebuild import Rebuilt
    from modeldrop.sync import FetchedJournal, Pushed, Sync
    from modeldrop.transfer import Transfer
    from modeldrop.verify import Report

Progress = Callable[[int], None]

# What is made for the id that the home has.
_OF_THE_ID: Final = ("journal", "runs_at_backend", "versions_at_backend", "sync", "_references")


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

    def close(self) -> None:
        """Let go of threads and connections."""
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

        return Storing(self.runs_at_backend, self.transfer, self.backend.capabilities.connections)

    # Writing

    def ready_to_write(self) -> None:
        """Make sure that this home may write to its backend, before the first write.

        Raises:
            NewerFormat: a later modeldrop made this repository.
            ConfigError: the backend holds another repository than it did.
        """
        if self._checked:
            return
        founding.check_repository(self.home, self.backend)
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
            for part in _OF_THE_ID:
                self.__dict__.pop(part, None)
        founding.begin_journal(self.home, self.journal, old)
        self._claimed = True

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
        from modeldrop.cache import check_folder  # noqa: PLC0415 - not needed to register

        check_folder(to)
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

    # Sharing

    def push(
        self, *, timeout: float = locks.TIMEOUT, renew: bool = False, whole: bool = False
    ) -> Pushed:
        """Share what the journal has acknowledged since the last time, in sealed segments.

        With `renew`, a home that was restored takes a new id, and goes on with a new journal that
        names the old one; nothing else may use the home then. `whole` is as for `Sync.push`.

        Raises:
            Locked: another process of this home does it, for all of `timeout`; or `renew` is
                needed, and a service runs.
            JournalForked: the home was copied or restored, and there is no `renew`.
            BackendError: the backend failed; the next push goes on.
        """
        self.ready_to_write()
        try:
            return self.sync.push(timeout=timeout, whole=whole)
        except JournalForked:
            if not renew:
                raise
        with locks.hold(self.home.paths.service_lock(), what="the service's work", timeout=0):
            self.home.disown(self.home.id)
            self._checked = self._claimed = False
            self.ready_to_write()
        return self.sync.push(timeout=timeout)

    def fetch(self) -> list[FetchedJournal]:
        """Bring here what other homes have shared of their journals; see `Sync.fetch`."""
        return self.sync.fetch()

    def rebuild(self) -> Rebuilt:
        """Make the journal whole again from what is left of it and from the backend.

        Nothing else may use the home meanwhile. Run it again where it was interrupted.

        Raises:
            Locked, ConfigError, BackendError: see `rebuild.rebuild`.
        """
        from modeldrop.rebuild import rebuild  # noqa: PLC0415 - hardly ever needed

        rooms = (self.runs_at_backend, self.versions_at_backend)
        return rebuild(self.home, self.backend, self.journal, *rooms)

    def gc(self, *, dry_run: bool = False) -> list[Collected]:
        """Collect what crashes left at the backend and in the home; return it, or what would be.

        Raises:
            BackendError: the backend failed; what was collected before stays so.
        """
        from modeldrop.gc import collect  # noqa: PLC0415 - hardly ever needed

        if dry_run:
            founding.check_repository(self.home, self.backend)
        else:
            self.ready_to_write()
        return collect(self.home, self.backend, dry_run=dry_run)

    @cached_property
    def sync(self) -> Sync:
        """What shares journals, for those who do it all the time."""
        from modeldrop.sync import Sync  # noqa: PLC0415 - not needed to register

        return Sync(self.home, self.backend, self.journal)

    def describe(self, version: Version) -> dict[str, Json]:
        """Return a version as the JSON object of docs/json.md."""
        revision = self.runs_at_backend.revision(version.run, version.revision)
        return references.described(version, revision)

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


def _file_name(resolved: Resolved, artifact: Artifact) -> str:
    # The whole run has no name of its own.
    return resolved.revision.run if artifact.artifact == WHOLE_RUN else artifact.artifact
