"""A `_SUCCESS` completes one revision, whatever died or broke off before that was remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository
from modeldrop.intake import spent, walk
from modeldrop.layout import new_upload_id
from modeldrop.names import MARKER, new_guid
from modeldrop.structs import replace
from support.children import dies
from support.intake import (
    is_in,
    make_home,
    make_run,
    revisions,
    running,
    scan,
    scan_in_child,
    stored_revisions,
    tracked,
    turns,
)
from support.proxy import LOSE_ANSWER, Proxy, Seen
from support.servers import MotoServer

# Nothing is stored because it is quiet, nor because it is time for the next revision.
LONG: Final[dict[str, Any]] = dict.fromkeys(
    ("quiet_time", "quiet_time_without_lease", "revision_interval"), 600.0
)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home", **LONG) as opened:
        yield opened


def noted(repository: Repository) -> list[str]:
    """Return the runs of which it is noted by whose word they are stored."""
    folder = repository.home.paths.spent_marker("").parent
    return sorted(each.stem for each in folder.iterdir()) if folder.is_dir() else []


def test_a_commit_of_which_nobody_knows_what_came_of_it_has_spent_the_marker_if_it_happened(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.sequence._LONGEST", 1.0)
    url = moto.make_bucket()
    with Proxy(moto.port) as proxy:
        for name, value in moto.env.items():
            monkeypatch.setenv(name, value.replace(moto.endpoint, proxy.endpoint))
        with make_home(tmp_path / "home", url, **LONG) as repository:
            staging = repository.home.staging
            run = make_run(staging, {"model": "weights", MARKER: "model\n"})

            def answers(seen: Seen) -> int | None:
                begun = any("/revisions/0" in each.path for each in proxy.requests if each.size)
                return 503 if begun and seen.method != "PUT" else None

            proxy.script("PUT", "/revisions/", *[LOSE_ANSWER] * 99)
            proxy.answers = answers
            with running(repository) as engine:
                assert turns(engine, lambda: is_in(engine, run, "blocked"))
                (staging / run / "model").write_text("half of the next")
                proxy.quiet()
                proxy.answers = lambda _: None
                due = "the next revision is due in"
                assert turns(engine, lambda: due in tracked(engine, run).reason)
                assert stored_revisions(repository, run) == [{"model": b"weights"}]
                (staging / run / "model").write_text("all of the next one")
                (staging / run / MARKER).write_text("model\n\n")
                assert turns(engine, lambda: is_in(engine, run, "committed"))
            assert stored_revisions(repository, run)[1:] == [{"model": b"all of the next one"}]


def test_a_marker_stays_spent_when_the_service_dies_again_and_again(patient: Repository) -> None:
    staging = patient.home.staging
    run = make_run(staging, {"model": "weights", MARKER: "model\n"})
    # The second time it is found to be stored already.
    for step in ("record appended", "committed", "committed"):
        assert dies(scan_in_child, patient.home.paths.root, at=step)
    assert noted(patient) == [run]
    (staging / run / "model").write_text("half of the next")

    with running(patient) as engine:
        due = "the next revision is due in"
        assert turns(engine, lambda: is_in(engine, run, "settling"))
        assert turns(engine, lambda: due in tracked(engine, run).reason)
    assert stored_revisions(patient, run) == [{"model": b"weights"}]


def test_a_marker_by_which_nothing_came_to_be_counts_for_what_is_written_after_it(
    patient: Repository,
) -> None:
    staging = patient.home.staging
    run = make_run(staging, {"model": "weights", MARKER: "\n"})
    assert dies(scan_in_child, patient.home.paths.root, at="intent written")
    assert noted(patient) == [run]
    (staging / run / "last shard").write_text("more")

    assert scan(patient)[run].state == "committed"

    assert stored_revisions(patient, run) == [{"last shard": b"more", "model": b"weights"}]


def test_nothing_is_noted_of_a_run_that_is_remembered_or_has_no_marker_or_is_gone(
    patient: Repository,
) -> None:
    staging = patient.home.staging
    make_run(staging, {"model": "1", MARKER: "\n"})
    make_run(staging, {"model": "2"})
    gone = make_run(staging, {"model": "3", MARKER: "\n"})
    with running(patient) as engine:
        assert turns(engine, lambda: is_in(engine, gone, "committed"))
        assert noted(patient) == []
        spent.note(patient.home.paths, gone, new_upload_id(), walk.observe(staging, gone))
        assert noted(patient) == [gone]
        (staging / gone).rename(patient.home.paths.root / "elsewhere")
        engine.hint()
        assert turns(engine, lambda: gone not in engine._roster.runs)
    assert noted(patient) == []


@pytest.mark.parametrize("how", ["lost", "damaged", "empty", "another run's", "no time"])
def test_a_note_that_cant_be_relied_on_says_nothing(patient: Repository, how: str) -> None:
    paths, staging = patient.home.paths, patient.home.staging
    run = make_run(staging, {"model": "weights", MARKER: "\n"})
    of = new_guid() if how == "another run's" else run
    spent.note(paths, of, new_upload_id(), walk.observe(staging, run))
    note = paths.spent_marker(of)
    found = spent.recall(paths, of)
    assert found is not None
    if how == "another run's":
        note.rename(paths.spent_marker(run))
    elif how == "lost":
        note.unlink()
    elif how == "no time":
        note.write_bytes(replace(found, noted_at="yesterday").to_bytes())
    else:
        note.write_bytes(b"" if how == "empty" else note.read_bytes().replace(b"1", b"2"))

    assert spent.recall(paths, run) is None


def test_a_note_that_cant_be_written_fails_nothing(patient: Repository) -> None:
    patient.home.paths.spent_marker("").parent.write_text("in the way of a folder")
    run = make_run(patient.home.staging, {"model": "weights", MARKER: "\n"})

    assert scan(patient)[run].state == "committed"
    assert len(revisions(patient, run)) == 1
