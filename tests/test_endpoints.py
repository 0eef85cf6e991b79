"""Servers that speak S3 elsewhere than at Amazon: named by options, not by the environment."""

import contextlib
import os
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.backend import open_backend
from modeldrop.errors import BackendUnreachable
from support.program import Program, in_process
from support.servers import MotoServer, RcloneS3Server, Server

MIB = 2**20


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    """`modeldrop` in this process."""
    return in_process(capsys)


@pytest.fixture(params=["moto", "rclone_s3"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server, whose keys are in the environment and whose address isn't."""
    found: Server = request.getfixturevalue(request.param)
    for name, value in found.env.items():
        if name not in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, value)
    return found


def bucket_of(server: Server) -> str:
    assert isinstance(server, MotoServer | RcloneS3Server)
    return server.make_bucket()


# No name server knows `bucket.localhost`, and none is asked for a path.
@pytest.mark.parametrize(
    "options",
    [
        {"addressing_style": "path"},
        {"config_kwargs": {"s3": {"addressing_style": "path"}}},
    ],
)
@pytest.mark.parametrize("region", [{}, {"region_name": "eu-central-1"}])
def test_records_and_bytes_go_to_the_endpoint_of_the_options_by_paths(
    server: Server, options: dict[str, object], region: dict[str, object]
) -> None:
    endpoint = f"http://localhost:{server.port}"
    url = f"{bucket_of(server)}/team"
    backend = open_backend(url, {"endpoint_url": endpoint, **region, **options}, None)
    with contextlib.closing(backend):
        backend.prepare()
        assert backend.endpoint == endpoint
        assert backend.create("a/1", b"one")
        assert backend.read("a/1") == b"one"
        data = os.urandom(9 * MIB)
        writer = backend.writer("a/2", len(data))
        writer.write(data)
        writer.finish()
        source = backend.source("a/2")
        assert source is not None
        with source:
            assert b"".join(iter(lambda: source.read(MIB), b"")) == data
        assert sorted(backend.children("a")) == ["1", "2"]


def test_a_bucket_in_the_name_of_the_host_is_asked_for_where_that_is_wanted(
    moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, moto.env[name])
    options = {"endpoint_url": f"http://host.invalid:{moto.port}", "addressing_style": "virtual"}
    backend = open_backend(moto.make_bucket(), options, None)
    with (
        contextlib.closing(backend),
        pytest.raises(BackendUnreachable, match=r"modeldrop-[0-9a-f]+\.host\.invalid"),
    ):
        backend.prepare()


def test_a_home_keeps_the_endpoint_and_the_addressing_that_it_was_made_with(
    run: Program, moto: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, moto.env[name])
    endpoint = f"http://localhost:{moto.port}"
    options = (f"endpoint_url={endpoint}", "addressing_style=path", "region_name=auto")
    made = run(
        "init",
        *("--backend", moto.make_bucket(), "--json"),
        *(part for option in options for part in ("--option", option)),
    )
    assert made.code == 0, made.err
    (tmp_path / "model.bin").write_bytes(b"weights")
    with Repository.open(tmp_path / ".mlops") as repository:
        verdict = repository.home.probe()
        assert verdict is not None
        assert (verdict.endpoint, verdict.holds) == (endpoint, True)
        guid = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
        repository.upload(guid, tmp_path / "model.bin")
        assert repository.register(guid, "churn").version.version == 1
