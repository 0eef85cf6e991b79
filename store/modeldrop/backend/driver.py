"""What one kind of object store has to do for `objects`: a protocol inside this room.

A driver raises whatever its client library raises; `objects` says what it means. Its keys are
whole: the URL's prefix is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

ANSWER_SECONDS: Final = 45
"""How long a request about one record may take, a client's own tries and pauses included.

Where a connection goes silent, the client waits half a minute for each of its tries. Bytes take as
long as they take: for them only the silence counts.
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a listing: a file with its size, or a folder, whose size is None."""

    key: str
    size: int | None


class Upload(Protocol):
    """A large file that is sent in parts and becomes visible whole."""

    # How many parts may be under way at a time.
    parallel: int

    def send(self, number: int, part: bytes) -> None:
        """Send part `number`, from 1 on; all but the last have the same size."""
        ...

    def complete(self) -> None:
        """Make the file visible."""
        ...

    def discard(self) -> None:
        """Have the store forget the parts."""
        ...


class Driver(Protocol):
    """One store, connected. Every method may be called from several threads."""

    exclusive_create: bool
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

    def put(self, key: str, data: bytes) -> None:
        """Write a file that is no larger than a part."""
        ...

    def begin(self, key: str) -> Upload:
        """Begin a file of several parts."""
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
