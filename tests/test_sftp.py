"""What is particular to a folder that is reached by SSH."""

import contextlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from modeldrop import layout
from modeldrop.backend import open_backend
from modeldrop.backend.objects import ObjectBackend
from modeldrop.errors import BackendRefused, BackendUnreachable, ConfigError
from modeldrop.files import TEMP_PREFIX
from support.servers import SftpServer

RUN = "3f2b8c1e-0000-4000-8000-000000000001"


@contextlib.contextmanager
def opened(url: str, **options: object) -> Iterator[ObjectBackend]:
    backend = open_backend(url, options, None)
    assert isinstance(backend, ObjectBackend)
    with contextlib.closing(backend):
        yield backend


def test_a_host_whose_key_is_not_known_is_not_spoken_to(sftp_url: str) -> None:
    (Path.home() / ".ssh" / "known_hosts").unlink()
    with (
        opened(sftp_url) as backend,
        pytest.raises(BackendUnreachable, match="key of the host") as caught,
    ):
        backend.prepare()
    assert "known_hosts" in caught.value.hint


def test_a_user_without_a_key_is_refused_and_told_where_keys_belong(sftp_url: str) -> None:
    (Path.home() / ".ssh" / "id_ed25519").unlink()
    with opened(sftp_url) as backend, pytest.raises(BackendRefused) as caught:
        backend.prepare()
    assert "client_keys" in caught.value.hint


def test_a_key_file_may_be_named_by_an_option(sftp_url: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    shutil.move(Path.home() / ".ssh" / "id_ed25519", key)
    with opened(sftp_url, client_keys=str(key)) as backend:
        backend.prepare()
        assert backend.create("a/1", b"one")


@pytest.mark.parametrize("place", ["", "user@", "host:port"])
def test_a_url_that_names_no_host_is_refused(place: str) -> None:
    with opened(f"sftp://{place}/models") as backend, pytest.raises(ConfigError, match="no host"):
        backend.prepare()


@pytest.mark.parametrize("option", ["key_filename", "client_keys"])
def test_an_option_that_can_not_be_right_is_named(sftp_url: str, option: str) -> None:
    with (
        opened(sftp_url, **{option: "no-such-key"}) as backend,
        pytest.raises(ConfigError, match=r"key_filename|no-such-key"),
    ):
        backend.prepare()


def test_a_connection_that_was_cut_is_made_anew(sftp_url: str) -> None:
    with opened(sftp_url) as backend:
        backend.prepare()
        assert backend.create("a/1", b"one")
        driver: Any = backend._bucket.driver
        driver._loop.call_soon_threadsafe(driver._connection.abort)
        assert backend.read("a/1") == b"one"
        driver._loop.call_soon_threadsafe(driver._connection.abort)
        assert backend.create("a/2", b"two")


def test_a_file_is_seen_under_its_name_alone_once_it_is_whole(
    sftp: SftpServer, sftp_url: str
) -> None:
    with opened(sftp_url) as backend:
        backend.prepare()
        assert backend.create("a/1", b"one")
        assert not backend.create("a/1", b"two")
        writer = backend.writer("a/2", 3)
        writer.write(b"two")
        writer.finish()
    folder = next(sftp.served.glob(f"{sftp_url.split('/')[-2]}/models/a"))
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]
    assert {path.stat().st_nlink for path in folder.iterdir()} == {1}


def test_what_was_killed_on_its_way_is_found_and_removed(sftp: SftpServer, sftp_url: str) -> None:
    with opened(sftp_url) as backend:
        backend.prepare()
        key = layout.bytes_key(RUN, layout.new_upload_id(), "model.bin")
        upload = backend._bucket.driver.begin(backend._bucket.key(key))
        upload.send(1, b"half of it")
        left = [path for path in sftp.served.rglob(f"{TEMP_PREFIX}*") if RUN in str(path)]
        assert len(left) == 1
        assert list(backend.walk("")) == []
        assert backend.end_unfinished(datetime.now(UTC) - timedelta(hours=1)) == []
        assert left[0].exists()
        ended = backend.end_unfinished(datetime.now(UTC) + timedelta(hours=1))
        assert [each.key.rpartition("/")[0] for each in ended] == [key.rpartition("/")[0]]
        assert not left[0].exists()


def test_a_server_without_hard_links_says_that_it_is_for_one_writer(linkless_sftp_url: str) -> None:
    with opened(linkless_sftp_url) as backend:
        backend.prepare()
        assert backend.create("a/1", b"one")
        assert not backend.capabilities.exclusive_create
        assert not backend.create("a/1", b"two")
        assert backend.read("a/1") == b"one"


def test_a_file_that_is_there_is_the_one_that_was_sent_only_if_it_is_as_long(sftp_url: str) -> None:
    with opened(sftp_url) as backend:
        driver: Any = backend._bucket.driver
        driver.put("folder/key", b"abc")
        # As where an answer was lost.
        driver.put("folder/key", b"abc")
        with pytest.raises(FileExistsError):
            driver.put("folder/key", b"abcd")
        assert driver.read("folder/key") == b"abc"
