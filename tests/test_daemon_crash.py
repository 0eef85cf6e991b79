"""The service itself, killed at every step between ready and receipt, and with a big file.

`test_crash` has the same for the engine alone, in more ways.
"""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.names import MARKER
from support.service import Home
from support.waiting import comes_true

STEPS = (
    "ready",
    "bytes stored",
    "intent written",
    "record appended",
    "followers brought forward",
    "journal acknowledged",
    "committed",
    "remembered",
    "receipt left",
)
# The service sets up the logger above these anew when it starts.
DYING = """
import sys
sys.path.insert(0, {support!r})
from support.killing import at_step
for room in ("ledger", "intake.storing", "intake.together", "intake.dispatch"):
    at_step({step!r}, logger="modeldrop." + room)
"""


@pytest.fixture(params=["local", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    url = "" if request.param == "local" else request.getfixturevalue("s3_url")
    made = Home(tmp_path, url)
    yield made
    made.close()


@pytest.mark.scenario(28)
@pytest.mark.parametrize("step", STEPS)
def test_service_killed_after_a_step_has_one_revision_after_its_restart(
    home: Home, step: str
) -> None:
    dying = home.start(twist=DYING.format(support=str(Path(__file__).parent), step=step))
    run = home.drop_whole(b"weights")
    assert dying.wait() == -signal.SIGKILL, dying.log

    service = home.start_ready()
    with Repository.open(home.root) as repository:
        # Unless it is known to be stored, it is looked at once it has been quiet.
        assert step == "remembered" or home.is_committed(run)
        assert service.stop() == 0
        assert repository.runs_at_backend.last(run) == 1
        assert [entry.kind for entry in repository.log(f"run:{run}")] == ["committed"]
        assert repository.runs_at_backend.open_intents() == []
        assert repository.verify(deep=True).ok
    assert home.stored(run) == b"weights"


@pytest.mark.scenario(28)
@pytest.mark.parametrize("complete", ["quiet", "marker"])
@pytest.mark.parametrize("step", STEPS[3:])
def test_a_marker_that_a_revision_was_stored_by_speaks_for_nothing_written_after_a_crash(
    home: Home, step: str, complete: str
) -> None:
    long = {"quiet_time": 600.0, "quiet_time_without_lease": 600.0, "revision_interval": 600.0}
    home.configure(complete=complete, **long)
    dying = home.start(twist=DYING.format(support=str(Path(__file__).parent), step=step))
    run = home.drop_whole(b"weights", marker="model.bin\n")
    assert dying.wait() == -signal.SIGKILL, dying.log
    (home.staging / run / "model.bin").write_bytes(b"half of the next")

    service = home.start_ready()
    waits = {
        "quiet": ("settling", "the next revision is due in"),
        "marker": ("open", f"waits for a new {MARKER}"),
    }
    assert home.is_in(run, *waits[complete]), (home.standing(run), service.log)
    assert home.stored(run) == b"weights"

    (home.staging / run / "model.bin").write_bytes(b"all of the next one")
    (home.staging / run / MARKER).write_text("model.bin\n\n")
    assert comes_true(lambda: home.stored(run) == b"all of the next one"), service.log
    assert service.stop() == 0
    with Repository.open(home.root) as repository:
        assert repository.runs_at_backend.last(run) == 2
        assert repository.verify(deep=True).ok


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("home", ["local"], indirect=True)
def test_2_gib_pass_through_the_service_in_less_than_200_mib(home: Home) -> None:
    service = home.start_ready()
    aside = home.folder / "big"
    aside.mkdir()
    with (aside / "model.bin").open("wb") as opened:
        for start in range(0, 2 << 30, 1 << 20):
            # No two MiB are alike; most of each is a hole.
            opened.seek(start)
            opened.write(start.to_bytes(8, "big") * 64)
        opened.truncate(2 << 30)
    run = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
    aside.rename(home.staging / run)
    assert home.is_committed(run, timeout=120)
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    print(f"peak memory {int(peak) >> 10} MiB")  # noqa: T201 - shown by -rP, and on failure
    assert int(peak) < 200 << 10
    assert service.stop() == 0
