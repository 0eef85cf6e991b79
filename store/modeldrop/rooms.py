"""The rooms of one open home: the parts that the façade is made of, each made when first used.

Opening a home connects nothing and reads no history. Before the first write it is made sure that
the home is this host's, and that its backend is the one that it was made for.
"""

from __future__ import annotations

import uuid
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from modeldrop import founding
from modeldrop.aliases import Aliases
from modeldrop.backend import open_backend
from modeldrop.errors import ConfigError
from modeldrop.home import Home
from modeldrop.journal import Journal
from modeldrop.ledger import Request
from modeldrop.references import References
from modeldrop.registrar import Registrar
from modeldrop.retirements import Retirements
from modeldrop.runs import Runs
from modeldrop.versions import Versions

if TYPE_CHECKING:
    from modeldrop.backend import Backend
    from modeldrop.deployments import Deployments
    from modeldrop.finding import Finding
    from modeldrop.pins import Sequences
    from modeldrop.records import Version
    from modeldrop.sync import Sync
    from modeldrop.targets import Targets
    from modeldrop.transfer import Transfer

# What is made for the id that the home has.
_OF_THE_ID: Final = (
    *("journal", "runs_at_backend", "versions_at_backend", "aliases_at_backend"),
    *("targets_at_backend", "deployments_at_backend", "retirements_at_backend"),
    *("sync", "finding", "_references"),
)


class Rooms:
    """An open home and its parts, but not yet what people do with it."""

    def __init__(self, home: Home) -> None:
        """Use `Repository.open` or `Repository.init`."""
        self.home = home
        self._checked = False
        self._claimed = False

    def close(self) -> None:
        """Let go of threads and connections."""
        self._close_places()
        if "registrar" in self.__dict__:
            self.registrar.close()
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
    def registrar(self) -> Registrar:
        """Who gives artifacts their versions."""
        return Registrar(self.home, self.backend, self.versions_at_backend)

    @cached_property
    def aliases_at_backend(self) -> Aliases:
        """The aliases and their moves."""
        return Aliases(self.home, self.backend, self.versions_at_backend)

    @cached_property
    def retirements_at_backend(self) -> Retirements:
        """Which versions are retired."""
        return Retirements(self.home, self.backend, self.journal, self.versions_at_backend)

    @cached_property
    def targets_at_backend(self) -> Targets:
        """The targets, and what they were."""
        from modeldrop.targets import Targets  # noqa: PLC0415 - not needed to register

        rooms = (self.versions_at_backend, self.aliases_at_backend)
        return Targets(self.home, self.backend, self.journal, *rooms)

    @cached_property
    def deployments_at_backend(self) -> Deployments:
        """The deployments to the targets."""
        from modeldrop.deployments import Deployments  # noqa: PLC0415 - not needed to register

        rooms = (self.versions_at_backend, self.targets_at_backend)
        return Deployments(self.home, self.backend, *rooms)

    @cached_property
    def transfer(self) -> Transfer:
        """What moves bytes."""
        from modeldrop.transfer import Transfer  # noqa: PLC0415 - not needed to register

        return Transfer(self.backend)

    @cached_property
    def sync(self) -> Sync:
        """What shares journals, for those who do it all the time."""
        from modeldrop.sync import Sync  # noqa: PLC0415 - not needed to register

        return Sync(self.home, self.backend, self.journal)

    @cached_property
    def finding(self) -> Finding:
        """What finds versions and runs by what is known of them."""
        from modeldrop import finding  # noqa: PLC0415 - not needed to register

        rooms = (self.runs_at_backend, self.versions_at_backend, self.aliases_at_backend)
        return finding.Finding(
            finding.Rooms(
                *(self.home, self.backend, self.journal, *rooms, self.retirements_at_backend),
                *(self.deployments_at_backend, self.targets_at_backend, self._references),
            )
        )

    @cached_property
    def _references(self) -> References:
        rooms = (self.runs_at_backend, self.versions_at_backend, self.aliases_at_backend)
        return References(self.home, self.journal, *rooms, self._live)

    def _live(self, experiment: str, name: str, number: int | None) -> Version | None:
        """Return the version that is live at a target; see `references.Live`."""
        from modeldrop.targets import bears  # noqa: PLC0415 - not needed to register

        if number is None:
            if bears(self.backend, name) is None:
                return None
            found = self.deployments_at_backend.live(experiment, name)
        else:
            there = self.deployments_at_backend.read(experiment, name, number)
            if there is None:
                return None
            found = there
        return self.deployments_at_backend.version(found)

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
            self._close_places()
            for part in _OF_THE_ID:
                self.__dict__.pop(part, None)
        founding.begin_journal(self.home, self.journal, old)
        self._claimed = True

    def _sequences(self) -> Sequences:
        from modeldrop.pins import Sequences  # noqa: PLC0415 - hardly ever needed

        return Sequences(
            self.home,
            self.backend,
            self.journal,
            self.runs_at_backend,
            self.versions_at_backend,
            self.aliases_at_backend,
            self.deployments_at_backend,
            self.targets_at_backend,
            self.retirements_at_backend,
        )

    def _close_places(self) -> None:
        if "targets_at_backend" in self.__dict__:
            self.targets_at_backend.close()

    def _request(self) -> Request:
        return Request(str(uuid.uuid4()), self.home.user)
