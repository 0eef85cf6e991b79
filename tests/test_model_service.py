"""The service, over random histories of staging: each state that was complete, once, as it was.

Files appear, grow, are rewritten, renamed and removed, folders arrive whole and are replaced;
events are told or lost; the backend goes away; the service is killed and started again. Folder,
leases and backend are real, time and threads go on as the test says. The model is what stands in
each run, and since when.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from modeldrop.errors import BackendError
from modeldrop.intake import lease, settling, storing, together, walk
from modeldrop.intake.agenda import EVENTS, Tracked
from modeldrop.intake.drops import Drop
from modeldrop.intake.requests import IGNORE, RETRY, ask
from modeldrop.intake.scanning import Scanner
from modeldrop.intake.settling import State
from modeldrop.names import MARKER, RECEIPT, new_guid
from modeldrop.records import Revision
from modeldrop.settings import ServiceSettings
from support.behaviours import Plan, is_red, play, play_long
from support.clockwork import wind_up
from support.dying import Died, dying
from support.intake import content
from support.lossy import Lossy, begin_store, join, open_host, unhurried

# A busy machine takes long, and stops now and then.
pytestmark = pytest.mark.timeout(300)

PLAN: Final = Plan(histories=120, steps=25)
LONG: Final = Plan(histories=3000, steps=60)

SETTINGS: Final = ServiceSettings(revision_interval=60.0, retry_most=30.0, reserve=0)
RUNS: Final = st.integers(0, 2)
NAMES: Final = st.sampled_from(["model", "weights/shard-1", "weights/shard-2"])
TOLD: Final = st.booleans()
PAUSES: Final = st.sampled_from([0.1, 1.0, 4.0, 6.0, 31.0, 100.0])
# Within this the service may begin with what it has seen, without asking for writers again.
FRESH: Final = 1.5


@dataclass
class Run:
    """What a run is by the model."""

    guid: str
    files: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, float] = field(default_factory=dict)
    """When each of its files was written last."""
    touched_at: float = 0.0
    """When anything of it changed last."""
    writer: BinaryIO | None = None
    writes_since: float = 0.0
    temporary: bool = False
    marker: str | None = None
    """What its marker says: nothing, or a digest that is wrong."""
    is_marked: bool = False
    """Whether its marker is newer than what was stored last."""
    is_whole: bool = False
    """Whether it arrived whole, as the service was told, and is as it was then."""
    ignored: bool = False
    stored: list[dict[str, bytes]] = field(default_factory=list)
    stored_at: float = 0.0
    before: Run | None = None
    """What it was when it was looked at for the last time, where it changed right after that."""

    @property
    def is_wrong(self) -> bool:
        """Whether its marker has another digest than a file."""
        return bool(self.marker) and "model" in self.files

    @property
    def quiet_since(self) -> float:
        """Since when nothing of it has changed that is there: what came and went nobody saw."""
        return max(self.written[name] for name in self.files)

    @property
    def is_quiet_after(self) -> float:
        """For how long nothing of it may have changed when it is stored."""
        is_empty = any(not data for data in self.files.values())
        return SETTINGS.quiet_time_without_lease if is_empty else SETTINGS.quiet_time


class Histories(RuleBasedStateMachine):
    """One home, three runs, and the service that looks after them."""

    def __init__(self) -> None:
        """Begin with an empty staging folder."""
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        unhurried(self.patch)
        self.clock, self.lanes = wind_up(self.patch)
        self.luck = random.Random(0)
        self.patch.setattr("modeldrop.intake.dispatch.random.random", self.luck.random)
        self.store = self.root / "store"
        join(self.root / "home", self.store, begin_store(self.store))
        config = self.root / "home" / "config.toml"
        config.write_text(
            f"{config.read_text()}\n[service]\nrevision_interval = 60.0\nretry_most = 30.0\n"
            "reserve = 0\n"
        )
        self.runs = [Run(new_guid()) for _ in range(3)]
        self.written = 0
        self.meanwhile: tuple[str, Callable[[Run], object]] | None = None
        for module in (storing, together):
            self.patch.setattr(module, "check_unchanged", self.last_look(module.check_unchanged))
        self.patch.setattr(walk, "open_file", self.reading(walk.open_file))

    @initialize(watcher=st.sampled_from([EVENTS, "none"]), together=st.booleans())
    def begin(self, watcher: str, together: bool) -> None:
        """Start the service, with the kernel's events or without."""
        self.watcher = watcher
        self.patch.setattr(storing.Storing, "shares_waits", together)
        self.start()

    def start(self) -> None:
        """Start the service, as another process."""
        self.repository = open_host(self.root / "home", Lossy(self.store))
        assert self.repository.home.config.service == SETTINGS
        self.staging = self.repository.home.staging
        try:
            self.engine = self.repository.engine()
        except BackendError:
            # Without a backend it doesn't start.
            self.bring_back()
            self.engine = self.repository.engine()
        self.engine.watcher = self.watcher
        self.engine.recover()

    def teardown(self) -> None:
        try:
            self.everything_complete_is_stored_in_the_end()
        finally:
            for run in self.runs:
                if run.writer is not None:
                    run.writer.close()
            self.patch.undo()
            shutil.rmtree(self.root)

    # What programs and people do in staging

    def place(self, run: Run, name: str = "") -> Path:
        """Return where something of a run is."""
        return self.staging / run.guid / name

    def fresh(self) -> bytes:
        """Return bytes of a length that no file had before."""
        self.written += 1
        return f"{self.written}".encode().ljust(10 + self.written, b".")

    def changed(self, run: Run, *names: str, told: bool) -> None:
        """Take note that files of a run changed, and tell of it, or not."""
        run.written.update(dict.fromkeys(names, self.clock.passed))
        run.touched_at, run.is_whole = self.clock.passed, False
        if told:
            self.engine.hint(run.guid)

    @rule(number=RUNS, name=NAMES, told=TOLD, how=st.sampled_from(["new", "append", "empty"]))
    def write(self, number: int, name: str, told: bool, how: str) -> None:
        """Write a file, write more to it, or only create it."""
        run = self.runs[number]
        data = b"" if how == "empty" else self.fresh()
        if how == "append":
            data = run.files.get(name, b"") + data
        path = self.place(run, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        run.files[name] = data
        self.changed(run, name, told=told)

    @rule(number=RUNS, name=NAMES, told=TOLD)
    def rename_in(self, number: int, name: str, told: bool) -> None:
        """Put a file there by renaming it over what is there."""
        run, data = self.runs[number], self.fresh()
        aside = self.root / "aside"
        aside.write_bytes(data)
        self.place(run, name).parent.mkdir(parents=True, exist_ok=True)
        self.let_go(run, name)
        aside.rename(self.place(run, name))
        run.files[name] = data
        self.changed(run, name, told=told)

    @precondition(lambda self: any(run.files for run in self.runs))
    @rule(number=RUNS, told=TOLD)
    def remove(self, number: int, told: bool) -> None:
        """Remove a file, if there is one."""
        run = self.runs[number]
        if run.files:
            name = min(run.files)
            self.let_go(run, name)
            self.place(run, name).unlink()
            del run.files[name]
            self.changed(run, told=told)

    @rule(number=RUNS, told=TOLD)
    def remove_all(self, number: int, told: bool) -> None:
        """Remove the run's folder."""
        run = self.runs[number]
        if self.place(run).is_dir():
            self.empty(run)
            self.changed(run, told=told)

    def let_go(self, run: Run, name: str) -> None:
        """Have nobody write to a file that goes."""
        if run.writer is not None and Path(run.writer.name) == self.place(run, name):
            run.writer.close()
            run.writer = None

    def empty(self, run: Run) -> None:
        """Leave nothing of a run in staging."""
        if run.writer is not None:
            run.writer.close()
        shutil.rmtree(self.place(run))
        run.files, run.writer, run.temporary = {}, None, False
        run.marker, run.is_marked = None, False

    @rule(number=RUNS, told=TOLD)
    def arrive_whole(self, number: int, told: bool) -> None:
        """Move a whole folder in, in place of the one that may be there."""
        run = self.runs[number]
        if run.ignored or len(self.lanes):
            return
        if self.place(run).is_dir():
            self.empty(run)
        files = {"model": self.fresh(), "weights/shard-1": self.fresh()}
        aside = self.root / "aside-run"
        for name, data in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(data)
        aside.rename(self.place(run))
        run.files = files
        self.changed(run, *files, told=False)
        if told:
            self.engine.hint(run.guid, whole=True)
            run.is_whole = True
            self.engine.turn()

    @rule(number=RUNS, told=TOLD, there=st.booleans())
    def leave_temporary(self, number: int, told: bool, there: bool) -> None:
        """Make a temporary file, or take it away."""
        run = self.runs[number]
        if there == run.temporary or not self.place(run).is_dir():
            return
        path = self.place(run, "model.part")
        path.write_bytes(b"half") if there else path.unlink()
        run.temporary, run.touched_at = there, self.clock.passed
        if told:
            self.engine.hint(run.guid)

    @rule(number=RUNS, told=TOLD, wrong=st.booleans())
    def mark(self, number: int, told: bool, wrong: bool) -> None:
        """Say that a run is complete, perhaps with a digest that isn't its file's."""
        run = self.runs[number]
        if not self.place(run).is_dir():
            return
        if wrong and "model" not in run.files:
            self.write(number, "model", told, "new")
        # Longer each time, as files are.
        run.marker = f"{hashlib.sha256(self.fresh()).hexdigest()}  model\n" if wrong else ""
        text = run.marker or "".join(f"{name}\n" for name in sorted(run.files))
        self.place(run, MARKER).write_text(text + "\n" * self.written)
        self.changed(run, told=told)
        run.is_marked = True

    @rule(number=RUNS)
    def open_for_writing(self, number: int) -> None:
        """Write a file, and keep it open."""
        run = self.runs[number]
        if run.writer is None:
            self.write(number, "model", False, "new")
            run.writer = self.place(run, "model").open("ab", buffering=0)
            run.writes_since = self.clock.passed

    @rule(number=RUNS, writes=st.booleans(), told=TOLD)
    def close(self, number: int, writes: bool, told: bool) -> None:
        """Close a file that is open, after a last write or without one."""
        run = self.runs[number]
        if run.writer is None:
            return
        if writes:
            data = self.fresh()
            run.writer.write(data)
            name = str(Path(run.writer.name).relative_to(self.place(run)))
            run.files[name] += data
            self.changed(run, name, told=False)
        run.writer.close()
        run.writer = None
        if told:
            self.engine.hint(run.guid)

    # In the middle of storing

    @rule(
        point=st.sampled_from(["read", "last look", "after"]),
        number=RUNS,
        name=NAMES,
        told=TOLD,
        seconds=PAUSES,
    )
    def write_while_it_is_stored(
        self, point: str, number: int, name: str, told: bool, seconds: float
    ) -> None:
        """Have a run written, and once more when the service is at a point of storing one."""
        self.write(number, name, told, "new")

        def write(run: Run) -> None:
            at = self.runs.index(run)
            if point == "after":
                run.before = replace(run, files={**run.files}, written={**run.written})
            self.write(at, name, told, "new")

        self.meanwhile = (point, write)
        self.wait(seconds)
        self.meanwhile = None

    def reach(self, point: str, guid: str) -> None:
        """Be at a point of storing a run."""
        if self.meanwhile is not None and self.meanwhile[0] == point:
            _, then = self.meanwhile
            self.meanwhile = None
            then(next(run for run in self.runs if run.guid == guid))

    def last_look(self, real: Callable[[Drop], float]) -> Callable[[Drop], float]:
        """Return what looks at a run for the last time, with its two points."""

        def check(drop: Drop) -> float:
            self.reach("last look", drop.run)
            found = real(drop)
            self.reach("after", drop.run)
            return found

        return check

    def reading(self, real: Callable[..., int]) -> Callable[..., int]:
        """Return what opens a file of a run, with the point that comes after it."""

        def open_file(staging: Path, name: str, path: str, *more: Any) -> int:  # noqa: ANN401 - as it is
            fd = real(staging, name, path, *more)
            self.reach("read", name)
            return fd

        return open_file

    # What the service meets

    @rule(seconds=PAUSES)
    def wait(self, seconds: float) -> None:
        """Let time pass; the service does what is due, and its threads what they are given."""
        until = self.clock.passed + seconds
        while True:
            pause = self.engine.turn()
            if len(self.lanes):
                self.lanes.run_next()
                self.check_what_was_stored()
                continue
            if self.clock.passed + pause > until:
                break
            self.clock.passed += max(pause, 0.001)
        self.clock.passed = until

    @rule()
    def look_and_begin(self) -> None:
        """Have the service do what is due, and its threads nothing yet."""
        self.engine.turn()

    @rule(told=TOLD)
    def doubt(self, told: bool) -> None:
        """Tell the service that something may have changed, or that which has."""
        for run in self.runs if told else ():
            self.engine.hint(run.guid)
        if not told:
            self.engine.hint()

    @rule(after=st.integers(0, 120), seconds=PAUSES)
    def kill(self, after: int, seconds: float) -> None:
        """Have the service die at a change of the file system, and start it again."""
        with contextlib.suppress(Died), dying(after) as mortal:
            until = self.clock.passed + seconds
            while self.clock.passed < until and not mortal.is_dead:
                pause = self.engine.turn()
                if len(self.lanes):
                    self.lanes.run_next()
                else:
                    self.clock.passed += max(pause, 0.001)
        self.lanes.forget()
        self.start()
        self.check_what_was_stored(when_it_was_is_known=False)

    @rule()
    def restart(self) -> None:
        """End the service as SIGTERM does, and start it again."""
        self.engine.drain(0.0)
        self.engine.close()
        self.lanes.forget()
        self.start()

    @rule(back=st.booleans())
    def backend(self, back: bool) -> None:
        """Have the backend go away, or come back."""
        if back:
            self.bring_back()
        elif self.store.is_dir():
            self.store.rename(self.root / "away")

    def bring_back(self) -> None:
        """Have the backend there."""
        if not self.store.is_dir():
            (self.root / "away").rename(self.store)

    @rule(number=RUNS, action=st.sampled_from([IGNORE, RETRY]))
    def ask_of_a_run(self, number: int, action: str) -> None:
        """Ask the service to leave a run alone, or to try it again."""
        run = self.runs[number]
        if self.place(run).is_dir():
            ask(self.repository.home, action, run.guid)
            self.engine.turn()
            run.ignored = action == IGNORE

    # What holds

    def tracked(self, run: Run) -> Tracked | None:
        """Return what the service knows of a run."""
        return self.engine._roster.runs.get(run.guid)

    def revisions(self, run: Run) -> list[Revision]:
        """Return the revisions that a run has."""
        store = self.store if self.store.is_dir() else self.root / "away"
        folder = store / run.guid / "revisions"
        found = sorted(each for each in folder.glob("*.json") if each.name[0] != ".")
        return [Revision.from_bytes(each.read_bytes(), str(each)) for each in found]

    def check_what_was_stored(self, *, when_it_was_is_known: bool = True) -> None:
        """Hold each new revision against what its run was.

        A service that dies right after may not know when it was, and the next revision comes early.
        """
        for run in self.runs:
            found = self.revisions(run)
            assert [each.revision for each in found] == list(range(1, len(found) + 1))
            before, run.before = run.before, None
            assert len(found) <= len(run.stored) + 1, "more than one revision at a time"
            for revision in found[len(run.stored) :]:
                stored = content(self.repository, revision)
                was = before if before is not None else run
                self.check_complete(was, stored)
                last = run.stored[-1] if run.stored else {}
                assert not holds(last, stored), "the same content twice"
                run.stored.append(stored)
                run.stored_at = self.clock.passed if when_it_was_is_known else float("-inf")
                run.is_marked = False

    def check_complete(self, run: Run, stored: dict[str, bytes]) -> None:
        """Assert that what was stored is a run as it was when it was complete."""
        assert stored == run.files, "other bytes than were there"
        assert not run.temporary
        assert not run.is_wrong, "a marker with another digest"
        assert run.writer is None or self.clock.passed - run.writes_since < FRESH
        if run.is_marked or run.is_whole:
            return
        assert self.clock.passed - run.quiet_since >= run.is_quiet_after - 0.01, "too early"
        if run.stored:
            assert self.clock.passed - run.stored_at >= SETTINGS.revision_interval - 0.01

    @invariant()
    def parked_only_with_a_reason(self) -> None:
        """Nothing needs a person but what a person has done."""
        for run in self.runs if hasattr(self, "engine") else ():
            tracked = self.tracked(run)
            if tracked is None:
                continue
            is_seen = tracked.looked_at > self.clock.monotonic_at(run.touched_at)
            if tracked.state is State.PARKED and is_seen:
                assert tracked.reason
                assert run.marker
            if tracked.state is State.IGNORED:
                assert run.ignored

    @invariant()
    def nothing_of_staging_is_touched(self) -> None:
        """What was dropped is as it was, but for the receipt."""
        for run in self.runs if hasattr(self, "engine") else ():
            there = {
                str(path.relative_to(self.place(run))): path.read_bytes()
                for path in self.place(run).rglob("*")
                if path.is_file() and path.name not in {RECEIPT, MARKER, "model.part"}
            }
            assert there == run.files

    def everything_complete_is_stored_in_the_end(self) -> None:
        """Have all that holds a run up end, and time pass; nothing is told any more."""
        self.bring_back()
        for number, run in enumerate(self.runs):
            self.close(number, False, False)
            self.leave_temporary(number, False, False)
            if run.marker is not None:
                self.mark(number, False, False)
            self.ask_of_a_run(number, RETRY)
        for _ in range(10):
            self.wait(100.0)
            if all(self.is_stored(run) for run in self.runs):
                break
        for run in self.runs:
            assert self.is_stored(run), (run, self.tracked(run))
        assert self.repository.verify(deep=True).ok

    def is_stored(self, run: Run) -> bool:
        """Return whether what a run is now is stored, and the service knows it."""
        if not run.files:
            return True
        tracked = self.tracked(run)
        is_done = tracked is not None and tracked.state is State.COMMITTED
        return is_done and bool(run.stored) and holds(run.stored[-1], run.files)


def holds(one: dict[str, bytes], other: dict[str, bytes]) -> bool:
    """Return whether every artifact of the other content is in one as it is there."""

    def artifacts(of: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
        found: dict[str, dict[str, bytes]] = {}
        for path, data in of.items():
            found.setdefault(path.partition("/")[0], {})[path] = data
        return found

    return artifacts(other).items() <= artifacts(one).items()


@pytest.fixture(autouse=True)
def _leases() -> Iterator[None]:
    before = signal.getsignal(signal.SIGIO)
    lease.prepare()
    yield
    signal.signal(signal.SIGIO, before)


@pytest.mark.slow
def test_what_is_complete_is_stored_once_as_it_was_and_nothing_is_forgotten() -> None:
    play(Histories, PLAN)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_same_for_a_long_time() -> None:
    play_long(Histories, LONG)


def test_without_the_quiet_time_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = tuple(each for each in settling._RULES if each is not settling._not_quiet)
    monkeypatch.setattr(settling, "_RULES", rules)
    is_red(Histories, PLAN)


def test_without_asking_for_writers_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "probe", lambda _: lease.Writers.NONE)
    is_red(Histories, PLAN)


def test_without_the_last_look_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (storing, together):
        monkeypatch.setattr(module, "check_unchanged", lambda _: 0.0)
    is_red(Histories, PLAN)


def test_if_nothing_is_scanned_it_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("polls", "sweeps"):
        monkeypatch.setattr(Scanner, name, lambda *_: False)
    monkeypatch.setattr(Scanner, "next_due", lambda *_: float("inf"))
    is_red(Histories, PLAN)
