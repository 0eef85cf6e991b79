"""Many small files of a pull come at once; what goes wrong with one of them is no matter."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop.backend import open_backend, s3
from modeldrop.backend.base import Stored
from modeldrop.backend.direct import Direct
from modeldrop.backend.objects import ObjectBackend
from modeldrop.errors import BackendError
from modeldrop.pulling import pull
from support.artifacts import data_of, folder_of, left_in
from support.proxy import (
    CUT_ANSWER,
    FAIL,
    FLIP_ANSWER,
    LOSE_ANSWER,
    REFUSE,
    SILENT,
    Fault,
    Proxy,
    Seen,
)
from support.servers import RcloneS3Server

COUNT: Final = 60
# One is empty, some come with their heads and some don't.
CONTENTS: Final = {
    f"{number % 3}/{number:02}": data_of(number * number * 90, number) for number in range(COUNT)
}
SHORT: Final = 2.0
# Where nothing fails, a machine that is busy is no silence.
LONG: Final = 20.0


def opened(url: str) -> ObjectBackend:
    backend = open_backend(url, {}, None)
    assert isinstance(backend, ObjectBackend)
    return backend


@pytest.fixture
def read_seconds() -> float:
    """How long the store may be silent."""
    return SHORT


@pytest.fixture
def proxied(
    rclone_s3: RcloneS3Server, monkeypatch: pytest.MonkeyPatch, read_seconds: float
) -> Iterator[tuple[ObjectBackend, Proxy]]:
    """A store with the proxy before it that a test has fail."""
    url = rclone_s3.make_bucket()
    monkeypatch.setattr(s3, "_READ_SECONDS", read_seconds)
    monkeypatch.setattr(s3, "_PAUSE_SECONDS", 0.01)
    with Proxy(rclone_s3.port) as proxy:
        for name, value in rclone_s3.env.items():
            monkeypatch.setenv(name, value.replace(rclone_s3.endpoint, proxy.endpoint))
        with contextlib.closing(opened(url)) as backend:
            yield backend, proxy


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were asked for one by one."""
    asked: list[str] = []
    real = Direct.open

    def opening(self: Direct, key: str, start: int, end: int | None) -> Any:  # noqa: ANN401 - as it is
        asked.append(key)
        return real(self, key, start, end)

    monkeypatch.setattr(Direct, "open", opening)
    return asked


def wrong_in(folder: Path, contents: dict[str, bytes] = CONTENTS) -> list[str]:
    """Return what isn't as it was sent, by name: to tell megabytes apart takes pytest minutes."""
    found = (each for each in folder.rglob("*") if each.is_file())
    read = {str(each.relative_to(folder)): each.read_bytes() for each in found}
    return [name for name in read.keys() | contents if read.get(name) != contents.get(name)]


@pytest.mark.parametrize("read_seconds", [LONG])
def test_each_is_asked_for_once_and_none_by_itself(
    proxied: tuple[ObjectBackend, Proxy], tmp_path: Path, one_by_one: list[str]
) -> None:
    backend, proxy = proxied
    artifact = folder_of(backend, CONTENTS)
    moved: list[int] = []
    assert wrong_in(pull(backend, artifact, tmp_path / "model", moved.append)) == []
    assert one_by_one == []
    assert proxy.count("GET") == COUNT
    assert sum(moved) == artifact.size


@pytest.mark.parametrize("read_seconds", [LONG])
def test_a_large_one_among_them_comes_by_itself(
    proxied: tuple[ObjectBackend, Proxy], tmp_path: Path, one_by_one: list[str]
) -> None:
    backend, _ = proxied
    contents = {**CONTENTS, "large": data_of(2**20 + 1)}
    pulled = pull(backend, folder_of(backend, contents), tmp_path / "model")
    assert wrong_in(pulled, contents) == []
    assert len(one_by_one) == 1


@pytest.mark.parametrize(
    "fault",
    [FLIP_ANSWER, CUT_ANSWER, SILENT, REFUSE, FAIL, LOSE_ANSWER, Fault(reaches=False, status=403)],
    ids=["flip", "cut", "silent", "busy", "fail", "lose", "refuse"],
)
def test_what_goes_wrong_with_some_is_no_matter(
    proxied: tuple[ObjectBackend, Proxy], tmp_path: Path, fault: Fault, one_by_one: list[str]
) -> None:
    backend, proxy = proxied
    artifact = folder_of(backend, CONTENTS)
    proxy.script("GET", "model", *[fault] * 3, nth=20)
    assert wrong_in(pull(backend, artifact, tmp_path / "model")) == []
    # Most of the others came at once all the same.
    assert 1 <= len(one_by_one) < COUNT / 2
    assert left_in(tmp_path) == ["model"]


@pytest.mark.parametrize("read_seconds", [LONG])
def test_one_that_is_gone_is_named(proxied: tuple[ObjectBackend, Proxy], tmp_path: Path) -> None:
    backend, _ = proxied
    artifact = folder_of(backend, CONTENTS)
    gone = artifact.files[7]
    backend.delete(gone.key)
    with pytest.raises(Exception, match=f"damaged or missing: model/{gone.path}$"):
        pull(backend, artifact, tmp_path / "model")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("read_seconds", [LONG])
def test_one_of_another_size_is_never_taken(
    proxied: tuple[ObjectBackend, Proxy], tmp_path: Path
) -> None:
    backend, _ = proxied
    artifact = folder_of(backend, CONTENTS)
    told: dict[int, bytes] = {}
    wanted = [Stored(each.key, each.size + (each.size % 2)) for each in artifact.files]
    backend.gather(wanted, lambda number, data: told.update({number: bytes(data)}))
    even = {number for number, each in enumerate(artifact.files) if each.size % 2 == 0}
    assert told.keys() == even
    assert [each for each in even if told[each] != CONTENTS[artifact.files[each].path]] == []
    assert not (tmp_path / "model").exists()


class Closing(Proxy):
    """Ends each connection after an answer, and says so."""

    def pass_on(
        self, seen: Seen, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        status, answered, data = super().pass_on(seen, headers, body)
        return status, [*answered, ("Connection", "close")], data


def test_a_server_that_ends_every_connection_is_asked_one_by_one(
    rclone_s3: RcloneS3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = rclone_s3.make_bucket()
    with Closing(rclone_s3.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, rclone_s3.env[name])
        with contextlib.closing(opened(url)) as backend:
            artifact = folder_of(backend, CONTENTS)
            assert wrong_in(pull(backend, artifact, tmp_path / "model")) == []


def test_a_store_that_is_gone_is_told_in_time(
    proxied: tuple[ObjectBackend, Proxy], tmp_path: Path
) -> None:
    backend, proxy = proxied
    artifact = folder_of(backend, CONTENTS)
    proxy.away = True
    began = time.monotonic()
    with pytest.raises(BackendError):
        pull(backend, artifact, tmp_path / "model")
    assert time.monotonic() - began < 30
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("stop", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_whoever_takes_no_more_ends_it(rclone_s3_url: str, stop: BaseException) -> None:
    backend = opened(rclone_s3_url)
    artifact = folder_of(backend, CONTENTS)
    before = len(os.listdir("/proc/self/fd"))
    count = 0

    def take(number: int, data: memoryview) -> None:
        nonlocal count
        del number, data
        count += 1
        if count == 5:
            raise stop

    with pytest.raises(type(stop)):
        backend.gather([Stored(each.key, each.size) for each in artifact.files], take)
    assert count == 5
    # One may be kept for the next request; sixteen would be those that it had.
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    backend.close()


def test_they_come_at_once_over_tls(tls_s3_url: str, tmp_path: Path, one_by_one: list[str]) -> None:
    with contextlib.closing(opened(tls_s3_url)) as backend:
        artifact = folder_of(backend, CONTENTS)
        one_by_one.clear()
        assert wrong_in(pull(backend, artifact, tmp_path / "model")) == []
        # Moto ends each connection after its first answer.
        assert 0 < len(one_by_one) <= COUNT - 10


@pytest.mark.parametrize("read_seconds", [LONG])
def test_secrets_that_cant_be_sent_are_told_of_once_and_shown_to_nobody(
    proxied: tuple[ObjectBackend, Proxy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, proxy = proxied
    artifact = folder_of(backend, CONTENTS)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary\n")
    with (
        contextlib.closing(opened(backend.url)) as other,
        pytest.raises(BackendError, match="line's end") as caught,
    ):
        pull(other, artifact, tmp_path / "model")
    assert "canary" not in f"{caught.value} {caught.value.hint} {caught.value.detail}"
    assert proxy.count("GET") == 0
