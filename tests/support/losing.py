"""Plays acts against power losses, in a process of its own that has no threads.

One process records an act, and then a process for each state that may be left opens that and
checks it. `play` is called through `children`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from modeldrop import disk, files
from support import powerloss
from support.acts import ACTS
from support.acts.world import HOME, Act, go_elsewhere, make_elsewhere, setup
from support.powerloss import Key, Left, Losses
from support.recording import Killed, Recorder, Recording, Synced
from support.waits import waits as every_wait
from support.waits import without

# SQLite writes by itself, and what it writes may be removed at any time.
_DISPOSABLE: Final = f"{HOME}/index"
ALONE: Final = "alone"
WHOLE: Final = "whole"
KILLED: Final = "killed"
OTHER: Final = "other"
"""How an act is done: on a disk that each file is waited for alone; on one that is waited for as a
whole; by a process that goes on with what a killed one has begun; or by one that does so in
another home on the same backend."""

# Of so many states each is checked; of more, some.
_MOST: Final = 60
# How many states are tried at most to find one that is wrong.
_TRIES: Final = 500
# Seconds; what takes so long waits for something that never comes.
_LONGEST: Final = 300.0


def apart(action: Callable[[], object]) -> Any:  # noqa: ANN401 - whatever the action returns
    """Return what an action returns in a process of its own; what it raises is raised here."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        signal.setitimer(signal.ITIMER_REAL, _LONGEST)
        try:
            answer = pickle.dumps((None, action()))
        except BaseException:  # noqa: BLE001 - it is told by the parent
            answer = pickle.dumps((traceback.format_exc(), None))
        with open(writer, "wb") as file:
            file.write(answer)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(pid, 0)
    if not answer:
        raise Broken(f"the process ended with {status}")
    trouble, returned = pickle.loads(answer)  # noqa: S301 - of our own child
    if trouble is not None:
        raise Broken(trouble)
    return returned


class Broken(Exception):
    """What was done in a process of its own has failed; the message is its trace."""


class Player:
    """One act, recorded, with what a power loss may leave of it."""

    def __init__(self, name: str, mode: str, folder: Path) -> None:
        """Record it as it is done by itself; `mode` is one of those above."""
        self.act: Act = ACTS[name]
        self.root = folder / "world"
        self.mode = mode
        self.root.mkdir(parents=True)
        apart(self._begin)
        self.recording: Recording = apart(lambda: self._record(None))
        found = powerloss.there(self.root)
        recorded = {
            path: content
            for path, content in powerloss.final(self.recording).tree.items()
            if not path.startswith(_DISPOSABLE)
        }
        # Whoever writes past the recorder is found so.
        assert recorded == {k: v for k, v in found.items() if not k.startswith(_DISPOSABLE)}
        self.kept = [each.parent for each in sorted(self.root.glob("*/home.json"))]

    def _begin(self) -> None:
        _wait_for_nothing()
        setup()
        self.act.begin(self.root)
        if self.mode == OTHER:
            make_elsewhere(self.root)

    def _record(self, left: int | None) -> Recording:
        setup()
        recorder = Recorder(self.root)
        recorder.install(whole=self.mode == WHOLE)
        if left is not None:
            recorder.left = left
            with contextlib.suppress(Killed):
                (self.act.dies or self.act.do)(self.root, recorder.say)
                raise Lived
            recorder.left, recorder.dead, recorder.begun = None, False, len(recorder.events)
            if self.mode == OTHER:
                go_elsewhere()
        self.act.do(self.root, recorder.say)
        return recorder.recording()

    def recordings(self) -> Iterator[Recording]:
        """Yield the recordings of its mode.

        Where a process is killed, that is before each of its waits for the disk in turn.
        """
        if self.mode in {ALONE, WHOLE}:
            yield self.recording
            return
        for number in itertools.count():
            powerloss.put_back(powerloss.first(self.recording), self.root, self.kept)
            found: Recording | None = apart(lambda: self._record_killed(number))  # noqa: B023 - called at once
            if found is None:
                return
            yield found

    def _record_killed(self, number: int) -> Recording | None:
        try:
            return self._record(number)
        except Lived:
            return None

    def check(self, left: Left) -> str | None:
        """Return what is wrong with a state; None if nothing is."""
        powerloss.put_back(left, self.root, self.kept)

        def check() -> None:
            _wait_for_nothing()
            setup()
            if self.mode == OTHER:
                go_elsewhere()
            self.act.check(self.root, left.recording.told(left.at))

        try:
            apart(check)
        except Broken as error:
            return f"{powerloss.told(left)}\n{error}"
        return None

    def red(
        self, recording: Recording, without: Callable[[Synced], bool], most: int
    ) -> tuple[str | None, int]:
        """Return what is wrong first when some waits are left out, and after how many checks."""
        whole = Losses(recording)
        # What the caller was told most of, with least lost, tells soonest.
        states = once(Losses(recording, without).beyond(whole))
        new = [each for each in states.values() if each.at >= recording.begun]
        new.sort(key=lambda each: (-each.told, len(each.lost)))
        spread = new[:: max(1, len(new) // most)]
        order = [each for pair in zip(new, spread, strict=False) for each in pair][:most]
        for number, left in enumerate(order, 1):
            wrong = self.check(left)
            if wrong is not None:
                return wrong, number
        return None, len(order)


class Lived(Exception):
    """It was to be killed, and came to its end before."""


def once(every: Iterable[Left]) -> dict[Key, Left]:
    """Return each state once, with as many answers as the caller may have had by then."""
    found: dict[Key, Left] = {}
    for left in every:
        key = left.key()
        known = found.get(key)
        if known is None or known.told < left.told:
            found[key] = left
    return found


def _some(every: list[Left]) -> list[Left]:
    """Return a part of them, from all over, and the same ones each time."""
    return every[:: -(-len(every) // _MOST)] if every else every


def _wait_for_nothing() -> None:
    """Have this process wait for no disk: it doesn't lose its power."""

    def wait(fd: object) -> None:
        pass

    os.fsync = os.fdatasync = wait


# In a process of its own


def play(name: str, mode: str, folder: str) -> tuple[int, list[str]]:
    """Check what may be left of an act; return how many states there were, and what is wrong."""
    player = Player(name, mode, Path(folder))
    every: list[Left] = []
    for recording in player.recordings():
        losses = Losses(recording)
        every += losses.all() if mode in {ALONE, WHOLE} else losses.answered()
        every = [*once(every).values()]
    states = _some(every)
    return len(states), [wrong for each in states if (wrong := player.check(each))]


def play_without(name: str, mode: str, folder: str, waits: list[str]) -> tuple[int, list[str]]:
    """Return how many states were checked until one was wrong without each of these waits.

    And those of them without which none is.
    """
    player = Player(name, mode, Path(folder))
    recordings = list(player.recordings())
    checked, green = 0, []
    for wait in waits:
        for recording in recordings:
            wrong, count = player.red(recording, without(wait), _TRIES)
            checked += count
            if wrong:
                break
        else:
            green.append(wait)
    return checked, green


LEFT_OUT: Final = "modeldrop/files.py: create_durable: disk.sync_folder"


def record_promotion(folder: str, left_out: int) -> list[str]:
    """Record a promotion, with a line of the product taken out; return its events."""
    real = files.create_durable
    if left_out:

        def without_a_wait(*arguments: object) -> bool:
            sync = disk.sync_folder
            disk.sync_folder = lambda path: None  # noqa: ARG005 - whatever the folder
            try:
                return real(*arguments)  # type: ignore[arg-type] # as it was called
            finally:
                disk.sync_folder = sync

        files.create_durable = without_a_wait  # type: ignore[assignment] # the same
    recording = Player("promote", ALONE, Path(folder)).recording
    wait = every_wait()[LEFT_OUT]
    return [
        wait.name if isinstance(each, Synced) and wait.is_in(each) else type(each).__name__
        for each in recording.events
    ]
