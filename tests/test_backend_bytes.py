"""How bytes go to object stores and come back: digests on the way, answers that break off."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self, cast

import pytest
from certifi import where

from modeldrop import layout, ranges
from modeldrop.backend import open_backend
from modeldrop.backend.connections import NoAnswer
from modeldrop.backend.direct import Body, Direct, ErrorAnswer, NotDirect
from modeldrop.backend.driver import Unfinished
from modeldrop.backend.objects import ObjectBackend
from modeldrop.backend.streams import StreamSource
from modeldrop.errors import BackendError, BackendUnreachable, ConfigError
from modeldrop.transfer import Sent, Transfer
from support.proxy import Checking, Proxy, Seen
from support.servers import AzuriteServer, MotoServer, RcloneS3Server, TlsMotoServer

MIB: Final = 2**20
RUN: Final = "3f2b8c1e-0000-4000-8000-000000000001"
LATER: Final = timedelta(days=1)


@contextlib.contextmanager
def opened(url: str, options: dict[str, object] | None = None) -> Iterator[ObjectBackend]:
    backend = open_backend(url, options or {}, None)
    assert isinstance(backend, ObjectBackend)
    with contextlib.closing(backend):
        yield backend


def send(backend: ObjectBackend, path: Path, data: bytes) -> tuple[str, Sent]:
    path.write_bytes(data)
    key = layout.bytes_key(RUN, layout.new_upload_id(), "model.bin")
    fd = os.open(path, os.O_RDONLY)
    try:
        return key, Transfer(backend).send(fd, key, len(data), lambda: None)
    finally:
        os.close(fd)


def ended(backend: ObjectBackend, after: timedelta) -> list[str]:
    return [each.key for each in backend.end_unfinished(datetime.now(UTC) + after)]


def read(backend: ObjectBackend, key: str) -> bytes:
    source = backend.source(key)
    assert source is not None
    with source:
        return b"".join(iter(lambda: source.read(MIB), b""))


# --- digests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "checks"), [("s3", False), ("azure", True), ("rclone_s3", True)])
def test_whether_a_store_checks_digests_is_tried_and_leaves_nothing(
    kind: str, checks: bool, request: pytest.FixtureRequest
) -> None:
    # Moto takes bytes with any digest, so that it can't be believed.
    with opened(f"{request.getfixturevalue(f'{kind}_url')}/models") as backend:
        writer = backend.writer(f"{RUN}/upload/model.bin", 10)
        assert writer.checked == checks
        writer.abort()
        assert list(backend.walk("")) == []
        assert ended(backend, LATER) == []


@pytest.mark.parametrize("kind", ["azure", "rclone_s3"])
@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 45 * MIB])
def test_what_the_store_checked_is_asked_for_no_more(
    kind: str,
    size: int,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = os.urandom(size)
    with opened(request.getfixturevalue(f"{kind}_url")) as backend:
        with monkeypatch.context() as patched:
            for name in ("read", "size", "open"):
                patched.delattr(type(backend._bucket.driver), name)
            key, sent = send(backend, tmp_path / "model.bin", data)
        assert sent == Sent(hashlib.sha256(data).hexdigest(), size)
        assert read(backend, key) == data


class Flipping(Proxy):
    """Changes one bit of what is sent to a key, so often."""

    def __init__(self, port: int, times: int) -> None:
        super().__init__(port)
        self.times = times

    def pass_on(
        self, seen: Seen, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        ours = "model.bin" in seen.path and seen.method == "PUT" and "blocklist" not in seen.path
        if ours and self.times:
            self.times -= 1
            body = body[:-1] + bytes([body[-1] ^ 1])
        return super().pass_on(seen, headers, body)


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_a_bit_that_flips_on_the_way_to_s3_is_never_stored(
    size: int,
    rclone_s3: RcloneS3Server,
    rclone_s3_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Flipping(rclone_s3.port, 1000) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with opened(rclone_s3_url) as backend:
            with pytest.raises(BackendError):
                send(backend, tmp_path / "model.bin", os.urandom(size))
            assert list(backend.walk("")) == []


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_what_was_hit_once_on_the_way_to_s3_is_sent_again(
    size: int, moto: MotoServer, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(size)
    with Checking(moto.port) as store, Flipping(store.port, 1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with opened(s3_url) as backend:
            key, _ = send(backend, tmp_path / "model.bin", data)
            assert proxy.times == 0
            assert backend.writer(f"{RUN}/upload/model.bin", 1).checked
            assert read(backend, key) == data


class Tagging(Proxy):
    """Notes whether parts bring a digest along, and answers tries with a tag of its own."""

    def __init__(self, port: int, tag: str | None) -> None:
        super().__init__(port)
        self.tag = tag
        self.with_digest: list[bool] = []

    def pass_on(
        self, seen: Seen, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        status, answered, text = super().pass_on(seen, headers, body)
        if "partNumber" in seen.path and layout.PROBES not in seen.path:
            self.with_digest.append("content-md5" in {name.lower() for name in headers})
        elif "partNumber" in seen.path and self.tag is not None and status < 300:
            answered = [each for each in answered if each[0].lower() != "etag"]
            answered.append(("ETag", self.tag))
        return status, answered, text


@pytest.mark.parametrize(("tag", "comes_along"), [(None, False), ('"of another kind"', True)])
def test_a_digest_comes_along_with_parts_where_the_store_doesnt_tell_it(
    tag: str | None,
    comes_along: bool,
    rclone_s3: RcloneS3Server,
    rclone_s3_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = os.urandom(17 * MIB)
    with Tagging(rclone_s3.port, tag) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with opened(rclone_s3_url) as backend:
            assert backend.writer(f"{RUN}/upload/model.bin", 1).checked
            key, _ = send(backend, tmp_path / "model.bin", data)
            assert proxy.with_digest == [comes_along] * 3
            assert read(backend, key) == data


@pytest.mark.parametrize("size", [1000, 9 * MIB])
def test_a_bit_that_flips_on_the_way_to_azure_is_never_stored(
    size: int,
    azurite: AzuriteServer,
    azure_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Flipping(azurite.port, 1000) as proxy:
        text = azurite.connection_string.replace(azurite.endpoint, proxy.endpoint)
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        with opened(azure_url) as backend:
            with pytest.raises(BackendError):
                send(backend, tmp_path / "model.bin", os.urandom(size))
            assert list(backend.walk("")) == []


def test_a_bit_that_flips_where_nobody_checks_is_found_by_reading_back(
    moto: MotoServer, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Flipping(moto.port, 1000) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with opened(s3_url) as backend, pytest.raises(BackendError, match="other bytes"):
            send(backend, tmp_path / "model.bin", os.urandom(1000))


@pytest.mark.parametrize(
    "options",
    [
        {"anon": True},
        {"requester_pays": True},
        {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms"}},
        {"config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
    ],
    ids=["anon", "requester pays", "encryption", "accelerated"],
)
def test_what_only_s3fs_knows_how_to_ask_for_is_asked_by_s3fs(
    options: dict[str, object], s3_url: str
) -> None:
    with opened(s3_url, options) as backend:
        driver: Any = backend._bucket.driver
        assert driver._direct is None


@pytest.mark.parametrize("style", ["path", "auto"])
def test_bytes_go_where_the_settings_lead(style: str, s3_url: str, tmp_path: Path) -> None:
    options: dict[str, object] = {"config_kwargs": {"s3": {"addressing_style": style}}}
    with opened(f"{s3_url}/team a/100%+models", options) as backend:
        driver: Any = backend._bucket.driver
        assert driver._direct is not None
        key, _ = send(backend, tmp_path / "model.bin", b"weights")
        assert [each.key for each in backend.walk("")] == [key]
        assert read(backend, key) == b"weights"


def test_no_secret_is_in_what_an_error_of_a_direct_request_says(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-of-the-token")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with opened(s3_url) as backend, pytest.raises(BackendError) as caught:
        send(backend, tmp_path / "model.bin", b"weights")
    shown = f"{caught.value} {caught.value.hint} {caught.value.detail}"
    assert "canary" not in shown
    assert "Signature" not in shown


@pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"])
def test_credentials_that_end_with_a_line_are_in_no_error(
    name: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "canary-of-a-file\n")
    with opened(s3_url) as backend, pytest.raises(BackendError, match="line's end") as caught:
        backend.source("key")
    assert "canary" not in f"{caught.value} {caught.value.hint} {caught.value.detail}"


# --- certificates -------------------------------------------------------------------------------


def direct_of(backend: ObjectBackend) -> Direct:
    driver: Any = backend._bucket.driver
    assert isinstance(driver._direct, Direct)
    return driver._direct


@pytest.mark.parametrize("way", ["verify", "AWS_CA_BUNDLE", "profile", "REQUESTS_CA_BUNDLE"])
def test_bytes_go_to_a_server_whose_certificate_is_good_however_its_ca_is_named(
    way: str,
    tls_moto: TlsMotoServer,
    tls_s3_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right, wrong = str(tls_moto.authority), where()
    options: dict[str, object] = {}
    monkeypatch.delenv("AWS_CA_BUNDLE")
    # Whatever botocore looks at later would lead astray.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", wrong)
    profile = right if way == "profile" else wrong
    if way != "REQUESTS_CA_BUNDLE":
        (tmp_path / "config").write_text(f"[default]\nca_bundle = {profile}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    if way == "verify":
        monkeypatch.setenv("AWS_CA_BUNDLE", wrong)
        options = {"client_kwargs": {"verify": right}}
    elif way != "profile":
        monkeypatch.setenv(way, right)
    data = os.urandom(9 * MIB)
    with opened(tls_s3_url, options) as backend:
        direct = direct_of(backend)
        direct.put("whole", data)
        assert read(backend, "whole") == data
        assert direct.send("parts", direct.begin("parts"), 1, data)
        key, sent = send(backend, tmp_path / "model.bin", data)
        assert sent == Sent(hashlib.sha256(data).hexdigest(), len(data))
        assert read(backend, key) == data
        assert direct_of(backend) is direct


@pytest.mark.parametrize("kind", ["another's", "unknown", "unknown to those asked for"])
def test_a_server_whose_certificate_is_anothers_or_of_an_unknown_ca_is_sent_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = "misnamed" if kind == "another's" else "tls"
    server: TlsMotoServer = request.getfixturevalue(f"{which}_moto")
    url: str = request.getfixturevalue(f"{which}_s3_url")
    options: dict[str, object] = {}
    if kind == "unknown":
        monkeypatch.delenv("AWS_CA_BUNDLE")
    elif kind != "another's":
        options = {"client_kwargs": {"verify": True}}
    before = server.said.count(" HTTP/1.1")
    assert before
    with opened(url, options) as backend:
        direct = direct_of(backend)
        asked: list[Callable[[], object]] = [
            lambda: direct.put("key", b"weights"),
            lambda: direct.open("key", 0, None),
            lambda: direct.begin("key"),
        ]
        for ask in asked:
            with pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
                ask()
        told: list[Callable[[], object]] = [
            lambda: send(backend, tmp_path / "model.bin", b"weights"),
            lambda: read(backend, "key"),
            lambda: backend.create("key", b"record"),
        ]
        for ask in told:
            with pytest.raises(BackendUnreachable) as caught:
                ask()
            assert caught.value.exit_code == 30
            assert f"certificate of {server.endpoint} isn't to be trusted" in str(caught.value)
            assert "AWS_CA_BUNDLE" in caught.value.hint
        assert direct_of(backend) is direct
    assert server.said.count(" HTTP/1.1") == before


def test_a_server_is_spoken_to_by_no_tls_that_is_older_than_1_2(tls_s3_url: str) -> None:
    with opened(tls_s3_url) as backend:
        tls = direct_of(backend)._connections._tls
        assert tls is not None
        assert tls.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("name", ["nothing", "a folder", "no certificates"])
def test_certificates_to_trust_that_cant_be_read_are_named(
    name: str, tls_s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / name
    if name == "a folder":
        bundle.mkdir()
    elif name != "nothing":
        bundle.write_text("weights")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with opened(tls_s3_url) as backend, pytest.raises(ConfigError, match=name):
        backend.source("key")


# --- answers ------------------------------------------------------------------------------------


class Broken:
    """A driver whose answers end after so many bytes, as if the connection broke."""

    def __init__(self, data: bytes, most: int, pause: float = 0) -> None:
        self.data = data
        self.most = most
        self.pause = pause
        self.asked: list[tuple[int, int | None]] = []

    def open(self, key: str, start: int, end: int | None) -> _Answer:
        del key
        self.asked.append((start, end))
        return _Answer(self, start, len(self.data) if end is None else end)

    def source(self, start: int = 0) -> StreamSource:
        driver: Any = self
        told = lambda _: contextlib.nullcontext()  # noqa: E731 - what a backend does about errors
        return StreamSource(driver, "key", self.open("key", start, None), told, start)


class _Answer:
    def __init__(self, driver: Broken, start: int, end: int) -> None:
        self.total = len(driver.data)
        self._driver = driver
        self._at = start
        self._end = end
        self._until = start + driver.most

    def read_into(self, view: memoryview) -> int:
        if self._at >= self._until and self._at < self._end:
            raise ConnectionResetError
        if self._driver.pause:
            time.sleep(self._driver.pause)
        stop = min(self._at + len(view), self._end, self._until)
        data = self._driver.data[self._at : stop]
        view[: len(data)] = data
        self._at = stop
        return len(data)

    def close(self) -> None:
        pass


def test_an_answer_that_breaks_off_is_taken_up_where_it_did() -> None:
    driver = Broken(os.urandom(1000), 300)
    with driver.source() as source:
        assert b"".join(iter(lambda: source.read(128), b"")) == driver.data
    assert driver.asked == [(0, None), (300, 1000), (600, 1000), (900, 1000)]


def test_answers_without_a_byte_end_in_an_error() -> None:
    driver = Broken(bytes(1000), 0)
    with driver.source() as source, pytest.raises(ConnectionResetError):
        source.read(128)
    assert len(driver.asked) == 3


def test_a_cut_answer_is_no_end_of_the_file() -> None:
    class Held(io.BytesIO):
        read_into = io.BytesIO.readinto

    held: Any = Held(b"short")
    body = Body(held, 10, 10)
    buffer = memoryview(bytearray(10))
    assert body.read_into(buffer) == 5
    assert bytes(buffer[:5]) == b"short"
    with pytest.raises(NoAnswer, match="cut short"):
        body.read_into(buffer)


class Redirecting(Proxy):
    """Sends everybody elsewhere."""

    def __init__(self, port: int, elsewhere: str) -> None:
        super().__init__(port)
        self.elsewhere = elsewhere

    def pass_on(
        self, seen: Seen, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        del headers, body
        return 307, [("Location", f"{self.elsewhere}{seen.path}")], b""


def test_nothing_is_sent_where_a_server_redirects_to(
    moto: MotoServer, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(moto.port) as elsewhere, Redirecting(moto.port, elsewhere.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with opened(s3_url) as backend:
            direct = direct_of(backend)
            with pytest.raises(NotDirect):
                direct.open("key", 0, None)
            with pytest.raises(NotDirect):
                direct.put("key", b"weights")
        assert proxy.count("GET") == proxy.count("PUT") == 1
        assert elsewhere.requests == []


class _Lengthless(http.server.BaseHTTPRequestHandler):
    """Answers as HTTP/1.0 may: what comes until the connection ends is all."""

    def do_GET(self) -> None:
        self.send_response_only(200)
        self.end_headers()
        self.wfile.write(b"wei")

    def log_message(self, *_: object) -> None:
        pass


def test_an_answer_without_a_length_is_never_taken_for_a_whole_one(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Lengthless) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            with opened(s3_url) as backend, pytest.raises(NotDirect):
                direct_of(backend).open("key", 0, None)
        finally:
            server.shutdown()
            thread.join()


# --- ranges -------------------------------------------------------------------------------------


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_CHUNK", 1000)
    monkeypatch.setattr(ranges, "_RANGE", 10_000)
    monkeypatch.setattr(ranges, "_PIECE", 3000)


def saved(
    driver: Broken,
    path: Path,
    moved: Callable[[int], None] = lambda _: None,
    arrived: list[ranges.Interval] | None = None,
) -> tuple[bytes, str, list[ranges.Interval]]:
    """Return what is in the file then, the digest that was made of it, and what was noted."""
    digest, there, noted = hashlib.sha256(), arrived or [], list[ranges.Interval]()
    note = lambda start, end: noted.append((start, end))  # noqa: E731 - what a pull does
    start = ranges.first_missing(there)
    with driver.source(start) as source, path.open("r+b" if there else "x+b") as out:
        size = len(driver.data)
        ranges.save(source, size, out.fileno(), there, note, moved, digest.update)
    return path.read_bytes(), digest.hexdigest(), noted


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("size", [20_001, 30_000, 123_456])
def test_a_large_file_is_read_in_several_places_and_hashed_in_order(
    size: int, tmp_path: Path
) -> None:
    driver = Broken(os.urandom(size), 4000, pause=0.005)
    count = [0]
    lock = threading.Lock()

    def moved(more: int) -> None:
        with lock:
            count[0] += more

    found, digest, noted = saved(driver, tmp_path / "file", moved)
    assert found == driver.data
    assert sum(end - start for start, end in noted) == size
    assert digest == hashlib.sha256(driver.data).hexdigest()
    assert count == [size]
    assert {start for start, _ in driver.asked} >= set(range(0, size, 10_000))


@pytest.mark.usefixtures("small_ranges")
def test_what_has_arrived_of_a_large_file_isnt_asked_for_again(tmp_path: Path) -> None:
    driver = Broken(os.urandom(100_000), 10**9)
    arrived = [(0, 12_000), (20_000, 40_000), (45_000, 50_000), (60_000, 63_000)]
    before = bytearray(100_000)
    for start, end in arrived:
        before[start:end] = driver.data[start:end]
    (tmp_path / "file").write_bytes(before)
    moved: list[int] = []
    found, digest, noted = saved(driver, tmp_path / "file", moved.append, arrived)
    assert found == driver.data
    assert digest == hashlib.sha256(driver.data).hexdigest()
    # What stands alone in the middle of a range is fetched with what is before it.
    expected = {12_000, 40_000, 50_000, 63_000, 70_000, 80_000, 90_000}
    assert {start for start, _ in driver.asked} == expected
    assert sum(end - start for start, end in noted) == 8000 + 10_000 + 10_000 + 7000 + 30_000
    assert sum(moved) == 100_000


class Waiting:
    """A backend that begins its answers after so long, one after the other."""

    def __init__(self, data: bytes, *waits: float, size: int | None = None) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []
        self.open = 0
        self.size = len(data) if size is None else size
        self._waits = iter(waits)

    def part(self, key: str, start: int, end: int) -> _Part:
        del key
        self.asked.append((start, end))
        return _Part(self, start, end, next(self._waits))


class _Part:
    def __init__(self, backend: Waiting, start: int, end: int, waited: float) -> None:
        self.size = backend.size
        self.waited = waited
        self._backend = backend
        self._bytes = io.BytesIO(backend.data[start:end])
        self.read = self._bytes.read
        self.read_into = self._bytes.readinto
        backend.open += 1

    def within(self, start: int, end: int) -> _Part:
        return self._backend.part("key", start, end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.open -= 1


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize(
    ("waits", "start", "parted", "asked"),
    [
        ((0.1,), 0, True, [(0, 10_000)]),
        ((0.1,), 12_345, True, [(12_345, 20_000)]),
        # It looks at all of the file once.
        ((1, 0.1), 0, True, [(0, 10_000), (10_000, 123_456)]),
        # It looks at all of the file each time.
        ((1, 1), 0, False, [(0, 10_000), (10_000, 123_456)]),
        ((1, 1), 12_345, False, [(12_345, 20_000), (20_000, 123_456)]),
        ((1,), 121_000, True, [(121_000, 123_456)]),
    ],
    ids=["at once", "at once, further on", "once", "always", "always, further on", "the last"],
)
def test_a_store_that_always_takes_long_to_begin_is_asked_twice_in_all(
    waits: tuple[float, ...], start: int, parted: bool, asked: list[tuple[int, int]]
) -> None:
    backend: Any = Waiting(os.urandom(123_456), *waits)
    begun = ranges.begin(backend, "key", 123_456, start)
    assert begun is not None
    with begun[0] as source:
        assert begun[1] == parted
        assert backend.asked == asked
        found = b"".join(iter(lambda: source.read(4321), b""))
    assert found == backend.data[start : asked[0][1] if parted else None]
    assert backend.open == 0


@pytest.mark.usefixtures("small_ranges")
def test_a_file_of_another_size_is_opened_as_a_whole() -> None:
    backend: Any = Waiting(bytes(123_456), 0.1, size=123_457)
    assert ranges.begin(backend, "key", 123_456, 0) is None
    assert backend.open == 0
    assert ranges.begin(cast("Any", object()), "key", 123_456, 0) is None


@pytest.mark.usefixtures("small_ranges")
def test_whoever_stops_one_place_stops_all(tmp_path: Path) -> None:
    driver = Broken(os.urandom(10**6), 10**9, pause=0.005)
    count = [0]

    def moved(more: int) -> None:
        count[0] += more
        if count[0] > 50_000:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        saved(driver, tmp_path / "file", moved)
    assert count[0] < 200_000


# --- what came to no end ------------------------------------------------------------------------


def test_unfinished_uploads_of_ours_are_ended_at_s3_and_no_others(s3_url: str) -> None:
    upload = layout.bytes_key(RUN, layout.new_upload_id(), "model.bin")
    with opened(f"{s3_url}/models") as backend:
        driver: Any = backend._bucket.driver
        for key in (f"models/{upload}", f"models/{layout.probe('0')}", "models/of/others", "x/y"):
            driver._call("create_multipart_upload", Key=key)
        # Moto says of each that it began in 2010.
        assert ended(backend, -LATER) == [layout.probe("0")]
        assert ended(backend, LATER) == [upload]
        left = driver._call("list_multipart_uploads")["Uploads"]
        assert sorted(each["Key"] for each in left) == ["models/of/others", "x/y"]
        assert ended(backend, LATER) == []


def test_unfinished_uploads_are_all_found_however_many(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.backend.s3._PAGE", 2)
    with opened(s3_url) as backend:
        driver: Any = backend._bucket.driver
        keys = {f"{RUN}/{layout.new_upload_id()}/{number}" for number in range(5)}
        for key in keys:
            driver._call("create_multipart_upload", Key=key)
        assert set(ended(backend, LATER)) == keys


def test_unfinished_uploads_of_ours_are_ended_at_azure_and_nothing_stored(azure_url: str) -> None:
    upload = f"{RUN}/{layout.new_upload_id()}"
    with opened(f"{azure_url}/models") as backend:
        driver: Any = backend._bucket.driver
        for key in (f"models/{upload}/a", "models/of/others"):
            driver.begin(key).send(1, b"part")
        for name, data in (("empty", b""), ("full", b"weights")):
            driver.put(f"models/{upload}/{name}", data)
        assert ended(backend, -LATER) == []
        # Azure tells of the first block alone: it may still be sent to for weeks.
        assert ended(backend, LATER) == []
        assert ended(backend, 30 * LATER) == [f"{upload}/a"]
        stored = {each.key for each in backend.walk("")}
        assert stored == {f"{upload}/empty", f"{upload}/full"}
        assert ended(backend, 30 * LATER) == []
        # Ours was the one; that of others can still be committed.
        others = driver.resume("models/of/others", "")
        others.keep(1)
        others.complete()
        assert driver.read("models/of/others") == b"part"


def test_an_upload_that_is_committed_just_before_it_is_ended_stays_at_azure(azure_url: str) -> None:
    with opened(f"{azure_url}/models") as backend:
        driver: Any = backend._bucket.driver
        blocks = driver.begin("models/late")
        blocks.send(1, b"part")
        blocks.complete()

        with pytest.raises(Exception, match="already exists"):
            driver.end(Unfinished("models/late", datetime.now(UTC)))
        assert driver.read("models/late") == b"part"


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_an_upload_that_something_is_sent_to_is_nobodys_leftover_however_old(
    kind: str, request: pytest.FixtureRequest
) -> None:
    old = f"{RUN}/20200102T030405Z-0011223344556677"
    with opened(request.getfixturevalue(f"{kind}_url")) as backend:
        driver: Any = backend._bucket.driver
        upload = driver.begin(f"{old}/model.bin")
        upload.send(1, bytes(5 * MIB))
        assert ended(backend, -LATER) == []
        # Moto says that it began in 2010: by its beginning alone it would be one.
        if kind == "s3":
            (found,) = next(driver.unfinished(old))
            assert found.begun_at < datetime.now(UTC) - LATER
        upload.complete()
        assert backend.stat(f"{old}/model.bin") is not None
        assert ended(backend, LATER) == []


def test_uploads_of_many_parts_are_judged_by_the_youngest(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(s3_url) as backend:
        driver: Any = backend._bucket.driver
        upload = driver.begin(f"{RUN}/20200102T030405Z-0011223344556677/model.bin")
        asked: list[dict[str, Any]] = []
        young, old = datetime.now(UTC), datetime(2020, 1, 2, tzinfo=UTC)
        pages = [
            {"Parts": [{"LastModified": old}, {}], "IsTruncated": True, "NextPartNumberMarker": 2},
            {"Parts": [{"LastModified": young}], "IsTruncated": False},
        ]
        call = driver._call

        def listed(method: str, **given: Any) -> Any:  # noqa: ANN401 - botocore's own
            if method != "list_parts":
                return call(method, **given)
            asked.append(given)
            return pages.pop(0)

        monkeypatch.setattr(driver, "_call", listed)
        assert ended(backend, -LATER) == []
        assert [each.get("PartNumberMarker") for each in asked] == [None, 2]
        upload.discard()


def test_what_would_be_ended_is_told_and_stays(s3_url: str) -> None:
    upload = f"{RUN}/{layout.new_upload_id()}/model.bin"
    with opened(s3_url) as backend:
        driver: Any = backend._bucket.driver
        driver.begin(upload)
        for _ in range(2):
            (found,) = backend.end_unfinished(datetime.now(UTC) + LATER, dry_run=True)
            assert (found.key, found.size) == (upload, None)
        assert ended(backend, LATER) == [upload]


def test_a_store_that_refuses_for_another_reason_is_not_taken_to_check_digests(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(s3_url) as backend:
        direct: Any = cast("Any", backend)._bucket.driver._direct

        def denied(*_: object, **__: object) -> None:
            raise ErrorAnswer(403, "AccessDenied", "not here")

        monkeypatch.setattr(direct, "_ask", denied)
        with pytest.raises(ErrorAnswer, match="AccessDenied"):
            direct._refuses("PUT", "key", {}, {}, b"")


def test_a_file_that_is_another_when_it_is_asked_for_again_is_not_gone_on_with() -> None:
    class Ending:
        """An answer that breaks off at once."""

        def __init__(self, total: int) -> None:
            self.total = total

        def read_into(self, view: memoryview) -> int:
            del view
            raise ConnectionResetError

        def close(self) -> None:
            pass

    driver: Any = SimpleNamespace(open=lambda *_: Ending(20))
    source = StreamSource(
        driver, "key", cast("Body", Ending(10)), lambda _: contextlib.nullcontext()
    )
    with pytest.raises(BackendError, match="isn't what it was when it was opened"):
        source.read(10)


def test_an_answer_of_another_length_than_it_says_is_none(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(s3_url) as backend:
        direct: Any = cast("Any", backend)._bucket.driver._direct

        def answers(length: int, **headers: str) -> None:
            said = {"content-length": str(length), **headers}
            made = SimpleNamespace(headers=said, whole=lambda _: b"abc", drop=lambda: None)
            monkeypatch.setattr(direct, "_ask", lambda *_, **__: made)

        answers(3)
        assert direct.read("key", 1.0) == b"abc"
        answers(4)
        with pytest.raises(NoAnswer, match="cut short"):
            direct.read("key", 1.0)

        answers(3, **{"content-range": "bytes 5-7/20"})
        assert direct.open("key", 5, 8).total == 20
        answers(2, **{"content-range": "bytes 5-7/20"})
        with pytest.raises(NoAnswer, match="got others"):
            direct.open("key", 5, 8)
