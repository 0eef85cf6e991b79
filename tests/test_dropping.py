"""Dropping: a run gets what is dropped whole; what can't be stored is refused beforehand."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import DropRefused, InvalidName, NotFound, SourceChanged
from modeldrop.intake import aside, drop, lease, marker, new_run, walk
from modeldrop.intake.marker import Marker, parse
from modeldrop.intake.temporary import temporary
from modeldrop.names import new_guid, parse_guid
from support.intake import content, make_home, make_run, revisions, scan
from support.program import environment
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
        if not temporary(target.name):
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


@pytest.mark.parametrize(
    ("path", "how"),
    [
        (".", "holds the staging folder"),
        (".mlops", "holds the staging folder"),
        (".mlops/staging", "is the staging folder"),
        (".mlops/staging/some/model", "is in the staging folder"),
        ("link/some", "is in the staging folder"),
        (".mlops/cache", "is in the home"),
    ],
)
def test_modeldrops_own_folders_are_refused_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, how: str
) -> None:
    home = tmp_path / ".mlops"
    (home / "staging" / "some").mkdir(parents=True)
    (home / "staging" / "some" / "model").write_text("weights")
    (home / "cache").mkdir()
    (home / "cache" / "model").write_text("weights")
    (tmp_path / "link").symlink_to(home / "staging")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DropRefused, match=how) as refused:
        drop(home / "staging", [Path(path)], home=home)
    assert refused.value.hint
    assert [each.name for each in (home / "staging").iterdir()] == ["some"]


def test_a_home_elsewhere_than_its_staging_is_refused_too(staging: Path, tmp_path: Path) -> None:
    home = tmp_path / "project" / ".mlops"
    home.mkdir(parents=True)
    (home / "home.json").write_text("{}")
    with pytest.raises(DropRefused, match="holds the home"):
        drop(staging, [home.parent], home=home)
    with pytest.raises(DropRefused, match="is the home"):
        drop(staging, [home], home=home)


def test_what_the_system_refuses_in_a_folder_is_told_as_it_was(staging: Path, folder: Path) -> None:
    (folder / "big").write_bytes(bytes(100_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as failed:
            drop(staging, [folder])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert failed.value.strerror == "File too large"
    assert list(staging.iterdir()) == []


# Drops, and dies right before a call of `files.rename`.
_DIES = """
import json, os, signal, sys
from pathlib import Path
from modeldrop import files
from modeldrop.intake import drop
staging, run, paths, number = json.loads(sys.argv[1])
rename, calls = files.rename, []
def mortal(source, target):
    calls.append(target)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)
files.rename = mortal
drop(Path(staging), [Path(each) for each in paths], run=run)
"""


def dies_dropping(staging: Path, paths: list[Path], run: str, number: int) -> bool:
    """Drop into a run in another process; say whether it died before its rename of this number."""
    told = json.dumps([str(staging), run, [str(each) for each in paths], number])
    command = [sys.executable, "-c", _DIES, told]
    return subprocess.run(command, env=environment(), check=False).returncode == -signal.SIGKILL


@pytest.fixture
def replaced(repository: Repository, folder: Path, model: Path) -> str:
    """A run of which `folder` and `model` are stored, and have other content by now."""
    run = drop(repository.home.staging, [folder, model])
    scan(repository)
    (folder / "b").write_text("new")
    (folder / "deep" / "a").write_text("new")
    model.write_text("new")
    return run


# The hold file is the first, and the marker the last; the folder is moved away and replaced.
@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_killed_while_it_replaces_leaves_the_run_held_open_and_never_a_mix(
    repository: Repository, replaced: str, folder: Path, model: Path, number: int
) -> None:
    staging = repository.home.staging
    assert dies_dropping(staging, [folder, model], replaced, number)
    there = files_of(staging / replaced)
    folders = {text for name, text in there.items() if name.startswith("folder/")}
    assert folders in ({"", "1"}, {"new"}, set())
    said = scan(repository)[replaced]
    assert "held open by the temporary .tmp-drop-" in said.reason
    assert len(revisions(repository, replaced)) == 1
    drop(staging, [folder, model], run=replaced)
    assert scan(repository)[replaced].state == "committed"
    assert content(repository, revisions(repository, replaced)[-1]) == {
        "folder/b": b"new",
        "folder/deep/a": b"new",
        "model": b"new",
    }
    # What the dead one had aside is gone as well.
    assert [each.name for each in staging.iterdir()] == [replaced]


def test_another_drop_into_a_run_doesnt_free_what_was_cut_short(
    repository: Repository, replaced: str, folder: Path, model: Path, tmp_path: Path
) -> None:
    staging = repository.home.staging
    assert dies_dropping(staging, [folder, model], replaced, 4)
    (tmp_path / "metrics").write_text("0.9")
    drop(staging, [tmp_path / "metrics"], run=replaced)
    assert "held open" in scan(repository)[replaced].reason
    drop(staging, [folder, model], run=replaced)
    assert scan(repository)[replaced].state == "committed"


def test_a_drop_that_fails_while_it_replaces_leaves_the_run_held_open(
    staging: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeldrop import files  # noqa: PLC0415 - patched here alone

    run = drop(staging, [model])
    rename = files.rename

    def fail(source: Path, target: Path) -> None:
        if target.name == "_SUCCESS":
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(files, "rename", fail)
        with pytest.raises(OSError, match="Input/output"):
            drop(staging, [model], run=run)
    assert walk.observe(staging, run).temporary
    drop(staging, [model], run=run)
    assert not walk.observe(staging, run).temporary


def test_a_drop_removes_what_dead_ones_had_aside_and_not_what_another_is_at(
    staging: Path, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = staging / ".modeldrop-drop-0123456789abcdef"
    shutil.copytree(folder, dead)
    copyfile = shutil.copyfile
    inner: list[str] = []

    def meanwhile(source: Path, target: Path) -> None:
        if not inner:
            inner.append("")
            assert not dead.exists()
            inner[0] = drop(staging, [folder])
        copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    outer = drop(staging, [model])
    assert files_of(staging / outer)["model"] == "weights"
    assert {each.name for each in staging.iterdir()} == {outer, *inner}


def _write(path: Path) -> None:
    (path / "b").write_text("written meanwhile")


def _replace(path: Path) -> None:
    (path / "other").write_text("")
    (path / "other").replace(path / "b")


def _add(path: Path) -> None:
    (path / "deep" / "c").write_text("added")


def _remove(path: Path) -> None:
    (path / "b").unlink()


def _remove_all(path: Path) -> None:
    shutil.rmtree(path)


@pytest.mark.parametrize("name", ["b", "a"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("change", [_write, _replace, _add, _remove, _remove_all])
def test_what_changes_while_it_is_copied_is_not_dropped(
    staging: Path, folder: Path, monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None], after: bool, name: str,
) -> None:  # fmt: skip
    copyfile = shutil.copyfile

    def meanwhile(source: Path, target: Path) -> None:
        if after:
            copyfile(source, target)
        if source.name == name:
            change(folder)
        if not after and source.exists():
            copyfile(source, target)

    monkeypatch.setattr(shutil, "copyfile", meanwhile)
    with pytest.raises(SourceChanged, match="nothing is dropped") as changed:
        drop(staging, [folder])
    assert changed.value.hint
    assert list(staging.iterdir()) == []


@pytest.fixture
def prepared() -> Iterator[None]:
    before = signal.getsignal(signal.SIGIO)
    lease.prepare()
    yield
    signal.signal(signal.SIGIO, before)


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_what_a_program_has_open_for_writing_is_refused(
    prepared: None, staging: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "b").open("ab"), pytest.raises(DropRefused, match="folder/b is being written"):
        drop(staging, [folder])
    assert list(staging.iterdir()) == []
    # Where the kernel knows its own writers only, its answer says nothing.
    monkeypatch.setattr(lease, "is_network", lambda _: True)
    with (folder / "b").open("ab"):
        drop(staging, [folder])


def test_a_list_that_no_scan_would_read_is_left_out(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marker, "MOST_BYTES", 20)
    run = drop(repository.home.staging, [folder])
    assert files_of(repository.home.staging / run)["_SUCCESS"] == ""
    assert scan(repository)[run].state == "committed"
    (revision,) = revisions(repository, run)
    assert content(repository, revision) == {"folder/b": b"", "folder/deep/a": b"1"}


def test_an_experiment_that_the_runs_own_file_would_hide_is_refused(
    staging: Path, model: Path
) -> None:
    run = make_run(staging, {"run.toml": 'experiment = "one"\n'})
    with pytest.raises(DropRefused, match=r"names its experiment in its run\.toml") as refused:
        drop(staging, [model], run=run, experiment="two")
    assert "`-e`" in refused.value.hint
    assert [each.name for each in (staging / run).iterdir()] == ["run.toml"]
    drop(staging, [model], run=run)


def test_a_run_that_was_replaced_while_its_lock_was_waited_for_is_not_there(
    staging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = staging / make_run(staging, {"model": b"weights"})
    real = fcntl.flock

    def replaced(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        run.rename(staging.parent / "moved away")
        run.mkdir()
        real(fd, how)

    monkeypatch.setattr(fcntl, "flock", replaced)
    with pytest.raises(NotFound, match="isn't there any more"), aside._in_place(run):
        pass
