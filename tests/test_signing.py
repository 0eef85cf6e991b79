"""Our signatures of requests to S3 are those that botocore makes."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.backend.signing import Signer

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
PLAIN = st.text("abcXYZ019/+=-_.~", min_size=1, max_size=30)


class _Unsigned(S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    def payload(self, request: object) -> str:
        del request
        return "UNSIGNED-PAYLOAD"


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
    host=st.sampled_from(["bucket.s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "minio:8080"]),
    key=TEXT,
    query=st.dictionaries(st.sampled_from(["uploads", "partNumber", "uploadId"]), TEXT),
    headers=st.dictionaries(st.sampled_from(["Range", "Content-MD5"]), PLAIN),
    secret=PLAIN,
    token=st.none() | PLAIN,
    now=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 - hypothesis wants them so
)
def test_a_signature_is_what_botocore_would_make(
    method: str,
    host: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    secret: str,
    token: str | None,
    now: datetime,
) -> None:
    now = now.replace(microsecond=0, tzinfo=UTC)
    path = f"/bucket/{quote(key, safe='/~')}"
    asked = "&".join(f"{name}={quote(each, safe='~')}" for name, each in sorted(query.items()))
    url = f"https://{host}{path}" + (f"?{asked}" if asked else "")
    theirs = AWSRequest(method=method, url=url, headers=dict(headers), data=b"")
    plain = now.replace(tzinfo=None)
    with mock.patch("botocore.auth.get_current_datetime", return_value=plain):
        _Unsigned(Credentials("ACCESS", secret, token), "s3", "eu-west-1").add_auth(theirs)

    signer = Signer(host, "eu-west-1", "ACCESS", secret, token)
    ours = signer.signed(method, path, asked, headers, now)

    assert ours["authorization"] == theirs.headers["Authorization"]
    assert ours["x-amz-date"] == theirs.headers["X-Amz-Date"]
    assert ours.get("x-amz-security-token") == theirs.headers.get("X-Amz-Security-Token")
    assert ours["x-amz-content-sha256"] == theirs.headers["X-Amz-Content-SHA256"]
    # The second time by the key of that day.
    assert signer.signed(method, path, asked, headers, now) == ours
