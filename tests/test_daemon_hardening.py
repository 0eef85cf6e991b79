"""The service does its work under what the system unit takes from it, as far as that can be had.

Here no systemd runs as the first process, so its file systems of the service's own are not tried.
"""

import ctypes.util
import shutil
from pathlib import Path

import pytest

from modeldrop_daemon import units
from support import hardening
from support.service import Home

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or ctypes.util.find_library("seccomp") is None,
    reason="systemd-analyze or libseccomp is not installed",
)


def filters() -> list[str]:
    lines = units.template("system").splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith("SystemCallFilter=")]


def restricted() -> str:
    names = hardening.allowed(filters())
    path = str(Path(__file__).parent)
    return (
        f"import sys; sys.path.insert(0, {path!r})\n"
        f"from support.hardening import restrict; restrict({names!r})"
    )


def stores_and_stops(home: Home) -> None:
    service = home.start_ready(twist=restricted())
    whole = home.drop_whole(b"model" * 100_000)
    grown = home.drop(b"written in place")
    assert home.is_committed(whole), service.log
    # Only the lease can tell that nobody writes to it any more, so soon.
    assert home.is_committed(grown), service.log
    service.signal(1)
    assert service.logs("the settings were read again")
    assert service.stop() == 0
    assert "events" in service.log
    home.close()


def test_filter_takes_something_from_the_service() -> None:
    names = hardening.allowed(filters())

    assert {"fcntl", "inotify_add_watch", "renameat2", "fsync"} <= set(names)
    assert not {"mount", "ptrace", "setuid", "bpf", "init_module"} & set(names)


def test_stores_on_a_folder_under_the_units_restrictions(tmp_path: Path) -> None:
    stores_and_stops(Home(tmp_path))


def test_stores_on_s3_under_the_units_restrictions(tmp_path: Path, s3_url: str) -> None:
    stores_and_stops(Home(tmp_path, s3_url))


def test_stores_on_azure_under_the_units_restrictions(tmp_path: Path, azure_url: str) -> None:
    stores_and_stops(Home(tmp_path, azure_url))


def test_a_service_that_lacks_a_call_that_it_needs_is_seen(tmp_path: Path) -> None:
    home = Home(tmp_path)
    twist = restricted().replace("'inotify_add_watch', ", "")

    service = home.start(twist=twist)

    assert service.logs("staging can't be watched")
    home.close()
