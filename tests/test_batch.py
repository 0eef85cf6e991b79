"""Files that are written together: each whole or absent, and none lost that was promised."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from modeldrop import batch as batches
from modeldrop import disk, files
from modeldrop.batch import Batch
from modeldrop.intake import lease
from support import work
from support.children import started

DATA = b"data" * 1000
FILES = 20


def names(folder: Path) -> list[str]:
    """Return what is in a folder, temporary files apart."""
    return sorted(each for each in os.listdir(folder) if not each.startswith(files.TEMP_PREFIX))


def fill(batch: Batch, folder: Path, count: int = FILES) -> list[batches.Pending]:
    """Put files with names of two digits into a batch."""
    return [
        batch.replace(str(folder / f"{each:02d}"), DATA + b"%d" % each) for each in range(count)
    ]


def fill_tree(batch: Batch, tree: Path) -> list[batches.Pending]:
    """Put a folder of two files into a batch, which is to appear whole."""
    made = [
        batch.create_within(str(tree), str(tree / each), DATA) for each in ("a/b/bytes", "record")
    ]
    return [each for each in made if each is not None]


def below(folder: Path) -> list[str]:
    """Return the paths of all files in a folder and below, also of those in temporary ones."""
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was waited for: `whole` for a file system, otherwise the name of what it was."""
    seen: list[str] = []
    whole, alone, data = disk.sync_whole, disk.sync_path, disk.sync_data

    def note_whole(fd: int) -> None:
        seen.append("whole")
        whole(fd)

    def note_alone(path: str) -> None:
        seen.append("temp" if files.TEMP_PREFIX in path else os.path.basename(path))
        alone(path)

    def note_data(fd: int) -> None:
        seen.append("data")
        data(fd)

    monkeypatch.setattr(disk, "sync_whole", note_whole)
    monkeypatch.setattr(disk, "sync_path", note_alone)
    monkeypatch.setattr(disk, "sync_data", note_data)
    monkeypatch.setattr(disk, "syncs_whole", lambda _: True)
    monkeypatch.setattr(batches, "_unwritten", lambda: 0)
    monkeypatch.setattr(batches, "_MANY", 2)
    return seen


@pytest.mark.parametrize("together", [True, False])
def test_nothing_has_its_name_before_all_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[str], together: bool
) -> None:
    monkeypatch.setattr(disk, "syncs_whole", lambda _: together)
    give_name = files.give_name

    def named(temp: str, path: str) -> None:
        waits.append("name")
        give_name(temp, path)

    monkeypatch.setattr(files, "give_name", named)
    with Batch() as batch:
        pending = fill(batch, tmp_path, 3)
        assert names(tmp_path) == []
        batch.finish()

    assert all(each.created for each in pending)
    assert {each: (tmp_path / each).read_bytes() for each in names(tmp_path)} == {
        f"{each:02d}": DATA + b"%d" % each for each in range(3)
    }
    assert len(os.listdir(tmp_path)) == 3
    if together:
        # One folder is waited for by itself: that is one wait either way.
        assert waits == ["whole", *["name"] * 3, tmp_path.name]
    else:
        assert waits == [*["temp"] * 3, *["name"] * 3, tmp_path.name]


@pytest.mark.parametrize("together", [True, False])
def test_a_folder_appears_whole_once_all_of_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[str], together: bool
) -> None:
    monkeypatch.setattr(disk, "syncs_whole", lambda _: together)
    with Batch() as batch:
        pending = fill_tree(batch, tmp_path / "tree")
        assert [Path(each.temp).read_bytes() for each in pending] == [DATA, DATA]
        batch.sync()
        assert names(tmp_path) == []
        assert not any(each.created for each in pending)
        # The bytes and the names within, but for its own.
        alone = sorted(["temp"] * 5)
        assert sorted(waits) == (["whole"] if together else alone)
        waits.clear()
        batch.finish()
        # What lasts already isn't waited for again.
        assert waits == [tmp_path.name]
        assert all(each.created for each in pending)
    assert below(tmp_path) == ["tree/a/b/bytes", "tree/record"]
    assert (tmp_path / "tree" / "record").read_bytes() == DATA


def test_a_folder_that_is_there_already_is_left_as_it_was_and_told(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with Batch() as batch:
        assert fill_tree(batch, tmp_path / "there") == []
        free, taken = fill_tree(batch, tmp_path / "free"), fill_tree(batch, tmp_path / "taken")
        # Somebody else is quicker, and has not come far.
        (tmp_path / "taken").mkdir()
        batch.finish()
        assert [each.created for each in [*free, *taken]] == [True, True, False, False]
    assert below(tmp_path) == ["free/a/b/bytes", "free/record"]
    assert sorted(os.listdir(tmp_path)) == ["free", "taken", "there"]


def test_where_a_folder_cannot_be_renamed_without_replacing_none_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise files.NoExclusiveCreate(errno.EINVAL, "it can't")

    monkeypatch.setattr(files, "_rename_if_absent", refuse)
    with Batch() as batch:
        assert fill_tree(batch, tmp_path / "tree") == []
        with pytest.raises(FileNotFoundError):
            fill_tree(batch, tmp_path / "missing" / "tree")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_lacks_a_file_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Batch() as batch:
        fill_tree(batch, tmp_path / "first")
        monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            batch.create_within(str(tmp_path / "first"), str(tmp_path / "first" / "more"), DATA)
        monkeypatch.undo()
        unwanted = fill_tree(batch, tmp_path / "second")
        batch.drop(unwanted[:1])
        fill_tree(batch, tmp_path / "third")
        batch.finish()
    assert os.listdir(tmp_path) == ["third"]


def test_what_is_there_already_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "01").write_bytes(b"old")
    with Batch() as batch:
        batch.replace(str(tmp_path / "01"), b"new")
        assert (tmp_path / "01").read_bytes() == b"old"
        batch.finish()
    assert (tmp_path / "01").read_bytes() == b"new"


def test_a_batch_that_is_closed_leaves_nothing(tmp_path: Path) -> None:
    with Batch() as batch:
        fill(batch, tmp_path)
        fill_tree(batch, tmp_path / "tree")
        batch.write(str(tmp_path / "note"), DATA)
        assert len(os.listdir(tmp_path)) == FILES + 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("room", "fails"),
    [(disk, "sync_whole"), (disk, "sync_path"), (files, "give_name"), (os, "write")],
)
def test_a_batch_that_fails_says_so_and_leaves_no_part_of_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[str],
    room: ModuleType,
    fails: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(disk, "syncs_whole", lambda _: fails != "sync_path")
    monkeypatch.setattr(room, fails, fail)

    def write() -> None:
        with Batch() as batch:
            fill(batch, tmp_path)
            fill_tree(batch, tmp_path / "tree")
            batch.finish()

    with pytest.raises(OSError, match="Input/output error"):
        write()
    assert os.listdir(tmp_path) == []


def test_a_file_that_could_not_be_written_is_not_in_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever passes over one bad file mustn't give half of it a name."""
    real = os.write

    def half(fd: int, data: memoryview) -> int:
        if len(data) < 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[:7])

    with Batch() as batch:
        batch.replace(str(tmp_path / "good"), DATA)
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            batch.replace(str(tmp_path / "bad"), b"twelve bytes")
        monkeypatch.undo()
        with pytest.raises(FileNotFoundError):
            batch.replace(str(tmp_path / "missing" / "worse"), DATA)
        batch.finish()
    assert os.listdir(tmp_path) == ["good"]


def test_what_is_left_out_again_gets_no_name(tmp_path: Path) -> None:
    with Batch() as batch:
        pending = fill(batch, tmp_path, 4)
        batch.drop(pending[1:3])
        batch.finish()
    assert sorted(os.listdir(tmp_path)) == ["00", "03"]


@pytest.mark.parametrize("together", [True, False])
def test_what_is_written_under_its_own_name_lasts_before_any_name_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[str], together: bool
) -> None:
    monkeypatch.setattr(disk, "syncs_whole", lambda _: together)
    notes, records = tmp_path / "notes", tmp_path / "records"
    for each in (notes, records):
        each.mkdir()
    with Batch() as batch:
        batch.write(str(notes / "note"), DATA)
        batch.replace(str(records / "record"), DATA)
        assert (notes / "note").read_bytes() == DATA
        batch.sync()
        assert names(records) == []
        assert sorted(waits) == (["whole"] if together else ["note", "notes", "temp"])
    assert below(tmp_path) == ["notes/note"]


def test_what_is_written_under_its_own_name_and_does_not_last_goes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(disk, "sync_path", fail)
    monkeypatch.setattr(disk, "sync_whole", fail)
    (tmp_path / "taken").write_bytes(b"old")
    with Batch() as batch:
        batch.write(str(tmp_path / "bytes"), DATA)
        with pytest.raises(FileExistsError):
            batch.write(str(tmp_path / "taken"), DATA)
        unwanted = batch.write(str(tmp_path / "unwanted"), DATA)
        batch.drop([unwanted])
        with pytest.raises(OSError, match="Input/output error"):
            batch.finish()
    assert os.listdir(tmp_path) == ["taken"]
    assert (tmp_path / "taken").read_bytes() == b"old"


def test_failures_of_the_disk_are_listened_for_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that failed before its file system is opened may be told to nobody."""
    write_temp = files.write_temp
    with Batch() as batch:

        def written(temp: str, data: bytes, mode: int, *, sync: bool) -> None:
            assert batch._disks.keys() == {tmp_path.stat().st_dev}
            write_temp(temp, data, mode, sync=sync)

        monkeypatch.setattr(files, "write_temp", written)
        assert len(fill(batch, tmp_path, 2)) == 2


def test_a_file_system_that_became_read_only_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = SimpleNamespace(f_flag=os.ST_RDONLY)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        disk.sync_whole(fd)
        monkeypatch.setattr(os, "fstatvfs", lambda _: read_only)
        with pytest.raises(OSError, match="Read-only"):
            disk.sync_whole(fd)
    finally:
        os.close(fd)


def test_the_usual_file_systems_are_relied_on(tmp_path: Path) -> None:
    kind = lease.file_system(
        os.fsencode(tmp_path), tmp_path.stat().st_dev, Path("/proc/self/mountinfo").read_bytes()
    )
    if kind not in {"ext4", "xfs", "btrfs"} or disk._kernel() < (5, 17):
        pytest.skip(f"the tests' folder is on {kind}, by Linux {os.uname().release}")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert disk.syncs_whole(fd)
    finally:
        os.close(fd)


def test_many_are_waited_for_together_unless_much_else_is_unwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[str]
) -> None:
    unwritten: list[int] = [FILES << 20]
    monkeypatch.setattr(batches, "_unwritten", lambda: unwritten[0])

    def written() -> list[str]:
        waits.clear()
        folder = tmp_path / f"{unwritten[0]}"
        folder.mkdir()
        with Batch() as batch:
            fill(batch, folder)
            batch.finish()
        assert len(names(folder)) == FILES
        return waits

    assert written().count("whole") == 1
    unwritten[0] += 1
    assert written() == [*["temp"] * FILES, str(unwritten[0])]


@pytest.mark.parametrize(
    ("unwritten", "loaded", "together"),
    [(1 << 19, True, True), ((1 << 19) + 1, True, False), (0, False, False)],
)
def test_two_are_waited_for_together_if_next_to_nothing_else_is_unwritten_nor_to_be_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[str],
    unwritten: int,
    loaded: bool,
    together: bool,
) -> None:
    monkeypatch.setattr(batches, "_MANY", 3)
    monkeypatch.setattr(batches, "_unwritten", lambda: unwritten)
    monkeypatch.setattr(disk, "has_library", lambda: loaded)
    with Batch() as batch:
        fill(batch, tmp_path, 2)
        batch.finish()
    assert names(tmp_path) == ["00", "01"]
    assert waits == [*(["whole"] if together else ["temp", "temp"]), tmp_path.name]


def test_a_file_that_is_replaced_is_freed_only_once_its_successor_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "00").write_bytes(b"old")
    old, give_name = os.stat(tmp_path / "00").st_ino, files.give_name

    def is_open() -> bool:
        found: list[int] = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                found.append(os.stat(f"/proc/self/fd/{fd}").st_ino)
        return old in found

    seen: list[bool] = []

    def named(temp: str, path: str) -> None:
        give_name(temp, path)
        seen.append(is_open())

    monkeypatch.setattr(files, "give_name", named)
    with Batch() as batch:
        fill(batch, tmp_path, 1)
        batch.finish()
    assert seen == [True]
    assert not is_open()


def test_how_much_is_unwritten_is_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"MemTotal:  24684084 kB\nDirty:  69 kB\nWriteback:  7 kB\nWritebackTmp:  9 kB\n"
    assert 0 <= batches._read_unwritten() < 1 << 50
    monkeypatch.setattr(os, "read", lambda *_: said)
    assert batches._read_unwritten() == 76 << 10
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    # Who can't know waits for its own files alone.
    assert batches._read_unwritten() > 1 << 60


def test_a_file_system_that_hides_failures_is_not_relied_on() -> None:
    def answer(path: str) -> bool:
        fd = os.open(path, os.O_RDONLY)
        try:
            return disk.syncs_whole(fd)
        finally:
            os.close(fd)

    assert not answer("/proc")
    assert not answer("/dev")


def test_an_old_kernel_is_not_relied_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_kernel", lambda: (5, 16))
    fd = os.open(tmp_path, os.O_RDONLY)
    assert not disk.syncs_whole(fd)
    os.close(fd)


def test_bytes_are_added_to_an_open_file_and_waited_for_before_a_name_is_given(
    tmp_path: Path, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "syncs_whole", lambda _: False)
    lines = tmp_path / "lines"
    lines.write_bytes(b"one\n")
    fd = os.open(lines, os.O_RDWR)
    with Batch() as batch:
        batch.extend(fd, b"two\n", 4)
        batch.replace(str(tmp_path / "head"), b"8")
        assert not (tmp_path / "head").exists()
        batch.finish()
    os.close(fd)
    assert lines.read_bytes() == b"one\ntwo\n"
    assert waits == ["data", "temp", tmp_path.name]


@pytest.mark.parametrize("how", ["together", "alone"])
def test_process_that_dies_at_any_call_leaves_what_is_whole_or_nothing(
    tmp_path: Path, how: str
) -> None:
    found: set[int] = set()
    call = 0
    while True:
        folder = tmp_path / str(call)
        folder.mkdir()
        with started(work.batch_and_die, folder, call, how) as child:
            child.say()
            killed = child.was_killed()
        found.add(len(names(folder)))
        for each in names(folder):
            parts = ["a/bytes", "b/record"] if (folder / each).is_dir() else ["."]
            assert [(folder / each / part).read_bytes() for part in parts] == [DATA] * len(parts)
        if not killed:
            break
        call += 1
    # From none to all of them, one after the other.
    assert found == {0, 1, 2, 3}
    assert call > 20


def test_a_group_can_wait_on_two_disks_at_once(tmp_path: Path, waits: list[str]) -> None:
    shm = Path("/dev/shm")  # noqa: S108 - another file system that anybody may write to
    if not shm.is_dir() or not os.access(shm, os.W_OK):
        pytest.skip("there is no second file system to write to: /dev/shm")
    other = shm / f"modeldrop-{os.getpid()}"
    other.mkdir()
    try:
        with Batch() as batch:
            for each in (tmp_path, other):
                fill(batch, each, 2)
            batch.finish()
        assert names(tmp_path) == names(other) == ["00", "01"]
        # Each disk once for the bytes; of the names there is one folder on each.
        assert waits == ["whole", "whole", tmp_path.name, other.name]
    finally:
        for name in os.listdir(other):
            (other / name).unlink()
        other.rmdir()


def test_what_is_only_created_leaves_what_has_its_name_and_ends_the_row(
    tmp_path: Path, waits: list[str]
) -> None:
    (tmp_path / "01").write_bytes(b"another's")
    with Batch() as batch:
        pending = [batch.create(str(tmp_path / f"{each:02d}"), DATA) for each in range(3)]
        batch.sync()
        assert names(tmp_path) == ["01"]
        batch.give(pending)

    assert [each.created for each in pending] == [True, False, False]
    assert sorted(os.listdir(tmp_path)) == ["00", "01"]
    assert (tmp_path / "00").read_bytes() == DATA
    assert (tmp_path / "01").read_bytes() == b"another's"
    # Its name lasts as well, before anybody is told of it.
    assert waits[-1] == tmp_path.name


def test_names_are_given_and_wait_in_the_order_that_is_asked_for(
    tmp_path: Path, waits: list[str]
) -> None:
    for each in ("claims", "records", "counters"):
        (tmp_path / each).mkdir()
    with Batch() as batch:
        counter = batch.replace(str(tmp_path / "counters" / "0"), DATA)
        record = batch.create(str(tmp_path / "records" / "0"), DATA)
        claim = batch.create(str(tmp_path / "claims" / "0"), DATA)
        batch.sync()
        waits.clear()
        batch.give([claim])
        assert [names(each) for each in sorted(tmp_path.iterdir())] == [["0"], [], []]
        batch.give([record])
        batch.give([counter], waits=False)
    assert waits == ["claims", "records"]
    assert [names(each) for each in sorted(tmp_path.iterdir())] == [["0"]] * 3


def test_names_that_are_there_wait_with_the_bytes_of_a_batch(
    tmp_path: Path, waits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "syncs_whole", lambda _: False)
    (tmp_path / "there").mkdir()
    with Batch() as batch:
        batch.confirm(str(tmp_path / "there"))
        assert waits == []
        batch.sync()
    assert waits == ["there"]
    with Batch() as batch, pytest.raises(FileNotFoundError):
        batch.confirm(str(tmp_path / "gone"))
