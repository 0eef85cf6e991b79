"""What crashes left is found and collected; what somebody is at, or somebody else's, is not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from modeldrop import Repository, gc, layout
from modeldrop.backend import open_backend
from modeldrop.names import new_guid
from support import program
from support.program import Program, in_process
from support.proxy import Proxy, Seen
from support.servers import AzuriteServer, MotoServer
from support.service import Home, Service
from support.waiting import comes_true

MIB: Final = 2**20
UPLOAD: Final = "20260101T000000Z-0011223344556677"
DAYS: Final = 86_400.0
# Whoever collects for a service, when what was begun just now is long given up.
LATER: Final = """
import sys
from datetime import UTC, datetime, timedelta
import modeldrop.gc
from modeldrop_daemon.collector import main
modeldrop.gc._now = lambda: datetime.now(UTC) + timedelta(days=15)
sys.exit(main(sys.argv[1:]))
"""
# Python before the service: its time has come.
SOON: Final = f"""
import modeldrop_daemon.collecting as collecting
collecting._FIRST = (0.0, 0.0)
collecting._COLLECTOR = ({sys.executable!r}, "-c", {LATER!r})
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def days_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have it be so many days later, for whoever collects."""

    def passed(days: float) -> None:
        monkeypatch.setattr(gc, "_now", lambda: datetime.now(UTC) + timedelta(days=days))

    return passed


def unfinished(url: str) -> list[str]:
    """Return the keys of the uploads at a store that came to no end, whoever's they are."""
    backend: Any = open_backend(url, {}, None)
    with contextlib.closing(backend):
        return [each.key for page in backend._bucket.driver.unfinished("") for each in page]


@contextlib.contextmanager
def killed_in_an_upload(server: MotoServer | AzuriteServer, home: Home, run: str) -> Iterator[None]:
    """Have a process killed that has sent some parts of a run's file, and not all."""
    with Proxy(server.port) as proxy:
        gate = threading.Event()

        def before(seen: Seen) -> None:
            if seen.method == "PUT" and run in seen.path and len(sent) >= 2:
                proxy.hold(gate)
            if seen.method == "PUT" and run in seen.path:
                sent.append(seen)

        sent: list[Seen] = []
        proxy.before = before
        env = {
            name: value.replace(server.endpoint, proxy.endpoint)
            for name, value in server.env.items()
        }
        process = subprocess.Popen(
            program.command("--home", home.root, "scan", "--once"), env=program.environment(**env)
        )
        try:
            assert comes_true(lambda: len(sent) >= 2)
            # What was sent has arrived.
            assert comes_true(lambda: sum(each.status in {200, 201} for each in sent) >= 1)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            gate.set()
        yield


@pytest.mark.slow
@pytest.mark.scenario(50)
@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_killed_in_an_upload_nothing_is_visible_and_the_leftover_is_found_and_ended(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    run: Program,
    days_pass: Callable[[float], None],
) -> None:
    server = request.getfixturevalue({"s3": "moto", "azure": "azurite"}[kind])
    url = request.getfixturevalue(f"{kind}_url")
    home = Home(tmp_path, url)
    call = ("--home", str(home.root))
    with contextlib.closing(home):
        data = os.urandom(30 * MIB)
        guid = home.drop_whole(data)
        with killed_in_an_upload(server, home, guid):
            (left,) = unfinished(url)
        with Repository.open(home.root) as repository:
            assert not [each.key for each in repository.backend.walk(guid)]

        # Somebody may be at it, here or elsewhere.
        assert run(*call, "gc", "--json").json == {"dry_run": False, "collected": []}
        assert unfinished(url) == [left]
        days_pass(15 if kind == "s3" else 31)
        told = run(*call, "gc", "--dry-run", "--json").json
        assert [each["where"] for each in told["collected"]] == [f"{url}/{left}"]
        assert told["collected"][0]["kind"] == "upload"
        assert unfinished(url) == [left]

        done = run(*call, "gc", "-q")
        assert (done.code, done.lines) == (0, [f"{url}/{left}"])
        assert unfinished(url) == []
        assert run(*call, "gc").err == "There is nothing to collect.\n"
        assert run(*call, "scan", "--once").code == 0
        assert home.stored(guid) == data
        assert run(*call, "gc", "-q").lines == []
        assert home.stored(guid) == data


# --- temporary files -----------------------------------------------------------------------------


def temp(number: int) -> str:
    return f".tmp-{number:016x}"


def left_behind(path: Path, days: float = 2.0, data: bytes = b"half") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAYS,) * 2)


CRASHES: Final = """
import os, sys
from pathlib import Path
from modeldrop.backend.local import LocalBackend
writer = LocalBackend(Path(sys.argv[1])).writer(sys.argv[2], 10)
writer.write(b"half")
os._exit(9)
"""


def test_what_a_killed_writer_left_in_a_folder_is_collected_a_day_later(
    repository: Repository, days_pass: Callable[[float], None]
) -> None:
    root = repository.home.paths.model_repository
    key = f"{new_guid()}/{UPLOAD}/model.bin"
    call: list[str | Path] = [sys.executable, "-c", CRASHES, root, key]
    assert subprocess.run(call, env=program.environment(), check=False).returncode == 9
    (left,) = root.glob("*/*/.tmp-*")

    assert repository.gc() == []
    days_pass(0.9)
    assert repository.gc() == []
    days_pass(1.1)
    (found,) = repository.gc(dry_run=True)
    assert (found.kind, found.where, found.size) == ("file", str(left), 4)
    assert left.exists()
    assert [each.where for each in repository.gc()] == [str(left)]
    # With the folders that nothing else is in.
    assert not left.parent.parent.exists()


def test_temporary_files_of_the_home_are_collected_and_nothing_else(
    repository: Repository, tmp_path: Path
) -> None:
    paths = repository.home.paths
    cached = paths.objects / "ab" / ("ab" * 32)
    mine = [
        left_behind(paths.root / temp(1)),
        left_behind(paths.refs / temp(2)),
        left_behind(paths.service / "runs" / "ab" / temp(3)),
        left_behind(paths.manifests / "ab" / temp(4)),
        left_behind(cached / temp(5)),
        left_behind(paths.model_repository / layout.META / temp(6)),
        left_behind(paths.model_repository / new_guid() / "revisions" / temp(7)),
    ]
    # What is to appear whole at a backend in a folder has a temporary name there till then.
    whole = paths.model_repository / f"{temp(12)}-3"
    age(left_behind(whole / "revisions" / "00000001.json").parent, 2)
    age(whole, 2)
    folder = cached / temp(8)
    left_behind(folder / "shard.bin")
    age(folder, 2)
    link = paths.root / temp(9)
    link.symlink_to(left_behind(tmp_path / "elsewhere"))
    os.utime(link, (0, 0), follow_symlinks=False)
    kept = [
        left_behind(paths.staging / temp(13)),
        left_behind(paths.staging / new_guid() / temp(14)),
        left_behind(paths.root / ".tmp-of-somebody"),
        left_behind(paths.model_repository / ".tmp-of-somebody"),
        left_behind(paths.model_repository / "theirs" / temp(15)),
        left_behind(cached / "model" / temp(16)),
        left_behind(paths.root / "notes"),
        left_behind(paths.root / temp(10), days=0.5),
        tmp_path / "elsewhere",
    ]
    # A pull that is at it: the folder is old, and what is in it is not.
    at_it = cached / temp(11)
    kept.append(left_behind(at_it / "shard.bin", days=0.1))
    age(at_it, 2)

    found = repository.gc()

    assert {each.where for each in found} == {str(each) for each in (*mine, folder, link, whole)}
    assert not any(each.exists() for each in (*mine, folder, whole))
    assert not link.is_symlink()
    assert all(each.exists() for each in kept)


def test_what_cant_be_removed_is_named_and_the_rest_is_removed(
    repository: Repository, run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = repository.home.paths
    stuck = paths.refs / temp(1)
    left_behind(stuck / "file")
    age(stuck, 2)
    other = left_behind(paths.root / temp(2))

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", f"{path}/file")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    told = run("--home", str(paths.root), "gc", "--json")
    assert told.code == 3
    assert "Permission denied" in told.error["message"]
    assert {each["where"]: bool(each["trouble"]) for each in told.json["collected"]} == {
        str(stuck): True,
        str(other): False,
    }
    assert run("--home", str(paths.root), "gc", "-q").lines == []


def test_people_are_told_in_a_table(repository: Repository, run: Program) -> None:
    left = left_behind(repository.home.paths.root / temp(1))
    call = ("--home", str(repository.home.paths.root), "gc")
    told = run(*call, "--dry-run")
    assert told.lines[0].split() == ["KIND", "TOUCHED", "SIZE", "WHERE"]
    assert told.lines[1].endswith(f"4 B  {left}")
    assert told.err == "1 would be collected.\n"
    assert run(*call).err == "1 collected.\n"


def test_nothing_is_collected_at_a_backend_of_another_repository(
    repository: Repository, tmp_path: Path, run: Program
) -> None:
    left = left_behind(repository.home.paths.root / temp(1))
    record = repository.home.paths.model_repository / layout.FORMAT_KEY
    Repository.init(tmp_path / "other")[0].close()
    shutil.copy(tmp_path / "other" / "model-repository" / layout.FORMAT_KEY, record)
    for more in ((), ("--dry-run",)):
        assert run("--home", str(repository.home.paths.root), "gc", *more).code == 2
    assert left.exists()


# --- the service ---------------------------------------------------------------------------------


def is_listing(seen: Seen) -> bool:
    """Return whether a request asks for the uploads that came to no end."""
    return seen.method == "GET" and "?uploads" in seen.path


def listings(proxy: Proxy) -> int:
    return sum(map(is_listing, proxy.requests))


def is_alive(process: int) -> bool:
    # Whoever inherits a dead child may take its time to bury it.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        status = Path(f"/proc/{process}/status").read_text()
        return "State:\tZ" not in status
    return False


class Waiting(NamedTuple):
    """A home whose store lists no unfinished uploads until a gate is open."""

    home: Home
    proxy: Proxy
    gate: threading.Event

    def start(
        self, twist: str = SOON, environ: dict[str, str] | None = None
    ) -> tuple[Service, int]:
        """Start a service; return it, and its collector, which waits for that listing."""
        service = self.home.start_ready(twist=twist, environ=environ)
        assert comes_true(lambda: listings(self.proxy) == 1)
        (collector,) = service.children()
        return service, collector

    def has_collected(self) -> bool:
        return comes_true((self.home.root / "service/collected.json").exists)


@pytest.fixture
def waiting(
    moto: MotoServer, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Waiting]:
    with Proxy(moto.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        gate = threading.Event()
        proxy.before = lambda seen: proxy.hold(gate) if is_listing(seen) else None
        with contextlib.closing(Home(tmp_path, s3_url)) as home:
            yield Waiting(home, proxy, gate)
            gate.set()


@pytest.mark.slow
def test_the_service_collects_once_a_day_beside_the_loop(s3_url: str, waiting: Waiting) -> None:
    home, proxy, gate = waiting
    backend: Any = open_backend(s3_url, {}, None)
    with contextlib.closing(backend):
        key = layout.bytes_key(new_guid(), layout.new_upload_id(), "model.bin")
        backend._bucket.driver.begin(key)
    service, _ = waiting.start()
    # The store keeps it waiting, and nothing else waits for that.
    assert home.is_committed(home.drop_whole(b"model"))
    gate.set()
    assert service.logs("collected the unfinished upload")
    assert waiting.has_collected()
    assert service.stop() == 0
    # Not again on the same day, however often it is started.
    service = home.start_ready(twist=SOON)
    assert home.is_committed(home.drop_whole(b"model 2"))
    assert service.stop() == 0
    assert listings(proxy) == 1
    assert unfinished(s3_url) == []


@pytest.mark.slow
def test_a_store_that_refuses_to_list_uploads_is_said_once_and_nothing_else_fails(
    waiting: Waiting,
) -> None:
    home, proxy, gate = waiting
    gate.set()
    proxy.answers = lambda seen: 403 if is_listing(seen) else None
    service = home.start_ready(twist=f"{SOON}\ncollecting._AGAIN = 0.1")
    assert comes_true(lambda: listings(proxy) > 2)
    assert home.is_committed(home.drop_whole(b"model"))
    assert service.stop() == 0
    assert service.log.count("what crashes left is not collected") == 1
    assert not (home.root / "service/collected.json").exists()


@pytest.mark.slow
def test_the_service_ends_while_the_store_keeps_its_collector_waiting(waiting: Waiting) -> None:
    service, collector = waiting.start()
    begun = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - begun < 10
    assert not is_alive(collector)
    assert waiting.home.read_status()


@pytest.mark.slow
def test_a_collector_that_is_killed_is_told_of_and_the_service_goes_on_and_tries_again(
    waiting: Waiting,
) -> None:
    service, collector = waiting.start(f"{SOON}\ncollecting._AGAIN = 0.1")
    # Ctrl-C at the service's terminal is not for it.
    assert os.getsid(collector) == collector
    # Where memory is scarce, it is the one to be ended.
    assert int(Path(f"/proc/{collector}/oom_score_adj").read_text()) >= 500
    os.kill(collector, signal.SIGKILL)
    assert service.logs("the process that collects ended with -9")
    assert waiting.home.is_committed(waiting.home.drop_whole(b"model"))
    waiting.gate.set()
    assert waiting.has_collected()
    assert service.stop() == 0


@pytest.mark.slow
def test_a_collector_ends_with_a_service_that_is_killed(waiting: Waiting) -> None:
    service, collector = waiting.start()
    service.signal(signal.SIGKILL)
    assert service.wait() == -signal.SIGKILL
    assert comes_true(lambda: not is_alive(collector))


@pytest.mark.slow
def test_a_stop_that_takes_its_time_says_nothing_of_the_collector_that_it_ended(
    waiting: Waiting,
) -> None:
    home, proxy, _ = waiting
    service, collector = waiting.start()
    run = home.drop_whole(b"model")
    assert home.is_committed(run)
    sending, held = threading.Event(), proxy.before

    def before(seen: Seen) -> None:
        if seen.method == "PUT":
            proxy.hold(sending)
        held(seen)

    proxy.before = before
    sent = len(proxy.requests)
    other = home.drop_whole(b"model 2")
    assert comes_true(lambda: any(each.method == "PUT" for each in proxy.requests[sent:]))
    # A service manager may ask all processes of a unit to end.
    for process in (service.process.pid, collector):
        os.kill(process, signal.SIGTERM)
    assert comes_true(lambda: not is_alive(collector))
    assert not comes_true(lambda: "not collected" in service.log, 2.0)
    sending.set()
    assert service.wait() == 0
    assert home.is_committed(other)
    assert "not collected" not in service.log


@pytest.mark.slow
def test_a_collector_has_the_credentials_of_the_service_and_shows_them_nowhere(
    waiting: Waiting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    lines = "AWS_ACCESS_KEY_ID=canary-7f3b-id\nAWS_SECRET_ACCESS_KEY=canary-7f3b\n"
    (folder / "environment").write_text(lines)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    service, collector = waiting.start(environ={"CREDENTIALS_DIRECTORY": str(folder)})

    assert b"canary-7f3b" not in Path(f"/proc/{collector}/environ").read_bytes()
    waiting.gate.set()
    assert waiting.has_collected()
    assert service.stop() == 0
    assert "canary-7f3b" not in service.log
    assert service.log.count("from the service manager") == 1
