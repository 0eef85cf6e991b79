"""The service as a child process, and the service manager that it speaks to.

home = Home(tmp_path)
service = home.start_ready()
run = home.drop_whole(b"...")
assert home.is_committed(run)
assert service.stop() == 0
home.close()
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modeldrop.names import MARKER
from modeldrop.repository import Repository
from support.intake import content
from support.waiting import comes_true

# Everything falls quiet fast, and nothing is found by a scan that an event should have found.
QUICK = {
    "quiet_time": 0.3,
    "quiet_time_without_lease": 0.4,
    "revision_interval": 0.1,
    "scan_interval": 600.0,
    "poll_interval": 0.2,
    "retry_first": 0.1,
    "stop_time": 20.0,
}

# Seconds that a service may take to end at the end of its test.
_PATIENCE = 3.0


class Manager:
    """What systemd is to the service: a socket that takes its messages."""

    def __init__(self, status: Path) -> None:
        """Listen; the file `status` is read at the moment of READY."""
        # An abstract name: a path may have 108 bytes, which the folders of tests exceed.
        name = f"modeldrop-{uuid.uuid4().hex}"
        self.address = f"@{name}"
        self.messages: list[str] = []
        self.status_when_ready: str | None = None
        self._status = status
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{name}")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while message := self._socket.recv(65536).decode():
            if "READY=1" in message and self.status_when_ready is None:
                with contextlib.suppress(FileNotFoundError):
                    self.status_when_ready = self._status.read_text()
            self.messages.append(message)


class Service:
    """One process of modeldropd."""

    def __init__(self, process: subprocess.Popen[bytes], manager: Manager, log: Path) -> None:
        """Hold on to a process that was started."""
        self.process = process
        self.manager = manager
        self._log = log

    @property
    def log_name(self) -> str:
        """The name of the file that it logs to."""
        return self._log.name

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def says(self, text: str, times: int = 1) -> bool:
        """Return whether it comes to tell the manager so, so many times."""
        return comes_true(lambda: sum(text in each for each in self.manager.messages) >= times)

    def logs(self, text: str) -> bool:
        """Return whether it comes to log so."""
        return comes_true(lambda: text in self.log)

    def children(self) -> list[int]:
        """Return the processes that it has started and that haven't ended."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        found: list[int] = []
        for task in tasks:
            # A thread may end meanwhile.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, task.read_text().split())
        return found

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        return self.process.wait(20)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def end(self) -> None:
        """See that it ends that was asked to: it is asked once more, and then killed.

        What is killed leaves no word of the lines that it went through.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_PATIENCE)
                return
            self.signal(number)
        self.process.wait()


class Home:
    """A home in a temporary folder, with the services that it had."""

    def __init__(self, folder: Path, backend: str = "", /, **settings: object) -> None:
        """Make a home; `settings` take the place of the quick ones."""
        self.folder = folder
        self.root = folder / ".mlops"
        self._backend = backend
        Repository.init(self.root, backend=backend)[0].close()
        self.staging = self.root / "staging"
        self.configure(**settings)
        self._services: list[Service] = []

    def close(self) -> None:
        """End its services; what they said is shown with a test that failed."""
        running = [each for each in self._services if each.process.poll() is None]
        for service in running:
            service.signal(signal.SIGTERM)
        for service in running:
            service.end()
        for service in self._services:
            service.manager.close()
            sys.stderr.write(f"--- {service.log_name}\n{service.log}")

    def configure(self, **settings: object) -> None:
        """Write the settings of the service."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in {**QUICK, **settings}.items()]
        url = json.dumps(self._backend)
        text = "\n".join(["[backend]", f"url = {url}", "[service]", *lines, ""])
        (self.root / "config.toml").write_text(text)

    def start(
        self,
        *options: str,
        twist: str = "",
        environ: dict[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> Service:
        """Start a service.

        `twist` is Python that goes before, to stage what else needs luck; `within` is a command
        that runs the one that follows it, such as setpriv.
        """
        program: Sequence[str] = ["-m", "modeldrop_daemon"]
        if twist:
            code = f"{twist}\nimport sys\nfrom modeldrop_daemon.main import main\nsys.exit(main())"
            program = ["-c", code]
        manager = Manager(self.status)
        log = self.folder / f"log-{len(self._services)}"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [
                    *within,
                    *(sys.executable, *program),
                    *("--home", str(self.root), "--verbose", *options),
                ],
                stdin=subprocess.DEVNULL,
                stderr=stream,
                env={**os.environ, "NOTIFY_SOCKET": manager.address, **(environ or {})},
            )
        service = Service(process, manager, log)
        self._services.append(service)
        return service

    def start_ready(
        self,
        *options: str,
        twist: str = "",
        environ: dict[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> Service:
        """Start a service, and wait until it is ready."""
        service = self.start(*options, twist=twist, environ=environ, within=within)
        assert service.says("READY=1"), service.log
        return service

    # Dropping

    def drop_whole(self, data: bytes, name: str = "model.bin", *, marker: str | None = None) -> str:
        """Put a run together elsewhere, and rename it into staging; return its GUID.

        `marker` is what its `_SUCCESS` says, if it has one.
        """
        run = str(uuid.uuid4())
        aside = self.folder / run
        aside.mkdir()
        (aside / name).write_bytes(data)
        if marker is not None:
            (aside / MARKER).write_text(marker)
        aside.rename(self.staging / run)
        return run

    def drop(self, data: bytes, name: str = "model.bin") -> str:
        """Make a run's folder in staging, and write a file into it; return its GUID."""
        run = str(uuid.uuid4())
        path = self.staging / run / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        return run

    # Looking

    @property
    def status(self) -> Path:
        """The service's status file."""
        return self.root / "service/status.json"

    def read_status(self) -> dict[str, Any]:
        """Return what the service says of itself."""
        found: dict[str, Any] = json.loads(self.status.read_text())
        return found

    def standing(self, run: str) -> dict[str, Any]:
        """Return what the status file says of a run; nothing if it isn't in it."""
        with contextlib.suppress(OSError):
            for each in self.read_status()["runs"]:
                if each["run"] == run:
                    found: dict[str, Any] = each
                    return found
        return {}

    def is_in(self, run: str, state: str, reason: str = "", timeout: float = 20.0) -> bool:
        """Return whether a run comes to be in a state, with a reason that has these words."""

        def condition() -> bool:
            said = self.standing(run)
            return said.get("state") == state and reason in said["reason"]

        return comes_true(condition, timeout)

    def junk(self) -> dict[str, str]:
        """Return the entries of staging that are no runs, as they are shown, with the reasons."""
        with contextlib.suppress(OSError):
            return {each["path"]: each["reason"] for each in self.read_status()["junk"]}
        return {}

    def revisions(self, run: str) -> int:
        """Return how many revisions of a run are committed."""
        with Repository.open(self.root) as repository:
            return len(repository.runs_at_backend.numbers(run))

    def uploads(self, run: str) -> int:
        """Return how many times bytes of a run were sent."""
        with Repository.open(self.root) as repository:
            keys = [each.key for each in repository.backend.walk(run)]
        return len({key.split("/")[1] for key in keys} - {"revisions"})

    def is_committed(self, run: str, revision: int = 1, timeout: float = 20.0) -> bool:
        """Return whether a revision comes to be committed and its receipt left."""
        receipt = self.staging / run / ".modeldrop-receipt.json"

        def condition() -> bool:
            # The receipt of a run that is blocked or parked names no revision.
            with contextlib.suppress(OSError, ValueError, KeyError):
                return bool(json.loads(receipt.read_text())["revision"] >= revision)
            return False

        return comes_true(condition, timeout)

    def digests(self, run: str) -> dict[str, str]:
        """Return the paths of a run's files as they are committed, and their digests."""
        with Repository.open(self.root) as repository:
            found = repository.runs_at_backend.committed(run)
        return {path: file.sha256 for path, file in found.files().items()}

    def stored_files(self, run: str, revision: int | None = None) -> dict[str, bytes]:
        """Return the files of a run as they are at the backend; each has its digest."""
        with Repository.open(self.root) as repository:
            runs = repository.runs_at_backend
            found = runs.committed(run) if revision is None else runs.revision(run, revision)
            data = content(repository, found)
        for path, file in found.files().items():
            assert hashlib.sha256(data[path]).hexdigest() == file.sha256, path
        return data

    def stored(self, run: str, revision: int | None = None) -> bytes:
        """Return the bytes of a run's only file as they are stored."""
        (data,) = self.stored_files(run, revision).values()
        return data


MakeHome = Callable[..., Home]
"""Makes a `Home` with settings of the service, as the fixtures of that kind do."""
