"""Azure Blob Storage: adlfs signs in, its service client does the work.

adlfs's own methods list where a question about one blob would do, commit a file that is collected
as garbage, and leave azure-core's retries as they are: an address that answers nothing would be
reported after minutes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from adlfs import AzureBlobFileSystem
from azure.core import MatchConditions
from fsspec.asyn import sync

from modeldrop.backend import failures
from modeldrop.backend.driver import ANSWER_SECONDS, Driver, Held, Listed, Unfinished
from modeldrop.backend.failures import Kind
from modeldrop.backend.urls import credentials_hint, without_secrets
from modeldrop.errors import BackendRefused

_ACCOUNT: Final = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME")

# azure-core pauses 15 s before its first retry, which no option of a single request changes.
# So its retries are off and ours are below: 3 attempts of 4 s and their pauses.
_TRIES: Final = 3
_PAUSE_SECONDS: Final = 0.3
_LIMITS: Final[Mapping[str, Any]] = {
    "connection_timeout": 4,
    "read_timeout": 30,
    "retry_total": 0,
}
# Within an account a copy is done at once, or within moments.
_COPY_PAUSE_FIRST: Final = 0.05
_COPY_PAUSE_MOST: Final = 2.0
# Less than this isn't waited for; none at all would mean for ever.
_LEAST: Final = 0.01
_PAGE: Final = 5000
_BLOCK: Final = re.compile(r"([0-9]{8})-([0-9a-f]{32})")
_WRONG_DIGEST: Final = frozenset({"Md5Mismatch", "InvalidMd5"})
# Larger bodies must be files, and of what is put whole azure-core makes bytes again.
_ONE_PIECE: Final = 2**20
# Of a blob that isn't committed only the first block's time is known. Azure itself drops what got
# nothing for a week; the longest upload may take this much.
_UNTOLD: Final = timedelta(days=16)
# Where the account has a hierarchical namespace, folders are listed as blobs that say so.
_FOLDER_MARKS: Final = ("hdi_isfolder", "Hdi_isfolder")


class AzureDriver:
    """A container."""

    exclusive_create = True
    replaces = True
    lists_by_prefix = True
    most_parts = 50_000

    def __init__(self, container: str, options: Mapping[str, object]) -> None:
        """Connect; no request is sent, but for credentials from a machine's identity."""
        if not options.get("account_name") and not any(os.environ.get(name) for name in _ACCOUNT):
            # adlfs would say that it can't connect, as if something had failed.
            message = f"can't open az://{container}: no storage account is named"
            raise BackendRefused(message, hint=credentials_hint("az"))
        self._fs = AzureBlobFileSystem(
            **options, use_listings_cache=False, skip_instance_cache=True
        )
        self._container: Any = self._fs.service_client.get_container_client(container)
        # The account isn't in the URL, so here the address is never "the usual one".
        self.endpoint: str | None = without_secrets(str(self._fs.service_client.url)).rstrip("/")

    def prepare(self, prefix: str) -> None:
        """See that the container is there; it isn't ours to make."""
        self.check(prefix)

    def check(self, prefix: str) -> None:
        """List one blob: the container's properties need a right more."""
        for _ in self._pages(prefix, deep=True, size=1):
            return

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return bytes by one GET, if they are no more than 32 MiB."""
        length = None if start is None or end is None else end - start

        async def work() -> bytes:
            stream = await self._blob(key).download_blob(
                offset=start, length=length, max_concurrency=1, **_LIMITS
            )
            data: bytes = await stream.readall()
            return data

        found: bytes = self.run(work, ANSWER_SECONDS if start is None else None)
        return found

    def create(self, key: str, data: bytes) -> None:
        """Put with `If-None-Match: *`."""
        put = self._blob(key).upload_blob
        # The store refuses what isn't what its digest says: no damaged record takes a number.
        self.run(
            lambda: put(data, overwrite=False, validate_content=True, **_LIMITS), ANSWER_SECONDS
        )

    def now(self) -> datetime | None:
        """Return the date of an answer."""
        dates: list[str] = []

        async def work() -> None:
            hook = lambda answer: dates.append(answer.http_response.headers.get("Date", ""))  # noqa: E731 - one line, used once
            listed = self._container.list_blobs(
                results_per_page=1, raw_response_hook=hook, **_LIMITS
            )
            async for _ in listed:
                return

        self.run(work, ANSWER_SECONDS)
        return parsedate_to_datetime(dates[0]) if dates and dates[0] else None

    def size(self, key: str) -> int:
        """Return the size by one HEAD."""
        ask = self._blob(key).get_blob_properties
        found = self.run(lambda: ask(**_LIMITS), ANSWER_SECONDS)
        return int(found.size)

    def checks_digests(self, key: str) -> bool:
        """Try it with a blob, and with a block that is never committed."""
        wrong = _digest(b"another")
        if not self._refuses(lambda: self._put(key, b"one", overwrite=True, headers=wrong)):
            self.delete(key)
            return False
        blob = self._blob(key)
        stage = lambda: blob.stage_block("00000001", b"one", headers=wrong, **_LIMITS)  # noqa: E731 - one line, used once
        return self._refuses(lambda: self.run(stage))

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Put a whole blob: in one request, or in two if it is large."""
        if len(data) <= _ONE_PIECE:
            self._put(key, bytes(data), overwrite=True, headers=_digest(data))
            return
        blocks = self.begin(key)
        blocks.send(1, data)
        blocks.complete()

    def take(self, other: Driver, source: str, key: str, size: int) -> bool:
        """Have a blob of the same account copied; the store says when it is done."""
        del size
        if not isinstance(other, AzureDriver) or other.endpoint != self.endpoint:
            return False
        blob, origin = self._blob(key), other._blob(source).url  # noqa: SLF001 - of this class
        try:
            copying = self.run(lambda: blob.start_copy_from_url(origin, **_LIMITS))
            status, pause = copying["copy_status"], _COPY_PAUSE_FIRST
            while status == "pending":
                time.sleep(pause)
                pause = min(2 * pause, _COPY_PAUSE_MOST)
                found = self.run(lambda: blob.get_blob_properties(**_LIMITS))
                status = found.copy.status
        except Exception as error:
            if failures.is_transient(error):
                raise
            # Another account's, or a right that is missing.
            return False
        return bool(status == "success")

    def begin(self, key: str) -> _Blocks:
        """Begin a blob of blocks; nothing is sent yet."""
        return _Blocks(self, self._blob(key), {})

    def resume(self, key: str, name: str) -> _Blocks | None:
        """Take up a blob by its blocks that aren't committed, whose ids tell what they are."""
        del name
        ask = self._blob(key).get_block_list
        try:
            _, found = self.run(lambda: ask("uncommitted", **_LIMITS), ANSWER_SECONDS)
        except Exception as error:
            if failures.is_transient(error):
                raise
            # Dropped after a week, committed, or not to be listed.
            return None
        held = {}
        for each in found:
            if known := _BLOCK.fullmatch(each.id):
                held[int(known[1])] = Held(each.size, known[2])
        return _Blocks(self, self._blob(key), held) if held else None

    def open(self, key: str, start: int, end: int | None) -> None:
        """Return None: all requests share one loop, in which a body is copied several times."""
        del key, start, end

    def unfinished(self, start: str) -> Iterator[list[Unfinished]]:
        """Yield pages of blobs that have blocks and were never committed."""
        token: str | None = None

        async def work() -> tuple[list[Unfinished], str | None]:
            ask = {"name_starts_with": start, "include": ["uncommittedblobs"]}
            pages = self._container.list_blobs(**ask, **_LIMITS).by_page(token)
            async for page in pages:
                # They are listed with no bytes, as empty ones are.
                found = [each async for each in page]
                names = [
                    Unfinished(each.name, each.last_modified, untold=_UNTOLD)
                    for each in found
                    if not each.size
                ]
                return names, pages.continuation_token
            return [], None

        while True:
            found, token = self.run(work)
            yield [each for each in found if not self._is_committed(each.key)]
            if not token:
                return

    def end(self, unfinished: Unfinished) -> None:
        """Commit no block, and delete the empty blob that this makes."""
        blob = self._blob(unfinished.key)
        missing = MatchConditions.IfMissing
        self.run(lambda: blob.commit_block_list([], match_condition=missing, **_LIMITS))
        self.run(lambda: blob.delete_blob(**_LIMITS))

    def _is_committed(self, key: str) -> bool:
        """Return whether a blob can be read: to a HEAD, one that wasn't committed is absent."""
        try:
            self.size(key)
        except Exception as error:
            if failures.kind_of(error) not in {Kind.ABSENT, Kind.NOT_FOUND}:
                raise
            return False
        return True

    def pages(self, start: str, *, deep: bool) -> Iterator[list[Listed]]:
        """Yield pages of up to five thousand names."""
        return self._pages(start, deep=deep, size=_PAGE)

    def delete(self, key: str) -> None:
        """Delete a blob."""
        self.run(lambda: self._blob(key).delete_blob(**_LIMITS), ANSWER_SECONDS)

    def close(self) -> None:
        """Close the connections now: left to the collector, they'd be closed with a warning."""
        sync(self._fs.loop, self._fs.service_client.close, timeout=5)
        close = getattr(self._fs.credential, "close", None)
        if close is not None:
            sync(self._fs.loop, close, timeout=5)

    def run(self, work: Callable[[], Awaitable[Any]], seconds: float | None = None) -> Any:  # noqa: ANN401 - azure's own
        """Do a request, and do it again after a failure that may pass; for so long altogether."""
        until = None if seconds is None else time.monotonic() + seconds
        for attempt in range(_TRIES - 1):
            try:
                return sync(self._fs.loop, work, timeout=_left(until))
            except Exception as error:
                if not failures.is_transient(error) or _left(until) == _LEAST:
                    raise
            time.sleep(_PAUSE_SECONDS * 2**attempt * (1 + random.random()))  # noqa: S311 - no secret
        return sync(self._fs.loop, work, timeout=_left(until))

    def _put(
        self, key: str, data: bytes, *, overwrite: bool, headers: Mapping[str, str] | None = None
    ) -> None:
        more = {} if headers is None else {"headers": dict(headers)}
        put = self._blob(key).upload_blob
        self.run(lambda: put(data, overwrite=overwrite, **more, **_LIMITS), ANSWER_SECONDS)

    @staticmethod
    def _refuses(work: Callable[[], object]) -> bool:
        try:
            work()
        except Exception as error:
            if not _WRONG_DIGEST.intersection(failures.codes_of(error)):
                raise
            return True
        return False

    def _blob(self, key: str) -> Any:  # noqa: ANN401 - azure's own
        return self._container.get_blob_client(key)

    def _pages(self, start: str, *, deep: bool, size: int) -> Iterator[list[Listed]]:
        ask = {"name_starts_with": start, "include": ["metadata"], "results_per_page": size}
        token: str | None = None

        async def work() -> tuple[list[Listed], str | None]:
            if deep:
                found = self._container.list_blobs(**ask, **_LIMITS)
            else:
                found = self._container.walk_blobs(**ask, delimiter="/", **_LIMITS)
            pages = found.by_page(token)
            async for page in pages:
                entries = [_listed(each) async for each in page]
                return [each for each in entries if each is not None], pages.continuation_token
            return [], None

        while True:
            # Each page is a request of its own, that can be made again.
            entries, token = self.run(work, ANSWER_SECONDS)
            yield entries
            if not token:
                return


def _left(until: float | None) -> float | None:
    return None if until is None else max(until - time.monotonic(), _LEAST)


class _Blocks:
    parallel = 2
    views = False

    # The key says it all.
    name = ""

    def __init__(self, driver: AzureDriver, blob: Any, held: Mapping[int, Held]) -> None:  # noqa: ANN401 - azure's own
        self.held = held
        self._driver = driver
        self._blob = blob
        self._ids: dict[int, str] = {}

    def send(self, number: int, part: bytes | memoryview) -> None:
        digest = hashlib.md5(part, usedforsecurity=False)
        headers = _header(digest.digest())
        block = _block_id(number, digest.hexdigest())
        self._driver.run(
            # Bytes as they are would be sent in one go, and hold up the loop that all requests
            # share. A new file for each attempt: the one before has been read.
            lambda: self._blob.stage_block(
                block,
                io.BytesIO(part),
                length=len(part),
                headers=headers,
                **_LIMITS,
            )
        )
        self._ids[number] = block

    def keep(self, number: int) -> None:
        self._ids[number] = _block_id(number, self.held[number].md5)

    def complete(self) -> None:
        from azure.storage.blob import BlobBlock  # noqa: PLC0415 - adlfs has it loaded

        blocks = [BlobBlock(block) for _, block in sorted(self._ids.items())]
        self._driver.run(lambda: self._blob.commit_block_list(blocks, **_LIMITS))

    def discard(self) -> None:
        """Do nothing: Azure drops blocks that weren't committed after a week, and at no request."""


def _digest(data: bytes | memoryview) -> dict[str, str]:
    """Return the header by which Azure knows bytes that changed on their way."""
    return _header(hashlib.md5(data, usedforsecurity=False).digest())


def _header(md5: bytes) -> dict[str, str]:
    return {"Content-MD5": base64.b64encode(md5).decode()}


def _block_id(number: int, md5: str) -> str:
    # The ids of a blob's blocks must all have the same length. A listing of blocks tells their
    # ids and sizes, and nothing else of what they are.
    return f"{number:08d}-{md5}"


def _listed(found: Any) -> Listed | None:  # noqa: ANN401 - azure's own
    size = getattr(found, "size", None)
    if size is None:  # BlobPrefix
        return Listed(found.name.rstrip("/"), None)
    marks = found.metadata or {}
    if any(str(marks.get(mark, "")).lower() == "true" for mark in _FOLDER_MARKS):
        return None
    return Listed(found.name, size)
