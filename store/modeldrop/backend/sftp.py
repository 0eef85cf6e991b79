"""A folder of a host that is reached by SSH, through asyncssh.

A file is written under a temporary name, waited for, and gets its name by a hard link, which the
server's kernel gives to one of all who ask for it. So a record is created by one writer, and seen
whole or not at all. Where a server or its file system knows no hard links, whoever is alone at it
looks first and renames.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import asyncssh
from asyncssh.constants import FILEXFER_TYPE_DIRECTORY, FILEXFER_TYPE_REGULAR
from fsspec.asyn import get_loop, sync
from fsspec.exceptions import FSTimeoutError

from modeldrop.backend import failures
from modeldrop.backend.driver import ANSWER_SECONDS, Listed, Unfinished
from modeldrop.backend.failures import Kind
from modeldrop.backend.urls import Address
from modeldrop.errors import BackendUnreachable, ConfigError
from modeldrop.files import TEMP_PREFIX

# A host that doesn't answer is reported after ten seconds, one that went silent after a minute.
_LIMITS: Final[Mapping[str, Any]] = {
    "connect_timeout": 10,
    "login_timeout": 30,
    "keepalive_interval": 20,
    "keepalive_count_max": 2,
}
# At OpenSSH each is a process of its own, so that the probe's racers race; it grants ten.
_SESSIONS: Final = 4

_T = TypeVar("_T")
_Work = Callable[[asyncssh.SFTPClient], Awaitable[_T]]


class SftpDriver:
    """A host, from the root of what it shows."""

    lists_by_prefix = False
    replaces = False
    most_parts = 1_000_000
    endpoint: str | None = None

    def __init__(self, address: Address, options: Mapping[str, object]) -> None:
        """Take how to connect, which `~/.ssh/config` has a say in; it is done when it is needed.

        Raises:
            ConfigError: the URL names no host.
        """
        self.exclusive_create = True
        user, _, place = address.bucket.rpartition("@")
        host, _, port = place.partition(":")
        if not host or (port and not port.isdecimal()):
            message = f"{address.url} names no host"
            raise ConfigError(message, hint="write sftp://user@host/folder")
        self._arguments: dict[str, Any] = {**_LIMITS, "host": host, **options}
        if user:
            self._arguments["username"] = user
        if port:
            self._arguments["port"] = int(port)
        self._host = host
        self._loop = get_loop()
        self._connecting = asyncio.Lock()
        self._connection: asyncssh.SSHClientConnection | None = None
        self._sessions: list[asyncssh.SFTPClient] = []
        self._turn = 0
        self._more = True
        self._links_work: bool | None = None

    def prepare(self, prefix: str) -> None:
        """Make the folder."""
        self.run(lambda sftp: sftp.makedirs(_path(prefix), exist_ok=True))
        self.check(prefix)

    def check(self, prefix: str) -> None:
        """Look at the folder."""
        self.run(lambda sftp: sftp.stat(_path(prefix)))

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return bytes."""
        first = start or 0
        count = -1 if end is None else end - first

        async def work(sftp: asyncssh.SFTPClient) -> bytes:
            try:
                async with await sftp.open(_path(key), "rb") as file:
                    data: Any = await file.read(count, first)
            except asyncssh.SFTPError:
                await _refuse_folder(sftp, key)
                raise
            return bytes(data)

        return self.run(work, ANSWER_SECONDS if start is None else None)

    def create(self, key: str, data: bytes) -> None:
        """Write it aside, and link it to its name."""

        async def work(sftp: asyncssh.SFTPClient) -> None:
            temp, file = await _begun(sftp, key)
            try:
                await file.write(data)
                await _finished(file)
                await self._name(sftp, temp, _path(key))
            finally:
                await _quietly(file.close())
                await _quietly(sftp.remove(temp))

        self.run(work)

    def size(self, key: str) -> int:
        """Return the size, by asking for that file alone."""
        found = self.run(lambda sftp: sftp.stat(_path(key)))
        if found.type != FILEXFER_TYPE_REGULAR:
            raise FileNotFoundError(key)
        return found.size or 0

    def checks_digests(self, key: str) -> bool:
        """Return False: SSH itself finds what changed on its way, and SFTP has no digests."""
        del key
        return False

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a whole file."""
        upload = self.begin(key)
        try:
            upload.send(1, data)
            upload.complete()
        except FileExistsError:
            # The key is ours alone: an answer was lost.
            if self.size(key) != len(data):
                raise
        except BaseException:
            with contextlib.suppress(Exception):
                upload.discard()
            raise

    def begin(self, key: str) -> _Upload:
        """Open a temporary file beside the key."""
        temp, file = self.run(lambda sftp: _begun(sftp, key))
        return _Upload(self, temp, _path(key), file)

    def open(self, key: str, start: int, end: int | None) -> None:
        """Return None: a file is read in places, whose requests are many at a time anyway."""
        del key, start, end

    def unfinished(self, start: str) -> Iterator[list[Unfinished]]:
        """Yield what has a temporary name, folder by folder."""
        for folder, entries in self._folders(start):
            yield [
                Unfinished(f"{folder}{name}", datetime.fromtimestamp(attrs.mtime or 0, UTC))
                for name, attrs in entries
                if name.startswith(TEMP_PREFIX)
            ]

    def end(self, unfinished: Unfinished) -> None:
        """Remove a temporary file."""
        self.delete(unfinished.key)

    def pages(self, start: str, *, deep: bool) -> Iterator[list[Listed]]:
        """Yield a page for each folder."""
        _, _, prefix = start.rpartition("/")
        for folder, entries in self._folders(start, deep=deep):
            page = []
            for name, attrs in entries:
                is_folder = attrs.type == FILEXFER_TYPE_DIRECTORY
                if name.startswith(TEMP_PREFIX) or (is_folder and deep):
                    continue
                if deep or name.startswith(prefix):
                    size = None if is_folder else attrs.size or 0
                    page.append(Listed(f"{folder}{name}", size))
            yield page

    def delete(self, key: str) -> None:
        """Delete a file; its folder stays."""

        async def work(sftp: asyncssh.SFTPClient) -> None:
            try:
                await sftp.remove(_path(key))
            except asyncssh.SFTPError:
                await _refuse_folder(sftp, key)
                raise

        self.run(work)

    def close(self) -> None:
        """Close the connection."""
        sync(self._loop, self._let_go, timeout=5)

    def run(self, work: _Work[_T], seconds: float | None = ANSWER_SECONDS) -> _T:
        """Return what comes of a piece of work, done again if the connection turns out broken."""

        async def once() -> _T:
            sftp = None
            try:
                sftp = await self._open()
                return await work(sftp)
            except Exception as error:
                if failures.is_transient(error):
                    await self._let_go(sftp)
                raise

        try:
            found: _T = sync(self._loop, once, timeout=seconds)
        except FSTimeoutError:
            # It goes on by itself, on a connection that nobody else should wait for.
            sync(self._loop, self._let_go, timeout=5)
            raise
        except Exception as error:
            if not failures.is_transient(error):
                raise
            # It may have been closed while nobody used it.
            found = sync(self._loop, once, timeout=seconds)
        return found

    async def name(self, sftp: asyncssh.SFTPClient, temp: str, path: str) -> None:
        """Give a file its name, and take the temporary one away."""
        try:
            await self._name(sftp, temp, path)
        finally:
            await _quietly(sftp.remove(temp))

    async def _name(self, sftp: asyncssh.SFTPClient, temp: str, path: str) -> None:
        if self.exclusive_create:
            try:
                await sftp.link(temp, path)
            except asyncssh.SFTPError as error:
                # That it is there is told by most servers as "failure" and no more.
                if await sftp.exists(path):
                    raise FileExistsError(path) from None
                if await self._can_link(sftp, temp):
                    raise error from None
                self.exclusive_create = False
            else:
                self._links_work = True
                return
        if await sftp.exists(path):
            raise FileExistsError(path)
        await sftp.rename(temp, path)

    async def _can_link(self, sftp: asyncssh.SFTPClient, temp: str) -> bool:
        """Return whether there are hard links beside a temporary file, by trying one."""
        if self._links_work is None:
            try:
                await sftp.link(temp, f"{temp}-link")
            except asyncssh.SFTPError as error:
                if failures.is_transient(error):
                    raise
                self._links_work = False
            else:
                self._links_work = True
                await _quietly(sftp.remove(f"{temp}-link"))
        return self._links_work

    async def _open(self) -> asyncssh.SFTPClient:
        """Return one of the sessions, in turn."""
        async with self._connecting:
            if self._connection is None:
                self._connection = await self._connect()
                self._more = True
            if self._more and len(self._sessions) < _SESSIONS:
                try:
                    self._sessions.append(await self._connection.start_sftp_client())
                except asyncssh.ChannelOpenError:
                    # As many as the server grants.
                    self._more = False
                    if not self._sessions:
                        raise
            self._turn += 1
            return self._sessions[self._turn % len(self._sessions)]

    async def _connect(self) -> asyncssh.SSHClientConnection:
        try:
            return await asyncssh.connect(**self._arguments)
        except asyncssh.HostKeyNotVerifiable as error:
            message = f"the key of the host {self._host} isn't known: {error.reason}"
            raise BackendUnreachable(
                message,
                hint=f"see that it is the right host: `ssh {self._host}` says its key's "
                "fingerprint, and notes it in ~/.ssh/known_hosts once you agree",
            ) from None
        except (TypeError, ValueError, FileNotFoundError) as error:
            # An option, `~/.ssh/config` or a key, which are all of this machine.
            message = f"how to reach {self._host} can't be right: {failures.describe(error)}"
            raise ConfigError(
                message, hint="backend options are those of asyncssh; see docs/backends.md"
            ) from None

    async def _let_go(self, sftp: asyncssh.SFTPClient | None = None) -> None:
        async with self._connecting:
            # Another one may have connected anew meanwhile.
            if sftp is not None and sftp not in self._sessions:
                return
            connection, self._connection, self._sessions = self._connection, None, []
            if connection is not None:
                connection.close()
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(connection.wait_closed(), 4)

    def _folders(
        self, start: str, *, deep: bool = True
    ) -> Iterator[tuple[str, list[tuple[str, asyncssh.SFTPAttrs]]]]:
        """Yield a folder, as the start of its keys, with its entries, and then those below."""
        folders = [f"{folder}/" if (folder := start.rpartition("/")[0]) else ""]
        while folders:
            folder = folders.pop()
            entries = self._entries(folder)
            if deep:
                folders += [
                    f"{folder}{name}/"
                    for name, attrs in entries
                    if attrs.type == FILEXFER_TYPE_DIRECTORY
                ]
            yield folder, entries

    def _entries(self, folder: str) -> list[tuple[str, asyncssh.SFTPAttrs]]:
        async def work(sftp: asyncssh.SFTPClient) -> list[tuple[str, asyncssh.SFTPAttrs]]:
            found = [(str(each.filename), each.attrs) async for each in sftp.scandir(_path(folder))]
            return [(name, attrs) for name, attrs in found if name not in (".", "..")]

        try:
            return self.run(work)
        except Exception as error:
            if failures.kind_of(error) not in {Kind.ABSENT, Kind.NOT_FOUND}:
                raise
            return []


class _Upload:
    # The parts follow each other in one open file, and each is many requests at a time.
    parallel = 1
    views = False

    def __init__(
        self, driver: SftpDriver, temp: str, path: str, file: asyncssh.SFTPClientFile
    ) -> None:
        self._driver = driver
        self._temp = temp
        self._path = path
        self._file = file
        self._sent = 0

    def send(self, number: int, part: bytes | memoryview) -> None:
        del number
        data, at = bytes(part), self._sent
        self._driver.run(lambda _: self._file.write(data, at), None)
        self._sent += len(data)

    def complete(self) -> None:
        async def work(sftp: asyncssh.SFTPClient) -> None:
            await _finished(self._file)
            await self._driver.name(sftp, self._temp, self._path)

        self._driver.run(work, None)

    def discard(self) -> None:
        async def work(sftp: asyncssh.SFTPClient) -> None:
            await _quietly(self._file.close())
            await sftp.remove(self._temp)

        self._driver.run(work)


async def _begun(sftp: asyncssh.SFTPClient, key: str) -> tuple[str, asyncssh.SFTPClientFile]:
    """Return a new temporary file in the folder of a key, which is made if it has to be."""
    folder = _path(key).rpartition("/")[0]
    temp = f"{folder}/{TEMP_PREFIX}{secrets.token_hex(8)}"
    try:
        return temp, await sftp.open(temp, "xb")
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
        await sftp.makedirs(folder, exist_ok=True)
        return temp, await sftp.open(temp, "xb")


async def _finished(file: asyncssh.SFTPClientFile) -> None:
    """Have the server wait for its disk, if it knows how to, and close the file."""
    with contextlib.suppress(asyncssh.SFTPOpUnsupported):
        await file.fsync()
    await file.close()


async def _refuse_folder(sftp: asyncssh.SFTPClient, key: str) -> None:
    """Raise that a file isn't there, if a folder is: servers say "failure" and no more."""
    if await sftp.isdir(_path(key)):
        raise FileNotFoundError(key) from None


async def _quietly(work: Awaitable[object]) -> None:
    with contextlib.suppress(Exception):
        await work


def _path(key: str) -> str:
    return f"/{key}".rstrip("/") or "/"
