"""Every scenario runs the real service, with the watcher on and with every event suppressed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import Home, MakeHome


@pytest.fixture(params=["auto", "none"])
def watcher(request: pytest.FixtureRequest) -> str:
    """The setting `watcher`: what holds by events has to hold by scan alone."""
    mode: str = request.param
    return mode


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The URL of the backend: the home's own, or what the test asks for by `on_backends`."""
    if getattr(request, "param", "local") == "s3":
        url: str = request.getfixturevalue("s3_url")
        return url
    return ""


@pytest.fixture
def service_home(tmp_path: Path, watcher: str, backend: str) -> Iterator[MakeHome]:
    """Makes homes whose service is quick, and has these settings besides."""
    homes: list[Home] = []

    def make(**settings: object) -> Home:
        folder = tmp_path / f"home-{len(homes)}" if homes else tmp_path
        folder.mkdir(exist_ok=True)
        homes.append(Home(folder, backend, **{"watcher": watcher, **settings}))
        return homes[-1]

    yield make
    for home in homes:
        home.close()


@pytest.fixture(params=["local", "s3"])
def each_backend(request: pytest.FixtureRequest) -> str:
    """The URL of a new backend: the embedded one, and a bucket on moto."""
    return "" if request.param == "local" else str(request.getfixturevalue("s3_url"))


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[MakeHome]:
    """Make homes with a backend of their own: `make_home(url, **settings)`."""
    homes: list[Home] = []

    def make(url: str = "", /, **settings: object) -> Home:
        folder = tmp_path / f"home-{len(homes)}"
        folder.mkdir()
        home = Home(folder, url, **settings)
        homes.append(home)
        return home

    yield make
    for home in homes:
        home.close()
