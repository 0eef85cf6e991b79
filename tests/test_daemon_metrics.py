"""Metrics: scraped from a real service, as Prometheus would."""

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import modeldrop
from modeldrop.errors import ConfigError
from modeldrop.intake import Summary, WatcherStatus
from modeldrop_daemon.metrics import Address, Metrics, Reading, address_of
from support.service import Home, Service
from support.waiting import comes_true

Samples = dict[tuple[str, str], float]

ANY_PORT = "127.0.0.1:0"
DOCS = Path(__file__).parents[1] / "docs/metrics.md"


MakeHome = Callable[..., Home]


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[MakeHome]:
    with contextlib.ExitStack() as stack:

        def make(**settings: object) -> Home:
            home = Home(tmp_path, **settings)
            stack.callback(home.close)
            return home

        yield make


def url_of(service: Service, times: int = 1) -> str:
    """Return the address that the service logged last."""
    pattern = r"metrics are at (http://[^ \"]+)"
    assert comes_true(lambda: len(re.findall(pattern, service.log)) >= times), service.log
    return str(re.findall(pattern, service.log)[-1])


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - http, and our own
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text: str = answer.read().decode()
    return text


def scrape(url: str) -> Samples:
    """Return the samples by name and their only label's value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(fetch(url))
        for sample in family.samples
    }


def comes_to(url: str, name: str, value: float, label: str = "") -> bool:
    return comes_true(lambda: scrape(url).get((name, label)) == value)


def is_refused(url: str) -> bool:
    try:
        fetch(url)
    except (urllib.error.URLError, ConnectionError):
        return True
    return False


# What is told


def test_scrape_tells_what_the_service_does(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT, most_files=1)
    (home.staging / "no-guid").mkdir()
    service = home.start_ready()
    url = url_of(service)

    run = home.drop_whole(b"x" * 1000)
    assert home.is_committed(run)
    parked = home.drop(b"1", "a/1")
    (home.staging / parked / "a/2").write_bytes(b"2")

    assert comes_to(url, "modeldrop_runs", 1, "committed")
    assert comes_to(url, "modeldrop_runs", 1, "parked")
    found = scrape(url)
    assert found["modeldrop_runs", "uploading"] == 0
    assert found["modeldrop_committed_revisions_total", ""] == 1
    assert found["modeldrop_sent_bytes_total", ""] == 1000
    assert found["modeldrop_junk_entries", ""] == 1
    assert found["modeldrop_queued_runs", ""] == 0
    assert found["modeldrop_backend_up", ""] == 1
    assert found["modeldrop_watcher_up", ""] == 1
    assert found["modeldrop_watcher_overflows_total", ""] == 0
    assert found["modeldrop_scans_total", ""] >= 1
    assert found["modeldrop_hooks_total", "committed"] == 0
    assert found["modeldrop_build_info", modeldrop.__version__] == 1
    assert found["process_resident_memory_bytes", ""] > 0
    # There is no end to runs, so none is a label.
    assert run not in fetch(url)


def test_backend_that_is_away_is_told_while_it_is_waited_for(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT)
    away = home.root / "away"
    away.touch()
    twist = f"""
import pathlib
from modeldrop.errors import BackendUnreachable
from modeldrop.intake import Engine
recover = Engine.recover
def waits(self):
    if pathlib.Path({str(away)!r}).exists():
        raise BackendUnreachable("nobody answers")
    recover(self)
Engine.recover = waits
"""
    service = home.start(twist=twist)
    url = url_of(service)

    assert scrape(url)["modeldrop_backend_up", ""] == 0
    away.unlink()

    assert comes_to(url, "modeldrop_backend_up", 1)


def test_watcher_that_nobody_wants_is_not_told_of(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT, watcher="none")
    service = home.start_ready()

    assert ("modeldrop_watcher_up", "") not in scrape(url_of(service))


def test_hooks_are_counted(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT)
    with (home.root / "config.toml").open("a") as file:
        file.write('[hooks]\ncommitted = ["false"]\n')
    service = home.start_ready()
    url = url_of(service)

    home.drop_whole(b"model")

    assert comes_to(url, "modeldrop_failed_hooks_total", 1, "committed")
    assert scrape(url)["modeldrop_hooks_total", "committed"] == 1


def page() -> str:
    metrics = Metrics(lambda: Reading(Summary(), WatcherStatus("events"), {"parked": 0}))
    metrics.set(Address("127.0.0.1", 0))
    try:
        assert metrics.address is not None
        return fetch(f"http://{metrics.address}/metrics")
    finally:
        metrics.close()


def test_every_metric_is_documented_and_no_other() -> None:
    told = {
        sample.name
        for family in text_string_to_metric_families(page())
        for sample in family.samples
        if sample.name.startswith("modeldrop_")
    }
    # A counter by label that has none yet is a family without samples.
    families = set(re.findall(r"^# TYPE (modeldrop_\w+)", page(), re.MULTILINE))

    documented = set(re.findall(r"^\| `(modeldrop_\w+)", DOCS.read_text(), re.MULTILINE))

    assert told | families == documented


def test_names_keep_to_prometheus_conventions() -> None:
    kinds = dict(re.findall(r"^# TYPE (modeldrop_\w+) (\w+)", page(), re.MULTILINE))

    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total")
    }
    if promtool := shutil.which("promtool"):
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=page(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


# Where


@pytest.mark.parametrize(
    ("setting", "address"),
    [
        ("127.0.0.1:9469", ("127.0.0.1", 9469)),
        ("127.8.9.1:0", ("127.8.9.1", 0)),
        ("localhost:9469", ("127.0.0.1", 9469)),
        ("[::1]:9469", ("::1", 9469)),
    ],
)
def test_loopback_addresses_are_taken(setting: str, address: tuple[str, int]) -> None:
    assert address_of(setting) == address


def test_no_address_is_no_metrics() -> None:
    assert address_of("") is None


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        ("0.0.0.0:9469", "is no loopback address", "put a proxy"),
        ("[::]:9469", "is no loopback address", "put a proxy"),
        ("192.168.1.2:9469", "is no loopback address", "put a proxy"),
        ("example.com:9469", "is no loopback address", "put a proxy"),
        (":9469", "is no loopback address", "put a proxy"),
        ("9469", "has to be an address and a port", "127.0.0.1:9469"),
        ("127.0.0.1:", "has to be an address and a port", "127.0.0.1:9469"),
        ("127.0.0.1:65536", "has to be an address and a port", "127.0.0.1:9469"),
        ("127.0.0.1:²", "has to be an address and a port", "127.0.0.1:9469"),
    ],
)
def test_other_addresses_are_refused_with_what_to_do(setting: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        address_of(setting)

    assert hint in error.value.hint


def test_address_that_others_reach_keeps_the_service_from_starting(make_home: MakeHome) -> None:
    home = make_home(metrics="0.0.0.0:9469")

    service = home.start()

    assert service.wait() == ConfigError.exit_code
    assert "which is no loopback address" in service.log
    assert "put a proxy" in service.log


def test_only_one_page_is_served(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT)
    url = url_of(home.start_ready())

    assert fetch(f"{url}?name=x")
    for other in ("", "other", "metrics/../x", "%2e%2e/config.toml"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(url.removesuffix("metrics") + other)


def test_metrics_on_ipv6_are_served(make_home: MakeHome) -> None:
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    home = make_home(metrics="[::1]:0")

    url = url_of(home.start_ready())

    assert url.startswith("http://[::1]:")
    assert scrape(url)["modeldrop_backend_up", ""] == 1


# Trouble


def test_port_that_is_taken_is_told_and_the_service_goes_on(make_home: MakeHome) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        home = make_home(metrics=f"127.0.0.1:{port}")
        service = home.start_ready()

        assert service.logs(f"there are no metrics: 127.0.0.1:{port}: ")
        assert home.is_committed(home.drop_whole(b"model"))
    # Free again, it is taken at the next reload, though the setting is the same.
    service.signal(1)
    assert scrape(url_of(service))["modeldrop_committed_revisions_total", ""] == 1


def test_slow_scrapers_hold_up_neither_the_service_nor_its_end(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT)
    service = home.start_ready()
    url = url_of(service)
    port = int(url.split(":")[2].partition("/")[0])
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.sendall(b"GET /met")

        assert home.is_committed(home.drop_whole(b"model"))
        # Their time comes to its end, and others are answered again.
        assert comes_true(lambda: not is_refused(url))
        for _ in range(20):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            slow.sendall(b"GET /met")
        assert service.stop() == 0
    assert is_refused(url)


def test_scraper_that_goes_away_leaves_no_trace(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT)
    service = home.start_ready()
    url = url_of(service)
    port = int(url.split(":")[2].partition("/")[0])

    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            gone.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")

    assert scrape(url)["modeldrop_backend_up", ""] == 1
    assert service.stop() == 0
    assert '"level": "error"' not in service.log


# Changes


def test_reload_moves_starts_and_ends_the_endpoint(make_home: MakeHome) -> None:
    home = make_home()
    service = home.start_ready()
    assert "metrics are at" not in service.log

    home.configure(metrics=ANY_PORT)
    service.signal(1)
    first = url_of(service)
    assert scrape(first)
    home.configure(metrics="127.0.0.2:0")
    service.signal(1)
    second = url_of(service, times=2)

    assert second.startswith("http://127.0.0.2:")
    assert scrape(second)
    assert is_refused(first)
    home.configure()
    service.signal(1)
    assert comes_true(lambda: is_refused(second))


def test_reload_with_a_bad_address_keeps_what_was(make_home: MakeHome) -> None:
    home = make_home(metrics=ANY_PORT)
    service = home.start_ready()
    url = url_of(service)

    home.configure(metrics="0.0.0.0:1")
    service.signal(1)

    assert service.logs("the settings are kept as they were")
    assert scrape(url)


def test_nothing_of_prometheus_is_loaded_before_it_is_asked_for() -> None:
    code = (
        "import sys, modeldrop_daemon.service; "
        "print([each for each in sys.modules if 'prometheus' in each or each == 'http.server'])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_end_of_an_endpoint_leaves_no_thread() -> None:
    before = threading.active_count()

    page()

    assert comes_true(lambda: threading.active_count() == before)
