"""What the kernel does to the watch: limits that are reached, events it drops, disks that go."""

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import children
from support.service import Home
from support.waiting import comes_true
from support.watching import (
    queue_length,
    touch_in_turn,
    watch_a_run_that_is_unmounted,
    watch_through_mounts,
    why_no_namespace,
)

# A service whose kernel grants it little, until the file `lifted` is there.
LIMITED = """
import sys
sys.path.insert(0, {tests!r})
from support.watching import enter_namespace, limit
enter_namespace()
limit({name!r}, {value}, until={lifted!r})
"""


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    homes: list[Home] = []

    def make(**settings: object) -> Home:
        homes.append(Home(tmp_path, **settings))
        return homes[-1]

    yield make
    for home in homes:
        home.close()


@pytest.fixture(scope="session")
def namespaces() -> None:
    if why := why_no_namespace():
        pytest.skip(f"no user namespace with limits of its own: {why}")


MakeHome = Callable[..., Home]


# The kernel's limits


def test_watch_limit_reached_is_said_and_everything_is_stored(
    make_home: MakeHome, namespaces: None, tmp_path: Path
) -> None:
    home = make_home()
    lifted = tmp_path / "lifted"
    twist = LIMITED.format(
        tests=str(Path(__file__).parent), name="max_inotify_watches", value=20, lifted=str(lifted)
    )
    before = [home.drop(b"before %d" % number) for number in range(10)]
    service = home.start_ready(twist=twist)

    after = [home.drop(b"after %d" % number) for number in range(20)]
    whole = [home.drop_whole(b"whole %d" % number) for number in range(5)]

    assert service.logs("is built anew: the kernel grants no more watches")
    assert all(home.is_committed(run) for run in before + after + whole)
    said = "degraded: the kernel grants no more watches; raise user.max_inotify_watches (now 20)"
    assert comes_true(lambda: home.read_status()["watcher"] == said)
    assert all(home.revisions(run) == 1 for run in before + after + whole)

    # Whoever raises the limit need not start the service again.
    lifted.touch()
    assert comes_true(lambda: home.read_status()["watcher"] == "events")
    assert home.is_committed(home.drop(b"and one more"))
    assert service.process.poll() is None


def test_run_that_arrives_whole_is_noticed_at_once_beyond_the_watch_limit(
    make_home: MakeHome, namespaces: None, tmp_path: Path
) -> None:
    # Not by a scan, which is ten minutes away.
    home = make_home(poll_interval=600.0)
    twist = LIMITED.format(
        tests=str(Path(__file__).parent), name="max_inotify_watches", value=5, lifted=""
    )
    before = [home.drop(b"before %d" % number) for number in range(10)]
    home.start_ready(twist=twist)
    assert all(home.is_committed(run) for run in before)

    assert home.is_committed(home.drop_whole(b"whole"))

    assert home.read_status()["watcher"].startswith("degraded: ")


def test_instance_limit_reached_is_said_and_everything_is_stored(
    make_home: MakeHome, namespaces: None, tmp_path: Path
) -> None:
    home = make_home()
    lifted = tmp_path / "lifted"
    twist = LIMITED.format(
        tests=str(Path(__file__).parent), name="max_inotify_instances", value=0, lifted=str(lifted)
    )
    home.start_ready(twist=twist)

    assert home.is_committed(home.drop(b"polled"))

    assert home.read_status()["watcher"] == (
        "polling: the kernel grants no more inotify instances; "
        "raise user.max_inotify_instances (now 0)"
    )
    lifted.touch()
    assert comes_true(lambda: home.read_status()["watcher"] == "events", timeout=60)


# Overflows


def test_service_that_missed_a_burst_stores_all_of_it(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()
    burst = home.drop(b"burst")
    assert home.is_committed(burst)

    service.signal(signal.SIGSTOP)
    touch_in_turn(home.staging / burst, queue_length() + 2000)
    lost = [home.drop(b"lost %d" % number) for number in range(20)]
    service.signal(signal.SIGCONT)

    assert service.logs("the kernel's queue of events overflowed")
    assert all(home.is_committed(run) for run in lost)
    assert home.is_committed(burst, revision=2)
    assert comes_true(lambda: home.read_status()["watcher"] == "events")


# Mounts


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount(8)")
def test_disk_mounted_over_staging_and_taken_away_is_noticed(
    namespaces: None, staging: Path
) -> None:
    mounted, unmounted = children.run(watch_through_mounts, staging)

    assert mounted == "staging was replaced"
    assert unmounted in {"staging was replaced", "a file system was unmounted"}


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount(8)")
def test_disk_taken_away_from_under_a_run_is_noticed(namespaces: None, staging: Path) -> None:
    doubt = children.run(watch_a_run_that_is_unmounted, staging)

    assert doubt == "a file system was unmounted"
