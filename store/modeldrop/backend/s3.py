"""Amazon S3 and what speaks its protocol, through s3fs.

s3fs's files and listings do more than is asked of them (`info` falls back to a listing, a file
that is collected as garbage commits what it has), so requests go through its `call_s3`, one for
each method here, with s3fs's session, retries and credentials. Bytes, and what is only read, go
past it, as `direct` says, where that is the same thing: then s3fs is loaded when it is needed.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from modeldrop.backend import failures
from modeldrop.backend.direct import BAD_DIGEST, Body, Digests, Direct, NotDirect
from modeldrop.backend.driver import ANSWER_SECONDS, Driver, Held, Listed, Unfinished
from modeldrop.backend.failures import Kind
from modeldrop.backend.urls import without_secrets
from modeldrop.redaction import redact_record, remember

# botocore tries a connection again, and s3fs an answer that breaks off. An address that doesn't
# answer is reported after two attempts of 5 s.
_TRIES: Final = 2
_CONNECT_SECONDS: Final = 5
# Between two bytes. Completing a large upload takes a store minutes, but it sends white space.
_READ_SECONDS: Final = 30
# How often a request is made that the store has no time for, and the pause before the second.
_PATIENT_TRIES: Final = 3
_PAUSE_SECONDS: Final = 0.2
_TOO_MANY: Final = 429
_PAGE: Final = 1000
# What a server copies within the time that it may be silent; Amazon's copies up to 5 GiB at once.
_COPIED_AT_ONCE: Final = 256 * 2**20
# botocore's 10 would put the probe's 16 racers one after another.
_CONNECTIONS: Final = 32


# It writes to stderr by itself where S3FS_LOGGING_LEVEL is set, and servers repeat what they got.
logging.getLogger("s3fs").addFilter(redact_record)

_T = TypeVar("_T")


class S3Driver:
    """A bucket."""

    exclusive_create = True
    replaces = True
    lists_by_prefix = True
    most_parts = 10_000

    def __init__(self, bucket: str, options: Mapping[str, object]) -> None:
        """Connect; no request is sent, but for credentials from a machine's role."""
        self._bucket = bucket
        self._arguments = _arguments(options)
        self._made: Any = None
        self._making = threading.Lock()
        self._direct = Direct.connect(bucket, self._arguments)
        self._digests = Digests.IGNORED
        # Where only s3fs knows what an option means, it says at once what is wrong with it.
        direct = self._direct
        address = direct.endpoint if direct is not None else str(self._fs.s3.meta.endpoint_url)
        self.endpoint = None if ".amazonaws.com" in address else without_secrets(address)

    @property
    def _fs(self) -> Any:  # noqa: ANN401 - s3fs's own
        with self._making:
            if self._made is None:
                import s3fs  # noqa: PLC0415 - takes half a second, and what only reads needs none

                self._made = s3fs.S3FileSystem(
                    **self._arguments, use_listings_cache=False, skip_instance_cache=True
                )
                self._made.retries = _TRIES
                _remember_credentials(self._made)
            return self._made

    def prepare(self, prefix: str) -> None:
        """See that the bucket is there; it isn't ours to make."""
        self.check(prefix)

    def check(self, prefix: str) -> None:
        """List one key: a HEAD of the bucket says less, and needs a right more."""
        self._call("list_objects_v2", Prefix=prefix, MaxKeys=1, timeout=ANSWER_SECONDS)

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return bytes by one GET: with more than one connection s3fs asks for the size first."""
        path = f"{self._bucket}/{key}"
        ask: dict[str, Any] = {"start": start, "end": end, "max_concurrency": 1}
        if start is None:
            found = self._past(lambda direct, seconds: direct.read(key, seconds))
            if found is not None:
                return found
            ask["timeout"] = ANSWER_SECONDS
        return _patiently(lambda: bytes(self._fs.cat_file(path, **ask)))

    def create(self, key: str, data: bytes) -> None:
        """Put with `If-None-Match: *`, in one part: some servers ignore it for several."""
        path = f"{self._bucket}/{key}"
        # Most stores refuse what isn't what it says, so that no damaged record takes a number.
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        self._fs.pipe_file(path, data, mode="create", ContentMD5=digest, timeout=ANSWER_SECONDS)

    def now(self) -> datetime | None:
        """Return the date of an answer."""
        from email.utils import parsedate_to_datetime  # noqa: PLC0415 - loads much, rarely used

        answer = self._call("list_objects_v2", MaxKeys=1, timeout=ANSWER_SECONDS)
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date) if date else None

    def size(self, key: str) -> int:
        """Return the size by one HEAD."""
        found = self._past(lambda direct, seconds: direct.size(key, seconds))
        if found is not None:
            return found
        return int(self._call("head_object", Key=key, timeout=ANSWER_SECONDS)["ContentLength"])

    def checks_digests(self, key: str) -> bool:
        """Try it, where bytes go past s3fs; from then on a digest goes along with them."""
        direct = self._direct
        if direct is not None:
            try:
                self._digests = _twice(lambda: direct.try_digests(key))
            except NotDirect:
                self._direct = None
            except Exception as error:
                untrusted = failures.kind_of(error) is Kind.UNTRUSTED
                if untrusted or failures.is_transient(error):
                    raise
                # Not every server knows the header, and not everybody may write everywhere.
        return self._digests is not Digests.IGNORED

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Put a whole object."""
        direct = self._direct
        if direct is not None and self._digests is not Digests.IGNORED:
            _twice(lambda: direct.put(key, data))
        else:
            self._call("put_object", Key=key, Body=bytes(data))

    def take(self, other: Driver, source: str, key: str, size: int) -> bool:
        """Copy an object of a bucket of the same server; a large one in parts.

        What isn't transient says that this can't be: another region, or a right that is missing.
        """
        if not isinstance(other, S3Driver) or other.endpoint != self.endpoint:
            return False
        where = {"Bucket": other._bucket, "Key": source}  # noqa: SLF001 - of this class
        try:
            if size <= _COPIED_AT_ONCE:
                self._call("copy_object", Key=key, CopySource=where)
            else:
                self._take_parts(where, key, size)
        except Exception as error:
            if failures.is_transient(error):
                raise
            return False
        return True

    def _take_parts(self, where: Mapping[str, str], key: str, size: int) -> None:
        upload = {"Key": key}
        upload["UploadId"] = self._call("create_multipart_upload", Key=key)["UploadId"]
        parts = []
        try:
            for number, start in enumerate(range(0, size, _COPIED_AT_ONCE), 1):
                ask = {
                    **upload,
                    "PartNumber": number,
                    "CopySource": where,
                    "CopySourceRange": f"bytes={start}-{min(start + _COPIED_AT_ONCE, size) - 1}",
                }
                sent = self._call("upload_part_copy", **ask)
                parts.append({"PartNumber": number, "ETag": sent["CopyPartResult"]["ETag"]})
            self._call("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with contextlib.suppress(Exception):
                self._call("abort_multipart_upload", **upload)
            raise

    def begin(self, key: str) -> _Multipart | _Checked:
        """Begin a multipart upload."""
        return self._upload(key, self._call("create_multipart_upload", Key=key)["UploadId"], {})

    def resume(self, key: str, name: str) -> _Multipart | _Checked | None:
        """Take up a multipart upload by what a listing of its parts says."""
        try:
            found = dict(self._parts(key, name))
        except Exception as error:
            if failures.is_transient(error):
                raise
            # It is no more, or not to be listed: then it would stay for nothing.
            with contextlib.suppress(Exception):
                self.end(Unfinished(key, datetime.now(UTC), name))
            return None
        return self._upload(key, name, found)

    def _upload(self, key: str, name: str, held: Mapping[int, Held]) -> _Multipart | _Checked:
        direct = self._direct
        if direct is not None and self._digests is not Digests.IGNORED:
            told = self._digests is Digests.TOLD
            return _Checked(self, key, name, held, direct, told=told)
        return _Multipart(self, key, name, held)

    def _parts(self, key: str, name: str) -> Iterator[tuple[int, Held]]:
        """Yield the parts that an upload has, from pages of up to a thousand."""
        ask: dict[str, Any] = {"Key": key, "UploadId": name, "MaxParts": _PAGE}
        while True:
            page = self._call("list_parts", **ask, timeout=ANSWER_SECONDS)
            for each in page.get("Parts", ()):
                # The MD5, but where a key of KMS or of the user's own encrypts what is stored.
                yield each["PartNumber"], Held(each["Size"], each["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return
            ask["PartNumberMarker"] = page["NextPartNumberMarker"]

    def open(self, key: str, start: int, end: int | None) -> Body | None:
        """Return the bytes as they come, where they go past s3fs."""
        direct = self._direct
        if direct is not None:
            try:
                return _twice(lambda: direct.open(key, start, end))
            except NotDirect:
                self._direct = None
        return None

    def gather(
        self, keys: Sequence[str], sizes: Sequence[int], take: Callable[[int, memoryview], None]
    ) -> None:
        """Bring what can be brought of small objects at once, where bytes go past s3fs."""
        direct = self._direct
        if direct is not None:
            direct.gather(keys, sizes, take)

    def unfinished(self, start: str) -> Iterator[list[Unfinished]]:
        """Yield pages of up to a thousand multipart uploads."""
        ask: dict[str, Any] = {"Prefix": start, "MaxUploads": _PAGE}
        while True:
            page = self._call("list_multipart_uploads", **ask)
            yield [
                Unfinished(
                    each["Key"],
                    each["Initiated"],
                    each["UploadId"],
                    functools.partial(self._touched, each["Key"], each["UploadId"]),
                )
                for each in page.get("Uploads", ())
            ]
            if not page.get("IsTruncated"):
                return
            ask["KeyMarker"] = page["NextKeyMarker"]
            ask["UploadIdMarker"] = page["NextUploadIdMarker"]

    def _touched(self, key: str, upload: str) -> datetime:
        """Return when the last part of an upload came, or the beginning of time if none did."""
        ask: dict[str, Any] = {"Key": key, "UploadId": upload, "timeout": ANSWER_SECONDS}
        last: datetime = datetime.min.replace(tzinfo=UTC)
        while True:
            page = self._call("list_parts", **ask)
            # Not every server that speaks S3 says when.
            for each in page.get("Parts", ()):
                last = max(last, each.get("LastModified", last))
            if not page.get("IsTruncated"):
                return last
            ask["PartNumberMarker"] = page["NextPartNumberMarker"]

    def end(self, unfinished: Unfinished) -> None:
        """Have the store forget the parts of an upload."""
        self._call("abort_multipart_upload", Key=unfinished.key, UploadId=unfinished.upload)

    def pages(self, start: str, *, deep: bool) -> Iterator[list[Listed]]:
        """Yield pages of up to a thousand keys."""
        ask: dict[str, Any] = {"Prefix": start, "timeout": ANSWER_SECONDS}
        if not deep:
            ask["Delimiter"] = "/"
        while True:
            page = self._call("list_objects_v2", **ask)
            yield [
                *(Listed(each["Key"], each["Size"]) for each in page.get("Contents", ())),
                *(Listed(each["Prefix"][:-1], None) for each in page.get("CommonPrefixes", ())),
            ]
            if not page.get("IsTruncated"):
                return
            ask["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, key: str) -> None:
        """Delete an object; S3 says the same whether it was there."""
        self._call("delete_object", Key=key, timeout=ANSWER_SECONDS)

    def close(self) -> None:
        """Close the connections now: left to the collector, they'd be closed with a warning."""
        if self._direct is not None:
            self._direct.close()
        creator = getattr(self._made, "_s3creator", None)
        if creator is not None:
            from fsspec.asyn import sync  # noqa: PLC0415 - s3fs has it loaded

            sync(self._made.loop, creator.__aexit__, None, None, None, timeout=5)

    def _past(self, ask: Callable[[Direct, float], _T]) -> _T | None:
        """Ask a question past s3fs, in as many seconds as it has; None where that can't be."""
        direct = self._direct
        if direct is None:
            return None
        until = time.monotonic() + ANSWER_SECONDS

        def asked() -> _T:
            left = until - time.monotonic()
            if left <= 0:
                message = f"no answer in {ANSWER_SECONDS} s"
                raise TimeoutError(message)
            return ask(direct, left)

        try:
            return _twice(asked)
        except NotDirect:
            self._direct = None
            return None

    def _call(self, method: str, **arguments: Any) -> Any:  # noqa: ANN401 - botocore's own
        # A `timeout` among them is fsspec's, for all of the call with its retries.
        return _patiently(lambda: self._fs.call_s3(method, Bucket=self._bucket, **arguments))


class _Multipart:
    parallel = 2
    views = False

    def __init__(self, driver: S3Driver, key: str, name: str, held: Mapping[int, Held]) -> None:
        self.name = name
        self.held = held
        self._driver = driver
        self._of = {"Key": key, "UploadId": name}
        self._parts: dict[int, str] = {}

    def send(self, number: int, part: bytes | memoryview) -> None:
        sent = self._driver._call("upload_part", **self._of, PartNumber=number, Body=bytes(part))  # noqa: SLF001 - same module
        self._parts[number] = sent["ETag"]

    def keep(self, number: int) -> None:
        self._parts[number] = f'"{self.held[number].md5}"'

    def complete(self) -> None:
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in sorted(self._parts.items())]
        self._driver._call(  # noqa: SLF001 - same module
            "complete_multipart_upload", **self._of, MultipartUpload={"Parts": parts}
        )

    def discard(self) -> None:
        self._driver._call("abort_multipart_upload", **self._of)  # noqa: SLF001 - same module


class _Checked(_Multipart):
    """Parts of which the store checks the digests."""

    parallel = 4
    views = True

    def __init__(
        self,
        driver: S3Driver,
        key: str,
        name: str,
        held: Mapping[int, Held],
        direct: Direct,
        *,
        told: bool,
    ) -> None:
        super().__init__(driver, key, name, held)
        self._direct = direct
        self._key = key
        self._told = told

    def send(self, number: int, part: bytes | memoryview) -> None:
        send = functools.partial(self._direct.send, self._key, self.name, number, part)
        self._parts[number] = _twice(lambda: send(told=self._told))


def _remember_credentials(fs: Any) -> None:  # noqa: ANN401 - s3fs's own
    """Have the credentials of a client hidden; without any, its first request says so."""
    from fsspec.asyn import sync  # noqa: PLC0415 - s3fs has it loaded

    with contextlib.suppress(Exception):
        holder = fs.s3._request_signer._credentials  # noqa: SLF001 - those of a profile or a role are nowhere else
        now = sync(fs.loop, holder.get_frozen_credentials)
        remember(now.secret_key, now.token)


def _twice(work: Callable[[], _T]) -> _T:
    """Do a request past s3fs, with the tries that s3fs and botocore have together."""

    def tried() -> _T:
        try:
            return work()
        except Exception as error:
            # Bytes that changed on their way are sent again too.
            if not failures.is_transient(error) and BAD_DIGEST not in failures.codes_of(error):
                raise
            if failures.status_of(error) == _TOO_MANY:
                raise
        time.sleep(_PAUSE_SECONDS * (1 + random.random()))  # noqa: S311 - no secret
        return work()

    return _patiently(tried)


def _patiently(work: Callable[[], _T]) -> _T:
    """Do a request, and do it again after a "too many requests", which botocore gives up on."""
    for attempt in range(_PATIENT_TRIES - 1):
        try:
            return work()
        except Exception as error:
            if failures.status_of(error) != _TOO_MANY:
                raise
        time.sleep(_PAUSE_SECONDS * 2**attempt * (1 + random.random()))  # noqa: S311 - no secret
    return work()


def _arguments(options: Mapping[str, object]) -> dict[str, Any]:
    given: dict[str, Any] = dict(options)
    client: dict[str, Any] = dict(given.pop("client_kwargs", None) or {})
    # s3fs hands an unknown option to the session, which knows no region.
    if "region_name" in given:
        client["region_name"] = given.pop("region_name")
    config: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "max_pool_connections": _CONNECTIONS,
        "retries": {"total_max_attempts": _TRIES, "mode": "standard"},
    }
    elsewhere = (
        given.get("endpoint_url")
        or client.get("endpoint_url")
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    if elsewhere and "AWS_REQUEST_CHECKSUM_CALCULATION" not in os.environ:
        # The CRC trailers that botocore sends of its own accord aren't understood by every
        # server that speaks S3. What is stored is read back and hashed anyway.
        config["request_checksum_calculation"] = "when_required"
        config["response_checksum_validation"] = "when_required"
    config |= given.pop("config_kwargs", None) or {}
    if "addressing_style" in given:
        # Deep inside botocore's settings, and asked for by every other server than Amazon's.
        config["s3"] = {**config.get("s3", {}), "addressing_style": given.pop("addressing_style")}
    return {**given, "client_kwargs": client, "config_kwargs": config}
