"""A network that flips a bit, cuts an answer or goes silent: never a wrong answer, and an end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from modeldrop import Repository
from modeldrop.backend import azure, open_backend, patience, s3
from modeldrop.errors import BackendError, BackendUnreachable, IntegrityError, OutcomeUnknown
from modeldrop.names import new_guid
from modeldrop.sequence import Sequence
from support import work
from support.hosts import Fleet, hosts
from support.proxy import CUT_ANSWER, FLIP_ANSWER, FLIP_REQUEST, SILENT, Fault, Proxy
from support.servers import AzuriteServer, MotoServer, RcloneS3Server
from support.stores import RUN, quick_pauses

pytestmark = pytest.mark.scenario(48)

# What a registration that finds its claim reads, and what a reference does.
READ = ("/format.json", "/registrations/", "/versions/", "/revisions/", "list-type")
SHORT = 1.5


@pytest.fixture(scope="module")
def one_host(moto: MotoServer) -> Iterator[Fleet]:
    """A host with a stored run, for all tests."""
    with hosts(moto, moto.make_bucket(), 1) as fleet:
        fleet.store(RUN, ["model"])
        yield fleet


@pytest.fixture
def fleet(one_host: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A host with a stored run, whose network is as a test has it."""
    for name, value in one_host.env.items():
        monkeypatch.setenv(name, value)
    quick_pauses(monkeypatch)
    monkeypatch.setattr(patience, "_LONGEST", 0.3)
    yield one_host
    one_host.proxy.quiet()


@pytest.mark.parametrize("fault", [FLIP_ANSWER, CUT_ANSWER], ids=["flipped", "cut"])
@pytest.mark.parametrize("key", READ)
def test_damage_on_the_way_is_an_error_or_no_matter_and_never_another_answer(
    fleet: Fleet, key: str, fault: Fault
) -> None:
    name = f"experiment-{new_guid()}"
    with Repository.open(fleet.homes[0]) as repository:
        for _ in range(3):
            repository.register(RUN, name, again=True)
        wanted = repository.register(RUN, name).version
        every: list[Callable[[], object]] = [
            lambda: repository.register(RUN, name).version,
            lambda: repository.resolve(f"{name}/4").version,
            lambda: repository.resolve(name).version,
        ]
        for ask in every:
            fleet.proxy.quiet()
            # Each of its tries is met, or the first of them only.
            for times in (1, 99):
                fleet.proxy.script("GET", key, *[fault] * times)
                # With their exit codes, 20 and 30.
                with contextlib.suppress(IntegrityError, BackendError):
                    assert ask() == wanted
                fleet.proxy.quiet()
                assert ask() == wanted
        assert len(repository.versions(name)) == 4


@pytest.mark.parametrize("kind", ["azurite", "rclone_s3"])
def test_record_that_is_flipped_on_its_way_is_refused_and_sent_again(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Moto checks no digest, and has no say here.
    quick_pauses(monkeypatch)
    server: AzuriteServer | RcloneS3Server = request.getfixturevalue(kind)
    url = server.make_container() if isinstance(server, AzuriteServer) else server.make_bucket()
    with Proxy(server.port) as proxy:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value.replace(server.endpoint, proxy.endpoint))
        backend = open_backend(url, {}, None)
        proxy.script("PUT", "/a/", *[FLIP_REQUEST] * 2)
        record = work.record_of("me", owner := new_guid(), 1)

        with pytest.raises(BackendError):
            backend.create("a/1", record)
        assert backend.read("a/1") is None
        appended = Sequence(backend, "a").append(lambda _: record, owner=owner, at=1)

        assert (appended.number, appended.created) == (1, True)
        assert Sequence(backend, "a").read(1) == record
        backend.close()


@pytest.mark.parametrize("first", [True, False], ids=["its claim", "its version"])
def test_silence_has_an_end_and_what_came_of_it_is_found(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    monkeypatch.setattr(s3, "ANSWER_SECONDS", SHORT)
    monkeypatch.setattr("modeldrop.sequence._LONGEST", SHORT)
    name = f"experiment-{new_guid()}"
    key = f"/{name}/registrations/" if first else f"/{name}/versions/"
    with Repository.open(fleet.homes[0]) as repository:
        fleet.proxy.script("PUT", key, *[SILENT] * 99)
        fleet.proxy.script("GET", key, *[SILENT] * 99)
        begun = time.monotonic()

        with pytest.raises(OutcomeUnknown) as caught:
            repository.register(RUN, name)

        assert time.monotonic() - begun < 10 * SHORT
        assert caught.value.exit_code == 30
        fleet.proxy.quiet()
        assert repository.register(RUN, name).version.version == 1
        assert [entry.about[0] for entry in repository.log()].count(f"{name}/1") == 1


@pytest.mark.parametrize("kind", ["moto", "azurite"])
def test_every_question_about_a_record_has_a_deadline(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: MotoServer | AzuriteServer = request.getfixturevalue(kind)
    url = server.make_bucket() if isinstance(server, MotoServer) else server.make_container()
    monkeypatch.setattr(s3, "ANSWER_SECONDS", SHORT)
    monkeypatch.setattr(azure, "ANSWER_SECONDS", SHORT)
    with Proxy(server.port) as proxy:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value.replace(server.endpoint, proxy.endpoint))
        backend = open_backend(url, {}, None)
        assert backend.create("a/record", b"text")
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            proxy.script(method, "", *[SILENT] * 99)
        every: list[Callable[[], object]] = [
            lambda: backend.read("a/record"),
            lambda: backend.create("a/other", b"text"),
            lambda: backend.stat("a/record"),
            lambda: list(backend.children("a")),
            lambda: backend.delete("a/record"),
        ]
        for ask in every:
            begun = time.monotonic()
            with pytest.raises(BackendUnreachable):
                ask()
            assert time.monotonic() - begun < 4 * SHORT
        backend.close()
