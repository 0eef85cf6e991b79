"""What a backend is: a small protocol, with capabilities that callers ask for.

Callers ask what a backend can do, never what it is. Everything in here is keyed by the keys of
`layout`, relative to the backend's URL. One contract suite, `tests/test_backend_contract.py`,
runs against every backend; a backend without the suite is not a backend.

Errors are those of `modeldrop.errors`: an `OSError` or a client library's exception never comes
out of a backend. A transient failure is `BackendUnreachable` or `BackendError`; whoever gets one
from a write can't know whether it happened, and reads back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from modeldrop.batch import Batch, Pending
from modeldrop.errors import InvalidName
from modeldrop.names import printable
from modeldrop.structs import Frozen


class Capabilities(Frozen):
    """What a backend can do, as far as callers have to know."""

    # Whether `create` has one winner; the probe measures it, this only says it is worth trying.
    exclusive_create: bool
    # Whether a file whose `Writer.finish` returned is known to be what was written, its size
    # apart. Where it isn't, and the writer's bytes weren't `checked` either, the transfer reads
    # it back and hashes it.
    proves_writes: bool
    # Whether listing what begins with a text is one request for each page of names, and looking at
    # each of them would be one as well. Where it isn't, a look is cheap and a listing long.
    lists_by_prefix: bool
    # How many transfers at a time are worth while.
    connections: int
    # How many bytes at a time are worth sending.
    chunk_size: int
    # Whether a name can lead to a folder, and be led to another one in one step for all readers.
    leads: bool = False
    # Whether a record can be replaced in one step for all readers.
    replaces: bool = False
    # Whether `create_in` and `create_among` take what waits for the disk together then.
    shares_waits: bool = False
    # How long nothing may come for a file that was begun until it counts as given up. Longer than
    # anybody goes on with an upload that was interrupted: see `intake.attempts`.
    gives_up_after: timedelta = timedelta(days=14)


class Stored(Frozen):
    """What the backend says of one stored file: its key and its size in bytes."""

    key: str
    size: int


class Unfinished(Frozen):
    """A file that was begun and came to no end, under a key where it is never seen."""

    key: str
    # When something of it came last, as far as the store says.
    touched_at: datetime
    # How many bytes of it are there, or None where that isn't known.
    size: int | None


_NO_NAMES: Final = frozenset(("", ".", ".."))


def check_key(key: str) -> str:
    """Return the key, unchanged, if it names something below the backend's URL and nothing else.

    Keys are also read from manifests, which somebody else may have written: one with `..` in it
    would leave a local backend's folder, and SDKs that tidy URLs would let it leave a prefix.

    Raises:
        InvalidName: it is empty or absolute, or has a component that isn't a name.
    """
    if not _NO_NAMES.isdisjoint(key.split("/")) or "\0" in key or "\\" in key:
        message = f"{printable(key)!r} is no key of a backend"
        raise InvalidName(
            message, hint="`modeldrop verify` names the record that it was read from, if it was"
        )
    return key


class Writer(Protocol):
    """One file on its way into the backend: invisible under its key until `finish`."""

    @property
    def checked(self) -> bool:
        """Whether the store takes no byte, and ends no file, that a digest sent along disowns."""
        ...

    @property
    def token(self) -> str | None:
        """What `Backend.resume` needs to go on with it, once the store has something to keep.

        None before that, and for ever where nothing can be gone on with. Nothing in it is secret.
        """
        ...

    def write(self, data: bytes | memoryview) -> int:
        """Take the next bytes, and send them; return how many bytes that is.

        None of them where the store says that it has something in their place; once they can be
        compared and turn out to be others, they are sent, and counted then.
        """
        ...

    def finish(self) -> None:
        """Make the file visible under its key and durable, as far as the backend can be."""
        ...

    def abort(self) -> None:
        """Drop what was sent; nothing is ever visible under the key. Never raises."""
        ...

    def leave(self) -> None:
        """Stop, and leave the whole parts that arrived to be gone on with; otherwise as `abort`.

        Nothing is on its way any more when it returns. Never raises.
        """
        ...


class Source(Protocol):
    """One stored file being read."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, and none at the end."""
        ...

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer, and return how many; none at the end."""
        ...

    def __enter__(self) -> Self:
        """Return itself."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the file."""
        ...


@runtime_checkable
class Ranged(Protocol):
    """A source that can be read in several places at a time."""

    # How many bytes the file has.
    size: int
    # How many seconds passed until the store began its answer.
    waited: float

    def within(self, start: int, end: int) -> Source:
        """Return another source, of the bytes from `start` to before `end`."""
        ...


@runtime_checkable
class Parting(Protocol):
    """A backend that may open a part of a file."""

    def part(self, key: str, start: int, end: int) -> Source | None:
        """Open a stored file to read it from `start` to before `end`, which it has.

        None if it is absent, or where only the whole of a file can be opened.
        """
        ...


@runtime_checkable
class Gathering(Protocol):
    """A backend that may bring many small files quicker at once than one by one."""

    def gather(self, wanted: Sequence[Stored], take: Callable[[int, memoryview], None]) -> None:
        """Tell `take` of what comes of files of these sizes, whole, in any order, by their numbers.

        The bytes are gone when `take` returns. What doesn't come is left out: read by itself, it
        is told why. Raises what `take` raises, and nothing of the store's.
        """
        ...


class Backend(Protocol):
    """Where bytes live. Every method may be called from several threads."""

    @property
    def url(self) -> str:
        """The URL, without anything secret: fit for records, logs and errors."""
        ...

    @property
    def endpoint(self) -> str | None:
        """The address of the server where it isn't the usual one; without anything secret."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    def prepare(self) -> None:
        """Make what has to be there before the first write, if it is this backend's to make.

        A local folder is made; a bucket isn't.

        Raises:
            BucketNotFound: the bucket or container is missing.
        """
        ...

    def read(self, key: str) -> bytes | None:
        """Return a small record, or None if it is known to be absent."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Create a small record if it is absent; return whether it was.

        False may be wrong where an answer was lost: read back who owns the record. After an
        error the outcome is unknown: read back as well.
        """
        ...

    def confirm(self, key: str) -> None:
        """Make sure that a record that was read lasts.

        Whoever created it may have died, or may still be, between making it visible and making it
        durable. Nothing to do where the two are one, as in an object store.
        """
        ...

    def create_in(self, batch: Batch, key: str, data: bytes) -> Pending | None:
        """Have a small file or record created with a batch, as part of a folder that is absent.

        Nothing of the folder is visible before the batch is finished, and then all of it. None
        where it is there already, and where this backend waits for nothing that could be shared;
        then nothing was done.
        """
        ...

    def create_among(self, batch: Batch, key: str, data: bytes) -> Pending | None:
        """Have a record created with a batch if it is absent, in a folder that is there.

        None where this backend waits for nothing that could be shared; then nothing was done.
        """
        ...

    def confirm_in(self, batch: Batch, key: str) -> None:
        """Make sure with a batch's next wait that a record that was read lasts; see `confirm`."""
        ...

    def stat(self, key: str) -> Stored | None:
        """Return what is stored under a key, or None if it is known to be absent."""
        ...

    def writer(self, key: str, size: int) -> Writer:
        """Begin a file of about `size` bytes under a key that is unique and free."""
        ...

    def resume(self, key: str, size: int, token: str) -> Writer | None:
        """Go on with a file that was left, by this process or by one that died.

        The writer is given all of its bytes, from the first on. It sends those that the store
        doesn't say to have: what is there is compared with them, part by part. None where the
        store has nothing left of it, or can't say what, or never keeps anything.
        """
        ...

    def source(self, key: str, start: int = 0) -> Source | None:
        """Open a stored file, or return None if it is known to be absent.

        It is read from `start` on, which is a byte that it has, or 0.
        """
        ...

    def children(self, folder: str, prefix: str = "") -> Iterator[str]:
        """Yield the names directly in a folder that begin with `prefix`, files and folders.

        In no particular order; nothing if there is no such folder. Temporary names are left out.
        """
        ...

    def walk(self, folder: str) -> Iterator[Stored]:
        """Yield every stored file in a folder and below, in no particular order."""
        ...

    def delete(self, key: str) -> None:
        """Delete a file, if it is there."""
        ...

    def take(self, source: Backend, source_key: str, key: str, size: int) -> bool:
        """Copy a file of another backend, of `size` bytes, to a unique, free key of this one.

        The store or the kernel does it, and the bytes don't pass through here; nothing is said of
        whether they arrived as they were. False where that can't be, and where there is no such
        file; then nothing was done.
        """
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Write a small record, over the one that may be there: readers see one or the other.

        Only where the backend `replaces`.
        """
        ...

    def lead(self, key: str, to: str) -> None:
        """Have a name lead to another folder in one step; `to` is relative to the name's folder.

        Only where the backend `leads`.
        """
        ...

    def led(self, key: str) -> str | None:
        """Return where a name leads to, as `lead` was told, or None if there is no such name.

        Only where the backend `leads`.
        """
        ...

    def turn(self, key: str, what: str) -> AbstractContextManager[None]:
        """Hold a lock below the backend's URL, where its processes of this machine share one.

        Elsewhere it holds nothing. `what` names it in errors.

        Raises:
            Locked: another process held it for too long.
        """
        ...

    def clear(self, folder: str) -> None:
        """Delete all in a folder and below, and what was begun there and came to no end."""
        ...

    def end_unfinished(self, before: datetime, *, dry_run: bool = False) -> list[Unfinished]:
        """End the files of ours that were begun and got nothing since a time; return which.

        They are seen nowhere and paid for all the same. Whoever still sends to one gets an error.
        Without any effect if `dry_run`.
        """
        ...

    def now(self) -> datetime | None:
        """Return the time by the store's clock, or None where it has none of its own to ask."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Return the path of a stored file where this machine can open it, otherwise None."""
        ...

    def free(self) -> int | None:
        """Return how many bytes new files may take up, or None where nobody can know that.

        None is an object store, which has no end; a disk answers by what this user may fill.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads; the backend isn't used afterwards. Never raises."""
        ...
