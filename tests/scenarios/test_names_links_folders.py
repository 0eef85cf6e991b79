"""Scenarios 14-20: folders that arrive in every way, and what must not be stored or followed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from support.gates import Gate
from support.outside import AS_THE_MODES_SAY, Outside
from support.program import as_process
from support.service import Home, MakeHome
from support.waiting import comes_true

TREE = {"model/config.json": b"{}", "model/a/b/weights.bin": b"weights", "notes.txt": b"notes"}


def make_tree(folder: Path) -> Path:
    """Make the files of `TREE` in a folder."""
    for name, data in TREE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def comes_to_hold(home: Home, run: str, files: dict[str, bytes]) -> bool:
    """Return whether the last revision comes to name these files; all bytes are compared then."""
    if not (
        home.is_committed(run, timeout=60)
        and comes_true(lambda: home.digests(run).keys() == files.keys(), timeout=60)
    ):
        return False
    return home.stored_files(run) == files


# Folders


@pytest.mark.scenario(14)
@pytest.mark.parametrize("times", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_every_mkdir_p_and_write_is_stored(service_home: MakeHome, times: int) -> None:
    home = service_home()
    home.start_ready()
    runs = [str(uuid.uuid4()) for _ in range(20)]

    # One after the other in every run, as fast as it goes: the watch of a new folder comes too
    # late for what is in it.
    for number in range(times):
        folder = home.staging / runs[number % 20] / str(number) / "a/b/c"
        folder.mkdir(parents=True)
        (folder / "f").write_bytes(b"%d" % number)

    for index, run in enumerate(runs):
        files = {f"{n}/a/b/c/f": b"%d" % n for n in range(index, times, 20)}
        assert comes_to_hold(home, run, files)


@pytest.mark.scenario(15)
def test_populated_folder_that_is_moved_in_is_stored_once(service_home: MakeHome) -> None:
    home = service_home()
    home.start_ready()
    run = str(uuid.uuid4())

    make_tree(home.folder / "made elsewhere").rename(home.staging / run)

    assert comes_to_hold(home, run, TREE)
    assert (home.revisions(run), home.uploads(run)) == (1, 1)


@pytest.mark.scenario(15)
def test_copy_from_another_file_system_is_stored(service_home: MakeHome) -> None:
    home = service_home()
    home.start_ready()
    run = str(uuid.uuid4())

    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        assert Path(elsewhere).stat().st_dev != home.staging.stat().st_dev
        source = make_tree(Path(elsewhere))
        subprocess.run(["cp", "-r", source, home.staging / run], check=True)

    assert comes_to_hold(home, run, TREE)


def _rsync(source: Path, target: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", f"{target}/"], check=True)


def _as_rsync_does(source: Path, target: Path) -> None:
    """Receive each file under a name of mkstemp's, with its old times, and rename it.

    The network stands still before the last rename, for several quiet times.
    """
    paths = sorted(source.rglob("*"))
    for path in paths:
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_name(f".{place.name}.Xa7Q2z")
        shutil.copy2(path, unfinished)
        if path == paths[-1]:
            time.sleep(1.5)
        unfinished.rename(place)


@pytest.mark.scenario(15)
@pytest.mark.parametrize(
    "copy",
    [
        _as_rsync_does,
        pytest.param(
            _rsync,
            marks=pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed"),
        ),
    ],
    ids=["as-rsync-does", "rsync"],
)
def test_rsync_is_stored_without_its_temporary_files(
    service_home: MakeHome, copy: Callable[[Path, Path], None]
) -> None:
    home = service_home()
    home.start_ready()
    run = str(uuid.uuid4())

    copy(make_tree(home.folder / "source"), home.staging / run)

    assert comes_to_hold(home, run, TREE)
    assert home.revisions(run) == 1


@pytest.mark.scenario(15)
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_unpacked_tar_of_many_files_is_stored(service_home: MakeHome, count: int) -> None:
    home = service_home()
    home.start_ready()
    run = str(uuid.uuid4())
    packed = home.folder / "model.tar"
    source = home.folder / "model"
    for number in range(count):
        path = source / f"{number // 100}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    with tarfile.open(packed, "w") as tar:
        tar.add(source, "model")
    (home.staging / run).mkdir()

    subprocess.run(["tar", "-xf", packed, "-C", home.staging / run], check=True)

    files = {f"model/{n // 100}/{n}": b"%d" % n for n in range(count)}
    assert comes_to_hold(home, run, files)


# Renamed


@pytest.mark.scenario(16)
def test_renamed_before_the_commit_its_bytes_are_sent_once(
    service_home: MakeHome, tmp_path: Path
) -> None:
    home = service_home()
    gate = Gate(tmp_path)
    home.start_ready(twist=gate.twist("sent"))
    run = home.drop(b"weights", "checkpoint.bin")
    assert gate.is_reached()

    (home.staging / run / "checkpoint.bin").rename(home.staging / run / "model.bin")
    gate.open()

    assert comes_to_hold(home, run, {"model.bin": b"weights"})
    assert (home.revisions(run), home.uploads(run)) == (1, 1)


@pytest.mark.scenario(16)
def test_renamed_after_the_commit_is_a_revision_of_the_same_bytes(service_home: MakeHome) -> None:
    home = service_home()
    home.start_ready()
    run = home.drop(b"weights", "checkpoint.bin")
    assert home.is_committed(run)

    (home.staging / run / "checkpoint.bin").rename(home.staging / run / "model.bin")

    assert home.is_committed(run, revision=2)
    assert home.stored_files(run) == {"model.bin": b"weights"}
    assert home.stored_files(run, revision=1) == {"checkpoint.bin": b"weights"}
    assert (home.revisions(run), home.uploads(run)) == (2, 1)


# Links and special files


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path / "outside")


def test_the_watch_over_the_outside_sees_a_read_and_a_listing(outside: Outside) -> None:
    for read in (outside.file.read_bytes, lambda: os.listdir(outside.folder)):
        with pytest.raises(AssertionError), outside.unread():
            read()


Make = Callable[[Path, Outside], None]


def _loop(path: Path, _: Outside) -> None:
    path.symlink_to(path.name)


def _socket(path: Path, _: Outside) -> None:
    # A path of a socket may have 108 bytes.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path, _: Outside) -> None:
    try:
        # /dev/zero, which never comes to an end.
        os.mknod(path, 0o20644, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device needs CAP_MKNOD")


SPECIAL: dict[str, tuple[Make, str]] = {
    "link-to-file": (lambda path, out: path.symlink_to(out.file), "a symbolic link"),
    "link-to-folder": (lambda path, out: path.symlink_to(out.folder), "a symbolic link"),
    "link-loop": (_loop, "a symbolic link"),
    "link-dangling": (lambda path, _: path.symlink_to("nowhere"), "a symbolic link"),
    "fifo": (lambda path, _: os.mkfifo(path), "a FIFO"),
    "socket": (_socket, "a socket"),
    "device": (_device, "a device"),
}
specials = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.root) if kind == "device" else kind for kind in SPECIAL],
)


@pytest.mark.scenario(17)
@specials
@pytest.mark.parametrize("place", ["special", "folder/special"])
def test_special_file_is_refused_at_once_and_holds_nothing_up(
    service_home: MakeHome, outside: Outside, kind: str, place: str
) -> None:
    home = service_home()
    home.start_ready()
    make, reason = SPECIAL[kind]
    run = str(uuid.uuid4())
    aside = home.folder / run
    (aside / place).parent.mkdir(parents=True)
    make(aside / place, outside)
    (aside / "model.bin").write_bytes(b"regular")
    # It is complete by its own word, so that all the time that passes is the service's.
    (aside / "_SUCCESS").touch()

    with outside.unread():
        began = time.monotonic()
        aside.rename(home.staging / run)
        assert home.is_committed(run)
        took = time.monotonic() - began

    # 100 ms is the promise; the rest is for a busy machine, and until the next scan.
    assert took < 1.0 + 0.2
    assert home.stored_files(run) == {"model.bin": b"regular"}
    receipt = json.loads((home.staging / run / ".modeldrop-receipt.json").read_text())
    assert receipt["refused"] == [{"path": place, "reason": f"it is {reason}"}]
    assert comes_true(lambda: home.standing(run).get("refused") == receipt["refused"])
    assert os.path.lexists(home.staging / run / place)


@pytest.mark.scenario(17)
@specials
def test_run_of_nothing_but_a_special_file_is_parked_with_the_reason(
    service_home: MakeHome, outside: Outside, kind: str
) -> None:
    home = service_home()
    home.start_ready()
    make, reason = SPECIAL[kind]
    run = str(uuid.uuid4())
    (home.staging / run).mkdir()

    with outside.unread():
        make(home.staging / run / "special", outside)
        assert home.is_in(run, "parked", f"nothing in it can be stored: special: it is {reason}")

    assert home.is_committed(home.drop(b"dropped later"))
    assert (home.revisions(run), home.uploads(run)) == (0, 0)


# Permissions


@pytest.mark.scenario(18)
def test_unreadable_file_blocks_its_run_alone_until_it_is_readable(
    service_home: MakeHome,
) -> None:
    home = service_home()
    within: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("runs as root, whom no permission stops, and setpriv is not installed")
        within = AS_THE_MODES_SAY
    home.start_ready(within=within)
    run = str(uuid.uuid4())
    aside = home.folder / run
    aside.mkdir()
    (aside / "model.bin").write_bytes(b"not for everybody")
    (aside / "model.bin").chmod(0)
    aside.rename(home.staging / run)

    assert home.is_in(run, "blocked", "model.bin can't be read: Permission denied")
    assert home.is_committed(home.drop(b"dropped later"))
    assert home.revisions(run) == 0
    (home.staging / run / "model.bin").chmod(0o644)

    assert home.is_committed(run)
    assert home.stored(run) == b"not for everybody"


# Names

ODD_NAMES: dict[str, tuple[bytes, str | None]] = {
    "newline": (b"new\nline", "its name has a control character"),
    "escape": (b"\x1b]0;owned\x07\x1b[31mred", "its name has a control character"),
    "c1": ("\x9b31mred".encode(), "its name has a control character"),
    "option": (b"-rf", None),
    "255-bytes": (b"n" * 255, None),
    "not-utf-8": (b"caf\xe9", "its name is not UTF-8"),
    "direction": ("gnp.\u202etxt".encode(), "its name has a control character"),
    "unicode": ("модель-模型-🧪".encode(), None),
}


@pytest.mark.scenario(19)
@pytest.mark.parametrize("kind", list(ODD_NAMES))
def test_odd_name_is_stored_or_refused_and_drives_no_terminal(
    service_home: MakeHome, kind: str
) -> None:
    name, reason = ODD_NAMES[kind]
    home = service_home()
    service = home.start_ready()
    run = home.drop(b"regular")
    (home.staging / run / os.fsdecode(name)).write_bytes(b"odd")
    odd_run = os.fsdecode(b"run " + name[:200])
    (home.staging / odd_run).mkdir()

    assert home.is_committed(run)
    if reason is None:
        assert home.stored_files(run) == {"model.bin": b"regular", name.decode(): b"odd"}
    else:
        assert home.stored_files(run) == {"model.bin": b"regular"}
        assert comes_true(lambda: "refused" in home.standing(run))
        [refused] = home.standing(run)["refused"]
        assert refused["reason"] == reason
    assert comes_true(lambda: len(home.junk()) == 1)
    told = as_process("--home", home.root, "status")
    assert told.code == 0
    assert "regular" not in told.out
    for text in (told.out, told.err, as_process("--home", home.root, "log").out, service.log):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    # One line, one record, however its names are spelled.
    lines = (home.root / "journal.jsonl").read_bytes().splitlines()
    assert all(isinstance(json.loads(line), dict | list) for line in lines)
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", (home.root / "journal.jsonl").read_bytes())
    as_json = as_process("--home", home.root, "status", "--json")
    assert len(as_json.json["junk"]) == 1


# Junk


@pytest.mark.scenario(20)
def test_what_is_no_run_is_reported_and_never_touched(service_home: MakeHome) -> None:
    home = service_home()
    service = home.start_ready()
    guid = str(uuid.uuid4())
    (home.staging / "loose.bin").write_bytes(b"no folder")
    for name in ("my-model", guid, guid.upper()):
        (home.staging / name).mkdir()
    for name in ("my-model", guid, guid.upper()):
        (home.staging / name / "model.bin").write_bytes(name.encode())

    assert home.is_committed(home.drop(b"dropped later"))
    reported = {
        "my-model": "its name is no run GUID",
        "loose.bin": "it is a file, not a run folder",
        guid: f"it is another spelling of the GUID of {guid.upper()}",
        guid.upper(): f"it is another spelling of the GUID of {guid}",
    }
    assert comes_true(lambda: home.junk() == reported)
    assert home.revisions(guid) == 0
    assert (home.staging / "loose.bin").read_bytes() == b"no folder"
    for name in ("my-model", guid, guid.upper()):
        assert (home.staging / name / "model.bin").read_bytes() == name.encode()
    # Reported once, however often it is seen.
    assert service.log.count("left where it is: loose.bin") == 1
