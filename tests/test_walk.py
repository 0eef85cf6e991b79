"""The safe walk: everything that a run may hold, and nothing outside of staging."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop.errors import InvalidName, NotFound, SourceChanged
from modeldrop.imports import places
from modeldrop.intake import walk
from modeldrop.intake.observation import Observation, Signature, artifact_of
from modeldrop.intake.temporary import temporary

GUID = "3f2b8c1e-0d4a-4c6e-9b1f-2a7d5e8c9f01"


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def run(staging: Path) -> Path:
    folder = staging / GUID
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("not yours")
    return folder


@contextlib.contextmanager
def without_privilege() -> Iterator[None]:
    """Work as a user whom permissions bind; root is bound by none."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def public_staging() -> Iterator[Path]:
    """A staging folder that a user without privileges gets to: pytest's own is for root alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / GUID).mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def paths(observation: Observation) -> list[str]:
    return [file.path for file in observation.files]


def reasons(observation: Observation) -> dict[str, str]:
    return {each.path: each.reason for each in observation.refused}


def test_files_are_seen_sorted_by_the_bytes_of_their_paths(staging: Path, run: Path) -> None:
    for path in ("b", "a/z", "a.b", "é", "Z", "\U0001f600", "\ufb01", "a/b/c"):
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_text(path)
    seen = walk.observe(staging, GUID)
    expected = sorted(
        ("b", "a/z", "a.b", "é", "Z", "\U0001f600", "\ufb01", "a/b/c"), key=str.encode
    )
    assert paths(seen) == expected
    status = os.stat(run / "a/b/c")
    by_path = {file.path: file.signature for file in seen.files}
    assert by_path["a/b/c"] == Signature(
        status.st_dev, status.st_ino, 5, status.st_mtime_ns, status.st_ctime_ns
    )
    assert (seen.refused, seen.temporary, seen.marker, seen.unreadable) == ((), (), None, ())


def test_what_the_run_says_of_itself_is_no_file_of_it(staging: Path, run: Path) -> None:
    for name in ("_SUCCESS", "run.json", "run.toml", ".modeldrop-receipt.json", "model.pt"):
        (run / name).touch()
    (run / "sub").mkdir()
    for name in ("_SUCCESS", "run.json", ".modeldrop-receipt.json"):
        (run / "sub" / name).touch()
    seen = walk.observe(staging, GUID)
    assert paths(seen) == [
        "model.pt", "sub/.modeldrop-receipt.json", "sub/_SUCCESS", "sub/run.json"
    ]  # fmt: skip
    assert seen.marker is not None
    assert [file.path for file in seen.run_files] == ["run.json", "run.toml"]
    assert [file.path for file in seen.everything()][-3:] == ["run.json", "run.toml", "_SUCCESS"]


@pytest.mark.scenario(17)
def test_links_and_special_files_are_refused_quickly_and_never_opened(
    staging: Path, run: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "model.pt").write_text("bytes")
    (run / "to_file").symlink_to(outside / "secret")
    (run / "to_folder").symlink_to(outside)
    (run / "dangling").symlink_to("nowhere")
    (run / "loop").symlink_to("loop")
    (run / "up").symlink_to("..")
    (run / "sub").mkdir()
    os.mkfifo(run / "sub" / "fifo")
    monkeypatch.chdir(run)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        opened: list[str] = []
        real = os.open

        def spy(path: str | Path, flags: int, *args: int, dir_fd: int | None = None) -> int:
            opened.append(os.fspath(path))
            return real(path, flags, *args, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", spy)
        began = time.perf_counter()
        seen = walk.observe(staging, GUID)
        took = time.perf_counter() - began
    assert paths(seen) == ["model.pt"]
    assert reasons(seen) == {
        "to_file": "it is a symbolic link",
        "to_folder": "it is a symbolic link",
        "dangling": "it is a symbolic link",
        "loop": "it is a symbolic link",
        "up": "it is a symbolic link",
        "sub/fifo": "it is a FIFO",
        "socket": "it is a socket",
    }
    assert opened == [str(staging / GUID), "sub"]
    assert took < 0.1


@pytest.mark.scenario(17)
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_refused(staging: Path, run: Path) -> None:
    try:
        os.mknod(run / "null", 0o666 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    assert reasons(walk.observe(staging, GUID)) == {"null": "it is a device"}
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, "null")


@pytest.mark.scenario(19)
def test_names_are_stored_as_they_are_or_refused_in_print(staging: Path, run: Path) -> None:
    longest = "n" * 255
    kept = ["-rf", longest, "*", " ", "$(reboot)", "a'b\"c", "…", "%2F"]
    for name in kept:
        (run / name).write_text(name)
    raw = os.fsencode(run)
    for bad in (b"new\nline", b"esc\x1b[2J", b"latin\xe9", b"back\\slash", b"\xe2\x80\xaertl"):
        Path(os.fsdecode(raw + b"/" + bad)).touch()
    os.mkdir(raw + b"/bad\tfolder")
    Path(os.fsdecode(raw + b"/bad\tfolder/inner")).touch()
    seen = walk.observe(staging, GUID)
    assert paths(seen) == sorted(kept, key=str.encode)
    assert reasons(seen) == {
        "new\\nline": "its name has a control character",
        "esc\\x1b[2J": "its name has a control character",
        "latin\\xe9": "its name is not UTF-8",
        "back\\slash": "its name has a backslash",
        "\\u202ertl": "its name has a control character",
        "bad\\tfolder": "its name has a control character",
    }
    seen.signature().encode("ascii")
    for file in seen.files:
        os.close(walk.open_file(staging, GUID, file.path, file.signature))


def test_a_tree_2000_folders_deep_is_refused_below_the_limit(
    staging: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = os.open(run, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    open_at_most = 0
    real = os.scandir

    def spy(folder: int) -> Iterator[os.DirEntry[str]]:
        nonlocal open_at_most
        open_at_most = max(open_at_most, len(os.listdir("/dev/fd")))
        return real(folder)

    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(os, "scandir", spy)
    try:
        deepest = "/".join(["d"] * walk.DEEPEST)
        (run / deepest / "file").write_text("bytes")
        seen = walk.observe(staging, GUID)
        os.close(walk.open_file(staging, GUID, seen.files[0].path, seen.files[0].signature))
    finally:
        # shutil.rmtree, with which pytest would clean up, recurses.
        subprocess.run(["rm", "-rf", run], check=True)
    assert paths(seen) == [f"{deepest}/file"]
    assert reasons(seen) == {f"{deepest}/d": "it is nested more than 100 folders deep"}
    assert open_at_most <= before + 3
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.scenario(17)
def test_a_folder_swapped_for_a_link_during_the_walk_leads_nowhere(
    staging: Path, run: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "sub").mkdir()
    (run / "sub" / "mine").touch()
    real_open, real_scandir = os.open, os.scandir
    listed: list[int] = []

    def swap_then_open(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        if path == "sub" and not (run / "sub").is_symlink():
            (run / "sub").rename(run.parent / ".tmp-aside")
            (run / "sub").symlink_to(outside)
        return real_open(path, flags, *args, dir_fd=dir_fd)

    def spy(folder: int) -> Iterator[os.DirEntry[str]]:
        listed.append(os.fstat(folder).st_ino)
        return real_scandir(folder)

    monkeypatch.setattr(os, "open", swap_then_open)
    monkeypatch.setattr(os, "scandir", spy)
    seen = walk.observe(staging, GUID)
    assert (paths(seen), seen.unreadable) == ([], ())
    assert outside.stat().st_ino not in listed
    assert reasons(walk.observe(staging, GUID)) == {"sub": "it is a symbolic link"}
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, "sub/secret")


def test_a_run_folder_swapped_for_a_link_is_no_run(
    staging: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (staging / GUID).symlink_to(outside)
    with pytest.raises(NotFound):
        walk.observe(staging, GUID)
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, "secret")
    assert [(found.guid, found.reason) for found in walk.runs(staging)] == [
        (None, "it is a symbolic link, not a run folder")
    ]


@pytest.mark.scenario(12)
def test_what_vanishes_between_listing_and_stat_is_just_not_there(
    staging: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "gone").touch()
    (run / "stays").touch()
    real = os.scandir

    @contextlib.contextmanager
    def list_then_remove(folder: int) -> Iterator[list[os.DirEntry[str]]]:
        with real(folder) as entries:
            found = list(entries)
        (run / "gone").unlink()
        yield found

    monkeypatch.setattr(os, "scandir", list_then_remove)
    seen = walk.observe(staging, GUID)
    assert (paths(seen), seen.unreadable) == (["stays"], ())


@pytest.mark.scenario(18)
def test_what_cannot_be_listed_or_stated_is_unreadable_and_not_refused(
    public_staging: Path,
) -> None:
    run = public_staging / GUID
    for name, mode in (("closed", 0o000), ("no_search", 0o444), ("fine", 0o755)):
        (run / name).mkdir()
        (run / name / "file").touch(mode=0o644)
        (run / name).chmod(mode)
    with without_privilege():
        seen = walk.observe(public_staging, GUID)
    assert paths(seen) == ["fine/file"]
    assert [(each.path, each.reason) for each in seen.unreadable] == [
        ("closed", "Permission denied"),
        ("no_search/file", "Permission denied"),
    ]
    assert seen.refused == ()
    run.chmod(0o000)
    with without_privilege():
        seen = walk.observe(public_staging, GUID)
        assert [(found.name, found.guid) for found in walk.runs(public_staging)] == [(GUID, GUID)]
    for folder in (run, run / "closed", run / "no_search"):
        folder.chmod(0o755)
    assert [(each.path, each.reason) for each in seen.unreadable] == [(".", "Permission denied")]


def test_being_out_of_descriptors_says_nothing_about_the_run(
    staging: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "sub").mkdir()
    real = os.open

    def no_more(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        if path == "sub":
            raise OSError(24, "Too many open files")
        return real(path, flags, *args, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", no_more)
    with pytest.raises(OSError, match="Too many open files"):
        walk.observe(staging, GUID)


@pytest.fixture
def quick_staging(tmp_path: Path) -> Iterator[Path]:
    """A staging folder in memory where there is one: a disk is slow to make 10,000 files."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it is this test's alone
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_ten_thousand_files_are_seen_in_well_under_a_second(quick_staging: Path) -> None:
    run = quick_staging / GUID
    for number in range(10_000):
        folder = run / f"d{number - number % 100}"
        folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(folder / f"f{number}", os.O_CREAT))
    began = time.perf_counter()
    seen = walk.observe(quick_staging, GUID)
    seen.signature()
    took = time.perf_counter() - began
    assert len(seen.files) == 10_000
    assert took < 1.5  # 0.08 s where it was measured


def test_every_kind_of_change_gives_another_signature(staging: Path, run: Path) -> None:
    model = run / "model.pt"
    model.write_text("bytes")
    (run / "empty").mkdir()
    known = {walk.observe(staging, GUID).signature()}

    def changed() -> bool:
        signature = walk.observe(staging, GUID).signature()
        new = signature not in known
        known.add(signature)
        return new

    assert not changed()
    status = model.stat()
    # A tick of the kernel's clock, so that the ctime moves.
    while Signature.of(model.stat()).ctime_ns == status.st_ctime_ns:
        model.write_text("BYTES")
        os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed(), "rewritten at the same size, its mtime restored"
    with model.open("a") as file:
        file.write("more")
    assert changed(), "appended"
    (run / "new").touch()
    assert changed(), "a new file"
    (run / "new").rename(run / "renamed")
    assert changed(), "renamed"
    (run / "x.tmp").touch()
    assert changed(), "a temporary file"
    (run / "x.tmp").rename(run / "link")
    assert changed(), "a temporary file under its final name"
    (run / "link").unlink()
    (run / "link").symlink_to("model.pt")
    assert changed(), "a refused entry"
    (run / "_SUCCESS").touch()
    assert changed(), "a marker"
    (run / "run.toml").touch()
    assert changed(), "a declaration"


def test_a_receipt_or_an_empty_folder_is_no_change(staging: Path, run: Path) -> None:
    (run / "model.pt").touch()
    before = walk.observe(staging, GUID).signature()
    (run / ".modeldrop-receipt.json").write_text("{}")
    (run / "empty").mkdir()
    assert walk.observe(staging, GUID).signature() == before


@pytest.mark.scenario(8)
def test_temporary_files_and_folders_hold_the_run_and_are_never_files(
    staging: Path, run: Path
) -> None:
    (run / "sub" / ".~tmp~").mkdir(parents=True)
    (run / "sub" / ".~tmp~" / "late").touch()
    (run / "sub" / "a.part").touch()
    (run / "b.TMP").touch()
    (run / "sub" / "kept").touch()
    os.mkfifo(run / "fifo.tmp")
    seen = walk.observe(staging, GUID)
    assert seen.temporary == ("b.TMP", "sub/.~tmp~", "sub/a.part")
    assert paths(seen) == ["sub/kept"]
    assert reasons(seen) == {"fifo.tmp": "it is a FIFO"}


@pytest.mark.parametrize(
    "name",
    [
        "a.part", "a.partial", "a.tmp", "a.temp", "a.crdownload", "a.download", "a.filepart",
        ".a.swp", ".a.swx", "a~", ".model.pt.X3fa9Z", ".a.b.q1wert", ".~tmp~", ".tmp-0123",
        "3b1a.incomplete", ".nfs000000000000002a00000001", "model.pt.6f3A2b9C", "a._COPYING_",
        "tmp-checkpoint-500", "_temporary", "step_5.orbax-checkpoint-tmp-17", "A.PART",
    ],
)  # fmt: skip
def test_names_of_unfinished_files_are_known(name: str) -> None:
    assert temporary(name)


@pytest.mark.parametrize(
    "name",
    [
        "uv.lock", "model.safetensors.lock", "last.ckpt", ".fit.pickle", ".env.sample",
        ".model.joblib", "metrics.20261123", "chunk.1a2b3c4d", "template", "a.parts", "tmp", ".x",
        "model.pt", "part-00000-of-00001", "temp.json", "events.out.tfevents.1700000000.host",
        "a.parquet", "__init__.py", "..a.model.v1",
    ],
)  # fmt: skip
def test_names_of_finished_files_are_not_taken_for_unfinished_ones(name: str) -> None:
    assert temporary(name) is None


@pytest.mark.scenario(20)
def test_the_top_of_staging_is_sorted_into_runs_and_junk(staging: Path, outside: Path) -> None:
    (staging / GUID).mkdir()
    (staging / ("A" * 32)).mkdir()
    upper = "{11111111-2222-3333-4444-55555555555A}"
    (staging / upper).mkdir()
    (staging / "wandb-run").mkdir()
    (staging / "model.pt").touch()
    (staging / "link").symlink_to(outside)
    os.mkfifo(staging / "fifo")
    Path(os.fsdecode(os.fsencode(staging) + b"/bad\xff")).mkdir()
    (staging / "done").mkdir()
    (staging / ".tmp-0011").mkdir()
    (staging / ".modeldrop-canary").touch()
    found = {each.name: each for each in walk.runs(staging)}
    assert {name: each.guid for name, each in found.items() if each.guid} == {
        GUID: GUID,
        upper: "11111111-2222-3333-4444-55555555555a",
        "A" * 32: "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa",
    }
    assert {name: each.reason for name, each in found.items() if not each.guid} == {
        "wandb-run": "its name is no run GUID",
        "model.pt": "it is a file, not a run folder",
        "link": "it is a symbolic link, not a run folder",
        "fifo": "it is a FIFO, not a run folder",
        "bad\udcff": "its name is not UTF-8",
    }
    assert found["wandb-run"].folder
    assert not found["link"].folder


@pytest.mark.scenario(20)
def test_two_spellings_of_one_guid_are_both_junk(staging: Path) -> None:
    (staging / GUID).mkdir()
    (staging / GUID.upper()).mkdir()
    other = GUID.replace("3", "4")
    (staging / other.replace("-", "")).mkdir()
    found = {each.name: each for each in walk.runs(staging)}
    assert found[GUID].guid is None
    assert found[GUID].reason == f"it is another spelling of the GUID of {GUID.upper()}"
    assert found[GUID.upper()].guid is None
    assert found[other.replace("-", "")].guid == other


def test_a_staging_folder_that_is_missing_is_said(staging: Path) -> None:
    staging.rmdir()
    for look in (lambda: walk.runs(staging), lambda: walk.observe(staging, GUID)):
        with pytest.raises(NotFound, match="staging folder"):
            look()
    staging.touch()
    with pytest.raises(NotFound):
        walk.runs(staging)


def test_staging_may_itself_be_reached_by_a_link(staging: Path, run: Path, tmp_path: Path) -> None:
    (run / "model.pt").touch()
    (tmp_path / "link").symlink_to(staging)
    assert paths(walk.observe(tmp_path / "link", GUID)) == ["model.pt"]


def test_a_run_that_vanished_is_not_found(staging: Path) -> None:
    with pytest.raises(NotFound, match=GUID):
        walk.observe(staging, GUID)


@pytest.mark.parametrize("path", ["../x", "", "a//b", "/etc/passwd", "a/..", ".", "a\0b"])
def test_a_path_that_would_lead_out_of_the_run_is_refused(
    staging: Path, run: Path, path: str
) -> None:
    with pytest.raises(InvalidName):
        walk.open_file(staging, GUID, path)
    with pytest.raises(InvalidName):
        walk.observe(staging, f"{GUID}/{path}")


def test_an_opened_file_is_the_one_that_was_seen(staging: Path, run: Path) -> None:
    (run / "sub").mkdir()
    (run / "sub" / "model.pt").write_text("bytes")
    seen = walk.observe(staging, GUID).files[0]
    fd = walk.open_file(staging, GUID, seen.path, seen.signature)
    assert os.read(fd, 10) == b"bytes"
    os.close(fd)
    assert walk.read_small(staging, GUID, seen) == b"bytes"
    (run / "sub" / "new").write_text("BYTES")
    (run / "sub" / "new").replace(run / "sub" / "model.pt")
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, seen.path, seen.signature)
    with pytest.raises(SourceChanged):
        walk.read_small(staging, GUID, seen)
    (run / "sub" / "model.pt").unlink()
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, seen.path)
    (run / "sub").rmdir()
    (run / "sub").touch()
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, seen.path)
    assert len(os.listdir("/dev/fd")) == before


def test_a_file_swapped_for_a_link_or_a_fifo_is_not_read(
    staging: Path, run: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = run / "model.pt"
    model.touch()
    real = os.open
    swaps = [lambda: model.symlink_to(outside / "secret"), lambda: os.mkfifo(model)]

    def swap_then_open(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        if path == "model.pt":
            model.unlink()
            swaps.pop(0)()
        return real(path, flags, *args, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", swap_then_open)
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, "model.pt")
    model.unlink()
    model.touch()
    with pytest.raises(SourceChanged):
        walk.open_file(staging, GUID, "model.pt")
    assert not swaps


def test_a_special_file_is_not_even_opened_to_find_out(
    staging: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(run / "fifo")
    real = os.open

    def spy(path: str, flags: int, *args: int, dir_fd: int | None = None) -> int:
        assert path != "fifo"
        return real(path, flags, *args, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", spy)
    with pytest.raises(SourceChanged, match="it is a FIFO by now"):
        walk.open_file(staging, GUID, "fifo")


def test_an_unreadable_file_is_a_permission_error(public_staging: Path) -> None:
    (public_staging / GUID / "sub").mkdir()
    (public_staging / GUID / "sub" / "model.pt").touch(mode=0o000)
    with without_privilege(), pytest.raises(PermissionError) as caught:
        walk.open_file(public_staging, GUID, "sub/model.pt")
    assert caught.value.filename == "sub/model.pt"


def test_the_artifact_of_a_path_is_its_top_level_name() -> None:
    assert artifact_of("model/weights/0") == "model"
    assert artifact_of("model.pt") == "model.pt"


def test_a_small_file_that_changes_while_it_is_read_is_not_believed(
    staging: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "_SUCCESS").write_text("model.bin\n")
    seen = walk.observe(staging, GUID).marker
    assert seen is not None
    real = os.read

    def changing(fd: int, size: int) -> bytes:
        data = real(fd, size)
        with (run / "_SUCCESS").open("a") as file:
            file.write("another\n")
        return data

    assert walk.read_small(staging, GUID, seen) == b"model.bin\n"
    monkeypatch.setattr(os, "read", changing)
    with pytest.raises(SourceChanged, match="written to or replaced"):
        walk.read_small(staging, GUID, seen)


def test_what_is_imported_from_a_folder_is_looked_at_again(staging: Path, run: Path) -> None:
    (run / "model.bin").write_text("weights")
    [seen] = walk.observe(staging, GUID).files
    with places._opened(staging, GUID, seen) as opened:
        opened.unchanged()
        (run / "model.bin").write_text("others")
        with pytest.raises(SourceChanged, match="written to or replaced"):
            opened.unchanged()
