"""Many hosts that move one alias at an object store, by a network that loses and is counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository
from modeldrop.names import new_guid
from modeldrop.records import AliasMove
from support import work
from support.children import run, together
from support.hosts import Fleet, hosts
from support.proxy import FAIL, FAIL_AFTERWARDS, LOSE_ANSWER, LOSE_REQUEST, Fault
from support.servers import AzuriteServer, MotoServer
from support.stores import RUN, quick_pauses

# The sixth asks whether the version was retired (docs/decisions/0076).
MOST_WHEN_WARM: Final = 6
ROUNDS: Final = 2

MakeFleet = Callable[[int], Fleet]


@pytest.fixture(params=["moto", "azurite"])
def make_fleet(request: pytest.FixtureRequest) -> Iterator[MakeFleet]:
    """Make hosts on a new bucket of moto, and on a new container of Azurite.

    There is one version more than there are hosts.
    """
    server: MotoServer | AzuriteServer = request.getfixturevalue(request.param)
    url = server.make_bucket() if isinstance(server, MotoServer) else server.make_container()
    with contextlib.ExitStack() as stack:

        def make(count: int) -> Fleet:
            fleet = stack.enter_context(hosts(server, url, count))
            fleet.store(RUN, ["model"])
            run(work.register, fleet.homes[0], RUN, "anybody", count + 1)
            fleet.requests()
            return fleet

        yield make


def seen_by_all(fleet: Fleet) -> list[AliasMove]:
    """Return the moves of the alias; they are dense, and two hosts see the same."""
    found = []
    for root in (fleet.homes[0], fleet.homes[-1]):
        with Repository.open(root) as repository:
            found.append(repository.alias_moves("churn@champion"))
            assert repository.runs_at_backend.open_intents() == []
    assert all(each == found[0] for each in found)
    before = [None, *(each.version for each in found[0][:-1])]
    assert [(each.move, each.before) for each in found[0]] == list(enumerate(before, 1))
    return found[0]


def check_one_winner_each(told: list[list[list[Any]]], found: list[AliasMove]) -> None:
    """Check that in each round one host moved the alias, and all were told who it was."""
    for answers, move in zip(zip(*told, strict=True), found, strict=True):
        assert [each[1] for each in answers if each[0]] == [move.moved_by]
        assert {each[1] for each in answers} == {move.moved_by}


@pytest.mark.scenario(45)
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixteen_hosts_that_expect_the_same_have_one_winner_in_each_round(
    make_fleet: MakeFleet, tmp_path: Path
) -> None:
    fleet = make_fleet(16)
    racers = [(home, n, 16, ROUNDS, tmp_path / "met") for n, home in enumerate(fleet.homes)]

    told = together(work.promote_in_rounds, racers)

    found = seen_by_all(fleet)
    assert len(found) == ROUNDS
    check_one_winner_each(told, found)


@pytest.mark.scenario(46)
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_requests_and_answers_that_are_lost_leave_one_winner_who_knows_it(
    make_fleet: MakeFleet, tmp_path: Path
) -> None:
    fleet = make_fleet(4)
    fleet.proxy.at_random(47, {LOSE_REQUEST: 0.15, LOSE_ANSWER: 0.15})
    racers = [(home, n, 4, ROUNDS, tmp_path / "met") for n, home in enumerate(fleet.homes)]

    told = together(work.promote_in_rounds, racers)

    fleet.proxy.quiet()
    found = seen_by_all(fleet)
    assert len(found) == ROUNDS
    check_one_winner_each(told, found)
    for number, root in enumerate(fleet.homes):
        with Repository.open(root) as repository:
            entries = [e.about[0] for e in repository.log() if e.kind == "promoted"][::-1]
            assert repository.runs_at_backend.open_intents() == []
        assert entries == [each.reference for each in found if each.moved_by == f"racer {number}"]


@pytest.mark.slow
def test_without_an_expectation_every_hosts_move_lands_in_one_order(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(3)
    racers = [(home, f"host {n}", n + 1, 3) for n, home in enumerate(fleet.homes)]

    told = together(work.promote, racers)

    found = seen_by_all(fleet)
    made = {move: said for each in told for move, created, said in each if created}
    assert made == {each.move: each.reason for each in found}


@pytest.fixture(scope="module")
def one_host(moto: MotoServer) -> Iterator[Fleet]:
    """A host with two versions, for several tests."""
    with hosts(moto, moto.make_bucket(), 1) as fleet:
        fleet.store(RUN, ["model"])
        run(work.register, fleet.homes[0], RUN, "anybody", 2)
        yield fleet


@pytest.fixture
def lossy(one_host: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """The same, with a network that fails as a test likes it."""
    for name, value in one_host.env.items():
        monkeypatch.setenv(name, value)
    yield one_host
    one_host.proxy.quiet()


@pytest.mark.scenario(46)
@pytest.mark.parametrize("fault", [LOSE_ANSWER, FAIL_AFTERWARDS, LOSE_REQUEST, FAIL])
def test_promotion_that_met_a_loss_is_ones_own_and_made_and_journaled_once(
    lossy: Fleet, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    quick_pauses(monkeypatch)
    alias = f"alias-{new_guid()}"
    with Repository.open(lossy.homes[0]) as repository:
        repository.promote("churn/1", alias)
        lossy.proxy.requests.clear()
        lossy.proxy.script("PUT", "/aliases/", fault)

        moved = repository.promote("churn/2", alias, expect=1)
        again = repository.promote("churn/2", alias, expect=1)

        assert [each.fault for each in lossy.proxy.requests].count(fault) == 1
        assert (moved.created, moved.move.version, moved.move.move) == (True, 2, 2)
        assert (again.created, again.move) == (False, moved.move)
        assert [e.about[0] for e in repository.log()].count(f"churn@{alias}~2") == 1


def test_promotion_from_a_warm_home_costs_six_requests(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(1)
    costs = []
    with Repository.open(fleet.homes[0]) as repository:
        repository.promote("churn/1", "champion")
        for number in range(11):
            fleet.proxy.requests.clear()
            before, version = number % 2 + 1, (number + 1) % 2 + 1
            repository.promote(f"churn/{version}", "champion", expect=before)
            costs.append([f"{each.method} {each.path}" for each in fleet.proxy.requests])
        fleet.proxy.requests.clear()
        repository.promote("churn/2", "champion")
        there_already = [f"{each.method} {each.path}" for each in fleet.proxy.requests]

        assert [each.name for each in repository.aliases()] == ["churn@champion"]

    assert max(map(len, costs)) <= MOST_WHEN_WARM, max(costs, key=len)
    for each in costs:
        assert sum("format.json" in request for request in each) == 1, each
        assert sum("/versions/" in request for request in each) == 1, each
        assert sum("/retirements/" in request for request in each) == 1, each
        assert sum("/aliases/" in request and "PUT" in request for request in each) == 1, each
    assert len(there_already) == MOST_WHEN_WARM - 1
    assert not any("PUT" in request for request in there_already)
