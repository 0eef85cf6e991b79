"""Moving bytes to a backend: what is stored is what was hashed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop.backend import Backend, open_backend
from modeldrop.batch import Batch
from modeldrop.errors import BackendError, SourceChanged
from modeldrop.intake import walk
from modeldrop.intake.observation import Signature
from modeldrop.transfer import Sent, Transfer
from support.artifacts import KEY, MIB, RUN, data_of, digest
from support.intake import Meddling, stored
from support.waiting import comes_true


class Source:
    """A file in a staging folder, opened and watched as the intake does."""

    def __init__(self, staging: Path, data: bytes) -> None:
        self.staging = staging
        self.path = staging / RUN / "model"
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(data)
        self.signature = Signature.of(self.path.stat())

    def send(self, backend: Backend, key: str = KEY) -> Sent:
        fd = walk.open_file(self.staging, RUN, "model", self.signature)
        try:
            return Transfer(backend).send(
                fd,
                key,
                self.signature.size,
                lambda: walk.check_unchanged(fd, "model", self.signature),
            )
        finally:
            os.close(fd)


@pytest.mark.parametrize("size", [0, 1, 200_000, 9 * MIB + 3])
def test_the_bytes_that_are_stored_are_those_that_were_hashed(
    backend: Backend, tmp_path: Path, size: int
) -> None:
    data = data_of(size)
    assert Source(tmp_path / "staging", data).send(backend) == Sent(digest(data), size)
    assert stored(backend, KEY) == data


@pytest.mark.parametrize("size", [512 * 1024 + delta for delta in (-1, 0, 1)] + [5 * MIB])
def test_sizes_around_a_chunk_are_hashed_and_stored_whole(
    local: Backend, tmp_path: Path, size: int
) -> None:
    data = data_of(size)
    assert Source(tmp_path / "staging", data).send(local) == Sent(digest(data), size)
    assert stored(local, KEY) == data


def test_a_digest_is_that_of_the_file_and_nothing_is_sent(local: Backend, tmp_path: Path) -> None:
    data = data_of(3 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as opened:
        found = Transfer(local).digest(opened.fileno(), len(data), lambda: None)
    assert found == Sent(digest(data), len(data))
    assert list(local.walk("")) == []


def _append(path: Path) -> None:
    with path.open("ab") as opened:
        opened.write(b"more")


def _truncate(path: Path) -> None:
    os.truncate(path, 9 * MIB)


def _rewrite(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as opened:
        opened.seek(9 * MIB)
        opened.write(b"other bytes")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(data_of(path.stat().st_size, seed=2))
    fresh.rename(path)


@pytest.mark.parametrize("change", [_append, _truncate, _rewrite, _replace])
def test_a_source_that_changes_while_it_is_sent_is_never_visible(
    backend: Backend, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source = Source(tmp_path / "staging", data_of(10 * MIB))
    writes: list[int] = []

    def on_write(_key: str, data: bytes) -> bytes:
        writes.append(len(data))
        if len(writes) == 2:
            change(source.path)
        return data

    with pytest.raises(SourceChanged):
        source.send(Meddling(backend, on_write).as_backend())
    # At once: the rest of a file that changed is not worth sending.
    assert len(writes) == 2
    assert backend.stat(KEY) is None
    assert list(backend.walk("")) == []


def test_a_source_that_is_longer_than_was_seen_is_refused(local: Backend, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"twelve bytes")
    with path.open("rb") as opened, pytest.raises(SourceChanged, match="12 bytes"):
        Transfer(local).send(opened.fileno(), KEY, 6, lambda: None)
    assert list(local.walk("")) == []


def test_wrong_bytes_at_the_store_are_no_success(backend: Backend, tmp_path: Path) -> None:
    def flip(_key: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    source = Source(tmp_path / "staging", data_of(200_000))
    with pytest.raises(BackendError, match="other bytes than were sent"):
        source.send(Meddling(backend, flip).as_backend())


def test_a_store_that_kept_less_than_was_sent_is_no_success(
    backend: Backend, tmp_path: Path
) -> None:
    source = Source(tmp_path / "staging", data_of(200_000))
    lossy = Meddling(backend, lambda _, data: data[:-1], proves_writes=True)
    with pytest.raises(BackendError, match="holds 199999 bytes where 200000 bytes were sent"):
        source.send(lossy.as_backend())


@pytest.mark.parametrize("size", ["medium", "large"])
def test_no_more_large_files_are_in_flight_than_there_are_buffers_for(
    local: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    if size == "large":
        monkeypatch.setattr("modeldrop.transfer._MEDIUM", MIB)
    data = data_of(2 * MIB)
    path = tmp_path / "file"
    path.write_bytes(data)
    backend = Meddling(local, lambda _, data: data, proves_writes=True)
    transfer = Transfer(backend.as_backend())

    def send(number: int) -> Sent:
        fd = os.open(path, os.O_RDONLY)
        try:
            return transfer.send(fd, f"{KEY}-{number}", len(data), lambda: None)
        finally:
            os.close(fd)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(32))) == {Sent(digest(data), len(data))}
    assert backend.most_writers <= local.capabilities.connections


def test_a_small_file_waits_behind_no_large_ones(local: Backend, tmp_path: Path) -> None:
    large, small = data_of(17 * MIB), data_of(MIB)
    (tmp_path / "large").write_bytes(large)
    (tmp_path / "small").write_bytes(small)
    gate = threading.Event()

    def slow(key: str, data: bytes) -> bytes:
        assert key.endswith("small") or gate.wait(20)
        return data

    backend = Meddling(local, slow, proves_writes=True)
    transfer = Transfer(backend.as_backend())

    def send(name: str, number: str, size: int) -> Sent:
        fd = os.open(tmp_path / name, os.O_RDONLY)
        try:
            return transfer.send(fd, f"{KEY}-{number}-{name}", size, lambda: None)
        finally:
            os.close(fd)

    most = local.capabilities.connections
    with ThreadPoolExecutor(most + 1) as pool:
        held = [pool.submit(send, "large", str(each), len(large)) for each in range(most)]
        try:
            assert comes_true(lambda: transfer._turns._value == 0)
            sent = pool.submit(send, "small", "0", len(small)).result(10)
        finally:
            gate.set()
    assert sent == Sent(digest(small), len(small))
    assert {each.result() for each in held} == {Sent(digest(large), len(large))}


class Looked:
    """What happens while a source of three chunks is read: looks, and what is between them."""

    def __init__(self, path: Path, backend: Backend) -> None:
        path.write_bytes(data_of(3 * 512 * 1024 - 1))
        self.path = path
        self.size = path.stat().st_size
        self.backend = backend
        self.events: list[str] = []

    def look(self) -> None:
        self.events.append("look" if self.backend.stat(KEY) is None else "look too late")

    def chunk(self, _: int) -> None:
        self.events.append("chunk")


def test_a_source_is_looked_at_before_after_each_chunk_and_before_it_is_seen(
    local: Backend, tmp_path: Path
) -> None:
    """The last look is for what changed while the hash, a few chunks behind, caught up."""
    source = Looked(tmp_path / "file", local)
    with source.path.open("rb") as opened:
        Transfer(local).send(opened.fileno(), KEY, source.size, source.look, source.chunk)
    assert source.events == ["look", *["chunk", "look"] * 3, "look"]


def test_a_source_that_is_only_hashed_is_looked_at_before_and_after_each_chunk(
    local: Backend, tmp_path: Path
) -> None:
    source = Looked(tmp_path / "file", local)
    with source.path.open("rb") as opened:
        Transfer(local).digest(opened.fileno(), source.size, source.look, source.chunk)
    assert source.events == ["look", *["chunk", "look"] * 3]


def test_a_source_that_goes_with_others_is_looked_at_before_and_after_it_is_read(
    local: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"twelve bytes")
    with path.open("rb") as opened, Batch() as batch:
        fd, read = opened.fileno(), []
        Transfer(local).send_in(
            batch, fd, KEY, 12, lambda: read.append(os.lseek(fd, 0, os.SEEK_CUR))
        )
    assert read == [0, 12]


def test_a_source_that_had_arrived_is_looked_at_while_what_is_there_is_read_back(
    local: Backend, tmp_path: Path
) -> None:
    source = Looked(tmp_path / "file", local)
    transfer = Transfer(local)
    with source.path.open("rb") as opened:
        fd = opened.fileno()
        transfer.send(fd, KEY, source.size, lambda: None)
        os.lseek(fd, 0, os.SEEK_SET)
        assert transfer.resume(fd, KEY, "token", source.size, source.look) is not None
    # Once to begin with, before and after each chunk of the source, after each that is read back.
    assert len(source.events) == 1 + (1 + 3) + 3


def test_a_large_source_that_changes_while_it_waits_for_its_turn_waits_no_longer(
    local: Backend, tmp_path: Path
) -> None:
    source = Looked(tmp_path / "file", local)
    transfer = Transfer(local)
    looks: list[int] = []

    def changed() -> None:
        looks.append(1)
        raise SourceChanged("it isn't what it was")

    with contextlib.ExitStack() as taken, ThreadPoolExecutor(1) as pool:
        while transfer._turns_medium.acquire(blocking=False):
            taken.callback(transfer._turns_medium.release)
        with source.path.open("rb") as opened:
            sending = pool.submit(transfer.send, opened.fileno(), KEY, source.size, changed)
            said = comes_true(sending.done)
            taken.close()
            with pytest.raises(SourceChanged):
                sending.result(30)
    assert said
    assert looks == [1]


def test_a_batch_that_kept_less_than_was_sent_is_no_success(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "store"), {}, None)
    backend.prepare()
    transfer = Transfer(backend)
    path = tmp_path / "file"
    path.write_bytes(b"twelve bytes")
    with path.open("rb") as opened, Batch() as batch:
        found = transfer.send_in(batch, opened.fileno(), KEY, 12, lambda: None)
        assert found is not None
        transfer.check_batch(KEY, *found)
        os.truncate(found[1].temp, 11)
        with pytest.raises(BackendError, match="11 bytes where 12 bytes were sent"):
            transfer.check_batch(KEY, *found)


def test_a_small_source_that_is_longer_than_was_seen_goes_with_no_others(
    local: Backend, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"twelve bytes")
    with (
        path.open("rb") as opened,
        Batch() as batch,
        pytest.raises(SourceChanged, match="7 bytes were read where 6 were expected"),
    ):
        Transfer(local).send_in(batch, opened.fileno(), KEY, 6, lambda: None)
