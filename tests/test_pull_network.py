"""A pull over a network that flips a bit, cuts an answer or goes silent: right bytes or none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from modeldrop import pulling, ranges
from modeldrop.backend import Backend, azure, open_backend, s3
from modeldrop.errors import ArtifactDamaged, BackendError, BackendUnreachable
from modeldrop.pulling import pull
from modeldrop.records import Artifact
from modeldrop.unfinished import PREFIX
from support.artifacts import KEY, MIB, data_of, folder_of, left_in, put
from support.proxy import CUT_ANSWER, FLIP_ANSWER, SILENT, Fault, Proxy
from support.servers import AzuriteServer, RcloneS3Server

pytestmark = pytest.mark.scenario(48)

SHORT: Final = 1.0
# Read in several places, where the store is S3; and in one request.
LARGE: Final = 5 * MIB
SIZES: Final = pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])


@pytest.fixture(params=["s3", "azure"])
def proxied(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Backend, Proxy]]:
    """A store, and the proxy before it that a test has fail."""
    server: RcloneS3Server | AzuriteServer
    server = request.getfixturevalue("rclone_s3" if request.param == "s3" else "azurite")
    url = server.make_bucket() if isinstance(server, RcloneS3Server) else server.make_container()
    monkeypatch.setattr(pulling, "_LARGE", MIB)
    monkeypatch.setattr(ranges, "_RANGE", MIB)
    monkeypatch.setattr(s3, "_READ_SECONDS", SHORT)
    monkeypatch.setattr(s3, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(azure, "_LIMITS", {**azure._LIMITS, "read_timeout": SHORT})
    monkeypatch.setattr(azure, "_PAUSE_SECONDS", 0.01)
    with Proxy(server.port) as proxy:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value.replace(server.endpoint, proxy.endpoint))
        with contextlib.closing(open_backend(url, {}, None)) as backend:
            yield backend, proxy


@SIZES
@pytest.mark.parametrize("fault", [FLIP_ANSWER, CUT_ANSWER, SILENT], ids=["flip", "cut", "silent"])
def test_what_befalls_one_answer_is_no_matter(
    proxied: tuple[Backend, Proxy], tmp_path: Path, size: int, fault: Fault
) -> None:
    backend, proxy = proxied
    data = data_of(size)
    artifact = Artifact.of_file(put(backend, KEY, data))
    proxy.script("GET", KEY, fault)
    assert pull(backend, artifact, tmp_path / "out" / "model").read_bytes() == data
    assert fault in {each.fault for each in proxy.requests}
    assert left_in(tmp_path / "out") == ["model"]


@SIZES
@pytest.mark.parametrize(
    ("fault", "error"),
    [(FLIP_ANSWER, ArtifactDamaged), (CUT_ANSWER, BackendError), (SILENT, BackendUnreachable)],
    ids=["flip", "cut", "silent"],
)
def test_what_befalls_every_answer_ends_in_time_with_its_code_and_without_a_file(
    proxied: tuple[Backend, Proxy],
    tmp_path: Path,
    size: int,
    fault: Fault,
    error: type[ArtifactDamaged | BackendError],
) -> None:
    backend, proxy = proxied
    data = data_of(size)
    artifact = Artifact.of_file(put(backend, KEY, data))
    target = tmp_path / "out" / "model"
    proxy.script("GET", KEY, *[fault] * 1000)
    begun = time.monotonic()
    with pytest.raises(error) as caught:
        pull(backend, artifact, target)
    # Each of its tries is silent for so long, and those of several places at the same time.
    assert time.monotonic() - begun < (20 * SHORT if fault is SILENT else 60)
    assert caught.value.exit_code == error.exit_code
    assert not target.exists()
    proxy.quiet()
    assert pull(backend, artifact, target).read_bytes() == data
    assert left_in(target.parent) == ["model"]


def test_one_file_of_many_that_is_flipped_each_time_is_the_one_that_is_named(
    proxied: tuple[Backend, Proxy], tmp_path: Path
) -> None:
    backend, proxy = proxied
    artifact = folder_of(backend, {f"{number}": data_of(1000, number) for number in range(12)})
    bad = artifact.files[7]
    proxy.script("GET", f"{bad.key}", *[FLIP_ANSWER] * 10)
    with pytest.raises(ArtifactDamaged) as caught:
        pull(backend, artifact, tmp_path / "out" / "model")
    assert caught.value.detail["files"] == [f"model/{bad.path}"]
    assert left_in(tmp_path / "out") == []


def test_a_network_that_goes_away_leaves_what_has_arrived(
    proxied: tuple[Backend, Proxy], tmp_path: Path
) -> None:
    backend, proxy = proxied
    contents = {f"{number:02}": data_of(1000, number) for number in range(40)}
    artifact = folder_of(backend, contents)
    target = tmp_path / "out" / "model"
    proxy.script("GET", KEY, *[CUT_ANSWER] * 1000, nth=21)
    with pytest.raises(BackendError) as caught:
        pull(backend, artifact, target)
    assert caught.value.exit_code == 30
    assert left_in(target.parent) == [f"{PREFIX}{artifact.sha256}-1"]
    proxy.quiet()
    before = proxy.count("GET")
    pull(backend, artifact, target)
    # Those that the threads were at have arrived in part, and are hashed too late to be told apart.
    assert proxy.count("GET") - before <= 20 + backend.capabilities.connections
    assert {each.name: each.read_bytes() for each in target.iterdir()} == contents
