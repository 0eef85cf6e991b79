"""What threads share is right, though another one comes where it is just being changed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import s3fs

from modeldrop import Repository
from modeldrop.backend import Backend, open_backend
from modeldrop.backend.objects import ObjectBackend
from modeldrop.backend.urls import parse
from modeldrop.intake.drops import Job
from modeldrop.intake.flights import Flight
from modeldrop.intake.groups import AT_A_TIME, Groups, Passenger
from modeldrop.intake.observation import Observation
from modeldrop.intake.throttle import Throttle
from modeldrop.journal.group import Group, Waiting
from modeldrop.journal.lines import Entry, NewEntry
from modeldrop.journal.table import JournalStorage
from modeldrop_daemon import collecting
from support.between import Between
from support.sharing import note
from support.waiting import comes_true

MIB = 2**20


class Size(int):
    """A number of bytes that is noticed when it is counted."""

    counted: Callable[[], None]

    def __radd__(self, other: int) -> int:
        self.counted()
        return other + int(self)

    def __truediv__(self, other: float) -> float:
        self.counted()
        return int(self) / other


def size(count: int, counted: Callable[[], None]) -> Size:
    made = Size(count)
    made.counted = counted
    return made


def test_bytes_that_two_threads_send_are_all_counted() -> None:
    nothing = cast("Observation", SimpleNamespace(size=lambda: 0))
    flight = Flight("store", nothing, probe=False)
    other = Between(lambda: flight.moved(5))

    flight.moved(size(7, other))
    other.end()

    assert (flight.sent, flight.done) == (12, 12)


def test_two_threads_together_are_no_quicker_than_the_limit() -> None:
    throttle = Throttle(1000 * MIB)
    other = Between(lambda: throttle.take(400 * MIB, lambda: None))
    began = time.monotonic()

    throttle.take(size(400 * MIB, other), lambda: None)
    other.end()

    # Each takes 0.4 s, one after the other, less what may go at once after a pause.
    assert throttle._free_at - began >= 0.8 - 0.25


class Noticed(deque[Any]):
    """Runs that wait, and who is told when somebody asks whether there are any."""

    asked: Callable[[], None] = staticmethod(lambda: None)

    def __bool__(self) -> bool:
        found = len(self) > 0
        self.asked()
        return found


def test_a_run_that_comes_as_the_last_group_ends_is_stored() -> None:
    with ThreadPoolExecutor(2 * AT_A_TIME) as pool:
        groups = Groups(pool, lambda jobs: [True] * len(jobs))
        # As many as may be, but for the one that ends now, are at it.
        groups._under_way = AT_A_TIME
        waiting = groups._waiting = Noticed()
        late = Passenger(cast("Job", None), lambda: None)
        other = Between(lambda: groups.put(late))
        waiting.asked = other

        groups._run()
        other.end()

        assert late.task.result(10)


class Hesitant(Group):
    """Something happens once it was looked whether somebody leads."""

    asked: Callable[[], None] = staticmethod(lambda: None)

    @property
    def _led(self) -> bool:
        led = self.__dict__["led"]
        self.asked()
        return bool(led)

    @_led.setter
    def _led(self, led: bool) -> None:
        self.__dict__["led"] = led


def test_one_thread_at_a_time_leads_a_group() -> None:
    leading: list[int] = []
    most: list[int] = []

    def commit(group: list[Waiting]) -> None:
        leading.append(1)
        most.append(len(leading))
        # As long as the disk takes; longer than the other one is given.
        never.wait(1.0)
        for each in group:
            each.written = (cast("Entry", each.entries),)
        leading.pop()

    never = threading.Event()
    group = Hesitant(commit)
    new = cast("NewEntry", object())
    other = Between(lambda: group.append((new,)))
    group.asked = other

    group.append((new,))
    other.end()

    assert max(most) == 1


class Meddled(JournalStorage):
    """One who has read less keeps it while another, who has read more, is just keeping that."""

    begins: Callable[[], None] = staticmethod(lambda: None)
    first: threading.Thread | None = None
    done: threading.Event | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_documents" and threading.current_thread() is self.first:
            self.begins()
        if name == "_seen" and self.done and threading.current_thread() is not self.first:
            self.done.wait(10)
        super().__setattr__(name, value)


def test_what_is_read_of_the_journal_is_complete_though_two_read_it_at_once(
    repository: Repository,
) -> None:
    storage = Meddled(repository.journal)
    note(repository, "one")

    def read() -> None:
        note(repository, "two")
        storage.read()

    storage.done = threading.Event()
    storage.first = threading.current_thread()
    other = Between(read)
    storage.begins = other
    storage.read()
    storage.done.set()
    other.end()

    [table] = storage.read().values()
    assert len(table) == repository.journal.check()


def test_a_hint_that_comes_as_hints_are_taken_is_heard(repository: Repository) -> None:
    with contextlib.closing(repository.engine()) as engine:
        taken: list[dict[str | None, bool]] = []

        class Folder(str):
            __slots__ = ()

            def __hash__(self) -> int:
                hashed.append(1)
                # The second time it is put down.
                if len(hashed) == 2:
                    other()
                return super().__hash__()

        def take() -> None:
            with engine._hints_lock:
                hints, engine._hints = engine._hints, {}
            taken.append(dict(hints))

        hashed: list[int] = []
        other = Between(take)
        engine.hint(Folder("a run"))
        other.end()

        assert "a run" in {**taken[0], **engine._hints}


def test_a_place_that_two_threads_ask_for_is_opened_once(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = str(tmp_path / "live")
    repository.add_target("live", place)
    repository._close_places()
    opened: list[str] = []

    def slow(url: str, *more: Any) -> Backend:  # noqa: ANN401 - as the real one takes them
        opened.append(url)
        other()
        return open_backend(url, *more)

    monkeypatch.setattr("modeldrop.targets.open_backend", slow)
    places = repository.targets_at_backend
    other = Between(lambda: places.open_url("live", place))
    places.open_url("live", place)
    other.end()

    assert opened == [place]


def test_two_threads_that_first_ask_a_store_connect_to_it_once(tmp_path: Path) -> None:
    made: list[object] = []

    def connect() -> Any:  # noqa: ANN401 - a driver, as far as it goes
        made.append(1)
        other()
        return SimpleNamespace(endpoint=None, close=lambda: None)

    backend = ObjectBackend(parse("s3://bucket/prefix", None), connect)
    other = Between(lambda: backend.endpoint)
    assert backend.endpoint is None
    other.end()
    backend.close()

    assert made == [1]


def test_two_threads_that_first_send_try_once_whether_the_store_checks_digests() -> None:
    tried: list[str] = []

    def checks(key: str) -> bool:
        tried.append(key)
        other()
        return True

    driver = SimpleNamespace(checks_digests=checks, close=lambda: None)
    backend = ObjectBackend(parse("s3://bucket/prefix", None), lambda: cast("Any", driver))
    connection = backend._bucket.connection()
    other = Between(lambda: backend._bucket.checks_digests(connection))
    assert backend._bucket.checks_digests(connection)
    other.end()
    backend.close()

    assert len(tried) == 1


def test_two_threads_that_sign_first_ask_for_the_keys_once(s3_url: str) -> None:
    with contextlib.closing(open_backend(s3_url, {}, None)) as backend:
        direct = cast("Any", backend)._bucket.driver._direct
        asked: list[int] = []
        real = direct._access

        def keys() -> object:
            asked.append(1)
            other()
            return real.keys()

        direct._access = SimpleNamespace(keys=keys, region=real.region)
        other = Between(direct._signing)
        direct._signing()
        other.end()

        assert asked == [1]


def test_two_threads_that_first_need_s3fs_make_one_client(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(open_backend(s3_url, {}, None)) as backend:
        driver = cast("Any", backend)._bucket.driver
        made: list[int] = []
        real = s3fs.S3FileSystem

        def slow(**options: Any) -> Any:  # noqa: ANN401 - s3fs's own
            made.append(1)
            other()
            return real(**options)

        other = Between(lambda: driver._fs)
        with monkeypatch.context() as meddled:
            meddled.setattr(s3fs, "S3FileSystem", slow)
            assert driver._fs is not None
            other.end()

        assert made == [1]


def test_a_collector_that_is_starting_when_the_service_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []
    closed: list[bool] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - Popen's
        started.append(subprocess.Popen(*arguments, **options))
        other()
        return started[0]

    waits = (sys.executable, "-c", "import sys; sys.stdin.read()")
    monkeypatch.setattr(collecting, "_COLLECTOR", waits)
    monkeypatch.setattr(collecting, "_FIRST", (0.0, 0.0))
    popen = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)
    monkeypatch.setattr(collecting, "subprocess", popen)
    thread = collecting.Collecting(tmp_path, tmp_path / "collected.json")
    other = Between(lambda: closed.append(thread.close()))
    thread.begin()
    try:
        assert comes_true(lambda: bool(closed))
        assert closed == [True]
        assert started[0].wait(20) == -signal.SIGKILL
    finally:
        started[0].kill()
