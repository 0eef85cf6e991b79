"""Whether a home may write to its backend: it is the right one, and for this home.

Where create-if-absent doesn't hold, one home alone may write, and the backend says which. Homes
that were made with `--single-writer` ask before they write, and the first one to write is it.
"""

from __future__ import annotations

import contextlib
import functools

from modeldrop import layout
from modeldrop.backend.base import Backend
from modeldrop.errors import BackendError, NotTheWriter
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.names import printable
from modeldrop.records import RepositoryRecord, WriterRecord


def check_backend(home: Home, backend: Backend, *, to_write: bool = True) -> None:
    """Make sure that a backend still holds the repository that this home belongs to.

    Asked before each append and not once: a folder may be unmounted, or a bucket be emptied,
    under a service that runs for months. With `to_write`, it must be this home that may write.

    Raises:
        BackendError: it holds none, or another one; nothing is written to it.
        NewerFormat: a later modeldrop made it.
        NotTheWriter: see `require_writer`.
    """
    data = backend.read(layout.FORMAT_KEY)
    where = f"{backend.url}/{layout.FORMAT_KEY}"
    found = None if data is None else _repository_in(data, where)
    if found != home.repository:
        held = "no repository" if found is None else f"the repository {found}"
        message = f"{backend.url} holds {held} now, and this home belongs to {home.repository}"
        raise BackendError(
            message,
            hint="mount the folder again, or bring back what was at that place",
            detail={"backend": backend.url, "holds": found, "repository": home.repository},
        )
    if to_write:
        require_writer(home, backend)


def require_writer(home: Home, backend: Backend) -> None:
    """Make sure that no other home alone may write, where one alone may; or be it from now on.

    Two that claim it at the same moment may both get through once; the next time, one is told.

    Raises:
        NotTheWriter: another home is it.
        BackendError: that isn't known.
    """
    if not home.config.backend.single_writer:
        return
    verdict = home.probe()
    if verdict is not None and verdict.holds:
        return
    found = writer_of(backend)
    if found is None:
        mine = WriterRecord(home.id, home.host, home.user, now())
        # Read back in any case: there is no telling who was first.
        with contextlib.suppress(BackendError):
            backend.create(layout.WRITER_KEY, mine.to_bytes())
        found = writer_of(backend)
    where = f"{backend.url}/{layout.WRITER_KEY}"
    if found is None:
        message = f"{where} was written and isn't there"
        raise BackendError(message, hint="check the store, and try again")
    if found.home != home.id:
        raise NotTheWriter(
            f"{backend.url} is for a single writer, {described(found)}; this home only reads",
            hint=f"store and register there; if that home is gone for good, delete {where} with "
            "the store's own tools: the next home that writes is the writer then",
            detail={"backend": backend.url, "writer": found.home, "host": found.host},
        )


def writer_of(backend: Backend) -> WriterRecord | None:
    """Return which home alone may write to a backend, or None if that isn't said there."""
    data = backend.read(layout.WRITER_KEY)
    if data is None:
        return None
    return WriterRecord.from_bytes(data, f"{backend.url}/{layout.WRITER_KEY}")


def described(writer: WriterRecord) -> str:
    """Return who the writer is, for people."""
    whose = f"of {printable(writer.named_by)} on {printable(writer.host)}"
    return f"the home {writer.home} {whose} since {writer.named_at}"


# Read before each append, and hardly ever another one.
@functools.lru_cache(maxsize=4)
def _repository_in(data: bytes, where: str) -> str:
    return RepositoryRecord.from_bytes(data, where).repository
