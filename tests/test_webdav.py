"""What is particular to a folder of a WebDAV server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modeldrop.backend import open_backend, webdav
from modeldrop.backend.objects import ObjectBackend
from modeldrop.errors import BackendRefused, ConfigError
from support.servers import WebdavServer


@contextlib.contextmanager
def opened(url: str, **options: object) -> Iterator[ObjectBackend]:
    backend = open_backend(url, options, None)
    assert isinstance(backend, ObjectBackend)
    with contextlib.closing(backend):
        yield backend


def test_who_has_no_password_is_refused_and_told_where_it_belongs(webdav_url: str) -> None:
    (Path.home() / ".netrc").unlink()
    with opened(webdav_url) as backend, pytest.raises(BackendRefused) as caught:
        backend.prepare()
    assert ".netrc" in caught.value.hint


def test_a_password_in_the_options_is_refused_and_not_repeated(webdav_url: str) -> None:
    with pytest.raises(ConfigError, match="'auth' holds a secret") as caught:
        open_backend(webdav_url, {"auth": ["trainer", "hunter2"]}, None)
    assert "hunter2" not in str(caught.value)


def test_a_password_goes_over_https_or_stays_on_this_machine(webdav_url: str) -> None:
    assert webdav._credentials(httpx.URL("https://cloud.example")) is not None
    assert webdav._credentials(httpx.URL("http://127.0.0.1:8080")) is not None
    assert webdav._credentials(httpx.URL("http://cloud.example")) is None


def test_a_file_is_seen_under_its_name_alone_once_it_is_whole(
    webdav: WebdavServer, webdav_url: str
) -> None:
    with opened(webdav_url) as backend:
        backend.prepare()
        assert backend.create("a/1", b"one")
        assert not backend.create("a/1", b"two")
        writer = backend.writer("a/2", 3)
        writer.write(b"two")
        writer.finish()
        assert not backend.capabilities.exclusive_create
    folder = next(webdav.served.glob(f"{webdav_url.split('/')[-2]}/models/a"))
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_a_folder_is_never_deleted_as_a_file(webdav_url: str) -> None:
    with opened(webdav_url) as backend:
        backend.prepare()
        assert backend.create("a/b/1", b"one")
        backend.delete("a/b")
        backend.delete("a")
        assert backend.read("a/b/1") == b"one"


def test_a_range_is_what_it_is_also_where_the_server_sends_all_of_it() -> None:
    data = bytes(range(200))
    headers = {"Content-Length": str(len(data))}
    for start, end in ((0, None), (0, 10), (50, None), (50, 60), (199, 200)):
        answer = httpx.Response(200, headers=headers, stream=httpx.ByteStream(data))
        body = webdav._Body(answer, start, end)
        read = b""
        while piece := body.read(7):
            read += piece
        assert read == data[start:end]
        assert body.total == len(data)
