"""The probe tells a backend whose create-if-absent holds from one that only looks so."""

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from modeldrop import layout
from modeldrop.backend import Backend, open_backend, probe
from modeldrop.backend.local import LocalBackend
from modeldrop.errors import BackendError, BackendUnreachable, ConditionNotHeld
from modeldrop.home_records import Probe
from support.servers import RcloneS3Server


@pytest.mark.parametrize("kind", ["local", "s3", "azure"])
def test_it_holds_where_it_holds_and_nothing_is_left(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = str(tmp_path / "backend") if kind == "local" else request.getfixturevalue(f"{kind}_url")
    backend = open_backend(url, {}, None)
    backend.prepare()
    found = probe.race(backend)
    assert found.holds
    assert (found.most_winners, found.racers, found.rounds) == (1, 16, 5)
    assert found.url == backend.url
    assert found.endpoint == backend.endpoint
    assert {"local": "", "s3": "s3fs", "azure": "adlfs"}[kind] in found.probed_with
    assert Probe.from_bytes(found.to_bytes(), "there") == found
    probe.require(found)
    assert list(backend.walk("")) == []
    assert list(backend.children("")) == []
    backend.close()


@pytest.mark.scenario(47)
def test_a_server_that_ignores_the_condition_is_refused_by_name(
    rclone_s3: RcloneS3Server, rclone_s3_url: str
) -> None:
    backend = open_backend(f"{rclone_s3_url}/models", {}, None)
    backend.prepare()
    found = probe.race(backend, url="s3://as/configured")
    assert not found.holds
    assert found.most_winners > 1
    with pytest.raises(ConditionNotHeld) as caught:
        probe.require(found)
    assert "s3://as/configured" in caught.value.message
    assert str(backend.endpoint) in caught.value.message
    assert f"{found.most_winners} of 16" in caught.value.message
    for named in ("Amazon S3", "MinIO", "R2", "Ceph RGW", "Azure", "Google", "--single-writer"):
        assert named in caught.value.hint
    assert caught.value.exit_code == 30
    # On its disk: after such a race its own listings name what isn't there any more.
    assert list(rclone_s3.folder.rglob("probes/*")) == []
    backend.close()


class _Racing(LocalBackend):
    """A folder, whose `create` is what a test says."""

    def __init__(self, root: Path, create: Callable[[LocalBackend, str, bytes], bool]) -> None:
        super().__init__(root)
        self._create = create

    def create(self, key: str, data: bytes) -> bool:
        return self._create(self, key, data)


def test_who_writes_alone_may_use_any_store(tmp_path: Path) -> None:
    def create(_: LocalBackend, key: str, data: bytes) -> bool:
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return True

    found = probe.race(_Racing(tmp_path, create), single_writer=True)
    assert (found.holds, found.most_winners, found.single_writer) == (False, 16, True)
    probe.require(found)


@pytest.mark.scenario(47)
def test_looking_before_writing_is_found_out(tmp_path: Path) -> None:
    looked: dict[str, int] = defaultdict(int)
    two_looked: dict[str, threading.Event] = defaultdict(threading.Event)
    lock = threading.Lock()

    def create(backend: LocalBackend, key: str, data: bytes) -> bool:
        absent = backend.stat(key) is None
        with lock:
            looked[key] += 1
            event = two_looked[key]
            if looked[key] == 2:
                event.set()
        # The window between the look and the write, held open until somebody is in it.
        event.wait(30)
        if absent:
            path = tmp_path / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return absent

    found = probe.race(_Racing(tmp_path, create))
    assert not found.holds
    assert found.most_winners > 1
    with pytest.raises(ConditionNotHeld):
        probe.require(found)


@pytest.mark.scenario(47)
def test_a_store_that_halts_after_two_were_told_that_they_won_is_found_out(tmp_path: Path) -> None:
    class Halted(LocalBackend):
        def create(self, key: str, data: bytes) -> bool:
            (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
            if b'"racer": 1' in data:
                return True
            raise BackendUnreachable("no answer")

        def read(self, key: str) -> bytes | None:
            raise BackendUnreachable(f"no answer for {key}")

    found = probe.race(Halted(tmp_path))
    assert (found.holds, found.most_winners) == (False, 7)


def test_one_winner_whose_record_is_overwritten_is_found_out(tmp_path: Path) -> None:
    def create(backend: LocalBackend, key: str, data: bytes) -> bool:
        won = LocalBackend.create(backend, key, data)
        if not won:
            (tmp_path / key).write_bytes(data)
        return won

    found = probe.race(_Racing(tmp_path, create))
    assert not found.holds
    assert found.most_winners == 1
    with pytest.raises(ConditionNotHeld, match="exactly one"):
        probe.require(found)


def test_a_store_that_turns_everybody_away_is_found_out(tmp_path: Path) -> None:
    found = probe.race(_Racing(tmp_path, lambda *_: False))
    assert not found.holds
    assert found.most_winners == 0


def test_one_race_at_a_time_won_by_one_is_not_enough(tmp_path: Path) -> None:
    # A store that says of itself that it is for one writer may have luck in a race.
    backend = LocalBackend(tmp_path)
    backend._exclusive = False
    assert not probe.race(backend).holds


def test_errors_of_some_racers_are_no_verdict(tmp_path: Path) -> None:
    calls = iter(range(1_000_000))

    def create(backend: LocalBackend, key: str, data: bytes) -> bool:
        if next(calls) % 4 == 0:
            raise BackendUnreachable("no answer")
        return LocalBackend.create(backend, key, data)

    found = probe.race(_Racing(tmp_path, create))
    assert found.holds
    assert found.most_winners == 1


def test_a_round_whose_winning_answer_was_lost_is_run_again(tmp_path: Path) -> None:
    lost: list[str] = []

    def create(backend: LocalBackend, key: str, data: bytes) -> bool:
        won = LocalBackend.create(backend, key, data)
        if won and len(lost) < 2:
            lost.append(key)
            return False
        return won

    assert probe.race(_Racing(tmp_path, create)).holds
    assert len(lost) == 2


def test_errors_of_all_racers_are_raised(tmp_path: Path) -> None:
    def create(*_: object) -> bool:
        raise BackendUnreachable("no answer")

    with pytest.raises(BackendUnreachable, match="no answer"):
        probe.race(_Racing(tmp_path, create))


def test_a_race_that_ends_in_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    class Unreadable(LocalBackend):
        def read(self, key: str) -> bytes | None:
            raise BackendError(key)

    backend: Backend = Unreadable(tmp_path)
    with pytest.raises(BackendError):
        probe.race(backend)
    assert list(backend.walk("")) == []
    assert list(backend.children(layout.PROBES)) == []
