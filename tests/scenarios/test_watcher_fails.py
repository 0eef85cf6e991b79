"""Scenarios 21-26: the watcher fails, and nothing is lost."""

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest

from modeldrop import Repository
from support import faults
from support.program import Ran, as_process
from support.service import Home, MakeHome, Service
from support.waiting import comes_true

# More than the kernel's queue holds by default (16,384 events), at two events a file.
BURST = 10_000
WHOLE_BURST = 100_000


def status(home: Home) -> Ran:
    """Return what `modeldrop status` says to a person."""
    return as_process("--home", home.root, "status")


def stored_files(home: Home, run: str) -> int:
    """Return how many files the last revision of a run holds."""
    with Repository.open(home.root) as repository:
        return len(repository.runs_at_backend.committed(run).files())


# 21


@pytest.mark.scenario(21)
@pytest.mark.parametrize("how", ["none", "mute"])
def test_with_every_event_suppressed_each_kind_of_drop_is_stored(
    make_home: MakeHome, how: str
) -> None:
    """`mute` is a watch that seems alive and tells of nothing."""
    home = make_home(scan_interval=0.5)
    if how == "mute":
        home.start_ready(twist=faults.MUTE)
    else:
        home.start_ready("--watcher", "none")

    whole = home.drop_whole(b"whole")
    deep = home.drop(b"deep", "a/b/c/f")
    marked = home.drop(b"marked")
    (home.staging / marked / "_SUCCESS").write_text("model.bin\n")
    held = home.drop(b"")
    with (home.staging / held / "model.bin").open("ab", buffering=0) as file:
        file.write(b"first half, ")
        assert home.is_committed(whole)
        assert home.is_committed(deep)
        assert home.is_committed(marked)
        file.write(b"second half")
        assert home.revisions(held) == 0
    assert home.is_committed(held)
    (home.staging / whole / "model.bin").write_bytes(b"changed")
    assert home.is_committed(whole, revision=2)

    assert home.stored(whole) == b"changed"
    assert home.stored_files(deep) == {"a/b/c/f": b"deep"}
    assert home.stored(held) == b"first half, second half"
    assert (home.uploads(deep), home.uploads(marked), home.uploads(held)) == (1, 1, 1)


# 22


@contextmanager
def burst(home: Home, service: Service, files: int) -> Iterator[list[str]]:
    """Write files into runs that are watched while the service stands still; yield the runs.

    Their events overflow the kernel's queue, however quick the service would have been.
    """
    runs = [home.drop(b"first", "first") for _ in range(max(files // 20_000, 5))]
    assert all(home.is_committed(run) for run in runs)
    service.signal(signal.SIGSTOP)
    try:
        for number in range(files):
            path = home.staging / runs[number % len(runs)] / f"{number:06d}"
            with path.open("wb") as file:
                file.write(b"%d" % number)
    finally:
        service.signal(signal.SIGCONT)
    yield runs
    each = files // len(runs) + 1
    assert [stored_files(home, run) for run in runs] == [each] * len(runs)


@pytest.mark.slow
@pytest.mark.scenario(22)
@pytest.mark.timeout(300)
def test_burst_that_overflows_the_kernels_queue_is_stored(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home()
    service = home.start_ready("--watcher", watcher)

    with burst(home, service, BURST) as runs:
        assert all(home.is_committed(run, revision=2, timeout=200) for run in runs)
        # A scan may have seen a part of it; what was begun then is ended, and the rest follows.
        assert comes_true(lambda: not home.read_status()["runs"], timeout=60)


@pytest.mark.soak
@pytest.mark.scenario(22)
@pytest.mark.timeout(1800)
def test_burst_of_a_hundred_thousand_files_is_stored(make_home: MakeHome, watcher: str) -> None:
    home = make_home()
    service = home.start_ready("--watcher", watcher)

    with burst(home, service, WHOLE_BURST) as runs:
        assert all(home.is_committed(run, revision=2, timeout=1500) for run in runs)
        assert comes_true(lambda: not home.read_status()["runs"], timeout=120)


@pytest.mark.slow
@pytest.mark.scenario(22)
@pytest.mark.timeout(300)
def test_overflow_is_counted_in_the_status(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()

    with burst(home, service, BURST) as runs:
        assert comes_true(lambda: home.read_status()["overflows"] >= 1)
        assert all(home.is_committed(run, revision=2, timeout=200) for run in runs)
        assert comes_true(lambda: not home.read_status()["runs"], timeout=60)


# 23


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where this user may not have a user namespace of its own."""
    done = subprocess.run(
        [sys.executable, "-c", faults.FEW_WATCHES.format(most=5)],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"a user namespace, to lower the limit of watches in, is refused: {reason}")


@pytest.mark.scenario(23)
@pytest.mark.parametrize("when", ["at its start", "while it runs"])
@pytest.mark.usefixtures("namespaces")
def test_limit_of_watches_reached_is_said_and_all_is_stored(make_home: MakeHome, when: str) -> None:
    home = make_home()
    before = [home.drop(b"before") for _ in range(20)] if when == "at its start" else []

    home.start_ready(twist=faults.FEW_WATCHES.format(most=5))
    after = [home.drop(b"after", "a/b/model.bin") for _ in range(20)]

    assert all(home.is_committed(run) for run in [*before, *after])
    assert comes_true(lambda: home.read_status()["watcher"] != "events")
    said = status(home).out
    assert re.search("polling|degraded", said)
    assert re.search("limit|max_user_watches", said), said


# 24


@pytest.mark.scenario(24)
@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_staging_that_goes_away_is_said_and_goes_on_when_it_is_back(
    make_home: MakeHome, watcher: str, how: str
) -> None:
    home = make_home()
    service = home.start_ready("--watcher", watcher)
    first = home.drop_whole(b"one")
    assert home.is_committed(first)
    before = sorted((home.root / "model-repository").rglob("*"))

    if how == "deleted":
        shutil.rmtree(home.staging)
    else:
        home.staging.rename(home.root / "elsewhere")
    assert comes_true(lambda: "staging can't be" in status(home).out)

    assert sorted((home.root / "model-repository").rglob("*")) == before
    home.staging.mkdir()
    second = home.drop(b"two")
    assert home.is_committed(second)
    assert comes_true(lambda: "staging can't be" not in status(home).out)
    assert home.read_status()["watcher"] == ("events" if watcher == "auto" else "none")
    assert home.stored(first) == b"one"
    assert service.process.poll() is None


@pytest.mark.scenario(24)
def test_staging_replaced_in_a_moment_is_watched_and_nothing_is_deleted(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home()
    home.start_ready("--watcher", watcher)
    first = home.drop_whole(b"one")
    assert home.is_committed(first)

    home.staging.rename(home.root / "elsewhere")
    home.staging.mkdir()
    second = home.drop_whole(b"two")

    assert home.is_committed(second)
    assert home.stored(first) == b"one"
    # And back again: the run that was stored is known, and stored once.
    home.staging.rename(home.root / "the new one")
    (home.root / "elsewhere").rename(home.staging)
    third = home.drop_whole(b"three")
    assert home.is_committed(third)
    assert (home.revisions(first), home.uploads(first)) == (1, 1)
    assert home.stored(second) == b"two"


# 25 and 26

DEATHS = {
    "the reader dies": faults.READER_DIES,
    "the emitter dies": faults.EMITTER_DIES,
    "the handler raises": faults.HANDLER_RAISES,
}


@pytest.mark.scenario(25)
@pytest.mark.parametrize("death", DEATHS)
def test_watcher_that_dies_is_rebuilt_within_a_minute_and_nothing_is_lost(
    make_home: MakeHome, death: str
) -> None:
    home = make_home()
    service = home.start_ready(twist=DEATHS[death])
    before = home.drop(b"before")
    began = time.monotonic()

    (home.staging / "die").touch()
    meanwhile = home.drop(b"meanwhile")

    assert service.logs("is built anew")
    assert comes_true(lambda: home.read_status()["watcher"] == "events", timeout=60)
    assert home.is_committed(meanwhile)
    assert home.is_committed(before)
    # By an event again: the next scan is ten minutes away.
    assert home.is_committed(home.drop_whole(b"afterwards"))
    assert time.monotonic() - began < 60


class Stream:
    """A writer that drops whole runs, one after the other, until it is told to stop."""

    def __init__(self, home: Home) -> None:
        self.runs: list[str] = []
        self._home = home
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._drop)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _drop(self) -> None:
        # The pauses are the writer's pace.
        while not self._enough.wait(0.005):
            number = len(self.runs)
            drop = self._home.drop_whole if number % 2 else self._home.drop
            self.runs.append(drop(b"model %d" % number))

    def goes_on(self) -> bool:
        """Return whether more runs come to be dropped, after this call."""
        before = len(self.runs)
        return comes_true(lambda: len(self.runs) >= before + 5)


def stored_once(home: Home, runs: list[str]) -> None:
    """Assert that each run comes to be stored, and only once."""
    assert all(home.is_committed(run, timeout=60) for run in runs)
    assert {home.revisions(run) for run in runs} == {1}
    assert {home.uploads(run) for run in runs} == {1}


def is_watched(service: Service) -> bool:
    """Return whether a watch stands, built after every one that has died."""
    return service.log.count("staging is watched") > service.log.count("is built anew")


@pytest.mark.scenario(26)
def test_what_arrives_while_the_watcher_is_rebuilt_is_stored_once(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready(twist=faults.READER_DIES)
    die = home.staging / "die"

    with Stream(home) as stream:
        for change in (die.touch, die.unlink, die.touch):
            # What comes while there is no watch kills nobody.
            assert comes_true(lambda: is_watched(service), timeout=60)
            assert stream.goes_on()
            died = service.log.count("is built anew")
            change()
            assert comes_true(lambda died=died: service.log.count("is built anew") > died)  # type: ignore[misc]
            assert stream.goes_on()

    stored_once(home, stream.runs)


@pytest.mark.scenario(26)
def test_what_arrives_during_the_first_scan_is_stored_once(
    make_home: MakeHome, watcher: str
) -> None:
    home = make_home()
    before = [home.drop_whole(b"model") for _ in range(100)]

    with Stream(home) as stream:
        home.start_ready("--watcher", watcher)
        assert stream.goes_on()

    stored_once(home, [*before, *stream.runs])
