"""When a run is complete: scripted looks, and random histories against an oracle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldrop.intake.lease import Writers
from modeldrop.intake.marker import Marker
from modeldrop.intake.observation import Observation, SeenFile, Signature
from modeldrop.intake.settling import History, Settings, State, Step, Verdict, has_news, judge
from modeldrop.records import Refused

DEFAULT = Settings()


class Run:
    """A run as the world changes it and as the service looks at it: no files, no waiting.

    Every change moves the ctime, so that a signature never comes back, as on a disk. What is
    stored is noted with its time; the clock starts at a time that binary fractions can't hold.
    """

    def __init__(self, rules: Settings = DEFAULT, *, network: bool = False) -> None:
        self.rules = rules
        self.network = network
        self.now = 1_000_000.1
        self.history = History()
        self.files: dict[str, Signature] = {}
        self.temporary: set[str] = set()
        self.refused: tuple[Refused, ...] = ()
        self.unreadable: tuple[Refused, ...] = ()
        self.marker_seen: SeenFile | None = None
        self.marker: Marker | Refused | None = None
        self.writers = Writers.NONE
        self.stored: list[tuple[float, frozenset[str]]] = []
        self.probes = 0
        self._ctime = 0

    def write(self, path: str, size: int = 1, mtime: int = 0) -> None:
        self._ctime += 1
        inode = self.files[path].inode if path in self.files else self._ctime
        self.files[path] = Signature(1, inode, size, mtime, self._ctime)

    def succeed(self, marker: Marker | Refused | None = None) -> None:
        self._ctime += 1
        self.marker_seen = SeenFile("_SUCCESS", Signature(1, self._ctime, 0, 0, self._ctime))
        self.marker = Marker() if marker is None else marker

    def observe(self) -> Observation:
        return Observation(
            files=tuple(SeenFile(path, self.files[path]) for path in sorted(self.files)),
            refused=self.refused,
            temporary=tuple(sorted(self.temporary)),
            marker=self.marker_seen,
            unreadable=self.unreadable,
        )

    def judge(self, writers: Writers | None) -> Verdict:
        verdict = judge(
            self.history,
            self.observe(),
            writers,
            self.now,
            self.rules,
            marker=self.marker,
            network=self.network,
        )
        self.history = verdict.history
        return verdict

    def look(self, after: float = 0.0) -> Verdict:
        """Look as the engine does: probe when told, store when told."""
        self.now += after
        verdict = self.judge(None)
        if verdict.step is Step.PROBE:
            self.probes += 1
            verdict = self.judge(self.writers)
            assert verdict.step is not Step.PROBE
        if verdict.step is Step.STORE:
            self.stored.append((self.now, frozenset(self.files)))
            self.history = self.history.committed_with(self.observe(), self.now)
        return verdict

    def look_when_told(self, most: int = 50) -> Verdict:
        """Look whenever the verdict before says so, until it is committed or says never."""
        verdict = self.look()
        for _ in range(most):
            if verdict.state is State.COMMITTED:
                return verdict
            if verdict.wake_after is None:
                return verdict
            verdict = self.look(verdict.wake_after)
        pytest.fail(f"looks without end: {verdict.reason}")


def test_a_run_is_stored_after_the_quiet_time_once() -> None:
    run = Run()
    run.write("model.pt")
    first = run.look()
    assert (first.state, first.step, first.wake_after) == (State.SETTLING, Step.WAIT, 5.0)
    assert first.reason == "unchanged for 0 s of the 5 s that it takes"
    assert run.look(4.9).step is Step.WAIT
    assert run.probes == 0, "the lease is asked only when all else says yes"
    assert run.look(0.1).step is Step.STORE
    for _ in range(10):
        assert run.look(100).state is State.COMMITTED
    assert len(run.stored) == 1


def test_a_probe_is_asked_for_before_anything_is_stored() -> None:
    run = Run()
    run.write("model.pt")
    run.look()
    run.now += 5
    verdict = run.judge(None)
    assert (verdict.state, verdict.step) == (State.SETTLING, Step.PROBE)
    assert run.judge(Writers.NONE).step is Step.STORE


@pytest.mark.scenario(1)
def test_a_writer_slower_than_any_quiet_time_makes_one_upload_with_all_bytes() -> None:
    run = Run()
    run.writers = Writers.SOME
    for second in range(300):
        run.write("model.pt", size=second + 1)
        assert run.look(1).step is Step.WAIT
    run.writers = Writers.NONE
    run.look_when_told()
    assert len(run.stored) == 1


@pytest.mark.scenario(2)
def test_a_file_held_open_is_not_ready_and_closed_it_is_after_the_quiet_time() -> None:
    run = Run()
    run.write("model.pt")
    run.writers = Writers.SOME
    run.look()
    waited = 0.0
    while waited < 60:
        verdict = run.look(5)
        assert (verdict.state, verdict.step) == (State.SETTLING, Step.WAIT)
        assert verdict.reason.startswith("a program has one of its files open for writing")
        assert verdict.wake_after is not None
        assert 1 <= verdict.wake_after <= 10
        waited += 5
    run.writers = Writers.NONE
    closed = run.now
    run.look_when_told()
    assert [at - closed for at, _ in run.stored] == [pytest.approx(5)]


@pytest.mark.scenario(3)
def test_closed_reopened_after_a_moment_and_appended_makes_one_revision() -> None:
    run = Run()
    run.write("model.pt")
    run.writers = Writers.SOME
    run.look()
    run.look(20)
    run.writers = Writers.NONE
    run.look(1)  # the first look without the writer: it may come back
    run.look(2)
    run.writers = Writers.SOME
    run.look(2)
    run.write("model.pt", size=2)
    run.look(1)
    assert run.stored == []
    run.writers = Writers.NONE
    run.look_when_told()
    assert len(run.stored) == 1


@pytest.mark.scenario(4)
def test_an_empty_file_that_is_filled_after_ten_seconds_is_not_stored_empty() -> None:
    run = Run()
    run.write("model.pt", size=0)
    for _ in range(10):
        run.look(1)
    assert run.stored == []
    run.write("model.pt", size=7)
    run.look_when_told()
    assert len(run.stored) == 1


@pytest.mark.scenario(4)
def test_an_empty_file_is_stored_after_the_longer_quiet_time_or_with_a_marker() -> None:
    run = Run()
    run.write("model/__init__.py", size=0)
    assert run.look().wake_after == 30
    run.look(29)
    assert run.stored == []
    assert run.look(1).step is Step.STORE
    run = Run()
    run.write("empty", size=0)
    run.succeed()
    assert run.look().step is Step.STORE


@pytest.mark.scenario(5)
@pytest.mark.parametrize("mtime", [-1, 0, 4_000_000_000 * 10**9])
def test_old_and_future_mtimes_settle_as_any_other(mtime: int) -> None:
    run = Run()
    run.write("model.pt", mtime=mtime)
    run.look()
    assert run.look(5).step is Step.STORE


@pytest.mark.scenario(6)
def test_a_log_that_is_never_quiet_is_never_ready_and_that_is_said() -> None:
    run = Run()
    run.write("model.pt")
    for second in range(1800):
        run.write("train.log", size=second + 1)
        verdict = run.look(1)
        assert verdict.step is Step.WAIT
    assert verdict.reason == (
        "it has been changing for 30 min, never quiet for 5 s; train.log changed last"
    )
    run.look_when_told()
    assert len(run.stored) == 1


def test_changes_seldom_looked_at_are_still_one_time_of_changing() -> None:
    run = Run()
    for _ in range(10):
        run.write("train.log")
        verdict = run.look(60)
    assert verdict.reason.startswith("it has been changing for 9 min")


@pytest.mark.scenario(7)
def test_a_marker_waits_for_the_last_file_that_it_lists() -> None:
    run = Run()
    run.succeed(Marker(("a", "b", "c", "d", "e")))
    run.write("a")
    for _ in range(100):
        verdict = run.look(60)
        assert (verdict.state, verdict.step) == (State.OPEN, Step.WAIT)
    assert verdict.reason == "4 of 5 that _SUCCESS lists are not there: b, c, d, …"
    for path in "bcd":
        run.write(path)
    assert run.look().reason == "1 of 5 that _SUCCESS lists is not there: e"
    run.write("e")
    assert run.look().step is Step.STORE


def test_a_marker_does_not_outweigh_an_open_file() -> None:
    run = Run()
    run.write("a")
    run.succeed()
    run.writers = Writers.SOME
    assert run.look().step is Step.WAIT
    run.writers = Writers.NONE
    assert run.look(1).step is Step.STORE


@pytest.mark.scenario(8)
@pytest.mark.parametrize("proof", ["nothing", "marker", "whole"])
def test_a_temporary_file_holds_the_run_open_whatever_else_is_true(proof: str) -> None:
    run = Run()
    run.write("model.pt")
    run.temporary = {"b.tmp", "a\x1b.part"}
    if proof == "marker":
        run.succeed()
    if proof == "whole":
        run.history = run.history.arrived_whole()
    for _ in range(20):
        verdict = run.look(100)
        assert (verdict.state, verdict.step) == (State.OPEN, Step.WAIT)
    assert verdict.reason == "held open by the temporary a\\x1b.part (and 1 more)"
    run.temporary = set()
    run.look_when_told()
    assert len(run.stored) == 1


def test_what_arrived_whole_is_ready_at_once() -> None:
    run = Run()
    run.write("model.pt", size=0)
    run.history = run.history.arrived_whole()
    assert run.look().step is Step.STORE


def test_what_arrived_whole_and_then_changed_waits_for_quiet() -> None:
    run = Run()
    run.write("model.pt")
    run.history = run.history.arrived_whole()
    run.writers = Writers.SOME
    assert run.look().step is Step.WAIT
    run.writers = Writers.NONE
    run.write("model.pt")
    assert run.look(1).step is Step.WAIT
    assert run.look(4).step is Step.WAIT
    run.look_when_told()
    assert len(run.stored) == 1


def test_what_arrived_whole_and_changed_there_and_back_is_no_more_whole() -> None:
    run = Run()
    run.write("model.pt")
    run.writers = Writers.SOME
    run.history = run.history.arrived_whole()
    assert run.look().step is Step.WAIT
    run.temporary = {"x.tmp"}
    run.look(1)
    run.temporary = set()
    run.writers = Writers.NONE
    assert run.look(1).step is Step.WAIT


def test_times_that_binary_fractions_can_not_hold_end_in_no_busy_loop() -> None:
    for quiet_time in (0.1, 0.3, 1.1, 5.7):
        run = Run(Settings(quiet_time=quiet_time))
        run.write("model.pt")
        run.look_when_told()
        assert len(run.stored) == 1


def test_a_folder_without_files_is_open() -> None:
    run = Run()
    assert run.look().state is State.OPEN
    run.succeed()
    assert run.look(100).state is State.OPEN
    assert run.look(100).wake_after is None


def test_a_run_of_refused_entries_alone_is_parked_once_quiet() -> None:
    run = Run()
    run.refused = (Refused("a", "it is a FIFO"), Refused("b", "it is a socket"))
    assert run.look().state is State.SETTLING
    verdict = run.look(5)
    assert verdict.state is State.PARKED
    assert verdict.reason == "nothing in it can be stored: a: it is a FIFO (and 1 more)"
    run.refused = ()
    run.write("a")
    run.look_when_told()
    assert len(run.stored) == 1


def test_a_refused_entry_does_not_hold_up_the_rest() -> None:
    run = Run()
    run.refused = (Refused("link", "it is a symbolic link"),)
    run.write("model.pt")
    run.look()
    assert run.look(5).step is Step.STORE


def test_what_is_unreadable_blocks_with_its_reason_and_goes_on_by_itself() -> None:
    run = Run()
    run.write("model.pt")
    run.unreadable = (Refused("sub", "Permission denied"),)
    for _ in range(5):
        verdict = run.look(100)
        assert (verdict.state, verdict.step) == (State.BLOCKED, Step.WAIT)
        assert verdict.wake_after == 30
    assert verdict.reason == "sub can't be read: Permission denied"
    run.unreadable = ()
    assert run.look(1).step is Step.STORE


def test_a_file_that_only_its_opening_shows_to_be_unreadable_blocks_without_flapping() -> None:
    run = Run()
    run.write("model.pt")
    run.look()
    for _ in range(3):
        run.now += 5
        assert run.judge(None).step is Step.PROBE
        seen = run.observe().with_unreadable("model.pt", "Permission denied")
        verdict = judge(run.history, seen, Writers.UNKNOWN, run.now, run.rules)
        assert verdict.state is State.BLOCKED
        run.history = verdict.history


def test_a_marker_that_can_not_be_understood_parks_once_quiet() -> None:
    run = Run()
    run.write("model.pt")
    run.succeed(Refused("_SUCCESS", "it is not UTF-8"))
    assert run.look().state is State.SETTLING
    verdict = run.look(5)
    assert verdict.state is State.PARKED
    assert verdict.reason == "_SUCCESS can't be understood: it is not UTF-8"
    run.succeed()
    assert run.look().step is Step.STORE


def test_a_marker_that_was_not_read_proves_nothing() -> None:
    run = Run()
    run.write("model.pt")
    run.succeed()
    run.marker = None
    verdict = run.look(100)
    assert (verdict.step, verdict.wake_after) == (Step.WAIT, 1)


@pytest.mark.parametrize(("network", "needed"), [(False, 30), (True, 120)])
def test_where_writers_are_unknown_the_quiet_time_is_longer(network: bool, needed: int) -> None:
    run = Run(network=network)
    run.writers = Writers.UNKNOWN
    run.write("model.pt")
    run.look()
    assert run.look(5).step is Step.WAIT
    assert run.look(needed - 6).step is Step.WAIT
    assert run.look(1).step is Step.STORE
    assert (run.probes == 0) is network


@pytest.mark.parametrize("network", [False, True])
def test_a_proof_needs_no_lease(network: bool) -> None:
    run = Run(network=network)
    run.writers = Writers.UNKNOWN
    run.write("model.pt")
    run.succeed()
    assert run.look().step is Step.STORE


def test_by_marker_alone_quiet_proves_nothing() -> None:
    run = Run(Settings(complete="marker"))
    run.write("model.pt")
    for _ in range(10):
        verdict = run.look(1000)
        assert (verdict.state, verdict.step) == (State.OPEN, Step.WAIT)
    assert verdict.reason == 'waits for _SUCCESS (complete = "marker")'
    run.succeed()
    assert run.look().step is Step.STORE
    run.write("model.pt")
    assert run.look(10_000).reason == 'waits for a new _SUCCESS (complete = "marker")'
    run.history = run.history.arrived_whole()
    assert run.look().step is Step.STORE


def committed() -> Run:
    run = Run()
    run.write("model.pt")
    run.succeed()
    assert run.look().step is Step.STORE
    return run


def test_a_change_after_the_commit_is_a_revision_after_the_interval() -> None:
    run = committed()
    for _ in range(50):
        run.write("model.pt")
        verdict = run.look(10)
        assert verdict.state is State.SETTLING
    assert verdict.reason == "changed since it was stored; the next revision is due in 100 s"
    assert verdict.wake_after == pytest.approx(100)
    assert run.look(100).step is Step.STORE
    first, second = (at for at, _ in run.stored)
    assert second - first == pytest.approx(600)


def test_a_stale_marker_proves_nothing_about_later_changes() -> None:
    run = committed()
    run.write("model.pt")
    assert run.look(10_000).step is Step.WAIT
    assert run.look(4).step is Step.WAIT
    assert run.look(1).step is Step.STORE


def test_a_stale_marker_whose_files_went_away_holds_nothing_up() -> None:
    run = Run()
    run.write("a")
    run.write("b")
    run.succeed(Marker(("a", "b")))
    run.look()
    del run.files["a"]
    run.write("b")
    run.look(10_000)
    assert run.look(5).step is Step.STORE


@pytest.mark.parametrize("proof", ["marker", "whole"])
def test_a_new_proof_makes_a_revision_at_once(proof: str) -> None:
    run = committed()
    run.write("model.pt")
    assert not has_news(run.history, run.observe())
    if proof == "marker":
        run.succeed()
        assert has_news(run.history, run.observe())
    else:
        run.history = run.history.arrived_whole()
    assert run.look(1).step is Step.STORE
    assert run.look(1).state is State.COMMITTED


def test_an_arrival_noticed_late_proves_nothing_about_later_changes() -> None:
    run = committed()
    run.history = run.history.arrived_whole()
    assert run.look().state is State.COMMITTED
    run.write("model.pt")
    assert run.look(1).step is Step.WAIT


def test_after_a_restart_what_is_committed_stays_so_and_the_rest_begins_anew() -> None:
    run = committed()
    kept = History(
        committed=run.history.committed,
        committed_marker=run.history.committed_marker,
        committed_at=run.history.committed_at,
    )
    run.history = kept
    assert run.look().state is State.COMMITTED
    run.write("model.pt")
    run.history = kept
    run.look(1000)
    assert run.look(5).step is Step.STORE


def test_a_clock_that_began_anew_delays_by_one_interval_at_most() -> None:
    run = committed()
    run.write("model.pt")
    run.now = 7.0
    assert run.look().wake_after == 600
    assert run.look(600).step is Step.STORE


def test_a_clock_that_began_anew_delays_quiet_by_one_quiet_time_at_most() -> None:
    run = Run()
    run.write("model.pt")
    run.look()
    run.now = 7.0
    assert run.look().wake_after == 5
    assert run.look(5).step is Step.STORE


def test_the_states_are_named_as_the_design_names_them() -> None:
    assert [state.value for state in State] == [
        "open", "settling", "uploading", "verifying", "committed", "kept", "moved", "deleted",
        "blocked", "parked", "ignored",
    ]  # fmt: skip


# --- random histories ---------------------------------------------------------------------------


@dataclasses.dataclass
class Truth:
    """What really happened, kept apart from what `History` remembers of it."""

    changed_at: float = -1e9
    writer_left_at: float = -1e9
    writer_was_seen: bool = False
    whole: bool = False
    whole_was_seen: bool = False
    marker_is_new: bool = False
    committed_at: float | None = None
    stored: str | None = None


class World:
    """A run, the truth about it, and the promises that are checked at every look."""

    def __init__(self, rules: Settings, *, network: bool) -> None:
        self.run = Run(rules, network=network)
        self.truth = Truth()
        self.counter = 0

    def change(self, path: str, size: int) -> None:
        self.run.write(path, size)
        self.changed()

    def remove(self, path: str) -> None:
        if self.run.files.pop(path, None):
            self.changed()

    def changed(self) -> None:
        self.truth.changed_at = self.run.now
        self.truth.whole = self.truth.whole and not self.truth.whole_was_seen

    def succeed(self, listed: tuple[str, ...]) -> None:
        self.run.succeed(Marker(listed))
        self.changed()
        self.truth.marker_is_new = True

    def arrive(self) -> None:
        self.run.history = self.run.history.arrived_whole()
        self.truth.whole, self.truth.whole_was_seen = True, False

    def hold(self, writers: Writers) -> None:
        if self.run.writers is Writers.SOME and writers is not Writers.SOME:
            self.truth.writer_left_at = self.run.now
        if writers is Writers.SOME:
            self.truth.writer_was_seen = False
        self.run.writers = writers

    def temporary(self, name: str) -> None:
        self.run.temporary ^= {name}
        # Seen or not, it is no change of the files; it does end an arrival in one piece.
        self.truth.whole = self.truth.whole and not self.truth.whole_was_seen

    def block(self) -> None:
        self.run.unreadable = () if self.run.unreadable else (Refused("x", "Permission denied"),)

    def look(self, after: float) -> Verdict:
        run, truth = self.run, self.truth
        stored_before = len(run.stored)
        verdict = run.look(after)
        if truth.whole:
            truth.whole_was_seen = True
        if "open for writing" in verdict.reason:
            truth.writer_was_seen = True
        if len(run.stored) > stored_before:
            self.check_what_was_stored()
            return verdict
        signature = run.observe().signature()
        is_stored = signature == truth.stored and not run.unreadable
        assert (verdict.state is State.COMMITTED) is is_stored
        assert (verdict.state is State.BLOCKED) is bool(run.unreadable)
        return verdict

    def check_what_was_stored(self) -> None:
        run, truth = self.run, self.truth
        seen = run.observe()
        assert seen.signature() != truth.stored, "stored twice"
        assert seen.files
        assert not seen.temporary
        assert not seen.unreadable
        assert run.network or run.writers is not Writers.SOME
        if truth.marker_is_new:
            assert isinstance(run.marker, Marker)
            assert run.marker.check(seen) == ()
        elif not truth.whole:
            self.check_quiet()
        truth.stored = seen.signature()
        truth.committed_at = run.now
        truth.marker_is_new = truth.whole = False

    def check_quiet(self) -> None:
        run, truth, rules = self.run, self.truth, self.run.rules
        assert rules.complete == "quiet"
        unsure = run.writers is Writers.UNKNOWN or any(
            each.size == 0 for each in run.files.values()
        )
        needed = rules.quiet_time_without_lease if unsure else rules.quiet_time
        if run.network:
            needed = rules.quiet_time_network
        assert run.now - truth.changed_at >= needed - 0.001
        if truth.writer_was_seen:
            assert run.now - truth.writer_left_at >= needed - 0.001
        if truth.committed_at is not None:
            assert run.now - truth.committed_at >= rules.revision_interval - 0.001

    def finish(self) -> None:
        """Do what a trainer does in the end; from here on time alone has to be enough."""
        run = self.run
        run.temporary, run.unreadable = set(), ()
        self.hold(Writers.NONE if run.writers is Writers.SOME else run.writers)
        for path in (*(run.marker.paths if isinstance(run.marker, Marker) else ()), "last"):
            if path not in run.files:
                self.change(path, 1)
        if run.rules.complete == "marker":
            self.succeed(())


PATHS = st.sampled_from(["a", "b", "sub/c"])
STEPS: st.SearchStrategy[Callable[[World], object]] = st.one_of(
    st.builds(
        lambda after: lambda world: world.look(after),
        st.sampled_from([0.0, 0.1, 1.0, 4.9, 5.0, 7.3, 29.9, 30.0, 119.0, 120.0, 595.0, 700.0]),
    ),
    st.builds(
        lambda path, size: lambda world: world.change(path, size),
        PATHS,
        st.sampled_from([0, 1, 2**40]),
    ),
    st.builds(lambda path: lambda world: world.remove(path), PATHS),
    st.builds(
        lambda paths: lambda world: world.succeed(tuple(paths)), st.lists(PATHS, unique=True)
    ),
    st.just(World.arrive),
    st.just(World.block),
    st.builds(lambda writers: lambda world: world.hold(writers), st.sampled_from(Writers)),
    st.builds(
        lambda name: lambda world: world.temporary(name), st.sampled_from(["x.tmp", "y.part"])
    ),
)


@given(
    st.lists(STEPS, max_size=40),
    st.sampled_from(["quiet", "marker"]),
    st.booleans(),
)
@settings(max_examples=400)
def test_nothing_is_stored_early_or_twice_and_nothing_complete_is_forgotten(
    steps: list[Callable[[World], object]], complete: str, network: bool
) -> None:
    world = World(Settings(complete=complete), network=network)
    for step in steps:
        step(world)
    world.finish()
    began = world.run.now
    verdict = world.look(0)
    looks = 0
    while verdict.state is not State.COMMITTED:
        assert verdict.wake_after is not None, f"forgotten: {verdict.reason}"
        looks += 1
        assert looks < 20, f"looks without end: {verdict.reason}"
        verdict = world.look(verdict.wake_after)
    assert world.run.now - began < 600 + 2 * 120 + 1
    for _ in range(3):
        assert world.look(1000).state is State.COMMITTED
