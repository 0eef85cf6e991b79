"""A folder of a WebDAV server, through webdav4.

WebDAV has no way to create if absent that servers agree on, so it is for a single writer. Names are
percent-encoded once more than keys are: httpx takes what is encoded for what it stands for.
"""

from __future__ import annotations

import contextlib
import netrc
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
from webdav4.client import HTTPError
from webdav4.fsspec import WebdavFileSystem

from modeldrop.backend.driver import Body
from modeldrop.backend.plain import PlainDriver
from modeldrop.backend.urls import Address
from modeldrop.redaction import remember

_CONNECT_SECONDS: Final = 5
# Between two bytes.
_READ_SECONDS: Final = 30
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class WebdavDriver(PlainDriver):
    """A server, from the root of what it shows."""

    @classmethod
    def connect(cls, address: Address, options: Mapping[str, object]) -> Self:
        """Take how to connect: `webdavs` is over https, `webdav` is not."""
        server = f"{'https' if address.protocol == 'webdavs' else 'http'}://{address.bucket}"
        given: dict[str, Any] = {
            "auth": _credentials(httpx.URL(server)),
            "timeout": httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
            **options,
        }
        fs = WebdavFileSystem(server, **given, skip_instance_cache=True)
        return cls(fs, "", in_bucket=False)

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return bytes by one GET."""
        with self._no_folder(key):
            body = self._body(key, start or 0, end)
        with contextlib.closing(body):
            return b"".join(iter(lambda: body.read(1 << 20), b""))

    def open(self, key: str, start: int, end: int | None) -> Body | None:  # type: ignore[override] # others have none
        """Return the bytes as they come, where the server says how many there are."""
        with self._no_folder(key):
            body = self._body(key, start, end)
        if body.total >= 0:
            return body
        body.close()
        return None

    def delete(self, key: str) -> None:
        """Delete a file: asked to delete a folder, a server would take all that is in it."""
        self.size(key)
        super().delete(key)

    def rename(self, temp: str, path: str) -> None:
        """Move it on the server, which is one step there."""
        self._fs.client.move(temp, path, overwrite=True)

    def close(self) -> None:
        """Close the connections."""
        self._fs.client.http.close()

    def _body(self, key: str, start: int, end: int | None) -> _Body:
        http, url = self._fs.client.http, self._fs.client.join_url(self._path(key))
        # Compressed, nobody could tell how much there is.
        headers = {"Accept-Encoding": "identity"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        answer = http.send(http.build_request("GET", url, headers=headers), stream=True)
        if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            answer.close()
            if answer.status_code == httpx.codes.NOT_FOUND:
                raise FileNotFoundError(key)
            raise HTTPError(answer)
        return _Body(answer, start, end)

    @contextlib.contextmanager
    def _no_folder(self, key: str) -> Iterator[None]:
        """Have a folder be no file: some servers show one as a page, others refuse it."""
        try:
            yield
        except HTTPError:
            if self._fs.info(self._path(key))["type"] == "directory":
                raise FileNotFoundError(key) from None
            raise

    def _path(self, key: str) -> str:
        return quote(super()._path(key))


class _Body:
    """An answer to a GET; `total` is -1 where it says nothing."""

    def __init__(self, answer: httpx.Response, start: int, end: int | None) -> None:
        self._answer = answer
        self._pieces = answer.iter_raw()
        self._left = b""
        if answer.status_code == httpx.codes.PARTIAL_CONTENT:
            said = answer.headers.get("Content-Range", "").rpartition("/")[2]
            self._skip, self._most = 0, None
        else:
            said = answer.headers.get("Content-Length", "")
            # The server knows no ranges, and sends all of it.
            self._skip, self._most = start, None if end is None else end - start
        self.total = int(said) if said.isdecimal() else -1

    def read(self, size: int) -> bytes:
        if self._most is not None:
            size = min(size, self._most)
        while not self._left and size:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left, self._skip = piece[self._skip :], max(0, self._skip - len(piece))
        data, self._left = self._left[:size], self._left[size:]
        if self._most is not None:
            self._most -= len(data)
        return data

    def read_into(self, view: memoryview) -> int:
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._answer.close()


def _credentials(server: httpx.URL) -> httpx.Auth | None:
    """Return user and password of ~/.netrc, or None where they would be sent in the clear."""
    if server.scheme != "https" and server.host not in _HERE:
        return None
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    if not path.is_file():
        return None
    found = netrc.netrc(path).authenticators(server.host)
    if found is not None:
        remember(found[2])
    return httpx.NetRCAuth(str(path))
