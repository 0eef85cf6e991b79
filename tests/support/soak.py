"""A soak: drops arrive at a random pace while the service is ended again and again.

The whole of it is `make soak`; the tests play seeded samples. What came of it is checked against
what was dropped, not against what the service says.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from modeldrop import Repository
from modeldrop.names import MARKER
from support.service import Home
from support.waiting import comes_true

_MOST_BYTES: Final = 8 << 20
_MOST_FILES: Final = 4
# How far into its life a service is ended, at most: its start takes half of that.
_LATEST_END: Final = 1.2
_PIECES: Final = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played: so many drops, so many ends, by this signal, from this seed."""

    drops: int
    ends: int
    how: signal.Signals
    seed: int

    def __str__(self) -> str:
        """Say it in a line that is enough to play it again."""
        return f"{self.drops} drops, {self.ends} x {self.how.name}, seed {self.seed}"


@dataclass(slots=True)
class Dropper:
    """Drops runs until all are dropped, in a thread of its own."""

    home: Home
    plan: Plan
    dropped: dict[str, dict[str, str]] = field(default_factory=dict)
    """The sha256 of every file, by run and path."""
    failure: BaseException | None = None

    def run(self) -> None:
        """Drop them; that it failed is told by `failure`."""
        luck = random.Random(self.plan.seed)
        # The pace is the writers'; it spreads the drops over all the lives of the service.
        pause = self.plan.ends * (0.5 + _LATEST_END / 2) / self.plan.drops
        try:
            for _ in range(self.plan.drops):
                time.sleep(luck.expovariate(1 / pause))
                self._drop(luck)
        except BaseException as error:
            self.failure = error
            raise

    def _drop(self, luck: random.Random) -> None:
        files = {
            f"{'part/' * luck.randrange(2)}{number}.bin": luck.randbytes(_size(luck))
            for number in range(luck.choice((1, 1, luck.randint(2, _MOST_FILES))))
        }
        run = str(uuid.UUID(int=luck.getrandbits(128), version=4))
        self.dropped[run] = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
        is_whole, is_marked = luck.random() < 0.5, luck.random() < 0.4
        folder = self.home.folder / run if is_whole else self.home.staging / run
        _write_slowly(folder, files, pause=0 if is_whole else luck.uniform(0, 0.05))
        if is_marked:
            (folder / MARKER).touch()
        if is_whole:
            folder.rename(self.home.staging / run)


def _size(luck: random.Random) -> int:
    """Return a size of 1 byte to 8 MiB; small ones are as frequent as in real runs: mostly."""
    return max(int(_MOST_BYTES ** luck.random() ** 1.3), 1)


def _write_slowly(folder: Path, files: dict[str, bytes], pause: float) -> None:
    """Write files piece by piece; all stay open until the last one is complete."""
    with contextlib.ExitStack() as opened:
        streams = {}
        for path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            streams[path] = opened.enter_context((folder / path).open("wb", buffering=0))
        for path, data in files.items():
            step = len(data) // _PIECES + 1
            for start in range(0, len(data), step):
                streams[path].write(data[start : start + step])
                time.sleep(pause)


def play(home: Home, plan: Plan) -> None:
    """Play a plan; when it returns, every drop was committed once, and all that is stored is right.

    Raises:
        AssertionError: it was not so; the message says what.
    """
    luck = random.Random(plan.seed + 1)
    dropper = Dropper(home, plan)
    thread = threading.Thread(target=dropper.run)
    thread.start()
    try:
        for _ in range(plan.ends):
            service = home.start()
            # A random moment of its life, whatever it is at then.
            time.sleep(luck.uniform(0, _LATEST_END))
            assert service.process.poll() is None, f"ended by itself:\n{service.log}"
            service.signal(plan.how)
            code = service.wait()
            # Before it hears signals, SIGTERM ends it as it ends everybody.
            expected = {-plan.how} if plan.how is signal.SIGKILL else {0, -plan.how}
            assert code in expected, f"exit code {code}:\n{service.log}"
    finally:
        thread.join()
    assert dropper.failure is None
    service = home.start_ready()
    for run in dropper.dropped:
        assert home.is_committed(run, timeout=120), f"{run} is not committed"
    assert comes_true(lambda: not home.read_status()["runs"]), home.read_status()["runs"]
    assert service.stop() == 0
    check(home, dropper.dropped)


def check(home: Home, dropped: dict[str, dict[str, str]]) -> None:
    """Assert that each run has one revision, one entry in the journal, and the right bytes."""
    with Repository.open(home.root) as repository:
        entries: dict[str, list[str]] = {}
        for entry in repository.log():
            for about in entry.about:
                entries.setdefault(about, []).append(entry.kind)
        for run, files in dropped.items():
            assert repository.runs_at_backend.last(run) == 1, f"{run} has several revisions"
            revision = repository.runs_at_backend.committed(run)
            stored = {path: file.sha256 for path, file in revision.files().items()}
            assert stored == files, f"{run} was stored with other bytes"
            assert entries.get(f"run:{run}~1") == ["committed"], f"{run} in the journal"
        assert repository.runs_at_backend.open_intents() == []
        report = repository.verify(deep=True)
        assert report.ok, report
