"""Metrics for Prometheus: whether they are asked for, where, and the endpoint's life.

Nothing of Prometheus' library is loaded before somebody asks for metrics; `exposition` is what is
served. That the endpoint can't be had is said and no more: the models matter more than the
figures about them.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from modeldrop.errors import ConfigError
from modeldrop.intake import Summary, WatcherStatus
from modeldrop.names import printable
from modeldrop.structs import Frozen, field

if TYPE_CHECKING:
    from modeldrop_daemon.exposition import Endpoint

_log = logging.getLogger(__name__)

_MOST_PORT: Final = 65535


class Address(NamedTuple):
    """Where metrics are served: a loopback address and a port, of which 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Reading(Frozen):
    """One moment of the service, which the threads that answer scrapes read."""

    summary: Summary
    watcher: WatcherStatus
    hooks: Mapping[str, int] = field(default_factory=dict)
    """How many hooks were run, by event."""
    failed_hooks: Mapping[str, int] = field(default_factory=dict)
    """How many of them failed, by event."""


def address_of(setting: str) -> Address | None:
    """Return where the setting `metrics` wants them, or None if it is empty.

    Raises:
        ConfigError: it is no address and port, or other machines could reach it.
    """
    if not setting:
        return None
    shown = printable(setting)
    host, colon, port = setting.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and int(port) <= _MOST_PORT):
        message = f"[service] metrics is '{shown}', and has to be an address and a port"
        raise ConfigError(message, hint='write it as `metrics = "127.0.0.1:9469"`')
    # Not resolved: what a name leads to may change, and then so would who can read this.
    name = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        is_loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        message = f"[service] metrics is '{shown}', which is no loopback address"
        raise ConfigError(
            message,
            hint="serve them on 127.0.0.1 or [::1], and put a proxy that asks who is there before "
            "it; there is no password here",
        )
    return Address(name, int(port))


class Metrics:
    """The endpoint for metrics, if there is to be one. For one thread."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        """Serve nothing yet; `read` is called from other threads, and may not wait."""
        self._read = read
        self._address: Address | None = None
        self._endpoint: Endpoint | None = None

    @property
    def address(self) -> Address | None:
        """Where they are served, with the port that was found if any would do; None: nowhere."""
        return self._endpoint.address if self._endpoint is not None else None

    def set(self, address: Address | None) -> None:
        """Serve them there from now on, or nowhere; what is served there already stays."""
        if address == self._address and (self._endpoint is not None or address is None):
            return
        self.close()
        self._address = address
        if address is None:
            return
        from modeldrop_daemon.exposition import Endpoint  # noqa: PLC0415 - only when asked for

        try:
            self._endpoint = Endpoint(address, self._read)
        except (OSError, RuntimeError) as error:
            _log.error(
                "there are no metrics: %s: %s; choose another port in [service] metrics and send "
                "SIGHUP",
                address,
                error,
            )
        else:
            _log.info("metrics are at http://%s/metrics", self.address)

    def close(self) -> None:
        """Serve them no more."""
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
