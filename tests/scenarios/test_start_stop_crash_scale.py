"""Scenarios 27-31, 34, 35 and 37: start, stop, crash, scale.

Scenario 28 is in `test_daemon_crash`.
"""

import hashlib
import os
import signal
import threading
import time
import uuid
from pathlib import Path

import pytest

from support.proxy import Proxy, Seen
from support.servers import MotoServer
from support.service import Home, MakeHome, Service
from support.waiting import comes_true

# A transfer of a file `last.bin` stops at a gate, all others pass: it makes `at-gate-…`, and goes
# on once there is `gate`.
GATE = """
import pathlib, time, uuid
from modeldrop.transfer import Transfer
folder = pathlib.Path({folder!r})
send = Transfer.send
def gated(self, fd, key, *args, **kwargs):
    if key.endswith("/last.bin") and not (folder / "gate").exists():
        (folder / ("at-gate-" + uuid.uuid4().hex)).touch()
        while not (folder / "gate").exists():
            time.sleep(0.01)
    return send(self, fd, key, *args, **kwargs)
Transfer.send, Transfer.shares_waits = gated, False
"""
SMALL = ("a.bin", "b.bin", "c.bin")


def drop_files(home: Home, files: dict[str, bytes]) -> str:
    """Rename a run of several files into staging; return its GUID."""
    run = str(uuid.uuid4())
    aside = home.folder / run
    aside.mkdir()
    for path, data in files.items():
        (aside / path).write_bytes(data)
    aside.rename(home.staging / run)
    return run


def committed(home: Home) -> int:
    """Return how many runs the service says are committed."""
    counts = {each["state"]: int(each["runs"]) for each in home.read_status()["counts"]}
    return counts.get("committed", 0)


def all_committed(home: Home, runs: int, timeout: float) -> bool:
    """Return whether that many runs come to be committed, as the service says."""
    return comes_true(lambda: committed(home) == runs, timeout)


def stored_at(home: Home, run: str, name: str) -> int:
    """Return how often the embedded backend holds a file of a run."""
    return len(list((home.root / "model-repository" / run).glob(f"*/{name}")))


# 27


@pytest.mark.slow
@pytest.mark.scenario(27)
@pytest.mark.timeout(300)
def test_five_thousand_files_dropped_while_it_was_down_are_stored(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home()
    runs = []
    for number in range(1000):
        run = home.drop(b"0")
        for name in "1234":
            (home.staging / run / name).write_bytes(b"%d" % number)
        runs.append(run)

    home.start_ready("--watcher", watcher)

    assert all_committed(home, 1000, 200)
    assert home.read_status()["runs"] == []
    assert {home.revisions(run) for run in runs} == {1}
    assert {home.uploads(run) for run in runs} == {1}
    files = [each for run in runs for each in (home.root / "model-repository" / run).glob("2*/*")]
    assert len(files) == 5000


# 29


@pytest.mark.scenario(29)
def test_sigterm_during_an_upload_ends_in_time_and_goes_on_after_a_restart(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home(stop_time=0.5)
    service = home.start_ready("--watcher", watcher, twist=GATE.format(folder=str(home.folder)))
    run = home.drop_whole(b"model", "last.bin")
    assert comes_true(lambda: bool(list(home.folder.glob("at-gate-*"))))

    began = time.monotonic()
    assert service.stop() == 0

    # Its stop time, and as long again as the unit grants on top.
    assert time.monotonic() - began < 0.5 + 10
    assert home.revisions(run) == 0
    home.start_ready("--watcher", watcher)
    assert home.is_committed(run)
    assert (home.revisions(run), home.stored(run)) == (1, b"model")


@pytest.mark.scenario(29)
def test_second_sigterm_ends_at_once_and_the_upload_is_finished_later(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home(stop_time=600.0)
    service = home.start_ready("--watcher", watcher, twist=GATE.format(folder=str(home.folder)))
    run = home.drop_whole(b"model", "last.bin")
    assert comes_true(lambda: bool(list(home.folder.glob("at-gate-*"))))
    service.signal(signal.SIGTERM)
    assert service.says("STOPPING=1")

    began = time.monotonic()
    service.signal(signal.SIGTERM)

    assert service.wait() == 130
    assert time.monotonic() - began < 5
    home.start_ready("--watcher", watcher)
    assert home.is_committed(run)
    assert (home.revisions(run), home.stored(run)) == (1, b"model")


def drop_twenty(home: Home) -> list[str]:
    """Drop 20 runs of four files, one of which is stopped at the gate."""
    return [
        drop_files(
            home,
            {"last.bin": b"last %d" % number}
            | {name: name.encode() * 1000 + b"%d" % number for name in SMALL},
        )
        for number in range(20)
    ]


def interrupted(home: Home, service: Service) -> None:
    """End a service whose transfers don't end by themselves; assert that it is gone in time."""
    began = time.monotonic()
    assert service.stop() == 0, service.log
    assert time.monotonic() - began < 1 + 10


@pytest.mark.scenario(29)
def test_sigterm_in_the_middle_of_20_uploads_sends_no_stored_file_twice(
    make_home: MakeHome,
) -> None:
    home = make_home(stop_time=1.0, parallel=20)
    service = home.start_ready(twist=GATE.format(folder=str(home.folder)))
    runs = drop_twenty(home)

    def stored() -> list[tuple[str, str]]:
        return [(run, name) for run in runs for name in SMALL if stored_at(home, run, name)]

    assert comes_true(lambda: len(list(home.folder.glob("at-gate-*"))) >= 4)
    assert comes_true(lambda: len(stored()) >= 4 * len(SMALL))

    interrupted(home, service)

    there = stored()
    home.start_ready()
    assert all(home.is_committed(run) for run in runs)
    assert {home.revisions(run) for run in runs} == {1}
    assert [each for each in there if stored_at(home, *each) > 1] == []


@pytest.mark.scenario(29)
def test_sigterm_in_the_middle_of_20_uploads_to_s3_sends_no_stored_file_twice(
    make_home: MakeHome, moto: MotoServer, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    with Proxy(moto.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        home = make_home(s3_url, stop_time=1.0, parallel=20)

        def wait_at_gate(seen: Seen) -> None:
            if seen.method == "PUT" and seen.path.endswith("/last.bin"):
                proxy.hold(gate)

        proxy.before = wait_at_gate
        service = home.start_ready()
        runs = drop_twenty(home)

        def sent() -> list[tuple[str, str]]:
            """Return the run and the name of each small file that the store has taken."""
            taken = [each for each in proxy.requests if (each.method, each.status) == ("PUT", 200)]
            found = [each.path.partition("?")[0].split("/") for each in taken]
            return [(parts[-3], parts[-1]) for parts in found if parts[-1] in SMALL]

        assert comes_true(lambda: proxy.count("PUT", "/last.bin") >= 4)
        assert comes_true(lambda: len(sent()) >= 4 * len(SMALL))

        interrupted(home, service)

        there = set(sent())
        gate.set()
        home.start_ready()
        assert all(home.is_committed(run, timeout=60) for run in runs)
        after = sent()
        assert [each for each in sorted(there) if after.count(each) > 1] == []


# 30


@pytest.mark.scenario(30)
def test_broken_settings_are_said_and_the_old_ones_stay(make_home: MakeHome, watcher: str) -> None:
    home = make_home()
    service = home.start_ready("--watcher", watcher)

    for number, broken in enumerate(
        ("[service]\nquite_time = 5\n", "[service\n", "[service]\nparallel = -1\n"), start=2
    ):
        (home.root / "config.toml").write_text(broken)
        service.signal(signal.SIGHUP)
        assert service.says("READY=1", times=number)
        assert service.log.count("the settings are kept as they were") == number - 1

    # With the settings of the start: the defaults would wait for minutes.
    assert home.is_committed(home.drop(b"model"))
    home.configure()
    service.signal(signal.SIGHUP)
    assert service.logs("the settings were read again")
    assert home.is_committed(home.drop(b"model"))


# 31


@pytest.mark.scenario(31)
def test_second_service_of_a_home_leaves_with_the_first_ones_process_id(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home()
    first = home.start_ready("--watcher", watcher)

    second = home.start("--watcher", watcher)

    assert second.wait() == 12
    assert f"process {first.process.pid}" in second.log
    assert not any("READY" in each for each in second.manager.messages)
    run = home.drop_whole(b"model")
    assert home.is_committed(run)
    assert home.uploads(run) == 1
    # The lock goes with its holder, however that ends.
    first.signal(signal.SIGKILL)
    first.wait()
    home.start_ready("--watcher", watcher)
    assert home.is_committed(home.drop_whole(b"model"))


# 34


def poison(home: Home) -> str:
    """Drop a run whose `_SUCCESS` names a digest that its file doesn't have."""
    wrong = hashlib.sha256(b"other bytes").hexdigest()
    return drop_files(home, {"model.bin": b"bytes", "_SUCCESS": f"{wrong}  model.bin\n".encode()})


@pytest.mark.scenario(34)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_one_poisoned_run_is_parked_and_all_others_are_stored(
    make_home: MakeHome, watcher: str, runs: int
) -> None:
    home = make_home()
    home.start_ready("--watcher", watcher)

    poisoned = ""
    for number in range(runs):
        if number == runs // 2:
            poisoned = poison(home)
        else:
            home.drop_whole(b"model %d" % number)

    assert all_committed(home, runs - 1, 200)
    assert comes_true(lambda: _states(home) == {poisoned: "parked"})
    (said,) = home.read_status()["runs"]
    assert "model.bin" in said["reason"]
    assert home.revisions(poisoned) == 0


@pytest.mark.scenario(34)
@pytest.mark.timeout(300)
def test_one_poisoned_run_holds_up_no_other_at_s3(make_home: MakeHome, s3_url: str) -> None:
    home = make_home(s3_url)
    home.start_ready()
    poisoned = poison(home)

    for number in range(20):
        home.drop_whole(b"model %d" % number)

    assert all_committed(home, 20, 100)
    assert comes_true(lambda: _states(home) == {poisoned: "parked"})


def _states(home: Home) -> dict[str, str]:
    return {each["run"]: each["state"] for each in home.read_status()["runs"]}


# 35

MIB = 2**20


def bytes_read(service: Service) -> int:
    """Return how many bytes a service has read, by whatever call, from disk or cache."""
    fields = Path(f"/proc/{service.process.pid}/io").read_text().splitlines()
    return int(next(line for line in fields if line.startswith("rchar:")).split()[1])


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return every file below a folder, with what changes when it is written anew."""
    found = {str(path): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (each.st_ino, each.st_mtime_ns) for path, each in found.items()}


@pytest.mark.scenario(35)
def test_restarted_with_nothing_changed_it_uploads_nothing_and_hashes_nothing(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home()
    service = home.start_ready("--watcher", watcher)
    for number in range(4):
        run = str(uuid.uuid4())
        aside = home.folder / run
        aside.mkdir()
        with (aside / "big.bin").open("wb") as file:
            # A hole, which is read as the zeros that it stands for.
            file.write(b"%d" % number)
            file.truncate(32 * MIB)
        aside.rename(home.staging / run)
        assert home.is_committed(run)
    assert comes_true(lambda: home.read_status()["runs"] == [])
    assert service.stop() == 0
    before = tree(home.root / "model-repository")
    journal = (home.root / "journal.jsonl").read_bytes()

    again = home.start_ready("--watcher", watcher)
    assert comes_true(lambda: committed(home) == 4)
    assert home.read_status()["runs"] == []

    # Four files of 32 MiB are there to be hashed; all that Python loads is less than one of them.
    assert bytes_read(again) < 64 * MIB
    assert again.stop() == 0
    assert tree(home.root / "model-repository") == before
    assert (home.root / "journal.jsonl").read_bytes() == journal


# 37


def processor_time(service: Service) -> float:
    """Return the seconds of a core that a service has used."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_share(home: Home, runs: int, seconds: float, watcher: str) -> float:
    """Return the share of a core that an idle service uses with so many committed runs."""
    service = home.start_ready("--watcher", watcher)
    for number in range(runs):
        home.drop_whole(b"model %d" % number)
    assert all_committed(home, runs, 60 + runs / 20)
    # Again from the start, so that nothing of the storing is still to be done.
    assert service.stop() == 0
    service = home.start_ready("--watcher", watcher)
    assert all_committed(home, runs, 60 + runs / 100)
    # The span that is measured, not something that is waited for.
    before, began = processor_time(service), time.monotonic()
    time.sleep(seconds)
    return (processor_time(service) - before) / (time.monotonic() - began)


@pytest.mark.slow
@pytest.mark.scenario(37)
@pytest.mark.timeout(300)
def test_a_thousand_committed_runs_cost_next_to_nothing_when_idle(
    make_home: MakeHome, watcher: str
) -> None:
    # The intervals that people have.
    home = make_home(scan_interval=60.0, poll_interval=2.0)

    share = idle_share(home, 1000, 10, watcher)

    print(f"idle with 1,000 runs, watcher {watcher}: {share:.2%} of a core")  # noqa: T201 - shown by -rP, and on failure
    assert share < 0.1


@pytest.mark.soak
@pytest.mark.scenario(37)
@pytest.mark.timeout(1800)
def test_ten_thousand_committed_runs_cost_less_than_a_hundredth_of_a_core_when_idle(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home(scan_interval=60.0, poll_interval=2.0)

    share = idle_share(home, 10_000, 60, watcher)

    print(f"idle with 10,000 runs, watcher {watcher}: {share:.2%} of a core")  # noqa: T201 - shown by -rP, and on failure
    assert share < 0.01
