"""What Prometheus gets: the figures, made at each scrape, and the server that hands them out.

The only user of prometheus-client. The registry is our own and nothing is counted here: each
scrape reads one immutable moment of the service, so it takes no lock and holds nobody up. No run,
experiment or person is ever a label, since there is no end to them.

A scraper that is slow holds one of a few threads for a few seconds, and nothing else.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, ClassVar, Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from modeldrop import __version__
from modeldrop_daemon.metrics import Address, Reading

_log = logging.getLogger(__name__)

PATH: Final = "/metrics"
# How long a scraper may keep silent, and how many may be answered at a time. Prometheus itself
# gives up after 10 seconds, and there is one of it, or two.
_PATIENCE: Final = 5.0
_MOST_AT_A_TIME: Final = 8
# How long the end of the server may take at most.
_POLL: Final = 0.25


class Figures(Collector):
    """Makes a moment of the service into metrics."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        """Read the moment anew for each scrape."""
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of ours."""
        reading = self._read()
        now, watcher = reading.summary, reading.watcher
        yield InfoMetricFamily(
            "modeldrop_build", "The modeldrop that runs.", value={"version": __version__}
        )
        runs = GaugeMetricFamily("modeldrop_runs", "Runs in staging, by state.", labels=["state"])
        for state, number in now.runs.items():
            runs.add_metric([state], number)
        yield runs
        for name, text, value in (
            ("junk_entries", "Entries of staging that are no run.", now.junk),
            ("queued_runs", "Runs that are complete and wait for their turn.", now.queued),
            (
                "oldest_waiting_seconds",
                "For how long the run waits that waits longest; 0 if none does.",
                now.oldest_waiting,
            ),
            ("last_scan_seconds", "What the last full scan took.", now.scan_seconds),
            (
                "backend_up",
                "1 while the backend answers, 0 while it is waited for.",
                not now.backend,
            ),
        ):
            yield GaugeMetricFamily(f"modeldrop_{name}", text, value=float(value))
        if watcher.state != "none":
            # Where nobody asked for events, that there are none is nothing to be told of.
            yield GaugeMetricFamily(
                "modeldrop_watcher_up",
                "1 while the kernel tells of changes, 0 while staging is polled instead.",
                value=float(watcher.state == "events"),
            )
        for name, text, value in (
            ("committed_revisions", "Revisions committed since the start.", now.committed),
            ("failed_attempts", "Attempts to store a run that failed.", now.failed),
            ("sent_bytes", "Bytes sent to the backend.", now.sent),
            ("scans", "Full scans of staging.", now.scans),
            ("watcher_overflows", "Times that the kernel dropped events.", watcher.overflows),
            ("watcher_rebuilds", "Times that the watch was built anew.", watcher.rebuilds),
        ):
            yield CounterMetricFamily(f"modeldrop_{name}", text, value=value)
        for name, text, numbers in (
            ("hooks", "Hooks that were run, by event.", reading.hooks),
            ("failed_hooks", "Hooks that failed or were ended, by event.", reading.failed_hooks),
        ):
            counter = CounterMetricFamily(f"modeldrop_{name}", text, labels=["event"])
            for event, number in numbers.items():
                counter.add_metric([event], number)
            yield counter


class Endpoint:
    """An HTTP server for metrics on one address, in threads of its own."""

    def __init__(self, address: Address, read: Callable[[], Reading]) -> None:
        """Serve; when this returns, the port is open.

        Raises:
            OSError: the port is taken, or the address isn't one of this machine's.
            RuntimeError: no thread can be started.
        """
        registry = CollectorRegistry()
        registry.register(Figures(read))
        ProcessCollector(registry=registry)
        self._server = _Server(address, registry)
        self.address = Address(address.host, self._server.server_port)
        """Where it is served, with the port that was found if any would do."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="metrics", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            self._server.server_close()
            raise

    def close(self) -> None:
        """End it; who is being answered is not waited for."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    # Closing would else wait for the slowest scraper.
    block_on_close = False

    def __init__(self, address: Address, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._places = threading.BoundedSemaphore(_MOST_AT_A_TIME)
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        super().__init__((address.host, address.port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service for a name that nobody needs.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment] # a text and a number for both families

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in socketserver
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in socketserver
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - as in socketserver
        # Gone, or too slow; a fault of ours shows with --verbose.
        _log.debug("a scrape failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout: ClassVar[float | None] = _PATIENCE

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"Metrics are at {PATH}.")
            return
        encode, kind = choose_encoder(self.headers.get("Accept") or "")
        assert isinstance(self.server, _Server)  # noqa: S101 - nobody else makes one
        page = encode(self.server.registry)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def version_string(self) -> str:
        return "modeldrop"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing: scrapes come every few seconds, for ever."""
