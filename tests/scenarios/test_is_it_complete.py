"""Scenarios 1-9: what is still written to is not stored, and what is complete is, once."""

import hashlib
import os
import random
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.program import as_process
from support.service import Home, MakeHome

on_backends = pytest.mark.parametrize("backend", ["local", "s3"], indirect=True)

# So long that nothing is stored by it while a test runs.
NEVER = {"quiet_time": 600.0, "quiet_time_without_lease": 600.0}

# A service for which half a second is "a while".
IMPATIENT = "from modeldrop.intake import settling\nsettling._A_WHILE = 0.5"


def is_passed_over(home: Home, run: str) -> bool:
    """Return whether a run is still not stored when one that was dropped after it is."""
    return home.is_committed(home.drop_whole(b"dropped later")) and home.revisions(run) == 0


@contextmanager
def appending(path: Path, piece: bytes) -> Iterator[None]:
    """Append to a file all the while, at some fifty pieces a second."""
    end = threading.Event()

    def append() -> None:
        with path.open("ab", buffering=0) as file:
            while not end.wait(0.02):
                file.write(piece)

    writer = threading.Thread(target=append)
    writer.start()
    try:
        yield
    finally:
        end.set()
        writer.join()


@pytest.mark.scenario(1)
def test_written_for_longer_than_the_quiet_time_is_sent_once_and_whole(
    service_home: MakeHome,
) -> None:
    home = service_home()
    home.start_ready()
    run = home.drop(b"")
    digest = hashlib.sha256()

    # 1 MB/s, for five quiet times and more.
    with (home.staging / run / "model.bin").open("ab", buffering=0) as file:
        for number in range(40):
            piece = random.Random(number).randbytes(50_000)
            file.write(piece)
            digest.update(piece)
            time.sleep(0.05)
        assert home.uploads(run) == 0

    assert home.is_committed(run)
    assert hashlib.sha256(home.stored(run)).digest() == digest.digest()
    assert (home.revisions(run), home.uploads(run)) == (1, 1)


@pytest.mark.scenario(2)
def test_held_open_without_a_write_is_not_ready_until_it_is_closed(service_home: MakeHome) -> None:
    home = service_home()
    home.start_ready()
    run = home.drop(b"the beginning")

    with (home.staging / run / "model.bin").open("ab"):
        assert home.is_in(run, "settling", "open for writing")
        # The holder's own time, of several quiet times.
        time.sleep(1.5)
        assert is_passed_over(home, run)
        assert home.standing(run)["state"] == "settling"

    assert home.is_committed(run)
    assert home.stored(run) == b"the beginning"
    assert home.uploads(run) == 1


@pytest.mark.scenario(3)
def test_closed_reopened_and_appended_to_is_committed_once(service_home: MakeHome) -> None:
    home = service_home(quiet_time=2.0, quiet_time_without_lease=2.0)
    home.start_ready()
    run = home.drop(b"one ")

    # The moment between the writer's two openings.
    time.sleep(0.5)
    with (home.staging / run / "model.bin").open("ab") as file:
        file.write(b"two")

    assert home.is_committed(run)
    assert home.stored(run) == b"one two"
    assert (home.revisions(run), home.uploads(run)) == (1, 1)


@pytest.mark.scenario(4)
def test_empty_file_that_is_filled_later_is_never_stored_empty(service_home: MakeHome) -> None:
    home = service_home(quiet_time_without_lease=4.0)
    home.start_ready()
    run = home.drop(b"")

    # Longer than the quiet time of what is not empty, as the one after it shows.
    assert home.is_committed(home.drop(b"dropped later"))
    assert home.revisions(run) == 0
    (home.staging / run / "model.bin").write_bytes(b"filled")

    assert home.is_committed(run)
    assert home.stored(run) == b"filled"
    assert (home.revisions(run), home.uploads(run)) == (1, 1)


@pytest.mark.scenario(4)
@on_backends
def test_empty_file_with_a_marker_is_stored_at_once(service_home: MakeHome) -> None:
    home = service_home(**NEVER)
    home.start_ready()
    run = home.drop(b"")

    (home.staging / run / "_SUCCESS").touch()

    assert home.is_committed(run)
    assert home.stored(run) == b""


@pytest.mark.scenario(5)
@pytest.mark.parametrize("days", [-3650, 3650], ids=["old", "future"])
def test_modification_time_of_another_year_settles_as_any_other(
    service_home: MakeHome, tmp_path: Path, days: int
) -> None:
    home = service_home(quiet_time=1.0, quiet_time_without_lease=1.0)
    home.start_ready()
    original = tmp_path / "model.bin"
    original.write_bytes(b"of another year")
    when = time.time() + days * 86400
    os.utime(original, (when, when))
    run = str(uuid.uuid4())
    began = time.monotonic()

    (home.staging / run).mkdir()
    shutil.copy2(original, home.staging / run)

    assert home.is_committed(run)
    assert time.monotonic() - began >= 1.0
    assert home.stored(run) == b"of another year"
    assert (home.revisions(run), home.uploads(run)) == (1, 1)


@pytest.mark.scenario(6)
def test_log_that_never_falls_quiet_is_never_stored_and_said(service_home: MakeHome) -> None:
    home = service_home()
    home.start_ready(twist=IMPATIENT)
    run = home.drop(b"the beginning", "train.log")

    with appending(home.staging / run / "train.log", b"step\n"):
        assert home.is_in(run, "settling", "it has been changing for")
        assert "never quiet for" in home.standing(run)["reason"]
        assert "train.log changed last" in home.standing(run)["reason"]
        assert is_passed_over(home, run)
        assert home.uploads(run) == 0


@pytest.mark.scenario(7)
def test_marker_waits_for_the_last_shard_that_it_lists(service_home: MakeHome) -> None:
    home = service_home()
    home.start_ready()
    shards = {f"shard-{n}": f"shard {n}".encode() for n in range(3)}
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in shards.items()]
    run = home.drop(shards["shard-0"], "shard-0")
    (home.staging / run / "_SUCCESS").write_text("".join(lines))
    (home.staging / run / "shard-1").write_bytes(shards["shard-1"])

    assert home.is_in(run, "open", "1 of 3 that _SUCCESS lists is not there: shard-2")
    assert is_passed_over(home, run)
    (home.staging / run / "shard-2").write_bytes(shards["shard-2"])

    assert home.is_committed(run)
    assert home.stored_files(run) == shards
    assert home.revisions(run) == 1


@pytest.mark.scenario(7)
def test_wrong_digest_in_the_marker_parks_the_run_until_it_is_right(
    service_home: MakeHome,
) -> None:
    home = service_home()
    home.start_ready()
    run = home.drop(b"what came over the wire")
    marker = home.staging / run / "_SUCCESS"
    marker.write_text(f"{hashlib.sha256(b'what was sent').hexdigest()}  model.bin\n")

    assert home.is_in(run, "parked", "_SUCCESS has another digest than the file: model.bin")
    assert home.revisions(run) == 0
    (home.staging / run / "model.bin").write_bytes(b"what was sent")

    assert home.is_committed(run)
    assert home.stored(run) == b"what was sent"


@pytest.mark.scenario(8)
@pytest.mark.parametrize("suffix", [".part", ".tmp"])
def test_temporary_file_holds_the_run_open_and_is_never_sent(
    service_home: MakeHome, suffix: str
) -> None:
    home = service_home()
    home.start_ready()
    run = home.drop(b"weights")
    config = home.staging / run / "config.json"
    unfinished = config.with_name(config.name + suffix)
    unfinished.write_bytes(b"{")

    assert home.is_in(run, "open", f"held open by the temporary {unfinished.name}")
    assert is_passed_over(home, run)
    assert home.uploads(run) == 0
    unfinished.write_bytes(b"{}")
    unfinished.rename(config)

    assert home.is_committed(run)
    assert home.stored_files(run) == {"model.bin": b"weights", "config.json": b"{}"}
    assert (home.revisions(run), home.uploads(run)) == (1, 1)


@pytest.mark.scenario(9)
@pytest.mark.parametrize(
    ("backend", "size"),
    [
        ("local", 40 << 20),
        ("s3", 40 << 20),
        pytest.param("local", 1 << 30, marks=pytest.mark.slow),
    ],
    ids=["local-40-MiB", "s3-40-MiB", "local-1-GiB"],
    indirect=["backend"],
)
def test_drop_is_committed_once_without_the_quiet_time(
    service_home: MakeHome, tmp_path: Path, size: int
) -> None:
    home = service_home(**NEVER)
    home.start_ready()
    model = tmp_path / "model.bin"
    # Not a multiple of any part's size; no two blocks alike.
    with model.open("wb") as file:
        for number in range(size >> 20):
            file.write(random.Random(number).randbytes(1 << 20))
        file.write(b"the end")
    with model.open("rb") as file:
        expected = hashlib.file_digest(file, "sha256").hexdigest()

    dropped = as_process("--home", home.root, "drop", model)
    run = dropped.out.strip()

    assert dropped.code == 0, dropped.err
    assert home.is_committed(run, timeout=100)
    assert home.digests(run) == {"model.bin": expected}
    assert (home.revisions(run), home.uploads(run)) == (1, 1)
