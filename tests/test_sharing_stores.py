"""Two hosts, one bucket: each sees what the other did, and so does a third one that comes later.

The hosts are plain processes with homes of their own, on S3 and on Azure Blob.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository
from modeldrop.backend.base import Backend
from support.children import dies, run
from support.program import Ran, as_process
from support.proxy import Proxy
from support.servers import AzuriteServer, MotoServer
from support.sharing import clone, fetch, host, note, push

STORES: Final = ("s3", "azure")
# Each process takes a second to import the store's client.
pytestmark = pytest.mark.slow


@pytest.fixture(params=STORES)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
def proxy(request: pytest.FixtureRequest, url: str) -> Iterator[Proxy]:
    """What counts requests; the environment of `host_env` leads clients to it."""
    server: MotoServer | AzuriteServer = request.getfixturevalue(
        "moto" if url.startswith("s3") else "azurite"
    )
    with Proxy(server.port) as made:
        yield made


def led_to(proxy: Proxy, url: str) -> dict[str, str]:
    """Return the environment of a process whose requests go through the proxy."""
    if url.startswith("s3"):
        return {"AWS_ENDPOINT_URL": proxy.endpoint}
    found = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
    account = f"{proxy.endpoint}/{AzuriteServer.account};"
    return {
        "AZURE_STORAGE_CONNECTION_STRING": found.partition("BlobEndpoint=")[0]
        + f"BlobEndpoint={account}"
    }


class Host:
    """One host: a home and a staging folder that outlives it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.home = folder / "home"
        self.staging = folder / "staging"

    def __call__(self, *arguments: str | Path, env: dict[str, str] | None = None) -> Ran:
        done = as_process("--home", self.home, *arguments, env=env)
        assert done.code == 0, done.err
        return done

    def init(self) -> None:
        self("init", "--backend", self.url, "--staging", self.staging)

    def clone(self) -> None:
        self("clone", self.url, "--staging", self.staging)

    def train(self, text: str) -> str:
        """Drop a model, have it stored and registered; return the version."""
        path = self.folder / f"aside-{text}" / "model.bin"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        dropped = self("drop", path, "-e", "churn").lines[0]
        return self("register", dropped, "--wait", "--description", text).lines[0]

    def view(self) -> dict[str, Any]:
        """Return what it says of runs and versions."""
        with Repository.open(self.home) as repository:
            versions = repository.versions("churn")
            return {
                "runs": list(repository.runs()),
                "versions": [repository.describe(each) for each in versions],
            }

    def log(self) -> set[str]:
        """Return every line of every journal that it knows."""
        return set(self("log", "--json").lines)

    def lose_journal(self) -> None:
        """Lose the journal, and all that says how far it was."""
        for name in ("journal.jsonl", "HEAD", "pushed.json"):
            (self.home / name).unlink()


def stored(backend: Backend) -> set[str]:
    """Return every key at the backend but those of journals."""
    return {each.key for each in backend.walk("") if "/journals/" not in each.key}


@pytest.fixture
def hosts(tmp_path: Path, url: str) -> list[Host]:
    """Two hosts that have each trained, dropped and registered."""
    made = [Host(tmp_path / name, url) for name in ("ada", "bob")]
    for each in made:
        each.init()
    for each in made:
        each.train(each.folder.name)
    return made


def test_hosts_see_each_others_runs_versions_and_journal_and_a_clone_sees_all(
    hosts: list[Host], tmp_path: Path, url: str
) -> None:
    ada, bob = hosts
    # Runs and versions are read at the backend: nobody has to fetch for them.
    assert ada.view() == bob.view()
    assert [each["version"] for each in ada.view()["versions"]] == [1, 2]
    own = {"ada": ada.log(), "bob": bob.log()}
    assert [len(each) for each in own.values()] == [3, 3]

    for each in hosts:
        each("fetch")

    assert ada.log() == bob.log() == own["ada"] | own["bob"]

    third = Host(tmp_path / "eve", url)
    third.clone()
    assert third.view() == ada.view()
    assert third.log() > ada.log()
    (begun,) = third.log() - ada.log()
    assert '"home-created"' in begun
    # It shared that at its end, and all say the same from then on.
    for each in hosts:
        each("fetch")
    assert ada.log() == bob.log() == third.log()


@pytest.mark.scenario(36)
@pytest.mark.parametrize("lost", ["home", "journal"])
def test_host_that_lost_its_home_or_journal_gives_the_same_answers_and_uploads_nothing_again(
    hosts: list[Host], lost: str
) -> None:
    ada, bob = hosts
    bob("fetch")
    before, history = ada.view(), bob.log()
    with Repository.open(bob.home) as repository:
        keys = stored(repository.backend)

    if lost == "journal":
        ada.lose_journal()
        ada("rebuild")
    else:
        shutil.rmtree(ada.home)
        ada.clone()

    assert ada.view() == before
    if lost == "home":
        assert ada.log() >= history
    else:
        ada("fetch")
        assert ada.log() > history
    scanned = ada("scan", "--once", "--json").json["runs"]
    assert [each["state"] for each in scanned] == ["committed"]
    again = ada("register", scanned[0]["run"], "-e", "churn", "--json").json
    assert (again["version"], again["created"]) == (1, False)
    with Repository.open(bob.home) as repository:
        assert stored(repository.backend) == keys
    assert ada.train("next") == "churn/3"
    with Repository.open(ada.home) as repository:
        assert repository.verify(deep=True).findings == []


def test_fetch_with_nothing_new_takes_requests_by_the_number_of_hosts_alone(
    tmp_path: Path, url: str, proxy: Proxy
) -> None:
    asked: dict[tuple[int, int], int] = {}
    with host(tmp_path / "reader", url) as reader:
        for number in (1, 3):
            for each in range(number):
                # A home that is there is opened: the hosts of the round before go on.
                with host(tmp_path / f"host-{each}", url) as other:
                    for entry in range(2):
                        note(other, f"entry {entry}")
                        other.push()
            for history in (1, 9):
                with host(tmp_path / "host-0", url) as other:
                    for entry in range(history):
                        note(other, f"entry {entry}")
                        other.push()
                    reader.fetch()
                    before = len(proxy.requests)
                    done = as_process(
                        *("--home", str(tmp_path / "reader"), "fetch", "--json"),
                        env=led_to(proxy, url),
                    )
                    assert [each["entries"] for each in done.json["journals"]] == [0] * number
                    asked[number, history] = len(proxy.requests) - before

    # format.json and the listing; of each host its last segment and the next one.
    assert asked == {(hosts, history): 2 + 2 * hosts for hosts, history in asked}


def test_push_killed_after_its_segment_is_finished_by_the_next_one(
    tmp_path: Path, url: str
) -> None:
    with host(tmp_path / "ada", url) as ada, host(tmp_path / "bob", url) as bob:
        note(ada, "one")
        assert dies(push, tmp_path / "ada", at="segment created")
        note(ada, "two")
        assert run(push, tmp_path / "ada") == 3

        (found,) = bob.fetch()
        assert (found.seq, found.trouble) == (3, None)
        copy = bob.home.paths.fetched_journal(ada.home.id)
        assert copy.read_bytes() == ada.home.paths.journal.read_bytes()


def test_fetch_and_clone_killed_on_the_way_are_finished_by_the_next_one(
    tmp_path: Path, url: str
) -> None:
    with host(tmp_path / "ada", url) as ada, host(tmp_path / "bob", url) as bob:
        note(ada, "one")
        ada.push()
        assert dies(fetch, tmp_path / "bob", at="fetch noted")
        run(fetch, tmp_path / "bob")
        copy = bob.home.paths.fetched_journal(ada.home.id)
        assert copy.read_bytes() == ada.home.paths.journal.read_bytes()

        assert dies(clone, tmp_path / "eve", url, at="fetch noted")
        assert run(clone, tmp_path / "eve", url) == 3


def test_journal_that_was_cut_or_rewritten_is_noticed_by_the_others(
    tmp_path: Path, url: str
) -> None:
    with host(tmp_path / "ada", url) as ada, host(tmp_path / "bob", url) as bob:
        ada.push()
        note(ada, "one")
        ada.push()
        bob.fetch()
        key = f".modeldrop/journals/{ada.home.id}/00000002.jsonl"
        data = ada.backend.read(key)
        assert data is not None

        ada.backend.delete(key)
        told = as_process("--home", tmp_path / "bob", "fetch")
        assert (told.code, "line 2" in told.err, ada.home.id in told.err) == (20, True, True)

        ada.backend.create(key, data.replace(b'"one"', b'"two"'))
        told = as_process("--home", tmp_path / "bob", "fetch", "--json")
        assert told.code == 20
        assert told.error["kind"] == "JournalChanged"
        assert told.error["detail"]["line"] == 2
        assert told.error["detail"]["host"] == ada.home.host
