"""What it takes to bring bytes to an object store and back, against tools that do nothing else.

The store is `rclone serve s3` on this machine, whose work the clients share two cores with. Ours
is the service, from the rename into staging until the journal has acknowledged the run, and
`modeldrop pull`: hashed, checked, recorded, synced. The peers are whole commands; on the way down
they are also shown with the wait for the disk that ours has in it, for information. A peer that is
not installed is left out, with its reason.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.figures import BIN, Figure, Median
from modeldrop import Repository
from support.servers import RcloneS3Server
from support.service import Manager
from support.waiting import comes_true

ROUNDS: Final = 3
LARGE: Final = 2**30
FILES: Final = 1000
SMALL: Final = 64 * 2**10
MOST_MEMORY: Final = 150.0
_PEERS: Final = BIN.parent / "peers" / "bin"
_CHUNK: Final = 2**24
# A peer that takes so many times as long as ours is ended, and counts with what it took by then.
_PATIENCE: Final = 4
_LONG: Final = 600.0

Peer = Callable[[Path | str, Path | str], list[str]]


class Server(RcloneS3Server):
    """One with a bucket for each round."""

    def command(self, folder: Path) -> list[str]:
        """See `RcloneS3Server.command`."""
        for bucket in _buckets():
            (folder / bucket).mkdir()
        return super().command(folder)

    def at(self, url: str) -> Path:
        """Return where it keeps what is at a URL."""
        return self.folder / "data" / url.removeprefix("s3://")


def _buckets() -> list[str]:
    return [f"round-{number}" for number in range(ROUNDS)] + ["home"]


class Service:
    """A home whose backend is the server, and its service."""

    def __init__(self, folder: Path, url: str, env: Mapping[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self._env = {**os.environ, **env, "HOME": str(folder)}
        os.environ.update(env)
        self._repository, _ = Repository.init(folder / ".mlops", backend=url, single_writer=True)
        self._manager = Manager(self._repository.home.paths.status())
        self._process = subprocess.Popen(
            [BIN / "modeldropd", "--home", self._repository.home.paths.root],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**self._env, "NOTIFY_SOCKET": self._manager.address},
        )
        assert comes_true(lambda: any("READY=1" in each for each in self._manager.messages))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._manager.close()
        self._repository.close()

    def store(self, model: Path) -> tuple[str, float]:
        """Have a copy of a model stored as a run; return its name and the seconds it took."""
        run = str(uuid.uuid4())
        aside = self.folder / run
        aside.mkdir()
        # Links of the same bytes, so that the disk has the same to do for everybody.
        if model.is_dir():
            shutil.copytree(model, aside / model.name, copy_function=os.link)
        else:
            os.link(model, aside / model.name)
        wanted = self._acknowledged() + 1
        began = time.perf_counter()
        aside.rename(self._repository.home.staging / run)
        while self._acknowledged() < wanted:
            if time.perf_counter() - began > _LONG:
                message = "the service didn't commit in time"
                raise TimeoutError(message)
            time.sleep(0.005)
        took = time.perf_counter() - began
        return run, took

    def pull(self, run: str, to: Path) -> float:
        """Pull a run; return the seconds it took."""
        command = [str(BIN / "modeldrop"), "--home", str(self._repository.home.paths.root)]
        return _timed([*command, "pull", run, "-o", str(to)], self._env, _LONG)

    def most_memory(self) -> float:
        """Return the most MiB that the service ever had in memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024

    def _acknowledged(self) -> int:
        head = self._repository.journal.head()
        return head.seq if head else 0


def figures(folder: Path) -> Iterator[Figure]:
    """Yield how one large file and many small ones fare, both ways, and what memory it took."""
    large, small = folder / "large.bin", folder / "small"
    _fill(large)
    small.mkdir()
    for number in range(FILES):
        (small / f"{number:04}").write_bytes(os.urandom(SMALL))
    with Server() as server:
        service = Service(folder / "ours", "s3://home/models", server.env)
        try:
            env = {**os.environ, **server.env, "S3_ENDPOINT_URL": server.endpoint}
            env["HOME"] = str(folder)
            peers = _installed(server)
            some = {name: each for name, each in peers.items() if name != "rclone"}
            yield from _both_ways(folder, service, server, env, large, "1 GiB", some)
            name = "service, peak memory, 1 GiB up"
            memory = service.most_memory()
            yield Figure(name, memory, MOST_MEMORY, 1, "150 MiB", unit="MB", scale=1)
            some = {name: each for name, each in peers.items() if name != "aws"}
            what = f"{FILES:,} x 64 KiB"
            yield from _both_ways(folder, service, server, env, small, what, some)
        finally:
            service.close()


def _both_ways(
    folder: Path,
    service: Service,
    server: Server,
    env: Mapping[str, str],
    model: Path,
    what: str,
    peers: Mapping[str, Peer],
) -> Iterator[Figure]:
    # What the server was sent a moment ago is on the disk before anything is brought back: whoever
    # waits for that disk would wait for the server's bytes as well.
    took: dict[tuple[str, str], list[float]] = {}
    for number in range(ROUNDS):
        place = folder / f"{model.name}-{number}"
        place.mkdir()
        run, ours = service.store(model)
        took.setdefault(("ours", "up"), []).append(ours)
        # As for the others, in between: the server may be at what came last for a while.
        (stored,) = server.at(f"s3://home/models/{run}").glob(f"*/{model.name}")
        assert _digest(stored) == _digest(model)
        os.sync()
        down = service.pull(run, place / "ours")
        took.setdefault(("ours", "down"), []).append(down)
        (pulled,) = (place / "ours").iterdir()
        assert _digest(pulled) == _digest(model)
        # Its bytes only: the service goes on writing records there.
        _forget(model, server.at(f"s3://home/models/{run}"))
        for name, command in peers.items():
            url = f"s3://round-{number}/{name}/{model.name}"
            up = _timed(command(model, url), env, _LONG)
            assert _digest(server.at(url)) == _digest(model)
            took.setdefault((name, "up"), []).append(up)
            target = place / name / model.name
            target.parent.mkdir()
            os.sync()
            theirs = _timed(command(url, target), env, max(5.0, _PATIENCE * down))
            took.setdefault((name, "down"), []).append(theirs)
            # No peer waits for the disk; ours does, before it gives what is pulled its name.
            waited = _timed(["sync", "--file-system", str(target.parent)], env, _LONG)
            took.setdefault((name, "down, on the disk"), []).append(theirs + waited)
            _forget(model, server.at(f"s3://round-{number}/{name}"))
        _forget(model, place)
    for way in ("up", "down"):
        ours = Median.of(took["ours", way])
        for name in peers:
            theirs = Median.of(took[name, way])
            yield Figure(f"{what} {way}", ours, theirs, 1, name)
            if way == "down":
                theirs = Median.of(took[name, "down, on the disk"])
                yield Figure(f"{what} {way}", ours, theirs, None, f"{name}, then sync")


def _forget(model: Path, folder: Path) -> None:
    """Remove copies of a large model; where many files were just removed, new ones take longer."""
    if model.is_file():
        shutil.rmtree(folder)


def _installed(server: Server) -> dict[str, Peer]:
    """Return the peers that are there, and say which aren't."""
    remote = (
        f':s3,provider=Other,endpoint="{server.endpoint}",env_auth=true,'
        f"access_key_id={server.env['AWS_ACCESS_KEY_ID']},"
        f"secret_access_key={server.env['AWS_SECRET_ACCESS_KEY']}:"
    )

    def s5cmd(source: Path | str, target: Path | str) -> list[str]:
        # A folder to it is what a pattern finds, or a path that ends with a slash.
        if isinstance(source, Path):
            ends = ("/", "/") if source.is_dir() else ("", "")
        else:
            ends = ("/*", "/") if server.at(source).is_dir() else ("", "")
        return [str(_PEERS / "s5cmd"), "cp", f"{source}{ends[0]}", f"{target}{ends[1]}"]

    def aws(source: Path | str, target: Path | str) -> list[str]:
        return [str(_PEERS / "aws"), "s3", "cp", "--quiet", str(source), str(target)]

    def rclone(source: Path | str, target: Path | str) -> list[str]:
        places = (str(each).replace("s3://", remote) for each in (source, target))
        program = str(BIN / "rclone")
        return [program, "--config", "", "copy", "--transfers", "16", *places]

    peers: dict[str, tuple[Path, Peer]] = {
        "s5cmd": (_PEERS / "s5cmd", s5cmd),
        "aws": (_PEERS / "aws", aws),
        "rclone": (BIN / "rclone", rclone),
    }
    for name, (path, _) in peers.items():
        if not path.exists():
            print(f"{name} is left out: there is no {path}; `make peers` installs it")
    return {name: command for name, (path, command) in peers.items() if path.exists()}


def _timed(command: list[str], env: Mapping[str, str], most: float) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        code = process.wait(most)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = 0
    took = time.perf_counter() - began
    if code:
        message = f"{command[0]} exited {code}"
        raise RuntimeError(message)
    return took


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        with each.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _fill(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(0, LARGE, _CHUNK):
            file.write(os.urandom(_CHUNK))
        file.flush()
        os.fsync(file.fileno())
