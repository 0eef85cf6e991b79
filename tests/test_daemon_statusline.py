"""The line that `systemctl status` shows."""

from pathlib import Path

from modeldrop.intake import Summary
from modeldrop.intake.summary import no_runs
from modeldrop_daemon import statusline
from modeldrop_daemon.statusline import status_line

STAGING = Path("/srv/staging")


def test_idle_service_says_what_it_watches_and_how() -> None:
    assert status_line(Summary(), STAGING, "events") == "watching /srv/staging (events): 0 stored"


def test_what_needs_somebody_is_counted_and_nothing_else() -> None:
    runs = {**no_runs(), "kept": 11, "committed": 1, "uploading": 1, "verifying": 1, "parked": 1}

    line = status_line(Summary(runs=runs, queued=3, junk=2), STAGING, "events")

    assert line == (
        "watching /srv/staging (events): 12 stored, 2 uploading, 1 parked, 3 queued, 2 junk"
    )


def test_backend_that_is_waited_for_comes_first() -> None:
    line = status_line(Summary(backend="no answer", queued=1), STAGING, "polling: a reason")

    assert line == (
        "watching /srv/staging (polling: a reason): "
        "waiting for the backend: no answer, 0 stored, 1 queued"
    )


def test_every_state_is_counted_once() -> None:
    shown = [state for _, states in statusline._SHOWN for state in states]

    assert sorted(shown) == sorted(no_runs())


def test_no_name_drives_a_terminal() -> None:
    assert "\x1b" not in status_line(Summary(), Path("/srv/\x1b[31m"), "events")
