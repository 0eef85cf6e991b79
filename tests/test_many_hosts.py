"""Many hosts on one object store, by a network that loses, answers with errors, and is counted."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository
from modeldrop.backend import open_backend
from modeldrop.errors import ArtifactDamaged, IntegrityError
from modeldrop.layout import numbered, versions
from modeldrop.names import new_guid
from modeldrop.sequence import Sequence
from support import work
from support.children import dies, run, started, together
from support.hosts import Fleet, hosts
from support.proxy import (
    FAIL,
    FAIL_AFTERWARDS,
    LOSE_ANSWER,
    LOSE_REQUEST,
    NONE,
    REFUSE_AFTERWARDS,
    Fault,
    Proxy,
)
from support.servers import AzuriteServer, MotoServer, Server
from support.stores import RUN, model, quick_pauses

MOST_AT_CONTENTION: Final = 16
MOST_WHEN_WARM: Final = 5
MOST_FROM_A_FRESH_HOME: Final = 40

MakeFleet = Callable[[int], Fleet]


@pytest.fixture(params=["moto", "azurite"])
def make_fleet(request: pytest.FixtureRequest) -> Iterator[MakeFleet]:
    """Make hosts on a new bucket of moto, and on a new container of Azurite."""
    server: MotoServer | AzuriteServer = request.getfixturevalue(request.param)
    url = server.make_bucket() if isinstance(server, MotoServer) else server.make_container()
    with _entered(server, url) as make:
        yield make


@pytest.fixture
def on_moto(moto: MotoServer) -> Iterator[MakeFleet]:
    """Make hosts on a new bucket of moto."""
    with _entered(moto, moto.make_bucket()) as make:
        yield make


@contextlib.contextmanager
def _entered(server: Server, url: str) -> Iterator[MakeFleet]:
    with contextlib.ExitStack() as stack:
        yield lambda count: stack.enter_context(hosts(server, url, count))


def one_each(told: list[list[list[Any]]], fleet: Fleet) -> None:
    """Check that the versions are dense, each told once, to whoever registered it."""
    answers = [answer for each in told for answer in each]
    found = {each.version: each.description for each in fleet.versions()}
    assert sorted(found) == list(range(1, len(answers) + 1))
    assert {version: said for version, _, said in answers} == found
    assert all(created for _, created, _ in answers)


def artifacts(hosts: int, each: int) -> list[list[str]]:
    """Return the names of some artifacts for each host."""
    return [[f"model-{host}-{number}" for number in range(each)] for host in range(hosts)]


def stored(fleet: Fleet, names: list[list[str]]) -> None:
    """Store a run with all of these."""
    fleet.store(RUN, [name for each in names for name in each])
    fleet.requests()


# Everybody at once


@pytest.mark.scenario(45)
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_sixteen_hosts_register_densely_for_at_most_sixteen_requests_each(
    make_fleet: MakeFleet,
) -> None:
    fleet, names = make_fleet(16), artifacts(16, 15)
    stored(fleet, names)

    told = together(
        work.register_each,
        [(home, RUN, f"host {n}", names[n]) for n, home in enumerate(fleet.homes)],
    )

    requests = fleet.requests()
    one_each(told, fleet)
    assert requests / 240 <= MOST_AT_CONTENTION, f"{requests} requests for 240 registrations"


@pytest.mark.scenario(46)
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_requests_and_answers_that_are_lost_give_no_number_twice_and_leave_none_out(
    make_fleet: MakeFleet,
) -> None:
    fleet, names = make_fleet(8), artifacts(8, 12)
    stored(fleet, names)
    fleet.proxy.at_random(46, {LOSE_REQUEST: 0.15, LOSE_ANSWER: 0.15})

    told = together(
        work.register_each,
        [(home, RUN, f"host {n}", names[n]) for n, home in enumerate(fleet.homes)],
    )

    fleet.proxy.quiet()
    one_each(told, fleet)
    # Each of them knows that all of its own are its own.
    for number, each in enumerate(told):
        with Repository.open(fleet.homes[number]) as repository:
            entries = [entry.about[0] for entry in repository.log() if entry.kind == "registered"]
            assert sorted(entries) == sorted(f"churn/{version}" for version, _, _ in each)
            assert repository.runs_at_backend.open_intents() == []


@pytest.mark.slow
def test_ranks_of_sixteen_hosts_that_register_the_same_get_one_version(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(16)
    stored(fleet, [["model"]])

    told = together(
        work.register_each,
        [(home, RUN, f"rank {n}", ["model"]) for n, home in enumerate(fleet.homes)],
    )

    [version] = fleet.versions()
    assert {answer[0] for each in told for answer in each} == {1}
    assert [said for [[_, created, said]] in told if created] == [version.description]


@pytest.mark.slow
def test_ranks_get_one_version_when_one_is_killed_between_its_claim_and_its_version(
    on_moto: MakeFleet,
) -> None:
    fleet = on_moto(17)
    stored(fleet, [["model"]])
    with contextlib.ExitStack() as stack:
        ranks = [
            stack.enter_context(
                started(
                    work.register_each,
                    *(home, RUN, f"rank {n}", ["model"]),
                    dies_at="claimed" if n == 16 else "",
                )
            )
            for n, home in enumerate(fleet.homes)
        ]
        for rank in ranks:
            rank.say()
        told = [rank.result() for rank in ranks[:16]]
        assert ranks[16].was_killed()

    [version] = fleet.versions()
    assert {answer[0] for each in told for answer in each} == {1}
    assert [said for [[_, created, said]] in told if created] == [version.description]


@pytest.mark.slow
def test_claim_of_a_host_that_was_killed_is_gone_on_from_by_another(on_moto: MakeFleet) -> None:
    fleet = on_moto(2)
    stored(fleet, [["model", "other"]])
    first, second = fleet.homes
    assert dies(work.register_each, first, RUN, "killed", ["model"], at="claimed")

    # The number that it claimed at is another's, and then the same is registered on both.
    assert run(work.register_each, second, RUN, "second", ["other"])[0][0] == 1
    told = together(
        work.register_each,
        [(home, RUN, str(home), ["model"]) for home in fleet.homes],
    )

    assert {answer[0] for each in told for answer in each} == {2}
    assert [each.artifact for each in fleet.versions()] == ["other", "model"]


@pytest.mark.scenario(49)
@pytest.mark.parametrize("same", [True, False], ids=["equal bytes", "other bytes"])
def test_two_hosts_that_drop_the_same_run_make_one_revision_of_equal_bytes(
    make_fleet: MakeFleet, tmp_path: Path, same: bool
) -> None:
    fleet = make_fleet(2)
    texts = ["weights", "weights" if same else "others"]
    paths = [model(tmp_path / f"host-{n}" / "model.bin", text) for n, text in enumerate(texts)]
    guid = new_guid()

    told = together(work.upload, zip(fleet.homes, [guid] * 2, paths, strict=True))

    numbers = [1] if same else [1, 2]
    assert sorted({revision for revision, _ in told}) == numbers
    assert [created for _, created in told].count(True) == len(numbers)
    with Repository.open(fleet.homes[0]) as repository:
        assert repository.runs_at_backend.numbers(guid) == numbers


# An answer that is lost

LOST: Final = (LOSE_ANSWER, FAIL_AFTERWARDS, REFUSE_AFTERWARDS)
# A client that tries again by itself hides the loss behind a "taken"; one that doesn't shows it.
CLIENTS: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "s3 that tries again": ("moto", {}),
    "s3 that tries once": ("moto", {"config_kwargs": {"retries": {"total_max_attempts": 1}}}),
    "azure": ("azurite", {}),
}


@pytest.mark.scenario(46)
@pytest.mark.parametrize("client", CLIENTS)
def test_request_whose_answer_was_lost_is_no_conflict_with_itself(
    client: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_pauses(monkeypatch)
    kind, options = CLIENTS[client]
    server: MotoServer | AzuriteServer = request.getfixturevalue(kind)
    url = server.make_bucket() if isinstance(server, MotoServer) else server.make_container()
    with Proxy(server.port) as proxy:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value.replace(server.endpoint, proxy.endpoint))
        backend = open_backend(url, options, None)
        sequence = Sequence(backend, "things/versions")
        for number, fault in enumerate(LOST, start=1):
            owner = new_guid()
            proxy.script("PUT", "/things/versions/", fault)

            def make(number: int, owner: str = owner) -> bytes:
                return work.record_of("me", owner, number)

            appended = sequence.append(make, owner=owner, at=number)

            assert (appended.number, appended.created, appended.conflicts) == (number, True, 0)
            lost = [each for each in proxy.requests if each.fault == fault]
            assert [each.method for each in lost] == ["PUT"]
        assert sequence.numbers() == [1, 2, 3]
        backend.close()


@pytest.mark.scenario(46)
def test_no_request_of_a_host_alone_is_a_conflict_whatever_is_lost(
    moto: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_pauses(monkeypatch)
    url = moto.make_bucket()
    with Proxy(moto.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        for name, value in moto.env.items():
            monkeypatch.setenv(name, value.replace(moto.endpoint, proxy.endpoint))
        proxy.at_random(
            4, {LOSE_REQUEST: 0.15, LOSE_ANSWER: 0.15, FAIL_AFTERWARDS: 0.1}, "/things/"
        )
        backend = open_backend(url, {}, None)
        sequence = Sequence(backend, "things/versions")
        for number in range(1, 31):
            owner = new_guid()

            def make(number: int, owner: str = owner) -> bytes:
                return work.record_of("me", owner, number)

            appended = sequence.append(make, owner=owner, at=number)
            assert (appended.number, appended.created, appended.conflicts) == (number, True, 0)
        assert sum(each.fault != NONE for each in proxy.requests) > 10
        backend.close()


@pytest.mark.parametrize("fault", [LOSE_ANSWER, FAIL_AFTERWARDS, LOSE_REQUEST, FAIL])
@pytest.mark.parametrize("key", ["/registrations/", "/versions/"])
def test_registration_that_met_a_loss_is_made_once_and_journaled_once(
    lossy: Fleet, monkeypatch: pytest.MonkeyPatch, fault: Fault, key: str
) -> None:
    quick_pauses(monkeypatch)
    name = f"experiment-{new_guid()}"
    with Repository.open(lossy.homes[0]) as repository:
        lossy.proxy.requests.clear()
        lossy.proxy.script("PUT", key, fault)

        answer = repository.register(RUN, name, "model")
        again = repository.register(RUN, name, "model")

        assert [each.fault for each in lossy.proxy.requests].count(fault) == 1
        assert (answer.version.version, answer.created) == (1, True)
        assert (again.version, again.created) == (answer.version, False)
        assert [e.about[0] for e in repository.log()].count(f"{name}/1") == 1


@pytest.fixture(scope="module")
def one_host(moto: MotoServer) -> Iterator[Fleet]:
    """A host with a stored run, for several tests."""
    with hosts(moto, moto.make_bucket(), 1) as fleet:
        fleet.store(RUN, ["model"])
        yield fleet


@pytest.fixture
def lossy(one_host: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A host with a stored run, whose network fails as a test likes it."""
    for name, value in one_host.env.items():
        monkeypatch.setenv(name, value)
    yield one_host
    one_host.proxy.quiet()


# What it costs


def cost(fleet: Fleet, home: Path, artifact: str, experiment: str = "churn") -> list[str]:
    """Register in a process of its own, and return the requests that it made."""
    fleet.proxy.requests.clear()
    run(work.register_each, home, RUN, "me", [artifact], experiment)
    return [f"{each.method} {each.path}" for each in fleet.proxy.requests]


def test_registration_from_a_warm_home_costs_five_requests_with_claim_and_check(
    make_fleet: MakeFleet,
) -> None:
    fleet, names = make_fleet(1), artifacts(1, 14)[0]
    fleet.store(RUN, names)
    [home] = fleet.homes

    costs = [cost(fleet, home, names[0]), cost(fleet, home, names[1])]
    with Repository.open(home) as repository:
        for name in names[2:]:
            fleet.proxy.requests.clear()
            repository.register(RUN, "churn", name)
            costs.append([f"{each.method} {each.path}" for each in fleet.proxy.requests])
        fleet.proxy.requests.clear()
        repository.register(RUN, "churn", names[0], again=True)
        costs.append([f"{each.method} {each.path}" for each in fleet.proxy.requests])

    assert max(map(len, costs)) <= MOST_WHEN_WARM, max(costs, key=len)
    for each in costs:
        assert sum("/registrations/" in request for request in each) == 1, each
        assert sum("/versions/" in request and "PUT" in request for request in each) == 1, each
        assert sum("format.json" in request for request in each) == 1, each


def test_bytes_that_are_gone_are_not_registered_by_a_warm_home(on_moto: MakeFleet) -> None:
    fleet = on_moto(1)
    fleet.store(RUN, ["model", "other"])
    with Repository.open(fleet.homes[0]) as repository:
        repository.register(RUN, "churn", "other")
        [file] = repository.artifact(f"run:{RUN}/model")[1].files
        repository.backend.delete(file.key)

        with pytest.raises(ArtifactDamaged):
            repository.register(RUN, "churn", "model")


def test_revision_that_another_host_made_is_what_a_warm_home_registers(
    on_moto: MakeFleet, tmp_path: Path
) -> None:
    fleet = on_moto(2)
    first, second = fleet.homes
    guid = new_guid()
    run(work.upload, first, guid, model(tmp_path / "model.bin", "one"))
    with Repository.open(first) as repository:
        assert repository.register(guid, "churn").version.revision == 1
        run(work.upload, second, guid, model(tmp_path / "model.bin", "two"))

        assert repository.register(guid, "churn").version.revision == 2


def test_versions_that_a_store_lost_are_an_error_of_a_warm_home(on_moto: MakeFleet) -> None:
    fleet = on_moto(1)
    fleet.store(RUN, ["model"])
    with Repository.open(fleet.homes[0]) as repository:
        for _ in range(3):
            repository.register(RUN, "churn", again=True)
        repository.backend.delete(numbered(versions("churn"), 3))

        with pytest.raises(IntegrityError, match="churn/3 was registered"):
            repository.register(RUN, "churn", again=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_thousand_versions_cost_a_fresh_home_forty_requests_and_a_warm_one_five(
    moto: MotoServer,
) -> None:
    url = moto.make_bucket()
    with hosts(moto, url, 2) as fleet:
        fleet.store(RUN, artifacts(1, 5)[0])
        run(work.register_each, fleet.homes[0], RUN, "me", ["model-0-0"])
        put_versions(moto, url, range(2, 10_001))

        fresh = cost(fleet, fleet.homes[1], "model-0-1")
        warm = cost(fleet, fleet.homes[1], "model-0-2")

        assert len(fresh) <= MOST_FROM_A_FRESH_HOME, fresh
        assert len(warm) <= MOST_WHEN_WARM, warm
        with Repository.open(fleet.homes[1]) as repository:
            assert repository.versions_at_backend.counter("churn") == 10_002


def put_versions(moto: MotoServer, url: str, numbers: range) -> None:
    """Put versions there without any client, which would take minutes."""
    text = work.record_of("anybody", new_guid(), 1)

    def put(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", moto.port)
        for number in numbers[first::4]:
            key = numbered(versions("churn"), number)
            connection.request("PUT", f"/{url.removeprefix('s3://')}/{key}", text)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == http.client.OK
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(4)))
