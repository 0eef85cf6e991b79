"""Between stores of two kinds, and where the usual way is closed: the bytes come all the same."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from modeldrop import layout
from modeldrop.backend import Backend, access, open_backend
from modeldrop.backend.direct import Direct, NotDirect
from modeldrop.backend.objects import ObjectBackend
from modeldrop.backend.sftp import SftpDriver
from modeldrop.backend.urls import parse
from modeldrop.errors import BackendError
from modeldrop.transfer import Transfer

RUN = "3f2b8c1e-0000-4000-8000-000000000001"
DATA = os.urandom(100_000)


def key_of(name: str = "model.bin") -> str:
    return layout.bytes_key(RUN, layout.new_upload_id(), name)


def put(backend: Backend, data: bytes = DATA, key: str = "") -> str:
    key = key or key_of()
    writer = backend.writer(key, len(data))
    writer.write(data)
    writer.finish()
    return key


@contextlib.contextmanager
def opened(url: str, options: dict[str, object] | None = None) -> Iterator[Backend]:
    backend = open_backend(url, options or {}, None)
    backend.prepare()
    try:
        yield backend
    finally:
        backend.close()


def test_no_store_copies_by_itself_from_one_of_another_kind(
    s3_url: str, azure_url: str, tmp_path: Path
) -> None:
    with opened(s3_url) as s3, opened(azure_url) as azure, opened(str(tmp_path / "s")) as local:
        stored = {each: put(each) for each in (s3, azure, local)}
        for source, key in stored.items():
            for target in stored.keys() - {source}:
                there = key_of()
                assert not target.take(source, key, there, len(DATA))
                assert target.read(there) is None


def test_what_the_kernel_can_not_copy_is_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    with opened(str(tmp_path / "a")) as source, opened(str(tmp_path / "b")) as target:
        key, there = put(source), key_of()

        assert target.take(source, key, there, len(DATA))

        assert target.read(there) == DATA


def test_copy_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened(str(tmp_path / "a")) as source, opened(str(tmp_path / "b")) as target:
        key, there = put(source), key_of()
        monkeypatch.setattr(os, "copy_file_range", fail)

        with pytest.raises(Exception, match="Input/output error"):
            target.take(source, key, there, len(DATA))

        assert not [each for each in (tmp_path / "b").rglob("*") if each.is_file()]


def test_what_is_no_regular_file_is_not_copied(tmp_path: Path) -> None:
    with opened(str(tmp_path / "a")) as source, opened(str(tmp_path / "b")) as target:
        key = put(source)
        path = source.local_path(key)
        assert path is not None
        path.unlink()
        os.mkfifo(path)

        assert not target.take(source, key, key_of(), len(DATA))


# S3


@pytest.mark.parametrize("method", ["size", "read", "open", "try_digests"])
def test_what_can_not_go_past_s3fs_goes_by_way_of_it_from_then_on(
    s3_url: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_direct(*_: object, **__: object) -> None:
        raise NotDirect(method)

    with opened(s3_url) as backend:
        key = put(backend)
        backend.create("record.json", b"{}")
        driver: Any = cast("ObjectBackend", backend)._bucket.driver
        monkeypatch.setattr(Direct, method, not_direct)
        if method == "try_digests":
            assert driver.checks_digests("probe") == driver.checks_digests("probe")

        found = backend.stat(key)
        source = backend.source(key)
        assert found is not None
        assert source is not None
        with source:
            assert found.size == len(DATA)
            assert b"".join(iter(lambda: source.read(1 << 16), b"")) == DATA
        assert backend.read("record.json") == b"{}"

        assert driver._direct is None


def test_markers_that_other_tools_leave_for_folders_are_no_files(s3_url: str) -> None:
    with opened(s3_url) as backend:
        key = put(backend)
        driver: Any = cast("ObjectBackend", backend)._bucket.driver
        start = cast("ObjectBackend", backend)._bucket.start("")
        for marker in (f"{start}{RUN}/", f"{start}{RUN}/sub/", f"{start}{RUN}//"):
            driver._call("put_object", Key=marker, Body=b"")

        assert [each.key for each in backend.walk(RUN)] == [key]
        assert list(backend.children("")) == [RUN]
        assert "" not in set(backend.children(RUN))


def test_part_behind_the_end_of_a_file_is_none(s3_url: str) -> None:
    with opened(s3_url) as backend:
        key = put(backend, b"short")

        assert cast("ObjectBackend", backend).part(key, 100, 200) is None


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"client_kwargs": {"verify": 7}}, id="verify"),
        pytest.param(
            {"endpoint_url": "http://a", "client_kwargs": {"endpoint_url": "http://b"}},
            id="endpoints",
        ),
    ],
)
def test_options_that_contradict_each_other_are_left_to_s3fs(options: dict[str, object]) -> None:
    assert access.asked(options) is None


def test_certificates_are_the_usual_ones_unless_somebody_names_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    usual = access.authorities(None, None)
    assert Path(usual).is_file()
    assert access.authorities(True, "configured.pem") == usual
    assert access.authorities(None, "configured.pem") == "configured.pem"


# A bucket of a store that only its fsspec driver knows


class Bucket(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """A store of objects as a driver of fsspec is one, in this process."""

    protocol = "oss"
    store: dict[str, object] = {}  # noqa: RUF012 - as fsspec has it
    pseudo_dirs: list[str] = [""]  # noqa: RUF012 - the same

    def __init__(self, **options: object) -> None:
        options.pop("use_listings_cache", None)
        super().__init__(**options)

    def _open(
        self, path: str, mode: str = "rb", *, autocommit: bool = True, **options: object
    ) -> object:
        # In a store of objects, a file is there once it is committed.
        if "w" in mode and not autocommit:
            return MemoryFile(self, path)
        return super()._open(path, mode, autocommit=autocommit, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = MemoryFileSystem._strip_protocol(path.removeprefix("oss://"))
        return stripped


def test_bucket_of_another_driver_takes_small_and_large_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = uuid.uuid4().hex
    (tmp_path / "ossfs.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    fsspec.register_implementation("oss", Bucket, clobber=True)
    Bucket(skip_instance_cache=True).mkdir(f"/{name}")
    with opened(f"oss://{name}/models") as backend:
        small, large = put(backend, b"small"), put(backend, os.urandom(40 << 20))

        assert backend.read(small) == b"small"
        found = backend.stat(large)
        assert found is not None
        assert found.size == 40 << 20
        writer = backend.writer(key_of("aborted"), 40 << 20)
        writer.write(bytes(20 << 20))
        writer.abort()
        assert sorted(each.key for each in backend.walk(RUN)) == sorted([small, large])


def test_host_of_sftp_alone_is_enough() -> None:
    driver: Any = SftpDriver(parse("sftp://models.example/srv", None), {})

    assert driver._arguments["host"] == "models.example"
    assert not {"username", "port"} & driver._arguments.keys()


def test_file_that_fills_its_parts_exactly_is_whole_and_finished_once(s3_url: str) -> None:
    data = os.urandom(32 << 20)
    with opened(s3_url) as backend:
        key = key_of()
        writer = backend.writer(key, len(data))
        writer.write(data)
        writer.finish()

        assert backend.read(key) == data
        with pytest.raises(BackendError, match="was finished or aborted before"):
            writer.finish()


def test_upload_that_the_store_has_forgotten_is_ended_already(s3_url: str) -> None:
    with opened(s3_url) as backend:
        Transfer(backend).end(key_of(), "an upload that never was", 40 << 20)

        assert list(backend.walk(RUN)) == []
