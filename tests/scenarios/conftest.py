"""What the scenarios share: homes, the two ways to watch, the two kinds of backend."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from support.service import Home

MakeHome = Callable[..., Home]

# Read before the environment of each test is cleaned.
SOAKS: Final = os.environ.get("MODELDROP_SOAK", "") not in {"", "0"}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what takes minutes, unless it was asked for."""
    if item.get_closest_marker("soak") and not SOAKS:
        pytest.skip("takes minutes; `make soak` runs it")


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[MakeHome]:
    """Make homes whose services end with the test: `make_home(url, **settings)`."""
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


@pytest.fixture(params=["auto", "none"])
def watcher(request: pytest.FixtureRequest) -> str:
    """The setting `watcher`: with the kernel's events, and by scan alone."""
    return str(request.param)


@pytest.fixture(params=["local", "s3"])
def backend(request: pytest.FixtureRequest) -> str:
    """The URL of a new backend: the embedded one, or a bucket on moto."""
    return "" if request.param == "local" else str(request.getfixturevalue("s3_url"))
