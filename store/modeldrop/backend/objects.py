"""Any object store as a backend, over the driver of its kind.

What is read is what the store says now: nothing is cached, and "absent" is answered only when the
bucket is known to be there. A record is created in one request, and seen by no one or whole; bytes
are sent in parts and seen when all are there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modeldrop import layout
from modeldrop.backend import base, failures
from modeldrop.backend.base import Capabilities, Stored, check_key
from modeldrop.backend.bucket import CONNECTIONS, Bucket
from modeldrop.backend.driver import Clocked, Gathering, Resuming, Taking
from modeldrop.backend.failures import Kind
from modeldrop.backend.streams import PartWriter, RangeSource, StreamSource
from modeldrop.backend.urls import Address
from modeldrop.batch import Batch, Pending
from modeldrop.errors import BackendError
from modeldrop.files import TEMP_PREFIX

if TYPE_CHECKING:
    from modeldrop.backend.driver import Driver, Unfinished

_PART: Final = 8 * 2**20
_MIB: Final = 2**20
_NO_SUCH_RANGE: Final = 416


class ObjectBackend:
    """The backend that is a prefix in a bucket or container."""

    def __init__(self, address: Address, connect: Callable[[], Driver]) -> None:
        """Take how to connect; it is done when it is first needed."""
        self._bucket = Bucket(address, connect)

    @property
    def url(self) -> str:
        """The URL, which has nothing secret in it."""
        return self._bucket.url

    @property
    def endpoint(self) -> str | None:
        """The address of the server where it isn't the usual one."""
        return self._bucket.driver.endpoint

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        driver = self._bucket.driver
        return Capabilities(
            exclusive_create=driver.exclusive_create,
            lists_by_prefix=driver.lists_by_prefix,
            replaces=driver.replaces,
            # ETags aren't digests, and checksums differ from server to server.
            proves_writes=False,
            connections=CONNECTIONS,
            chunk_size=_PART,
        )

    def prepare(self) -> None:
        """See that the bucket is there and may be listed."""
        self._bucket.prepare()

    def read(self, key: str) -> bytes | None:
        """Return a small record by one request, or None if it is known to be absent."""
        full = self._bucket.key(key)
        with self._bucket.told("read", key):
            return self._bucket.unless_absent(lambda: self._bucket.driver.read(full))

    def create(self, key: str, data: bytes) -> bool:
        """Create a small record by one request, if it is absent; return whether it was."""
        full = self._bucket.key(key)
        with self._bucket.told("create", key):
            try:
                self._bucket.driver.create(full, data)
            except Exception as error:
                # Only a server that looked answers this. Its other answers, and none at all,
                # leave open what happened.
                if failures.kind_of(error) is not Kind.EXISTS:
                    raise
                return False
            return True

    def confirm(self, key: str) -> None:
        """Do nothing: what can be read lasts."""
        del key

    def create_in(self, batch: Batch, key: str, data: bytes) -> Pending | None:
        """Return None: each object is a request of its own."""
        del batch, key, data
        return None

    def create_among(self, batch: Batch, key: str, data: bytes) -> Pending | None:
        """Return None: each object is a request of its own."""
        del batch, key, data
        return None

    def confirm_in(self, batch: Batch, key: str) -> None:
        """Do nothing: what can be read lasts."""
        del batch, key

    def stat(self, key: str) -> Stored | None:
        """Return the size of a stored file by one request, or None if it is known to be absent."""
        full = self._bucket.key(key)
        with self._bucket.told("look at", key):
            size = self._bucket.unless_absent(lambda: self._bucket.driver.size(full))
        return None if size is None else Stored(key, size)

    def writer(self, key: str, size: int) -> PartWriter:
        """Begin a file; parts are larger where `size` would make them too many."""
        full = self._bucket.key(key)
        with self._bucket.told("write", key):
            connection = self._bucket.connection()
            # A tenth is kept back: `size` is what the file had when somebody looked.
            least = size * 10 // (9 * connection.driver.most_parts) + 1
            part = max(_PART, -(-least // _MIB) * _MIB)
            return PartWriter(
                connection.driver,
                connection.pool,
                full,
                part,
                lambda doing: self._bucket.told(doing, key),
                checked=self._bucket.checks_digests(connection),
            )

    def resume(self, key: str, size: int, token: str) -> PartWriter | None:
        """Go on with a file in the same parts, if the store says what it has of them."""
        full = self._bucket.key(key)
        part, _, name = token.partition(":")
        # It was read from a disk.
        if not (part.isascii() and part.isdecimal() and int(part)):
            return None
        with self._bucket.told("write", key):
            connection = self._bucket.connection()
            driver = connection.driver
            if not isinstance(driver, Resuming) or size > int(part) * driver.most_parts:
                return None
            checked = self._bucket.checks_digests(connection)
            upload = driver.resume(full, name)
            if upload is None:
                return None
            return PartWriter(
                driver,
                connection.pool,
                full,
                int(part),
                lambda doing: self._bucket.told(doing, key),
                checked=checked,
                upload=upload,
            )

    def source(self, key: str, start: int = 0) -> RangeSource | StreamSource | None:
        """Open a stored file to read it from `start` on, or return None if it is absent."""
        with self._bucket.told("read", key):
            opened = self._bucket.unless_absent(lambda: (self._stream(key, start, None),))
            if opened is None:
                return None
            if opened[0] is not None:
                return opened[0]
        found = self.stat(key)
        if found is None:
            return None
        connection = self._bucket.connection()
        return RangeSource(
            connection.driver,
            connection.pool,
            self._bucket.key(key),
            found.size,
            _PART,
            lambda doing: self._bucket.told(doing, key),
            start,
        )

    def part(self, key: str, start: int, end: int) -> StreamSource | None:
        """Open a part of a stored file by one request, where its bytes come as a stream."""
        with self._bucket.told("read", key):
            try:
                return self._bucket.unless_absent(lambda: self._stream(key, start, end))
            except Exception as error:
                # The file is shorter than it should be, which whoever opens all of it sees.
                if failures.status_of(error) != _NO_SUCH_RANGE:
                    raise
                return None

    def _stream(self, key: str, start: int, end: int | None) -> StreamSource | None:
        driver, full = self._bucket.driver, self._bucket.key(key)
        began = time.monotonic()
        body = driver.open(full, start, end)
        if body is None:
            return None
        waited = time.monotonic() - began
        told = lambda doing: self._bucket.told(doing, key)  # noqa: E731 - as for the others
        return StreamSource(driver, full, body, told, start, end, waited)

    def gather(self, wanted: Sequence[Stored], take: Callable[[int, memoryview], None]) -> None:
        """Bring what can be brought of small files at once; see `base.Gathering`."""
        driver = self._bucket.driver
        if isinstance(driver, Gathering):
            keys = [self._bucket.key(each.key) for each in wanted]
            driver.gather(keys, [each.size for each in wanted], take)

    def children(self, folder: str, prefix: str = "") -> Iterator[str]:
        """Yield the names directly in a folder that begin with `prefix`, page by page."""
        start = self._bucket.start(folder)
        for entry in self._bucket.listing(f"{start}{prefix}", folder, deep=False):
            name = entry.key[len(start) :]
            # A key that ends with a slash is a folder's marker, that some tools leave.
            if name and not name.endswith("/") and not name.startswith(TEMP_PREFIX):
                yield name

    def walk(self, folder: str) -> Iterator[Stored]:
        """Yield every stored file in a folder and below, page by page."""
        cut = len(self._bucket.start(""))
        for entry in self._bucket.listing(self._bucket.start(folder), folder, deep=True):
            if entry.size is not None and not entry.key.endswith("/"):
                yield Stored(entry.key[cut:], entry.size)

    def delete(self, key: str) -> None:
        """Delete a file, if it is there."""
        full = self._bucket.key(key)
        with self._bucket.told("delete", key):
            self._bucket.unless_absent(lambda: self._bucket.driver.delete(full))

    def take(self, source: base.Backend, source_key: str, key: str, size: int) -> bool:
        """Have the store copy a file, where the other backend is at the same store."""
        if not isinstance(source, ObjectBackend):
            return False
        full = self._bucket.key(key)
        with self._bucket.told("copy to", key):
            driver = self._bucket.driver
            bucket = source._bucket  # noqa: SLF001 - of this class
            theirs = bucket.driver, bucket.key(source_key)
            return isinstance(driver, Taking) and driver.take(*theirs, full, size)

    def replace(self, key: str, data: bytes) -> None:
        """Put an object over the one that may be there, by one request."""
        full = self._bucket.key(key)
        with self._bucket.told("write", key):
            self._bucket.driver.put(full, data)

    def lead(self, key: str, to: str) -> None:
        """Refuse: objects lead nowhere."""
        del to
        raise BackendError(f"{self.url}/{key} can't lead anywhere", hint="a record can say where")

    def led(self, key: str) -> None:
        """Return None: objects lead nowhere."""
        del key

    @contextlib.contextmanager
    def turn(self, key: str, what: str) -> Iterator[None]:
        """Hold nothing: a store has no locks."""
        del key, what
        yield

    def clear(self, folder: str) -> None:
        """Delete every object below a prefix, and have the store forget uploads begun there."""
        for each in list(self.walk(folder)):
            self.delete(each.key)
        for unfinished in list(self._bucket.unfinished(self._bucket.start(folder))):
            self._end(unfinished, folder)

    def end_unfinished(self, before: datetime, *, dry_run: bool = False) -> list[base.Unfinished]:
        """End the uploads below runs that got nothing since a time and came to no end."""
        start = self._bucket.start("")
        ended = []
        for each in self._bucket.unfinished(start):
            key = each.key[len(start) :]
            # Others may use the bucket: ours are uploads of runs, or tries of `checks_digests`.
            began = layout.upload_began(key)
            if began is None and not key.startswith(f"{layout.PROBES}/"):
                continue
            # By both clocks, the store's and the one of the host that sent.
            at = max(each.begun_at, began or each.begun_at)
            if at + each.untold >= before:
                continue
            # Most are young, and nothing more is asked of them.
            if each.touched is not None:
                touched = self._touched(key, each.touched)
                if touched is None:
                    continue
                at = max(at, touched)
            if at < before and (dry_run or self._end(each, key)):
                ended.append(base.Unfinished(key, at, None))
        return ended

    def _touched(self, key: str, ask: Callable[[], datetime]) -> datetime | None:
        """Return when something of an upload came last, or None if it came to its end meanwhile."""
        with self._bucket.told("look at", key):
            try:
                return ask()
            except Exception as error:
                if not _is_gone(error):
                    raise
                return None

    def _end(self, unfinished: Unfinished, key: str) -> bool:
        with self._bucket.told("end", key):
            try:
                self._bucket.driver.end(unfinished)
            except Exception as error:
                # It came to its end meanwhile.
                if not _is_gone(error):
                    raise
                return False
            return True

    def now(self) -> datetime | None:
        """Return the time that an answer of the store bears, if the driver can see that."""
        with self._bucket.told("ask the time of", None):
            driver = self._bucket.driver
            return driver.now() if isinstance(driver, Clocked) else None

    def local_path(self, key: str) -> Path | None:
        """Return None: only the store can open it."""
        check_key(key)
        return None

    def free(self) -> int | None:
        """Return None: a bucket has no end that it would tell of."""
        return None

    def close(self) -> None:
        """Let go of connections and threads. Never raises."""
        self._bucket.close()


def _is_gone(error: Exception) -> bool:
    """Return whether an error says that an upload isn't there any more."""
    gone = {Kind.ABSENT, Kind.NOT_FOUND, Kind.EXISTS}
    return failures.kind_of(error) in gone or "NoSuchUpload" in failures.codes_of(error)
