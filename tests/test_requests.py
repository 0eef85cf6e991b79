"""What a person asks the service to do with a run is heard."""

from __future__ import annotations

import os
from pathlib import Path

from modeldrop.intake.requests import IGNORE, RETRY, Inbox, ask
from support.intake import make_home

RUN = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"


def test_a_request_within_the_same_tick_as_the_last_look_is_heard(tmp_path: Path) -> None:
    with make_home(tmp_path / "home") as repository:
        home, heard = repository.home, list[str]()
        folder, inbox = home.paths.requests(), Inbox(home.paths)
        ask(home, IGNORE, RUN)
        tick = folder.stat().st_mtime_ns
        inbox.take(lambda each: heard.append(each.action))
        ask(home, RETRY, RUN)
        # A clock that ticks every few milliseconds says the same of both.
        os.utime(folder, ns=(tick, tick))
        inbox.take(lambda each: heard.append(each.action))
        assert heard == [IGNORE, RETRY]


def test_a_folder_that_has_long_been_the_same_is_not_read(tmp_path: Path) -> None:
    with make_home(tmp_path / "home") as repository:
        home, heard = repository.home, list[str]()
        folder, inbox = home.paths.requests(), Inbox(home.paths)
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder, ns=(10**18, 10**18))
        inbox.take(lambda each: heard.append(each.action))
        ask(home, RETRY, RUN)
        os.utime(folder, ns=(10**18, 10**18))
        inbox.take(lambda each: heard.append(each.action))
        assert heard == []
