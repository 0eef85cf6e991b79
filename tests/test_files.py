"""The durable write: whole or absent under its name, one winner, after a crash as well."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import disk, files
from modeldrop.backend.local_files import LocalWriter
from support import work
from support.children import started, together

OLD = b"old" * 1000
NEW = b"new" * 1000


def temps(folder: Path) -> list[Path]:
    """Return the temporary files in a folder."""
    return [each for each in folder.iterdir() if each.name.startswith(files.TEMP_PREFIX)]


def deaths(path: Path, how: str) -> Iterator[int]:
    """Write in a process that dies before its first, second, … call, until one lives."""
    call = 0
    while True:
        with started(work.write_and_die, path, call, how) as child:
            child.say()
            if not child.was_killed():
                assert child.process.returncode == 0
                return
        yield call
        call += 1


def test_process_that_dies_at_any_call_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(OLD)
    seen = []

    for _ in deaths(path, "replace"):
        seen.append(path.read_bytes())
        path.write_bytes(OLD)

    assert set(seen) == {OLD, NEW}
    assert len(seen) >= 5
    assert path.read_bytes() == NEW


def test_process_that_dies_at_any_call_leaves_no_created_file_or_a_whole_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "record"
    seen = []

    for _ in deaths(path, "create"):
        seen.append(path.read_bytes() if path.exists() else None)
        path.unlink(missing_ok=True)

    assert set(seen) == {None, NEW}
    assert len(seen) >= 5
    assert path.read_bytes() == NEW


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record"

    for data in (OLD, NEW, b""):
        files.write_durable(path, data, mode=0o600)
        assert path.read_bytes() == data
    files.write_quick(path, OLD)

    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["record"]


def test_mode_is_that_of_the_call_less_the_umask(tmp_path: Path) -> None:
    files.write_durable(tmp_path / "open", b"")
    files.write_durable(tmp_path / "closed", b"", mode=0o600)

    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0o600


def test_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()

    with pytest.raises(IsADirectoryError):
        files.write_durable(path, NEW)

    assert temps(tmp_path) == []


def test_one_of_sixteen_processes_creates(tmp_path: Path) -> None:
    path = tmp_path / "record"

    won = together(work.create, [(path, f"process {each}") for each in range(16)])

    assert sorted(won) == [False] * 15 + [True]
    assert path.read_text() == f"process {won.index(True)}"
    assert temps(tmp_path) == []


def test_who_finds_a_file_created_waits_until_its_name_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "record", []
    sync_folder = disk.sync_folder

    def fail(folder: Path | str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def note(folder: Path | str) -> None:
        synced.append(Path(folder))
        sync_folder(folder)

    monkeypatch.setattr(disk, "sync_folder", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.create_durable(path, OLD)
    assert path.read_bytes() == OLD
    monkeypatch.setattr(disk, "sync_folder", note)
    assert not files.create_durable(path, OLD)
    assert synced == [tmp_path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_of_eight_processes_renames(tmp_path: Path, kind: str) -> None:
    sources = [tmp_path / f"source-{each}" for each in range(8)]
    for each in sources:
        if kind == "folder":
            each.mkdir()
        else:
            each.write_text(each.name)
    target = tmp_path / "target"

    won = together(work.rename, [(each, target) for each in sources])

    assert won.count(True) == 1
    assert [each for each in sources if not each.exists()] == [sources[won.index(True)]]


@pytest.mark.parametrize("there", ["file", "folder", "empty folder", "dangling link"])
@pytest.mark.parametrize("source", ["file", "folder"])
def test_rename_replaces_nothing(tmp_path: Path, source: str, there: str) -> None:
    path, target = tmp_path / "source", tmp_path / "target"
    if source == "folder":
        path.mkdir()
    else:
        path.write_bytes(NEW)
    if there == "file":
        target.write_bytes(OLD)
    elif there == "dangling link":
        target.symlink_to("nowhere")
    else:
        target.mkdir()
        if there == "folder":
            (target / "in it").touch()
    before = os.lstat(target).st_ino

    with pytest.raises(FileExistsError):
        files.rename_if_absent(path, target)

    assert path.exists()
    assert os.lstat(target).st_ino == before


def without_links(*_: object, **__: object) -> None:
    """Answer as a file system without hard links does."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_without_hard_links_creation_is_exclusive_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", without_links)
    path = tmp_path / "record"

    assert files.create_durable(path, OLD)
    assert not files.create_durable(path, NEW)

    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["record"]


def test_file_system_that_can_do_neither_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def incapable(*_: object) -> bool:
        raise files.NoExclusiveCreate(errno.EINVAL, "no exclusive create")

    monkeypatch.setattr(os, "link", without_links)
    monkeypatch.setattr(files, "_rename_if_absent", incapable)

    with pytest.raises(files.NoExclusiveCreate):
        files.create_durable(tmp_path / "record", NEW)
    assert list(tmp_path.iterdir()) == []

    # A name of one's own is free to be taken, though; only a race would go unseen.
    (tmp_path / "source").mkdir()
    files.rename_if_absent(tmp_path / "source", tmp_path / "target")
    (tmp_path / "source").mkdir()
    with pytest.raises(FileExistsError):
        files.rename_if_absent(tmp_path / "source", tmp_path / "target")


@contextlib.contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a file system of 64 KiB, as root can."""
    with tempfile.TemporaryDirectory() as name:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", name],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="needs root to mount")
def test_full_disk_leaves_the_old_file_and_no_temporary_one() -> None:
    with small_disk() as folder:
        path = folder / "record"
        files.write_durable(path, OLD)

        for write in (files.write_durable, files.write_quick, files.create_durable):
            with pytest.raises(OSError, match="No space left"):
                write(path, bytes(128 * 1024))

        assert path.read_bytes() == OLD
        assert os.listdir(folder) == ["record"]


def test_folders_are_made_once_and_a_file_in_their_place_is_an_error(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b" / "c"

    files.make_folders(wanted, mode=0o700)
    files.make_folders(wanted)

    assert wanted.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    for wanted in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileExistsError):
            files.make_folders(wanted)


def test_appended_bytes_stand_where_they_were_put(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR)
    try:
        files.write_at(fd, b"abc", 8)
        disk.sync_data(fd)
        assert path.read_bytes() == b"01234567abc"
        files.truncate_durable(fd, 4)
        assert path.read_bytes() == b"0123"
    finally:
        os.close(fd)


def test_removing_is_done_once_and_asked_for_as_often_as_one_likes(tmp_path: Path) -> None:
    path = tmp_path / "intent"
    path.touch()

    files.remove_durable(path)
    files.remove_durable(path)

    assert not path.exists()


def test_write_in_an_open_folder_goes_there_wherever_its_name_leads(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    above = os.open(tmp_path, os.O_RDONLY)
    folder = os.open(tmp_path / "run", os.O_RDONLY)
    try:
        (tmp_path / "run").rename(tmp_path / "moved")
        (tmp_path / "run").symlink_to("elsewhere")
        files.write_between(above, folder, "receipt", OLD)
        files.write_between(above, folder, "receipt", NEW)
        (tmp_path / "moved" / "sub").mkdir()
        with pytest.raises(IsADirectoryError):
            files.write_between(above, folder, "sub", NEW)
    finally:
        os.close(folder)
        os.close(above)

    assert (tmp_path / "moved" / "receipt").read_bytes() == NEW
    assert sorted(os.listdir(tmp_path / "moved")) == ["receipt", "sub"]
    assert os.listdir(tmp_path / "elsewhere") == []
    assert temps(tmp_path) == []


def test_only_a_bit_for_others_lets_others_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()

    for mode, others in ((0o600, False), (0o664, False), (0o666, True), (0o602, True)):
        path.chmod(mode)
        assert files.others_can_write(path) == others


def test_folder_in_the_working_folder_is_made(tmp_path: Path) -> None:
    # `tmp_path` is the working folder; a name without a slash has nothing above it to sync.
    files.make_folders(Path("new"))
    files.make_folders(Path("other/below"))

    assert (tmp_path / "new").is_dir()
    assert (tmp_path / "other" / "below").is_dir()


@pytest.mark.parametrize("way", ["created", "written in an open folder", "a file on its way"])
def test_a_temporary_file_is_never_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its name can't be guessed; if it could, nobody's file is written to."""
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0" * 16)
    there = tmp_path / f"{files.TEMP_PREFIX}{'0' * 16}"
    there.write_text("somebody's")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    def write() -> None:
        if way == "created":
            files.write_temp(str(there), b"mine", 0o644, sync=False)
        elif way == "a file on its way":
            LocalWriter(tmp_path / "name", lambda: None)
        else:
            files.write_between(folder, folder, "name", b"mine")

    try:
        with pytest.raises(FileExistsError):
            write()
    finally:
        os.close(folder)
    assert there.read_text() == "somebody's"
