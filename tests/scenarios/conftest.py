"""Every scenario runs the real service, with the watcher on and with every event suppressed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import Home, MakeHome


@pytest.fixture(params=["auto", "none"])
def watcher(request: pytest.FixtureRequest) -> str:
    """The setting `watcher`: with the kernel's events, and by scan alone."""
    return str(request.param)


@pytest.fixture(params=["local", "s3"])
def backend(request: pytest.FixtureRequest) -> str:
    """The URL of a new backend: the embedded one, or a bucket on moto."""
    return "" if request.param == "local" else str(request.getfixturevalue("s3_url"))


@pytest.fixture
def service_home(
    request: pytest.FixtureRequest, tmp_path: Path, watcher: str
) -> Iterator[MakeHome]:
    """Makes homes whose service is quick, and has these settings besides.

    A test that asks for `backend` as well gets them on that one.
    """
    url = request.getfixturevalue("backend") if "backend" in request.fixturenames else ""
    homes: list[Home] = []

    def make(**settings: object) -> Home:
        folder = tmp_path / f"home-{len(homes)}"
        folder.mkdir()
        homes.append(Home(folder, url, **{"watcher": watcher, **settings}))
        return homes[-1]

    yield make
    for home in homes:
        home.close()
