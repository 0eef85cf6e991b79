"""Google Cloud Storage: gcsfs signs in, and its session carries requests of the JSON API.

gcsfs's own methods list where a question about one object would do, and try a request for a minute
before anybody hears of it. A record is created with `ifGenerationMatch=0`, in one request that
carries its digest, which the store checks.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import yarl
from fsspec.asyn import sync
from gcsfs.core import GCSFileSystem

from modeldrop.backend import failures
from modeldrop.backend.driver import ANSWER_SECONDS, Listed, Unfinished
from modeldrop.backend.urls import without_secrets
from modeldrop.errors import BackendError
from modeldrop.structs import Frozen

_TRIES: Final = 3
_PAUSE_SECONDS: Final = 0.3
_CONNECT_SECONDS: Final = 5
# Between two bytes.
_READ_SECONDS: Final = 30
_PAGE: Final = 1000
_ERROR: Final = 400
_UNFINISHED: Final = 308

_T = TypeVar("_T")


class Refusal(Exception):
    """An answer that isn't the one that was asked for; `failures` tells what it means."""

    def __init__(self, status: int, body: bytes) -> None:
        """Take the status, and the reason and the message of the body if it has them."""
        self.status = status
        self.error_code: str | None = None
        text = body.decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
            error = json.loads(text)["error"]
            text = str(error["message"])
            self.error_code = str(error["errors"][0]["reason"])
        super().__init__(f"{status} {text}")


class _Answer(Frozen):
    status: int
    headers: Mapping[str, str]
    body: bytes


class GcsDriver:
    """A bucket."""

    exclusive_create = True
    replaces = True
    lists_by_prefix = True
    # Of 8 MiB, more than the largest object there is.
    most_parts = 1_000_000

    def __init__(self, bucket: str, options: Mapping[str, object]) -> None:
        """Connect; no request is sent, but for credentials from a machine's service account."""
        self._bucket = bucket
        self._fs: Any = GCSFileSystem(**options, use_listings_cache=False, skip_instance_cache=True)
        self._address = str(self._fs._location).rstrip("/")  # noqa: SLF001 - gcsfs has no other way to it
        self.endpoint = None if self._fs.on_google else without_secrets(self._address)

    def prepare(self, prefix: str) -> None:
        """See that the bucket is there; it isn't ours to make."""
        self.check(prefix)

    def check(self, prefix: str) -> None:
        """List one object: asking for the bucket needs a right more."""
        self._list(prefix, maxResults=1)

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return bytes by one GET."""
        last = "" if end is None else end - 1
        headers = {} if start is None else {"Range": f"bytes={start}-{last}"}
        seconds = ANSWER_SECONDS if start is None else None
        return self._ask(
            "GET", self._object(key), {"alt": "media"}, headers=headers, seconds=seconds
        ).body

    def create(self, key: str, data: bytes) -> None:
        """Insert with `ifGenerationMatch=0`: if there is no generation that is alive."""
        self._insert(key, data, {"ifGenerationMatch": "0"}, ANSWER_SECONDS)

    def size(self, key: str) -> int:
        """Return the size by one GET of what is known of an object."""
        found = self._ask("GET", self._object(key), {"fields": "size"})
        return int(json.loads(found.body)["size"])

    def checks_digests(self, key: str) -> bool:
        """Return False: an upload of several parts takes no digests."""
        del key
        return False

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Put a whole object."""
        self._insert(key, data, {}, None)

    def begin(self, key: str) -> _Resumable:
        """Begin a resumable upload."""
        ask = {"uploadType": "resumable", "name": key}
        begun = self._ask("POST", self._uploads, ask, headers={"Content-Length": "0"})
        return _Resumable(self, begun.headers["Location"])

    def open(self, key: str, start: int, end: int | None) -> None:
        """Return None: all requests share one loop, in which a body is copied several times."""
        del key, start, end

    def unfinished(self, start: str) -> Iterator[list[Unfinished]]:
        """Yield nothing: Google forgets them after a week by itself, and lists none."""
        del start
        yield from ()

    def end(self, unfinished: Unfinished) -> None:
        """Do nothing: none is ever found."""
        del unfinished

    def pages(self, start: str, *, deep: bool) -> Iterator[list[Listed]]:
        """Yield pages of up to a thousand names."""
        ask: dict[str, object] = {"maxResults": _PAGE}
        if not deep:
            ask["delimiter"] = "/"
        while True:
            page = self._list(start, **ask)
            yield [
                *(Listed(each["name"], int(each["size"])) for each in page.get("items", ())),
                *(Listed(each.rstrip("/"), None) for each in page.get("prefixes", ())),
            ]
            if not page.get("nextPageToken"):
                return
            ask["pageToken"] = page["nextPageToken"]

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._ask("DELETE", self._object(key), {})

    def close(self) -> None:
        """Close the connections now: left to the collector, they'd be closed with a warning."""
        session, self._fs._session = self._fs._session, None  # noqa: SLF001 - gcsfs has no other way to it
        if session is not None:
            sync(self._fs.loop, session.close, timeout=5)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        data: bytes | memoryview = b"",
        seconds: float | None = ANSWER_SECONDS,
    ) -> _Answer:
        """Make one request, once.

        Raises:
            Refusal: the answer is an error.
        """
        # Where credentials have to be renewed, they are here and not in the loop that all share.
        signed = self._fs._get_headers(headers)  # noqa: SLF001 - gcsfs has no other way to it
        limits = aiohttp.ClientTimeout(
            total=seconds, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS
        )

        async def work() -> _Answer:
            session = await self._fs._set_session()  # noqa: SLF001 - gcsfs has no other way to it
            async with session.request(
                method,
                yarl.URL(url, encoded=True),
                headers=signed,
                # Bytes as they are would be sent in one go, and hold up that loop.
                data=io.BytesIO(data),
                timeout=limits,
                allow_redirects=False,
            ) as answer:
                return _Answer(answer.status, dict(answer.headers), await answer.read())

        found: _Answer = sync(self._fs.loop, work)
        if found.status >= _ERROR:
            raise Refusal(found.status, found.body)
        return found

    @property
    def _uploads(self) -> str:
        return f"/upload/storage/v1/b/{quote(self._bucket, safe='')}/o"

    @property
    def _objects(self) -> str:
        return f"/storage/v1/b/{quote(self._bucket, safe='')}/o"

    def _object(self, key: str) -> str:
        return f"{self._objects}/{quote(key, safe='')}"

    def _list(self, prefix: str, **ask: object) -> dict[str, Any]:
        fields = "items(name,size),prefixes,nextPageToken"
        params = {"fields": fields, "prefix": prefix, **ask}
        found: dict[str, Any] = json.loads(self._ask("GET", self._objects, params).body)
        return found

    def _insert(
        self,
        key: str,
        data: bytes | memoryview,
        params: Mapping[str, object],
        seconds: float | None,
    ) -> None:
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        about = json.dumps({"name": key, "md5Hash": digest})
        between = secrets.token_hex(16)
        body = b"".join(
            (
                f"--{between}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
                f"{about}\r\n--{between}\r\n".encode(),
                b"Content-Type: application/octet-stream\r\n\r\n",
                data,
                f"\r\n--{between}--\r\n".encode(),
            )
        )
        self._ask(
            "POST",
            self._uploads,
            {"uploadType": "multipart", **params},
            headers={"Content-Type": f"multipart/related; boundary={between}"},
            data=body,
            seconds=seconds,
        )

    def _ask(
        self,
        method: str,
        path: str,
        params: Mapping[str, object],
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes = b"",
        seconds: float | None = ANSWER_SECONDS,
    ) -> _Answer:
        query = urlencode(self._fs._get_params(dict(params)))  # noqa: SLF001 - who pays for the request
        url = f"{self._address}{path}?{query}"
        return patiently(
            lambda left: self.send(method, url, headers=headers or {}, data=data, seconds=left),
            seconds,
        )


class _Resumable:
    """Parts that follow each other in one upload; the last one says that it is."""

    parallel = 1
    views = False

    def __init__(self, driver: GcsDriver, session: str) -> None:
        self._driver = driver
        # Who knows it may write to this object: it is in no error and no log.
        self._session = session
        self._sent = 0
        self._last: bytes | None = None

    def send(self, number: int, part: bytes | memoryview) -> None:
        del number
        held, self._last = self._last, bytes(part)
        if held is not None:
            self._store(held, is_last=False)

    def complete(self) -> None:
        assert self._last is not None  # noqa: S101 - there are several parts, or it is put whole
        self._store(self._last, is_last=True)

    def discard(self) -> None:
        self._last = None
        # Google's answer to this is 499.
        with contextlib.suppress(Refusal):
            self._driver.send("DELETE", self._session, headers={})

    def _store(self, part: bytes, *, is_last: bool) -> None:
        begin, end = self._sent, self._sent + len(part)
        total = str(end) if is_last else "*"
        at = begin
        for attempt in range(_TRIES):
            try:
                answer = self._put(part[at - begin :], at, end, total)
                is_there, at = self._there(answer, begin)
                if is_there or (at == end and not is_last):
                    self._sent = end
                    return
            except Exception as error:
                if not failures.is_transient(error) or attempt == _TRIES - 1:
                    raise
            time.sleep(_PAUSE_SECONDS * 2**attempt * (1 + random.random()))  # noqa: S311 - no secret
            # How much of it arrived; none is asked for with an empty body.
            is_there, at = self._there(self._put(b"", 0, 0, total), begin)
            if is_there:
                self._sent = end
                return
        message = f"the store has {at} of {end} bytes, and takes no more"
        raise BackendError(message, hint="doing it again is safe")

    def _put(self, data: bytes, at: int, end: int, total: str) -> _Answer:
        which = f"{at}-{end - 1}" if data else "*"
        headers = {"Content-Range": f"bytes {which}/{total}"}
        return self._driver.send("PUT", self._session, headers=headers, data=data, seconds=None)

    @staticmethod
    def _there(answer: _Answer, begin: int) -> tuple[bool, int]:
        """Return whether all of the object is there, or else up to where it is."""
        if answer.status != _UNFINISHED:
            return True, begin
        # It may have kept less than was sent, and says nothing where it has nothing.
        kept = answer.headers.get("Range", "")
        there = int(kept.rpartition("-")[2]) + 1 if kept else 0
        if there < begin:
            message = f"the store has {there} bytes of an upload, and has had {begin}"
            raise BackendError(message, hint="doing it again is safe")
        return False, there


def patiently(work: Callable[[float | None], _T], seconds: float | None) -> _T:
    """Do a request, and do it again after a failure that may pass; for so long altogether."""
    until = None if seconds is None else time.monotonic() + seconds
    for attempt in range(_TRIES - 1):
        left = None if until is None else until - time.monotonic()
        try:
            return work(left)
        except Exception as error:
            if not failures.is_transient(error) or (
                until is not None and time.monotonic() + 1 > until
            ):
                raise
        time.sleep(_PAUSE_SECONDS * 2**attempt * (1 + random.random()))  # noqa: S311 - no secret
    return work(None if until is None else max(until - time.monotonic(), 1))
