"""Requests to S3 that carry a file's bytes, or read a record, made in the thread that asks.

s3fs copies a body several times, on one thread for all requests, and has no way to send a digest
along; and to load it takes longer than a small pull. So what carries bytes or is only read goes
past it, with the address, credentials and settings that botocore gives it, over connections of its
own, and with a `Content-MD5` in every request that sends.

It is there to be quick, never to be another way of setting something up: whoever asks for what
isn't known here (`None` from `connect`, `NotDirect` later) goes through s3fs, which knows it all.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import ssl
import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import unescape

from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.httpsession import where
from botocore.session import Session
from botocore.utils import get_environ_proxies

from modeldrop.backend.connections import Answer, Connections
from modeldrop.backend.signing import Signer
from modeldrop.errors import ConfigError
from modeldrop.redaction import remember

# What s3fs was given beyond these may change a request in ways that are unknown here.
_OPTIONS: Final = frozenset(
    {"endpoint_url", "region_name", "profile", "anon", "client_kwargs", "config_kwargs"}
)
_CLIENT: Final = frozenset({"endpoint_url", "region_name", "verify"})
_CONFIG: Final = frozenset(
    {
        *("s3", "connect_timeout", "read_timeout", "max_pool_connections", "retries", "proxies"),
        *("request_checksum_calculation", "response_checksum_validation"),
    }
)
_ADDRESSING: Final = frozenset({"addressing_style"})
# botocore renews credentials a quarter of an hour before they end.
_CREDENTIALS_SECONDS: Final = 60
# A redirect to the bucket's region, and what a server answers that signs in another way.
_ELSEWHERE: Final = frozenset({301, 302, 307, 308})
_OTHERWISE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "SignatureDoesNotMatch", "NotImplemented"}
)
_REFUSED_DIGEST: Final = frozenset({"BadDigest", "InvalidDigest"})
_FAILED: Final = 300
_NAME: Final = "k"
_PORTS: Final = {"http": 80, "https": 443}
# Directory buckets sign with keys of their own.
_EXPRESS: Final = "--x-s3"


class NotDirect(Exception):
    """The request has to be made through s3fs."""


class Body:
    """The bytes of an answer, as they come."""

    def __init__(self, held: Answer, size: int, total: int) -> None:
        """Take an answer with `size` bytes to come, of a file that has `total`."""
        self._held = held
        self._left = size
        self.total = total
        if not size:
            held.finish()

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, and none at the end.

        Raises:
            HTTPClientError: it broke off.
        """
        if not self._left:
            return b""
        data = self._held.read(min(size, self._left))
        if not data:
            raise HTTPClientError(error="the answer was cut short")
        self._left -= len(data)
        if not self._left:
            self._held.finish()
        return data

    def close(self) -> None:
        """Let go of the connection, with what is still to come."""
        if self._left:
            self._held.drop()


class Direct:
    """One bucket."""

    def __init__(
        self,
        base: str,
        endpoint: str,
        region: str,
        holder: Any,  # noqa: ANN401 - botocore's credentials, of whatever kind
        connections: Connections,
    ) -> None:
        """Use `connect`."""
        parts = urlsplit(base)
        self._path = parts.path
        # Without the port that its scheme has anyway, as in every request's own header.
        self._host = parts.netloc.removesuffix(f":{_PORTS[parts.scheme]}")
        self.endpoint = endpoint
        """The address of the server."""
        self._region = region
        self._holder = holder
        self._connections = connections
        self._lock = threading.Lock()
        self._signer: Signer | None = None
        self._until = 0.0

    @classmethod
    def connect(cls, bucket: str, options: Mapping[str, object]) -> Self | None:
        """Return the bucket as s3fs would reach it, or None where only s3fs can.

        Raises:
            ConfigError: the certificates that are to be trusted can't be read.
        """
        client: Mapping[str, Any] = _mapping(options.get("client_kwargs"))
        config: Mapping[str, Any] = _mapping(options.get("config_kwargs"))
        if (
            options.get("anon")
            or set(options) - _OPTIONS
            or set(client) - _CLIENT
            or set(config) - _CONFIG
            or set(_mapping(config.get("s3"))) - _ADDRESSING
        ):
            return None
        endpoint = options.get("endpoint_url")
        if endpoint and client.get("endpoint_url", endpoint) != endpoint:
            return None
        where_to = {"endpoint_url": endpoint} if endpoint else {}
        try:
            session = Session(profile=options.get("profile"))
            asked = session.create_client("s3", config=Config(**config), **{**where_to, **client})
            named = {"Bucket": bucket, "Key": _NAME}
            # Where it is, by all the rules that there are.
            url = asked.generate_presigned_url("get_object", Params=named)
            holder = session.get_credentials()
        except Exception:  # noqa: BLE001 - without credentials, say: s3fs tells of it when it is used
            return None
        parts = urlsplit(url)
        settings = asked.meta.config
        region = asked.meta.region_name
        if (
            settings.signature_version != "s3v4"
            or not region
            or bucket.endswith(_EXPRESS)
            or not parts.path.endswith(f"/{_NAME}")
        ):
            return None
        base = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix(_NAME)}"
        verify = client.get("verify")
        if (
            not (verify is None or verify is True or isinstance(verify, str))
            or settings.client_cert
            or settings.proxies
            or get_environ_proxies(base)
        ):
            return None
        tls = None
        if parts.scheme == "https":
            tls = _trusting(_bundle(verify, session))
        connections = Connections(urlsplit(base), settings, tls)
        return cls(base, str(asked.meta.endpoint_url), region, holder, connections)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def refuses_wrong_digests(self, key: str) -> bool:
        """Return whether the server refuses bytes that aren't what their digest says.

        It is tried, in one request and in a part of several, with a key that is free and stays so.
        """
        body, wrong = b"one", {"Content-MD5": digest_of(b"another")}
        if not self._refuses("PUT", key, {}, wrong, body):
            self._ask("DELETE", key).text()
            return False
        upload = self.begin(key)
        try:
            part = {"partNumber": "1", "uploadId": upload}
            return self._refuses("PUT", key, part, wrong, body)
        finally:
            # Some servers have forgotten it by then. What stays is ended with the other unfinished.
            with contextlib.suppress(Exception):
                self._ask("DELETE", key, {"uploadId": upload}).text()

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Put a whole object, of which the server checks the digest."""
        self._ask("PUT", key, {}, {"Content-MD5": digest_of(data)}, data).text()

    def begin(self, key: str) -> str:
        """Begin a multipart upload, and return its id."""
        answer = self._ask("POST", key, {"uploads": ""}).text()
        found = re.search("<UploadId>([^<]+)</UploadId>", answer)
        if found is None:
            raise HTTPClientError(error="the answer names no upload")
        return unescape(found[1])

    def send(self, key: str, upload: str, number: int, data: bytes | memoryview) -> str:
        """Send a part, of which the server checks the digest, and return its tag."""
        answer = self._ask(
            "PUT",
            key,
            {"partNumber": str(number), "uploadId": upload},
            {"Content-MD5": digest_of(data)},
            data,
        )
        answer.text()
        return str(answer.headers["ETag"])

    def read(self, key: str, seconds: float) -> bytes:
        """Return a small object whole, in so many seconds at most."""
        until = time.monotonic() + seconds
        answer = self._ask("GET", key, seconds=seconds)
        size = _length(answer)
        data = answer.whole(until - time.monotonic())
        if len(data) != size:
            raise HTTPClientError(error="the answer was cut short")
        return data

    def size(self, key: str, seconds: float) -> int:
        """Return an object's size."""
        answer = self._ask("HEAD", key, seconds=seconds)
        size = _length(answer)
        answer.finish()
        return size

    def open(self, key: str, start: int, end: int | None) -> Body:
        """Return an object's bytes from `start` on, to before `end` if that is given."""
        headers = {}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        answer = self._ask("GET", key, {}, headers)
        size = _length(answer)
        # Some servers answer 200 to a range, which they give all the same.
        about = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        first, total = (int(about[1]), int(about[2])) if about else (0, size)
        if first != start or size != min(total if end is None else end, total) - start:
            answer.drop()
            raise HTTPClientError(error=f"asked for bytes from {start} on, got others")
        return Body(answer, size, total)

    def _refuses(
        self, method: str, key: str, query: Mapping[str, str], headers: dict[str, str], body: bytes
    ) -> bool:
        try:
            self._ask(method, key, query, headers, body).text()
        except ClientError as error:
            if error.response["Error"]["Code"] not in _REFUSED_DIGEST:
                raise
            return True
        return False

    def _ask(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        seconds: float | None = None,
    ) -> Answer:
        path = f"{self._path}{quote(key, safe='/~')}"
        asked = "&".join(
            f"{name}={quote(each, safe='~')}" for name, each in sorted((query or {}).items())
        )
        signed = self._signing().signed(method, path, asked, headers or {})
        whole = f"{path}?{asked}" if asked else path
        answer = self._connections.send(method, whole, signed, body, seconds)
        if answer.status >= _FAILED:
            raise _told(answer, method)
        return answer

    def _signing(self) -> Signer:
        """Return what signs with the credentials as they are now; botocore renews them."""
        with self._lock:
            if self._signer is None or time.monotonic() > self._until:
                now = self._holder.get_frozen_credentials()
                # Those of a profile or a role are in no environment.
                remember(now.secret_key, now.token)
                self._signer = Signer(
                    self._host, self._region, now.access_key, now.secret_key, now.token
                )
                self._until = time.monotonic() + _CREDENTIALS_SECONDS
            return self._signer


def digest_of(data: bytes | memoryview) -> str:
    """Return the digest that goes along with bytes: against accidents, so that MD5 will do."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _length(answer: Answer) -> int:
    """Return how many bytes an answer says that it has; without it, one cut short looks whole."""
    length = answer.headers.get("Content-Length", "")
    if not (length.isascii() and length.isdecimal()):
        answer.drop()
        raise NotDirect("no length")
    return int(length)


def _bundle(verify: object, session: Any) -> str:  # noqa: ANN401 - botocore's own
    """Return the file of certificates to trust, in the order in which botocore looks for it."""
    for named in (
        verify,
        session.get_config_variable("ca_bundle"),
        os.environ.get("REQUESTS_CA_BUNDLE"),
    ):
        if named is not None:
            return str(where() if named is True else named)
    return str(where())


def _trusting(bundle: str) -> ssl.SSLContext:
    """Return what checks certificates and whose they are: http.client leaves it to this."""
    try:
        context = ssl.create_default_context(cafile=bundle)
    except OSError as error:
        message = f"the certificates to trust can't be read: {bundle}: {error}"
        raise ConfigError(
            message,
            hint="`verify`, ca_bundle, AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE has to name a PEM file; "
            "s3fs takes no folder",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _told(answer: Answer, method: str) -> Exception:
    """Return the exception that botocore's client would raise, or `NotDirect`."""
    text = answer.text()
    code = re.search("<Code>([^<]*)</Code>", text)
    why = re.search("<Message>([^<]*)</Message>", text)
    name = unescape(code[1]) if code else str(answer.status)
    if answer.status in _ELSEWHERE or name in _OTHERWISE:
        return NotDirect(name)
    error: Exception = ClientError(
        {
            "Error": {"Code": name, "Message": unescape(why[1]) if why else ""},
            "ResponseMetadata": {"HTTPStatusCode": answer.status},
        },
        method,
    )
    return error
