"""Requests to S3 that carry a file's bytes, or read a record, made in the thread that asks.

s3fs copies a body several times, on one thread for all requests, and has no way to send a digest
along; and to load it takes longer than a small pull. So what carries bytes or is only read goes
past it, to the address and with the credentials that botocore would find (`access`), over
connections of its own, and with a `Content-MD5` in every request that sends, but for parts that
the server answers with the MD5 of what came: those are compared.

It is there to be quick, never to be another way of setting something up: whoever asks for what
isn't known here (`None` from `connect`, `NotDirect` later) goes through s3fs, which knows it all.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, urlsplit

from modeldrop.backend import environment, failures, http1
from modeldrop.backend.access import Access, asked
from modeldrop.backend.connections import PORTS, Answer, Connections, NoAnswer
from modeldrop.backend.gathering import Take, gather
from modeldrop.backend.signing import Signer
from modeldrop.errors import ConfigError
from modeldrop.redaction import remember

if TYPE_CHECKING:
    import ssl

# For so long, keys that are renewed are taken to be the same.
_KEYS_SECONDS: Final = 60
# A redirect to the bucket's region, and what a server answers that signs in another way.
_ELSEWHERE: Final = frozenset({301, 302, 307, 308})
_OTHERWISE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "SignatureDoesNotMatch", "NotImplemented"}
)
BAD_DIGEST: Final = "BadDigest"
"""What a server answers whom bytes reach that aren't what their digest says."""
_REFUSED_DIGEST: Final = frozenset({BAD_DIGEST, "InvalidDigest"})
_FAILED: Final = 300
_BAD_REQUEST: Final = 400


class Digests(enum.Enum):
    """What a server does about digests of what it is sent, as it was seen to do."""

    IGNORED = enum.auto()
    CHECKED = enum.auto()
    """It refuses bytes that aren't what the digest says that came along."""
    TOLD = enum.auto()
    """It does that, and answers a part with the MD5 of what came, without having been told it."""


class NotDirect(Exception):
    """The request has to be made through s3fs."""


class ErrorAnswer(Exception):
    """The server answered what is wrong; `response` says it as botocore's errors do."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Take the answer's status, and what its body says."""
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.response = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }


class Body:
    """The bytes of an answer, as they come."""

    def __init__(self, held: Answer, size: int, total: int) -> None:
        """Take an answer with `size` bytes to come, of a file that has `total`."""
        self._held = held
        self._left = size
        self.total = total
        if not size:
            held.finish()

    def read_into(self, view: memoryview) -> int:
        """Put the next bytes into a buffer, and return how many; none at the end.

        Raises:
            NoAnswer: it broke off.
        """
        if not self._left:
            return 0
        count = self._held.read_into(view[: self._left])
        if not count:
            message = "the answer was cut short"
            raise NoAnswer(message)
        self._left -= count
        if not self._left:
            self._held.finish()
        return count

    def close(self) -> None:
        """Let go of the connection, with what is still to come."""
        if self._left:
            self._held.drop()


class Direct:
    """One bucket."""

    def __init__(self, access: Access) -> None:
        """Use `connect`.

        Raises:
            ConfigError: the certificates that are to be trusted can't be read.
        """
        parts = urlsplit(access.base)
        self._path = parts.path
        # Without the port that its scheme has anyway, as in every request's own header.
        self._host = parts.netloc.removesuffix(f":{PORTS[parts.scheme]}")
        self.endpoint = access.endpoint
        """The address of the server."""
        self._access = access
        tls = None if access.authorities is None else _trusting(access.authorities)
        self._connections = Connections(parts, access.limits, tls)
        self._lock = threading.Lock()
        self._signer: Signer | None = None
        self._until = 0.0

    @classmethod
    def connect(cls, bucket: str, options: Mapping[str, object]) -> Self | None:
        """Return the bucket as s3fs would reach it, or None where only s3fs can.

        Raises:
            ConfigError: the certificates that are to be trusted can't be read.
        """
        wanted = asked(options)
        if wanted is None:
            return None
        access = environment.find(bucket, wanted)
        if access is None:
            from modeldrop.backend import session  # noqa: PLC0415 - loads botocore

            access = session.find(bucket, wanted)
        return None if access is None else cls(access)

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def try_digests(self, key: str) -> Digests:
        """Return what the server does about digests.

        It is tried, in one request and in a part of several, with a key that is free and stays so.
        """
        body, wrong = b"one", {"Content-MD5": digest_of(b"another")}
        if not self._refuses("PUT", key, {}, wrong, body):
            self._ask("DELETE", key).text()
            return Digests.IGNORED
        upload = self.begin(key)
        try:
            # First, since some servers forget an upload of which they refuse a part.
            tells = self._tells(key, upload, body)
            part = {"partNumber": "2", "uploadId": upload}
            if not self._refuses("PUT", key, part, wrong, body):
                return Digests.IGNORED
            return Digests.TOLD if tells else Digests.CHECKED
        finally:
            # What stays is ended with the other unfinished.
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
            message = "the answer names no upload"
            raise NoAnswer(message)
        return _unescaped(found[1])

    def send(
        self, key: str, upload: str, number: int, data: bytes | memoryview, *, told: bool = False
    ) -> str:
        """Send a part, of which the server checks the digest, and return its tag.

        With `told`, the server isn't sent the digest: it has to be its answer, which only who has
        hashed the same bytes can give. That spares it to hash them once more.

        Raises:
            ErrorAnswer: what came isn't what was sent, or something else is wrong.
        """
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        sent = {} if told else {"Content-MD5": base64.b64encode(digest).decode()}
        query = {"partNumber": str(number), "uploadId": upload}
        answer = self._ask("PUT", key, query, sent, data)
        answer.text()
        tag = str(answer.headers["etag"])
        if told and tag.strip('"') != digest.hex():
            message = "the digest of what came isn't that of what was sent"
            raise ErrorAnswer(_BAD_REQUEST, BAD_DIGEST, message)
        return tag

    def read(self, key: str, seconds: float) -> bytes:
        """Return a small object whole, in so many seconds at most."""
        until = time.monotonic() + seconds
        answer = self._ask("GET", key, seconds=seconds)
        size = _length(answer)
        data = answer.whole(until - time.monotonic())
        if len(data) != size:
            message = "the answer was cut short"
            raise NoAnswer(message)
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
        about = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("content-range", ""))
        first, total = (int(about[1]), int(about[2])) if about else (0, size)
        if first != start or size != min(total if end is None else end, total) - start:
            answer.drop()
            message = f"asked for bytes from {start} on, got others"
            raise NoAnswer(message)
        return Body(answer, size, total)

    def gather(self, keys: Sequence[str], sizes: Sequence[int], take: Take) -> None:
        """Bring what can be brought of objects of these sizes; see `gathering`."""

        def request(number: int) -> bytes:
            path, headers = self._signed("GET", keys[number])
            return http1.request("GET", path, headers, 0)

        gather(self._connections.connected, self._access.limits.read, request, sizes, take)

    def _tells(self, key: str, upload: str, body: bytes) -> bool:
        try:
            self.send(key, upload, 1, body, told=True)
        except ErrorAnswer as error:
            # A bucket with retention wants a digest to come along.
            if failures.is_transient(error):
                raise
            return False
        return True

    def _refuses(
        self, method: str, key: str, query: Mapping[str, str], headers: dict[str, str], body: bytes
    ) -> bool:
        try:
            self._ask(method, key, query, headers, body).text()
        except ErrorAnswer as error:
            if error.code not in _REFUSED_DIGEST:
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
        path, signed = self._signed(method, key, query, headers)
        answer = self._connections.send(method, path, signed, body, seconds)
        if answer.status >= _FAILED:
            raise _told(answer)
        return answer

    def _signed(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[str, dict[str, str]]:
        """Return the path of a request, with its query, and the headers that sign it."""
        path = f"{self._path}{quote(key, safe='/~')}"
        asked = "&".join(
            f"{name}={quote(each, safe='~')}" for name, each in sorted((query or {}).items())
        )
        signed = self._signing().signed(method, path, asked, headers or {})
        return f"{path}?{asked}" if asked else path, signed

    def _signing(self) -> Signer:
        """Return what signs with the keys as they are now."""
        with self._lock:
            if self._signer is None or time.monotonic() > self._until:
                keys = self._access.keys()
                # Those of a profile or a role are in no environment.
                remember(keys.secret, keys.token)
                self._signer = Signer(
                    self._host, self._access.region, keys.access, keys.secret, keys.token
                )
                self._until = time.monotonic() + _KEYS_SECONDS
            return self._signer


def digest_of(data: bytes | memoryview) -> str:
    """Return the digest that goes along with bytes: against accidents, so that MD5 will do."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _length(answer: Answer) -> int:
    """Return how many bytes an answer says that it has; without it, one cut short looks whole."""
    length = answer.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        answer.drop()
        raise NotDirect("no length")
    return int(length)


def _trusting(bundle: str) -> ssl.SSLContext:
    """Return what checks certificates and whose they are."""
    import ssl  # noqa: PLC0415 - only where there are certificates

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


def _told(answer: Answer) -> Exception:
    """Return the exception for an answer that isn't what was asked for."""
    text = answer.text()
    code = re.search("<Code>([^<]*)</Code>", text)
    why = re.search("<Message>([^<]*)</Message>", text)
    name = _unescaped(code[1]) if code else str(answer.status)
    if answer.status in _ELSEWHERE or name in _OTHERWISE:
        return NotDirect(name)
    return ErrorAnswer(answer.status, name, _unescaped(why[1]) if why else "")


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
