"""The service shares its journal and fetches those of others, and nothing of it holds it up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.layout import journal_segments
from support.proxy import Proxy, Seen
from support.servers import MotoServer
from support.service import Home
from support.sharing import host, note, store
from support.waiting import comes_true


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "one", str(tmp_path / "backend"), share_interval=0.2)
    yield made
    made.close()


def entries(root: Path, of: str) -> int:
    """Return how many entries of a home's journal the log of a home shows."""
    with Repository.open(root) as repository:
        return sum(each.home == of for each in repository.log())


def home_id(root: Path) -> str:
    """Return the id of a home."""
    with Repository.open(root) as repository:
        return repository.home.id


def shared(repository: Repository, of: str) -> int:
    """Return up to which entry a home's journal is shared."""
    return {each.home: each.seq for each in repository.fetch()}.get(of, 0)


def test_service_shares_what_it_stores_and_fetches_what_others_did(
    home: Home, tmp_path: Path
) -> None:
    service = home.start_ready()
    mine = home_id(home.root)
    with host(tmp_path / "two", str(tmp_path / "backend")) as other:
        run = home.drop_whole(b"weights")
        assert home.is_committed(run)
        assert comes_true(lambda: shared(other, mine) == 2)
        assert [each.kind for each in other.log(f"run:{run}")] == ["committed"]

        store(other, "theirs")
        other.push()
        assert comes_true(lambda: entries(home.root, other.home.id) == 3)
    assert service.stop() == 0


def test_service_shares_the_last_entries_when_it_ends(tmp_path: Path) -> None:
    home = Home(tmp_path / "one", str(tmp_path / "backend"), share_interval=600.0)
    try:
        service = home.start_ready()
        run = home.drop_whole(b"weights")
        assert home.is_committed(run)
        assert service.stop() == 0
        with host(tmp_path / "two", str(tmp_path / "backend")) as other:
            assert shared(other, home_id(home.root)) == 2
    finally:
        home.close()


def test_service_shares_a_whole_segment_before_its_time(tmp_path: Path) -> None:
    home = Home(tmp_path / "one", str(tmp_path / "backend"), share_interval=600.0)
    try:
        service = home.start_ready()
        with Repository.open(home.root) as repository:
            note(repository, *(f"{number}" + "x" * 50_000 for number in range(25)))
            folder = tmp_path / "backend" / journal_segments(repository.home.id)
        assert comes_true(folder.exists)
        assert service.stop() == 0
    finally:
        home.close()


def test_killed_service_goes_on_sharing_after_its_restart(home: Home, tmp_path: Path) -> None:
    for _ in range(3):
        service = home.start_ready()
        assert home.is_committed(home.drop_whole(b"weights"))
        service.signal(signal.SIGKILL)
        service.wait()
    service = home.start_ready()
    with host(tmp_path / "two", str(tmp_path / "backend")) as other:
        assert comes_true(lambda: shared(other, home_id(home.root)) == 4)
        assert [each.trouble for each in other.fetch()] == [None]
    assert service.stop() == 0


def test_journal_of_another_host_that_was_changed_is_said_once(home: Home, tmp_path: Path) -> None:
    with host(tmp_path / "two", str(tmp_path / "backend")) as other:
        other.push()
        service = home.start_ready()
        assert comes_true(lambda: entries(home.root, other.home.id) == 1)
        (path,) = (tmp_path / "backend" / journal_segments(other.home.id)).iterdir()
        path.unlink()
        assert service.logs(f"the journal of the home {other.home.id}")
        # Storing goes on, and so do several more rounds.
        for _ in range(3):
            assert home.is_committed(home.drop_whole(b"weights"))
        assert service.log.count("isn't what it was") == 1
    assert service.stop() == 0


def test_backend_that_refuses_journals_holds_up_nothing_and_is_said_once(
    moto: MotoServer, tmp_path: Path, s3_url: str
) -> None:
    def refuse(seen: Seen) -> int | None:
        return 403 if "journals" in seen.path else None

    def asked() -> int:
        return sum("journals" in each.path for each in list(proxy.requests))

    with Proxy(moto.port) as proxy:
        proxy.answers = refuse
        home = Home(tmp_path / "one", s3_url, share_interval=0.2, retry_most=1.0)
        try:
            service = home.start_ready(environ={"AWS_ENDPOINT_URL": proxy.endpoint})
            for _ in range(3):
                assert home.is_committed(home.drop_whole(b"weights"))
            assert service.logs("sharing journals: ")
            tried = asked()
            assert comes_true(lambda: asked() > tried + 1)
            assert service.log.count("sharing journals: ") == 1

            proxy.answers = lambda _: None
            assert service.logs("journals are shared again")
            assert service.stop() == 0
        finally:
            home.close()


# A file server that went away does not answer, and no signal ends the call.
SILENT = """
import threading
from pathlib import Path
from modeldrop.backend.local import LocalBackend
real = LocalBackend.{call}
def silent(self, key, *more):
    if "/journals/" in key:
        Path({asked!r}).touch()
        threading.Event().wait()
    return real(self, key, *more)
LocalBackend.{call} = silent
"""


@pytest.mark.parametrize("call", ["create", "read"])
def test_service_stores_and_ends_in_time_while_the_backend_is_silent_about_journals(
    home: Home, tmp_path: Path, call: str
) -> None:
    asked = tmp_path / "asked"
    with host(tmp_path / "two", str(tmp_path / "backend")) as other:
        other.push()
    with Repository.open(home.root) as repository:
        repository.push()
        # Only the other one's journal is news, or only the own one.
        if call == "create":
            note(repository, "news")
    service = home.start_ready(twist=SILENT.format(call=call, asked=str(asked)))
    assert comes_true(asked.exists)
    assert home.is_committed(home.drop_whole(b"weights"))
    assert service.stop() == 0
