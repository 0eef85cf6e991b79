"""Making a home: the backend is raced, its repository joined or begun, the home laid out."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path

from modeldrop import admission, layout, locks
from modeldrop.backend import Backend, open_backend, urls
from modeldrop.errors import (
    BackendError,
    ConditionNotHeld,
    ConfigError,
    Conflict,
    IntegrityError,
    NotFound,
    NotTheWriter,
)
from modeldrop.files import make_folders
from modeldrop.form import NEEDS, now
from modeldrop.home import Home, make_home, user_name
from modeldrop.journal import Journal, NewEntry
from modeldrop.names import printable
from modeldrop.records import RepositoryRecord, WriterRecord
from modeldrop.settings import BackendSettings, Config, StagingSettings
from modeldrop.structs import replace


def found_home(
    root: Path,
    *,
    backend: str,
    staging: str,
    options: Mapping[str, object],
    single_writer: bool,
    network_home: bool,
) -> tuple[Home, bool]:
    """Make a home at `root`, where there is none; return whether it was; see `Repository.init`.

    Raises:
        ConfigError: the home would be on a network file system, and `network_home` isn't given.
        ConditionNotHeld: create-if-absent doesn't hold, and `single_writer` isn't given.
        BackendError: the backend can't be used.
    """
    from modeldrop.backend import probe  # noqa: PLC0415 - only `init` races

    if not network_home:
        _refuse_network(root.absolute())
    settings = Config(
        backend=BackendSettings(
            url=_lasting_url(backend), options=dict(options), single_writer=single_writer
        ),
        staging=StagingSettings(path=_lasting_path(staging)),
    )
    _refuse_file(settings.backend.url)
    paths = layout.HomePaths(root.absolute())
    opened = open_backend(backend or str(paths.model_repository), options, None)
    try:
        if not backend:
            # The backend is in the home then, and would make that as readable as itself.
            make_folders(paths.root, mode=0o700)
        opened.prepare()
        verdict = probe.race(opened, single_writer=single_writer)
        writer = admission.writer_of(opened)
        if writer is not None:
            # Another home found that it doesn't hold; that this race had one winner was luck.
            verdict = replace(verdict, holds=False)
        if not single_writer:
            _refuse_second(opened.url, writer)
            probe.require(verdict)
        home, made = make_home(root, settings, _join(opened), verdict)
        # Who isn't the writer has a home to read with, and is told when it wants to write.
        with contextlib.suppress(NotTheWriter):
            admission.require_writer(home, opened)
        return home, made
    finally:
        opened.close()


def entry(home: Home) -> NewEntry:
    """Return the first entry of a new home's journal."""
    verdict = home.probe()
    return NewEntry(
        kind="home-created",
        about=("home",),
        request=str(uuid.uuid4()),
        user=home.user,
        details={
            "repository": home.repository,
            "backend": verdict.url if verdict else None,
            "create_if_absent_holds": verdict.holds if verdict else None,
        },
    )


def require_repository(backend: str, options: Mapping[str, object]) -> None:
    """Raise unless there is a repository at a backend that a home can be made from.

    Raises:
        NotFound: there is none.
        BackendError: the backend can't be used.
    """
    opened = open_backend(_lasting_url(backend), options, None)
    try:
        found = repository_record(opened)
        url = opened.url
    finally:
        opened.close()
    if found is None:
        message = f"there is no repository at {url}"
        raise NotFound(message, hint="`modeldrop init --backend URL` begins one")


def refuse_secrets(home: Home) -> None:
    """Raise if there is a secret in the settings of a home's backend.

    Raises:
        ConfigError: there is one; it isn't repeated.
    """
    settings, path = home.config.backend, home.paths.config
    try:
        urls.refuse_secrets(settings.url)
        urls.check_options(settings.options)
    except ConfigError as error:
        message, hint = f"{path}: {error.message}", error.hint
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            message = f"{message}; others than its owner may read the file"
            hint = f"{hint}; and change it at the store: it may have been read"
        raise ConfigError(message, hint=hint) from None


def check_repository(home: Home, backend: Backend) -> None:
    """Make sure that a backend holds the repository of this home.

    Raises:
        NewerFormat: a later modeldrop made this repository.
        ConfigError: it holds another one, or none.
        NotTheWriter: it is for a single writer, which is another home.
    """
    found = repository_record(backend)
    if found is None or found.repository != home.repository:
        held = "no repository" if found is None else f"the repository {found.repository}"
        message = f"{backend.url} holds {held}, and this home belongs to {home.repository}"
        raise ConfigError(message, hint="`modeldrop init` in another folder makes a home for it")
    admission.require_writer(home, backend)


def begin_journal(home: Home, journal: Journal, old: str | None) -> None:
    """Let the journal of a copied home begin with the id that it had before.

    Whoever claimed the home may have died before this, so it isn't left to them alone.
    """
    try:
        if journal.head() is not None:
            return
    except IntegrityError:
        return  # whoever writes to it says what is wrong
    with locks.hold(home.paths.locks / "home", what=f"the home {home.paths.root}"):
        old = old or home.copied_from()
        if old is not None and journal.head() is None:
            journal.append(
                NewEntry(
                    kind="home-copied",
                    about=("home",),
                    request=str(uuid.uuid4()),
                    user=home.user,
                    details={"copied_from": old},
                )
            )


def repository_record(backend: Backend) -> RepositoryRecord | None:
    """Return what a backend says that it is, or None if nothing has been stored there yet."""
    data = backend.read(layout.FORMAT_KEY)
    if data is None:
        return None
    return RepositoryRecord.from_bytes(data, f"{backend.url}/{layout.FORMAT_KEY}")


def _refuse_second(url: str, writer: WriterRecord | None) -> None:
    if writer is not None:
        message = f"{url} is for a single writer, {admission.described(writer)}"
        raise ConditionNotHeld(
            message,
            hint="`--single-writer` makes a home that reads there, and doesn't write",
            detail={"url": url, "writer": writer.home, "host": writer.host},
        )


def _join(backend: Backend) -> str:
    """Return the id of the repository at a backend; make one if there is none."""
    found = repository_record(backend)
    if found is None:
        fresh = RepositoryRecord(str(uuid.uuid4()), now(), user_name(), NEEDS)
        try:
            backend.create(layout.FORMAT_KEY, fresh.to_bytes())
        except BackendError:
            found = repository_record(backend)
            if found is None:
                raise
        found = found or repository_record(backend)
    if found is None:
        message = f"{backend.url}/{layout.FORMAT_KEY} was written and isn't there"
        raise BackendError(message, hint="check the store, and try again")
    return found.repository


def _lasting_url(backend: str, base: Path | None = None) -> str:
    """Return a URL that means the same from every working folder."""
    return urls.parse(backend, base).url if backend else ""


def _lasting_path(path: str) -> str:
    """Return a path that means the same from every working folder."""
    return str(Path(path).expanduser().absolute()) if path else ""


def _refuse_file(url: str) -> None:
    """Raise if a backend of this machine would have to be where a file is.

    Raises:
        ConfigError: it would.
    """
    path = urls.parse(url, None).path if url else None
    if path is None:
        return
    there = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not os.path.isdir(there):
        message = (
            f"the backend can't be {printable(str(path))}: {printable(str(there))} is no folder"
        )
        raise ConfigError(message, hint="give a folder, or the URL of a store")


def _refuse_network(root: Path) -> None:
    from modeldrop.intake import is_network  # noqa: PLC0415 - only `init` asks

    there = next(folder for folder in (root, *root.parents) if folder.exists())
    if is_network(there):
        message = f"{root} is on a network file system, where locks and fsync can't be relied on"
        raise ConfigError(
            message,
            hint="set MODELDROP_HOME to a folder on a local disk, or accept it with "
            "`--network-home`",
        )


def refuse_change(home: Home, backend: str, staging: str) -> None:
    """Raise if `init` asks a home that is there for another backend or staging folder.

    Raises:
        Conflict: it does.
    """
    changed = [
        f"{what} {printable(asked)}, and it has {printable(has)}"
        for what, asked, has in (
            ("backend", _lasting_url(backend), _lasting_url(home.backend_url, home.paths.root)),
            ("staging", _lasting_path(staging), str(home.staging)),
        )
        if asked and asked != has
    ]
    if changed:
        message = f"{home.paths.root} is a home already: asked for {'; '.join(changed)}"
        raise Conflict(
            message, hint="make another home in another folder, or leave this option out"
        )
