"""What is particular to Google Cloud Storage."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import pytest

from modeldrop.backend import failures, gcs, open_backend
from modeldrop.backend.failures import Kind
from modeldrop.backend.objects import ObjectBackend
from modeldrop.errors import BackendError, BackendUnreachable, BucketNotFound


@contextlib.contextmanager
def opened(url: str, **options: object) -> Iterator[ObjectBackend]:
    backend = open_backend(url, options, None)
    assert isinstance(backend, ObjectBackend)
    with contextlib.closing(backend):
        yield backend


def test_a_bucket_that_is_not_there_is_named(gcs_url: str) -> None:
    with opened(f"{gcs_url}-not/models") as backend:
        with pytest.raises(BucketNotFound, match=f"{gcs_url}-not"):
            backend.prepare()
        with pytest.raises(BucketNotFound):
            backend.read("a/1")


def test_an_address_that_answers_nothing_is_said_with_the_address(
    gcs_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "_PAUSE_SECONDS", 0.01)
    with (
        opened(gcs_url, endpoint_url="http://127.0.0.1:9") as backend,
        pytest.raises(BackendUnreachable, match=r"no answer at http://127\.0\.0\.1:9"),
    ):
        backend.prepare()


def test_a_record_that_changed_on_its_way_takes_no_number(
    gcs_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hashlib.md5
    with opened(gcs_url) as backend:
        with monkeypatch.context() as patched:
            patched.setattr(
                "modeldrop.backend.gcs.hashlib.md5", lambda _, **how: real(b"another", **how)
            )
            with pytest.raises(BackendError, match="MD5"):
                backend.create("a/1", b"one")
        assert backend.read("a/1") is None


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (401, "authError", Kind.REFUSED),
        (403, "forbidden", Kind.REFUSED),
        (403, "rateLimitExceeded", Kind.BUSY),
        (404, "notFound", Kind.NOT_FOUND),
        (412, "conditionNotMet", Kind.EXISTS),
        (429, "rateLimitExceeded", Kind.BUSY),
        (503, "backendError", Kind.BUSY),
    ],
)
def test_what_an_answer_means_is_told_by_its_reason_before_its_status(
    status: int, reason: str, kind: Kind
) -> None:
    error = {"code": status, "message": "so it is", "errors": [{"reason": reason}]}
    said = json.dumps({"error": error}).encode()
    assert failures.kind_of(gcs.Refusal(status, said)) is kind


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "no"}', b"\xff"])
def test_an_answer_without_a_reason_is_told_by_its_status(body: bytes) -> None:
    assert failures.kind_of(gcs.Refusal(403, body)) is Kind.REFUSED


class Keeper:
    """A store that keeps of each request as much as it is told to, and may lose the answer."""

    def __init__(self, *keeps: int | str) -> None:
        self.keeps = list(keeps)
        self.kept = b""
        self.whole = False

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], data: bytes = b"", **_: object
    ) -> gcs._Answer:
        assert (method, url) == ("PUT", "session")
        place, total = headers["Content-Range"].removeprefix("bytes ").split("/")
        lost = False
        if data:
            assert place == f"{len(self.kept)}-{len(self.kept) + len(data) - 1}"
            keep = self.keeps.pop(0) if self.keeps else len(data)
            lost = keep == "lost"
            self.kept += data[: keep if isinstance(keep, int) else len(data)]
        self.whole = total == str(len(self.kept))
        if lost:
            raise aiohttp.ServerDisconnectedError
        if self.whole:
            return gcs._Answer(200, {}, b"")
        said = {"Range": f"bytes=0-{len(self.kept) - 1}"} if self.kept else {}
        return gcs._Answer(308, said, b"")


@pytest.mark.parametrize(
    "keeps", [(), (0,), (3,), (10, 3), (10, 0, 10), ("lost",), (10, "lost"), (10, 10, "lost")]
)
def test_what_the_store_has_not_kept_is_sent_again_and_nothing_twice(
    keeps: tuple[int | str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "_PAUSE_SECONDS", 0.001)
    store = Keeper(*keeps)
    driver: Any = store
    upload = gcs._Resumable(driver, "session")
    for number, part in enumerate((b"0123456789", b"abcdefghij", b"xyz"), 1):
        upload.send(number, part)
    upload.complete()
    assert store.kept == b"0123456789abcdefghijxyz"
    assert store.whole


def test_a_store_that_keeps_nothing_at_all_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs, "_PAUSE_SECONDS", 0.001)
    driver: Any = Keeper(*[0] * 20)
    upload = gcs._Resumable(driver, "session")
    upload.send(1, b"0123456789")
    with pytest.raises(BackendError, match="0 of 10 bytes"):
        upload.send(2, b"abcdefghij")
