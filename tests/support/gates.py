"""A service that stops at a named point of a transfer, until the test lets it go on.

gate = Gate(tmp_path)
home.start_ready(twist=gate.twist("bytes"))
run = home.drop(...)
assert gate.is_reached()
...                         # the transfer stands still; change what it reads
gate.open()
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from support.waiting import comes_true

Point = Literal["open", "bytes", "sent"]
"""Before the files are opened; after some of the bytes; after all of them."""

# The first attempt alone is held up; each one leaves a line.
_TWIST: Final = """
import pathlib, threading, time
from modeldrop.intake.storing import Storing
from modeldrop.structs import replace
folder = pathlib.Path({folder!r})
store, once = Storing.store, threading.Lock()
def stand(*_):
    if once.acquire(blocking=False):
        (folder / "reached").touch()
        while not (folder / "open").exists():
            time.sleep(0.01)
def gated(self, drop, request, watch):
    with (folder / "attempts").open("a") as file:
        file.write(drop.run + "\\n")
    if {point!r} == "open":
        stand()
    def then(real):
        return lambda *each: (real(*each), stand())
    if {point!r} == "bytes":
        watch = replace(watch, moved=then(watch.moved))
    if {point!r} == "sent":
        watch = replace(watch, verifying=then(watch.verifying))
    return store(self, drop, request, watch)
Storing.store, Storing.shares_waits = gated, False
"""


class Gate:
    """What the test holds of such a service."""

    def __init__(self, folder: Path) -> None:
        """Keep its files in a folder of its own below `folder`."""
        self._folder = folder / "gate"
        self._folder.mkdir()

    def twist(self, point: Point) -> str:
        """Return the `twist` of a service that stops at a point, and counts its attempts."""
        return _TWIST.format(folder=str(self._folder), point=point)

    def is_reached(self) -> bool:
        """Return whether the service comes to stand at the point."""
        return comes_true((self._folder / "reached").exists)

    def open(self) -> None:
        """Let it go on."""
        (self._folder / "open").touch()

    def attempts(self, run: str) -> int:
        """Return how many times it has begun to store a run."""
        return (self._folder / "attempts").read_text().split().count(run)
