"""Opening the places that can be imported from, by what a person calls them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from modeldrop.errors import NotFound, UsageError
from modeldrop.imports.elsewhere import Source
from modeldrop.imports.mlflow import Mlflow, Store
from modeldrop.imports.mlflow_database import MlflowDatabase
from modeldrop.imports.mlflow_folder import MlflowFolder
from modeldrop.imports.mlopsnet import MlopsNet
from modeldrop.imports.places import Place, Places, hide_userinfo, local_path
from modeldrop.imports.tables import Tables, open_sqlite, open_url
from modeldrop.imports.unpacking import BundleFile
from modeldrop.names import printable
from modeldrop.redaction import remember

# Where MLflow puts artifacts by default, beside its database.
_BESIDE: Final = ("mlruns", "mlartifacts")
_SQLITE: Final = "sqlite"


@contextlib.contextmanager
def mlopsnet(database: Path, folder: Path) -> Iterator[Source]:
    """Yield a database of MLOps.NET and its `model-repository`, open to be read.

    Raises:
        NotFound, UsageError, IntegrityError: see `MlopsNet`.
    """
    with contextlib.closing(MlopsNet(database, folder)) as source:
        yield source


@contextlib.contextmanager
def bundle(path: Path) -> Iterator[Source]:
    """Yield a bundle, open to be read.

    Raises:
        NotFound, UsageError, IntegrityError: see `BundleFile`.
    """
    with contextlib.closing(BundleFile(path)) as source:
        yield source


@contextlib.contextmanager
def mlflow(where: str, artifacts: Sequence[Path] = ()) -> Iterator[Source]:
    """Yield an MLflow store, open to be read.

    `where` is a folder `mlruns`, a SQLite file, or a database's URL. Artifacts are read in the
    folders `artifacts`; by default that is the folder `mlruns` itself, or `mlruns` and
    `mlartifacts` beside a SQLite file. A path that leads out of them is never followed.

    Raises:
        NotFound: it, or one of the folders, isn't there.
        UsageError: it is nothing that MLflow wrote, or can't be read.
        DriverMissing: what reads such a database isn't installed.
        IntegrityError: it is damaged.
        BackendError: the database doesn't answer.
    """
    places = [Place(each) for each in artifacts]
    path = local_path(where) or ("" if "://" in where else where)
    if path and Path(path).is_dir():
        place = Place(Path(path))
        yield Mlflow(MlflowFolder(place, Places(places or [place])))
        return
    tables, location, beside = _database(where, path)
    with contextlib.closing(tables):
        if not places and beside is not None:
            there = (beside / each for each in _BESIDE)
            # Nobody named these, so a link may not be what it seems.
            places = [Place(each) for each in there if each.is_dir() and not each.is_symlink()]
        store: Store = MlflowDatabase(tables, location, Places(places))
        yield Mlflow(store)


def _database(where: str, path: str) -> tuple[Tables, str, Path | None]:
    """Return a database, where it is for people, and the folder that it is in."""
    if path:
        return open_sqlite(Path(path)), str(Path(path).absolute()), Path(path).absolute().parent
    try:
        parts = urlsplit(where)
        secret = parts.password
    except ValueError as error:
        raise UsageError(f"{printable(hide_userinfo(where))} is no URL") from error
    remember(secret, unquote(secret) if secret else None)
    if parts.scheme in {"http", "https"}:
        raise UsageError(
            f"{printable(hide_userinfo(where))} is a tracking server, and is read at its store",
            hint="name its `--backend-store-uri`, and where its artifacts are by `--artifacts`",
        )
    if parts.scheme == _SQLITE:
        # As SQLAlchemy has it: three slashes and a relative path, four and an absolute one.
        file = Path(unquote(parts.path[1:]))
        return open_sqlite(file), str(file.absolute()), file.absolute().parent
    if not parts.scheme or not (parts.netloc or parts.path):
        message = f"{printable(where)} is neither a folder, a file, nor a URL"
        raise NotFound(message, hint="name the folder `mlruns`, or the database")
    return open_url(where), hide_userinfo(where), None
