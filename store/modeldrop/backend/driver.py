"""What one kind of object store has to do for `objects`: a protocol inside this room.

A driver raises whatever its client library raises; `objects` says what it means. Its keys are
whole: the URL's prefix is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, runtime_checkable

from modeldrop.structs import Frozen

ANSWER_SECONDS: Final = 45
"""How long a request about one record may take, a client's own tries and pauses included.

Where a connection goes silent, the client waits half a minute for each of its tries. Bytes take as
long as they take: for them only the silence counts.
"""


class Listed(Frozen):
    """One entry of a listing: a file with its size, or a folder, whose size is None."""

    key: str
    size: int | None


class Unfinished(Frozen):
    """A large file that was begun and neither made visible nor forgotten."""

    key: str
    begun_at: datetime
    # What the store calls it, where one key may have several.
    upload: str = ""
    # Asks when something of it came last, where `begun_at` doesn't tell.
    touched: Callable[[], datetime] | None = None
    # For how long after `begun_at` something may have come of which the store tells nothing.
    untold: timedelta = timedelta(0)


class Body(Protocol):
    """The bytes of a file, as they come."""

    # How many the whole file has.
    total: int

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer; return how many, none at the end of what was asked."""
        ...

    def close(self) -> None:
        """Ask for no more."""
        ...


class Upload(Protocol):
    """A large file that is sent in parts and becomes visible whole."""

    # How many parts may be under way at a time.
    parallel: int
    # Whether a view of a buffer is sent as it is.
    views: bool

    def send(self, number: int, part: bytes | memoryview) -> None:
        """Send part `number`, from 1 on; all but the last have the same size."""
        ...

    def complete(self) -> None:
        """Make the file visible."""
        ...

    def discard(self) -> None:
        """Have the store forget the parts."""
        ...


@runtime_checkable
class Taking(Protocol):
    """A driver whose store copies a file without sending it anywhere."""

    def take(self, other: Driver, source: str, key: str, size: int) -> bool:
        """Copy a file of another connected store; False where this one can't, or may not."""
        ...


class Held(Frozen):
    """What a store says of a part that it has: how many bytes it has, and their MD5 in hex.

    Where that is something else than an MD5, it is that of no bytes, and the part is sent again.
    """

    size: int
    md5: str


@runtime_checkable
class Resumable(Upload, Protocol):
    """An upload that another process can go on with, since the store says what it has of it."""

    # What the store calls it; may be empty, where the key says it all.
    name: str
    # The parts that it had when it was taken up, by their numbers.
    held: Mapping[int, Held]

    def keep(self, number: int) -> None:
        """Make a part that is held one of the file, in place of sending it."""
        ...


@runtime_checkable
class Resuming(Protocol):
    """A driver that can take up what was begun."""

    def resume(self, key: str, name: str) -> Resumable | None:
        """Take up an upload, or return None where the store has it no more or can't say."""
        ...


@runtime_checkable
class Gathering(Protocol):
    """A driver that brings many small files quicker at once than one by one."""

    def gather(
        self, keys: Sequence[str], sizes: Sequence[int], take: Callable[[int, memoryview], None]
    ) -> None:
        """Tell `take` of what comes of files, whole, in any order, by their numbers.

        What doesn't come is left out. Raises what `take` raises, and nothing else.
        """
        ...


@runtime_checkable
class Clocked(Protocol):
    """A driver that sees by which clock its store answers."""

    def now(self) -> datetime | None:
        """Return the time of an answer, or None if it bears none."""
        ...


class Driver(Protocol):
    """One store, connected. Every method may be called from several threads."""

    exclusive_create: bool
    # Whether `put` over a file is one step for all who read it.
    replaces: bool
    # Whether `pages` is one request a page.
    lists_by_prefix: bool
    # How many parts a file may have.
    most_parts: int
    endpoint: str | None

    def prepare(self, prefix: str) -> None:
        """Make what is ours to make, and see that the bucket is there."""
        ...

    def check(self, prefix: str) -> None:
        """Raise unless the bucket is there."""
        ...

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return a file's bytes, or those from `start` to before `end`."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Create a small file if it is absent, and raise if it isn't."""
        ...

    def size(self, key: str) -> int:
        """Return a file's size, by asking for that file alone."""
        ...

    def checks_digests(self, key: str) -> bool:
        """Return whether the store refuses bytes that aren't what a digest sent along says.

        It is tried, with a key that is free and stays so. If it does, a digest goes along with
        all that is put or sent afterwards.
        """
        ...

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a file that is no larger than a part."""
        ...

    def begin(self, key: str) -> Upload:
        """Begin a file of several parts."""
        ...

    def open(self, key: str, start: int, end: int | None) -> Body | None:
        """Return the bytes from `start` to before `end` or to the end, by one request.

        None where bytes don't come that way: then they are read.
        """
        ...

    def unfinished(self, start: str) -> Iterator[list[Unfinished]]:
        """Yield pages of the large files under `start` that were begun and came to no end."""
        ...

    def end(self, unfinished: Unfinished) -> None:
        """Have the store forget what it has of such a file; it may raise if it has nothing."""
        ...

    def pages(self, start: str, *, deep: bool) -> Iterator[list[Listed]]:
        """Yield pages of what begins with `start`: files at any depth, or one level with folders.

        A folder's key has no slash at its end.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete a file; it may raise if it isn't there."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
