"""The lease: who writes, as the kernel tells."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop.errors import SourceChanged
from modeldrop.intake import lease, walk
from modeldrop.intake.lease import Writers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")

GUID = "3f2b8c1e-0d4a-4c6e-9b1f-2a7d5e8c9f01"

OPEN = "file = open(sys.argv[1], 'r+b')"


@pytest.fixture(autouse=True)
def prepared() -> Iterator[None]:
    before = signal.getsignal(signal.SIGIO)
    lease.prepare()
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    run = tmp_path / GUID
    run.mkdir()
    (run / "model.pt").write_bytes(b"x" * 8192)
    return run / "model.pt"


@contextlib.contextmanager
def another_process(code: str, path: Path) -> Iterator[None]:
    """Run `code` in another process, which then stays as it is until the block is left."""
    script = f"import sys\n{code}\nprint('there', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        yield
        assert process.stdin
        process.stdin.close()


def ask(path: Path) -> Writers:
    fd = os.open(path, os.O_RDONLY)
    try:
        return lease.probe(fd)
    finally:
        os.close(fd)


def test_nobody_has_the_file_open(model: Path) -> None:
    assert ask(model) is Writers.NONE


def test_a_reader_is_no_writer(model: Path) -> None:
    with another_process("file = open(sys.argv[1], 'rb')", model):
        assert ask(model) is Writers.NONE


def test_a_process_that_writes_nothing_but_has_it_open_is_a_writer(model: Path) -> None:
    with another_process(OPEN, model):
        assert ask(model) is Writers.SOME
    assert ask(model) is Writers.NONE


def test_a_writer_through_a_hard_link_outside_of_staging_is_seen(
    model: Path, tmp_path: Path
) -> None:
    os.link(model, tmp_path / "outside")
    with another_process(OPEN, tmp_path / "outside"):
        assert ask(model) is Writers.SOME


def test_a_shared_writable_mapping_is_a_writer_after_its_descriptor_is_closed(
    model: Path,
) -> None:
    # mmap.mmap keeps a descriptor of its own, so the C function it is.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    read_write, shared, private = 3, 1, 2

    def mapped(flags: int, mode: int) -> int:
        fd = os.open(model, mode)
        address = libc.mmap(None, 4096, read_write, flags, fd, 0)
        os.close(fd)
        assert address not in {None, ctypes.c_void_p(-1).value}
        return int(address)

    address = mapped(shared, os.O_RDWR)
    assert ask(model) is Writers.SOME
    libc.munmap(address, 4096)
    assert ask(model) is Writers.NONE
    address = mapped(private, os.O_RDONLY)
    assert ask(model) is Writers.NONE, "a private mapping never changes the file"
    libc.munmap(address, 4096)


def test_no_lease_is_held_after_a_probe(model: Path) -> None:
    fd = os.open(model, os.O_RDONLY)
    try:
        assert lease.probe(fd) is Writers.NONE
        # Would fail with EWOULDBLOCK during a lease.
        os.close(os.open(model, os.O_WRONLY | os.O_NONBLOCK))
        assert lease.probe(fd) is Writers.NONE
    finally:
        os.close(fd)


@pytest.mark.parametrize("prepared_first", [True, False])
def test_a_lease_broken_by_a_writer_ends_only_a_process_that_was_not_prepared(
    model: Path, prepared_first: bool
) -> None:
    script = f"""
import fcntl, os, signal, sys
from modeldrop.intake import lease
signal.signal(signal.SIGIO, signal.SIG_DFL)  # ignored by the parent, and that is inherited
{"lease.prepare()" if prepared_first else ""}
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
try:
    os.open(sys.argv[1], os.O_WRONLY | os.O_NONBLOCK)
except BlockingIOError:
    print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(model)], stdout=subprocess.PIPE, check=False
    )
    if prepared_first:
        assert (done.returncode, done.stdout) == (0, b"alive\n")
    else:
        # Why `prepare` is there; should the kernel ever stop doing this, it can go.
        assert done.returncode == -signal.SIGIO


def test_without_prepare_nothing_is_risked_and_nothing_known(model: Path) -> None:
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    with another_process(OPEN, model):
        assert ask(model) is Writers.UNKNOWN


def test_a_file_system_or_a_platform_without_leases_answers_unknown(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    assert lease.probe(reader) is Writers.UNKNOWN  # EINVAL
    os.close(reader)
    os.close(writer)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(fcntl, "F_SETLEASE")
    assert ask(model) is Writers.UNKNOWN


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of somebody else")
def test_a_file_of_somebody_else_answers_unknown() -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "theirs").touch(mode=0o644)
    os.seteuid(65534)
    try:
        assert ask(folder / "theirs") is Writers.UNKNOWN
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


def test_one_writer_among_many_files_is_found(model: Path, tmp_path: Path) -> None:
    for number in range(20):
        (model.parent / f"shard-{number}").touch()
    seen = walk.observe(tmp_path, GUID)
    before = len(os.listdir("/dev/fd"))
    assert lease.probe_files(tmp_path, GUID, seen.everything()) is Writers.NONE
    with another_process(OPEN, model):
        assert lease.probe_files(tmp_path, GUID, seen.everything()) is Writers.SOME
    assert len(os.listdir("/dev/fd")) == before


def test_a_writer_weighs_more_than_what_is_unknown(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (model.parent / name).touch()
    seen = walk.observe(tmp_path, GUID)
    answers = [Writers.NONE, Writers.UNKNOWN, Writers.NONE, Writers.NONE]
    monkeypatch.setattr(lease, "probe", lambda _: answers.pop())
    assert lease.probe_files(tmp_path, GUID, seen.files) is Writers.UNKNOWN
    answers = [Writers.NONE, Writers.SOME, Writers.UNKNOWN]
    assert lease.probe_files(tmp_path, GUID, seen.files) is Writers.SOME


def test_a_file_that_changed_since_it_was_seen_is_said(model: Path, tmp_path: Path) -> None:
    seen = walk.observe(tmp_path, GUID)
    model.write_bytes(b"y")
    with pytest.raises(SourceChanged):
        lease.probe_files(tmp_path, GUID, seen.files)


MOUNTS = rb"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:45 / /mnt/share rw - nfs4 server:/export rw,vers=4.2
31 22 0:46 / /mnt/with\040space rw shared:7 master:1 - fuse.sshfs me@host: rw
32 22 0:47 /@home /home rw - btrfs /dev/vdb rw
33 32 0:50 / /home/me/nas rw - cifs //nas/x rw
34 22 0:51 / /over rw - ext4 /dev/a rw
35 22 0:52 / /over rw - overlay overlay rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "device", "expected"),
    [
        (b"/anything", (254, 0), "ext4"),
        (b"/mnt/share/staging", (0, 45), "nfs4"),
        (b"/mnt/with space/s", (0, 46), "fuse.sshfs"),
        # The device of a btrfs subvolume stands in no line.
        (b"/home/me/x", (0, 99), "btrfs"),
        (b"/home/me/nas/x", (0, 99), "cifs"),
        (b"/home/me/nasty", (0, 99), "btrfs"),
        (b"/mnt/with space/s", (0, 99), "fuse.sshfs"),
        (b"/over/x", (0, 99), "overlay"),
        (b"/elsewhere", (0, 99), "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_found(
    path: bytes, device: tuple[int, int], expected: str
) -> None:
    assert lease.file_system(path, os.makedev(*device), MOUNTS) == expected


def test_no_mounts_no_answer() -> None:
    assert lease.file_system(b"/x", os.makedev(1, 2), b"") is None


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        *((kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre")),
        *((kind, True) for kind in ("fuse", "fuseblk", "fuse.sshfs", "virtiofs", "afs")),
        *((kind, False) for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "nfsd")),
    ],
)
def test_network_file_systems_are_known(kind: str, network: bool) -> None:
    assert lease.is_network_type(kind) is network


def test_this_machines_own_disk_is_no_network(tmp_path: Path) -> None:
    assert lease.is_network(tmp_path) is False
    with pytest.raises(FileNotFoundError):
        lease.is_network(tmp_path / "missing")
