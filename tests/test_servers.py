"""The servers that the other tests stand on are what `support.servers` says they are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from support import servers
from support.servers import MotoServer, RcloneS3Server, Server, ServerFailed, ServerMissing
from support.waiting import comes_true


@pytest.fixture(params=["s3_url", "azure_url"])
def url_that_holds(request: pytest.FixtureRequest) -> str:
    """A new place on each server whose create-if-absent holds."""
    url: str = request.getfixturevalue(request.param)
    return url


def test_create_if_absent_is_refused_the_second_time(url_that_holds: str) -> None:
    fs, root = fsspec.core.url_to_fs(url_that_holds)

    fs.pipe_file(f"{root}/record", b"first", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"{root}/record", b"second", mode="create")

    assert fs.cat_file(f"{root}/record") == b"first"


def test_rclone_lets_the_second_create_win(rclone_s3_url: str) -> None:
    fs, root = fsspec.core.url_to_fs(rclone_s3_url)

    fs.pipe_file(f"{root}/record", b"first", mode="create")
    fs.pipe_file(f"{root}/record", b"second", mode="create")

    assert fs.cat_file(f"{root}/record") == b"second"


def test_each_test_gets_a_place_of_its_own(url_that_holds: str) -> None:
    fs, root = fsspec.core.url_to_fs(url_that_holds)

    assert fs.ls(root) == []


def test_two_servers_run_side_by_side() -> None:
    with RcloneS3Server() as one, RcloneS3Server() as other:
        assert one.port != other.port


def test_a_stopped_server_no_longer_answers_and_leaves_no_files() -> None:
    with RcloneS3Server() as server:
        port, folder = server.port, server.folder

    assert not servers._answers(port)
    assert not folder.exists()


def test_a_server_and_its_files_go_with_the_process_that_started_it() -> None:
    program = (
        "import signal; from support.servers import RcloneS3Server; server = RcloneS3Server(); "
        "server.start(); print(server.port, server.folder, flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(Path(servers.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        port, folder = starter.stdout.readline().split()
        assert servers._answers(int(port))

        starter.send_signal(signal.SIGKILL)

    assert comes_true(lambda: not servers._answers(int(port)))
    assert comes_true(lambda: not Path(folder).exists())


def test_a_server_that_ignores_the_request_to_end_is_killed() -> None:
    program = (
        "import http.server, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler); "
        "print(f'http://127.0.0.1:{server.server_port}', flush=True); server.serve_forever()"
    )
    with _Scripted(program) as server:
        port = server.port

    assert not servers._answers(port)


def test_a_server_that_is_stopped_and_goes_on_stays() -> None:
    program = (
        "import http.server; "
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler); "
        "print(f'http://127.0.0.1:{server.server_port}', flush=True); server.serve_forever()"
    )
    with _Scripted(program) as server:
        assert server._process is not None
        guard = server._process.pid
        [child] = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()

        for _ in range(5):
            for number in (signal.SIGSTOP, signal.SIGCONT):
                os.kill(int(child), number)
                # The guard has looked: it sleeps again, or has ended.
                assert comes_true(lambda: _sleeps(guard))

        assert servers._answers(server.port)
        assert server.folder.exists()


def _sleeps(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "SZ"


def test_a_server_that_ends_at_once_fails_with_its_last_words() -> None:
    with pytest.raises(ServerFailed, match="no such flag"):
        _Scripted("import sys; sys.exit('no such flag')").start()


def test_a_missing_program_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_BIN", Path("nowhere"))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ServerMissing, match=r"moto_server is not installed\. Try: "):
        MotoServer().start()


class _Scripted(Server):
    """A server that is a few lines of Python."""

    name = "scripted"

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def command(self, folder: Path) -> list[str]:
        del folder
        return [sys.executable, "-c", self._program]

    @property
    def env(self) -> dict[str, str]:
        return {}
