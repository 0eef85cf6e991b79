"""The service as a process, with real files and a service manager of the test's own."""

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.service import Home
from support.waiting import comes_true

# A transfer that stops at a gate: it makes `at-gate`, and goes on once there is `gate`.
GATE = """
import pathlib, time
from modeldrop.intake.storing import Storing
folder = pathlib.Path({folder!r})
store = Storing.store
def gated(*args, **kwargs):
    (folder / "at-gate").touch()
    while not (folder / "gate").exists():
        time.sleep(0.01)
    return store(*args, **kwargs)
Storing.store, Storing.shares_waits = gated, False
"""

# A loop that stands still while there is a file `stop`.
STUCK = """
import pathlib, time
from modeldrop.intake import Engine
folder = pathlib.Path({folder!r})
turn = Engine.turn
def stuck(self):
    while (folder / "stop").exists():
        (folder / "stopped").touch()
        time.sleep(0.01)
    return turn(self)
Engine.turn = stuck
"""

# A first turn that takes its time.
SLOW = """
import time
from modeldrop.intake import Engine
turn = Engine.turn
def slow(self):
    time.sleep(0.5)
    Engine.turn = turn
    return turn(self)
Engine.turn = slow
"""

# The thread that reads the kernel's events dies of the first file that is named `die`.
DEADLY = """
from watchdog.observers.inotify_c import InotifyFD
handle = InotifyFD.handle_event
def deadly(self, event):
    if event.name == b"die":
        raise RuntimeError("staged")
    handle(self, event)
InotifyFD.handle_event = deadly
"""

# A backend that answers only at the third try.
AWAY = """
from modeldrop.errors import BackendUnreachable
from modeldrop.intake import Engine
recover, tries = Engine.recover, []
def away(self):
    tries.append(1)
    if len(tries) < 3:
        raise BackendUnreachable("nobody answers")
    recover(self)
Engine.recover = away
"""


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    homes: list[Home] = []

    def make(**settings: object) -> Home:
        home = Home(tmp_path, **settings)
        homes.append(home)
        return home

    yield make
    for home in homes:
        home.close()


MakeHome = Callable[..., Home]


# Up


def test_ready_is_said_after_the_first_scan(make_home: MakeHome) -> None:
    home = make_home()
    (home.staging / "no-guid").mkdir()
    run = home.drop(b"dropped while nobody watched")

    service = home.start_ready(twist=SLOW)

    assert "no-guid" in (service.manager.status_when_ready or "")
    assert home.is_committed(run)
    assert home.stored(run) == b"dropped while nobody watched"


@pytest.mark.parametrize("watcher", ["auto", "none"])
class TestDropped:
    def test_renamed_in_is_stored(self, make_home: MakeHome, watcher: str) -> None:
        home = make_home()
        home.start_ready("--watcher", watcher)

        run = home.drop_whole(b"whole")

        assert home.is_committed(run)
        assert home.stored(run) == b"whole"

    @pytest.mark.scenario(14)
    def test_mkdir_p_and_write_is_stored(self, make_home: MakeHome, watcher: str) -> None:
        home = make_home()
        home.start_ready("--watcher", watcher)

        run = home.drop(b"deep", "a/b/c/f")

        assert home.is_committed(run)
        assert home.stored_files(run) == {"a/b/c/f": b"deep"}

    @pytest.mark.scenario(1)
    def test_written_slowly_is_stored_once_and_whole(
        self, make_home: MakeHome, watcher: str
    ) -> None:
        home = make_home()
        home.start_ready("--watcher", watcher)
        run = home.drop(b"")

        with (home.staging / run / "model.bin").open("ab", buffering=0) as file:
            # For longer than any quiet time; the pause is the writer's, nothing waits for it.
            until = time.monotonic() + 1.5
            pieces = 0
            while time.monotonic() < until:
                file.write(b"piece")
                pieces += 1
                time.sleep(0.05)
            assert home.revisions(run) == 0

        assert home.is_committed(run)
        assert home.stored(run) == b"piece" * pieces
        assert home.uploads(run) == 1


def test_what_arrives_whole_waits_for_no_quiet_time(make_home: MakeHome) -> None:
    home = make_home(quiet_time=600.0, quiet_time_without_lease=600.0)
    home.start_ready()

    run = home.drop_whole(b"whole")

    assert home.is_committed(run)


@pytest.mark.scenario(13)
def test_changed_after_commit_becomes_the_next_revision(make_home: MakeHome) -> None:
    home = make_home()
    home.start_ready()
    run = home.drop_whole(b"one")
    assert home.is_committed(run)

    (home.staging / run / "model.bin").write_bytes(b"two")

    assert home.is_committed(run, revision=2)
    assert home.stored(run) == b"two"


def test_backend_that_is_away_at_the_start_is_waited_for(make_home: MakeHome) -> None:
    home = make_home()
    run = home.drop(b"model")

    service = home.start(twist=AWAY)

    assert service.says("STATUS=waiting for the backend: nobody answers")
    assert service.says("EXTEND_TIMEOUT_USEC=")
    assert home.is_committed(run)
    messages = service.manager.messages
    ready = next(n for n, each in enumerate(messages) if "READY=1" in each)
    waiting = [n for n, each in enumerate(messages) if "waiting for the backend" in each]
    assert max(waiting) < ready


@pytest.mark.scenario(31)
def test_second_service_of_a_home_leaves_and_names_the_first(make_home: MakeHome) -> None:
    home = make_home()
    first = home.start_ready()

    second = home.start()

    assert second.wait() == 12
    assert f"process {first.process.pid}" in second.log
    assert not any("READY" in each for each in second.manager.messages)
    assert first.process.poll() is None


# The watchdog


def test_watchdog_hears_of_a_loop_that_turns_and_not_of_one_that_does_not(
    make_home: MakeHome, tmp_path: Path
) -> None:
    home = make_home()
    service = home.start_ready(
        twist=STUCK.format(folder=str(tmp_path)), environ={"WATCHDOG_USEC": "300000"}
    )
    assert service.says("WATCHDOG=1", times=5)

    (tmp_path / "stop").touch()
    assert comes_true((tmp_path / "stopped").exists)
    # The messages before the standstill have been sent; whatever follows now is a lie.
    before = len(service.manager.messages)
    time.sleep(0.6)

    assert service.manager.messages[before:] == []
    (tmp_path / "stop").unlink()
    assert comes_true(lambda: len(service.manager.messages) > before)


def test_nobody_is_bothered_who_asked_for_no_watchdog(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()
    assert home.is_committed(home.drop_whole(b"model"))

    assert service.stop() == 0

    assert not any("WATCHDOG" in each for each in service.manager.messages)


# Down


@pytest.mark.scenario(29)
def test_sigterm_finishes_what_is_in_flight_and_begins_nothing(
    make_home: MakeHome, tmp_path: Path
) -> None:
    home = make_home(parallel=1)
    service = home.start_ready(twist=GATE.format(folder=str(tmp_path)))
    run = home.drop_whole(b"in flight")
    assert comes_true((tmp_path / "at-gate").exists)

    service.signal(signal.SIGTERM)
    assert service.says("STOPPING=1")
    late = home.drop_whole(b"too late")
    (tmp_path / "gate").touch()

    assert service.wait() == 0
    assert home.revisions(run) == 1
    assert home.revisions(late) == 0
    home.start_ready()
    assert home.is_committed(late)
    assert home.uploads(run) == 1


def test_manager_is_asked_for_more_time_while_bytes_move(make_home: MakeHome) -> None:
    home = make_home(bandwidth=1_000_000)
    service = home.start_ready()
    run = home.drop_whole(bytes(5_000_000))
    assert service.says(" 1 uploading")

    assert service.stop() == 0

    messages = service.manager.messages
    stopping = next(n for n, each in enumerate(messages) if "STOPPING=1" in each)
    assert any("EXTEND_TIMEOUT_USEC=" in each for each in messages[stopping:])
    assert home.revisions(run) == 1


def test_manager_is_not_asked_for_more_time_by_what_stands_still(
    make_home: MakeHome, tmp_path: Path
) -> None:
    home = make_home(stop_time=2.5)
    service = home.start_ready(twist=GATE.format(folder=str(tmp_path)))
    home.drop_whole(b"stuck")
    assert comes_true((tmp_path / "at-gate").exists)

    assert service.stop() == 0

    messages = service.manager.messages
    stopping = next(n for n, each in enumerate(messages) if "STOPPING=1" in each)
    assert not any("EXTEND_TIMEOUT_USEC=" in each for each in messages[stopping:])


@pytest.mark.scenario(29)
def test_second_sigterm_ends_at_once(make_home: MakeHome, tmp_path: Path) -> None:
    home = make_home(stop_time=600.0)
    service = home.start_ready(twist=GATE.format(folder=str(tmp_path)))
    run = home.drop_whole(b"stuck")
    assert comes_true((tmp_path / "at-gate").exists)
    service.signal(signal.SIGTERM)
    assert service.says("STOPPING=1")

    began = time.monotonic()
    service.signal(signal.SIGTERM)

    assert service.wait() == 130
    assert time.monotonic() - began < 5
    assert home.revisions(run) == 0


@pytest.mark.scenario(29)
def test_stop_time_is_kept_when_a_transfer_does_not_end(
    make_home: MakeHome, tmp_path: Path
) -> None:
    home = make_home(stop_time=0.3)
    service = home.start_ready(twist=GATE.format(folder=str(tmp_path)))
    run = home.drop_whole(b"stuck")
    assert comes_true((tmp_path / "at-gate").exists)

    began = time.monotonic()

    assert service.stop() == 0
    assert time.monotonic() - began < 5
    assert "given up" in service.log
    home.start_ready()
    assert home.is_committed(run)


def test_sigterm_is_heard_before_the_service_is_up(make_home: MakeHome) -> None:
    home = make_home(retry_first=600.0, retry_most=600.0)
    service = home.start(twist=AWAY)
    assert service.says("waiting for the backend")

    assert service.stop() == 0
    assert any("STOPPING=1" in each for each in service.manager.messages)


@pytest.mark.scenario(35)
def test_killed_and_started_again_sends_nothing_twice(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()
    runs = [home.drop_whole(f"model {n}".encode()) for n in range(3)]
    assert all(home.is_committed(run) for run in runs)

    service.signal(signal.SIGKILL)
    service.wait()
    again = home.start_ready()
    marker = home.drop_whole(b"after")
    assert home.is_committed(marker)

    assert [home.uploads(run) for run in runs] == [1, 1, 1]
    assert [home.revisions(run) for run in runs] == [1, 1, 1]
    # One run was read: the new one.
    assert again.log.count("step: ready") == 1


# The settings


@pytest.mark.scenario(30)
def test_broken_settings_leave_the_old_ones_in_force(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()

    (home.root / "config.toml").write_text("[service]\nquite_time = 5\n")
    service.signal(signal.SIGHUP)

    assert service.says("READY=1", times=2)
    reloading = next(each for each in service.manager.messages if "RELOADING=1" in each)
    assert re.search(r"^MONOTONIC_USEC=\d+$", reloading, re.MULTILINE)
    assert "unknown [service] setting 'quite_time'" in service.log
    assert "did you mean 'quiet_time'" in service.log
    assert home.is_committed(home.drop(b"model"))


def test_new_settings_hold_at_once(make_home: MakeHome) -> None:
    home = make_home(quiet_time=600.0, quiet_time_without_lease=600.0)
    service = home.start_ready()
    run = home.drop(b"model")
    assert comes_true(lambda: run in home.status.read_text())

    home.configure(quiet_time=0.2, quiet_time_without_lease=0.2)
    service.signal(signal.SIGHUP)

    assert home.is_committed(run)


# The watch


@pytest.mark.scenario(24)
def test_staging_deleted_and_made_again_is_watched_again(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()
    first = home.drop_whole(b"one")
    assert home.is_committed(first)

    shutil.rmtree(home.staging)
    assert service.logs("staging can't be")
    home.staging.mkdir()
    second = home.drop(b"two")

    assert home.is_committed(second)
    assert comes_true(lambda: home.read_status()["watcher"] == "events")
    assert home.is_committed(home.drop_whole(b"three"))
    assert home.stored(first) == b"one"
    assert service.process.poll() is None


@pytest.mark.scenario(24)
def test_staging_replaced_is_watched_again(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()

    home.staging.rename(home.root / "elsewhere")
    home.staging.mkdir()
    run = home.drop_whole(b"in the new one")

    assert home.is_committed(run)
    assert service.logs("staging was replaced")


@pytest.mark.scenario(25)
def test_watchers_thread_that_dies_is_replaced_and_nothing_is_lost(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready(twist=DEADLY)

    (home.staging / "die").touch()
    meanwhile = home.drop(b"meanwhile")

    assert service.logs("events can't be read")
    assert home.is_committed(meanwhile)
    # By an event again: a scan is ten minutes away.
    assert home.is_committed(home.drop_whole(b"afterwards"))
