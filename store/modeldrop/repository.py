"""The façade: everything that a user of the library does, on one open home.

    with Repository.open() as repository:
        repository.upload(run, "model.onnx")
        registered = repository.register(run, "churn")
        repository.pull(f"churn/{registered.version.version}", "models")

Opening is cheap: the backend is connected, the journal's history read and the bytes moved only by
what needs it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from modeldrop import founding, spelling
from modeldrop.asked import Asked, asked
from modeldrop.departures import Wanted
from modeldrop.errors import HomeNotFound
from modeldrop.home import open_home
from modeldrop.names import check_alias, check_guid
from modeldrop.reading import Reading
from modeldrop.records import Version
from modeldrop.registrar import Registered
from modeldrop.runs import Committed

if TYPE_CHECKING:
    from modeldrop.intake import Engine
    from modeldrop.promotion import Moved
    from modeldrop.sync import FetchedJournal

Progress = Callable[[int], None]


class Repository(Reading):
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
        home, made = founding.found_home(
            root,
            backend=backend,
            staging=staging,
            options=options or {},
            single_writer=single_writer,
            network_home=network_home,
        )
        if not made:
            founding.refuse_change(home, backend, staging)
            return cls(home), False
        founded = cls(home)
        founded.journal.append(founding.entry(home))
        return founded, True

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
        asked = self._asked(run, experiment, artifact, by, description, again=again)
        # Whether the backend is still this home's is asked under the lock.
        self._claim_home()
        return self._unless_retired(self.registrar.register(asked))

    def register_all(
        self,
        runs: Iterable[str],
        experiment: str | None = None,
        by: str | None = None,
        description: str = "",
    ) -> list[Registered]:
        """Register the artifact of each of several runs, in this order; return their versions.

        It does what `register` does, with the same answers, and is many times as quick for new
        ones where they are of one experiment.

        Raises:
            ModeldropError: as for `register`, of the first that fails. What comes before it is
                registered, and registering all again says so.
        """
        asked = [self._asked(run, experiment, None, by, description) for run in runs]
        self._claim_home()
        found: list[Registered] = []
        for _, group in itertools.groupby(asked, lambda each: each.wanted.experiment):
            found += self.registrar.register_all([*group])
        return [self._unless_retired(each) for each in found]

    def _asked(
        self,
        run: str,
        experiment: str | None,
        artifact: str | None,
        by: str | None,
        description: str,
        *,
        again: bool = False,
    ) -> Asked:
        wanted = Wanted(self)
        experiment, shown, chosen = self._references.to_register(run, experiment, artifact)
        wanted.require(shown, chosen)
        return asked(
            experiment,
            shown.revision,
            chosen,
            self._request(),
            by=by or self.home.user,
            description=description,
            again=again,
            look=wanted,
        )

    def _unless_retired(self, registered: Registered) -> Registered:
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
        parsed = spelling.parse_alias(name)
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
