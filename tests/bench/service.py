"""What the service costs from the rename into staging until the journal has acknowledged the run.

The service is modeldropd, as it is started on any machine, with its settings as they come. Every
round has folders of its own, all of which stay until the end, since deleting the files of one
slows the next one down; the bytes that were stored are compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.copies import copy_as_another, fill
from bench.figures import BIN, Deadline, Figure, Median
from modeldrop import Repository
from modeldrop.files import write_durable
from modeldrop.journal import Journal
from modeldrop.names import RECEIPT
from support.service import Manager
from support.waiting import comes_true

RUNS = 1000
SMALL = 64 * 2**10
SINGLES = 200
CLOSED = 20
ROUNDS = 3
_CHUNK = 2**24
# What is left free of the memory, for whatever else runs.
_SPARED = 2**29
_LONG = 600.0
_REST = 0.02


class Store:
    """A home and its service."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._repository, _ = Repository.init(folder / ".mlops")
        self.staging = self._repository.home.staging
        self.journal: Journal = self._repository.journal
        self.quiet_time = self._repository.home.config.service.quiet_time
        self._manager = Manager(self._repository.home.paths.status())
        self._process = subprocess.Popen(
            [BIN / "modeldropd", "--home", self._repository.home.paths.root],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": self._manager.address, "HOME": str(folder)},
        )
        assert comes_true(lambda: any("READY=1" in each for each in self._manager.messages))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self._manager.close()
        self._repository.close()

    def prepare(self, data: bytes) -> Path:
        """Put a run together beside staging."""
        aside = self.folder / str(uuid.uuid4())
        aside.mkdir()
        (aside / "model.bin").write_bytes(data)
        return aside

    def prepare_copy(self, source: Path) -> tuple[Path, bytes]:
        """Put a run together of a copy of a file; return it, and see `copy_as_another`."""
        aside = self.prepare(b"")
        return aside, copy_as_another(source, aside / "model.bin")

    def most_memory(self) -> int:
        """Return the most bytes that the service ever had in memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(peak) * 1024

    def drop(self, asides: list[Path], look: float) -> float:
        """Rename runs into staging; return the seconds until the last one is committed."""
        wanted = self._acknowledged() + len(asides)
        seen = self._replaced()
        began = time.perf_counter()
        for aside in asides:
            aside.rename(self.staging / aside.name)
        while time.perf_counter() - began < _LONG:
            # Each HEAD is a file of its own. To read one takes us as long as a tenth of a commit
            # takes the service, and is none of its time: what counts is when the file was there.
            found, at = self._replaced(), time.perf_counter()
            if found != seen and self._acknowledged() >= wanted and self._replaced() == found:
                return at - began
            time.sleep(look)
        message = "the service didn't commit in time"
        raise TimeoutError(message)

    def stored(self, run: str) -> Path:
        """Return where the bytes of a run's only file are."""
        (path,) = (self._repository.home.paths.model_repository / run).glob("*/model.bin")
        return path

    def _replaced(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._repository.home.paths.head)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _acknowledged(self) -> int:
        head = self.journal.head()
        return head.seq if head else 0


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Yield a new home whose service is ready."""
    store = Store(folder)
    try:
        yield store
    finally:
        store.close()


def figures(folder: Path, large: int) -> Iterator[Figure]:
    """Yield what is promised of the path from "complete" to "committed"."""
    yield from many(folder / "many")
    yield from one_at_a_time(folder / "single")
    yield from written_in_place(folder / "in-place")
    yield one_large(folder / "large", large)


def many(folder: Path) -> Iterator[Figure]:
    """A thousand runs at once, against a loop that writes each of the files durably."""
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(ROUNDS):
        contents = [os.urandom(SMALL) for _ in range(RUNS)]
        with opened(folder / f"ours-{number}") as store:
            asides = [store.prepare(data) for data in contents]
            ours.append(store.drop(asides, 0.01))
            for aside, data in zip(asides, contents, strict=True):
                assert store.stored(aside.name).read_bytes() == data
        theirs.append(_bare(folder / f"bare-{number}", contents))
    peer = "each file written durably"
    yield Figure(f"{RUNS:,} runs of 64 KiB", Median.of(ours), Median.of(theirs), 4, peer)


def _bare(folder: Path, contents: list[bytes]) -> float:
    folder.mkdir(parents=True)
    began = time.perf_counter()
    for number, data in enumerate(contents):
        write_durable(folder / str(number), data)
    return time.perf_counter() - began


def one_at_a_time(folder: Path) -> Iterator[Figure]:
    """One run at a time while nothing else runs, and one durable write, in turn with it.

    What a service or a disk has to do after either is over before the next one begins.
    """
    ours: list[float] = []
    theirs: list[float] = []
    bare = folder / "bare"
    bare.mkdir(parents=True)
    with opened(folder / "ours") as store:
        for number in range(SINGLES):
            data = os.urandom(SMALL)
            aside = store.prepare(data)
            time.sleep(_REST)
            took = store.drop([aside], 0.00005)
            assert store.stored(aside.name).read_bytes() == data
            time.sleep(_REST)
            began = time.perf_counter()
            write_durable(bare / str(number), data)
            theirs.append(time.perf_counter() - began)
            ours.append(took)
    median, name = Median.of(ours), "rename-in to committed"
    last = statistics.quantiles(ours, n=100)[-1]
    yield Figure(f"{name}, median", median, Median.of(theirs), 5, "one durable write")
    yield Figure(f"{name}, median", median, Deadline(0.1), 1, "100 ms")
    yield Figure(f"{name}, 99th percentile", last, Deadline(0.5), 1, "500 ms")


def written_in_place(folder: Path) -> Iterator[Figure]:
    """Runs that are written into staging piece by piece, from the last close of each."""
    took: list[float] = []
    with opened(folder / "ours") as store:
        quiet = store.quiet_time
        waiting: dict[Path, float] = {}
        for _ in range(CLOSED):
            run = store.staging / str(uuid.uuid4())
            run.mkdir()
            with (run / "model.bin").open("wb", buffering=0) as file:
                for _ in range(4):
                    file.write(os.urandom(SMALL // 4))
                    time.sleep(_REST)
            # The receipt comes after the commit is acknowledged.
            waiting[run / RECEIPT] = time.perf_counter()
        while waiting:
            there = [each for each in waiting if each.exists()]
            took += [time.perf_counter() - waiting.pop(each) - quiet for each in there]
            time.sleep(0.001)
    name = "after the quiet time"
    most, peer = Deadline(0.2), "200 ms from the last close"
    yield Figure(f"{name}, median", Median.of(took), most, 1, peer)
    yield Figure(f"{name}, worst of {CLOSED}", max(took), most, 1, peer)


def one_large(folder: Path, size: int) -> Figure:
    """One large file, against a script that copies it while another thread hashes it."""
    ours: list[float] = []
    theirs: list[float] = []
    with opened(folder / "ours") as store:
        aside = store.prepare(b"")
        fill(aside / "model.bin", size)
        # From the same pages of the same file, in turn with ours, and once more than ours: a disk
        # that has just been written to for seconds may be slower by then. So is one that is busy
        # with what was deleted, and the copies stay as well.
        source, digest = aside / "model.bin", hashlib.sha256()
        copy = folder / "before"
        have_memory_at_hand([])
        theirs.append(_copy_and_hash(source, copy, digest))
        for number in range(ROUNDS):
            have_memory_at_hand([copy])
            ours.append(store.drop([aside], 0.005))
            copy = store.stored(aside.name)
            with copy.open("rb") as file:
                assert hashlib.file_digest(file, "sha256").digest() == digest.digest()
            # Out of staging again: the next round's is the same file in another run.
            aside = (store.staging / aside.name).rename(folder / str(uuid.uuid4()))
            (aside / RECEIPT).unlink()
            have_memory_at_hand([copy])
            copy = folder / f"after-{number}"
            theirs.append(_copy_and_hash(aside / source.name, copy, hashlib.sha256()))
    name = f"one {size / 2**30:g} GiB file"
    peer = "copy_file_range, fsync; sha256 beside"
    return Figure(name, Median.of(ours), Median.of(theirs), 1.4, peer)


def have_memory_at_hand(written: Sequence[Path]) -> None:
    """Have the machine's free memory touched, and that of files that were written free again.

    A virtual machine gets memory that was free for a while from its host when it writes to it,
    which takes longer than to copy a file there; each copy would find another part of it so.
    """
    for path in written:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    (free,) = (int(line.split()[1]) for line in lines if line.startswith("MemFree:"))
    size = max(free * 2**10 - _SPARED, _CHUNK)
    with mmap.mmap(-1, size) as memory:
        for start in range(0, size, _CHUNK):
            memory[start : start + _CHUNK] = bytes(min(_CHUNK, size - start))


def _copy_and_hash(source: Path, target: Path, digest: hashlib._Hash) -> float:
    def read() -> None:
        buffer = bytearray(2**20)
        with source.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])

    began = time.perf_counter()
    thread = threading.Thread(target=read)
    thread.start()
    with source.open("rb") as file, target.open("wb") as out:
        while os.copy_file_range(file.fileno(), out.fileno(), _CHUNK):
            pass
        os.fsync(out.fileno())
    thread.join()
    return time.perf_counter() - began
