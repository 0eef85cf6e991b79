"""Counts the faults that are tried; `make test-faults` keeps the counts (`support.faulttable`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import pytest

from support import faulttable
from support.faulttable import Row
from support.share import Share

Tried = Callable[[str, str, int, int], None]

_COUNTED: Final = "faults tried"


class _Count:
    """What the tests of this run say; where xdist runs them, the workers' reports bring it here."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = {}
        self._incomplete: set[str] = set()
        self._fell: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        suite = Path(report.location[0]).stem.removeprefix("test_")
        if report.outcome == "skipped":
            self._incomplete.add(suite)
        if report.when != "call":
            return
        said = [
            Row(*json.loads(str(value)))
            for name, value in report.user_properties
            if name == _COUNTED
        ]
        self._rows.setdefault(suite, []).extend(said)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            return
        for suite in {*self._rows, *faulttable.suites()}:
            counted = faulttable.added(self._rows.get(suite, []))
            if counted or faulttable.read(suite):
                whole = suite not in self._incomplete
                self._fell += faulttable.update(suite, counted, whole=whole)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._fell:
            terminalreporter.section("fewer faults tried than before", red=True)
            terminalreporter.write_line("Commit tests/faults/results if that is right.")
        for line in sorted(self._fell):
            terminalreporter.write_line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make test-faults` say that this run is the whole suite."""
    parser.addoption(
        "--count-faults", action="store_true", help="keep how many faults were tried, and compare"
    )
    parser.addoption(
        "--share", type=Share.parse, default=Share(), help="run one share of the tests: 2/3"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what is in another share to that one."""
    share: Share = config.getoption("--share")
    others = [item for item in items if item.nodeid not in share]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.nodeid in share]


def pytest_configure(config: pytest.Config) -> None:
    """Count where all reports arrive."""
    if config.getoption("--count-faults") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Count(), "fault-count")


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """Skip a test for want of a right or of a tool, which no machine has to have."""

    def end(why: str) -> NoReturn:
        pytest.skip(why)

    return end


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Tried:
    """Note how many cases of a kind of fault were tried on an operation, and how many failed."""

    def note(operation: str, kind: str, cases: int, failures: int) -> None:
        row = (operation, kind, cases, failures)
        request.node.user_properties.append((_COUNTED, json.dumps(row)))

    return note
