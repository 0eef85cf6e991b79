"""A bucket as it is reached: the connection, the keys below a prefix, and what errors mean.

Whatever a client library raises becomes one of our errors here, and "absent" is answered only when
the bucket is known to be there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from modeldrop import layout
from modeldrop.backend import failures
from modeldrop.backend.base import check_key
from modeldrop.backend.failures import Kind
from modeldrop.backend.urls import Address, credentials_hint
from modeldrop.errors import ConfigError, DriverMissing, ModeldropError

if TYPE_CHECKING:
    from modeldrop.backend.driver import Driver, Listed, Unfinished

CONNECTIONS: Final = 8

_T = TypeVar("_T")


class Connection:
    """A driver and its threads; they don't outlive a fork."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.pid = os.getpid()
        self.bucket_seen = False
        self.checks_digests: bool | None = None
        self.lock = threading.Lock()
        # Up to four parts of each of the few large files that may be in flight.
        self.pool = ThreadPoolExecutor(2 * CONNECTIONS, thread_name_prefix="modeldrop-backend")


class Bucket:
    """A prefix in a bucket or container, over the driver of its kind."""

    def __init__(self, address: Address, connect: Callable[[], Driver]) -> None:
        """Take how to connect; it is done when it is first needed."""
        self._address = address
        self._connect = connect
        self._connected: Connection | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The URL, which has nothing secret in it."""
        return self._address.url

    def close(self) -> None:
        """Let go of connections and threads. Never raises."""
        with self._lock:
            connection, self._connected = self._connected, None
        if connection is not None and connection.pid == os.getpid():
            connection.pool.shutdown(wait=True, cancel_futures=True)
            with contextlib.suppress(Exception):
                connection.driver.close()

    @property
    def driver(self) -> Driver:
        """What speaks to the store; it is made when it is first asked for."""
        return self.connection().driver

    def connection(self) -> Connection:
        """Return the driver and its threads."""
        with self._lock:
            connection = self._connected
            # A forked child has neither the threads nor the loop of its parent.
            if connection is None or connection.pid != os.getpid():
                with self.told("open", None):
                    connection = self._connected = Connection(self._new_driver())
            return connection

    def _new_driver(self) -> Driver:
        try:
            return self._connect()
        except ImportError as error:
            message = f"{self._address.protocol}:// can't be opened: {failures.describe(error)}"
            raise DriverMissing(message, hint="install what its fsspec driver needs") from None
        except TypeError as error:
            message = f"a backend option isn't known: {failures.describe(error)}"
            raise ConfigError(
                message, hint="options are those of the store's driver; see docs/backends.md"
            ) from None
        except ValueError as error:
            if failures.kind_of(error) is not Kind.OTHER:
                raise
            message = f"{self.url} can't be opened: {failures.describe(error)}"
            raise ConfigError(message, hint=credentials_hint(self._address.protocol)) from None

    def prepare(self) -> None:
        """See that the bucket is there and may be listed."""
        with self.told("open", None):
            self.missing_is_bucket(lambda: self.driver.prepare(self._address.prefix))

    def key(self, key: str) -> str:
        """Return the whole key of what has this one below the prefix."""
        return f"{self.start('')}{check_key(key)}"

    def start(self, folder: str) -> str:
        """Return what the whole keys of all that is in a folder begin with."""
        if folder:
            check_key(folder)
        both = "/".join(part for part in (self._address.prefix, folder) if part)
        return f"{both}/" if both else ""

    def listing(self, start: str, folder: str, *, deep: bool) -> Iterator[Listed]:
        """Return what a store has whose whole keys begin so, page by page."""
        return self._paged(folder, lambda: self.driver.pages(start, deep=deep))

    def unfinished(self, start: str) -> Iterator[Unfinished]:
        """Return the uploads that came to no end, whose whole keys begin so, page by page."""
        return self._paged(None, lambda: self.driver.unfinished(start))

    def _paged(self, folder: str | None, ask: Callable[[], Iterator[list[_T]]]) -> Iterator[_T]:
        with self.told("list", folder):
            pages = ask()
        while True:
            with self.told("list", folder):
                page = self.missing_is_bucket(lambda: next(pages, None))
            if page is None:
                return
            yield from page

    def checks_digests(self, connection: Connection) -> bool:
        """Return whether the store checks digests, which is tried once in a connection."""
        with connection.lock:
            if connection.checks_digests is None:
                key = self.key(layout.probe(secrets.token_hex(16)))
                connection.checks_digests = connection.driver.checks_digests(key)
            return connection.checks_digests

    def unless_absent(self, ask: Callable[[], _T]) -> _T | None:
        """Return the answer, or None if the key is absent from a bucket that is there."""
        connection = self.connection()
        try:
            found = ask()
        except Exception as error:
            kind = failures.kind_of(error)
            if kind not in {Kind.ABSENT, Kind.NOT_FOUND}:
                raise
            # A HEAD has no body, so its 404 doesn't say what is missing. Once is enough.
            if kind is Kind.NOT_FOUND and not connection.bucket_seen:
                self.missing_is_bucket(lambda: connection.driver.check(self._address.prefix))
            connection.bucket_seen = True
            return None
        connection.bucket_seen = True
        return found

    def missing_is_bucket(self, ask: Callable[[], _T]) -> _T:
        """Return the answer; what is missing, where no key was asked for, is the bucket."""
        try:
            return ask()
        except Exception as error:
            if failures.kind_of(error) not in {Kind.ABSENT, Kind.NOT_FOUND, Kind.BUCKET}:
                raise
            raise failures.no_bucket(self.url) from None

    @contextlib.contextmanager
    def told(self, doing: str, key: str | None) -> Iterator[None]:
        """Turn whatever a client library raises into one of our errors."""
        try:
            yield
        except ModeldropError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever they raise has to become ours
            place = f"{self.url}/{key}" if key else self.url
            connection = self._connected
            raise failures.failed(
                error,
                doing,
                place,
                credentials_hint(self._address.protocol),
                connection.driver.endpoint if connection else None,
            ) from None
