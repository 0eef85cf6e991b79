"""Scenarios 32, 33 and 36: the backend is away, refuses, or is all that is left."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from modeldrop import Repository
from support.proxy import Proxy, Seen
from support.servers import MotoServer
from support.service import Home, MakeHome
from support.waiting import comes_true

# A file of more than so many bytes can't be written: what a full disk or a quota is to a writer.
# Python ignores SIGXFSZ by itself; the write then fails with EFBIG.
FULL = """
import os, pathlib, resource, threading, time
folder = pathlib.Path({folder!r})
resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))
def empty():
    while not (folder / "emptied").exists():
        time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
threading.Thread(target=empty, daemon=True).start()
"""


@pytest.fixture
def proxy(moto: MotoServer, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before moto, which the environment leads to."""
    with Proxy(moto.port) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
        yield made


def states(home: Home) -> dict[str, str]:
    """Return the state of each run that isn't stored."""
    return {each["run"]: each["state"] for each in home.read_status()["runs"]}


def committed(home: Home, runs: list[str], timeout: float = 60.0) -> bool:
    """Return whether all come to be committed, and nothing is left to be done."""
    deadline = time.monotonic() + timeout
    return all(
        home.is_committed(run, timeout=max(deadline - time.monotonic(), 0)) for run in runs
    ) and comes_true(lambda: not home.read_status()["runs"])


def revisions(home: Home, runs: list[str]) -> set[int]:
    """Return the numbers of the last revisions of runs, as the backend has them."""
    with Repository.open(home.root) as repository:
        return {repository.runs_at_backend.last(run) for run in runs}


# 32


@pytest.mark.scenario(32)
def test_folder_of_the_backend_that_goes_away_is_waited_for(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home(retry_most=1.0)
    service = home.start_ready("--watcher", watcher)
    first = home.drop_whole(b"before")
    assert home.is_committed(first)

    backend = home.root / "model-repository"
    backend.rename(home.root / "away")
    runs = [home.drop_whole(b"meanwhile %d" % number) for number in range(10)]
    assert comes_true(lambda: set(runs) <= set(states(home)))
    assert comes_true(lambda: "blocked" in states(home).values())
    # The queue outlives the service, and the folder isn't made again.
    service.signal(signal.SIGKILL)
    service.wait()
    service = home.start("--watcher", watcher)
    # A folder that isn't there at the start ends it, and the manager starts it again.
    assert service.wait() == 30
    assert "doesn't exist" in service.log
    assert not backend.exists()
    (home.root / "away").rename(backend)
    home.start_ready("--watcher", watcher)

    assert committed(home, [first, *runs])
    assert revisions(home, [first, *runs]) == {1}


@pytest.mark.scenario(32)
def test_server_that_goes_away_is_asked_by_one_probe_at_a_time_with_pauses(
    make_home: MakeHome, proxy: Proxy, s3_url: str, watcher: str
) -> None:
    most = 1.0
    home = make_home(s3_url, retry_first=0.1, retry_most=most, parallel=8)
    home.start_ready("--watcher", watcher)
    first = home.drop_whole(b"before")
    assert home.is_committed(first)

    proxy.away = True
    runs = [home.drop_whole(b"meanwhile %d" % number) for number in range(20)]
    assert comes_true(lambda: "blocked" in states(home).values(), timeout=60)
    assert comes_true(lambda: set(runs) <= set(states(home)))
    # Once what was in flight as it went has failed, there are only probes.
    assert comes_true(lambda: set(states(home).values()) == {"blocked"}, timeout=60)
    before = len(proxy.connections)
    assert comes_true(lambda: len(proxy.connections) >= before + 20, timeout=60)
    since = proxy.connections[before:]
    span = since[-1] - since[0]

    # The probe itself is under way now and then.
    found = list(states(home).values())
    assert set(found) <= {"open", "settling", "blocked", "uploading"}
    assert found.count("uploading") <= 1
    # One probe is at most a request and its two retries; the pauses are at least half of `most`.
    # Twenty runs that ask for themselves would make twenty times as many.
    assert len(since) / span < 4 * 3 / most, f"{len(since)} connections in {span:.1f} s"
    # Capped: however long it lasts, it is asked soon.
    assert max(later - earlier for earlier, later in pairwise(since)) < 10 * most
    proxy.away = False
    assert committed(home, [first, *runs])
    assert revisions(home, [first, *runs]) == {1}
    assert all(home.stored(run) == b"meanwhile %d" % number for number, run in enumerate(runs))


@pytest.mark.scenario(32)
def test_queue_is_kept_over_a_restart_while_the_server_is_away(
    make_home: MakeHome, proxy: Proxy, s3_url: str
) -> None:
    home = make_home(s3_url, retry_most=1.0)
    service = home.start_ready()
    proxy.away = True
    runs = [home.drop_whole(b"model %d" % number) for number in range(5)]
    assert comes_true(lambda: set(runs) <= set(states(home)))

    assert service.stop() == 0
    service = home.start()
    seen = len(proxy.connections) + len(proxy.requests)
    assert comes_true(lambda: len(proxy.connections) + len(proxy.requests) > seen)
    runs.append(home.drop_whole(b"dropped while both were away"))
    proxy.away = False

    assert committed(home, runs)
    assert revisions(home, runs) == {1}


# 33


@pytest.mark.scenario(33)
@pytest.mark.parametrize("status", [429, 503])
def test_storm_of_refusals_makes_it_slower_and_drops_nothing(
    make_home: MakeHome, proxy: Proxy, s3_url: str, status: int
) -> None:
    home = make_home(s3_url, retry_first=0.1, retry_most=1.0, parallel=8)
    home.start_ready()
    first = home.drop_whole(b"before")
    assert home.is_committed(first)

    proxy.answers = lambda _: status
    runs = [home.drop_whole(b"model %d" % number) for number in range(20)]
    assert comes_true(lambda: set(runs) <= set(states(home)))
    # What was in flight as it began has its own client's retries; from here on there are probes.
    assert comes_true(lambda: set(states(home).values()) == {"blocked"}, timeout=60)
    before = len(proxy.requests)
    assert comes_true(lambda: len(proxy.requests) >= before + 20, timeout=60)
    since = [each.at for each in proxy.requests[before:]]

    # Of 20 runs, not one is given up, and they don't hammer on the door.
    assert "parked" not in states(home).values()
    rate = len(since) / (since[-1] - since[0])
    assert rate < 12, f"{rate:.1f} requests/s"
    proxy.answers = lambda _: None
    assert committed(home, [first, *runs])
    assert revisions(home, [first, *runs]) == {1}


@pytest.mark.scenario(33)
@pytest.mark.parametrize("status", [429, 503])
def test_every_third_request_refused_loses_and_doubles_nothing(
    make_home: MakeHome, proxy: Proxy, s3_url: str, status: int
) -> None:
    home = make_home(s3_url, retry_most=1.0)

    def third(_: Seen) -> int | None:
        return status if len(proxy.requests) % 3 == 0 else None

    proxy.answers = third
    home.start()
    runs = [home.drop_whole(b"model %d" % number) for number in range(20)]

    assert committed(home, runs, timeout=90)
    proxy.answers = lambda _: None
    assert revisions(home, runs) == {1}
    assert all(home.stored(run) == b"model %d" % number for number, run in enumerate(runs))


@pytest.mark.scenario(33)
def test_credentials_that_are_refused_block_and_park_no_run(
    make_home: MakeHome, proxy: Proxy, s3_url: str
) -> None:
    home = make_home(s3_url, retry_first=0.1, retry_most=1.0)
    service = home.start_ready()
    first = home.drop_whole(b"before")
    assert home.is_committed(first)

    proxy.answers = lambda _: 403
    runs = [home.drop_whole(b"model %d" % number) for number in range(5)]
    assert comes_true(lambda: "blocked" in states(home).values(), timeout=60)
    assert comes_true(lambda: set(runs) <= set(states(home)))
    said = home.status.read_text()

    assert "parked" not in states(home).values()
    assert "refused" in said
    assert service.process.poll() is None
    proxy.answers = lambda _: None
    assert committed(home, [first, *runs])
    assert revisions(home, [first, *runs]) == {1}


@pytest.mark.scenario(33)
def test_full_disk_at_the_backend_blocks_what_it_has_no_room_for(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home(retry_most=1.0)
    twist = FULL.format(folder=str(home.folder), most=4 << 20)
    home.start_ready("--watcher", watcher, twist=twist)
    large = home.drop_whole(os.urandom(8 << 20))
    assert comes_true(lambda: states(home) == {large: "blocked"})

    small = home.drop_whole(b"small")

    assert home.is_committed(small)
    assert comes_true(lambda: states(home) == {large: "blocked"})
    (said,) = home.read_status()["runs"]
    assert said["reason"]
    assert said["next_try_at"]
    (home.folder / "emptied").touch()
    assert committed(home, [small, large])
    assert revisions(home, [small, large]) == {1}


@pytest.mark.root
@pytest.mark.scenario(33)
def test_full_file_system_of_the_backend_drops_nothing(
    make_home: MakeHome, full_disk: Path
) -> None:
    home = make_home(str(full_disk / "store"), retry_most=1.0, reserve=0)
    home.start_ready()
    filler = full_disk / "filler"
    left = os.statvfs(full_disk)
    filler.write_bytes(bytes(max(left.f_bavail * left.f_frsize - (1 << 20), 0)))

    large = home.drop_whole(os.urandom(4 << 20))
    assert comes_true(lambda: states(home) == {large: "blocked"})
    filler.unlink()

    assert committed(home, [large])
    assert revisions(home, [large]) == {1}


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB; a mount needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"a small file system can't be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# 36


def objects(home: Home) -> list[tuple[str, int]]:
    """Return every stored object with its size."""
    with Repository.open(home.root) as repository:
        return sorted((each.key, each.size) for each in repository.backend.walk(""))


@pytest.mark.scenario(36)
def test_home_wiped_and_joined_again_uploads_nothing_and_gives_no_version_twice(
    make_home: MakeHome, tmp_path: Path, each_backend: str, watcher: str
) -> None:
    url = each_backend or str(tmp_path / "kept")
    home = make_home(url)
    service = home.start_ready("--watcher", watcher)
    runs = [home.drop_whole(b"model %d" % number) for number in range(6)]
    assert committed(home, runs)
    with Repository.open(home.root) as repository:
        first = [repository.register(run, "churn").version.version for run in runs[:3]]
    assert first == [1, 2, 3]
    assert service.stop() == 0
    before = [each for each in objects(home) if not each[0].startswith(".modeldrop/")]
    staged = home.staging.rename(tmp_path / "staged")
    shutil.rmtree(home.root)

    again = make_home(url)
    again.staging.rmdir()
    staged.rename(again.staging)
    for run in runs:
        (again.staging / run / ".modeldrop-receipt.json").unlink()
    again.start_ready("--watcher", watcher)

    assert committed(again, runs)
    assert [each for each in objects(again) if not each[0].startswith(".modeldrop/")] == before
    assert revisions(again, runs) == {1}
    with Repository.open(again.root) as repository:
        told = [repository.register(run, "churn").version.version for run in runs]
    assert told == [1, 2, 3, 4, 5, 6]
