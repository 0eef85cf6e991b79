"""Signature Version 4 of requests to S3, as AWS specifies it, for what `direct` asks.

botocore's signer is made for every kind of request, and takes longer than the rest of a small one.
A test holds this one against it. The body isn't signed: its digest is among the headers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_BODY: Final = "UNSIGNED-PAYLOAD"


class Signer:
    """Signs with one set of credentials, for one server and region. For any number of threads."""

    def __init__(self, host: str, region: str, access: str, secret: str, token: str | None) -> None:
        """Take the server's name as its requests give it, and credentials as they are now."""
        self._host = host
        self._region = region
        self._access = access
        self._secret = secret
        self._token = token
        # Of a day: what is signed with, derived from the secret.
        self._key: tuple[str, bytes] = ("", b"")

    def signed(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        now: datetime | None = None,
    ) -> dict[str, str]:
        """Return the headers to send: those that are given, and those that sign them all.

        `path` and `query` are as they are sent, the query's parameters in the order of their names.
        """
        at = f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        every = {
            **{name.lower(): value for name, value in headers.items()},
            "host": self._host,
            "x-amz-content-sha256": _BODY,
            "x-amz-date": at,
        }
        if self._token:
            every["x-amz-security-token"] = self._token
        names = sorted(every)
        listed = ";".join(names)
        lines = "".join(f"{name}:{' '.join(every[name].split())}\n" for name in names)
        asked = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{_BODY}"
        scope = f"{at[:8]}/{self._region}/s3/aws4_request"
        text = f"{_ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(at[:8]), text.encode(), "sha256").hex()
        every["authorization"] = (
            f"{_ALGORITHM} Credential={self._access}/{scope}, "
            f"SignedHeaders={listed}, Signature={signature}"
        )
        return every

    def _key_of(self, day: str) -> bytes:
        known, key = self._key
        if known != day:
            key = f"AWS4{self._secret}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key = (day, key)
        return key
