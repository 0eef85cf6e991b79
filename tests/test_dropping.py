"""Dropping: a run gets what is dropped whole; what can't be stored is refused beforehand."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import DropRefused, InvalidName
from modeldrop.intake import drop, new_run, walk
from modeldrop.intake.marker import Marker, parse
from modeldrop.names import new_guid, parse_guid
from support.intake import content, make_home, revisions, scan
from support.waiting import comes_true


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home", quiet_time=600) as opened:
        yield opened


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_text("weights")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "a").write_text("1")
    (path / "b").touch()
    return path


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_drop_is_a_run_with_all_of_it_and_a_marker_that_lists_it(
    staging: Path, model: Path, folder: Path
) -> None:
    run = drop(staging, [model, folder])
    assert parse_guid(run) == run
    assert files_of(staging / run) == {
        "_SUCCESS": "./folder/b\n./folder/deep/a\n./model\n",
        "folder/b": "",
        "folder/deep/a": "1",
        "model": "weights",
    }
    assert [each.name for each in staging.iterdir()] == [run]
    assert model.exists()


def test_nobody_sees_a_part_of_a_new_run(staging: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.mkdir()
    for number in range(200):
        (big / f"{number}").write_text(f"{number}")
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            names = [found.name for found in walk.runs(staging)]
            seen.extend(len(walk.observe(staging, name).files) for name in names)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            drop(staging, [big])
        assert comes_true(lambda: bool(seen))
    finally:
        done.set()
        watcher.join()
    assert set(seen) == {200}


def test_a_drop_says_its_experiment(repository: Repository, model: Path) -> None:
    run = drop(repository.home.staging, [model], experiment="churn")
    scan(repository)
    (revision,) = revisions(repository, run)
    assert revision.experiment == "churn"
    assert content(repository, revision) == {"model": b"weights"}
    assert repository.register(run).version.experiment == "churn"


def test_a_new_run_is_an_empty_folder_that_may_say_its_experiment(staging: Path) -> None:
    assert files_of(staging / new_run(staging)) == {}
    assert files_of(staging / new_run(staging, "churn")) == {
        "run.json": '{"experiment": "churn"}\n'
    }
    with pytest.raises(InvalidName):
        new_run(staging, "no name")
    assert len(list(staging.iterdir())) == 2


def test_a_drop_into_a_run_that_is_there_replaces_what_has_its_names(
    repository: Repository, model: Path, folder: Path
) -> None:
    staging = repository.home.staging
    run = new_run(staging)
    assert drop(staging, [model, folder], run=run) == run
    scan(repository)
    model.write_text("other")
    shutil.rmtree(folder / "deep")
    drop(staging, [model, folder], run=run.upper())
    assert scan(repository)[run].state == "committed"
    assert [content(repository, each) for each in revisions(repository, run)] == [
        {"model": b"weights", "folder/deep/a": b"1", "folder/b": b""},
        {"model": b"other", "folder/b": b""},
    ]


def test_a_folder_takes_the_place_of_a_file_and_a_file_of_a_folder(
    staging: Path, model: Path, tmp_path: Path
) -> None:
    run = drop(staging, [model])
    model.unlink()
    model.mkdir()
    (model / "a").write_text("in a folder")
    drop(staging, [model], run=run)
    assert files_of(staging / run)["model/a"] == "in a folder"
    shutil.rmtree(model)
    model.write_text("a file again")
    drop(staging, [model], run=run)
    assert files_of(staging / run) == {"_SUCCESS": "./model\n", "model": "a file again"}


def test_an_older_marker_doesnt_call_complete_what_is_being_replaced(
    staging: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = drop(staging, [model])
    from modeldrop import files  # noqa: PLC0415 - patched here alone

    rename = files.rename
    markers: list[bool] = []

    def look(source: Path, target: Path) -> None:
        markers.append((staging / run / "_SUCCESS").exists())
        rename(source, target)

    monkeypatch.setattr(files, "rename", look)
    drop(staging, [model], run=run)
    assert markers == [False, False]
    assert (staging / run / "_SUCCESS").exists()


def test_ranks_that_drop_into_one_new_run_at_the_same_time_all_get_in(
    staging: Path, tmp_path: Path
) -> None:
    run = new_guid()
    ready = threading.Barrier(8, timeout=20)

    def rank(number: int) -> str:
        shard = tmp_path / f"shard-{number}"
        shard.write_text(f"{number}")
        ready.wait()
        return drop(staging, [shard], run=run)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(rank, range(8))) == {run}
    found = files_of(staging / run)
    assert {name: text for name, text in found.items() if name != "_SUCCESS"} == {
        f"shard-{number}": f"{number}" for number in range(8)
    }
    assert [each.name for each in staging.iterdir()] == [run]


def test_the_link_that_was_named_is_followed(staging: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(model)
    run = drop(staging, [tmp_path / "latest"])
    assert files_of(staging / run)["latest"] == "weights"
    assert not (staging / run / "latest").is_symlink()


def test_a_folder_by_its_dot_has_its_real_name(
    staging: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for path in (".", "deep/.."):
        assert "folder/deep/a" in files_of(staging / drop(staging, [Path(path)]))


def _link(folder: Path) -> None:
    (folder / "deep" / "link").symlink_to("/etc/passwd")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def _temporary(folder: Path) -> None:
    (folder / "half.part").write_text("half")


def _temporary_folder(folder: Path) -> None:
    (folder / "tmp-checkpoint-5").mkdir()


def _bad_name(folder: Path) -> None:
    (folder / "line\nbreak").write_text("x")


def _not_utf8(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff")).write_text("x")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    (folder / "empty").mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_link, "deep/link can't be stored: it is a symbolic link"),
        (_pipe, "no regular file"),
        (_temporary, "half.part can't be stored: its name is that of something temporary"),
        (_temporary_folder, "something temporary"),
        (_bad_name, r"line\\nbreak can't be stored: its name has a control character"),
        (_not_utf8, "not UTF-8"),
        (_empty, "has no file in it"),
    ],
)
def test_what_cant_be_stored_is_refused_and_nothing_is_left(
    staging: Path, model: Path, folder: Path, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(folder)
    with pytest.raises(DropRefused, match=why):
        drop(staging, [model, folder])
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["_SUCCESS", ".modeldrop-receipt.json", "run.json", "run.toml", "run.yaml", "run.yml"]
)
def test_names_with_a_meaning_are_refused(staging: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(DropRefused, match="a meaning of its own"):
        drop(staging, [tmp_path / name])
    assert list(staging.iterdir()) == []


def test_two_of_one_name_and_what_isnt_there_are_refused(
    staging: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model").write_text("other")
    with pytest.raises(DropRefused, match="two of the paths are named 'model'"):
        drop(staging, [model, tmp_path / "elsewhere" / "model"])
    with pytest.raises(DropRefused, match="there is no file or folder"):
        drop(staging, [model, tmp_path / "nowhere"])
    with pytest.raises(InvalidName):
        drop(staging, [model], run="no-guid")
    with pytest.raises(InvalidName):
        drop(staging, [model], experiment="no name")
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize("how", ["a file", "a link to a folder"])
def test_what_stands_in_the_way_of_a_run_is_refused(
    staging: Path, model: Path, tmp_path: Path, how: str
) -> None:
    run = new_guid()
    if how == "a file":
        (staging / run).write_text("in the way")
    else:
        (tmp_path / "elsewhere").mkdir()
        (staging / run).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DropRefused, match="in the way"):
        drop(staging, [model], run=run)
    assert [each.name for each in staging.iterdir()] == [run]
    assert not (tmp_path / "elsewhere" / "model").exists()


def test_a_copy_that_fails_leaves_nothing_aside(
    staging: Path, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="No space left"):
        drop(staging, [model, folder])
    assert list(staging.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [f"{'a' * 64}  b", "SHA256 (x) = y", "foo (1) = bar", "--flag", " spaces ", "é", "\ufeff"],
)
def test_no_name_is_taken_for_a_line_of_sums(staging: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    run = drop(staging, [tmp_path / name])
    said = parse((staging / run / "_SUCCESS").read_bytes())
    assert said == Marker((name,), {})
    assert said.check(walk.observe(staging, run)) == ()
