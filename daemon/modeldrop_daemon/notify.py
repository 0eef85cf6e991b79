"""What the service manager is told: sd_notify(3), which is a datagram to a socket.

Where no manager listens nothing is sent, and a manager that can't be reached is no error of the
service's: it goes on.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final, Self

from modeldrop.names import printable

_log = logging.getLogger(__name__)

# A manager that is stopped in a debugger must not stop the service with it.
_SEND_TIMEOUT: Final = 1.0
_MICRO: Final = 1_000_000


class Notifier:
    """Tells the service manager where the service stands. Not for several threads."""

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        """Tell the socket at `address`; `watchdog` is the manager's patience in seconds."""
        self._address = _socket_address(address)
        self._status = ""
        self.watchdog = watchdog
        """The seconds after which the manager gives a silent service up; None if never."""

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """Return a notifier for what the manager has put there, and take that away.

        A child of the service must not speak in its name.
        """
        address = environ.pop("NOTIFY_SOCKET", None)
        microseconds = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", str(os.getpid()))
        wanted = microseconds.isdigit() and int(microseconds) > 0 and pid == str(os.getpid())
        return cls(address, int(microseconds) / _MICRO if wanted else None)

    def ready(self, status: str) -> None:
        """Say that the service is up, or that it has reloaded its settings."""
        self._status = status
        self._send("READY=1", f"STATUS={printable(status)}")

    def status(self, status: str) -> None:
        """Say in a line what the service does; only what is new is sent."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={printable(status)}")

    def alive(self) -> None:
        """Say that the loop turns."""
        if self.watchdog is not None:
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the settings are read again; `ready` ends it."""
        # The time tells a `notify-reload` manager (systemd 253 and later) which reload it is.
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}")

    def stopping(self, status: str) -> None:
        """Say that the service is on its way out."""
        self._status = status
        self._send("STOPPING=1", f"STATUS={printable(status)}")

    def extend(self, seconds: float) -> None:
        """Ask for so much more time to start or to stop, from now on."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICRO)}")

    def _send(self, *assignments: str) -> None:
        if self._address is None:
            return
        message = "\n".join(assignments).encode("utf-8", "backslashreplace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_SEND_TIMEOUT)
                sender.sendto(message, self._address)
        except OSError as error:
            _log.debug("the service manager can't be told: %s", error)


def _socket_address(address: str | None) -> str | bytes | None:
    """Return where to send to; a name after `@` is in the abstract namespace of Linux."""
    if address and address.startswith("@"):
        return b"\0" + os.fsencode(address[1:])
    # systemd 254 and later may name a vsock, for virtual machines; nobody else listens there.
    return address if address and address.startswith("/") else None
