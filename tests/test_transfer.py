"""Moving bytes: what is stored is what was hashed, and what is pulled is what was stored."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop.backend import Backend, open_backend
from modeldrop.errors import ArtifactDamaged, BackendError, Conflict, InvalidName, SourceChanged
from modeldrop.intake import walk
from modeldrop.intake.observation import Signature
from modeldrop.records import Artifact, StoredFile
from modeldrop.transfer import Sent, Transfer, is_copy
from support.children import started
from support.intake import Meddling, die_pulling, stored
from support.waiting import comes_true

RUN = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
KEY = f"{RUN}/20260314T092653Z-9f1c0a7be4d25836/model"
MIB = 1 << 20


@pytest.fixture(params=["local", "s3", "azure"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "local":
        opened = open_backend(str(tmp_path / "store"), {}, None)
    else:
        opened = open_backend(request.getfixturevalue(f"{request.param}_url"), {}, None)
    opened.prepare()
    return opened


@pytest.fixture
def local(tmp_path: Path) -> Backend:
    opened = open_backend(str(tmp_path / "store"), {}, None)
    opened.prepare()
    return opened


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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


def put(backend: Backend, key: str, data: bytes) -> StoredFile:
    writer = backend.writer(key, len(data))
    writer.write(data)
    writer.finish()
    return StoredFile(key.rpartition("/")[2], digest(data), len(data), key)


def folder_of(backend: Backend, contents: dict[str, bytes]) -> Artifact:
    files = []
    for number, (path, data) in enumerate(contents.items()):
        stored = put(backend, f"{KEY}-{number}", data)
        files.append(StoredFile(path, stored.sha256, stored.size, stored.key))
    return Artifact.of_folder("model", files)


def left_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


# Sending


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


def test_no_more_large_files_are_in_flight_than_there_are_buffers_for(
    local: Backend, tmp_path: Path
) -> None:
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


# Pulling


def test_a_pulled_file_is_what_was_stored(backend: Backend, tmp_path: Path) -> None:
    data = data_of(9 * MIB + 3)
    artifact = Artifact.of_file(put(backend, KEY, data))
    target = tmp_path / "out" / "model"
    assert Transfer(backend).pull(artifact, target) == target
    assert target.read_bytes() == data
    assert left_in(target.parent) == ["model"]


def test_a_pulled_folder_is_what_was_stored(backend: Backend, tmp_path: Path) -> None:
    contents = {"weights": data_of(300_000), "deep/er/empty": b"", "deep/file": b"x", "é b": b"y"}
    artifact = folder_of(backend, contents)
    target = tmp_path / "out" / "model"
    Transfer(backend).pull(artifact, target)
    found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == contents
    assert left_in(target.parent) == ["model"]


def test_nothing_has_the_final_name_before_all_is_verified(local: Backend, tmp_path: Path) -> None:
    target = tmp_path / "out" / "model"
    artifact = folder_of(local, {f"{n}": data_of(2 * MIB, n) for n in range(3)})
    seen: set[str] = set()
    Transfer(local).pull(artifact, target, lambda _: seen.update(left_in(target.parent)))
    assert seen
    assert all(name.startswith(".tmp-") for name in seen)


def test_other_content_under_the_name_is_a_conflict_and_stays(
    local: Backend, tmp_path: Path
) -> None:
    artifact = Artifact.of_file(put(local, KEY, b"model"))
    target = tmp_path / "model"
    for make in (
        lambda: target.write_bytes(b"other"),
        target.mkdir,
        lambda: target.symlink_to(tmp_path / "nowhere"),
    ):
        make()
        with pytest.raises(Conflict, match="isn't what would be pulled"):
            Transfer(local).pull(artifact, target)
        assert os.path.lexists(target)
        target.rmdir() if target.is_dir() else target.unlink()


def test_the_same_content_under_the_name_is_the_answer(local: Backend, tmp_path: Path) -> None:
    contents = {"a": b"1", "b/c": b"2"}
    artifact = folder_of(local, contents)
    target = tmp_path / "model"
    moved: list[int] = []
    for _ in range(2):
        assert Transfer(local).pull(artifact, target, moved.append) == target
    assert sum(moved) == 2
    (target / "more").write_text("beside")
    with pytest.raises(Conflict):
        Transfer(local).pull(artifact, target)


def test_two_pulls_to_one_place_both_succeed(local: Backend, tmp_path: Path) -> None:
    artifact = folder_of(local, {"a": data_of(MIB), "b/c": b"2"})
    target = tmp_path / "model"
    ready = threading.Barrier(4, timeout=20)

    def pull(_: int) -> Path:
        waits = iter([True])

        def moved(_: int) -> None:
            # All are under way before any is done.
            if next(waits, False):
                ready.wait()

        return Transfer(local).pull(artifact, target, moved)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(pull, range(4))) == {target}
    assert is_copy(target, artifact)
    assert "model" in left_in(tmp_path)
    assert not [name for name in left_in(tmp_path) if name.startswith(".tmp-")]


@pytest.mark.parametrize("damage", ["flipped", "shorter", "gone"])
def test_a_damaged_object_is_named_and_leaves_nothing(
    backend: Backend, tmp_path: Path, damage: str
) -> None:
    artifact = folder_of(backend, {"good": b"good", "deep/bad": b"as it was"})
    bad = next(each for each in artifact.files if each.path == "deep/bad")
    backend.delete(bad.key)
    if damage != "gone":
        put(backend, bad.key, b"as it isn" if damage == "flipped" else b"as it")
    transfer = Transfer(backend)
    with pytest.raises(ArtifactDamaged, match="model/deep/bad") as caught:
        transfer.pull(artifact, tmp_path / "out" / "model")
    assert caught.value.detail["objects"] == [f"{backend.url}/{bad.key}"]
    assert left_in(tmp_path / "out") == []
    assert transfer.damaged(artifact) == ["deep/bad"]
    assert transfer.missing(artifact) == ([] if damage == "flipped" else ["deep/bad"])


@pytest.mark.parametrize(
    "path", ["../evil", "/evil", "a/../../evil", "a//b", "a/.", "", "a\nb", "a\\b"]
)
def test_a_path_in_a_manifest_never_leads_out(local: Backend, tmp_path: Path, path: str) -> None:
    file = put(local, KEY, b"evil")
    artifact = Artifact.of_folder("model", [StoredFile(path, file.sha256, file.size, KEY)])
    with pytest.raises(ArtifactDamaged, match="leads out"):
        Transfer(local).pull(artifact, tmp_path / "out" / "model")
    assert left_in(tmp_path) == ["store"]


@pytest.mark.parametrize("name", ["../evil", "..", "/evil", "", "a/b"])
def test_the_name_of_an_artifact_never_leads_out(local: Backend, tmp_path: Path, name: str) -> None:
    file = put(local, KEY, b"evil")
    artifact = Artifact.of_file(StoredFile(name, file.sha256, file.size, KEY))
    with pytest.raises(ArtifactDamaged, match="leads out"):
        Transfer(local).pull(artifact, tmp_path / "out" / name.lstrip("/"))
    assert left_in(tmp_path) == ["store"]


def test_a_key_in_a_manifest_never_leads_out(local: Backend, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    file = StoredFile("model", digest(b"secret"), 6, "../secret")
    with pytest.raises(InvalidName):
        Transfer(local).pull(Artifact.of_file(file), tmp_path / "out" / "model")
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b")])
def test_two_files_with_one_place_are_refused(
    local: Backend, tmp_path: Path, paths: tuple[str, str]
) -> None:
    file = put(local, KEY, b"x")
    every = [StoredFile(path, file.sha256, 1, KEY) for path in paths]
    with pytest.raises(ArtifactDamaged, match="the same place"):
        Transfer(local).pull(Artifact.of_folder("model", every), tmp_path / "model")


def test_an_interrupted_pull_doesnt_wait_for_the_other_files(
    local: Backend, tmp_path: Path
) -> None:
    artifact = folder_of(local, {f"{n}": bytes(32 * MIB) for n in range(4)})
    arrived = 0
    counting = threading.Lock()

    def interrupt(size: int) -> None:
        nonlocal arrived
        with counting:
            arrived += size
            if arrived == 3 * size:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Transfer(local).pull(artifact, tmp_path / "out" / "model", interrupt)
    # The other three of them alone would be 96 MiB.
    assert arrived < 64 * MIB
    assert left_in(tmp_path / "out") == []


def test_the_error_of_one_file_ends_all_at_once_and_is_the_one_that_is_told(
    local: Backend, tmp_path: Path
) -> None:
    artifact = folder_of(local, {f"{n}": bytes(32 * MIB) for n in range(4)})
    arrived: list[int] = []

    def source(key: str) -> object:
        if key == artifact.files[3].key:
            assert comes_true(lambda: bool(arrived))
            raise BackendError("503 of one file")
        return local.source(key)

    failing = Meddling(local, lambda _, data: data)
    failing.source = source  # type: ignore[attr-defined] # in front of the backend's
    with pytest.raises(BackendError, match="503 of one file"):
        Transfer(failing.as_backend()).pull(artifact, tmp_path / "out" / "model", arrived.append)
    # The other three of them alone would be 96 MiB.
    assert sum(arrived) < 64 * MIB
    assert left_in(tmp_path / "out") == []


def test_killed_while_it_pulls_leaves_nothing_under_the_final_name(
    local: Backend, tmp_path: Path
) -> None:
    data = data_of(6 * MIB)
    artifact = Artifact.of_file(put(local, KEY, data))
    target = tmp_path / "out" / "model"
    with started(die_pulling, local.url, KEY, digest(data), len(data), target) as child:
        child.say()
        assert child.was_killed()
    assert [name[:5] for name in left_in(target.parent)] == [".tmp-"]
    Transfer(local).pull(artifact, target)
    assert target.read_bytes() == data
