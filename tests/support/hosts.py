"""Many hosts on one object store: homes of their own, and a proxy that they all go through.

with hosts(moto, moto.make_bucket(), 16) as fleet:
    fleet.store(run, ["a", "b"])
    told = together(work.register_each, [(home, run, "who", ["a"]) for home in fleet.homes])
    assert fleet.requests(since) / len(told) <= 16
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from modeldrop import Repository, home
from modeldrop.home import Home
from modeldrop.records import Version
from modeldrop.settings import BackendSettings, Config
from support.proxy import Proxy
from support.servers import Server
from support.stores import model


@dataclass
class Fleet:
    """Hosts that share a store; the first of them began its repository."""

    url: str
    env: Mapping[str, str]
    """What leads clients to the store."""
    proxy: Proxy
    root: Path
    first: Home
    homes: list[Path] = field(default_factory=list)

    def join(self, count: int = 1) -> list[Path]:
        """Make further homes, as `init` does where the store was raced already."""
        verdict = self.first.probe()
        assert verdict is not None
        made = []
        for number in range(len(self.homes), len(self.homes) + count):
            root = self.root / f"home-{number}"
            settings = Config(backend=BackendSettings(url=self.url))
            home.make_home(root, settings, self.first.repository, verdict)
            made.append(root)
        self.homes += made
        return made

    def store(self, run: str, artifacts: Iterable[str]) -> None:
        """Store a run with these artifacts, each with bytes of its own."""
        folder = self.root / f"run-{run}"
        for each in artifacts:
            model(folder / each, f"weights of {each}")
        with Repository.open(self.homes[0]) as repository:
            staged = repository.home.staging / run
            folder.rename(staged)
            (staged / "_SUCCESS").touch()
            engine = repository.engine()
            engine.scan_once()
            engine.close()

    def versions(self, experiment: str = "churn") -> list[Version]:
        """Return what is registered, as a home sees it that has seen nothing."""
        [root] = self.join()
        with Repository.open(root) as repository:
            return repository.versions(experiment)

    def requests(self) -> int:
        """Return how many requests there were since this was asked last."""
        count = len(self.proxy.requests)
        self.proxy.requests.clear()
        return count


@contextlib.contextmanager
def hosts(server: Server, url: str, count: int) -> Iterator[Fleet]:
    """Yield so many hosts that reach a store of this server through a proxy."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Proxy(server.port) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        env = {
            name: value.replace(server.endpoint, proxy.endpoint)
            for name, value in server.env.items()
        }
        for name, value in env.items():
            patch.setenv(name, value)
        root = Path(folder)
        begun, _ = Repository.init(root / "home-0", backend=url)
        begun.close()
        fleet = Fleet(url, env, proxy, root, begun.home, [root / "home-0"])
        fleet.join(count - 1)
        yield fleet
