"""Runs that are stored, one by one and in groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from modeldrop import files
from support.acts.facts import act
from support.acts.world import RUNS, Say, new_home, opened
from support.intake import make_run
from support.stores import model


def begin_upload(root: Path) -> None:
    new_home(root).close()
    model(root / "aside" / "model.bin", "one file" * 100)
    model(root / "aside" / "folder" / "a" / "weights", "a folder")
    model(root / "aside" / "folder" / "words", "of two")


def upload(root: Path, say: Say) -> None:
    with opened(root) as repository:
        for run, name in ((RUNS[0], "model.bin"), (RUNS[1], "folder")):
            done = repository.upload(run, root / "aside" / name).revision
            say(["revision", run, done.revision, done.artifacts[0].sha256])


def _upload_linkless(root: Path, say: Say) -> None:
    def no_links(temp: Path | str, path: Path | str) -> bool:
        raise files.NoExclusiveCreate

    files.link_if_absent = no_links
    upload(root, say)


def _begin_next(root: Path) -> None:
    with new_home(root) as repository:
        repository.upload(RUNS[0], model(root / "aside" / "model.bin", "first"))
    model(root / "aside" / "model.bin", "second")


def _upload_next(root: Path, say: Say) -> None:
    with opened(root) as repository:
        done = repository.upload(RUNS[0], root / "aside" / "model.bin").revision
        say(["revision", RUNS[0], done.revision, done.artifacts[0].sha256])


def _begin_scan(count: int, files: int) -> Callable[[Path], None]:
    def begin(root: Path) -> None:
        with new_home(root) as repository:
            for number in range(count):
                contents = {f"model/{each}": f"{number} {each}" for each in range(files)}
                make_run(repository.home.staging, {**contents, "_SUCCESS": ""}, RUNS[number])

    return begin


def _scan(root: Path, say: Say) -> None:
    with opened(root) as repository:
        engine = repository.engine()
        try:
            found = engine.scan_once()
        finally:
            engine.close()
        assert {each.state for each in found} == {"committed"}, found
        for run in sorted(each.run for each in found):
            last = repository.runs_at_backend.latest(run)
            assert last is not None
            say(["revision", run, last.revision, last.artifacts[0].sha256])


STORING: Final = {
    "upload": act(begin_upload, upload, other=True),
    "upload, no links": act(begin_upload, _upload_linkless, whole=False),
    "upload, next": act(_begin_next, _upload_next),
    "scan, one": act(_begin_scan(1, 2), _scan),
    "scan, group": act(_begin_scan(3, 2), _scan, killed=True),
    "scan, many files": act(_begin_scan(1, 17), _scan, whole=False),
}
